"""The map of `docs/design.md`, held by the imports of the code: downward only, no circle, and who may know what.

Every import counts, wherever it stands: in a function, too, and for annotations alone.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import grid

ROOT = Path(grid.__file__).parent
DESIGN = ROOT.parent / "docs" / "design.md"

CLIENT = (
    ("grid.errors", "grid._version", "grid.shared", "grid.queries"),
    ("grid.chain",),
    ("grid.models",),
    ("grid.sweep",),
    ("grid.definition",),
    ("grid.source",),
    ("grid.session",),
    ("grid.logs",),
    ("grid.run_state",),
    ("grid.views", "grid.markup"),
    ("grid.preview", "grid.notebook", "grid.failures"),
    ("grid.watching",),
    ("grid.downloads",),
    ("grid.artifact",),
    ("grid.artifacts_view",),
    ("grid.experiment",),
    ("grid.experiments_view",),
    ("grid.run",),
    ("grid.runs_view",),
    ("grid.functions",),
    ("grid.aio",),
    ("grid.schema_tools",),
    ("grid",),
)
"""From the ground up. What stands in one line are neighbours, which do not import each other."""

SERVICE = (
    ("grid._version", "grid.shared"),
    ("grid.service.system",),
    ("grid.service.store", "grid.service.executors"),
    ("grid.service.results",),
    ("grid.service.domain",),
    ("grid.service.api",),
    ("grid.service.http",),
    ("grid.service.command",),
    ("grid.service",),
)

KNOWN_TO = {
    "sqlalchemy": ("grid.service.store",),
    "alembic": ("grid.service.store",),
    "sqlite3": ("grid.service.store",),
    "gql": ("grid.chain.transport",),
    "aiohttp": ("grid.chain.transport",),
    "cattrs": ("grid.chain.decoding",),
    "ariadne": ("grid.service.api", "grid.service.http"),
    "graphql": ("grid.service.api", "grid.service.http", "grid.schema_tools"),
    "starlette": ("grid.service.api", "grid.service.http"),
    "uvicorn": ("grid.service.http", "grid.service.command"),
    "numpy": ("grid.service.domain.sweeps",),
    "pynvml": ("grid.service.system.gpus",),
}
"""Which rooms alone know a library."""


class Import(NamedTuple):
    """One module that another names."""

    importer: str
    imported: str
    line: int
    for_annotations: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def modules() -> dict[str, Path]:
    """Every module of the product, by its name."""
    found = {}
    for path in ROOT.rglob("*.py"):
        name = ".".join(("grid", *path.relative_to(ROOT).with_suffix("").parts))
        found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports_of(name: str) -> Iterator[Import]:
    """Yield what a module imports, by the whole name of the module that it is found in."""
    path = MODULES[name]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    annotations = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in node.body
        for inner in ast.walk(child)
    }
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            source = ".".join(filter(None, [*above, node.module]))
            # `from package import module` names the module; `from module import name` names no other one.
            named = [f"{source}.{alias.name}" for alias in node.names]
            targets = [each if each in MODULES else source for each in named]
        else:
            continue
        for target in dict.fromkeys(targets):
            yield Import(name, target, node.lineno, node in annotations)


IMPORTS = [each for name in sorted(MODULES) for each in imports_of(name)]
OURS = [each for each in IMPORTS if each.imported in MODULES and each.imported != each.importer]


def is_in(module: str, *rooms: str) -> bool:
    """Whether a module is one of these, or in one of them."""
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def storey(module: str, storeys: tuple[tuple[str, ...], ...]) -> tuple[int, str] | None:
    """On which storey a module is, and in which room; the room whose name fits best."""
    fitting = [
        (len(room), number, room) for number, rooms in enumerate(storeys) for room in rooms if is_in(module, room)
    ]
    return max(fitting)[1:] if fitting else None


def is_of_service(module: str) -> bool:
    """Whether a module is the service's."""
    return is_in(module, "grid.service")


def test_there_is_something_to_see() -> None:
    """The reader of imports sees all of them: some that are known to be there, of each kind."""
    seen = {(each.importer, each.imported) for each in IMPORTS}
    assert ("grid.functions", "grid.run") in seen
    assert ("grid.chain.transport", "aiohttp") in seen
    assert ("grid.run", "grid.models") in seen  # within a function
    assert len(MODULES) > 100


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_module_has_a_place(name: str) -> None:
    """Each module is in one of the rooms, so that no file lies beside them."""
    place = storey(name, SERVICE if is_of_service(name) else CLIENT)
    assert place is not None
    if place[1] in {"grid", "grid.service"}:
        assert name in {"grid", "grid.service", "grid.service.__main__"}


def test_imports_run_downward() -> None:
    """No module imports what is above it, nor what is in a room beside its own."""
    wrong = []
    for each in OURS:
        storeys = SERVICE if is_of_service(each.importer) else CLIENT
        here, there = storey(each.importer, storeys), storey(each.imported, storeys)
        if here is None or there is None:
            continue  # the test above and the one below say what is wrong
        if there[0] > here[0] or (there[0] == here[0] and there[1] != here[1]):
            wrong.append(str(each))
    assert wrong == []


def test_no_circle() -> None:
    """No module comes back to itself by what it imports."""
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for each in OURS:
        # To import a module of a package imports the package's `__init__` as well; those are read by the test above.
        graph[each.importer].add(each.imported)
    # The face of the package names what it offers, and everybody who takes something of it would close a circle.
    graph["grid"].clear()
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_client_and_service_share_one_room() -> None:
    """Client and service know of each other nothing but `grid/shared` and the version."""
    wrong = [
        str(each)
        for each in OURS
        if is_of_service(each.importer) != is_of_service(each.imported)
        and not is_in(each.imported, "grid.shared", "grid._version")
    ]
    assert wrong == []


def test_shared_needs_nothing() -> None:
    """What both share imports the standard library alone, and each other."""
    wrong = [
        str(each)
        for each in IMPORTS
        if is_in(each.importer, "grid.shared")
        and not is_in(each.imported, "grid.shared")
        and each.imported.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert wrong == []


@pytest.mark.parametrize("library", sorted(KNOWN_TO))
def test_who_knows_a_library(library: str) -> None:
    """A library is imported in the rooms that it is for and nowhere else, but for names in annotations."""
    users = [each for each in IMPORTS if each.imported.partition(".")[0] == library and not each.for_annotations]
    assert users
    assert [str(each) for each in users if not is_in(each.importer, *KNOWN_TO[library])] == []


NOT_SHOWN = re.compile(r"__init__|_.*|.*_rows|v[0-9]+")
"""Files that the map does not name one by one: what is private to a folder, and the statements by noun."""
SHOWN_AS_A_WHOLE = ("grid.schema_tools", "grid.service.api.resolvers", "grid.service.store.migrations", "grid.queries")
IN_ROWS_OF_THEIR_OWN = {"models": "`grid/models.py`", "errors": "`grid/errors.py`"}
SUPERVISOR = "grid.service.executors.supervisor"


@pytest.mark.parametrize("name", sorted(name for name in MODULES if not is_in(name, *SHOWN_AS_A_WHOLE, SUPERVISOR)))
def test_document_shows_every_module(name: str) -> None:
    """`docs/design.md` names each module in the row of the folder that it stands in."""
    path = MODULES[name]
    if NOT_SHOWN.fullmatch(path.stem):
        return
    folder = path.parent.relative_to(ROOT.parent).as_posix()
    rows = [line for line in DESIGN.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    if folder == "grid" and path.stem in IN_ROWS_OF_THEIR_OWN:
        assert [row for row in rows if IN_ROWS_OF_THEIR_OWN[path.stem] in row]
        return
    (row,) = [row for row in rows if row.startswith(f"| `{folder}/` |")]
    assert f"`{path.stem}`" in row


@pytest.mark.parametrize("room", [*SHOWN_AS_A_WHOLE[:2], SUPERVISOR])
def test_document_shows_every_room(room: str) -> None:
    """`docs/design.md` names the folders whose files it does not name."""
    assert f"`{room.replace('.', '/')}/`" in DESIGN.read_text(encoding="utf-8")


LOADED_BY_NAME = {"grid", "grid.schema_tools.command"}
"""Who loads modules whose names are not written in an import: the public names, and the models that a user names."""


def test_nothing_else_is_loaded_by_name() -> None:
    """No import hides in a text."""
    found = {name for name, path in MODULES.items() if re.search(r"import_module|__import__", path.read_text())}
    assert found == LOADED_BY_NAME
