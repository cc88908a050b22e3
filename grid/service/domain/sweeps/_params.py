"""`params`: arguments of the script that come as JSON, and not as the text of a command line.

A text in them is passed on as it is; what is swept are lists, and the forms that are marked as such.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from grid.service.domain.sweeps._command import Argument
from grid.service.domain.sweeps._errors import SweepError, WrongForm, clip, quoted
from grid.service.domain.sweeps._forms import Switch, read
from grid.service.domain.sweeps._parts import Choice, Choices, Combinations, Part, Values
from grid.shared.wire import MAX_PARAMS, PARAMS_STYLES
from grid.shared.words import passable

_FLAG = re.compile(r"-?-?[^\s=-][^\s=]*")
_KEY = re.compile(r"[+~]*[A-Za-z_][\w./@-]*")
_DEEPEST = 20
_MOST_SHOWN = 4
_EXAMPLE = 'For example: params={"lr": [0.1, 0.01], "epochs": 3}'


class _Number(str):
    """A number, with the digits that it was written with."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Params:
    """What `params` add to the command line."""

    parts: tuple[Part, ...] = ()
    warnings: tuple[str, ...] = ()
    swept: tuple[str, ...] = ()
    """The names that have a list or a form, and one for a list of combinations: what the strategy ``none`` refuses."""


def read_params(text: str, style: str) -> Params:
    """Read the JSON of `params`.

    Parameters
    ----------
    text
        An object from name to value, or a list of such objects, one combination each; empty for none.
    style
        How an argument is written: ``--k v``, ``--k=v`` or ``k=v``.

    Raises
    ------
    SweepError
        If it is not JSON of such a shape, or a name or value is none that can be passed on.
    """
    if style not in PARAMS_STYLES:
        raise SweepError(f'params_style is "{clip(style)}", but must be one of {", ".join(map(quoted, PARAMS_STYLES))}')
    if not text:
        return Params()
    reader = _Reader(style)
    document = _load(text)
    if isinstance(document, dict):
        parts = reader.arguments(document)
    elif isinstance(document, list) and all(isinstance(row, dict) for row in document):
        if not document:
            raise SweepError(f"params is an empty list, so there would be no experiments. {_EXAMPLE}")
        parts = (reader.combinations(document),)
    else:
        raise SweepError(f"params must be an object from name to value, or a list of such objects. {_EXAMPLE}")
    return Params(parts, reader.warnings(), tuple(reader.swept))


def _load(text: str) -> Any:
    if len(text) > MAX_PARAMS:
        raise SweepError(
            f"params has {len(text):,} characters as JSON, but may have at most {MAX_PARAMS:,}: write long values to a "
            "file in your project, and pass the file's name"
        )
    try:
        return json.loads(
            text, parse_int=_Number, parse_float=_Number, parse_constant=_no_constant, object_pairs_hook=_object
        )
    except json.JSONDecodeError as error:
        raise SweepError(f"params is not JSON: {error.msg} at character {error.pos}. {_EXAMPLE}") from None
    except RecursionError:
        raise SweepError(f"params is nested too deeply: a list may hold lists, {_DEEPEST} levels at most") from None


def _no_constant(name: str) -> None:
    raise SweepError(f"params contains {name}, which is not JSON: write it as a text, {quoted(name)}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise SweepError(f"params has {quoted(twice)} twice; write a list of values to sweep over them")
    return found


class _Reader:
    """Turns the values of one document into parts of the command line."""

    def __init__(self, style: str) -> None:
        self._style = style
        self._is_flag = style != "k=v"
        self._forms: dict[str, str] = {}
        self.swept: list[str] = []

    def arguments(self, values: dict[str, Any]) -> tuple[Part, ...]:
        """Return a part for each name."""
        parts = []
        first: dict[str, str] = {}
        for key, value in values.items():
            name = self._name(key)
            if name in first:
                raise SweepError(
                    f"params names one argument twice, as {quoted(first[name])} and {quoted(key)}; write a list of "
                    "values to sweep over them"
                )
            first[name] = key
            flag = key if key.startswith("-") or not self._is_flag else f"--{key}"
            parts.append(self._part(flag, name, value))
        return tuple(parts)

    def combinations(self, rows: list[dict[str, Any]]) -> Combinations:
        """Return one part, of which each value is one of the combinations."""
        made = []
        for number, row in enumerate(rows):
            parts = self.arguments(row)
            for part in parts:
                if part.length > 1:
                    raise SweepError(
                        f"params[{number}]: {part.label} has {part.length:,} values, but in a list of dicts each dict "
                        "is one combination: write one value for each name, several words as a tuple, and a list as "
                        "it is inside of a list: [[64, 64]]",
                        part.flag,
                    )
            made.append(parts)
        self.swept.append(f"a list of {len(rows):,} combination{'s' if len(rows) > 1 else ''}")
        names = list(dict.fromkeys(name for row in rows for name in row))
        shown = ", ".join(map(clip, names[:_MOST_SHOWN])) + (", …" if len(names) > _MOST_SHOWN else "")
        return Combinations(f"params ({shown})", tuple(made))

    def warnings(self) -> tuple[str, ...]:
        """Return what is to be said about texts that look as if they were swept, a line for each of a few names."""
        lines = [
            f"params: {clip(flag)} is the text {quoted(value)}, which is passed on as it is: to sweep, write a list or "
            "an object of grid.sweep in its place"
            for flag, value in list(self._forms.items())[:_MOST_SHOWN]
        ]
        more = len(self._forms) - len(lines)
        if more:
            lines.append(f"params: {more:,} more names have such a text")
        return tuple(lines)

    def _name(self, key: str) -> str:
        """Return the name of the parameter."""
        known = _FLAG if self._is_flag else _KEY
        if not passable(key) or not known.fullmatch(key):
            form = (
                "a name without white space and without =, as in lr or --lr"
                if self._is_flag
                else "a key of letters, digits and _ . / @ -, which begins with a letter or _, + and ~ before it apart"
            )
            raise SweepError(f"params: {quoted(key)} is not {form} (params_style={quoted(self._style)})")
        return key.lstrip("-" if self._is_flag else "+~")

    def _part(self, flag: str, name: str, value: Any) -> Part:
        if isinstance(value, dict) and value.keys() == {"sweep"}:
            return self._form(flag, name, value["sweep"])
        label = f"{clip(flag)} in params"
        if not isinstance(value, list):
            return Choices(flag, label, (self._choice(flag, name, value),))
        if not value:
            raise SweepError(
                f"params: {clip(flag)}: the list is empty, so there would be no experiments; one empty list as a value "
                "is [[]]",
                flag,
            )
        self.swept.append(flag)
        if all(isinstance(each, str) for each in value):
            # The usual case, of which nothing is held but the texts.
            for each in value:
                self._check_text(flag, each)
            return Values(self._argument(flag, _shown(value)), name, tuple(map(str, value)))
        return Choices(flag, label, tuple(self._choice(flag, name, each, is_swept=True) for each in value))

    def _form(self, flag: str, name: str, text: Any) -> Part:
        label = f"params: {clip(flag)} {clip(str(text))}"
        self.swept.append(flag)
        try:
            if not isinstance(text, str) or isinstance(text, _Number):
                raise WrongForm("a sweep is a text", "uniform(0.0001, 0.1, 10)")
            form = read(text)
        except WrongForm as wrong:
            raise SweepError(f"{label}: {wrong.reason}. For example: sweep.{wrong.example}", flag) from None
        if isinstance(form, Switch):
            if not self._is_flag:
                raise SweepError(
                    f'{label}: a switch is a flag that is there or not, which params_style="k=v" has none of: write '
                    "[True, False]",
                    flag,
                )
            return switch(flag, name, self._argument(flag, text).typed(text), form)
        if form == (text,):
            raise SweepError(
                f"{label}: this is no form of the grammar, such as uniform(0.0001, 0.1, 10); use the objects of "
                "grid.sweep, or write a text without one",
                flag,
            )
        return Values(self._argument(flag, text), name, form)

    def _choice(self, flag: str, name: str, value: Any, *, is_swept: bool = False) -> Choice:
        if value is None:
            return Choice((), {})
        if isinstance(value, bool):
            if self._is_flag:
                return Choice((flag,) if value else (), {name: str(value)})
            return self._word(flag, name, str(value))
        if isinstance(value, str):
            self._check_text(flag, value)
            return self._word(flag, name, str(value))
        if isinstance(value, list) and is_swept:
            return self._word(flag, name, self._list(flag, value))
        if isinstance(value, dict) and value.keys() == {"words"} and isinstance(value["words"], list):
            return self._words(flag, name, value["words"])
        if isinstance(value, dict) and value.keys() == {"sweep"}:
            raise SweepError(f"params: {clip(flag)}: an object of grid.sweep cannot stand in a list", flag)
        raise SweepError(
            f"params: {clip(flag)}: a value must be null, true, false, a number, a text, a list of those, "
            '{"words": [...]} or {"sweep": "..."}',
            flag,
        )

    def _words(self, flag: str, name: str, values: list[Any]) -> Choice:
        if not self._is_flag:
            raise SweepError(
                f'params: {clip(flag)}: a tuple is several words, which params_style="k=v" cannot write: a list as it '
                "is, inside of a list, is [[64, 64]]",
                flag,
            )
        words = []
        for value in values:
            if not isinstance(value, (str, bool)):
                raise SweepError(f"params: {clip(flag)}: a tuple holds numbers, texts, True and False", flag)
            if isinstance(value, str):
                self._check_text(flag, value)
            words.append(str(value))
        return Choice((flag, *words), {name: " ".join(words)})

    def _word(self, flag: str, name: str, text: str) -> Choice:
        return Choice(self._argument(flag, text).words(text), {name: text})

    def _argument(self, flag: str, text: str) -> Argument:
        """Return an argument as it would be typed."""
        return Argument(flag, text, joined=self._style != "--k v")

    def _list(self, flag: str, value: Any, depth: int = 1) -> str:
        """Return a list as Python prints it."""
        if depth > _DEEPEST:
            raise SweepError(f"params: {clip(flag)}: a list is nested more than {_DEEPEST} levels deep", flag)
        if isinstance(value, list):
            return f"[{', '.join(self._list(flag, each, depth + 1) for each in value)}]"
        if value is None or isinstance(value, (bool, _Number)):
            return str(value)
        if not isinstance(value, str):
            raise SweepError(f"params: {clip(flag)}: a list in a list holds numbers, texts, True, False, None", flag)
        self._check_passable(flag, value)
        return repr(value)

    def _check_text(self, flag: str, value: str) -> None:
        self._check_passable(flag, value)
        if not value.rstrip().endswith(("]", ")")):
            return
        try:
            form = read(value)
        except WrongForm:
            return
        if form != (value,):
            self._forms.setdefault(flag, value)

    def _check_passable(self, flag: str, value: str) -> None:
        if not passable(value):
            raise SweepError(
                f"params: {clip(flag)} contains a null character or half of a surrogate pair, which no process can be "
                f"given: {quoted(value)}; leave it out",
                flag,
            )


def switch(flag: str, name: str, label: str, form: Switch) -> Choices:
    """Return a flag that is there, then one that is not, or another in its place."""
    there = Choice((flag,), {name: "True"})
    absent = Choice((form.absent,) if form.absent else (), {name: "False"})
    return Choices(flag, label, (there, absent))


def _shown(values: list[str]) -> str:
    """Return a list for messages, without its middle if it is long."""
    few = values if len(values) <= _MOST_SHOWN else values[:_MOST_SHOWN]
    return f"[{', '.join(few)}{', …' if len(values) > _MOST_SHOWN else ''}]"
