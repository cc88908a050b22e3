r"""How the paths of files are written in text: as they are, and bytes that are not UTF-8 as ``\x`` and two digits.

Each name has one spelling, and each spelling is that of one name: of a backslash that would read like such a byte, the
backslash is written in this way, too.
"""

from __future__ import annotations

import os
import re

_FIRST = 0x80
"""The first byte that is not UTF-8 by itself."""
_ESCAPED = 0xDC00
"""What is added to such a byte in names, as functions of `os` return them."""

_LONE = re.compile("[\udc80-\udcff]")
_LIKE_ONE = re.compile(r"\\(?=x[0-9a-f]{2})")
_ONE = re.compile(r"\\x([0-9a-f]{2})")


def spelled(name: str) -> str:
    """Return the spelling of a file's name.

    Parameters
    ----------
    name
        The name, as functions of `os` return it.
    """
    if "\\" in name:
        name = _LIKE_ONE.sub(r"\\x5c", name)
    return name if name.isascii() else _LONE.sub(lambda byte: f"\\x{ord(byte[0]) - _ESCAPED:02x}", name)


def unspelled(text: str) -> str | None:
    """Return the name of one file or folder that is spelled like this; None if none can be.

    Parameters
    ----------
    text
        The spelling: a part of a path, without any slash.
    """
    if text.isascii() and "\\" not in text:  # as nearly all are
        return None if text in ("", ".", "..") or "/" in text or "\0" in text else text
    try:
        # There and back: bytes that are UTF-8 together make a character, though each of them was spelled.
        name = os.fsdecode(os.fsencode(_ONE.sub(_byte, text)))
    except UnicodeEncodeError:
        return None
    is_one = name not in ("", ".", "..") and "/" not in name and "\0" not in name
    return name if is_one and spelled(name) == text else None


def _byte(digits: re.Match[str]) -> str:
    byte = int(digits[1], 16)
    return chr(byte if byte < _FIRST else _ESCAPED + byte)
