"""The record of an attempt, as its supervisor writes it: links that are each made in one step."""

from __future__ import annotations

import os
from contextlib import suppress

from grid.service.system.attempt_files import SPAWNER

PRIVATE = 0o700


class Record:
    """The folder that holds the evidence about an attempt.

    It is reached through the home, which is held open: a script may move or remove it, and everything in it.

    Parameters
    ----------
    home
        The service's home.
    folder
        The record's folder, relative to the home.
    """

    def __init__(self, home: str, folder: str) -> None:
        self.folder = folder
        self._home = os.open(home, os.O_RDONLY | os.O_DIRECTORY)

    def has_home(self) -> bool:
        """Return whether the home exists, wherever it is. One that cannot be looked at has not been removed."""
        try:
            return os.fstat(self._home).st_nlink > 0
        except OSError:
            return True

    def make(self) -> None:
        """Make the folder, unless it exists."""
        with suppress(FileExistsError):
            os.mkdir(os.path.dirname(self.folder), PRIVATE, dir_fd=self._home)
        with suppress(FileExistsError):
            os.mkdir(self.folder, PRIVATE, dir_fd=self._home)

    def spawner(self) -> str | None:
        """Return which spawner's supervisors may begin attempts now; None if that is not known."""
        try:
            return os.readlink(f"{os.path.dirname(self.folder)}/{SPAWNER}", dir_fd=self._home)
        except OSError:
            return None

    def has(self, name: str) -> bool:
        """Return whether there is a file of that name."""
        try:
            os.stat(f"{self.folder}/{name}", dir_fd=self._home)
        except OSError:
            return False
        return True

    def claim(self, name: str, text: str) -> bool:
        """Make a link that was not there; return False if it was."""
        # A dangling link, because one step makes it with all its content, and only if there is none yet.
        try:
            os.symlink(text, f"{self.folder}/{name}", dir_fd=self._home)
        except FileExistsError:
            return False
        return True

    def put(self, name: str, text: str | bytes) -> None:
        """Make a link, in place of whatever is there.

        Raises
        ------
        OSError
            If the disk refuses it.
        """
        final = f"{self.folder}/{name}"
        new = f"{final}.{os.urandom(8).hex()}"
        try:
            os.symlink(text, new, dir_fd=self._home)
        except FileNotFoundError:
            self.make()
            os.symlink(text, new, dir_fd=self._home)
        try:
            try:
                os.rename(new, final, src_dir_fd=self._home, dst_dir_fd=self._home)
            except IsADirectoryError:
                os.rename(final, f"{new}.aside", src_dir_fd=self._home, dst_dir_fd=self._home)
                os.rename(new, final, src_dir_fd=self._home, dst_dir_fd=self._home)
        except OSError:
            with suppress(OSError):
                os.unlink(new, dir_fd=self._home)
            raise

    def give_up(self, name: str) -> None:
        """Remove the claim, and the folder unless there is something else in it."""
        with suppress(OSError):
            self.drop(name)
            os.rmdir(self.folder, dir_fd=self._home)

    def drop(self, name: str) -> None:
        """Remove a link."""
        os.unlink(f"{self.folder}/{name}", dir_fd=self._home)
