"""Reads Python's literals, and the bare words of a list, without evaluating anything.

The text goes to `ast.parse` only after its tokens were checked, which keeps out whatever makes the parser warn, recurse
deeply or take long. The nodes of the tree are then read as literals.
"""

from __future__ import annotations

import ast
import re
import threading
from collections.abc import Callable
from typing import NoReturn

from grid.service.domain.sweeps._errors import clip, quoted
from grid.shared.words import passable

SPACE = " \t\r\n"

_DEEPEST = 20
# Python 3.11 counts the depth of its parser for all threads together, and fails if two parse large lists at once.
_PARSER = threading.Lock()
_MOST_COMMAS = 100_000
_LONGEST_NUMBER = 100

_DECIMAL = r"(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:e[+-]?[\d_]+)?"
_FLOAT = re.compile(rf"(?=[^.e]*[.e]){_DECIMAL}", re.IGNORECASE | re.ASCII)
_NUMBER = rf"(?:0x[\da-f_]+|0o[0-7_]+|0b[01_]+|{_DECIMAL})(?!\w)"
_STRING = r"[ru]?(?:'(?:[^'\\\r\n]|\\.)*'|\"(?:[^\"\\\r\n]|\\.)*\")"
_TOKEN = re.compile(
    rf"(?P<space>[{SPACE}]+)|(?P<string>{_STRING})|(?P<number>{_NUMBER})|(?P<word>[^\W\d]\w*)|(?P<mark>[\[\](),=+-])",
    re.IGNORECASE | re.DOTALL,
)
_SIGNED = re.compile(rf"[+-]?({_NUMBER})", re.IGNORECASE | re.ASCII)
_ESCAPE = re.compile(r"\\([0-7]{1,3}|.)", re.DOTALL)
_WORD = re.compile(r"[\w./:+-]+")
_WORD_IN_LIST = re.compile(rf"([\w./:+-]+)(?=[{SPACE}]*[,\]])")
_ALONE = re.compile(rf"\[[{SPACE}]*([\w./:+-]+)[{SPACE}]*\]")
_CONSTANTS = ("True", "False", "None")


class NotLiteral(Exception):
    """The text contains something that is not a literal of the grammar. It becomes a `WrongForm`, with an example."""


class OtherNumber(NotLiteral):
    """The text contains a number that Python reads as another one."""


def parse(text: str) -> ast.expr:
    """Parse text whose tokens are known to be harmless.

    A word of a list, ``[adam, sgd]``, is a string if the list has a comma, and is no list in a list.

    Raises
    ------
    NotLiteral
        Says what is wrong with the text.
    """
    vetted = _Vetting(text).text()
    try:
        with _PARSER:
            return ast.parse(vetted, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # The message of a SyntaxError differs between versions of Python, and is about Python.
        refuse("something is missing or superfluous: check the commas, brackets and quotes")


def literal(node: ast.expr) -> object:
    """Return the value of a literal, or of a list or tuple of these."""
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, (str, int, float))):
        if isinstance(node.value, str) and not passable(node.value):
            refuse("a string contains a null character or half of a surrogate pair, which no process can be given")
        return node.value
    if isinstance(node, ast.List):
        return [literal(element) for element in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(literal(element) for element in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        number = literal(node.operand)
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            return -number if isinstance(node.op, ast.USub) else number
    return refuse(
        f"{clip(node.id)} is a word without quotes" if isinstance(node, ast.Name) else "this contains something else"
    )


def written(value: object) -> str:
    """Return what the script gets: a string without its quotes, anything else as Python prints it."""
    return value if isinstance(value, str) else repr(value)


def can_be_bare(text: str) -> bool:
    """Return whether this may stand in a list without quotes: as a literal that is a number of Python, or as a word."""
    return not _overflow(text.lstrip("+-")) if is_literal(text) else _WORD.fullmatch(text) is not None


def is_literal(text: str) -> bool:
    """Return whether this is a number, True, False or None."""
    match = _SIGNED.fullmatch(text)
    if match is None:
        return text in _CONSTANTS
    body = match[1]
    if len(body) > _LONGEST_NUMBER:
        return True  # to be refused as one
    if re.fullmatch("[0-9_]+|0[xob].+", body, re.IGNORECASE):
        return _is_number(int, body, 0)  # 010 is none
    return _is_number(float, body)


def _is_number(kind: Callable[..., object], *arguments: object) -> bool:
    try:
        kind(*arguments)
    except ValueError:
        return False
    return True


def word_alone(text: str) -> str:
    """Return the word of ``[word]``, or an empty text if there is more, or less, or a literal."""
    match = _ALONE.fullmatch(text)
    return "" if match is None or is_literal(match[1]) else match[1]


def refuse(reason: str) -> NoReturn:
    """Refuse the text."""
    raise NotLiteral(reason)


class _Vetting:
    """Looks at each token of a text once, and writes it so that no version of Python warns about it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._before = "["
        self._open: list[str] = []
        self._commas = 0
        self._commas_in_list = 0
        self._word = ""

    def text(self) -> str:
        """Return the text, with quotes around words and the escapes that Python would warn about rewritten."""
        tokens: list[str] = []
        position = 0
        while position < len(self._text):
            word = self._word_at(position)
            if word:
                tokens.append(repr(word))
                self._before = "string"
                position += len(word)
                continue
            match = _TOKEN.match(self._text, position)
            if match is None:
                refuse(_unexpected(self._text[position]))
            tokens.append(self._token(match[0], match.lastgroup))
            position = match.end()
        if self._word and not self._commas_in_list:
            refuse(f"{clip(self._word)} is a word without quotes")
        return "".join(tokens)

    def _word_at(self, position: int) -> str:
        if self._before not in ("[", ",") or not self._is_in_list():
            return ""
        match = _WORD_IN_LIST.match(self._text, position)
        if match is None or is_literal(match[1]):
            return ""
        self._word = match[1]
        return match[1]

    def _is_in_list(self) -> bool:
        """Return whether this is directly in a list that is in no other one."""
        return bool(self._open) and self._open[-1] == "[" and self._open.count("[") == 1

    def _token(self, token: str, kind: str | None) -> str:
        if kind == "space":
            return token
        if kind == "string":
            if self._before == "string":
                refuse("a comma is missing between two strings")
            self._before = kind
            return token if token[0] in "rR" else _ESCAPE.sub(_known_escape, token)
        if kind == "number":
            if len(token) > _LONGEST_NUMBER:
                refuse(f"a number has {len(token):,} characters, but may have at most {_LONGEST_NUMBER}")
            if _overflow(token):
                raise OtherNumber(_overflow(token))
        elif kind == "mark":
            self._mark(token)
        self._before = token
        return token

    def _mark(self, mark: str) -> None:
        if mark in "+-" and self._before not in ("[", "(", ",", "="):
            refuse(_unexpected(mark))
        if mark == ",":
            self._commas += 1
            self._commas_in_list += self._is_in_list()
            if self._commas > _MOST_COMMAS:
                refuse(f"it has {self._text.count(',') + 1:,} values, but may have at most {_MOST_COMMAS:,}")
        elif mark in "[(":
            self._open.append(mark)
            if len(self._open) > _DEEPEST:
                refuse(f"it is nested more than {_DEEPEST} levels deep")
        elif mark in "])" and self._open:
            self._open.pop()


def _overflow(number: str) -> str:
    """Return what is wrong with a number that Python reads as another one; empty if nothing."""
    if not _FLOAT.fullmatch(number) or not _is_number(float, number):
        return ""  # whole, or for Python to refuse
    value = float(number)
    if value == float("inf"):
        return f"{number} is larger than a number of Python can be, and would become inf"
    if value == 0 and re.search("[1-9]", re.split("[eE]", number)[0]):
        return f"{number} is closer to 0 than a number of Python can be, and would become 0.0"
    return ""


def _unexpected(char: str) -> str:
    if char in "'\"":
        return "a quote is not closed"
    return f"{quoted(char)} is not allowed there"


def _known_escape(match: re.Match[str]) -> str:
    """Return an escape that no version of Python warns about and that means to Python the same as `match`."""
    if match[1][0] in "01234567":
        return f"\\u{int(match[1], 8):04x}"
    return match[0] if match[1] in "\n\r\\'\"abfnrtvxNuU" else f"\\{match[0]}"
