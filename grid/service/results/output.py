"""The output of one attempt, as it grows: how many lines it has, and the index of them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import BinaryIO

from grid.service.executors.protocol import OUTPUT, Files, FileState, Written
from grid.service.results import index
from grid.service.results.index import Entry, Index, Unfit
from grid.service.results.lines import ends_of
from grid.service.system.repeats import Repeats

_log = logging.getLogger(__name__)

_repeats = Repeats(1)

AT_ONCE = 1024 * 1024
"""How many bytes one look reads at most."""
_EVERY = 1_024
"""How many lines there are at most between two entries."""
_LATEST = 253_402_300_799_999_999
"""A script may give its file any time: this is the last one that can be written down, at the end of the year 9999."""
_MANY = 10_000
"""Beyond so many entries there is one at most for each second, and for each so many lines."""


class Output:
    """What an attempt has printed.

    If its script empties or replaces the file, the output is what is in it from then on: its lines are counted anew.

    Parameters
    ----------
    files
        Where it lies.
    written
        Whose it is.
    path
        Where its index is.
    is_new
        Whether the attempt begins only now, and nobody can have missed a line.
    """

    def __init__(self, files: Files, written: Written, path: Path, *, is_new: bool) -> None:
        self._files = files
        self._written = written
        self._path = path
        self._is_loaded = is_new
        # Up to where nobody looked on when it was printed; None until that is known.
        self._missed = 0 if is_new else None
        self._count = 0  # of entries in the index
        self._inode: int | None = None
        self._scanned = 0
        self._waits_since: float | None = None
        self._written_at = float("-inf")
        self.reached = Entry()
        """How far its lines are known: an entry that is not yet in the index, or the last one of it."""
        self.size = 0
        """How large it was when it was last looked at."""

    def nothing_is_missed(self) -> None:
        """Note that the attempt only begins now."""
        if self._missed is None:
            self._missed = 0

    def flush(self, now: float) -> None:
        """Write down what waits for its entry."""
        if self.waits:
            self._write([self.reached], now)

    @property
    def is_through(self) -> bool:
        """Whether everything was read that there was at the last look."""
        return self._scanned >= self.size

    @property
    def waits(self) -> bool:
        """Whether what was found is not in the index yet."""
        return self._waits_since is not None

    def look(self, now: float, *, has_ended: bool = False) -> bool:
        """Look whether there is more, and read at most `AT_ONCE` of it.

        Parameters
        ----------
        now
            The time of a clock that is never set.
        has_ended
            Whether the attempt has ended: what follows the last line feed then is a line, too.

        Returns
        -------
        bool
            Whether there was more, or other lines than before.
        """
        found = self._files.open(self._written, OUTPUT)
        if found is None:  # nothing was printed, or its script has removed the file
            self.size = self._scanned
            return False
        file, state = found
        with file:
            self.size = state.size
            self._missed = state.size if self._missed is None else self._missed
            if not self._is_loaded and state.size:
                self._load(file, state)
            has_changed = self._notice_another(file, state)
            if state.size > self._scanned:
                has_changed |= self._read(file, state, now)
            if has_ended and self.is_through and state.size > self.reached.offset:
                self._reach([self._entry(file, self.reached.lines + 1, state.size, state)], now)
                has_changed = True
        if has_ended or now >= self._written_at + 1:
            self.flush(now)
        return has_changed

    def _load(self, file: BinaryIO, state: FileState) -> None:
        """Go on with the index that an earlier service has made, if it is one of this output."""
        self._is_loaded = True
        try:
            with Index(self._path) as found:
                count = len(found)
                last = found.last
                if last.offset < state.size and not _is_after_line(file, last.offset):
                    # A line that had no end counts only once nothing more can come.
                    count -= 1
                    last = found[count - 1] if count else Entry()
        except (OSError, Unfit):
            return
        if index.fits(last, file, state.size):
            self._count, self.reached, self._scanned, self._inode = count, last, last.offset, state.inode

    def _notice_another(self, file: BinaryIO, state: FileState) -> bool:
        """Begin anew if this is not what was there before; return whether it is not."""
        is_same = state.size >= self._scanned and self._inode in (None, state.inode)
        if is_same and state.size > self._scanned:
            is_same = index.fits(self.reached, file, state.size)
        self._inode = state.inode
        if is_same:
            return False
        self._forget()
        return True

    def _forget(self) -> None:
        self._count = self._scanned = 0
        self._waits_since = None
        self.reached = Entry()
        self._missed = self.size

    def _read(self, file: BinaryIO, state: FileState, now: float) -> bool:
        file.seek(self._scanned)
        # What somebody saw has no entry in common with what nobody saw.
        until = self._missed if self._missed and self._missed > self._scanned else state.size
        content = file.read(min(AT_ONCE, until - self._scanned))
        if not content:  # it has become shorter since
            return False
        start, lines = self._scanned, self.reached.lines
        entries = [
            self._entry(file, lines + place * _EVERY - lines % _EVERY, start + end, state)
            for place, end in enumerate(ends_of(content, _EVERY, _EVERY - lines % _EVERY), 1)
        ]
        last, end = lines + content.count(b"\n"), start + content.rfind(b"\n") + 1
        if last > (entries[-1].lines if entries else lines):
            entries.append(self._entry(file, last, end, state))
        self._scanned = start + len(content)  # not before all was read that may fail: it is tried again
        if entries:
            self._reach(entries, now)
        return bool(entries)

    def _entry(self, file: BinaryIO, lines: int, offset: int, state: FileState) -> Entry:
        was_missed = self.reached.offset < (self._missed or 0)
        is_approximate = was_missed or (self.waits and self.reached.is_approximate)
        # What joins lines that still wait for their entry has the time of the first of them.
        at = self.reached.at if self.waits and not is_approximate else state.modified_at
        at = min(max(at, 0), _LATEST)
        return Entry(lines, offset, at, is_approximate, index.fingerprint(file, offset))

    def _reach(self, entries: list[Entry], now: float) -> None:
        self.reached = entries[-1]
        has_room = self._count < _MANY or now >= self._written_at + 1
        due = entries if has_room else [each for each in entries if not each.lines % _EVERY]
        if due:
            self._write(due, now)
        if not due or due[-1] != entries[-1]:
            self._waits_since = now if self._waits_since is None else self._waits_since

    def _write(self, entries: list[Entry], now: float) -> None:
        try:
            if not index.append(self._path, entries, self._count):
                # Somebody has removed or cut it. It is made again, but for the times.
                self._forget()
                return
        except OSError as error:
            # As on a full disk. The next try tells of these lines, too, but no longer when they were printed.
            self.reached = self.reached._replace(is_approximate=True)
            self._waits_since = now
            self._written_at = now  # so that it is not tried more often than each second
            if _repeats.note("refused") is not None:
                _log.warning("the index %s cannot be written: %s; trying again", self._path, error.strerror)
            return
        if not self._count and self._files.state(self._written, OUTPUT) is None:
            # It was deleted meanwhile, and nobody would remove what was just made. Or its script has removed it.
            index.remove(self._path)
            self._forget()
            return
        self._count += len(entries)
        self._written_at = now
        self._waits_since = None


def _is_after_line(file: BinaryIO, offset: int) -> bool:
    if not offset:
        return True
    file.seek(offset - 1)
    return file.read(1) == b"\n"
