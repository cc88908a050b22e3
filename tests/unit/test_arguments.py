"""The table of a run's arguments: reference, signatures, schema and documents agree with it."""

from __future__ import annotations

import inspect
import re
from itertools import groupby
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from graphql import build_schema

import grid
from grid import Run
from grid.chain.decoding import camel_case
from grid.definition.arguments import (
    ARGUMENTS,
    TABLE,
    Argument,
    Printed,
    RunArguments,
    noting_what_was_given,
)
from grid.definition.run_definition import RunDefinition
from grid.functions import CreateRunArguments
from grid.models import RunRecord, RunSettings

SCHEMA = build_schema((Path(__file__).parents[2] / "schema.graphql").read_text())


def test_the_signature_is_the_one_of_the_reference():
    """Names, order and defaults are those of the public interface."""
    defaults = RunDefinition()
    assert {name: getattr(defaults, name) for name in ARGUMENTS} == {
        "name": "",
        "entrypoint": "",
        "script_args": "",
        "description": None,
        "strategy": "grid_search",
        "num_trials": 0,
        "framework": "lightning",
        "dependency_file": "",
        "instance_type": "t2.medium",
        "use_spot": False,
        "cpus": 0,
        "gpus": 0,
        "memory": "",
        "datastore_name": "",
        "datastore_version": "",
        "datastore_mount_dir": "",
        "scratch_size": "",
        "scratch_mount_path": "/tmp/scratch",
        "localdir": False,
        "dockerfile": "",
        "config_file": "",
        "cluster": "",
        "seed": None,
        "timeout": None,
        "max_retries": 0,
        "auto_resume": False,
        "params": None,
        "params_style": "--k v",
        "repeats": 1,
        "working_dir": "root",
        "environment": None,
        "launcher": "",
        "data": None,
    }
    assert ARGUMENTS[:3] == ("name", "entrypoint", "script_args")
    assert ARGUMENTS[-8:] == (
        *("auto_resume", "params", "params_style", "repeats"),
        *("working_dir", "environment", "launcher", "data"),
    )


def test_the_signature_of_run_is_the_tables():
    """Names, order, defaults, types, and which are keyword-only: all are as the table says."""
    parameters = inspect.signature(Run).parameters
    kinds = get_type_hints(inspect.unwrap(Run.__init__))
    seen = {  # as text, where False is not 0
        name: (repr(each.default), kinds[name], each.kind is inspect.Parameter.KEYWORD_ONLY)
        for name, each in parameters.items()
    }
    assert list(parameters) == list(ARGUMENTS)
    assert seen == {name: (repr(TABLE[name].default), TABLE[name].kind, TABLE[name].keyword_only) for name in ARGUMENTS}


def test_create_run_takes_what_the_table_has():
    """The other signature has the same names and types in the same order, the entrypoint apart."""
    first = inspect.signature(grid.create_run).parameters["entrypoint"]
    assert first.annotation == "str"
    expected = {name: TABLE[name].kind for name in ARGUMENTS if name != "entrypoint"}
    assert list(get_type_hints(CreateRunArguments).items()) == list(expected.items())
    assert CreateRunArguments.__required_keys__ == frozenset()


def documented() -> dict[str, str]:
    """Return what the docstring of `Run` says of its parameters, by the names above each text."""
    section = (inspect.getdoc(Run) or "").partition("Parameters\n----------\n")[2].partition("\n\nRaises\n")[0]
    found = re.findall(r"^(\w.*)\n((?:    .*(?:\n|\Z))+)", section, re.MULTILINE)
    return {names: " ".join(text.split()) for names, text in found}


def test_the_documentation_of_run_is_the_tables():
    """The docstring says of each argument what its row says; arguments that are documented together have one text."""
    texts = [(doc, [row.name for row in rows]) for doc, rows in groupby(map(TABLE.get, ARGUMENTS), lambda row: row.doc)]
    assert documented() == {", ".join(names): doc for doc, names in texts}
    assert Run.__dict__.get("cpus") is None
    assert Run.cpus.__doc__ == TABLE["cpus"].doc


def test_every_setting_is_one_of_the_schemas():
    """What travels in the settings is exactly what the schema's input object takes."""
    sent = {camel_case(name) for name, row in TABLE.items() if row.setting is not None}
    assert sent == set(SCHEMA.type_map["RunSettingsInput"].fields)


def test_every_argument_is_answered_as_the_models_have_it():
    """Every argument that the table says is in the service's record of a run is there."""
    expected = {"settings": get_type_hints(RunSettings), "run": get_type_hints(RunRecord)}
    for name, row in TABLE.items():
        found = [place for place, hints in expected.items() if name in hints]
        assert found == ([row.answered] if row.answered else []), name


def test_every_key_of_the_file_stands_once():
    """No two arguments have the same place in the configuration file, and none is above another."""
    keys = [row.config.path for row in TABLE.values() if row.config]
    assert len(set(keys)) == len(keys)
    assert not [(key, other) for key in keys for other in keys if other.startswith(f"{key}.")]


def test_flags_are_printed_as_flags():
    """A boolean argument is a bare flag; one argument comes first; what only the file can say is not printed."""
    for name, row in TABLE.items():
        expected = Printed.FLAG if row.kind is bool else Printed.OPTION
        if name == "entrypoint":
            expected = Printed.FIRST
        if name not in ARGUMENTS:
            expected = Printed.NOT_AT_ALL
        assert row.printed is expected, name


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_every_default_is_allowed(row):
    """A default passes its own check, except for the entrypoint, which must be given."""
    if row.name != "entrypoint":
        row.check(row.default)


class Holder(RunArguments):
    """The smallest possible holder of arguments."""

    _given: dict[str, Any]

    @noting_what_was_given
    def __init__(self, name: str = "", cpus: int = 0, *, seed: int | None = None) -> None:
        self.seen = (name, cpus, seed)

    def _argument(self, name: str) -> Any:
        return self._given.get(name, TABLE[name].default)

    def _change(self, name: str, value: object) -> None:
        self._given[name] = value


@pytest.mark.parametrize(
    ("holder", "given"),
    [
        (Holder(), {}),
        (Holder(cpus=0), {"cpus": 0}),
        (Holder("", 0, seed=None), {"name": "", "cpus": 0, "seed": None}),
    ],
)
def test_what_is_given_as_the_default_is_given(holder, given):
    """A default that was given explicitly is told from one that was not."""
    assert holder._given == given
    assert holder.seen == ("", 0, None)


def test_an_argument_is_an_attribute_of_its_holder():
    """On an instance the attribute is the value, on the class it is the row."""
    holder = Holder(cpus=2)
    assert (holder.cpus, holder.gpus) == (2, 0)
    holder.gpus = 1
    assert holder.gpus == 1
    assert isinstance(Holder.cpus, Argument)
    assert Holder.cpus is TABLE["cpus"]


def test_a_definition_is_immutable_and_has_no_other_arguments():
    """A definition is immutable, and takes no name that the table does not have."""
    definition = RunDefinition(entrypoint="run.py", environment={"A": "1"})
    with pytest.raises(AttributeError, match=r"immutable: use definition\.evolve\(cpus=…\)"):
        definition.cpus = 3
    with pytest.raises(TypeError, match="cpu"):
        RunDefinition(cpu=3)
    with pytest.raises(TypeError):
        RunDefinition().environment["A"] = "2"
    assert definition == RunDefinition(entrypoint="run.py", environment={"A": "1"}, given={"entrypoint": "run.py"})
    assert definition != RunDefinition(entrypoint="run.py")
