"""Makes files survive a loss of power, with what was written into them.

A file is as durable as its last sync, and a name (made, renamed or removed) as the last sync of its folder.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn


def sync_file(path: str | os.PathLike[str]) -> None:
    """Return once what was written to a file is on the disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Return once the names in a folder are on the disk."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def sync_tree(folder: Path) -> None:
    """Return once everything in a folder is on the disk.

    Call it when everything is written: the first sync then flushes most of the other files too.
    """
    for path, _, names in os.walk(folder, onerror=_raise):
        for name in names:
            file = Path(path, name)
            if not file.is_symlink():  # a link is a name and nothing else: its folder's sync covers it
                sync_file(file)
        sync_folder(path)


def _raise(error: OSError) -> NoReturn:
    raise error  # by default a folder that cannot be read is passed over


def _sync(path: str | os.PathLike[str], flags: int) -> None:
    descriptor = os.open(path, flags | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
