"""The YAML configuration file: what it sets, what it may not say, and that it can be written and read again."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.definition.checks import FRAMEWORKS
from grid.definition.run_definition import (
    RunDefinition,
    grid_config,
    to_settings_input,
    validate,
)
from grid.errors import ConfigError
from grid.shared.wire import MAX_TIMEOUT_SECONDS, STRATEGIES

EXAMPLE = """\
compute:
  provider:
    cluster: local                # cluster
  train:
    framework: lightning
    environment: {NAME: value}    # extra environment variables
    dependency_file_info: {path: null}
    instance: t2.xlarge
    use_spot: false
    cpus: 3
    gpus: 0
    localdir: false
    dockerfile: null
    auto_resume: false
    datastore_name: null
    datastore_version: null
    datastore_mount_dir: null
    actions:                      # lists of shell commands
      on_build_start: []
      on_build_end: []
      on_experiment_start: []
      on_experiment_end: []
hyper_params:
  settings:
    strategy: grid_search         # grid_search | random_search | none
    strategy_options: {num_trials: 1, seed: 0}
  params:                         # appended as script arguments
    --foo: 1
"""


def define(folder: Path, text: str, **arguments: object) -> RunDefinition:
    """Define a run with a configuration file of this text."""
    path = folder / "run.yml"
    path.write_text(text)
    return RunDefinition.from_arguments({"entrypoint": "run.py", "config_file": str(path), **arguments})


def test_the_references_example_is_read(tmp_path):
    """Every key of the example sets its argument, and what is null there stays at its default."""
    definition = define(tmp_path, EXAMPLE)
    assert definition == RunDefinition(
        entrypoint="run.py",
        config_file=str(tmp_path / "run.yml"),
        cluster="local",
        environment={"NAME": "value"},
        instance_type="t2.xlarge",
        cpus=3,
        num_trials=1,
        seed=0,
        file_params={"--foo": 1},
    )
    assert to_settings_input(definition)["scriptArgs"] == "--foo 1"


def test_attempts_are_read(tmp_path):
    """A file says how long an experiment may take and how often it is run again."""
    definition = define(tmp_path, "compute: {train: {timeout: 1.5, max_retries: 2, auto_resume: true}}")
    assert (definition.timeout, definition.max_retries, definition.auto_resume) == (1.5, 2, True)
    assert define(tmp_path, "compute: {train: {timeout: null}}", max_retries=1).max_retries == 1


def test_arguments_win_over_the_file_even_at_their_default(tmp_path):
    """The file sets only what was not given."""
    definition = define(tmp_path, EXAMPLE, cpus=0, instance_type="t2.large")
    assert (definition.cpus, definition.instance_type, definition.cluster) == (0, "t2.large", "local")


@pytest.mark.parametrize("text", ["", "# nothing\n", "compute:\n", "compute: {train: null}\nhyper_params: {}\n"])
def test_a_file_may_say_nothing(tmp_path, text):
    """Empty files and empty sections leave every default."""
    definition = define(tmp_path, text)
    assert definition == RunDefinition(entrypoint="run.py", config_file=definition.config_file)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("compute: {train: {cpu: 3}}", ["compute.train.cpu", "did you mean cpus?"]),
        ("comptue: {}", ["unknown key comptue", "did you mean compute?", "hyper_params"]),
        ("compute: {train: {on: 1}}", ["compute.train.True"]),
        ("compute: {train: {actions: {on_start: []}}}", ["compute.train.actions.on_start"]),
        ("hyper_params: {settings: {strategy_options: {trials: 1}}}", ["strategy_options.trials", "num_trials"]),
        ("- compute", ["compute, hyper_params", "['compute']"]),
        ("compute: 3", ["compute must hold", "provider, train", "3"]),
        ("compute: {train: {cpus: '3'}}", ["compute.train.cpus", "whole number", "'3'"]),
        ("compute: {train: {use_spot: 1}}", ["compute.train.use_spot", "True or False"]),
        ("compute: {train: {timeout: 0}}", ["compute.train.timeout", "above 0"]),
        ("compute: {train: {timeout: '1 h'}}", ["compute.train.timeout", "number of seconds", "'1 h'"]),
        ("compute: {train: {timeout: .nan}}", ["compute.train.timeout", "nan"]),
        ("compute: {train: {max_retries: -1}}", ["compute.train.max_retries", "whole number"]),
        ("compute: {train: {auto_resume: 1}}", ["compute.train.auto_resume", "True or False"]),
        ("compute: {train: {instance: [a]}}", ["compute.train.instance", "string", "['a']"]),
        ("compute: {train: {framework: jax}}", ["compute.train.framework", "'torch'", "'jax'"]),
        ("compute: {train: {datastore_version: 1}}", ["compute.train.datastore_version", "string"]),
        ("compute: {train: {environment: [A]}}", ["compute.train.environment", "['A']"]),
        ("compute: {train: {environment: {A: true}}}", ["compute.train.environment.A", "True", "quotes"]),
        ("compute: {train: {environment: {1: a}}}", ["compute.train.environment", "1", "quotes"]),
        ("compute: {train: {environment: {A-B: a}}}", ["compute.train.environment", "'A-B'"]),
        ("compute: {train: {actions: {on_build_end: make}}}", ["on_build_end", "list of shell commands", "'make'"]),
        ("compute: {train: {actions: {on_build_end: [1]}}}", ["on_build_end", "[1]"]),
        ("hyper_params: {params: [1]}", ["hyper_params.params", "[1]"]),
        ("hyper_params: {params: {foo: 1}}", ["hyper_params.params", "'foo'", "--learning_rate"]),
        ("hyper_params: {params: {--a=b: 1}}", ["'--a=b'"]),
        ("hyper_params: {params: {--a: {b: 1}}}", ["hyper_params.params.--a", "{'b': 1}"]),
        ("hyper_params: {params: {--a: [2021-08-10]}}", ["hyper_params.params.--a", "quotes"]),
        ("hyper_params: {params: {--a: &a [*a]}}", ["contains itself"]),
        ("compute: {\n  train: [\n}", ["not valid YAML", "line 3"]),
        ("a: 2021-02-30", ["not valid YAML"]),
        ("a: !!python/name:os.system x", ["not valid YAML", "line 1"]),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path, text, words):
    """Each refusal names the file, the place in it, and what is allowed there."""
    with pytest.raises(ConfigError) as refusal:
        define(tmp_path, text)
    for word in [str(tmp_path / "run.yml"), *words]:
        assert word in str(refusal.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """Missing files, folders, and files that are not text each have their own message."""
    with pytest.raises(ConfigError, match=r"there is no configuration file '.*nowhere\.yml'"):
        RunDefinition.from_arguments({"config_file": tmp_path / "nowhere.yml"})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        RunDefinition.from_arguments({"config_file": tmp_path})
    (tmp_path / "binary.yml").write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        RunDefinition.from_arguments({"config_file": tmp_path / "binary.yml"})


def test_params_become_words_that_the_sweep_grammar_sees(tmp_path):
    """Texts stay as they are, lists are lists of a sweep, and truth values say whether the flag is there."""
    definition = define(
        tmp_path,
        """
        hyper_params:
          params:
            --lr: uniform(1e-3, 1e-5, 1)
            --layers: [1, 2.5, 'it''s', true, [3, null]]
            --small: 0.00001
            --fast:
            --loud: true
            --slow: false
            -n: -3
            --pattern: -x
            --empty: ''
        """,
        script_args="--first 1",
    )
    words = shlex.split(to_settings_input(definition)["scriptArgs"])
    assert words == [
        *("--first", "1", "--lr", "uniform(1e-3, 1e-5, 1)", "--layers", '[1, 2.5, "it\'s", True, [3, None]]'),
        *("--small", "1e-05", "--fast", "--loud", "-n", "-3", "--pattern=-x", "--empty", ""),
    ]


def test_numbers_in_the_environment_become_texts(tmp_path):
    """A number needs no quotes if only texts are possible."""
    definition = define(tmp_path, "compute: {train: {environment: {THREADS: 4, RATE: 0.5, NAME: x}}}")
    assert definition.environment == {"THREADS": "4", "RATE": "0.5", "NAME": "x"}


WORD = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=8)
NUMBER = st.integers(0, 2**31 - 1)
SECONDS = st.floats(0, MAX_TIMEOUT_SECONDS, exclude_min=True)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORD
DEFINITIONS = st.fixed_dictionaries(
    {
        "cluster": WORD,
        "framework": st.sampled_from(FRAMEWORKS),
        "environment": st.dictionaries(st.from_regex(r"\A[A-Z_][A-Z0-9_]{0,5}\Z"), WORD, max_size=3),
        "dependency_file": WORD,
        "instance_type": WORD.filter(bool),
        "use_spot": st.booleans(),
        "cpus": NUMBER,
        "gpus": NUMBER,
        "localdir": st.booleans(),
        "dockerfile": WORD,
        "auto_resume": st.booleans(),
        "max_retries": NUMBER,
        "timeout": st.none() | SECONDS | st.integers(1, MAX_TIMEOUT_SECONDS),
        "datastore_name": WORD,
        "datastore_version": WORD,
        "datastore_mount_dir": WORD,
        "actions": st.dictionaries(
            st.sampled_from(["on_build_start", "on_build_end", "on_experiment_start", "on_experiment_end"]),
            st.lists(WORD, min_size=1, max_size=3),
        ),
        "strategy": st.sampled_from(STRATEGIES),
        "num_trials": NUMBER.filter(bool),
        "seed": st.none() | NUMBER,
        "file_params": st.dictionaries(
            st.from_regex(r"\A--?[a-z_][a-z0-9_-]{0,5}\Z"),
            SCALAR | st.lists(SCALAR | st.lists(SCALAR, max_size=2), max_size=3),
        ),
    }
)


@settings(max_examples=50, deadline=None)
@given(DEFINITIONS)
def test_grid_config_written_and_read_again_is_the_same_definition(arguments):
    """A definition's configuration, dumped as YAML, defines an equal run."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "run.py")
        script.touch()
        before = RunDefinition.from_arguments({"entrypoint": str(script), **arguments})
        validate(before)
        path = Path(folder, "run.yml")
        path.write_text(yaml.safe_dump(grid_config(before), allow_unicode=True, sort_keys=False), encoding="utf-8")
        after = RunDefinition.from_arguments({"entrypoint": str(script), "config_file": str(path)})
        validate(after)
        assert after.values == {**before.values, "config_file": after.config_file}
        assert to_settings_input(after)["scriptArgs"] == to_settings_input(before)["scriptArgs"]
