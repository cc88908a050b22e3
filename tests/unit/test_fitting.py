"""Tests of whether a run's folder and links fit its source code, as far as that is known where it is not packed."""

from __future__ import annotations

from pathlib import Path

import pytest

from grid.errors import InvalidArgument
from grid.source.finding import Source, find_source
from grid.source.fitting import check_working_dir, replaced


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Source code with folders in folders, an empty one, and a link."""
    for folder in ("code/deep", "data", "empty"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("train.py", "code/deep/a.txt", "data/b.txt"):
        (tmp_path / file).touch()
    (tmp_path / "link").symlink_to("code")
    return find_source(str(tmp_path / "train.py"), localdir=True)


@pytest.mark.parametrize(
    "folder", ["root", "script", "code", "code/deep", "./code/", "code//deep", "link", "link/deep"]
)
def test_folders_that_are_there(source: Source, folder: str) -> None:
    """Each folder of the source code can be started in; what may be a link is left to the service."""
    check_working_dir(source, folder)


@pytest.mark.parametrize("folder", ["nowhere", "code/nowhere", "cod"])
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
