"""Where an artifact goes below the target folder, and which paths of a service are refused.

A service may be malicious, or its experiments may: no name that it sends is used before it was looked at here. That
nothing leads out by links which lie in the target folder is for :mod:`grid.downloads.target` to see to.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from typing import NamedTuple

from grid.errors import DownloadFailed

__all__ = ["BESIDE", "PARTS", "Place", "Places", "place_of", "shown"]

BESIDE = "_beside"
"""The folder, in that of an experiment, for what lay beside the working copy."""

PARTS = ".grid-parts"
"""The folder, in the target folder, for what is incomplete. No experiment is called so, and no artifact lies there."""

_ELSEWHERE = "\\:" if os.name == "nt" else ""  # with them, the letters of drives
_LONGEST = 180  # bytes of a name that its `.part` begins with; most file systems have names of 255


class Place(NamedTuple):
    """Where one artifact goes."""

    folders: tuple[str, ...]
    """The names of the folders below the target folder, from the top."""
    name: str

    @property
    def path(self) -> str:
        """The path below the target folder."""
        return "/".join((*self.folders, self.name))

    @property
    def part(self) -> str:
        """The name of the file while it is incomplete, in the folder for such; no two places have the same."""
        start = self.name.encode()[:_LONGEST].decode(errors="ignore")
        return f"{start}.{hashlib.sha256(self.path.encode()).hexdigest()[:32]}.part"

    @property
    def note(self) -> str:
        """The name of the file that says what the incomplete one is a part of."""
        return self.part.removesuffix(".part") + ".etag.part"


def place_of(experiment: str, path: str) -> Place:
    """Return where an artifact goes.

    Parameters
    ----------
    experiment
        The name of its experiment.
    path
        Its path, as the service has it.

    Raises
    ------
    DownloadFailed
        If the path, or the name, could lead out of the target folder, or no file can have it.

    Examples
    --------
    >>> place_of("clever-noether-1882-exp0", "ckpt/best.pt").path
    'clever-noether-1882-exp0/ckpt/best.pt'
    >>> place_of("clever-noether-1882-exp0", "../data/x").path
    'clever-noether-1882-exp0/_beside/data/x'
    """
    parts = path.split("/")
    if parts[0] == "..":
        parts[0] = BESIDE
        parts[1:] = parts[1:] or [""]
    for part in (experiment, *parts):
        fault = _fault(part)
        if fault:
            raise _refused(experiment, path, fault)
    if "/" in experiment:
        raise _refused(experiment, path, "the name of an experiment is that of one folder")
    if _plain(experiment) == PARTS:
        raise _refused(experiment, path, "that folder is for what is incomplete")
    return Place((experiment, *parts[:-1]), parts[-1])


def _fault(part: str) -> str | None:
    if part in {"", ".", ".."}:
        return "it would lead out of the folder for it" if part == ".." else "one of its names is empty, or a dot"
    if "\0" in part:
        return "it contains a NUL"
    if any(letter in part for letter in _ELSEWHERE):
        return "it contains what separates names here"
    try:
        part.encode()
    except UnicodeEncodeError:
        return "it is not text"
    return None


def _refused(experiment: str, path: str, fault: str) -> DownloadFailed:
    message = f"the service offers an artifact {path!r} of {experiment!r}, which is not downloaded: {fault}"
    return DownloadFailed(message)


def _plain(name: str) -> str:
    """Return what a file system may take a name for that counts neither case nor how Unicode writes it."""
    letters = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")  # HFS+ does not see them
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", letters).casefold())


def shown(text: object) -> str:
    r"""Return a name, or a path, as it may stand in a message: one that would write to a terminal is quoted.

    Examples
    --------
    >>> shown("out/best.pt"), shown("out/\x1b[2J")
    ('out/best.pt', "'out/\\x1b[2J'")
    """
    plain = str(text)
    return plain if plain.isprintable() else repr(plain)


class Places:
    """The places that the artifacts of a download go to: none is used twice.

    Parameters
    ----------
    is_case_sensitive
        Whether the target folder can hold two names that differ by case alone, or by how Unicode writes them.
    """

    def __init__(self, *, is_case_sensitive: bool) -> None:
        self._is_case_sensitive = is_case_sensitive
        self._taken: dict[str, tuple[str, str]] = {}

    def take(self, experiment: str, path: str) -> Place | None:
        """Return the place of an artifact; None if it was taken for that artifact before.

        Raises
        ------
        DownloadFailed
            As `place_of` does, and if another artifact has that place.
        """
        place = place_of(experiment, path)
        key = place.path
        if not self._is_case_sensitive:
            key = _plain(key)
        owner = self._taken.get(key)
        if owner == (experiment, path):
            return None
        if owner is not None:
            message = f"it would be written to the same place as {owner[1]!r} of {owner[0]!r}"
            raise _refused(experiment, path, message)
        self._taken[key] = (experiment, path)
        return place
