"""Turns the text of one value into what it stands for: itself, a list, a range, or draws from a distribution.

The text goes to `ast.parse` only after its tokens were checked, which keeps out whatever makes the parser warn, recurse
deeply or take long. The nodes of the tree are then read as literals; nothing is evaluated.
"""

from __future__ import annotations

import ast
import re
import threading
from dataclasses import dataclass
from typing import NoReturn

from grid.service.domain.sweeps import _distributions
from grid.service.domain.sweeps._distributions import DISTRIBUTIONS, Draws
from grid.service.domain.sweeps._errors import WrongForm, clip, quoted
from grid.shared.words import passable


@dataclass(frozen=True, slots=True)
class Switch:
    """A flag that is there, then one that is not."""

    absent: str
    """The flag in its place; empty for none."""


Form = tuple[str, ...] | range | Draws | Switch
"""The values of an argument: texts, numbers that become texts when they are used, numbers that are not made yet, or a
flag that is there or not."""

_SPACE = " \t\r\n"
_DEEPEST = 20
# Python 3.11 counts the depth of its parser for all threads together, and fails if two parse large lists at once.
_PARSER = threading.Lock()
_MOST_COMMAS = 100_000
_LONGEST_NUMBER = 100
_LONGEST_GUESS = 80

_NUMBER = r"(?:0x[\da-f_]+|0o[0-7_]+|0b[01_]+|(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:e[+-]?[\d_]+)?)(?!\w)"
_STRING = r"[ru]?(?:'(?:[^'\\\r\n]|\\.)*'|\"(?:[^\"\\\r\n]|\\.)*\")"
_TOKEN = re.compile(
    rf"(?P<space>[{_SPACE}]+)|(?P<string>{_STRING})|(?P<number>{_NUMBER})|(?P<word>[^\W\d]\w*)|(?P<mark>[\[\](),=+-])",
    re.IGNORECASE | re.DOTALL,
)
# A string that is not closed goes on to the end: otherwise each of its quotes would be tried as the beginning of one.
_DELIMITER = re.compile(r"'(?:[^'\\]|\\.)*(?:'|\\?\Z)|\"(?:[^\"\\]|\\.)*(?:\"|\\?\Z)|[\[\]()]", re.DOTALL)
_CALL = re.compile(r"([a-z_]\w*)\(", re.ASCII)
_ESCAPE = re.compile(r"\\([0-7]{1,3}|.)", re.DOTALL)
_BARE = re.compile(r"[^\s\[\]()'\",][^\[\]()'\",]*")

_LIST_EXAMPLE = "[32, 64, 128]"
_RANGE_EXAMPLE = "range(1, 10, 2)"
_WITH_STEP = 3  # arguments of a range: start, stop, step


def read(text: str) -> Form:
    """Read the value of a flag.

    A value that begins like a form (with ``[``, or with ``range`` or the name of a distribution and a parenthesis) is
    taken for one if it also ends like one, or if it never closes what it opened. The exception is a bare word after the
    bracket, without a comma (``[abc``), which is text, as is everything else.

    Returns
    -------
    Form
        The values; for plain text a single one, the text itself.

    Raises
    ------
    WrongForm
        If it has a known form but is not valid.
    """
    inner = text.strip(_SPACE)
    if inner.startswith("["):
        if inner.endswith("]"):
            return _list(inner)
        if not _closes(inner, "[]") and _looks_like_values(inner[1:].lstrip(_SPACE)):
            raise WrongForm("the list is not closed with ]", _LIST_EXAMPLE, inner)
    call = _CALL.match(inner)
    if call is not None and (call[1] == "range" or call[1] in DISTRIBUTIONS):
        if inner.endswith(")"):
            return _range(inner) if call[1] == "range" else _distribution(call[1], inner)
        if not _closes(inner, "()"):
            example = _RANGE_EXAMPLE if call[1] == "range" else _distributions.example(call[1])
            raise WrongForm(f"{call[1]} is not closed with )", example, inner)
    return (text,)


def is_form(text: str) -> bool:
    """Return whether a text is wholly a form of the grammar, right or wrong, and not plain text."""
    try:
        return read(text) != (text,)
    except WrongForm:
        return True


def _looks_like_values(text: str) -> bool:
    """Return whether this is an unfinished list, not a text that happens to begin with a bracket."""
    return not text or text[0] in "'\"+-.([0123456789" or "," in text


def _closes(text: str, pair: str) -> bool:
    """Return whether the delimiter that `text` begins with is closed somewhere in it."""
    depth = 0
    for match in _DELIMITER.finditer(text):
        if match[0] in pair:
            depth += 1 if match[0] == pair[0] else -1
            if depth == 0:
                return True
    return False


def _list(text: str) -> tuple[str, ...]:
    try:
        tree = _parse(text)
        if not isinstance(tree, ast.List):
            _refuse("this is more than one list")
        values = tuple(_text(_literal(node)) for node in tree.elts)
    except _NotLiteral as error:
        raise WrongForm(
            f"a list holds numbers, strings in quotes, True, False, None, and lists of those; {error}",
            _quote_words(text),
            text,
        ) from None
    if not values:
        raise WrongForm("the list is empty, so there would be no experiments", _LIST_EXAMPLE)
    return values


def _range(text: str) -> range:
    arguments = _arguments("range", text, _RANGE_EXAMPLE)
    if not 1 <= len(arguments) <= _WITH_STEP:
        raise WrongForm(
            f"range takes 1 to 3 whole numbers (start, stop, step), but has {len(arguments)}", _RANGE_EXAMPLE
        )
    numbers: list[int] = []
    for argument in arguments:
        if not isinstance(argument, int) or isinstance(argument, bool):
            shown = clip(repr(argument))
            raise WrongForm(f"range takes whole numbers, not {shown}; write others as a list", _RANGE_EXAMPLE)
        numbers.append(argument)
    if len(numbers) == _WITH_STEP and numbers[-1] == 0:
        raise WrongForm("the step of a range cannot be 0", _RANGE_EXAMPLE)
    values = range(*numbers)
    if not values:
        raise WrongForm("the range is empty, so there would be no experiments", _RANGE_EXAMPLE)
    return values


def _distribution(name: str, text: str) -> Draws:
    example = _distributions.example(name)
    arguments = _arguments(name, text, example)
    needed = len(DISTRIBUTIONS[name].parameters) + 1
    if len(arguments) != needed:
        if len(arguments) == needed - 1:
            example = _with_samples(name, text, arguments)
        takes = f"{needed} arguments, the last of them" if needed > 1 else "1 argument,"
        raise WrongForm(
            f"{_distributions.signature(name)} takes {takes} the number of samples, but has {len(arguments)}", example
        )
    samples = arguments.pop()
    if not isinstance(samples, int) or isinstance(samples, bool) or samples < 1:
        shown = clip(repr(samples))
        raise WrongForm(
            f"the last argument of {_distributions.signature(name)} must be a positive whole number, not {shown}",
            example,
        )
    sized = _sized(arguments)
    _distributions.check(name, sized)
    choices = tuple(map(_text, arguments[0])) if name == "choice" and isinstance(arguments[0], list) else ()
    # Plus 0, because NumPy treats -0.0 as a negative number.
    return Draws(name, tuple(value + 0 for value in sized if isinstance(value, (int, float))), samples, choices)


def _with_samples(name: str, text: str, arguments: list[object]) -> str:
    """Return the call with a number of samples added, or an example if it would still not be valid."""
    try:
        _distributions.check(name, _sized(arguments))
    except WrongForm as wrong:
        return wrong.example
    return f"{text[:-1].rstrip(_SPACE + ',')}{', ' if arguments else ''}10)"


def _sized(arguments: list[object]) -> list[object]:
    """Return the arguments with a list to choose from replaced by its length, which must not be 0 either."""
    return [len(argument) if isinstance(argument, list) else argument for argument in arguments]


def _arguments(name: str, text: str, example: str) -> list[object]:
    try:
        tree = _parse(text)
        if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name) or tree.func.id != name:
            _refuse("this is more than one call")
        if tree.keywords:
            raise WrongForm(f"{name} takes its arguments in order, not by name", example)
        arguments = [_literal(node) for node in tree.args]
    except _NotLiteral as error:
        raise WrongForm(f"the arguments of {name} must be plain numbers; {error}", example, text) from None
    for argument in arguments:
        if isinstance(argument, (str, tuple)) or argument is None or (isinstance(argument, list) and name != "choice"):
            raise WrongForm(f"the arguments of {name} must be numbers, not {clip(repr(argument))}", example)
    return arguments


class _NotLiteral(Exception):
    """The text contains something that is not a literal of the grammar. It becomes a `WrongForm`, with an example."""


def _refuse(reason: str) -> NoReturn:
    raise _NotLiteral(reason)


def _parse(text: str) -> ast.expr:
    """Parse text whose tokens are known to be harmless."""
    try:
        with _PARSER:
            return ast.parse(_vetted(text), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # The message of a SyntaxError differs between versions of Python, and is about Python.
        _refuse("something is missing or superfluous: check the commas, brackets and quotes")


def _vetted(text: str) -> str:
    """Return the text with the escapes that Python would warn about rewritten, or refuse it."""
    tokens: list[str] = []
    before, depth, commas, position = "[", 0, 0, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            _refuse(_unexpected(text[position]))
        position = match.end()
        token, kind = match[0], match.lastgroup
        tokens.append(_vetted_token(token, kind, before))
        depth += (token in ("[", "(")) - (token in ("]", ")"))
        commas += token == ","  # noqa: S105 - a piece of the grammar, not a secret
        if commas > _MOST_COMMAS:
            _refuse(f"it has {text.count(',') + 1:,} values, but may have at most {_MOST_COMMAS:,}")
        if depth > _DEEPEST:
            _refuse(f"it is nested more than {_DEEPEST} levels deep")
        if kind != "space":
            before = "string" if kind == "string" else token
    return "".join(tokens)


def _vetted_token(token: str, kind: str | None, before: str) -> str:
    if kind == "string":
        if before == "string":
            _refuse("a comma is missing between two strings")
        return token if token[0] in "rR" else _ESCAPE.sub(_known_escape, token)
    if kind == "number" and len(token) > _LONGEST_NUMBER:
        _refuse(f"a number has {len(token):,} characters, but may have at most {_LONGEST_NUMBER}")
    if token in ("+", "-") and before not in ("[", "(", ",", "="):
        _refuse(_unexpected(token))
    return token


def _unexpected(char: str) -> str:
    if char in "'\"":
        return "a quote is not closed"
    return f"{quoted(char)} is not allowed there"


def _known_escape(match: re.Match[str]) -> str:
    """Return an escape that no version of Python warns about and that means to Python the same as `match`."""
    if match[1][0] in "01234567":
        return f"\\u{int(match[1], 8):04x}"
    return match[0] if match[1] in "\n\r\\'\"abfnrtvxNuU" else f"\\{match[0]}"


def _text(value: object) -> str:
    """Return what the script gets: a string without its quotes, anything else as Python prints it."""
    return value if isinstance(value, str) else repr(value)


def _literal(node: ast.expr) -> object:
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, (str, int, float))):
        if isinstance(node.value, str) and not passable(node.value):
            _refuse("a string contains a null character or half of a surrogate pair, which no process can be given")
        return node.value
    if isinstance(node, ast.List):
        return [_literal(element) for element in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_literal(element) for element in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        number = _literal(node.operand)
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            return -number if isinstance(node.op, ast.USub) else number
    if isinstance(node, ast.Name):
        _refuse(f"{clip(node.id)} is a bare word")
    _refuse("this contains something else")


def _quote_words(text: str) -> str:
    """Return the list with quotes around its words if it is simple enough to be sure of it, else an example."""
    elements = [element.strip(_SPACE) for element in text[1:-1].split(",")]
    if len(text) > _LONGEST_GUESS or not all(map(_BARE.fullmatch, elements)):
        return "['resnet18', 'vit']"
    return f"[{', '.join(element if _is_literal(element) else repr(element) for element in elements)}]"


def _is_literal(text: str) -> bool:
    try:
        _literal(_parse(text))
    except _NotLiteral:
        return False
    return True
