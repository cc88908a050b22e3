"""What a run would be, before it is started: what varies, the first commands, the price, and what to know of it."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grid.definition.checks import shown
from grid.errors import InvalidArgument
from grid.logs.labels import short
from grid.markup import details, element, join, pairs, table, whole
from grid.models import PlannedExperiment
from grid.shared.wire import MAX_PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from grid.definition.run_definition import RunDefinition
    from grid.markup import Markup
    from grid.models import PlannedRun
    from grid.session.session import Session
    from grid.source.left_out import LeftOut

_WIDTH = 120
_MORE = "…"
_EXACT = 2**53
"""Above it a float is no longer every whole number."""


@dataclass(frozen=True, slots=True, repr=False)
class Preview:
    """What :meth:`grid.Run.start` would make, as :meth:`grid.Run.preview` has asked. Nothing was created.

    Attributes
    ----------
    experiment_count
        How many experiments there would be.
    shape
        What is combined with what, and how many values each has: ``learning_rate × n_layer: 2 × 3``. What goes together
        is in parentheses, ``(a, b) × c: 4 × 2``; a random search is ``a × b: 10 of 48``. Empty if nothing varies.
    varying
        The names of the parameters that differ between the experiments, in the order of the command line.
    constant_count
        How many other arguments the script gets.
    experiments
        The first experiments: each has `parameters`, and the `invocation_command` that would be run.
    estimated_hourly_cost
        US dollars per hour for all experiments at once.
    left_out
        What lies beside the script and is not part of the run, the largest first.
    warnings
        What would be done differently from what was asked for, and what may not have been meant.

    Examples
    --------
    >>> preview = run.preview()  # doctest: +SKIP
    >>> preview.shape, preview.experiment_count  # doctest: +SKIP
    ('learning_rate × n_layer: 2 × 3', 6)
    >>> preview.commands[0]  # doctest: +SKIP
    'python train.py --learning_rate 0.1 --n_layer 2'
    """

    experiment_count: int
    shape: str
    varying: tuple[str, ...]
    constant_count: int
    experiments: tuple[PlannedExperiment, ...]
    estimated_hourly_cost: float
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...]

    @property
    def commands(self) -> tuple[str, ...]:
        """The command lines of the first experiments."""
        return tuple(each.invocation_command for each in self.experiments)

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _repr_html_(self) -> str:
        return whole(*self._parts())

    # What both say

    def _headline(self) -> str:
        what = self.shape or ("all with the same parameters" if self.experiment_count > 1 else "")
        return f"{_counted(self.experiment_count, 'experiment')}{f', {what}' if what else ''}"

    def _more(self) -> str:
        more = self.experiment_count - len(self.experiments)
        return f"{_MORE} and {more:,} more" if more else ""

    def _remarks(self) -> Iterator[str]:
        if self.constant_count:
            others = "other argument" if self.varying else "argument"
            verb = "does" if self.constant_count == 1 else "do"
            yield f"{_counted(self.constant_count, others)}, which {verb} not vary"
        yield f"{self.estimated_hourly_cost:,.2f} US dollars per hour for all experiments at once"
        if self.left_out:
            yield f"not part of the run: {', '.join(map(str, self.left_out))}"

    # As text

    def _lines(self) -> Iterator[str]:
        yield from _wrapped(f"Preview: {self._headline()}")
        yield ""
        yield from self._table()
        yield ""
        for remark in self._remarks():
            yield from _wrapped(remark)
        for warning in self.warnings:
            yield from _wrapped(f"warning: {warning}")

    def _table(self) -> Iterator[str]:
        names = [f"exp{index}" for index in range(len(self.experiments))]
        columns = [["", *names]]
        columns += [
            [short(name), *(short(each.parameters.get(name, "")) for each in self.experiments)] for name in self.varying
        ]
        commands = [_one_line(command) for command in self.commands]
        beside = [*columns, ["command", *commands]]
        if _width(beside) <= _WIDTH:
            yield from _aligned(beside)
            yield from filter(None, [self._more()])
            return
        # The commands have to stand below each other, and may be cut; `commands` has the whole of them.
        fitting = len(columns)
        while fitting > 1 and _width(columns[:fitting]) > _WIDTH:
            fitting -= 1
        if self.varying:
            yield from _aligned(columns[:fitting])
            yield from filter(None, [self._more()])
            if fitting < len(columns):
                yield f"{_MORE} and {_counted(len(columns) - fitting, 'parameter')} more that vary"
            yield ""
        yield from (_cut(line) for line in _aligned([names, commands]))
        yield from filter(None, [self._more()])

    # As HTML

    def _parts(self) -> Iterator[Markup]:
        yield element("div", element("b", "Preview: "), self._headline())
        rows = [
            (
                f"exp{index}",
                *(each.parameters.get(name, "") for name in self.varying),
                element("code", each.invocation_command),
            )
            for index, each in enumerate(self.experiments)
        ]
        yield table(["", *self.varying, "command"], rows, self._more())
        remarks = list(self._remarks())
        if self.constant_count:
            same = self.experiments[0].parameters.items()
            constant = [(name, value) for name, value in same if name not in {"Script", *self.varying}]
            yield details(remarks.pop(0), pairs(constant))
        for remark in remarks:
            yield element("div", remark)
        if self.warnings:
            yield join(element("div", element("b", "Warnings")), element("ul", *map(_item, self.warnings)))


def check_n(n: object) -> None:
    """Refuse what is not a number of experiments to show.

    Raises
    ------
    InvalidArgument
        The message says what was given and what is allowed.
    """
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MAX_PAGE_SIZE:
        message = f"n must be a whole number from 1 to {MAX_PAGE_SIZE:,}: how many experiments to show, not {shown(n)}"
        raise InvalidArgument(message)


def previewed(definition: RunDefinition, seed: int, session: Session, n: int) -> Preview:
    """Ask what a run would be.

    Parameters
    ----------
    definition
        The run.
    seed
        What its draws come from, if the definition does not say it.
    session
        Of the service.
    n
        How many experiments to show.

    Raises
    ------
    GridError
        What a start would raise.
    """
    from grid.session.sending import look_ahead  # noqa: PLC0415 - not before the first call

    found = look_ahead(definition, seed, session, first=n)
    plan = found.plan
    return Preview(
        experiment_count=plan.experiment_count,
        shape=shape_of(plan, is_search=definition.strategy == "random_search", repeats=definition.repeats),
        varying=tuple(each.name for each in plan.sweep),
        constant_count=plan.constant_count,
        experiments=plan.experiments,
        estimated_hourly_cost=plan.hourly_cost,
        left_out=found.left_out,
        warnings=found.warnings,
    )


def shape_of(plan: PlannedRun, *, is_search: bool, repeats: int = 1) -> str:
    """Return what is combined with what, and how many values each has; empty if nothing varies.

    Parameters
    ----------
    plan
        What the service says.
    is_search
        Whether the combinations are chosen at random.
    repeats
        How often each of them is run.
    """
    taken = plan.experiment_count // repeats
    if is_search and taken < plan.combination_count:
        names = [each.name for each in plan.sweep]
        times = names[-1:] == ["repeat"] and repeats > 1
        chosen = " × ".join(names[:-1] if times else names)
        number = f"{taken:,} of {_number(plan.combination_count)}"
        return f"{f'{chosen}: ' if chosen else ''}{number}{f', {repeats} times each' if times else ''}"
    if not plan.sweep:
        return ""
    axes = [[each.name for each in plan.sweep if each.axis == axis] for axis in range(len(plan.axes))]
    labels = [names[0] if len(names) == 1 else f"({', '.join(names)})" for names in axes]
    text = f"{' × '.join(labels)}: {' × '.join(f'{length:,}' for length in plan.axes)}"
    different = math.prod(plan.axes)
    if different == plan.experiment_count:
        return text
    return f"{text}, so that only {different:,} differ in their parameters"


def _number(count: float) -> str:
    return f"{count:,.0f}" if count < _EXACT else f"{count:.3g}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _item(text: str) -> Markup:
    return element("li", text)


def _one_line(command: str) -> str:
    return command if command.isprintable() else "".join(char if char.isprintable() else _MORE for char in command)


def _width(columns: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) for column in columns) + 2 * (len(columns) - 1)


def _aligned(columns: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in columns]
    for row in zip(*columns, strict=True):
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}{_MORE}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent="    ", break_on_hyphens=False)
