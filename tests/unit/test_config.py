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
from grid.shared.wire import MAX_TIMEOUT_SECONDS, PARAMS_STYLES, STRATEGIES

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
        ("compute: {train: {environment: A}}", ["compute.train.environment", "list of names", "not one text"]),
        ("compute: {train: {environment: [[A]]}}", ["compute.train.environment", "text for each", "quotes"]),
        ("compute: {train: {environment: {A: [1]}}}", ["compute.train.environment", "text for each", "quotes"]),
        ("compute: {train: {environment: {1: a}}}", ["compute.train.environment", "'1'", "start with a digit"]),
        ("compute: {train: {environment: {A-B: a}}}", ["compute.train.environment", "'A-B'"]),
        ("compute: {train: {environment: [A-B]}}", ["compute.train.environment", "'A-B'"]),
        ("compute: {train: {environment: [A, A=1]}}", ["compute.train.environment", "A twice"]),
        (
            "compute: {train: {environment: {GRID_REPEAT: 1}}}",
            ["compute.train.environment", "GRID_REPEAT", "set by Grid"],
        ),
        ("compute: {train: {working_dir: 3}}", ["compute.train.working_dir", "string", "3"]),
        ("compute: {train: {working_dir: /a}}", ["compute.train.working_dir", "below the root", "'/a'"]),
        ("compute: {train: {launcher: [torchrun]}}", ["compute.train.launcher", "one string", "['torchrun']"]),
        ("compute: {train: {launcher: 'x {rank}'}}", ["compute.train.launcher", "{rank}", "{index}"]),
        ("compute: {train: {data: [a]}}", ["compute.train.data", "dict", "['a']"]),
        ("compute: {train: {data: {data: 3}}}", ["compute.train.data", "'data'", "3"]),
        ("compute: {train: {data: {/data: /x}}}", ["compute.train.data", "'/data'", "relative"]),
        ("hyper_params: {settings: {repeats: 0}}", ["hyper_params.settings.repeats", "from 1", "0"]),
        ("hyper_params: {settings: {repeats: three}}", ["hyper_params.settings.repeats", "whole number", "'three'"]),
        ("hyper_params: {settings: {params_style: k}}", ["hyper_params.settings.params_style", "'--k=v'", "'k'"]),
        ("hyper_params: {values: 3}", ["hyper_params.values", "dict", "3"]),
        ("hyper_params: {values: {lr: {a: 1}}}", ["hyper_params.values", "'lr'", "{'a': 1}"]),
        ("compute: {train: {actions: {on_build_end: make}}}", ["on_build_end", "list of shell commands", "'make'"]),
        ("compute: {train: {actions: {on_build_end: [1]}}}", ["on_build_end", "[1]"]),
        ("hyper_params: {params: [1]}", ["hyper_params.params", "[1]"]),
        ("hyper_params: {params: {foo: 1}}", ["hyper_params.params", "'foo'", "--learning_rate"]),
        ("hyper_params: {params: {--a=b: 1}}", ["'--a=b'"]),
        ("hyper_params: {params: {--a: {b: 1}}}", ["hyper_params.params.--a", "{'b': 1}"]),
        ("hyper_params: {params: {--a: [{b: 1}]}}", ["hyper_params.params.--a", "{'b': 1}", "quotes"]),
        (
            "hyper_params: {params: {--a: [1, true]}}",
            ["hyper_params.params.--a", "has true in a list", "[true, false]"],
        ),
        ("hyper_params: {params: {--a: [false, true]}}", ["hyper_params.params.--a", "has false in a list"]),
        ("hyper_params: {params: {--a: [~, 1]}}", ["hyper_params.params.--a", "has null in a list"]),
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
            --layers: [1, 2.5, 'it''s', 1e-3, [3, null, [true]]]
            --one: [5]
            --inner: [[5]]
            --tied: [true, false]
            --small: 0.00001
            --loud: true
            --gone: null
            --slow: false
            -n: -3
            --pattern: -x
            --empty: ''
        """,
        script_args="--first 1",
    )
    words = shlex.split(to_settings_input(definition)["scriptArgs"])
    assert words == [
        *(
            "--first",
            "1",
            "--lr",
            "uniform(1e-3, 1e-5, 1)",
            "--layers",
            "[1, 2.5, \"it's\", '1e-3', [3, None, [True]]]",
        ),
        *("--one", "['5']", "--inner", "[[5]]", "--tied", "switch()"),
        *("--small", "0.00001", "--loud", "-n", "-3", "--pattern=-x", "--empty", ""),
    ]


def test_numbers_in_a_list_in_a_list_are_numbers(tmp_path):
    """Such a list reaches the script as Python prints it, so a number must not become a text in quotes there."""
    rows = "[[0.90, 1e-3, 10, '0.10', 010, 12:30:45, 1e999, x, true], [[2.50]], 0.90]"
    definition = define(tmp_path, f"hyper_params: {{params: {{--a: {rows}}}, values: {{b: {rows}}}}}")
    expected = [[0.9, 0.001, 10, "0.10", "010", "12:30:45", "1e999", "x", True], [[2.5]], "0.90"]
    assert shlex.split(to_settings_input(definition)["scriptArgs"]) == ["--a", repr(expected)]
    assert definition.params == {"b": expected}
    text = "hyper_params: {values: {a: [{words: [0.90, 2]}], b: &b [1.50], c: [*b, [1.50]]}}"
    assert define(tmp_path, text).params == {"a": [("0.90", 2)], "b": ["1.50"], "c": [[1.5], [1.5]]}


def test_lists_of_the_file_are_lists_where_nothing_is_swept(tmp_path):
    """With the strategy `none` the script gets a list as it is, and no form of the grammar that nobody wrote."""
    text = "hyper_params: {settings: {strategy: none}, params: {--a: [true, false], --b: [5], --c: [[1]], --d: [x, 2]}}"
    words = shlex.split(to_settings_input(define(tmp_path, text))["scriptArgs"])
    assert words == ["--a", "[True, False]", "--b", "[5]", "--c", "[[1]]", "--d", "['x', 2]"]


def test_arguments_of_the_file_come_before_two_dashes(tmp_path):
    """What follows a bare ``--`` is no flag, so the file's flags are put before it."""
    text = "hyper_params: {params: {--lr: 0.1, --fast: true}}"
    definition = define(tmp_path, text, script_args="--lr 1 -- 'a  b' --lr 2")
    assert to_settings_input(definition)["scriptArgs"] == "--lr 1 --fast -- 'a  b' --lr 2"
    assert to_settings_input(define(tmp_path, text, script_args="-- a"))["scriptArgs"] == "--lr 0.1 --fast -- a"


@pytest.mark.parametrize(
    ("script_args", "expected"),
    [
        ("--x $HOME  -- ~/a", "--x $HOME  --lr 0.1 --fast -- ~/a"),
        ("'--' a --lr 2", "--lr 0.1 --fast '--' a --lr 2"),
        ('--x "a -- b" \\\n--', '--x "a -- b" \\\n--lr 0.1 --fast --'),
    ],
)
def test_flags_of_the_file_leave_the_text_as_it_is_typed(tmp_path, script_args, expected):
    """What is to be said of it is said by the service; words after a bare ``--`` take nothing away from the file."""
    definition = define(tmp_path, "hyper_params: {params: {--lr: 0.1, --fast: true}}", script_args=script_args)
    assert to_settings_input(definition)["scriptArgs"] == expected


def test_params_win_over_the_files_by_name(tmp_path):
    """Of an argument that stands in both, also in the file's own `params`, the one that was given counts."""
    text = "hyper_params: {params: {--lr: 0.1, -n: 1, --fast: true}, values: {lr: 7}}"
    definition = define(tmp_path, text, params={"lr": [1, 2], "n": None})
    assert to_settings_input(definition)["scriptArgs"] == "--fast"
    assert definition.params == {"lr": [1, 2], "n": None}
    assert define(tmp_path, text).params == {"lr": 7}
    assert to_settings_input(define(tmp_path, text))["scriptArgs"] == "-n 1 --fast"


def test_environment_of_the_file(tmp_path):
    """Variables have values, or are names of the caller's own; those that are given are added, and win by name."""
    text = "compute: {train: {environment: {A: 1, B: b, C: null}}}"
    assert define(tmp_path, text).environment == {"A": "1", "B": "b"}
    assert define(tmp_path, text, environment={"B": "x", "D": "d"}).environment == {"A": "1", "B": "x", "D": "d"}
    assert define(tmp_path, text, environment=["B", "D"]).environment == ["A=1", "B", "D"]
    assert define(tmp_path, text, environment=None).environment == {"A": "1", "B": "b"}
    listed = "compute: {train: {environment: [B, D, A=1=2, null]}}"
    assert define(tmp_path, listed).environment == ["B", "D", "A=1=2"]
    assert define(tmp_path, listed, environment={"D": "d", "B": ""}).environment == {"B": "", "D": "d", "A": "1=2"}
    changed = define(tmp_path, text).evolve(environment=["A"]).evolve(environment={"E": "e"})
    assert changed.environment == {"A": "1", "B": "b", "E": "e"}
    assert define(tmp_path, "compute: {train: {environment: {}}}").environment is None


def test_how_a_script_starts_stands_in_the_file(tmp_path, monkeypatch):
    """Folder, launcher and data of the file are those of the arguments; a relative target is meant from here."""
    text = """
        compute: {train: {working_dir: training, launcher: uv run, data: {./data/: /x, ../up: y}}}
        hyper_params: {settings: {repeats: 3, params_style: k=v}}
        """
    monkeypatch.chdir(tmp_path)
    definition = define(tmp_path, text)
    assert (definition.working_dir, definition.launcher) == ("training", "uv run")
    assert definition.data == {"data": "/x", "../up": str(tmp_path / "y")}
    assert (definition.repeats, definition.params_style) == (3, "k=v")


WORD = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=8)
NUMBER = st.integers(0, 2**31 - 1)
SECONDS = st.floats(0, MAX_TIMEOUT_SECONDS, exclude_min=True)
NUMBERS = st.integers() | st.floats(-1000, 1000).filter(lambda number: "e" not in repr(number))
SCALAR = NUMBERS | WORD
NESTED = st.lists(SCALAR | st.none() | st.booleans(), max_size=2)
VALUE = SCALAR | st.none() | st.booleans() | st.floats()
VARIABLES = st.from_regex(r"\A[A-Z_][A-Z0-9_]{0,5}\Z")
DEFINITIONS = st.fixed_dictionaries(
    {
        "cluster": WORD,
        "framework": st.sampled_from(FRAMEWORKS),
        "environment": st.dictionaries(VARIABLES, WORD, max_size=3) | st.lists(VARIABLES, max_size=3, unique=True),
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
            SCALAR | st.booleans() | st.just([True, False]) | st.lists(SCALAR | NESTED, max_size=3),
        ),
        "params": st.none()
        | st.dictionaries(st.from_regex(r"\A[A-Z][a-z_]{0,5}\Z"), VALUE | st.lists(VALUE, min_size=1, max_size=3)),
        "params_style": st.sampled_from(tuple(PARAMS_STYLES)),
        "repeats": st.integers(1, 9),
        "working_dir": st.sampled_from(["root", "script", "a", "a/b"]),
        "launcher": st.sampled_from(["", "uv run", "torchrun --nproc_per_node={gpus}"]),
        "data": st.dictionaries(st.sampled_from(["data", "../data", "a/b", "a/c"]), WORD.filter(bool), max_size=3),
    }
)


@settings(max_examples=50, deadline=None)
@given(DEFINITIONS)
def test_grid_config_written_and_read_again_is_the_same_definition(arguments):
    """A definition's configuration, dumped as YAML, defines an equal run."""
    if arguments["framework"] == "torchelastic":
        arguments = {**arguments, "launcher": ""}
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
