"""The record of an attempt, as its supervisor writes it: links that are each made in one step."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from grid.service.system.attempt_files import SPAWNER

PRIVATE = 0o700


_MENDED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES})


def _random() -> str:
    return os.urandom(8).hex()


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
        """Make the folder, unless it exists; what else a script has put in its place is moved aside."""
        for folder in (os.path.dirname(self.folder), self.folder):
            try:
                os.mkdir(folder, PRIVATE, dir_fd=self._home)
            except FileExistsError:
                status = os.lstat(folder, dir_fd=self._home)
                if not stat.S_ISDIR(status.st_mode):
                    os.rename(folder, f"{folder}.{_random()}", src_dir_fd=self._home, dst_dir_fd=self._home)
                    os.mkdir(folder, PRIVATE, dir_fd=self._home)
                elif status.st_mode & PRIVATE != PRIVATE:
                    os.chmod(folder, PRIVATE, dir_fd=self._home)

    def spawner(self) -> str | None:
        """Return which spawner's supervisors may begin attempts now; None if that is not known."""
        try:
            return os.readlink(f"{os.path.dirname(self.folder)}/{SPAWNER}", dir_fd=self._home)
        except OSError:
            return None

    def says(self, name: str, text: str) -> bool:
        """Return whether there is a link of that name that says that."""
        try:
            return os.readlink(f"{self.folder}/{name}", dir_fd=self._home) == text
        except OSError:
            return False

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
        link = f"{self.folder}/{name}"
        try:
            try:
                os.symlink(text, link, dir_fd=self._home)
            except FileNotFoundError:  # another supervisor has given up, and removed the folder
                self.make()
                os.symlink(text, link, dir_fd=self._home)
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
        new = f"{final}.{_random()}"
        try:
            os.symlink(text, new, dir_fd=self._home)
        except OSError as error:
            if error.errno not in _MENDED:
                raise
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
