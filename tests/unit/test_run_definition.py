"""What a run may be defined with, how it is written down, and how arguments meet the configuration file."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml
from graphql import build_schema, coerce_input_value
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.definition.checks import FRAMEWORKS
from grid.definition.run_definition import (
    RunDefinition,
    grid_config,
    script_command,
    to_settings_input,
    validate,
)
from grid.errors import InvalidArgument, SourceError
from grid.shared.wire import MAX_TIMEOUT_SECONDS, STRATEGIES

SCHEMA = build_schema((Path(__file__).parents[2] / "schema.graphql").read_text())
SWEEP = '--max_epochs "[10, 20]" --learning_rate "uniform(1e-3, 1e-5, 1)"'


@pytest.fixture
def script(tmp_path: Path) -> str:
    """Return the path of a script that exists."""
    path = tmp_path / "train.py"
    path.write_text("print('hello')\n")
    return str(path)


@pytest.mark.parametrize("entrypoint", ["./Demo_Project/run.py", "Demo_Project/run.py"])
def test_script_command_is_the_walk_throughs_to_the_letter(entrypoint):
    """Both runs of the walk-through print as they do there."""
    definition = RunDefinition.from_arguments(
        {"entrypoint": entrypoint, "script_args": SWEEP, "instance_type": "t2.xlarge", "cpus": 3}
    )
    quote = "'\"'\"'"
    assert script_command(definition) == (
        f"{entrypoint} --script_args {quote}{SWEEP}{quote} --instance_type t2.xlarge --cpus 3 {entrypoint} "
        f"--max_epochs {quote}[10, 20]{quote} --learning_rate {quote}uniform(1e-3, 1e-5, 1){quote}'"
    )


def test_script_command_with_attempts():
    """The settings of attempts are part of the command line, and only if they are given."""
    definition = RunDefinition(entrypoint="run.py", timeout=60, max_retries=2, auto_resume=True)
    assert script_command(definition) == "run.py --timeout 60 --max_retries 2 --auto_resume run.py'"
    assert script_command(RunDefinition(entrypoint="run.py", timeout=0.5)) == "run.py --timeout 0.5 run.py'"


def test_script_command_in_signature_order_with_bare_flags():
    """Arguments come in the signature's order whatever order they were given in, and flags have no value."""
    definition = RunDefinition.from_arguments(
        {"seed": 0, "localdir": True, "description": "", "gpus": 0, "name": "a-run", "entrypoint": "it's.py"}
    )
    whole = "'grid run --entrypoint " + script_command(definition)
    (line,) = shlex.split(whole)
    assert shlex.split(line) == [
        *("grid", "run", "--entrypoint", "it's.py", "--name", "a-run", "--description", "", "--localdir"),
        *("--seed", "0", "it's.py"),
    ]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
def test_script_command_keeps_every_word(words):
    """Whatever the script's arguments are, the command line splits into them again."""
    definition = RunDefinition(entrypoint="run.py", script_args=shlex.join(words))
    (line,) = shlex.split("'grid run --entrypoint " + script_command(definition))
    options = ["--script_args", shlex.join(words)] if words else []
    assert shlex.split(line) == ["grid", "run", "--entrypoint", "run.py", *options, "run.py", *words]


def test_a_valid_definition_is_accepted(script):
    """A definition that uses only what is allowed causes no error."""
    validate(
        RunDefinition.from_arguments(
            {
                "name": "a-1",
                "entrypoint": script,
                "description": "x" * 200,
                "strategy": "random_search",
                "num_trials": 3,
                "framework": "torch",
                "memory": "16G",
                "seed": 2**31 - 1,
                "use_spot": True,
                "timeout": MAX_TIMEOUT_SECONDS,
                "max_retries": 2**31 - 1,
                "auto_resume": True,
            }
        )
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"cpus": "3"}, ["cpus", "whole number", "'3'"]),
        ({"cpus": -1}, ["cpus", "from 0", "-1"]),
        ({"cpus": 2.0}, ["cpus", "2.0"]),
        ({"gpus": True}, ["gpus", "True"]),
        ({"gpus": 2**31}, ["gpus", "2147483647"]),
        ({"num_trials": -1}, ["num_trials"]),
        ({"seed": -1}, ["seed"]),
        ({"seed": "1"}, ["seed", "'1'"]),
        ({"timeout": 0}, ["timeout", "above 0", "0"]),
        ({"timeout": -0.5}, ["timeout", "above 0", "-0.5"]),
        ({"timeout": float("nan")}, ["timeout", "nan"]),
        ({"timeout": float("inf")}, ["timeout", "at most", "inf"]),
        ({"timeout": MAX_TIMEOUT_SECONDS + 1}, ["timeout", "at most 31622400", "31622401"]),
        ({"timeout": True}, ["timeout", "number of seconds", "True"]),
        ({"timeout": "60"}, ["timeout", "'60'", "None for no limit"]),
        ({"max_retries": -1}, ["max_retries", "from 0", "-1"]),
        ({"max_retries": 1.0}, ["max_retries", "whole number", "1.0"]),
        ({"max_retries": True}, ["max_retries", "True"]),
        ({"max_retries": None}, ["max_retries", "None"]),
        ({"auto_resume": 1}, ["auto_resume", "True or False", "1"]),
        ({"use_spot": 1}, ["use_spot", "True or False", "1"]),
        ({"localdir": "yes"}, ["localdir", "'yes'"]),
        ({"name": "Abc"}, ["name", "lower-case", "'Abc'"]),
        ({"name": "a-"}, ["name", "ending"]),
        ({"name": "1a"}, ["name", "starting with a letter"]),
        ({"name": "a\n"}, ["name"]),
        ({"name": "ä"}, ["name"]),
        ({"name": None}, ["name", "None"]),
        ({"description": "x" * 201}, ["description", "200", "201"]),
        ({"description": 5}, ["description", "5"]),
        ({"strategy": "grid-search"}, ["strategy", "'none'", "did you mean 'grid_search'"]),
        ({"strategy": None}, ["strategy", "None", "'random_search'"]),
        ({"strategy": "random_search"}, ["num_trials", "1 or more"]),
        ({"framework": "Lightning"}, ["framework", "'julia'", "did you mean 'lightning'"]),
        ({"instance_type": ""}, ["instance_type", "empty"]),
        ({"memory": 16}, ["memory", "string", "16"]),
        ({"memory": "16"}, ["memory", "K, M, G or T", "powers of 1024", "'16'"]),
        ({"memory": "16GB"}, ["memory", "'16GB'"]),
        ({"memory": "16g"}, ["memory", "'16g'"]),
        ({"memory": "-1G"}, ["memory", "'-1G'"]),
        ({"memory": "0G"}, ["memory", "'0G'"]),
        ({"memory": "lots"}, ["memory", "'lots'"]),
        ({"cluster": "a\0b"}, ["cluster", "NUL"]),
        ({"dockerfile": "\udc80"}, ["dockerfile", "Unicode"]),
        ({"script_args": ["--lr", "1"]}, ["script_args", "one string", "shlex.join"]),
        ({"script_args": "--lr '1"}, ["script_args", "quote that is never closed", "'1"]),
        ({"script_args": "a && b"}, ["script_args", "&&", "no shell"]),
        ({"strategy": "zipped"}, ["strategy", "'zip'", "did you mean 'zip'"]),
        ({"repeats": 0}, ["repeats", "from 1", "0"]),
        ({"repeats": -1}, ["repeats", "whole number", "-1"]),
        ({"repeats": 1.5}, ["repeats", "whole number", "1.5"]),
        ({"repeats": True}, ["repeats", "True"]),
        ({"repeats": "3"}, ["repeats", "from 1 to", "'3'"]),
        ({"params_style": "k v"}, ["params_style", "'--k v', '--k=v' or 'k=v'", "'k v'"]),
        ({"params_style": None}, ["params_style", "None"]),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(script, arguments, words):
    """Each refusal names the argument, what was given, and what is allowed."""
    with pytest.raises(InvalidArgument) as refusal:
        validate(RunDefinition.from_arguments({"entrypoint": script, **arguments}))
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    ("entrypoint", "words"),
    [
        ("missing.py", ["'missing.py'", "does not exist"]),
        ("folder.py", ["'folder.py'", "folder"]),
        ("notes.txt", ["'notes.txt'", ".py, .sh or .jl"]),
        ("", ["entrypoint", ".py"]),
        (3, ["entrypoint", "3"]),
    ],
)
def test_an_entrypoint_that_is_not_a_script_is_refused(tmp_path, monkeypatch, entrypoint, words):
    """The script must exist and be of a kind that can be run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SourceError) as refusal:
        validate(RunDefinition.from_arguments({"entrypoint": entrypoint}))
    for word in words:
        assert word in str(refusal.value)


def test_paths_and_foreign_whole_numbers_are_taken_for_what_they_are(script):
    """A path object counts as its text, and NumPy's whole number as an int."""
    numpy = pytest.importorskip("numpy")
    definition = RunDefinition.from_arguments({"entrypoint": Path(script), "cpus": numpy.int64(3)})
    validate(definition)
    assert (definition.entrypoint, type(definition.cpus)) == (script, int)
    with pytest.raises(InvalidArgument, match="cpus must be a whole number"):
        definition.evolve(cpus=numpy.array([1, 2]))


def test_evolve_changes_a_copy_and_checks_at_once(script):
    """A changed definition is a new one, and a bad value is refused when it is set."""
    before = RunDefinition.from_arguments({"entrypoint": script})
    after = before.evolve(cpus=2, strategy="random_search")
    assert (before.cpus, after.cpus) == (0, 2)
    assert after.given == {"entrypoint": script, "cpus": 2, "strategy": "random_search"}
    with pytest.raises(InvalidArgument, match="cpus"):
        after.evolve(cpus="2")


def test_evolve_keeps_the_file_and_reads_a_new_one(tmp_path, script):
    """What the file says stays when something else is changed, even once the file is gone; a new file replaces it."""
    first, second = tmp_path / "first.yml", tmp_path / "second.yml"
    first.write_text("compute: {train: {cpus: 3, gpus: 1}}")
    second.write_text("compute: {train: {cpus: 5}}")
    definition = RunDefinition.from_arguments({"entrypoint": script, "config_file": first})
    first.unlink()
    changed = definition.evolve(use_spot=True)
    assert (changed.cpus, changed.gpus, changed.use_spot) == (3, 1, True)
    changed = changed.evolve(config_file=second)
    assert (changed.cpus, changed.gpus, changed.use_spot) == (5, 0, True)


def test_settings_input_fits_the_schema(tmp_path):
    """The settings are what the schema's input object takes, complete, and with its words."""
    path = tmp_path / "run.yml"
    path.write_text(
        yaml.safe_dump(
            {
                "compute": {
                    "train": {
                        "environment": {"A": "1"},
                        "auto_resume": True,
                        "actions": {"on_build_start": ["make"], "on_experiment_end": []},
                    }
                },
                "hyper_params": {"params": {"--foo": [1, 2]}},
            }
        )
    )
    definition = RunDefinition.from_arguments(
        {
            "name": "not-a-setting",
            "entrypoint": "run.py",
            "script_args": "--bar 'a b'",
            "strategy": "none",
            "framework": "torchelastic",
            "config_file": str(path),
            "seed": 0,
            "timeout": 90,
            "max_retries": 2,
            "params": {"layers": [1, 2]},
            "params_style": "--k=v",
            "repeats": 3,
            "working_dir": "script",
            "data": {"data": "/data"},
        }
    )
    settings = to_settings_input(definition)
    kind = SCHEMA.type_map["RunSettingsInput"]
    moments = {"onBuildStart": ["make"], "onBuildEnd": [], "onExperimentStart": [], "onExperimentEnd": []}
    assert coerce_input_value(settings, kind) == {**settings, "actions": moments}
    assert set(settings) == set(kind.fields)
    assert settings["scriptArgs"] == "--bar 'a b' --foo '[1, 2]'"
    assert (settings["strategy"], settings["framework"], settings["seed"]) == ("NONE", "TORCHELASTIC", 0)
    assert (settings["timeout"], settings["maxRetries"], settings["autoResume"]) == (90, 2, True)
    assert settings["environment"] == {"A": "1"}
    assert (settings["params"], settings["paramsStyle"]) == ('{"layers": [1, 2]}', "FLAG_EQUALS_VALUE")
    assert (settings["repeats"], settings["workingDir"], settings["data"]) == (3, "script", {"data": "/data"})
    assert settings["actions"] == {"onBuildStart": ["make"]}


def test_settings_input_leaves_open_what_was_left_open():
    """A seed that was not given is left to the service, and defaults to the schema."""
    kind = SCHEMA.type_map["RunSettingsInput"]
    settings = to_settings_input(RunDefinition(entrypoint="run.py"))
    assert not {"seed", "timeout", "params", "environment", "data", "actions"} & set(settings)
    assert {"params": "", **settings} == coerce_input_value({"entrypoint": "run.py"}, kind)


def test_every_word_has_its_enum_value():
    """Strategies and frameworks are those of the schema."""
    assert {word.upper() for word in STRATEGIES} == set(SCHEMA.type_map["Strategy"].values)
    assert {word.upper() for word in FRAMEWORKS} == set(SCHEMA.type_map["Framework"].values)


def test_grid_config_names_attempts_where_they_are_asked_for():
    """The time and the retries of an experiment are in the configuration of a run that has them."""
    plain = grid_config(RunDefinition(entrypoint="run.py"))["compute"]["train"]
    asked = grid_config(RunDefinition(entrypoint="run.py", timeout=0.5, max_retries=1, auto_resume=True))
    assert asked["compute"]["train"] == {**plain, "timeout": 0.5, "max_retries": 1, "auto_resume": True}
    assert not {"timeout", "max_retries"} & plain.keys()


def test_grid_config_has_the_shape_of_the_file():
    """The nested configuration has every key of the file, null if not set, and no other."""
    config = grid_config(RunDefinition(entrypoint="run.py", instance_type="t2.xlarge", cpus=3, seed=0, num_trials=1))
    assert config == {
        "compute": {
            "provider": {"cluster": None},
            "train": {
                "framework": "lightning",
                "environment": {},
                "dependency_file_info": {"path": None},
                "instance": "t2.xlarge",
                "use_spot": False,
                "cpus": 3,
                "gpus": 0,
                "localdir": False,
                "dockerfile": None,
                "auto_resume": False,
                "datastore_name": None,
                "datastore_version": None,
                "datastore_mount_dir": None,
                "actions": {
                    "on_build_start": [],
                    "on_build_end": [],
                    "on_experiment_start": [],
                    "on_experiment_end": [],
                },
            },
        },
        "hyper_params": {
            "settings": {"strategy": "grid_search", "strategy_options": {"num_trials": 1, "seed": 0}},
            "params": {},
        },
    }
