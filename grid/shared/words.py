"""Splits text into words as a POSIX shell does, and says what a shell would have done with it and nobody does here.

Client and service both split the arguments of a script, and must find the same words and say the same of them. Nothing
is expanded and no shell is started: an operator outside of quotes is refused, since it would become an argument.
"""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple, NoReturn

from grid.shared.wire import MAX_SCRIPT_ARGS

_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
_CURLY = "\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f"
_UNSEEN = "\u00a0\u2000-\u200b\u202f\u205f\u3000\ufeff"
_JOINED = r"\\\r?\n"
_NAMED = r"[A-Za-z_]\w*|[0-9@*#?$!-]"
_EXPANDED = rf"\$(?:{_NAMED}|\{{[^}}\s]*\}}?|\([^)\s]*\)?)"

# Each alternative takes what it can and gives nothing back, so the time is linear in the length of the text.
_PIECE = re.compile(
    rf"""(?P<space>[ \t\r\n]+)
    |(?P<plain>[^ \t\r\n'"\\$`~*?|&;<>\#{_CURLY}{_DASHES}{_UNSEEN}]++)
    |'(?P<single>[^']*+)'
    |"(?P<double>(?:[^"\\]++|\\.)*+)"
    |(?P<joined>{_JOINED})
    |\\(?P<escaped>.)
    |(?P<expanded>{_EXPANDED}|\$(?=['"])|`[^`\s]*+`?)
    |(?P<home>~(?=(?:{_JOINED})*+\+?(?:{_JOINED})*+(?:[ \t\r\n/:]|=(?:{_JOINED})*+~|\Z)))
    |(?P<pattern>[*?]++)
    |(?P<operator>&&|\|\||[|&;<>])
    |(?P<comment>\#)
    |(?P<curly>[{_CURLY}])
    |(?P<dash>[{_DASHES}])
    |(?P<unseen>[{_UNSEEN}]++)
    |(?P<other>\$|~++)""",
    re.ASCII | re.DOTALL | re.VERBOSE,
)
_ESCAPED_IN_QUOTES = re.compile(r'\\(?:([$`"\\])|\r?\n)')
_EXPANDED_IN_QUOTES = re.compile(rf"\\.|(\$(?:{_NAMED}|\{{[^}}]*+\}}?|\([^)]*+\)?)|`[^`]*+`?)", re.ASCII | re.DOTALL)
_SPACE = " \t\r\n"

_LONGEST_QUOTE = 100
_LONGEST_WORD = 40
_MOST_NAMED = 3
_MOST_NOTED = 100


class WordsError(ValueError):
    """The text is none that a shell would split into words alone, or its words cannot be passed to a process."""


class Words(NamedTuple):
    """The words of a text, and a line for each thing that a shell would have done to them."""

    words: tuple[str, ...]
    warnings: tuple[str, ...]


def split(text: str, name: str = "script_args") -> Words:
    r"""Split as a POSIX shell splits words, and expand nothing.

    White space separates, newlines among it, and a backslash before a newline joins two lines. Inside double quotes a
    backslash escapes only ``$``, a backquote, ``"``, itself and a newline.

    Parameters
    ----------
    text
        At most `MAX_SCRIPT_ARGS` characters.
    name
        What the text is, for messages.

    Raises
    ------
    WordsError
        Says what was given, what is allowed and what to write.

    Examples
    --------
    >>> split("--model 'a b' \\\n --cost \"\\$5\"").words
    ('--model', 'a b', '--cost', '$5')
    >>> split("--data ~/set --cost $5").warnings  # doctest: +ELLIPSIS
    ('script_args: ~/set is passed on as written...', 'script_args: $5 is passed on as written...')
    """
    if len(text) > MAX_SCRIPT_ARGS:
        raise WordsError(
            f"{name} has {len(text):,} characters, but may have at most {MAX_SCRIPT_ARGS:,}: "
            "write long lists to a file in your project, and pass the file's name (--config values.json)"
        )
    if not passable(text):
        raise WordsError(
            f"{name} contains a null character or half of a surrogate pair, which no process can be given: "
            f'"{clip(text)}"; leave it out'
        )
    return _Splitter(text, name).split()


def starts(text: str) -> list[int]:
    """Return where in a text that `split` can split each word begins.

    Examples
    --------
    >>> starts("--a  'b c' d")
    [0, 5, 11]
    """
    splitter = _Splitter(text, "script_args")
    splitter.split()
    return splitter.starts


def passable(text: str) -> bool:
    """Return whether a process can be given `text` as an argument."""
    if "\0" in text:
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def clip(text: str) -> str:
    """Return `text` in a form that any terminal and any encoding can show, cut to about one line."""
    if len(text) > _LONGEST_QUOTE:
        text = f"{text[: _LONGEST_QUOTE - 20]} … {text[-10:]}"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


class _Splitter:
    """One pass over a text. A word is the list of its pieces, which is empty only between words."""

    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._name = name
        self.starts: list[int] = []
        self._found: dict[str, list[str]] = {}

    def split(self) -> Words:
        text, words, pieces, position = self._text, list[str](), list[str](), 0
        while position < len(text):
            match = _PIECE.match(text, position)
            if match is None:
                self._refuse_rest(position)
            kind = match.lastgroup or ""
            if kind == "space":
                if pieces:
                    words.append("".join(pieces))
                    pieces.clear()
                position = match.end()
                continue
            if not pieces and kind != "joined":
                self.starts.append(position)
            if kind == "double":
                pieces.append(self._in_quotes(match["double"]))
            elif kind in ("plain", "single", "escaped"):
                pieces.append(match[kind])
            elif kind != "joined":
                self._look_at(match, kind, pieces)
                pieces.append(match[kind])
            position = match.end()
        if pieces:
            words.append("".join(pieces))
        return Words(tuple(words), tuple(self._warnings()))

    def _in_quotes(self, content: str) -> str:
        if "$" in content or "`" in content:
            for found in _EXPANDED_IN_QUOTES.finditer(content):
                self._note("expanded", found[1] or "")
        return _ESCAPED_IN_QUOTES.sub(_unescaped, content) if "\\" in content else content

    def _look_at(self, match: re.Match[str], kind: str, pieces: list[str]) -> None:
        """Refuse or remember an unquoted character that a shell, or a reader, would take for something else."""
        start, end = match.span()
        following = self._text[end : end + 1]
        if kind == "operator":
            self._refuse_operator(match[kind], start)
        elif kind == "curly":
            self._refuse(
                f"the curly quote {match[kind]} outside of quotes, which quotes nothing: {self._around(start)} . Write "
                "straight quotes, ' or \", in its place, or put it between them if it is meant"
            )
        elif kind == "comment" and not pieces:
            word = self._word(start)
            self._refuse(
                f"a word that begins with #, after which a shell would read a comment: {clip(word)} . Leave the "
                f"comment out, or put the word in quotes if it is meant: {_quoted(word)}"
            )
        elif kind == "dash" and not pieces and following.strip(_SPACE):
            word = self._word(start)
            self._refuse(
                f"a word that begins with the long dash {match[kind]} (U+{ord(match[kind]):04X}), which begins no flag "
                f"and no number: {clip(word)} . Write {clip(_plain_dashes(word))}, or put the word in quotes if the "
                f"dash is meant: {_quoted(word)}"
            )
        elif kind == "expanded":
            self._note(kind, match[kind] if match[kind] != "$" else f"${following}")
        elif kind == "home" and (not pieces or _is_key(pieces)):
            self._note(kind, f"~{self._word(end)}")
        elif kind == "pattern" and self._is_listening(kind):
            self._note(kind, self._word(start, whole=True))
        elif kind == "unseen":
            self._note(kind, f"U+{ord(match[kind][0]):04X}")

    # What is said

    def _is_listening(self, kind: str) -> bool:
        return len(self._found.get(kind, ())) < _MOST_NOTED

    def _note(self, kind: str, found: str) -> None:
        if found and self._is_listening(kind):
            self._found.setdefault(kind, []).append(clip(found[:_LONGEST_WORD]))

    def _warnings(self) -> list[str]:
        silent = "quotes around it where it is meant as it is"
        says = {
            "expanded": f"no shell is there. Write what it stands for, or single {silent}",
            "home": f"no shell is there. Write the whole path, or {silent}",
            "pattern": f"no shell looks for files. Write their names, or {silent}",
            "unseen": f"what looks like a space there separates no words. Write a space, or {silent}",
        }
        lines = []
        for kind, found in self._found.items():
            noted = list(dict.fromkeys(found))
            named = ", ".join(noted[:_MOST_NAMED])
            more = " is" if len(noted) == 1 else " are" if len(noted) <= _MOST_NAMED else " and more are"
            lines.append(f"{self._name}: {named}{more} passed on as written: {says[kind]}")
        return lines

    def _refuse(self, what: str) -> NoReturn:
        raise WordsError(f"{self._name} has {what}")

    def _refuse_rest(self, position: int) -> NoReturn:
        if self._text[position] == "\\":
            self._refuse(
                f"a backslash at its end, which would join a next line that is not there: "
                f"{clip(self._text[-_LONGEST_WORD:])} . Leave it out, or put it in quotes if it is meant: '\\'"
            )
        raise WordsError(
            f"{self._name} has a quote that is never closed, so it cannot be split into words: "
            f"{clip(self._text[position:])} . Close it; quote a value that has spaces or quotes in it. "
            "For example: --model \"['resnet18', 'vit']\""
        )

    def _refuse_operator(self, operator: str, start: int) -> NoReturn:
        several = operator not in ("<", ">")
        instead = "to run several commands, make a script (.sh) of them; " if several else ""
        self._refuse(
            f"{operator} outside of quotes: {self._around(start)} . A shell takes it for an operator, and no shell is "
            f"there: {instead}put the word in quotes if it is meant: {_quoted(self._word(start, whole=True))}"
        )

    def _around(self, position: int) -> str:
        """Return the text near a place."""
        start = max(0, position - _LONGEST_WORD)
        return clip(self._text[start : position + _LONGEST_WORD].strip())

    def _word(self, position: int, *, whole: bool = False) -> str:
        """Return what stands at a place up to the next white space, and if `whole`, what stands right before it."""
        ahead = re.split(r"\s", self._text[position : position + _LONGEST_WORD], maxsplit=1)[0]
        before = self._text[max(0, position - _LONGEST_WORD) : position] if whole else ""
        return (re.split(r"\s", before)[-1] if before else "") + ahead


def _unescaped(match: re.Match[str]) -> str:
    return match[1] or ""


def _is_key(pieces: list[str]) -> bool:
    """Return whether the word so far is ``name=``, after which many expect ``~`` to be replaced as well."""
    return len(pieces) == 1 and pieces[0].find("=") == len(pieces[0]) - 1


def _plain_dashes(word: str) -> str:
    name = word.lstrip(f"-{_DASHES}")
    is_number = name[:1].isdecimal() or name[:1] == "."
    return f"{'-' if is_number or len(name.partition('=')[0]) == 1 else '--'}{name}"


def _quoted(word: str) -> str:
    """Return the word as one would write it in quotes, if it has none itself."""
    return "'…'" if set(word) & set("'\"\\") else clip(shlex.quote(word))
