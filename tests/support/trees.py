"""Trees as scripts may leave them: deep, with strange names, closed, with something mounted in them."""

from __future__ import annotations

import ctypes
import inspect
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

DEEP = 3_000
STRANGE = b"not-utf-8-\xff\xfe"


def make_deep(root: Path, depth: int = DEEP, name: str = "folder") -> None:
    """Make a folder with this many nested ones, each with a file and a link; its paths are longer than any may be."""
    root.mkdir()
    folder = os.open(root, os.O_RDONLY)
    for number in range(depth):
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=folder))
        os.symlink(f"../{number}", "link", dir_fd=folder)
        os.mkdir(name, dir_fd=folder)
        folder = _down(folder, name)
    os.close(os.open("innermost", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=folder))
    os.close(folder)


@contextmanager
def nothing_left(folder: Path) -> Iterator[None]:
    """Remove what is in a folder at the end, whatever happens: pytest itself cannot remove what is so deep."""
    try:
        yield
    finally:
        subprocess.run(["rm", "-rf", *map(str, folder.iterdir())], check=True)


def make_nested(root: str, depth: int, name: str) -> int:
    """Make nested folders in one that exists; return a descriptor of the innermost."""
    folder = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=folder)
        folder = _down(folder, name)
    return folder


def innermost_of(root: Path, depth: int = DEEP, name: str = "folder") -> list[str]:
    """What the innermost folder of such a tree holds, in order."""
    folder = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        folder = _down(folder, name)
    try:
        return sorted(os.listdir(folder))
    finally:
        os.close(folder)


@contextmanager
def bound(folder: Path, to: Path) -> Iterator[None]:
    """Mount one folder on another, which is on the same disk; the test is skipped if it may not."""
    try:
        subprocess.run(["mount", "--bind", str(folder), str(to)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only the superuser can mount")
    place = to.stat()
    try:
        yield
    finally:
        # It may have been moved with the folders around it.
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            points = [line.split(" ")[4] for line in file]
        for point in points:
            if os.path.lexists(point) and os.path.samestat(os.stat(point), place):
                subprocess.run(["umount", "--lazy", point], check=True)


def as_somebody(do: Callable[[Path, int], None], mode: int) -> None:
    """Call a module's function with a folder of its own, as a user whom modes stop: none stops the superuser."""
    with tempfile.TemporaryDirectory(prefix="grid-test-") as folder:
        os.chmod(folder, 0o777)  # noqa: S103 - for that user
        command = [sys.executable, "-m", "tests.support.trees", inspect.getfile(do), do.__name__, folder, str(mode)]
        told = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
        subprocess.run(["chmod", "-R", "u+rwx", folder], check=True)
        assert told.returncode == 0, told.stderr


def main(file: str, name: str, folder: str, mode: str) -> None:
    """Do that, in a process of its own, which has imported everything before it becomes somebody else."""
    spec = spec_from_file_location("called", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: else /proc/self is the superuser's
    getattr(module, name)(Path(folder), int(mode))


def _down(folder: int, name: str) -> int:
    inner = os.open(name, os.O_RDONLY, dir_fd=folder)
    os.close(folder)
    return inner


if __name__ == "__main__":
    main(*sys.argv[1:])
