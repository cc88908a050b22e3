"""Where chance comes from: numbers for the draws of a flag, and the combinations that a random search takes."""

from __future__ import annotations

import hashlib
import random


def _digest(key: str) -> bytes:
    # Hashed, so that similar seeds and flags have unrelated streams, and any whole number can be a seed.
    return hashlib.sha256(key.encode()).digest()


def numbers(key: str) -> list[int]:
    """Return eight numbers of 32 bits that follow from `key`."""
    digest = _digest(key)
    return [int.from_bytes(digest[start : start + 4], "little") for start in range(0, len(digest), 4)]


def choose(combinations: int, size: int, key: str) -> list[int]:
    """Take `size` different numbers below `combinations`, in an order that follows from `key`.

    The first `size` cards of a deck are shuffled, which is never laid out: only the cards that moved are remembered.
    """
    bits = random.Random(int.from_bytes(_digest(key), "little")).getrandbits  # noqa: S311 - a choice, not a secret
    moved: dict[int, int] = {}
    chosen: list[int] = []
    for top in range(size):
        remaining = combinations - top
        width = remaining.bit_length()
        offset = bits(width)
        while offset >= remaining:
            offset = bits(width)
        place = top + offset
        chosen.append(moved.get(place, place))
        moved[place] = moved.get(top, top)
    return chosen
