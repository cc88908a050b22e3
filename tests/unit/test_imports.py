"""From where a run's scripts import their packages: editable installs, as the tools write them, and what is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import grid
from grid.source.finding import find_source
from grid.source.imports import imports_of
from grid.source.installed import installed
from tests.support.source_trees import git

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="modes, links and sockets are POSIX"),
    pytest.mark.usefixtures("plain_git"),
]


class World:
    """A repository, and a folder of installed packages."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "project"
        self.place = folder / "site-packages"
        self.root.mkdir()
        self.place.mkdir()

    def commit(self, *paths: str) -> None:
        """Commit empty files."""
        for path in paths:
            write(self.root / path)
        git(self.root, "init", "-q")
        git(self.root, "add", "-A")
        git(self.root, "commit", "-q", "-m", "files")

    def project(self, name: str, folder: Path) -> None:
        """Note what pip notes of a project in editable mode."""
        facts = {"dir_info": {"editable": True}, "url": folder.as_uri()}
        write(self.place / f"{name}-1.0.dist-info" / "direct_url.json", json.dumps(facts))

    def imports(self, script: str = "run.py", folder: str = "", python_path: str = "", *, localdir: bool = False):
        """Return where the scripts of a run find their packages."""
        source = find_source(str(self.root / script), localdir=localdir)
        return imports_of(source, installed([self.place]), folder=folder, python_path=python_path)


def write(path: Path, text: str = "") -> None:
    """Write a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def world(tmp_path):
    """Make a repository with a script, and a folder of installed packages."""
    world = World(tmp_path)
    world.commit("run.py")
    return world


FINDER = """\
import sys
MAPPING: dict[str, str] = {!r}
NAMESPACES: dict[str, list[str]] = {{}}
class _EditableFinder: pass
raise SystemExit('this file was executed')
"""


def finder_of_setuptools(world: World, mapping: dict[str, str]) -> None:
    """Write what setuptools writes for a layout that is no single folder."""
    name = "__editable___it_1_finder"
    text = FINDER.format({module: str(world.root / path) for module, path in mapping.items()})
    write(world.place / f"{name}.py", text)
    write(world.place / "__editable__.it-1.pth", f"import {name}; {name}.install()")


@pytest.mark.parametrize("folder", ["src", "libs/one/src", "."])
@pytest.mark.parametrize("localdir", [False, True])
def test_a_folder_that_a_pth_file_names(world, folder, localdir):
    """That very folder of the working copy comes first: setuptools with `src`, hatchling, flit, poetry, pdm."""
    world.commit(f"{folder}/it/__init__.py")
    world.project("it", (world.root / folder).parent if folder != "." else world.root)
    write(world.place / "_it.pth", f"# comment\n\n{world.root / folder}\n")
    found = world.imports(localdir=localdir)
    assert (found.paths, found.warnings) == ((folder,), ())


@pytest.mark.parametrize(
    ("mapping", "paths"),
    [
        ({"it": "it"}, (".",)),
        ({"it": "libs/it"}, ("libs",)),
        ({"it": "it", "other": "other"}, (".",)),
        ({"it": "libs/it", "other": "src/other"}, ("libs", "src")),
        ({"name.space": "libs/name/space"}, ("libs",)),
        ({"module": "libs/module"}, ("libs",)),  # of `module.py`
    ],
)
def test_the_mapping_of_a_finder(world, mapping, paths):
    """The folders that hold what a finder of setuptools maps; its file is read and not executed."""
    world.commit(*(f"{path}/__init__.py" if module != "module" else f"{path}.py" for module, path in mapping.items()))
    world.project("it", world.root)
    finder_of_setuptools(world, mapping)
    found = world.imports()
    assert (found.paths, found.warnings) == (paths, ())


def test_the_modules_of_editables(world):
    """What hatchling and pdm map by `editables`: packages and modules."""
    world.commit("src/it/__init__.py", "lib/module.py")
    write(
        world.place / "_editable_impl_it.py",
        "from editables.redirector import RedirectingFinder as F\nF.install()\n"
        f"F.map_module('it', {str(world.root / 'src/it/__init__.py')!r})\n"
        f"F.map_module('module', {str(world.root / 'lib/module.py')!r})\nF.map_module(*x)\nF.map_module('a')\n",
    )
    write(world.place / "_editable_impl_it.pth", "import _editable_impl_it")
    world.project("it", world.root)
    assert (world.imports().paths, world.imports().warnings) == (("src", "lib"), ())


def cannot(world: World, folder: Path | None = None) -> str:
    """Return what is said of a project that cannot be led to the source code of the run."""
    return (
        f"pip install -e of it ({folder or world.root}) cannot be led to the source code of the run: scripts import "
        "what lies there when they run, not what lay there at the start"
    )


@pytest.mark.parametrize("mapping", [{"it": "lib"}, {"name.it": "libs/it"}, {"it": "it", "other": "lib"}])
def test_a_package_under_another_name(world, mapping):
    """A package that its finder calls by another name than its folder's cannot be led: that is told."""
    world.commit(*(f"{path}/__init__.py" for path in mapping.values()))
    world.project("it", world.root)
    finder_of_setuptools(world, mapping)
    assert world.imports().warnings == (cannot(world),)


@pytest.mark.parametrize("line", ["import _it_editable", "import _it_editable_loader; x()", ""])
def test_a_finder_of_another_kind(world, line):
    """Finders of scikit-build-core and meson-python come before every path: that is told, and their files stay shut."""
    world.commit("src/it/__init__.py")
    world.project("it", world.root)
    write(world.place / "it.pth", line)
    for name in ("_it_editable", "_it_editable_loader"):
        write(world.place / f"{name}.py", "MAPPING = open('/nowhere')\nraise SystemExit\n")
    assert (world.imports().paths, world.imports().warnings) == ((), (cannot(world),))


def test_a_tree_of_links(world):
    """What setuptools makes in its strict mode lies in a folder that is not sent."""
    world.commit("src/it/__init__.py")
    world.project("it", world.root)
    tree = world.root / "build" / "__editable__.it"
    write(tree / "it" / "__init__.py")
    write(world.place / "it.pth", str(tree))
    # Its package is found there as well, but that is one thing to say, not two.
    assert world.imports().warnings == (cannot(world),)


def test_projects_of_one_repository(world):
    """Each project of several is led to its own folder; one that cannot be is told apart from those around it."""
    world.commit("a/src/aa/__init__.py", "b/bb/__init__.py", "top/__init__.py")
    world.project("it", world.root / "b")
    world.project("aa", world.root / "a")
    world.project("top", world.root)
    write(world.place / "aa.pth", str(world.root / "a" / "src"))
    write(world.place / "top.pth", str(world.root))
    found = world.imports()
    assert (found.paths, found.warnings) == (("a/src", "."), (cannot(world, world.root / "b"),))


def test_projects_from_elsewhere(world, tmp_path):
    """A project outside of the repository is not frozen: one line names all of them. Grid itself is not told."""
    for name in ("near", "far"):
        write(tmp_path / name / "src" / name / "__init__.py")
        world.project(name, tmp_path / name)
        write(world.place / f"{name}.pth", str(tmp_path / name / "src"))
    world.project("grid_runs", Path(grid.__file__).parents[1])
    assert world.imports().paths == ()
    (warning,) = world.imports().warnings
    assert warning == (
        f"pip install -e of far ({tmp_path}/far), near ({tmp_path}/near) is not part of the source code of the run: "
        "scripts import what lies there when they run, not what lay there at the start"
    )


def test_a_repository_behind_a_link(world, tmp_path):
    """It does not matter by which path a project was installed."""
    world.commit("src/it/__init__.py")
    (tmp_path / "way").symlink_to(world.root)
    world.project("it", tmp_path / "way")
    write(world.place / "it.pth", str(tmp_path / "way" / "src"))
    assert (world.imports().paths, world.imports().warnings) == (("src",), ())


# --- what is looked up -----------------------------------------------------------------------------------------------


def elsewhere(world: World, name: str = "it", place: str = "it") -> tuple[str]:
    """Return what is said of a package that is imported from somewhere else."""
    return (f"scripts would import {name} from {world.place / place}, and not from the source code of the run",)


@pytest.mark.parametrize("place", ["it/__init__.py", "it.py"])
@pytest.mark.parametrize("package", ["src/it", "libs/one/src/it", "libs/two/it"])
def test_a_package_that_is_installed_as_well(world, place, package):
    """The package of the repository is not the one that would be imported: that names it, and the place."""
    world.commit(f"{package}/__init__.py", "libs/one/pyproject.toml", "libs/two/setup.py")
    assert world.imports().warnings == ()
    write(world.place / place)
    assert world.imports().warnings == elsewhere(world, place=place.removesuffix("/__init__.py"))
    write(world.place / "it.pth", str((world.root / package).parent))
    assert world.imports().warnings == ()


def test_a_mere_folder_is_no_package(world):
    """A folder without `__init__.py` loses to every package, wherever that is."""
    world.commit("src/it/__init__.py")
    write(world.place / "it" / "data.txt")
    assert world.imports().warnings == ()
    write(world.place / "more.pth", str(world.place / "more"))
    write(world.place / "more" / "it.py")
    assert world.imports().warnings == elsewhere(world, place="more/it.py")


@pytest.mark.parametrize(
    ("script", "folder", "python_path"),
    [
        ("src/run.py", "", ""),  # the script's own folder comes first
        ("run.py", "", "src"),
        ("run.py", "", "/nowhere:src"),
        ("run.py", "src", "."),
        ("tools/run.sh", "src", ""),  # what a shell script starts is seen from its working folder
    ],
)
def test_folders_that_come_before(world, script, folder, python_path):
    """Where the script is, and the run's own PYTHONPATH, come before what is installed."""
    world.commit("src/it/__init__.py", "src/run.py", "tools/run.sh", "tools/run.py")
    write(world.place / "it" / "__init__.py")
    assert world.imports(script, folder, python_path).warnings == ()
    assert world.imports("tools/run.py", folder, "").warnings == elsewhere(world)


def test_the_folder_of_a_module(world, monkeypatch):
    """A module of the `src` layout finds what lies beside its package."""
    world.commit("src/it/__init__.py", "src/it/__main__.py")
    write(world.place / "it" / "__init__.py")
    monkeypatch.chdir(world.root)
    source = find_source("-m it", localdir=False)
    assert imports_of(source, installed([world.place]), folder="").warnings == ()


def test_the_live_folder_on_the_path(world):
    """An absolute path into the user's own folder is somewhere else, too."""
    world.commit("src/it/__init__.py")
    (warning,) = world.imports(python_path=str(world.root / "src")).warnings
    assert warning == f"scripts would import it from {world.root}/src/it, and not from the source code of the run"


def test_what_this_process_has_imported_does_not_matter(world, monkeypatch):
    """Neither modules that are imported here, nor paths that were added here, are what a script will find."""
    world.commit("src/it/__init__.py")
    write(world.place.parent / "here" / "it.py")
    monkeypatch.syspath_prepend(str(world.place.parent / "here"))
    monkeypatch.setitem(sys.modules, "it", sys)
    monkeypatch.chdir(world.place.parent / "here")
    assert world.imports().warnings == ()


@pytest.mark.parametrize("package", ["src/json", "src/sys", "vendor/it", "src/it/it", "src/not-a-name"])
def test_packages_that_nobody_expects(world, package):
    """The standard library, and packages that are not on top, are not looked up."""
    world.commit(f"{package}/__init__.py", *(["src/it/__init__.py"] if package == "src/it/it" else []))
    name = Path(package).name
    write(world.place / name / "__init__.py")
    expected = elsewhere(world) if package == "src/it/it" else ()  # because of `src/it`, and once
    assert world.imports().warnings == expected


def test_a_package_that_only_a_finder_finds(world, tmp_path):
    """A finder of setuptools is asked last; what it finds elsewhere is told."""
    world.commit("src/it/__init__.py")
    write(tmp_path / "old" / "it" / "__init__.py")
    finder_of_setuptools(world, {"it": "../old/it"})
    (warning,) = world.imports().warnings
    assert warning.startswith(f"scripts would import it from {world.root}/../old/it, and not")


# --- what is read ----------------------------------------------------------------------------------------------------


def test_what_is_of_no_use_is_passed_over(tmp_path):
    """Files that are broken, or of another form, are passed over, as Python does."""
    place = tmp_path / "site"
    for number, text in enumerate(["{", "[]", "{}", '{"dir_info": 1}', '{"dir_info": {"editable": true}, "url": 1}']):
        write(place / f"a{number}-1.dist-info" / "direct_url.json", text)
    facts = {"dir_info": {"editable": True}, "url": "git+https://example.org/x"}
    write(place / "b-1.dist-info" / "direct_url.json", json.dumps(facts))
    write(place / "c-1.dist-info" / "direct_url.json", json.dumps({"dir_info": {}, "url": "file:///x"}))
    (place / "d-1.dist-info").write_text("")
    (place / "binary.pth").write_bytes(b"\xff\xfe\0\n/nowhere\n")
    (place / "folder.pth").mkdir()
    write(place / ".hidden.pth", str(tmp_path))
    write(place / "broken.py", "MAPPING = (")
    write(place / "odd.py", "MAPPING = 3\nMAPPING = {1: 2}\nmap_module(1, 2)\n")
    write(place / "code.pth", "import broken\nimport odd\nimport nowhere\nimport os; x\nimport\nimport ../x\n")
    found = installed([place, tmp_path / "none", place])
    assert (found.folders, found.added, found.projects) == ((str(place),), (), ())
    assert found.mapped == {}


def test_names_with_spaces_and_other_letters(tmp_path):
    """Names are told as they are, and paths are those that the address means."""
    place = tmp_path / "site"
    folder = tmp_path / "größe und mehr"
    write(place / "my_tool-1.2.dev3.dist-info" / "direct_url.json", json.dumps({
        "dir_info": {"editable": True}, "url": folder.as_uri(),
    }))  # fmt: skip
    (project,) = installed([place]).projects
    assert (project.name, project.folder) == ("my_tool", str(folder))


def test_the_places_of_this_interpreter():
    """By default it is this interpreter's own packages that are read."""
    assert any(Path(folder, "pytest").is_dir() for folder in installed().folders)
