"""Entrypoints that are modules: `-m package.module`, found in the source code as `python -m` finds them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.errors import SourceError
from grid.source.finding import find_source
from grid.source.modules import find_module, module_of
from grid.source.snapshot import snapshot
from tests.support.source_trees import git, members, write

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="modes, links and sockets are POSIX"),
    pytest.mark.usefixtures("plain_git"),
]


@pytest.mark.parametrize(
    ("entrypoint", "module"),
    [
        ("-m package.module", "package.module"),
        ("-m  package", "package"),
        ("-m größe._x1", "größe._x1"),
        ("-m 01-first.step", "01-first.step"),
        ("train.py", ""),
        ("-m.py", ""),
        ("folder/-m x.py", ""),
    ],
)
def test_which_entrypoints_are_modules(entrypoint, module):
    """What follows `-m` and white space is a module; everything else is a path."""
    assert module_of(entrypoint) == module


@pytest.mark.parametrize("entrypoint", ["-m a/b.py", "-m a.", "-m .a", "-m a..b", "-m -a", "-m train.py x"])
def test_what_is_no_module(entrypoint):
    """What cannot be a module's name is refused, with the form that is expected."""
    with pytest.raises(SourceError, match=r"must name a module after -m, such as '-m package\.module'; "):
        module_of(entrypoint)


def test_arguments_behind_a_module_have_their_place():
    """Arguments in the entrypoint are refused, and the message says where they belong."""
    with pytest.raises(SourceError, match="put its arguments into script_args"):
        module_of("-m a.b --lr 0.1")


@pytest.mark.parametrize(
    ("files", "path", "base"),
    [
        (["pkg/__init__.py", "pkg/mod.py"], "pkg/mod.py", ""),
        (["pkg/mod.py"], "pkg/mod.py", ""),  # a namespace package
        (["pkg/__init__.py", "pkg/mod/__init__.py", "pkg/mod/__main__.py"], "pkg/mod/__main__.py", ""),
        (["pkg/mod/__main__.py"], "pkg/mod/__main__.py", ""),
        (["src/pkg/__init__.py", "src/pkg/mod.py"], "src/pkg/mod.py", "src"),
        (["src/pkg/mod/__main__.py"], "src/pkg/mod/__main__.py", "src"),
        (["pkg/mod.py", "src/pkg/mod.py"], "pkg/mod.py", ""),
        (["pkg/data.txt", "src/pkg/mod.py"], "src/pkg/mod.py", "src"),
        (["pkg/mod.py", "pkg/mod/__main__.py"], "pkg/mod.py", ""),  # a file wins over a mere folder
        (["pkg/mod.py", "pkg/mod/__init__.py", "pkg/mod/__main__.py"], "pkg/mod/__main__.py", ""),
    ],
)
def test_where_a_module_is_found(files, path, base, tmp_path):
    """Below the root or below `src`, as a file, a package or a namespace package: the file that Python runs."""
    found = find_module("pkg.mod", set(files))
    assert (found.path, found.base) == (path, base)
    for name in files:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("print(__file__)" if name == path else "")
    command = [sys.executable, "-m", "pkg.mod"]
    told = subprocess.run(command, cwd=tmp_path / base, check=True, capture_output=True, text=True).stdout.strip()
    assert told == str(tmp_path / path)


_NAMES = ["a", "b", "__init__", "__main__", "src"]
_PATHS = st.lists(st.sampled_from(_NAMES), min_size=1, max_size=4).map(lambda parts: "/".join(parts) + ".py")


@given(files=st.frozensets(_PATHS, max_size=8), name=st.sampled_from(["a", "b", "a.b", "b.a", "a.b.a"]))
def test_modules_are_found_as_python_finds_them(files, name, tmp_path_factory):
    """For any tree, `python -m` in the folder runs that very file, and none where none is found."""
    root = tmp_path_factory.mktemp("tree")
    for path in files:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    found = find_module(name, files)
    base = found.base if found else ""
    script = (
        "import runpy, sys; sys.path[:] = [sys.argv[2], *sys.path[1:]]\n"
        "try: print(runpy._get_module_details(sys.argv[1])[1].origin)\n"
        "except (ImportError, runpy._Error): print()\n"
    )
    command = [sys.executable, "-I", "-S", "-B", "-c", script, name, str(root / base)]
    told = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.strip()
    assert told == (str(root / found.path) if found else "")


@pytest.fixture
def packages(repository):
    """Make a repository with packages in its root and below `src`."""
    write(repository, pkg__tool_dot_py="", src__deep__inner____main___dot_py="")
    (repository / "src" / "deep" / "inner" / "__main__.py").write_text("print(1)\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "packages")
    return repository


@pytest.mark.parametrize("place", [".", "code"])
def test_a_module_of_the_repository_around_the_current_folder(packages, monkeypatch, place):
    """The repository is the current folder's, wherever in it that is; the folder that leads PYTHONPATH is told."""
    monkeypatch.chdir(packages / place)
    source = find_source("-m deep.inner", localdir=False)
    assert (source.root, source.script, source.module) == (str(packages), "src/deep/inner/__main__.py", "deep.inner")
    assert source.import_folder == "src"
    assert find_source("-m pkg.tool", localdir=False).import_folder == ""
    assert find_source(str(packages / "pkg" / "tool.py"), localdir=False).import_folder is None


def test_a_module_of_the_current_folder(packages, monkeypatch):
    """With localdir the current folder is the root."""
    monkeypatch.chdir(packages / "src")
    with snapshot("-m deep.inner", localdir=True) as taken:
        assert taken.script == "deep/inner/__main__.py"
        assert "deep/inner/__main__.py" in members(taken.archive)
        assert "pkg/tool.py" not in members(taken.archive)


@pytest.mark.parametrize("localdir", [False, True])
def test_a_module_that_is_not_there(packages, monkeypatch, localdir):
    """The error says where was looked, and names the nearest modules."""
    monkeypatch.chdir(packages)
    with pytest.raises(SourceError) as refusal:
        find_source("-m deep.iner", localdir=localdir)
    assert str(refusal.value) == (
        f"the module 'deep.iner' was not found below {packages}, nor below {packages}/src; "
        "the nearest modules are deep.inner, src.deep.inner"
    )
    with pytest.raises(SourceError, match=r"; the nearest modules are pkg\.tool$"):
        find_source("-m tool", localdir=localdir)


def test_a_package_that_cannot_be_run(packages, monkeypatch):
    """A package without `__main__.py` is there, but not to be run."""
    monkeypatch.chdir(packages)
    write(packages, src__lib____init___dot_py="")
    (packages / "src" / "lib").mkdir(exist_ok=True)
    (packages / "src" / "lib" / "__init__.py").write_text("")
    with pytest.raises(SourceError, match=r"the module 'lib' is a package that has no __main__\.py"):
        find_source("-m lib", localdir=True)


def test_a_module_that_is_not_committed(packages, monkeypatch):
    """A module that is there, but not in the commit, can be committed."""
    monkeypatch.chdir(packages)
    (packages / "pkg" / "new.py").write_text("")
    with pytest.raises(SourceError, match=r"'pkg\.new' is pkg/new\.py in .*, which is not part .*; commit it, or pass"):
        find_source("-m pkg.new", localdir=False)
    (packages / ".gridignore").write_text("new.py\n")
    with pytest.raises(SourceError, match=r"is pkg/new\.py in .*; \.gridignore there excludes it"):
        find_source("-m pkg.new", localdir=True)


def test_a_module_outside_of_every_repository(folder, monkeypatch, tmp_path):
    """Without a repository or a commit, the message speaks of the current folder."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.chdir(folder)
    with pytest.raises(
        SourceError, match=r"'-m train' is not in a git repository.*localdir=True to send the current f"
    ):
        find_source("-m train", localdir=False)
    git(folder, "init", "-q")
    with pytest.raises(SourceError, match=r"has no commit yet; make one \(git add \. && git commit\), or .*current fo"):
        find_source("-m train", localdir=False)
