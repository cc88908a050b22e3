"""How large source code may be, and how sizes and lists of files are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grid.errors import SourceError
from grid.shared.wire import MAX_SNAPSHOT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_BLOCK = 512
_KIBI = 1024
_NAMES_IN_A_WARNING = 10
_NAMES_IN_AN_ERROR = 5


def refuse_large(sizes: Mapping[str, int], root: str, hint: str) -> None:
    """Refuse a tree whose archive would be too large, and say what makes it so.

    Parameters
    ----------
    sizes
        What is in the tree, by path, with its size in bytes.
    root
        Where it was found.
    hint
        What its user can do about it.

    Raises
    ------
    SourceError
        If it is; the message names the largest of what is in it.
    """
    total = sum(_BLOCK + -(-size // _BLOCK) * _BLOCK for size in sizes.values())
    if total <= MAX_SNAPSHOT_BYTES:
        return
    weights: dict[str, int] = {}
    for path, size in sizes.items():
        weights[path] = weights.get(path, 0) + size
        parent = path.rpartition("/")[0]
        while parent:
            weights[parent] = weights.get(parent, 0) + size
            parent = parent.rpartition("/")[0]
    largest: list[str] = []
    for path, weight in sorted(weights.items(), key=lambda item: (-item[1], -len(item[0]), item[0])):
        # A folder that holds nothing but an entry already named adds nothing.
        if any(named.startswith(f"{path}/") and weights[named] == weight for named in largest):
            continue
        largest.append(path)
        if len(largest) == _NAMES_IN_AN_ERROR:
            break
    names = ", ".join(f"{path} ({human(weights[path])})" for path in largest)
    msg = (
        f"the source code in {root} makes a snapshot of {human(total)}, but at most {human(MAX_SNAPSHOT_BYTES)} can "
        f"be sent; the largest are {names}: {hint}"
    )
    raise SourceError(msg)


def human(size: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("B", "KiB", "MiB"):
        if size < _KIBI:
            return f"{size:.0f} {unit}"
        size /= _KIBI
    return f"{size:.1f} GiB"


def some_of(names: Iterable[str]) -> str:
    """Return the first of some names in their order, and how many more there are."""
    shown: Sequence[str] = sorted(names)
    more = len(shown) - _NAMES_IN_A_WARNING
    return ", ".join(shown[:_NAMES_IN_A_WARNING]) + (f" and {more} more" if more > 0 else "")
