"""Tests of whether a run's folder and links fit its source code, as far as that is known where it is not packed."""

from __future__ import annotations

from pathlib import Path

import pytest

from grid.errors import InvalidArgument
from grid.source.finding import Source, find_source
from grid.source.fitting import check_launcher, check_working_dir, replaced
from tests.support.projects import make_project


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Source code with folders in folders, an empty one, and a link."""
    for folder in ("code/deep", "data", "empty"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("train.py", "code/deep/a.txt", "data/b.txt"):
        (tmp_path / file).touch()
    (tmp_path / "code/deep/a.txt").chmod(0o700)
    (tmp_path / "link").symlink_to("code")
    return find_source(str(tmp_path / "train.py"), localdir=True)


@pytest.mark.parametrize(
    "folder", ["root", "script", "code", "code/deep", "./code/", "code//deep", "link", "link/deep"]
)
def test_folders_that_are_there(source: Source, folder: str) -> None:
    """Each folder of the source code can be started in; what may be a link is left to the service."""
    check_working_dir(source, folder)


@pytest.mark.parametrize("folder", ["nowhere", "code/nowhere", "cod", "train.py", "code/deep/a.txt", "train.py/x"])
def test_folders_that_are_not(source: Source, folder: str) -> None:
    """Any other is refused with what is allowed."""
    with pytest.raises(InvalidArgument, match=rf"working_dir='{folder}' is not part of .*'root', 'script' or"):
        check_working_dir(source, folder)


def test_what_is_replaced(source: Source) -> None:
    """A file, a folder and a link are; what is new, and what lies beside the working copy, is not."""
    data = dict.fromkeys(("data", "code/deep/a.txt", "link", "new", "code/new/x", "../data"), "/there")
    assert replaced(source, data) == [
        f"data: '{path}' of the source code is replaced by a link to /there"
        for path in ("data", "code/deep/a.txt", "link")
    ]


@pytest.mark.parametrize("path", ["train.py", "train.py/x", "link/x", "data/b.txt/c/d"])
def test_links_that_cannot_be(source: Source, path: str) -> None:
    """None takes the place of the script, and none stands behind a file or a link."""
    with pytest.raises(InvalidArgument, match=f"data='{path}'"):
        replaced(source, {path: "/there"})


@pytest.mark.parametrize("path", ["data", "code", "code/deep"])
def test_links_in_the_place_of_the_folder_where_it_starts(source: Source, path: str) -> None:
    """None takes the place of the folder in which the script starts, or of one around it."""
    folder = path if path == "data" else "code/deep"
    with pytest.raises(InvalidArgument, match=f"data='{path}' would take the place of .* of {folder}, where it starts"):
        replaced(source, {path: "/there"}, folder=folder)
    replaced(source, {"other": "/there", f"{folder}/new": "/there"}, folder=folder)


@pytest.mark.parametrize(
    ("launcher", "folder"),
    [
        ("", ""),
        ("torchrun -n 2", ""),
        ("/usr/bin/env", ""),
        ("code/deep/a.txt x", ""),
        ("deep/a.txt", "code"),
        ("../code/deep/a.txt", "data"),
        ("link/anything", ""),
        ("./run-{index}", ""),
    ],
)
def test_launchers_that_may_be_there(source: Source, launcher: str, folder: str) -> None:
    """A program of the source code, seen from where the script starts, is; what else may be there the service says."""
    check_launcher(source, launcher, folder)


@pytest.mark.parametrize(
    ("launcher", "folder", "seen_from"),
    [
        ("./nothing -x", "", "its root"),
        ("code/train.py", "", "its root"),
        ("./train.py", "code", "code"),
        ("../outside", "", "its root"),
        ("train.py/x", "", "its root"),
    ],
)
def test_launchers_that_are_not_there(source: Source, launcher: str, folder: str, seen_from: str) -> None:
    """Any other path is refused before anything is sent, with the folder that it is seen from."""
    with pytest.raises(InvalidArgument, match=f"launcher='{launcher}': .* is not part of .*, seen from {seen_from}, "):
        check_launcher(source, launcher, folder)


@pytest.mark.parametrize("localdir", [False, True])
def test_launchers_that_cannot_be_executed(tmp_path: Path, localdir: bool) -> None:
    """What counts is what is sent: of a commit the mode that was committed, of a folder that of the file."""
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    make_project(tmp_path, "")
    script = str(tmp_path / "run.py")
    with pytest.raises(InvalidArgument, match=r"'\./tool' of the source code is not executable; chmod \+x it"):
        check_launcher(find_source(script, localdir=localdir), "./tool", "")
    (tmp_path / "tool").chmod(0o700)
    if not localdir:
        with pytest.raises(InvalidArgument, match="and commit that"):
            check_launcher(find_source(script, localdir=False), "./tool", "")
        make_project(tmp_path, "")
    (tmp_path / "tool").chmod(0o700 if localdir else 0o600)
    check_launcher(find_source(script, localdir=localdir), "./tool", "")
