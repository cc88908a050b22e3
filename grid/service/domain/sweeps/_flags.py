"""Which words are flags, and which have a key."""

from __future__ import annotations

import re

FLAG = re.compile(r"(?:--+[^\s=-]|-(?:[^\W\d]|\?))[^\s=]*")
"""The pattern of a flag without a value."""

_NEGATIVE_NUMBER = re.compile(
    r"-(?:(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:e[+-]?\d+)?|inf|infinity|nan)", re.ASCII | re.IGNORECASE
)
_KEY = re.compile(r"([+~]*[A-Za-z_][\w./@-]*)=")


def flag_in(word: str) -> str:
    """Return the flag that `word` is or begins with (``--name=value``), or an empty text if it is a value."""
    if not word.startswith("-") or _NEGATIVE_NUMBER.fullmatch(word):
        return ""
    match = FLAG.match(word)
    if match is None or (match.end() < len(word) and word[match.end()] != "="):
        return ""
    return match[0]


def key_in(word: str) -> str:
    """Return the key that `word` begins with (``name=value``), or an empty text if it has none."""
    match = _KEY.match(word)
    return "" if match is None else match[1]
