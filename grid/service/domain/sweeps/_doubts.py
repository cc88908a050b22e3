"""What may be meant differently, although it is no error: one line each, which says what to write instead."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from grid.service.domain.sweeps._errors import as_it_is, clip, shell
from grid.service.domain.sweeps._flags import key_in
from grid.service.domain.sweeps._forms import is_form, is_valid, listed, one_list
from grid.service.domain.sweeps._literals import SPACE, word_alone
from grid.service.domain.sweeps._names import KNOWN

if TYPE_CHECKING:
    from grid.service.domain.sweeps._command import Argument

_SUSPECT = re.compile(r"[\[({,]")
_CALL = re.compile(r"([A-Za-z_][\w.]*)( ?)\(.*\)", re.ASCII | re.DOTALL)
_BRACE = re.compile(r"[{}]")
_BRACES_OF_A_SHELL = re.compile(r"\{[^\s{}]*+\}")
_COMMAS = re.compile(r"[^\s,]+(?:,[^\s,]+)++|[+-]?[\d.][^\s,]*(?:,[ \t]*[+-]?[\d.][^\s,]*)++")
_OPENED = re.compile(r"[\[(]")
_NAME = re.compile(r"--?[A-Za-z][\w.-]*")
_TO_QUOTE = re.compile(r"[\s'\"]")
_QUOTED_OR_LIST = re.compile(rf"\[[{SPACE}]*(?:[rRuU]?['\"]|\[)")


def of_text(argument: Argument) -> str:
    """Return what is to be said of an argument whose value is passed on as it is; empty if nothing."""
    value = argument.value or ""
    if not _SUSPECT.search(value) and not _SUSPECT.search(argument.flag):
        return ""
    for word, following in ((argument.flag, value), (value, "")):
        attached = _attached(word, following) if word.startswith("-") else ""
        if attached:
            return attached
    said = _of_value(value.strip(SPACE), argument)
    if not said:
        return ""
    silent = as_it_is(value)
    without = f"; without this warning, {argument.typed(silent)}" if silent else ""
    return f"{argument.typed(value)} is passed on as it is: {said}{without}"


def of_list(argument: Argument, length: int) -> str:
    """Return what is to be said of an argument whose value is a list of that many elements; empty if nothing."""
    text = (argument.value or "").strip(SPACE)
    if length == 1 and _QUOTED_OR_LIST.match(text):
        return ""
    if argument.joined and not argument.is_flag:
        values = f"{length:,} value{'s' if length > 1 else ''}"
        one = one_list(text)
        shown = argument.typed(one) if _TO_QUOTE.search(one) else clip(one)
        return f"{clip(f'{argument.flag}={text}')} is swept as {values}; one list is {shown}"
    if length > 1:
        return ""
    one = argument.typed(one_list(text))
    return f"{argument.typed(text)} is swept as 1 value, without the brackets; one list is {one}"


def _of_value(text: str, argument: Argument) -> str:
    word, call = word_alone(text), _CALL.fullmatch(text)
    key = key_in(text) if argument.is_flag else ""
    if word:
        quoted_word = f"['{word}']"
        said = f"one word in brackets is no list; a list of it is {argument.typed(quoted_word)}"
    elif argument.meant:
        whole = argument.meant if is_valid(argument.meant) else as_it_is(argument.meant)
        said = "a space outside of quotes separates words"
        said += f"; as one it is {argument.typed(whole)}" if whole else ""
    elif call is not None and call[2] and call[1] in KNOWN:
        right = f"{call[1]}{text[call.end(2) :]}"
        said = "a space before the parenthesis makes it a text"
        said = _advised(said, argument, right if is_valid(right) else "")
    elif call is not None and not call[2]:
        said = f"{clip(call[1])} is no form of the grammar"
    elif _is_in_braces(text) or any("," in each or ".." in each for each in _BRACES_OF_A_SHELL.findall(text)):
        said = "braces are no form of the grammar; a list is written in brackets"
    elif key and is_form(text[len(key) + 1 :]):
        said = f"only the whole value of a flag is swept; as a word of its own it is {shell(text)}"
    elif _COMMAS.fullmatch(text):
        said = "commas alone make no list"
        values = listed(text[len(key) + 1 :] if key else text)
        if not key:
            said = _advised(said, argument, values)
        elif values:
            word = f"{key}={values}"
            said += f"; to sweep, write {shell(word) if argument.joined else argument.typed(word)}"
    else:
        said = ""
    return said


def _advised(said: str, argument: Argument, value: str) -> str:
    return f"{said}; to sweep, write {argument.typed(value)}" if value else said


def _is_in_braces(text: str) -> bool:
    """Return whether the brace that `text` begins with is closed by the one at its end."""
    if not text.startswith("{") or not text.endswith("}"):
        return False
    depth = 0
    for match in _BRACE.finditer(text):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return match.end() == len(text)
    return False


def _attached(word: str, following: str) -> str:
    """Return what is to be said of ``-l[1,2]``, which is a flag with a long name, or a value, and of ``-l[1, 2]``."""
    opened = _OPENED.search(word)
    if opened is None:
        return ""
    begin = opened.start()
    if opened[0] == "(":
        begin -= max((len(name) for name in KNOWN if word[:begin].endswith(name)), default=0)
    name, value = word[:begin], word[begin:]
    if not _NAME.fullmatch(name) or not is_form(value):
        return ""
    right = next(filter(is_valid, (value, f"{value} {following}")), "")
    return f"{clip(word)} is passed on as it is: a value that is swept stands apart from its flag" + (
        f"; to sweep, write {name} {shell(right)}" if right else ""
    )
