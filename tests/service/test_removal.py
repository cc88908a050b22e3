"""Tests of removing trees, whatever a script has left in them."""

from __future__ import annotations

import errno
import os
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from grid.service.system import removal
from grid.service.system.workspace import Workspace, remove_tree
from tests.support.trees import STRANGE, as_somebody, bound, make_deep, nothing_left


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path: Path) -> Iterator[None]:
    """Leave nothing that pytest cannot remove."""
    with nothing_left(tmp_path):
        yield


def test_deep_folders(tmp_path: Path) -> None:
    """Thousands of nested folders are removed, from their place and from where an earlier call has left them."""
    tree, aside = tmp_path / "tree", tmp_path / "aside"
    make_deep(tree)
    make_deep(aside)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, limits[0]), limits[1]))
    try:
        remove_tree(tree, aside)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert list(tmp_path.iterdir()) == []


def test_whatever_is_in_it(tmp_path: Path) -> None:
    """Sockets, pipes, links and names that are not UTF-8 are removed; what links lead to stays as it is."""
    outside, tree = tmp_path / "outside", tmp_path / "tree"
    outside.mkdir(mode=0o500)
    (outside / "kept").touch()
    (tree / "a" / "b").mkdir(parents=True)
    for folder in (tree, tree / "a", tree / "a" / "b"):
        os.mkdir(os.fsencode(folder) + b"/" + STRANGE)
        (folder / os.fsdecode(STRANGE) / "file").touch()
        (folder / "link").symlink_to(outside)
        (folder / "broken").symlink_to("nowhere")
        os.mkfifo(folder / "pipe")
        with socket.socket(socket.AF_UNIX) as listening:
            here = Path.cwd()
            os.chdir(folder)  # a socket's path must be short
            listening.bind("socket")
            os.chdir(here)
    remove_tree(tree, tmp_path / "aside")
    assert list(tmp_path.iterdir()) == [outside]
    assert outside.stat().st_mode & 0o777 == 0o500
    assert list(outside.iterdir()) == [outside / "kept"]


def leave_closed(folder: Path, mode: int) -> None:
    """What the test below does, as another user."""
    tree, aside = folder / "tree", folder / "aside"
    for each in (tree, aside):
        for inner in ("a/b/c", "a/empty"):
            (each / inner).mkdir(parents=True)
        (each / "a" / "b" / "file").touch()
        for closed in ("a/b/c", "a/b", "a/empty", "a", "."):
            (each / closed).chmod(mode)
    remove_tree(tree, aside)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("mode", [0, 0o500, 0o300, 0o600])
def test_closed_folders(mode: int) -> None:
    """Folders that a script has closed for itself are removed, the outermost and empty ones as well."""
    as_somebody(leave_closed, mode)


def test_what_is_mounted(tmp_path: Path) -> None:
    """What is mounted in a tree is not removed, be it on the same disk; everything else is, and the error says why."""
    outside, tree, aside = tmp_path / "outside", tmp_path / "tree", tmp_path / "aside"
    outside.mkdir()
    (outside / "kept").touch()
    for folder in (tree / "mounted", tree / "other", tree / "in" / "mounted"):
        folder.mkdir(parents=True)
        (folder.parent / "file").touch()
    with bound(outside, tree / "mounted"), bound(outside, tree / "in" / "mounted"):
        for _ in range(2):
            with pytest.raises(OSError, match="mounted") as caught:
                remove_tree(tree, aside)
            assert caught.value.errno == errno.EBUSY
            assert not tree.exists()
            assert list(outside.iterdir()) == [outside / "kept"]
            left = [name for _, folders, files in os.walk(aside) for name in (*folders, *files)]
            assert sorted(name for name in left if len(name) != 32) == ["kept", "kept", "mounted", "mounted"]
        # Another tree of the same name leaves its place all the same.
        make_deep(tree, 3)
        with pytest.raises(OSError, match="mounted"):
            remove_tree(tree, aside)
        assert not tree.exists()
    remove_tree(tree, aside)
    assert list(tmp_path.iterdir()) == [outside]


def test_tree_that_is_itself_mounted(tmp_path: Path) -> None:
    """A tree on which something is mounted stays where it is."""
    outside, tree = tmp_path / "outside", tmp_path / "tree"
    for folder in (outside, tree):
        folder.mkdir()
    (outside / "kept").touch()
    with bound(outside, tree):
        with pytest.raises(OSError, match="busy"):
            remove_tree(tree, tmp_path / "aside")
        with pytest.raises(OSError, match="busy"):
            removal.remove(str(tree))
    assert (outside / "kept").exists()


def test_while_it_changes(tmp_path: Path) -> None:
    """Folders that are swapped for links, removed and made again meanwhile: what the links lead to stays."""
    outside, tree, aside = tmp_path / "outside", tmp_path / "tree", tmp_path / "aside"
    outside.mkdir()
    for number in range(100):
        (outside / f"kept-{number}").touch()
    ended = threading.Event()

    def swap(folder: int) -> None:
        # By descriptor, as a script does that works in a folder while it is moved.
        while not ended.is_set():
            for number in range(200):
                for do in (
                    lambda name: os.rmdir(name, dir_fd=folder),
                    lambda name: os.symlink(outside, name, dir_fd=folder),
                    lambda name: os.unlink(name, dir_fd=folder),
                    lambda name: os.mkdir(name, dir_fd=folder),
                ):
                    with suppress(OSError):
                        do(f"kept-{number}")

    for _ in range(5):
        for number in range(200):
            (tree / f"kept-{number}").mkdir(parents=True)
        folder = os.open(tree, os.O_RDONLY)
        script = threading.Thread(target=swap, args=[folder])
        ended.clear()
        script.start()
        try:
            for _ in range(5):
                with suppress(OSError):  # it is filled faster than it is emptied
                    remove_tree(tree, aside)
        finally:
            ended.set()
            script.join()
            os.close(folder)
        remove_tree(tree, aside)
        assert len(list(outside.iterdir())) == 100
    assert list(tmp_path.iterdir()) == [outside]


def test_file_or_link_in_its_place(tmp_path: Path) -> None:
    """What is to be removed may be anything, or nothing."""
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch()
    for name in ("link", "file", "nothing"):
        remove_tree(tmp_path / name, tmp_path / "aside")
        removal.remove(str(tmp_path / name))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "tree").mkdir()
    with pytest.raises(FileNotFoundError):
        remove_tree(tmp_path / "tree", tmp_path / "no-folder" / "aside")
    assert (tmp_path / "tree").exists()


def test_unfinished_uploads(tmp_path: Path) -> None:
    """What uploads have left is removed; what cannot be is in nobody's way."""
    workspace, outside = Workspace(tmp_path / "home"), tmp_path / "outside"
    workspace.prepare()
    outside.mkdir()
    make_deep(workspace.incoming / "deep")
    (workspace.incoming / "archive.tar").touch()
    (workspace.incoming / "mounted").mkdir()
    with bound(outside, workspace.incoming / "mounted"):
        workspace.clear_incoming()
        assert len(list(workspace.incoming.iterdir())) == 1
    workspace.clear_incoming()
    assert list(workspace.incoming.iterdir()) == []
