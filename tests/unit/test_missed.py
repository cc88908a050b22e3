"""What a run may miss: files that its arguments name, modules that its script could import, pointers of Git LFS."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from grid.source.finding import find_source
from grid.source.missed import importable_files, importable_warning, named_paths, named_warning
from grid.source.snapshot import pack_source
from tests.support.source_trees import git, members, write

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="modes, links and sockets are POSIX"),
    pytest.mark.usefixtures("plain_git"),
]


@pytest.fixture(params=[False, True], ids=["commit", "localdir"])
def found(request, tmp_path):
    """Source code with data in it, and beside it, that is not part of it."""
    root = tmp_path / "project"
    write(root, train_dot_py="", data__prepare_dot_py="", _dot_gitignore="*.bin\nout/\n", readme="")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    write(root, data__train_dot_bin="x", data__1_dot_bin="x", out__a__b="x", _dot_venv__x="x")
    write(root, **{"7.bin": "x", "data/with space.bin": "x"})
    write(tmp_path, shared__x="x", other__deep__x="x")
    (root / ".gitignore").write_text("*.bin\nout/\n.venv\n")
    return find_source(str(root / "train.py"), localdir=request.param)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("data/train.bin", ["data/train.bin"]),
        ("--data=data/train.bin", ["data/train.bin"]),
        ("./data/../data//train.bin", ["data/train.bin"]),
        ("+data.path=data/train.bin", ["data/train.bin"]),
        ("['data/train.bin', 'data/1.bin']", ["data/train.bin", "data/1.bin"]),
        ("--x=[data/train.bin,nothing]", ["data/train.bin"]),
        ("data/with space.bin", ["data/with space.bin"]),
        ("choice(['data/1.bin', 'data/2.bin'], 1)", ["data/1.bin"]),
        ("out", ["out"]),
        ("out/a", ["out/a"]),
        ("out/a/b", ["out/a/b"]),
        ("data", ["data/1.bin", "data/train.bin", "data/with space.bin"]),
        ("../shared", ["../shared"]),
        ("../shared/x", ["../shared/x"]),
        (".venv", [".venv"]),
        # What is part of the run, is not there, is no path, or is read where it is:
        ("data/prepare.py", []),
        ("readme", []),
        ("data/val.bin", []),
        (".", []),
        ("..", []),
        ("../../shared", []),
        ("", []),
        ("0.1", []),
        ("--out", []),
        ("-out", []),
        ("~/x", []),
        ("a\0b", []),
        ("{root}/data/train.bin", []),
    ],
)
def test_arguments_that_name_what_is_missing(found, text, named):
    """An argument, or a part of one, that is a path to what is not part of the run; of a folder, what of it is not."""
    assert named_paths(found, [text.replace("{root}", found.root)], folder="", linked=[]) == named


def test_numbers_are_no_paths(found):
    """A file that is called like a number is not what a number means."""
    write(Path(found.root), out__7="x")
    assert named_paths(found, ["7"], folder="out", linked=[]) == []
    assert named_paths(found, ["out/7"], folder="", linked=[]) == ["out/7"]


def test_paths_are_seen_from_the_working_folder_and_from_the_root(found):
    """Both are looked at; what begins with `..` is seen from the working folder alone."""
    assert named_paths(found, ["train.bin"], folder="data", linked=[]) == ["data/train.bin"]
    assert named_paths(found, ["data/train.bin"], folder="data", linked=[]) == ["data/train.bin"]
    assert named_paths(found, ["../out"], folder="data", linked=[]) == ["out"]
    assert named_paths(found, ["../shared"], folder="data", linked=[]) == []
    assert named_paths(found, ["../../shared"], folder="data", linked=[]) == ["../shared"]


def test_a_working_folder_that_cannot_be(found):
    """A folder that the service will refuse is nothing to look into."""
    assert named_paths(found, ["tmp", "."], folder="/", linked=[]) == []


def test_what_is_linked_in_is_not_missed(found):
    """What `data` puts into the working copy is there."""
    texts = ["data/train.bin", "out/a", "../shared"]
    linked = ["data/train.bin", "./out", "../shared/"]
    assert named_paths(found, texts, folder="", linked=linked) == []
    assert named_paths(found, ["data"], folder="", linked=["data/train.bin", "data/1.bin"]) == ["data/with space.bin"]


def test_what_is_said_of_named_paths(found):
    """One line names them, and shows how the first is linked in."""
    root = found.root
    assert named_warning(found, ["data/train.bin"]) == (
        "named by the arguments, but not part of the run: data/train.bin; "
        f"data={{'data/train.bin': '{root}/data/train.bin'}} links it in"
    )
    assert named_warning(found, ["out/", "b", "c", "d", "e"]) == (
        f"named by the arguments, but not part of the run: out/, b, c and 2 more; data={{'out': '{root}/out'}} links "
        "the first in"
    )
    assert f"data={{'../shared': '{os.path.dirname(root)}/shared'}}" in named_warning(found, ["../shared"])


def test_modules_beside_the_script(repository):
    """Python files and packages beside the script that are not committed are told; other files do not matter."""
    for path in ["helper.py", "lib/__init__.py", "notes.txt", "not-a-name.py", "other/x.py", "../tool.py"]:
        (repository / "code" / path).parent.mkdir(exist_ok=True)
        (repository / "code" / path).write_text("")
    source = find_source(str(repository / "code" / "train.py"), localdir=False)
    assert importable_files(source) == ["code/helper.py", "code/lib/"]
    assert importable_warning(source, importable_files(source)) == (
        "beside the script, but not part of the run, which cannot import them: code/helper.py, code/lib/; commit them"
    )
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "helpers")
    assert importable_files(find_source(str(repository / "code" / "train.py"), localdir=False)) == []


def test_modules_below_the_folder_that_leads_the_path(repository, monkeypatch):
    """A module is beside what its package is in, too."""
    write(repository, src__pkg__mod_dot_py="")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "package")
    write(repository, src__tool_dot_py="", src__pkg__helper_dot_py="", elsewhere_dot_py="")
    monkeypatch.chdir(repository)
    assert importable_files(find_source("-m pkg.mod", localdir=False)) == ["src/tool.py", "src/pkg/helper.py"]


def test_modules_that_an_ignore_file_excludes(folder):
    """With localdir, the ignore file is the reason."""
    write(folder, helper_dot_py="", _dot_gridignore="helper.py\n")
    source = find_source(str(folder / "train.py"), localdir=True)
    assert importable_warning(source, importable_files(source)).endswith(
        "which cannot import it: helper.py; an ignore file excludes it"
    )


# --- Git LFS ---------------------------------------------------------------------------------------------------------

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123456\n"


@pytest.fixture
def with_pointers(repository):
    """A repository with two pointers, of which one has the attribute of LFS, and things of that size that are none."""
    write(repository, **{".gitattributes": "*.pt filter=lfs\n", "m.pt": POINTER, "n.bin": POINTER})
    write(repository, **{"o.pt": "x" * len(POINTER), "p.pt": POINTER * 2})
    os.symlink("x" * len(POINTER), repository / "link")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "pointers")
    return repository


@pytest.fixture
def lfs(tmp_path, monkeypatch):
    """A program in the place of git-lfs: it writes the content that a pointer stands for."""
    program = tmp_path / "bin" / "git-lfs"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ "$2" = --skip ] && exec cat\ncat >/dev/null\necho content\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def test_pointers_are_found_in_a_commit_and_in_a_folder(with_pointers):
    """Without LFS, pointers are packed as they are, and are told."""
    write(with_pointers, train_dot_py="")
    source = find_source(str(with_pointers / "code" / "train.py"), localdir=False)
    assert source.pointers == ("m.pt", "n.bin")
    with pack_source(source) as packed:
        assert packed.pointers == ("m.pt", "n.bin")
    with pack_source(find_source(str(with_pointers / "train.py"), localdir=True)) as packed:
        assert packed.pointers == ("m.pt", "n.bin")


@pytest.mark.parametrize(("smudge", "expected"), [("git-lfs smudge", ("n.bin",)), ("git-lfs --skip", None)])
def test_pointers_that_git_replaces(with_pointers, lfs, smudge, expected):
    """Where git-lfs is installed, git packs the files themselves; where that is switched off, it does not."""
    git(with_pointers, "config", "filter.lfs.smudge", f"{smudge} {'--skip' if 'skip' in smudge else ''}".strip())
    source = find_source(str(with_pointers / "code" / "train.py"), localdir=False)
    expected = expected or ("m.pt", "n.bin")
    assert source.pointers == expected
    with pack_source(source) as packed:
        assert packed.pointers == expected
        assert (members(packed.archive)["m.pt"].size == len(POINTER)) is ("m.pt" in expected)


def test_what_is_packed_is_looked_at_again(with_pointers, lfs, monkeypatch):
    """A forecast that fails is mended when the source code is packed."""
    git(with_pointers, "config", "filter.lfs.smudge", "cat")
    monkeypatch.setenv("GIT_LFS_SKIP_SMUDGE", "0")
    source = find_source(str(with_pointers / "code" / "train.py"), localdir=False)
    assert source.pointers == ("n.bin",)
    with pack_source(source) as packed:
        assert packed.pointers == ("m.pt", "n.bin")
    monkeypatch.setenv("GIT_LFS_SKIP_SMUDGE", "1")
    assert find_source(str(with_pointers / "code" / "train.py"), localdir=False).pointers == ("m.pt", "n.bin")
