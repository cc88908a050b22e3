"""What `from grid import …` offers: its names, what importing them costs, and that their documentation is true."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

import grid
from grid import aio, errors, sweep
from grid.artifact import Artifact
from grid.artifacts_view import ArtifactsView
from grid.definition.arguments import ARGUMENTS
from grid.experiments_view import ExperimentsView
from tests.support.services import ServiceProcess, login_environment

if TYPE_CHECKING:
    from pathlib import Path

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(grid.__path__, "grid.")
    if not module.name.startswith("grid.service") and not module.name.endswith("__main__")
)

INTERFACE = {
    "Experiment",
    "Run",
    "StatusChanged",
    "aio",
    "cancel_experiment",
    "cancel_run",
    "create_run",
    "get_build_logs",
    "get_experiment_by_id",
    "get_experiment_by_name",
    "get_experiment_logs",
    "get_instance_types",
    "get_run",
    "list_clusters",
    "list_runs",
    "login",
    "runs",
    "schema_path",
    "sweep",
}


def python(source: str) -> str:
    """Run a program in a new interpreter, where a warning is an error, and return what it prints."""
    command = [sys.executable, "-W", "error", "-c", source]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def public_objects() -> dict[str, object]:
    """Return everything that has a name in the interface, methods and properties included."""
    found: dict[str, object] = {}
    for name in set(grid.__all__) - {"__version__", "aio", "errors", "sweep"}:
        found[name] = value = getattr(grid, name)
        if inspect.isclass(value):
            found |= {f"{name}.{each}": member for each, member in vars(value).items() if is_documented(each, member)}
    found |= {f"errors.{name}": getattr(errors, name) for name in errors.__all__}
    found |= {f"sweep.{name}": getattr(sweep, name) for name in sweep.__all__}
    return found | {f"aio.{name}": getattr(aio, name) for name in aio.__all__}


def is_documented(name: str, member: object) -> bool:
    """Whether a member of a class is documented for users, and can have a docstring."""
    return not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))


def test_all_names_the_real_members() -> None:
    """Every name of `__all__` exists, once, and so does every name that the reference promises."""
    assert len(set(grid.__all__)) == len(grid.__all__)
    for name in grid.__all__:
        assert getattr(grid, name) is not None
    assert set(grid.__all__) >= INTERFACE
    assert errors.__all__ == sorted(
        name for name, value in vars(errors).items() if inspect.isclass(value) and value.__module__ == "grid.errors"
    )


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (
            grid.Run,
            {
                *ARGUMENTS,
                *("created_at", "estimated_hourly_cost", "experiments", "grid_config", "id", "script_command", "user"),
                "varying",
                *("as_completed", "cancel", "delete", "failures", "retry", "start", "status", "wait", "watch"),
                *("build_logs", "download_artifacts", "logs", "preview"),
            },
        ),
        (
            grid.Experiment,
            {
                *("artifacts", "attempt", "commit_sha", "created_at", "failure", "finished_at", "github_id", "id"),
                *("invocation_commands", "name", "parameters", "started_running_at", "user"),
                *("build_logs", "cancel", "delete", "download_artifacts", "log_lines", "logs", "status", "wait"),
            },
        ),
        (type(grid.runs), set(dir(Mapping))),
        (ExperimentsView, set(dir(Mapping))),
        (ArtifactsView, {*dir(Mapping), "of"}),
        (Artifact, {"download", "modified_at", "open", "path", "read_bytes", "sha256", "size"}),
    ],
)
def test_nothing_else_is_shown(kind: type, names: set[str]) -> None:
    """`dir()` of what users hold shows what is documented, and nothing that only the library needs."""
    assert {name for name in dir(kind) if not name.startswith("_")} == {
        name for name in names if not name.startswith("_")
    }


def test_names_are_listed_before_they_are_loaded() -> None:
    """`dir(grid)` and a star import show everything at once, though nothing is loaded yet."""
    assert dir(grid) == sorted(grid.__all__)
    listed = python(
        "import grid; print(*dir(grid)); names = {}; exec('from grid import *', names); print(*sorted(names))"
    )

    before, after = (line.split() for line in listed.splitlines())
    assert before == sorted(grid.__all__)
    assert set(after) - {"__builtins__"} == set(grid.__all__)


def test_checkers_see_the_names_that_there_are() -> None:
    """The imports that only type checkers read are those that are made when a name is first used."""
    typed = re.findall(r"^    from (grid[\w.]*) import (\w+) as (\w+)$", inspect.getsource(grid), re.MULTILINE)

    assert {name for _, name, _ in typed} == set(grid.__all__) - {"__version__"}
    for module, name, alias in typed:
        assert name == alias
        found = (
            importlib.import_module(f"grid.{name}")
            if name in ("aio", "errors", "sweep")
            else getattr(importlib.import_module(module), name)
        )
        assert getattr(grid, name) is found


def test_unknown_name_is_an_attribute_error() -> None:
    """A slip in a name fails as it does in any module."""
    with pytest.raises(AttributeError, match="module 'grid' has no attribute 'list_run'"):
        _ = grid.list_run  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        exec("from grid import list_run", {})  # noqa: S102


@pytest.mark.parametrize(
    "statement", ["import grid", "from grid import login, Run, list_runs", "import grid; dir(grid)"]
)
def test_import_is_cheap(statement: str) -> None:
    """Importing the client loads neither the libraries of its requests nor anything of the service."""
    loaded = set(python(f"import sys; {statement}; print(*sys.modules, sep='\\n')").splitlines())

    assert "grid" in loaded
    heavy = {
        "aiohttp",
        "alembic",
        "ariadne",
        "asyncio",
        "cattrs",
        "gql",
        "graphql",
        "grid.service",
        "numpy",
        "sqlalchemy",
        "yaml",
    }
    assert not loaded & heavy


def test_client_never_imports_the_service() -> None:
    """With every module of the client loaded, nothing of the service is."""
    source = "import importlib, sys\n" + "\n".join(f"importlib.import_module({module!r})" for module in MODULES)
    loaded = python(source + "\nprint(*sys.modules, sep='\\n')").splitlines()

    assert "grid.run" in loaded
    assert not [name for name in loaded if name.startswith(("grid.service", "ariadne", "sqlalchemy", "uvicorn"))]


@pytest.mark.parametrize("name", sorted(public_objects()))
def test_everything_public_is_documented(name: str) -> None:
    """Every public name has a docstring of its own that begins with a sentence."""
    text = inspect.getdoc(public_objects()[name]) or ""

    assert re.match(r"[A-Z`*][^\n]*(\n[^\n]+)*[.:;]", text), text


def test_functions_document_their_parameters() -> None:
    """The docstring of a function or class of several parameters has a section of them that names each."""
    several = 0
    for name, value in public_objects().items():
        if "." in name and not name.startswith("sweep."):
            continue
        if not (inspect.isfunction(value) or value is grid.Run) or len(inspect.signature(value).parameters) < 2:
            continue
        _, heading, section = (inspect.getdoc(value) or "").partition("Parameters\n----------\n")
        section = re.split(r"\n\n\w+\n-+\n", section)[0]
        assert heading, name
        for parameter in inspect.signature(value).parameters:
            assert re.search(rf"\b{parameter}\b", section), (name, parameter)
        several += 1
    assert several >= 30


def drawn_tree() -> dict[str, tuple[str, str | None]]:
    """Return the parent of each error in the picture at the head of `errors.py`, and the built-in beside it."""
    path: list[str] = []
    found: dict[str, tuple[str, str | None]] = {}
    picture = (errors.__doc__ or "").partition("::\n\n")[2].partition("\n\n")[0]
    for line in picture.splitlines():
        branch = re.fullmatch(r"    ([│ ]*)(?:[├└]── )?(\w+)(?: +(?:\((\w+)\))?.*)?", line)
        assert branch, line
        depth = 0 if branch[2] == "GridError" else len(branch[1]) // 4 + 1
        del path[depth:]
        found[branch[2]] = (path[-1] if path else "Exception", branch[3])
        path.append(branch[2])
    return found


def test_tree_of_errors_is_as_it_is_drawn() -> None:
    """The picture in the docstring has every error, with its parent and with the built-in that it is as well."""
    real = {}
    for name in set(errors.__all__) - {"GridWarning"}:
        parent, *others = getattr(errors, name).__bases__
        real[name] = (parent.__name__, others[0].__name__ if others else None)

    assert drawn_tree() == real


@pytest.mark.parametrize("module", ["grid", *MODULES])
def test_examples_are_true(
    module: str, service: ServiceProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The examples in the docstrings show what they say."""
    for name, value in login_environment(service).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    results = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS, report=True)

    assert results.failed == 0


def test_there_are_examples() -> None:
    """The parts of the interface that people meet first have an example each."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = map(importlib.import_module, ("grid.run", "grid.functions", "grid.session.login"))
    shown = {test.name for module in modules for test in finder.find(module) if test.examples}

    assert {
        "grid.run.Run",
        "grid.functions.list_runs",
        "grid.functions.schema_path",
        "grid.session.login.login",
    } <= shown
