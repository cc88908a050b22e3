"""`environment`: what it may be, what is taken from the caller, and that no secret gets into a text."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.definition.run_definition import RunDefinition, grid_config, script_command, to_settings_input
from grid.definition.surroundings import not_passed, surprises
from grid.errors import InvalidArgument
from grid.shared.masking import MASK, is_secret, masked
from grid.shared.wire import RESERVED_VARIABLES

SECRETS = {"WANDB_API_KEY": "mellon", "HF_TOKEN": "mellon", "A_SECRET": "mellon", "PGPASSWORD": "mellon"}
SECRETS |= {"DATABASE": "postgres://me:mellon@host/db", "AWS_CREDENTIALS": "mellon", "apiKey": "mellon"}
"""Variables whose names look like secrets, and one whose value has a password in it."""


def define(**given: object) -> RunDefinition:
    """Define a run with an environment."""
    return RunDefinition.from_arguments({"entrypoint": "run.py", **given})


def words_of(definition: RunDefinition) -> list[str]:
    """Return the words of a run's command line."""
    (line,) = shlex.split("'grid run --entrypoint " + script_command(definition))
    return shlex.split(line)


def refusal(value: object) -> str:
    """Return why an environment is refused: the same when it is given and when it is set."""
    with pytest.raises(InvalidArgument) as set_later:
        define().evolve(environment=value)
    definition = define(environment=value)
    with pytest.raises(InvalidArgument) as checked:
        RunDefinition.environment.check(definition.environment)
    assert str(checked.value) == str(set_later.value)
    return str(checked.value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, ["dict of variables", "list of names", "3"]),
        ("HF_TOKEN", ["list of names", "one string", "into a list"]),
        ({"A"}, ["list of names", "{'A'}"]),
        ({"1A": "x"}, ["letters, digits and '_'", "'1A'"]),
        ({"A-B": "x"}, ["'A-B'"]),
        ({"": "x"}, ["''"]),
        ({1: "x"}, ["a name", "1"]),
        (["A B"], ["'A B'"]),
        (["=x"], ["''"]),
        (["1A=x"], ["'1A'"]),
        ([1], ["names", "1", "a dict holds"]),
        ([None], ["names", "None"]),
        (["A", "B", "A"], ["A twice", "leave one"]),
        (["A", "A=1"], ["A twice"]),
        ({"A": 1}, ["A must be a string", "not 1", "quotes"]),
        ({"A": True}, ["A must be a string", "True"]),
        ({"A": None}, ["A has no value", "['A']"]),
        ({"A": "x\0"}, ["A has a value with a NUL"]),
        ({"A": "\udc80"}, ["not Unicode"]),
        (["A=x\0"], ["A has a value with a NUL"]),
        *(({name: "x"}, [name, "set by Grid", "another name"]) for name in sorted(RESERVED_VARIABLES)),
        *(([name], [name, "set by Grid"]) for name in sorted(RESERVED_VARIABLES)),
    ],
)
def test_what_is_not_allowed_is_refused(value, words):
    """Each refusal says which variable it is, what was given, and what is allowed or to do."""
    message = refusal(value)
    for word in ["environment", *words]:
        assert word in message


def test_no_refusal_tells_a_secret():
    """What is wrong with a variable is said without its value."""
    for value in ({"HF_TOKEN": "mellon\0"}, ["HF_TOKEN=mellon\0"], ["1A=mellon"], {"API_KEY": 2600}, "HF_TOKEN=mellon"):
        message = refusal(value)
        assert "mellon" not in message
        assert "2600" not in message
    assert "of type int" in refusal({"API_KEY": 2600})


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, None),
        ({}, None),
        ([], None),
        ((), None),
        ({"A": "1", "B": ""}, {"A": "1", "B": ""}),
        ({"A": Path("/data")}, {"A": "/data"}),
        (["A", "B"], ["A", "B"]),
        (("A",), ["A"]),
        (["A=1", "B=x=y", "C="], {"A": "1", "B": "x=y", "C": ""}),
        (["A=1", "B"], ["A=1", "B"]),
    ],
)
def test_how_it_is_kept(given, kept):
    """It is a mapping where every value is known, else a list of names and of names with their values."""
    definition = define(environment=given)
    assert definition.environment == kept
    assert define().evolve(environment=given).environment == kept
    assert definition.evolve(environment=definition.environment).environment == kept


def test_it_cannot_be_changed_in_place():
    """Whoever changes what was given, or what is kept, does not change the run."""
    given = {"A": "1"}
    definition = define(environment=given)
    given["A"] = "2"
    assert definition.environment == {"A": "1"}
    with pytest.raises(TypeError):
        definition.environment["A"] = "2"


def test_names_get_the_values_of_the_caller():
    """At the start each name has its value, and it is known which ones were taken."""
    definition = define(environment=["A=1", "HF_TOKEN", "EMPTY"])
    started = definition.inheriting({"HF_TOKEN": "mellon", "EMPTY": "", "OTHER": "x"})
    assert started.environment == {"A": "1", "HF_TOKEN": "mellon", "EMPTY": ""}
    assert started.inherited_variables == ("HF_TOKEN", "EMPTY")
    sent = to_settings_input(started)
    assert sent["environment"] == {"A": "1", "HF_TOKEN": "mellon", "EMPTY": ""}
    assert sent["inheritedVariables"] == ["HF_TOKEN", "EMPTY"]
    before = to_settings_input(definition)
    assert before == {**sent, "environment": {"A": "1", "HF_TOKEN": "", "EMPTY": ""}}
    assert definition.environment == ["A=1", "HF_TOKEN", "EMPTY"]


def test_without_names_nothing_is_taken():
    """Variables that have their values keep them, whatever the caller has."""
    started = define(environment={"A": "1"}).inheriting({"A": "2"})
    assert (started.environment, started.inherited_variables) == ({"A": "1"}, ())
    assert (define().inheriting({"A": "2"}).environment, define().inheriting({}).inherited_variables) == (None, ())


def test_a_name_that_the_caller_does_not_have_is_named():
    """What is missing is an error at the start, and it says what to do."""
    with pytest.raises(
        InvalidArgument, match=r"B is not set in your environment.*set B before.*environment=\{\"B\""
    ) as one:
        define(environment=["A", "B"]).inheriting({"A": "mellon"})
    assert "mellon" not in str(one.value)
    with pytest.raises(InvalidArgument, match="A, B are not set"):
        define(environment=["A", "B"]).inheriting({})
    with pytest.raises(InvalidArgument, match="A has a value with a NUL character, or that is not Unicode"):
        define(environment=["A"]).inheriting({"A": "mellon\udc80"})


def test_script_command_has_values_that_are_no_secrets():
    """Each variable is an option of its own; one whose value is not told gets the caller's."""
    definition = define(environment={"MODE": "a b", **SECRETS, "URL": "http://host"}, launcher="uv run")
    expected = ["--environment", "MODE=a b"]
    expected += [word for name in SECRETS for word in ("--environment", name)]
    expected += ["--environment", "URL=http://host", "--launcher", "uv run"]
    assert words_of(definition) == ["grid", "run", "--entrypoint", "run.py", *expected, "run.py"]


def test_script_command_has_no_value_of_the_callers():
    """What was taken from the caller stands there by its name, before the start and after it."""
    definition = define(environment=["PLAIN", "A=1"])
    for each in (definition, definition.inheriting({"PLAIN": "mellon"})):
        assert words_of(each)[4:8] == ["--environment", "PLAIN", "--environment", "A=1"]


def test_no_secret_in_any_text():
    """Neither the command line nor a repr has a value that looks like a secret, or was taken from the caller."""
    given = define(environment=SECRETS)
    taken = define(environment=["PLAIN", "B=1"]).inheriting({"PLAIN": "mellon"})
    listed = define(environment=["PLAIN", "HF_TOKEN=mellon", "B=1"])
    for definition in (given, taken, listed):
        assert "mellon" not in repr(definition) + script_command(definition)
    assert f"'PLAIN': '{MASK}', 'B': '1'" in repr(taken)


def test_grid_config_has_names_in_place_of_the_callers_values(tmp_path):
    """Read from a file again, the configuration of a started run takes the values from the caller again."""
    definition = define(environment=["PLAIN", "B=1"])
    for each in (definition, definition.inheriting({"PLAIN": "mellon"})):
        config = grid_config(each)
        assert config["compute"]["train"]["environment"] == ["PLAIN", "B=1"]
        (tmp_path / "run.yml").write_text(yaml.safe_dump(config))
        assert define(config_file=tmp_path / "run.yml").environment == ["PLAIN", "B=1"]
    assert grid_config(define(environment={"A": "1"}))["compute"]["train"]["environment"] == {"A": "1"}
    assert grid_config(define())["compute"]["train"]["environment"] == {}


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({"A_TOKEN": MASK, "PLAIN": "1"}, ["A_TOKEN", "PLAIN=1"]),
        (["A_TOKEN=***", "MINE"], ["A_TOKEN", "MINE"]),
        ({"A_TOKEN": MASK}, ["A_TOKEN"]),
        ({"PLAIN": "1"}, {"PLAIN": "1"}),
    ],
)
def test_grid_config_has_no_mask(given, written):
    """Whoever runs a teammate's configuration takes values of their own, and does not run with asterisks."""
    assert grid_config(define(environment=given))["compute"]["train"]["environment"] == written


@pytest.mark.parametrize("word", ["KEY", "TOKEN", "SECRET", "PASSWORD"])
@pytest.mark.parametrize("around", ["{}", "MY_{}", "{}FILE", "A{}ID", "X_{}S_1", "{}_PATH"])
def test_words_that_look_like_secrets_wherever_they_stand(word, around):
    """Of such a name the command line has no value, in whatever case it is written."""
    for name in (around.format(word), around.format(word).lower()):
        definition = define(environment={name: "mellon"})
        assert words_of(definition)[4:6] == ["--environment", name]
        assert masked({name: "mellon"}) == {name: MASK}


def test_what_others_get():
    """A teammate gets no value that was taken from the owner, whatever its name, and none that looks like a secret."""
    environment = {"PLAIN": "1", "MINE": "mellon", **SECRETS}
    assert masked(environment, ["MINE"]) == {"PLAIN": "1", "MINE": MASK, **dict.fromkeys(SECRETS, MASK)}
    assert not is_secret("TOKENIZERS_PARALLELISM", "http://user@host")


# What the caller has and the experiments do not


def test_variables_that_scripts_miss_are_named():
    """One line names them, never a value, and what passes them."""
    caller = {"PYTHONPATH": "/mellon", "WANDB_MODE": "mellon", "HF_HOME": "mellon", "MLFLOW_X": "m", "COMET_Y": "m"}
    caller |= {"NEPTUNE_Z": "m", "HOME": "/", "PATH": "/bin", "WAND": "m", "PYTHONPATHS": "m", "WANDB_EMPTY": ""}
    names = ["COMET_Y", "HF_HOME", "MLFLOW_X", "NEPTUNE_Z", "PYTHONPATH", "WANDB_MODE"]
    line = not_passed(None, caller)
    listed = ", ".join(f'"{name}"' for name in names)
    assert line == (
        f"{', '.join(names)} are set in your environment, and the experiments do not get them: "
        f"environment=[{listed}] passes them"
    )
    assert not_passed(None, {"HF_HOME": "mellon"}) == (
        'HF_HOME is set in your environment, and the experiments do not get it: environment=["HF_HOME"] passes it'
    )


def test_variables_that_are_passed_are_not_missed():
    """Whether by name or with a value of the run's own, a variable that the run has is not missed."""
    caller = {"PYTHONPATH": "/x", "HF_TOKEN": "x", "WANDB_MODE": "x"}
    assert not_passed(["PYTHONPATH", "HF_TOKEN", "WANDB_MODE"], caller) is None
    assert not_passed({"PYTHONPATH": "", "HF_TOKEN": "y", "WANDB_MODE": "y"}, caller) is None
    assert "HF_TOKEN is set" in (not_passed(["PYTHONPATH", "WANDB_MODE=offline"], caller) or "")
    assert not_passed(None, {"HOME": "/", "LANG": "C"}) is None


def test_what_is_said_of_the_callers_own(monkeypatch):
    """Without another environment, the process's own is meant."""
    assert surprises(define(), "run.py") == []
    monkeypatch.setenv("WANDB_MODE", "offline")
    (line,) = surprises(define(), "run.py")
    assert line.startswith("WANDB_MODE is set")
    assert surprises(define(), "run.py", {}) == []
    assert "offline" in os.environ.values()


NAMES = st.from_regex(r"\A[A-Z_][A-Z0-9_]{0,5}\Z").filter(lambda name: name not in RESERVED_VARIABLES)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(NAMES, st.none() | TEXT, max_size=4), st.dictionaries(NAMES, st.none() | TEXT, max_size=4))
def test_both_forms_say_the_same(below, above):
    """However variables are written, as entries of a list or in the file and as argument, they mean the same."""
    both = {**below, **above}
    listed = [name if text is None else f"{name}={text}" for name, text in both.items()]
    definition = define(environment=listed)
    sent = to_settings_input(definition)
    assert sent.get("environment", {}) == {name: text or "" for name, text in both.items()}
    assert sent["inheritedVariables"] == [name for name, text in both.items() if text is None]
    words = words_of(definition)[4:-1]
    assert words[::2] == ["--environment"] * len(both)
    shown = dict(word.partition("=")[::2] for word in words[1::2])
    assert shown.keys() == both.keys()
    assert all(shown[name] == (text or "") or is_secret(name, text or "") for name, text in both.items())
