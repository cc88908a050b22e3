"""Turns the text of one value into what it stands for: itself, or the values of a form."""

from __future__ import annotations

import ast
import re

from grid.service.domain.sweeps import _names
from grid.service.domain.sweeps._calls import Switch, example, read_call
from grid.service.domain.sweeps._distributions import Draws
from grid.service.domain.sweeps._errors import WrongForm, clip
from grid.service.domain.sweeps._literals import (
    SPACE,
    NotLiteral,
    OtherNumber,
    can_be_bare,
    literal,
    parse,
    refuse,
    word_alone,
    written,
)

__all__ = ["Form", "Switch", "closes", "is_form", "is_valid", "listed", "one_list", "read"]


Form = tuple[str, ...] | range | Draws | Switch
"""The values of an argument: texts, numbers that become texts when they are used, numbers that are not made yet, or a
flag that is there or not."""

_LONGEST_GUESS = 80

# A string that is not closed goes on to the end: otherwise each of its quotes would be tried as the beginning of one.
_DELIMITER = re.compile(r"'(?:[^'\\]|\\.)*(?:'|\\?\Z)|\"(?:[^\"\\]|\\.)*(?:\"|\\?\Z)|[\[\]()]", re.DOTALL)
_CALL = re.compile(r"([A-Za-z_][\w.]*)\(", re.ASCII)
_BARE = re.compile(r"[^\s\[\]()'\",][^\[\]()'\",]*")

_LIST_EXAMPLE = "[32, 64, 128]"
_WORDS_EXAMPLE = "['resnet18', 'vit']"


def read(text: str) -> Form:
    """Read a value.

    A value that begins like a form (with ``[``, or with a known name and a parenthesis) is taken for one if it also
    ends like one, or if it never closes what it opened. Two exceptions are text, as is everything else: a bare word
    after a bracket that is not closed, without a comma (``[abc``), and one alone in brackets (``[INFO]``).

    Returns
    -------
    Form
        The values; for plain text a single one, the text itself.

    Raises
    ------
    WrongForm
        If it has a known form but is not valid, or calls something whose name is nearly a known one.
    """
    inner = text.strip(SPACE)
    if inner.startswith("["):
        if inner.endswith("]"):
            return (text,) if word_alone(inner) else _list(inner)
        if not closes(inner) and _looks_like_values(inner[1:].lstrip(SPACE)):
            raise WrongForm("the list is not closed with ]", _LIST_EXAMPLE, inner, is_open=True)
        return (text,)
    call = _CALL.match(inner)
    if call is None or not (inner.endswith(")") or not closes(inner[call.end() - 1 :])):
        return (text,)
    name = call[1]
    if name not in _names.KNOWN:
        _check_name(name, inner)
        return (text,)
    if not inner.endswith(")"):
        raise WrongForm(f"{name} is not closed with )", example(name), inner, is_open=True)
    return read_call(name, inner)


def is_form(text: str) -> bool:
    """Return whether a text is wholly a form of the grammar, right or wrong, and not plain text."""
    try:
        return read(text) != (text,)
    except WrongForm:
        return True


def listed(text: str) -> str:
    """Return the list of the texts between commas, in quotes where they need some; empty if that is not simple."""
    return next(filter(is_valid, (f"[{text}]", _with_quotes(f"[{text}]"))), "")


def one_list(text: str) -> str:
    """Return the list that holds a list as its one value. A word in that needs quotes, which it does not in a list."""
    return f"[{text}]" if is_valid(f"[{text}]") else f"[{literal(parse(text))}]"


def is_valid(text: str) -> bool:
    """Return whether a text is wholly a form of the grammar, and a right one."""
    try:
        return read(text) != (text,)
    except WrongForm:
        return False


def closes(text: str) -> bool:
    """Return whether the delimiter that `text` begins with is closed somewhere in it."""
    pair = "[]" if text.startswith("[") else "()"
    depth = 0
    for match in _DELIMITER.finditer(text):
        if match[0] in pair:
            depth += 1 if match[0] == pair[0] else -1
            if depth == 0:
                return True
    return False


def _looks_like_values(text: str) -> bool:
    """Return whether this is an unfinished list, not a text that happens to begin with a bracket."""
    return not text or text[0] in "'\"+-.([0123456789" or "," in text


def _check_name(name: str, text: str) -> None:
    near = _names.near(name)
    if near:
        *others, last = near
        known = f"{', '.join(others)} or {last}" if others else last
        guess = f"{near[0]}{text[len(name) :]}"
        try:
            read(guess)
        except WrongForm as wrong:
            guess = wrong.example
        said = f"{clip(name)} is no form of the grammar; the nearest is {known}"
        raise WrongForm(said, guess, text, is_open=not text.endswith(")"))


def _list(text: str) -> tuple[str, ...]:
    try:
        tree = parse(text)
        if not isinstance(tree, ast.List):
            refuse("this is more than one list")
        values = tuple(written(literal(node)) for node in tree.elts)
    except NotLiteral as error:
        holds = (
            "; a list holds numbers, strings in quotes, True, False, None and lists of those, and with a comma "
            "also words of letters, digits and _ . / : + - without quotes"
        )
        reason = str(error) if isinstance(error, OtherNumber) else f"{error}{holds}"
        raise WrongForm(reason, _with_quotes(text) or _WORDS_EXAMPLE, text) from None
    if not values:
        raise WrongForm("the list is empty, so there would be no experiments; one empty list is [[]]", "[[]]")
    return values


def _with_quotes(text: str) -> str:
    """Return the list with quotes around its words; empty if it is not simple enough to be sure of it."""
    elements = [element.strip(SPACE) for element in text[1:-1].split(",")]
    if len(text) > _LONGEST_GUESS or not all(map(_BARE.fullmatch, elements)):
        return ""
    return f"[{', '.join(each if can_be_bare(each) else repr(each) for each in elements)}]"
