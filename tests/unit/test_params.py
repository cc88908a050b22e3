"""`params` before they are sent: what may be given, what comes back, and how they meet the configuration file."""

from __future__ import annotations

import datetime
import enum
import json
import math
import shlex
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from grid import sweep
from grid.definition.params import check_params, plain_params, read_params_text, settled, write_params_text
from grid.definition.run_definition import RunDefinition, grid_config, script_command, to_settings_input
from grid.errors import ConfigError, InvalidArgument
from grid.service.domain.sweeps import SweepError, expand

EVERYTHING: dict[str, Any] = {
    "lr": [0.1, 1e-05, 1e22],
    "n": 5,
    "negative": -1.5,
    "big": 10**30,
    "fast": True,
    "slow": [True, False],
    "left_out": None,
    "sometimes": [None, 0.1],
    "text": 'it\'s "ä" ☃ [1, 2]',
    "hidden": [(64, 64), (128,), ("a", 1.5, True), ()],
    "lists": [[64, 64], [], ["a", None, [True]]],
    "draws": sweep.loguniform(1e-5, 1e-1, 3),
    "tied": sweep.switch("--no-tied"),
    "seed": range(3),
    "odd": range(10, 0, -2),
}


class Colour(enum.StrEnum):
    """A text of a class of its own."""

    RED = "red"


class Level(enum.IntEnum):
    """A number of a class of its own."""

    LOW = 1


class Side(enum.Enum):
    """What is neither text nor number, but has a text."""

    LEFT = 1


class Pair(NamedTuple):
    """A tuple of a class of its own."""

    a: int
    b: int


@pytest.mark.parametrize("params", [EVERYTHING, [EVERYTHING, {}, {"a": 1}], {}, [{}]])
def test_what_comes_back_is_what_was_given(params: Any) -> None:
    """Through JSON, and through a configuration file, all values come back, tuples and sweeps included."""
    check_params("params", params)
    for back in (read_params_text(write_params_text(params)), read_params_text(write_params_text(settled(params)))):
        assert back == (params or None)
        assert repr(back) == repr(params or None)


def test_nothing_is_no_text() -> None:
    """Without `params` the text is empty, and an empty text is no `params`."""
    assert write_params_text(None) == ""
    assert read_params_text("") is None


@pytest.mark.parametrize(
    ("given_value", "plain"),
    [
        (np.float64(0.1), 0.1),
        (np.int32(3), 3),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.array([1.5, 2.5]), [1.5, 2.5]),
        ([np.float64(0.1), np.int64(2)], [0.1, 2]),
        ((np.int64(64), np.int64(64)), (64, 64)),
        ([[np.int64(64)]], [[64]]),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (Path("a/b"), "a/b"),
        ([Path("a"), Path("b")], ["a", "b"]),
        (float("inf"), "inf"),
        (float("-inf"), "-inf"),
        (float("nan"), "nan"),
        (np.float64("nan"), "nan"),
        (Colour.RED, "red"),
        (Level.LOW, 1),
        (Pair(1, 2), (1, 2)),
        (Decimal("0.10"), "0.10"),
        ([datetime.date(2021, 8, 10), np.datetime64("2021-08-11")], ["2021-08-10", "2021-08-11"]),
        ((datetime.timedelta(hours=1), 2), ("1:00:00", 2)),
        (Side.LEFT, "Side.LEFT"),
    ],
)
def test_values_become_plain(given_value: Any, plain: Any) -> None:
    """Values of other libraries become Python's own, paths text, and what JSON does not have its text."""
    definition = RunDefinition.from_arguments({"entrypoint": "run.py", "params": {"a": given_value}})
    assert definition.params == {"a": plain}
    assert type(definition.params["a"]) is type(plain)
    assert read_params_text(write_params_text({"a": given_value})) == {"a": plain}
    check_params("params", {"a": given_value})


def test_a_later_change_changes_no_run() -> None:
    """What is given is copied, deep: a dict that is used again for the next run does not change this one."""
    params: dict[str, Any] = {"lr": [1, 2], "n": 1}
    definition = RunDefinition.from_arguments({"params": params})
    params["lr"].append(3)
    params["n"] = 2
    assert definition.params == {"lr": [1, 2], "n": 1}
    rows = [{"lr": 1}]
    definition = definition.evolve(params=rows)
    rows[0]["lr"] = 2
    assert definition.params == [{"lr": 1}]


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ("lr", "params must be a dict from name to value, or a list of such dicts, not 'lr'"),
        (5, "must be a dict"),
        ({"a"}, "must be a dict"),
        ([], "empty list"),
        ([{"a": 1}, 5], r"params\[1\] must be a dict"),
        ({5: 1}, "a name must be a string without white space and without =, as in 'lr', not 5"),
        ({"": 1}, "a name must be"),
        ({"a b": 1}, "not 'a b'"),
        ({"a=b": 1}, "a name must be"),
        ({"--": 1}, "a name must be"),
        ({"a\0": 1}, "NUL"),
        ({"a\ud800": 1}, "Unicode"),
        ({"lr": 1, "--lr": 2}, "one argument twice, as 'lr' and '--lr'"),
        ({"a": []}, r"params\['a'\] is an empty list.*\[\[\]\]"),
        ({"a": range(0)}, r"range\(0, 0\), which is empty"),
        ({"a": {"b": 1}}, r"params\['a'\] must be None, True, False, a number.*not \{'b': 1\}; .*dots"),
        ({"a": {1, 2}}, r"must be None, .* a set has no order"),
        ({"a": object}, "must be None, "),
        ({"a": datetime}, "must be None, "),
        ({"a": 1j}, "must be None, "),
        ({"a": b"x"}, "must be None, "),
        ({"a": (1, None)}, "a tuple is several words: strings and numbers, not None"),
        ({"a": (1, [2])}, "a tuple is several words"),
        ({"a": [sweep.rand(2)]}, r"sweep\.rand\(2\) cannot stand in a list"),
        ({"a": [range(2)]}, "cannot stand in a list"),
        ({"a": [[(1, 2)]]}, r"a list in a list .* not \(1, 2\)"),
        ({"a": [[sweep.rand(1)]]}, "a list in a list"),
        ({"a": ["x\0"]}, "NUL"),
        ({"a": [["x\ud800"]]}, "Unicode"),
        ({"a": ("x\0",)}, "NUL"),
        ({"a": LOOP}, "more than 20 levels"),
        ({"a": "x" * 1_000_000}, "1,000,009 characters as JSON; at most 1,000,000"),
        ({"a": 10**5000}, "does not print"),
        ([{"a": 1}, {"b": {}}], r"params\[1\]\['b'\] must be None"),
    ],
)
def test_what_is_refused(params: Any, said: str) -> None:
    """What cannot be passed on is refused at once, with the name, what was given and what is allowed."""
    with pytest.raises(InvalidArgument, match=said):
        RunDefinition().evolve(params=params)


def test_script_command_has_the_json() -> None:
    """`script_command` has `params` as one option with their JSON, so that it stays runnable."""
    definition = RunDefinition.from_arguments(
        {"entrypoint": "run.py", "params": EVERYTHING, "params_style": "k=v", "repeats": 3}
    )
    (line,) = shlex.split("'grid run --entrypoint " + script_command(definition))
    words = shlex.split(line)
    assert read_params_text(words[words.index("--params") + 1]) == EVERYTHING
    assert words[words.index("--params_style") + 1] == "k=v"
    assert words[words.index("--repeats") + 1] == "3"
    assert script_command(RunDefinition(entrypoint="run.py")) == "run.py run.py'"
    short = RunDefinition(entrypoint="run.py", params={"lr": [0.1, 0.2]})
    assert script_command(short) == "run.py --params '\"'\"'{\"lr\": [0.1, 0.2]}'\"'\"' run.py'"


@pytest.mark.parametrize("params", [EVERYTHING, [EVERYTHING, {"a": 1}]])
def test_grid_config_can_be_read_back(tmp_path: Path, params: Any) -> None:
    """`grid_config` holds `params` in plain YAML as `hyper_params.values`, and read as a file they are the same."""
    definition = RunDefinition.from_arguments({"entrypoint": "run.py", "params": params})
    document = grid_config(definition)
    assert document["hyper_params"]["values"] == json.loads(write_params_text(params))
    path = tmp_path / "grid.yml"
    path.write_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False), encoding="utf-8")

    again = RunDefinition.from_arguments({"config_file": str(path)})

    assert again.params == params
    assert repr(again.params) == repr(params)
    assert "values" not in grid_config(RunDefinition(entrypoint="run.py"))["hyper_params"]


def test_values_in_a_file_are_checked(tmp_path: Path) -> None:
    """A wrong value in the file names the file and the place."""
    path = tmp_path / "grid.yml"
    path.write_text("hyper_params: {values: {lr: {low: 1}}}")
    with pytest.raises(ConfigError, match=r"grid\.yml: hyper_params\.values: params\['lr'\] must be None"):
        RunDefinition.from_arguments({"config_file": str(path)})


@pytest.mark.parametrize("name", ["lr", "--lr"])
@pytest.mark.parametrize("style", ["--k v", "--k=v", "k=v"])
def test_params_win_over_the_files_own(tmp_path: Path, name: str, style: str) -> None:
    """Of a name that stands in `params` and in the file's `hyper_params.params`, that in `params` counts."""
    path = tmp_path / "grid.yml"
    path.write_text("hyper_params: {params: {--lr: 9, --n: 8}}")
    for params in ({name: 1}, [{name: 1}, {name: 2}]):
        definition = RunDefinition.from_arguments(
            {"config_file": str(path), "script_args": "--a 1", "params": params, "params_style": style}
        )
        settings = to_settings_input(definition)
        assert settings["scriptArgs"] == "--a 1 --n 8"
        assert json.loads(settings["params"]) == params


def test_a_name_in_some_combinations_and_in_the_file(tmp_path: Path) -> None:
    """A name that only some combinations have would be lost for the others, so that is refused."""
    path = tmp_path / "grid.yml"
    path.write_text("hyper_params: {params: {--lr: 9}}")
    definition = RunDefinition.from_arguments({"config_file": str(path), "params": [{"lr": 1}, {"n": 2}]})
    with pytest.raises(InvalidArgument, match="--lr in 1 of its 2 combinations"):
        to_settings_input(definition)


def test_what_travels() -> None:
    """`params`, their style and the repeats travel in the settings; without `params` they are left out."""
    definition = RunDefinition.from_arguments({"params": {"a": (1, 2)}, "params_style": "--k=v", "repeats": 2})
    settings = to_settings_input(definition)
    assert (settings["params"], settings["paramsStyle"], settings["repeats"]) == (
        '{"a": {"words": [1, 2]}}',
        "FLAG_EQUALS_VALUE",
        2,
    )
    assert "params" not in to_settings_input(RunDefinition())


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
)
lists = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=5).filter(
    lambda value: isinstance(value, list)
)
words = st.lists(scalars.filter(lambda value: value is not None), max_size=3).map(tuple)
singles = st.one_of(scalars, words)


@given(st.dictionaries(st.sampled_from(["a", "b-c", "--d"]), st.one_of(singles, st.lists(st.one_of(singles, lists)))))
def test_any_params_come_back_and_are_understood(params: dict[str, Any]) -> None:
    """What the check accepts comes back as it was given, and the service puts it into the words it stands for."""
    try:
        check_params("params", params)
    except InvalidArgument as error:
        assert "empty list" in str(error)
        return
    back = read_params_text(write_params_text(params))
    assert repr(back) == repr(settled(params) or None)
    text = write_params_text(params)
    try:
        trials = expand("", params=text, strategy="grid_search", num_trials=0, seed=0).trials
    except SweepError as error:
        assert "may have at most" in str(error)
        return
    first = [each[0] if isinstance(each, list) else each for each in settled(params).values()]
    assert trials[0].arguments == tuple(expected_words(params, first))


def expected_words(params: dict[str, Any], values: list[Any]) -> list[str]:
    """The words of one combination, as the documents say them."""
    found: list[str] = []
    for name, value in zip(params, values, strict=True):
        flag = name if name.startswith("-") else f"--{name}"
        if value is None or value is False:
            continue
        found.append(flag)
        if isinstance(value, tuple):
            found += map(str, value)
        elif value is not True:
            found.append(str(value))
    return found


def test_plain_params_are_plain() -> None:
    """What a configuration file holds is made of nothing but dicts, lists, texts, numbers, booleans and None."""

    def kinds(value: Any) -> set[type]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return {type(value)}.union(*map(kinds, inner))

    assert kinds(plain_params({**EVERYTHING, "array": np.array([1.5]), "path": Path("x"), "inf": math.inf})) <= {
        *(dict, list, str, int, float, bool),
        type(None),
    }
