"""Splits script arguments into words, flags and positional arguments. What a value means is not decided here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from grid.service.domain.sweeps._errors import SweepError, clip
from grid.shared.wire import MAX_SCRIPT_ARGS

_PIECE = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    |(?P<bare>[^ \t\r\n'"\\]+)
    |'(?P<single>[^']*)'
    |"(?P<double>[^"\\]*(?:\\.[^"\\]*)*)"
    |\\(?P<escaped>.)""",
    re.DOTALL | re.VERBOSE,
)
_ESCAPED_IN_QUOTES = re.compile(r'\\(["\\])')
_NEGATIVE_NUMBER = re.compile(
    r"-(?:(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:e[+-]?\d+)?|inf|infinity|nan)", re.ASCII | re.IGNORECASE
)
_FLAG = re.compile(r"(?:--+[^\s=-]|-(?:[^\W\d]|\?))[^\s=]*")


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of the script. The value of a flag without one is ``None``; the flag of a positional is empty."""

    flag: str
    value: str | None
    joined: bool = False
    """Whether flag and value are one word, ``--name=value``."""

    @property
    def name(self) -> str:
        """The flag without its dashes."""
        return self.flag.lstrip("-")

    def words(self, value: str) -> tuple[str, ...]:
        """Return the words that the script gets with `value` in place of the one that was typed."""
        if not self.flag:
            return (value,)
        if self.value is None:
            return (self.flag,)
        return (f"{self.flag}={value}",) if self.joined else (self.flag, value)


def parse(script_args: str) -> tuple[Argument, ...]:
    """Split as a POSIX shell splits words, and give each flag its value.

    A word is a flag when it starts with one dash and a letter, or with more dashes and anything, and has no white space
    in its name; a negative number (``-1e-3``, ``-inf``) is a value. ``--`` alone is a positional argument.

    Raises
    ------
    SweepError
        If a quote is not closed, or if such arguments cannot be passed to a process.
    """
    arguments: list[Argument] = []
    words = _split(script_args)
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        name = _flag_in(word)
        if not name:
            arguments.append(Argument("", word))
        elif len(name) < len(word):
            arguments.append(Argument(name, word[len(name) + 1 :], joined=True))
        elif position < len(words) and words[position] != "--" and not _flag_in(words[position]):
            arguments.append(Argument(name, words[position]))
            position += 1
        else:
            arguments.append(Argument(name, None))
    return tuple(arguments)


def _flag_in(word: str) -> str:
    """Return the flag that `word` is or begins with (``--name=value``), or an empty text if it is a value."""
    if not word.startswith("-") or _NEGATIVE_NUMBER.fullmatch(word):
        return ""
    match = _FLAG.match(word)
    if match is None or (match.end() < len(word) and word[match.end()] != "="):
        return ""
    return match[0]


def _split(script_args: str) -> list[str]:
    if len(script_args) > MAX_SCRIPT_ARGS:
        raise SweepError(
            f"script_args has {len(script_args):,} characters, but may have at most {MAX_SCRIPT_ARGS:,}: "
            "write long lists to a file in your project, and pass the file's name (--config values.json)"
        )
    if not passable(script_args):
        raise SweepError(
            f"script_args contains a null character or half of a surrogate pair, which no process can be given: "
            f'"{clip(script_args)}"; leave it out'
        )
    # The same words as from shlex.split, whose time grows with the square of a word's length.
    words: list[str] = []
    pieces: list[str] = []
    position = 0
    while position < len(script_args):
        match = _PIECE.match(script_args, position)
        if match is None:
            wrong = "has a quote that is never closed" if script_args[position] != "\\" else "ends with a backslash"
            raise SweepError(
                f"script_args {wrong}, so it cannot be split into words: {clip(script_args[position:])} . "
                "Quote a value that has spaces or quotes in it. For example: --model \"['resnet18', 'vit']\""
            )
        position = match.end()
        kind = match.lastgroup or ""
        if kind == "double":
            pieces.append(_ESCAPED_IN_QUOTES.sub(r"\1", match[kind]))
        elif kind != "space":
            pieces.append(match[kind])
        elif pieces:
            words.append("".join(pieces))
            pieces.clear()
    if pieces:
        words.append("".join(pieces))
    return words


def passable(text: str) -> bool:
    """Return whether a process can be given `text` as an argument."""
    if "\0" in text:
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
