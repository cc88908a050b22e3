"""How a script is started: modules, folders and launchers, what they may be, and what is said of them."""

from __future__ import annotations

import shlex

import pytest

from grid.definition.run_definition import RunDefinition, script_command, to_settings_input, validate
from grid.definition.starting import module_of
from grid.definition.surroundings import surprises
from grid.errors import InvalidArgument, SourceError


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Stand in a folder with scripts of each kind, and one in a folder of its own."""
    for name in ("run.py", "run.sh", "run.jl", "training/train.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def define(**given: object) -> RunDefinition:
    """Define a run of a script or of something else."""
    return RunDefinition.from_arguments({"entrypoint": "run.py", **given})


# The entrypoint


@pytest.mark.parametrize(
    ("entrypoint", "kept"),
    [
        ("-m package.module", "-m package.module"),
        ("-m   module ", "-m module"),
        ("-m\tpackage._m1.é", "-m package._m1.é"),
    ],
)
def test_modules(project, entrypoint, kept):
    """A module needs no file of that name; one space stands behind its -m."""
    definition = define(entrypoint=entrypoint)
    validate(definition)
    assert (definition.entrypoint, module_of(definition.entrypoint)) == (kept, kept[3:])
    assert to_settings_input(definition)["entrypoint"] == kept
    (line,) = shlex.split(
        "'grid run --entrypoint " + script_command(define(entrypoint=entrypoint, script_args="--a 1"))
    )
    assert shlex.split(line) == ["grid", "run", "--entrypoint", kept, "--script_args", "--a 1", kept, "--a", "1"]


def test_paths_are_no_modules(project):
    """A path is one, whatever it begins with, and its check is that of a file."""
    assert module_of("train.py") == ""
    (project / "-m.py").touch()
    validate(define(entrypoint="-m.py"))


@pytest.mark.parametrize(
    ("entrypoint", "words"),
    [
        ("-m", ["'-m'", ".py, .sh or .jl", "name of a module"]),
        ("-m ", ["'-m '", "name of a module"]),
        ("-mpackage", ["'-mpackage'", "a space behind -m"]),
        ("-m package.module --lr 1", ["'-m package.module --lr 1'", "script_args"]),
        ("-m package..module", ["letters, digits and '_'", "'-m package..module'"]),
        ("-m .module", ["letters, digits"]),
        ("-m my-module", ["letters, digits", "'-m my-module'"]),
        ("-m 1st", ["letters, digits"]),
        ("-m train.py", ["'-m train.py'", "'train' behind -m", "path of the script"]),
        ("-m src/train.py", ["'src.train' behind -m"]),
        ("-m package/module", ["'package.module' behind -m"]),
        ("-m mod\0ule", ["NUL"]),
    ],
)
def test_what_names_no_module_is_refused(project, entrypoint, words):
    """Each refusal quotes what was given, says what is allowed, and what may have been meant."""
    with pytest.raises(SourceError) as refusal:
        validate(define(entrypoint=entrypoint))
    for word in ["entrypoint", *words]:
        assert word in str(refusal.value)


# Folder and launcher


@pytest.mark.parametrize("folder", ["root", "script", "training", "a/b", "./root", "a b"])
def test_working_dirs(project, folder):
    """Words for folders, and paths below the root."""
    validate(define(working_dir=folder))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"working_dir": ""}, ["working_dir", '"root", "script"', "''"]),
        ({"working_dir": "."}, ["working_dir", "'.'", 'write "root"']),
        ({"working_dir": "/abs"}, ["working_dir", "below the root", "'/abs'"]),
        ({"working_dir": "../up"}, ["working_dir", "'../up'"]),
        ({"working_dir": "a/../../b"}, ["working_dir", "'a/../../b'"]),
        ({"working_dir": None}, ["working_dir", "None"]),
        ({"working_dir": 3}, ["working_dir", "string", "3"]),
        ({"working_dir": "a\0"}, ["working_dir", "NUL"]),
        ({"launcher": ["torchrun", "-n"]}, ["launcher", "one string", "shlex.join"]),
        ({"launcher": None}, ["launcher", "string", "None"]),
        ({"launcher": " "}, ["launcher", "program and its arguments", "' '"]),
        ({"launcher": "''"}, ["launcher", "begin with a program", "''"]),
        ({"launcher": "uv 'run"}, ["launcher", "quote that is never closed", "'run"]),
        ({"launcher": "cd x && python"}, ["launcher", "&&", "no shell"]),
        ({"launcher": "-m torch.distributed.run"}, ["launcher", "begin with a program", "'-m'"]),
        ({"launcher": "OMP_NUM_THREADS=2 torchrun"}, ["launcher", "variable OMP_NUM_THREADS", "environment="]),
        ({"launcher": "torchrun -n {gpu}"}, ["launcher", "{gpu}", "{cpus}, {gpus}, {index}"]),
        ({"launcher": "torchrun '{a b}'"}, ["launcher", "{a b}", "{index}"]),
        ({"launcher": "torchrun {}"}, ["launcher", "{}", "{index}"]),
        (
            {"launcher": "uv run", "framework": "torchelastic"},
            ["torchelastic", "N is the GPUs, or 1", "'uv run'", "leave one of them out"],
        ),
        ({"framework": "torchelastic", "entrypoint": "run.sh"}, ["torchelastic", "'run.sh'", "torchrun itself"]),
        ({"framework": "torchelastic", "entrypoint": "run.jl"}, ["torchelastic", "'run.jl'"]),
    ],
)
def test_what_is_not_allowed_is_refused(project, given, words):
    """Each refusal says what was given, what is allowed and what to do."""
    with pytest.raises(InvalidArgument) as refusal:
        validate(define(**given))
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    "launcher", ["", "uv run", "python -u", "torchrun --standalone -n {gpus} {cpus}{index}", "'a b'"]
)
@pytest.mark.parametrize("entrypoint", ["run.py", "run.sh", "run.jl", "-m package.module"])
def test_launchers(project, launcher, entrypoint):
    """Any program may start any script or module, with the placeholders that are known."""
    validate(define(launcher=launcher, entrypoint=entrypoint))


def test_torchelastic(project):
    """The framework starts Python files and modules."""
    for entrypoint in ("run.py", "-m package.module"):
        validate(define(framework="torchelastic", entrypoint=entrypoint))


def test_how_it_stands_in_the_command_line(project):
    """Each argument that is not the default is an option, in the order of the signature."""
    definition = define(
        data={"data": "/d"},
        launcher="torchrun --nproc_per_node=2",
        environment={"A": "it's"},
        working_dir="script",
        repeats=3,
        params_style="--k=v",
        params={"lr": [0.1, 1e-05], "name": "it's"},
    )
    (line,) = shlex.split("'grid run --entrypoint " + script_command(definition))
    assert shlex.split(line) == [
        *("grid", "run", "--entrypoint", "run.py"),
        *("--params", '{"lr": [0.1, 1e-05], "name": "it\'s"}', "--params_style", "--k=v", "--repeats", "3"),
        *("--working_dir", "script", "--environment", "A=it's"),
        *("--launcher", "torchrun --nproc_per_node=2", "--data", "data=/d", "run.py"),
    ]


# What the caller may expect


def test_a_script_that_starts_elsewhere_is_warned_of(project, monkeypatch):
    """Who stands in the folder of a script that starts in the root is told so, and how to say which is meant."""
    monkeypatch.chdir(project / "training")
    (line,) = surprises(define(entrypoint="train.py"), "training/train.py")
    for word in ("root of the source code", "training", 'working_dir="script"', 'working_dir="root"'):
        assert word in line


def test_where_nothing_is_to_be_said_of_the_folder(project, monkeypatch):
    """Nothing is said in another folder, of a script in the root, of a module, or where the run says what it means."""
    assert surprises(define(entrypoint="training/train.py"), "training/train.py") == []
    assert surprises(define(), "run.py") == []
    monkeypatch.chdir(project / "training")
    assert surprises(define(entrypoint="-m train"), "training/train.py") == []
    for folder in ("root", "script"):
        assert surprises(define(entrypoint="train.py", working_dir=folder), "training/train.py") == []
    (project / "run.yml").write_text("compute: {train: {working_dir: root}}")
    assert surprises(define(entrypoint="train.py", config_file="../run.yml"), "training/train.py") == []


def test_what_no_shell_does_to_a_launcher_is_said(project):
    """A launcher with a variable in it gets it as it is written."""
    (line,) = surprises(define(launcher="uv run --project $HOME"), "run.py")
    assert "launcher: $HOME" in line
