"""The text of a configuration file: what is passed on as it is written, and what may not stand twice."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.definition.run_definition import RunDefinition, grid_config, to_settings_input
from grid.definition.written import load
from grid.errors import ConfigError

WRITTEN = [
    "12:30:45",
    "010",
    "1.10",
    "1_000",
    "on",
    "off",
    "yes",
    "No",
    "n",
    "0x1F",
    "0b11",
    "1e-3",
    "1.0e-05",
    ".5",
    "+1",
]
WRITTEN += [
    "2021-08-10",
    "2021-02-30",
    "-0",
    "1.",
    ".inf",
    ".nan",
    "=",
    "<<",
    "1" * 5000,
    "a: b"[:1],
    "uniform(0, 1, 3)",
]
"""Plain scalars that YAML takes for something else than its text, or that Python would print differently; and texts."""


def params_of(text: str) -> object:
    """Return what a file with these arguments of the script says of them."""
    return load("run.yml", f"hyper_params: {{params: {text}}}")["hyper_params"]["params"]


@pytest.mark.parametrize("scalar", WRITTEN)
def test_arguments_and_variables_are_as_they_are_written(scalar, tmp_path):
    """The script gets the very characters that stand in the file, as an argument, in a list, and as a variable."""
    path = tmp_path / "run.yml"
    path.write_text(
        f"compute:\n  train:\n    environment:\n      A: {scalar}\n"
        f"hyper_params:\n  params:\n    --a: {scalar}\n    --b:\n    - {scalar}\n    - x\n"
    )
    definition = RunDefinition.from_arguments({"entrypoint": "run.py", "config_file": path})
    assert definition.environment == {"A": scalar}
    words = shlex.split(to_settings_input(definition)["scriptArgs"])
    assert words in (["--a", scalar, "--b", repr([scalar, "x"])], [f"--a={scalar}", "--b", repr([scalar, "x"])])
    path.write_text(yaml.safe_dump(grid_config(definition)))
    again = RunDefinition.from_arguments({"entrypoint": "run.py", "config_file": path})
    assert (again.environment, again.file_params) == (definition.environment, definition.file_params)


@pytest.mark.parametrize("scalar", ["1", "-3", "0", "0.5", "-12.25", "123456789012345678901234567890"])
def test_numbers_that_python_writes_alike_stay_numbers(scalar):
    """A number that Python prints as it is written is one, so that a list of them looks like one."""
    assert params_of(f"{{--a: {scalar}, --b: [{scalar}]}}") == {
        "--a": yaml.safe_load(scalar),
        "--b": [yaml.safe_load(scalar)],
    }


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=200, deadline=None)
def test_every_number_arrives_with_the_digits_that_were_written(number):
    """However Python or YAML writes a number, its text is what is passed on."""
    for text in (repr(number), yaml.safe_dump(number).partition("\n")[0]):
        assert str(params_of(f"{{--a: {text}}}")["--a"]) == text


def test_the_four_exceptions():
    """True is the bare flag, false leaves it out, null and the tilde too, and an empty value is an error."""
    assert params_of("{--a: true, --b: True, --c: false, --d: FALSE, --e: null, --f: ~}") == {
        "--a": True,
        "--b": True,
        "--c": False,
        "--d": False,
        "--e": None,
        "--f": None,
    }
    assert params_of("{--a: 'true', --b: \"null\", --c: '', --d: !!str true}") == {
        "--a": "true",
        "--b": "null",
        "--c": "",
        "--d": "true",
    }
    with pytest.raises(
        ConfigError, match=r"run\.yml: hyper_params\.params\.--b is empty in line 4; write true for the"
    ):
        load("run.yml", "hyper_params:\n  params:\n    --a: 1\n    --b:\n")


def test_null_and_truth_among_variables(tmp_path):
    """A variable that is null or empty is left out; true is a text."""
    path = tmp_path / "run.yml"
    path.write_text("compute: {train: {environment: {A: null, B: ~, C: , D: true, E: 'null', on: 1}}}")
    definition = RunDefinition.from_arguments({"entrypoint": "run.py", "config_file": path})
    assert definition.environment == {"D": "true", "E": "null", "on": "1"}


def test_values_for_python_have_pythons_kinds():
    """In `values`, numbers as Python or YAML writes them, true and null are themselves; all else is as written."""
    text = "{a: 1, b: 1.0e-05, c: .5, d: 010, e: on, f: true, g: null, h: [1, 12:30], i: {words: [64, 1_0]}, no: 1.10}"
    assert load("run.yml", f"hyper_params: {{values: {text}}}")["hyper_params"]["values"] == {
        "a": 1,
        "b": 1e-05,
        "c": ".5",
        "d": "010",
        "e": "on",
        "f": True,
        "g": None,
        "h": [1, "12:30"],
        "i": {"words": [64, "1_0"]},
        "no": "1.10",
    }
    with pytest.raises(ConfigError, match=r"hyper_params\.values\.lr is empty in line 1"):
        load("run.yml", "hyper_params: {values: {lr: }}")


def test_other_keys_keep_their_types():
    """Elsewhere a scalar is what YAML says, also where an alias brings it to the arguments as well."""
    text = """
        compute: {train: {cpus: &n 010, use_spot: on, timeout: 1_0}}
        hyper_params: {params: {--n: *n}}
        """
    assert load("run.yml", text) == {
        "compute": {"train": {"cpus": 8, "use_spot": True, "timeout": 10}},
        "hyper_params": {"params": {"--n": "010"}},
    }


def test_what_is_merged_is_as_it_is_written_too():
    """A merge key brings arguments from elsewhere, which may be overridden, and nothing of them is read differently."""
    text = """
        hyper_params:
          <<: [{params: &base {--t: 12:30, --n: 010, --lr: 1}}, {settings: {repeats: 010}}]
          params:
            <<: *base
            --lr: 2
        """
    assert load("run.yml", text)["hyper_params"] == {
        "params": {"--t": "12:30", "--n": "010", "--lr": 2},
        "settings": {"repeats": 8},
    }
    whole = "x: &x {train: {environment: {A: 010}}}\ncompute: {<<: *x}"
    assert load("run.yml", whole)["compute"] == {"train": {"environment": {"A": "010"}}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("compute: {}\ncompute: {}", ["compute stands twice, in lines 1 and 2"]),
        ("compute:\n  train: {cpus: 1,\n    cpus: 2}", ["compute.train.cpus stands twice, in lines 2 and 3"]),
        ("hyper_params: {params: {--lr: 1, '--lr': 2}}", ["hyper_params.params.--lr stands twice", "line"]),
        ("hyper_params: {params: {--lr: 1, --lr: 1}}", ["hyper_params.params.--lr stands twice"]),
        ("compute: {train: {environment: {A: 1, B: 1, A: 2}}}", ["compute.train.environment.A stands twice"]),
        ("compute: {train: {actions: {on_build_end: [], on_build_end: []}}}", ["on_build_end stands twice"]),
        ("a: [{b: 1, b: 2}]", ["a.b stands twice"]),
        ("a: {1: x, 0x1: y}", ["a.0x1 stands twice"]),
        ("a: {<<: {b: 1, b: 1}}", ["a.b stands twice"]),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path, text, words):
    """YAML would take the last one; each refusal names the key with its place, and the lines."""
    path = Path(tmp_path, "run.yml")
    path.write_text(text)
    with pytest.raises(ConfigError) as refusal:
        RunDefinition.from_arguments({"entrypoint": "run.py", "config_file": path})
    for word in [str(path), "leave one of them out", *words]:
        assert word in str(refusal.value)


def test_merge_keys_and_different_keys_do_not_stand_twice():
    """Two merge keys are none that is written twice, nor are words that YAML takes for the same truth."""
    text = "a: {<<: {b: 1}, <<: {c: 2}, b: 3}\ncompute: {train: {environment: {on: 1, yes: 2, 'on ': 3}}}"
    assert load("run.yml", text) == {
        "a": {"b": 3, "c": 2},
        "compute": {"train": {"environment": {"on": "1", "yes": "2", "on ": "3"}}},
    }


def test_what_is_not_yaml_stays_an_error():
    """Tags that are not known, and values that cannot be what they say, are no text."""
    for text in ("{--a: !!python/name:os.system x}", "{--a: !mine 1}"):
        with pytest.raises(yaml.YAMLError):
            params_of(text)


def test_a_file_that_grows_by_its_aliases_is_read():
    """Aliases of aliases are read once each, however large the text would be that they stand for."""
    lines = ["hyper_params:", "  params:", "    --a0: &a0 [1, 2]"]
    lines += [f"    --a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    found = load("run.yml", "\n".join(lines))["hyper_params"]["params"]
    assert found["--a59"][0] is found["--a59"][1]
