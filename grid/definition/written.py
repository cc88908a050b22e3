"""Reads the text of a YAML file so that nothing in it is taken for something else than its author wrote.

YAML 1.1 takes ``12:30:45`` for a number to the base of 60, ``010`` for 8, ``on`` for true, and of two keys that are the
same silently the second. Where arguments and variables of a script stand, plain scalars are texts as they are written;
and a key that stands twice is an error everywhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import yaml

from grid.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_TAG = "tag:yaml.org,2002:"
_STR, _NULL, _BOOL, _MERGE = (f"{_TAG}{name}" for name in ("str", "null", "bool", "merge"))
_NUMBERS = (f"{_TAG}int", f"{_TAG}float")
_IMPLICIT = frozenset({_STR, _NULL, _BOOL, _MERGE, *_NUMBERS, f"{_TAG}timestamp", f"{_TAG}value"})
"""What a scalar may be taken for; one in quotes is a text."""

_NULLS = ("~", "null", "Null", "NULL")
_DECIMAL = re.compile(r"[+-]?(?:0|[1-9]\d*|(?:\d+\.\d*|\.\d+|\d+(?=e))(?:e[+-]?\d+)?)", re.ASCII | re.IGNORECASE)
_TRUTHS = ("true", "True", "TRUE", "false", "False", "FALSE")


def load(path: str, text: str) -> object:
    """Return what a document holds.

    Parameters
    ----------
    path
        The file, for messages.
    text
        What stands in it.

    Raises
    ------
    ConfigError
        If a key stands twice, or an argument of the script has an empty value.
    yaml.YAMLError, ValueError, RecursionError
        If it is not YAML.
    """
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        for key, scalar in _SECTIONS.items():
            root = _descend(root, key.split("."), _Rewriter(loader, path, key, scalar))
        for complaint in _twice(loader, root, "", set()):
            msg = f"{path}: {complaint}"
            raise ConfigError(msg)
        return loader.construct_document(root)
    finally:
        loader.dispose()


# --- scalars as they are written -------------------------------------------------------------------------------------


class _Rewriter:
    """Makes copies of nodes in which scalars are as they are written. Not in place: an alias may use them elsewhere."""

    def __init__(self, loader: yaml.SafeLoader, path: str, section: str, scalar: _Scalar) -> None:
        self._loader = loader
        self._path = path
        self._section = section
        self._scalar = scalar
        # By the identity of the original, which the tree keeps alive, and its depth: a circle stays one.
        self._copies: dict[tuple[int, int], yaml.Node] = {}

    def copy(self, node: yaml.Node, key: str = "", depth: int = 0) -> yaml.Node:
        """Return a copy of a node, whose place is this key of the section, in so many lists."""
        is_inner = depth > 1
        place = (id(node), min(depth, 2))
        known = self._copies.get(place)
        if known is not None:
            return known
        if isinstance(node, yaml.MappingNode):
            mapping: yaml.Node = _like(node, [])
            self._copies[place] = mapping
            mapping.value.extend(self._pairs(node))
            return mapping
        if isinstance(node, yaml.SequenceNode):
            sequence: yaml.Node = _like(node, [])
            self._copies[place] = sequence
            sequence.value.extend(self.copy(each, key, depth + 1) for each in node.value)
            return sequence
        assert isinstance(node, yaml.ScalarNode)
        if node.tag not in _IMPLICIT:
            return node
        copied = self._scalar(self, node, key)
        # A list in a list reaches the script as Python prints it, in which a text has quotes: its numbers are numbers.
        return _number(node) or copied if is_inner and copied.tag == _STR else copied

    def _pairs(self, node: yaml.MappingNode) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        for key, value in node.value:
            if key.tag == _MERGE or not isinstance(key, yaml.ScalarNode):
                yield key, self.copy(value)
            else:
                name = _text(key) if key.tag in _IMPLICIT else key
                yield name, self.copy(value, key.value)

    def number(self, node: yaml.Node) -> Any:
        """Return the number that a node is taken for; None if there is none."""
        if node.tag not in _NUMBERS:
            return None
        try:
            return self._loader.construct_object(node)
        except ValueError:  # of more digits than Python reads
            return None

    def empty(self, node: yaml.Node, key: str) -> ConfigError:
        """Return the error for an argument without a value."""
        place = f"{self._section}.{key}" if key else self._section
        instead = "write true for the bare flag, '' for an empty text, or null to leave it out"
        return ConfigError(f"{self._path}: {place} is empty in line {node.start_mark.line + 1}; {instead}")


_Scalar = Callable[[_Rewriter, yaml.Node, str], yaml.Node]


def _of_environment(_: _Rewriter, node: yaml.Node, _key: str) -> yaml.Node:
    """Variables are text; null leaves one out."""
    return node if node.tag == _NULL else _text(node)


def _of_params(rewriter: _Rewriter, node: yaml.Node, key: str) -> yaml.Node:
    """Arguments are text, but for true, false and null. A number stays one if that is how Python writes it."""
    if node.tag == _NULL and not node.value:
        raise rewriter.empty(node, key)
    is_kept = (node.tag == _NULL and node.value in _NULLS) or (node.tag == _BOOL and node.value in _TRUTHS)
    return node if is_kept or str(rewriter.number(node)) == node.value else _text(node)


def _of_values(rewriter: _Rewriter, node: yaml.Node, key: str) -> yaml.Node:
    """As arguments; but here are Python's own values, so that a number may also be written as YAML writes Python's."""
    number = rewriter.number(node)
    is_dumped = number is not None and yaml.safe_dump(number).partition("\n")[0] == node.value
    return node if is_dumped else _of_params(rewriter, node, key)


_SECTIONS: Mapping[str, _Scalar] = {
    "compute.train.environment": _of_environment,
    "hyper_params.params": _of_params,
    "hyper_params.values": _of_values,
}


def _descend(node: yaml.Node, keys: list[str], rewriter: _Rewriter) -> yaml.Node:
    """Return a tree in which what stands under these keys, merged or not, is a copy as it is written."""
    if not keys:
        return rewriter.copy(node)
    if not isinstance(node, yaml.MappingNode):
        return node
    changed = []
    for key, value in node.value:
        if key.tag == _MERGE:
            several = [_descend(each, keys, rewriter) for each in value.value] if _is_list(value) else None
            changed.append((key, _like(value, several) if several else _descend(value, keys, rewriter)))
        elif isinstance(key, yaml.ScalarNode) and key.value == keys[0]:
            changed.append((key, _descend(value, keys[1:], rewriter)))
        else:
            changed.append((key, value))
    copied: yaml.Node = _like(node, changed)
    return copied


def _is_list(node: yaml.Node) -> bool:
    return isinstance(node, yaml.SequenceNode)


def _like(node: Any, value: list[Any]) -> Any:
    return type(node)(node.tag, value, node.start_mark, node.end_mark, node.flow_style)


def _text(node: Any) -> yaml.Node:
    return yaml.ScalarNode(_STR, node.value, node.start_mark, node.end_mark, node.style)


def _number(node: Any) -> yaml.Node | None:
    """Return the node of a number that is written as Python reads it too; None if it is none, or in quotes."""
    if node.style is not None or not _DECIMAL.fullmatch(node.value) or not math.isfinite(float(node.value)):
        return None
    tag = "int" if node.value.lstrip("+-").isdecimal() else "float"
    return yaml.ScalarNode(f"{_TAG}{tag}", node.value, node.start_mark, node.end_mark)


# --- keys that stand twice -------------------------------------------------------------------------------------------


def _twice(loader: yaml.SafeLoader, node: yaml.Node, place: str, seen: set[int]) -> Iterator[str]:
    """Yield what is wrong with each key that stands twice in its mapping; what is merged may be overridden."""
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from _twice(loader, each, place, seen)
        return
    lines: dict[object, int] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue  # refused when it is read: no key of ours is a list or a mapping
        name = f"{place}.{key.value}" if place else key.value
        if key.tag != _MERGE:
            line = key.start_mark.line + 1
            meant = loader.construct_object(key)
            if meant in lines:
                yield f"{name} stands twice, in lines {lines[meant]} and {line}; leave one of them out"
            lines[meant] = line
        yield from _twice(loader, value, place if key.tag == _MERGE else name, seen)
