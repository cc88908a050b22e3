"""Fixtures: servers whose answers the test writes, and source code for snapshots."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.raw_service import Server
from tests.support.source_trees import git, write


@pytest.fixture
def server() -> Iterator[Server]:
    """A server whose answers the test sets."""
    with Server() as running:
        yield running


@pytest.fixture
def unused_url() -> str:
    """Return an address where nothing listens."""
    with Server() as gone:
        return gone.url


@pytest.fixture
def plain_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the machine's git configuration out, and the temporary archives inside the test's folder."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Make a repository with one commit that holds a script in a folder."""
    root = tmp_path / "project"
    root.mkdir()
    git(root, "init", "-q")
    write(root, code__train_dot_py="print(1)\n", README="read me\n")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder that holds a script and is not a repository."""
    root = tmp_path / "folder"
    root.mkdir()
    write(root, train_dot_py="print(1)\n")
    return root
