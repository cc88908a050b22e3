"""Disks of a test's own: a small one, one that becomes read-only. Tests that may not mount use a substitute or skip."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """Yield a folder on a disk of its own, of this size."""
    _mount(folder, f"size={mebibytes}m,mode=0700")
    try:
        yield folder
    finally:
        # A process that is just ending may still hold it: it is detached, and vanishes with the last of them.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[Callable[[], None]]:
    """Yield a function that makes a folder read-only until the end."""
    if os.geteuid() != 0:
        yield lambda: folder.chmod(0o500)
        folder.chmod(0o700)
        return
    # Permissions do not stop the superuser; a read-only disk does.
    with small_disk(folder, 8):
        yield lambda: _run("mount", "-o", "remount,ro", str(folder))


@contextmanager
def read_only_file(file: Path) -> Iterator[None]:
    """Make a file read-only, in a folder that is writable."""
    if os.geteuid() != 0:
        file.chmod(0o400)
        yield
        file.chmod(0o600)
        return
    try:
        _run("mount", "--bind", str(file), str(file))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a file can only be made read-only for the superuser where that may mount")
    try:
        _run("mount", "-o", "remount,bind,ro", str(file))
        yield
    finally:
        _run("umount", "--lazy", str(file))


def _mount(folder: Path, options: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _run("mount", "-t", "tmpfs", "-o", options, "grid-test", str(folder))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a disk of the test's own can only be mounted by the superuser")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
