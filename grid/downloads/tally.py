"""How far a download has come. How that is shown is not known here."""

from __future__ import annotations

import time

__all__ = ["Tally"]

_UNITS = ("kB", "MB", "GB", "TB")
_KILO = 1_000


class Tally:
    """Counts files and bytes; written by the loop and by threads, and read by whoever shows it."""

    def __init__(self) -> None:
        self.files = self.known_files = 0
        self.bytes = self.known_bytes = 0
        self.is_listed = False
        """Whether all files are known."""
        self._arrived = 0
        self._begun = time.monotonic()

    def expect(self, size: int) -> None:
        """Note a file that will be there in the end."""
        self.known_files += 1
        self.known_bytes += size

    def arrived(self, count: int) -> None:
        """Note bytes that have come; fewer than none for those that have to come again."""
        self.bytes += count
        self._arrived += max(count, 0)

    def was_there(self, size: int) -> None:
        """Note bytes that need not come."""
        self.bytes += size

    def done(self) -> None:
        """Note that a file is complete, or need not come."""
        self.files += 1

    def line(self, between: str) -> str:
        """Return how far it is, in one line whose parts have this between them."""
        more = "" if self.is_listed else "+"
        speed = self._arrived / max(time.monotonic() - self._begun, 0.001)
        parts = (
            f"{self.files}/{self.known_files}{more} files",
            f"{size_text(self.bytes)} of {size_text(self.known_bytes)}{more}",
            f"{size_text(speed)}/s",
        )
        return between.join(parts)


def size_text(size: float) -> str:
    """Return a number of bytes as people write it.

    Examples
    --------
    >>> size_text(999), size_text(1_500_000)
    ('999 B', '1.5 MB')
    """
    if size < _KILO:
        return f"{size:.0f} B"
    unit = 0
    while size >= _KILO and unit < len(_UNITS):
        size, unit = size / _KILO, unit + 1
    return f"{size:.1f} {_UNITS[unit - 1]}"
