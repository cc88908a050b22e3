"""`data`: where what is linked may stand in the working copy, and where it may lead."""

from __future__ import annotations

import shlex
from pathlib import Path, PurePosixPath

import pytest
import yaml

from grid.definition.run_definition import RunDefinition, grid_config, script_command, to_settings_input
from grid.errors import InvalidArgument


def define(data: object) -> RunDefinition:
    """Define a run with data."""
    return RunDefinition.from_arguments({"entrypoint": "run.py", "data": data})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("data", ["dict from a path in the working copy", "'data'"]),
        (["data"], ["dict", "['data']"]),
        ({1: "/x"}, ["a path in the working copy", "1"]),
        ({"a\0": "/x"}, ["NUL"]),
        ({"data": 1}, ["data['data']", "string", "1"]),
        ({"data": None}, ["data['data']", "None"]),
        ({"data": ""}, ["data['data']", "not empty"]),
        ({"data": "/x\0"}, ["data['data']", "NUL"]),
        ({"": "/x"}, ["''", "must name", "'data' or '../data'"]),
        ({".": "/x"}, ["'.'", "must name"]),
        ({"./.": "/x"}, ["'.'", "must name"]),
        ({"..": "/x"}, ["'..'", "must name"]),
        ({"/data": "/x"}, ["'/data'", "relative", "root of the working copy"]),
        ({"../../data": "/x"}, ["'../../data'", "one '..'"]),
        ({"a/../data": "/x"}, ["'a/../data'", "one '..'"]),
        ({"../work": "/x"}, ["'../work'", "working copy itself", "without '../work/'"]),
        ({"../work/data": "/x"}, ["'../work/data'", "working copy itself"]),
        ({"lr=1": "/x"}, ["'lr=1'", "'='"]),
        ({"data": "/x", "./data/": "/y"}, ["'data'", "'./data/'", "same path", "leave one"]),
        ({"data": Path("/x"), Path("./data"): Path("/x")}, ["'data'", "same path", "leave one"]),
        ({"data": "/x", "data/train": "/y"}, ["'data/train' lies in 'data'", "link itself"]),
        ({"../a/b/c": "/x", "../a": "/y"}, ["'../a/b/c' lies in '../a'"]),
    ],
)
def test_what_is_not_allowed_is_refused(data, words):
    """Each refusal says what was given, what is allowed and what to do; at once when it is set, and by the check."""
    with pytest.raises(InvalidArgument) as set_later:
        RunDefinition(entrypoint="run.py").evolve(data=data)
    with pytest.raises(InvalidArgument) as checked:
        RunDefinition.data.check(define(data).data)
    assert str(checked.value) == str(set_later.value)
    for word in ["data", *words]:
        assert word in str(checked.value)


def test_paths_are_written_in_one_way_and_targets_are_absolute(tmp_path, monkeypatch):
    """A relative target is meant from the current folder, `~` is the caller's home, and path objects are paths."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    given = {"./data//train/": "/x/", "../up": "../sets", PurePosixPath("a"): Path("b"), "c": "~/d", "work": "~"}
    kept = {"data/train": "/x", "../up": str(tmp_path.parent / "sets"), "a": str(tmp_path / "b")}
    kept |= {"c": "/home/ada/d", "work": "/home/ada"}
    definition = define(given)
    RunDefinition.data.check(definition.data)
    assert definition.data == kept
    monkeypatch.chdir("/")
    assert definition.evolve(cpus=2).data == kept
    assert to_settings_input(definition)["data"] == kept


def test_no_data_is_none():
    """An empty dict is as none at all."""
    assert define({}).data is None
    assert "data" not in to_settings_input(define({}))
    assert "data" not in grid_config(define({}))["compute"]["train"]


def test_it_cannot_be_changed_in_place():
    """Whoever changes what was given, or what is kept, does not change the run."""
    given = {"data": "/x"}
    definition = define(given)
    given["data"] = "/y"
    assert definition.data == {"data": "/x"}
    with pytest.raises(TypeError):
        definition.data["data"] = "/y"


def test_each_entry_is_an_option(tmp_path):
    """In the command line there are two words for each entry; a file holds them as they are."""
    data = {"data": "/a b", "../x": "/y=z"}
    (line,) = shlex.split("'grid run --entrypoint " + script_command(define(data)))
    assert shlex.split(line)[4:] == ["--data", "data=/a b", "--data", "../x=/y=z", "run.py"]
    (tmp_path / "run.yml").write_text(yaml.safe_dump(grid_config(define(data))))
    again = RunDefinition.from_arguments({"entrypoint": "run.py", "config_file": tmp_path / "run.yml"})
    assert again.data == data
