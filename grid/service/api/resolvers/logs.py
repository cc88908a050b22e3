"""Logs: a page of one experiment's, pieces of a run's, and a run's as they are printed."""

from __future__ import annotations

import asyncio
import math
import shlex
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from ariadne import ObjectType, SubscriptionType

from grid.service.api.context import Info
from grid.service.api.projections import Object, log_page_object
from grid.service.domain.errors import AttemptMissing, ExperimentMissing, InvalidValue
from grid.service.domain.launching import Launch
from grid.service.domain.logs import Asked
from grid.service.executors.protocol import Written
from grid.service.results.pages import Begin, Page, Time
from grid.shared.wire import ExperimentStatus

_experiment = ObjectType("Experiment")
_run = ObjectType("Run")
_subscription = SubscriptionType()

BINDABLES = (_experiment, _run, _subscription)

_LONGEST = 1e10
"""Seconds that are longer ago than anything."""
_MANY = 100
"""So many times of lines are not written down on the event loop."""
_PLACES = ("number", "since", "secondsAgo", "last")


@_experiment.field("log")
async def _log(
    experiment: Mapping[str, Any], info: Info, first: int, attempt: int | None = None, **place: Any
) -> Object:
    begin = _begin(info.context.service.logs.now(), {name: place.get(name) for name in _PLACES})
    written, has_ended = await _written(experiment, attempt)
    page = await info.context.service.logs.page(written, begin, first, has_ended=has_ended)
    parts = experiment["id"], experiment["name"], written.number, page
    # One that prints a line a second has a time for each.
    return log_page_object(*parts) if len(page.times) < _MANY else await asyncio.to_thread(log_page_object, *parts)


async def _written(experiment: Mapping[str, Any], attempt: int | None) -> tuple[Written, bool]:
    """Return an attempt of an experiment, and whether it has ended."""
    current = experiment["attempt"]
    if attempt is None or attempt == current:
        has_ended = ExperimentStatus(experiment["status"]).is_terminal
        return Written(experiment["id"], current, experiment["layout"]), has_ended
    if not 1 <= attempt < current:
        raise AttemptMissing(experiment["name"], attempt, current)
    ended = await experiment["endings"].of(experiment["seq"])
    layout = next((each["layout"] for each in ended if each["number"] == attempt), None)
    if layout is None:  # the experiment was deleted since its row was read
        raise ExperimentMissing(experiment["name"], experiment["id"])
    return Written(experiment["id"], attempt, layout), True


def _begin(now: int, place: Mapping[str, Any]) -> Begin:
    given = {name: value for name, value in place.items() if value is not None}
    if len(given) > 1:
        shown = ", ".join(f"{name}: {value}" for name, value in given.items())
        raise InvalidValue(" and ".join(given), shown, f"at most one of {', '.join(_PLACES)}")
    for name, least in (("number", 1), ("last", 0), ("secondsAgo", 0)):
        if name in given and not (math.isfinite(given[name]) and given[name] >= least):
            raise InvalidValue(name, given[name], f"{least} or more")
    if "secondsAgo" in given:
        return Begin(since=max(now - round(min(given["secondsAgo"], _LONGEST) * 1e6), 0))
    if "since" in given:
        return Begin(since=_microseconds(given["since"]))
    return Begin(number=given.get("number"), last=given.get("last"))


def _microseconds(since: object) -> int:
    try:
        moment = datetime.fromisoformat(str(since))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidValue("since", since, "a time in ISO 8601 with its offset, as in 2021-08-10T16:59:58.044624+00:00")
    passed = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


@_run.field("logs")
async def _logs(run: Object, info: Info, after: Mapping[str, str], **place: Any) -> Object:
    asked = Asked(run["id"], after=after, begin=_place(info, place))
    pieces, is_end = await info.context.service.logs.pieces(info.context.user, asked)
    pages = [log_page_object(each.experiment_id, each.name, each.attempt, each.page) for each in pieces]
    return {"pages": pages, "isEnd": is_end}


@_subscription.source("runLogs")
async def _follow(
    _: object,
    info: Info,
    id: str,  # noqa: A002 - the schema's word
    after: Mapping[str, str],
    experiment: str | None = None,
    **place: Any,
) -> AsyncGenerator[Object, None]:
    asked = Asked(id, experiment, after, _place(info, place))
    async with aclosing(info.context.service.logs.follow(info.context.user, asked)) as pieces:
        async for each in pieces:
            yield log_page_object(each.experiment_id, each.name, each.attempt, each.page)


@_subscription.field("runLogs")
def _followed(page: Object, _: Info, **__: object) -> Object:
    return page


def _place(info: Info, place: Mapping[str, Any]) -> Begin | None:
    """Return where to begin in what is not known yet; None if nothing is said of that."""
    if all(place.get(name) is None for name in _PLACES):
        return None
    return _begin(info.context.service.logs.now(), {name: place.get(name) for name in _PLACES})


@_run.field("buildLog")
def _build_log_of_run(run: Object, _: Info) -> Object:
    return _build_log(run, None, 1)


@_experiment.field("buildLog")
def _build_log_of_experiment(experiment: Mapping[str, Any], _: Info) -> Object:
    return _build_log(experiment, experiment["id"], experiment["attempt"])


def _build_log(of: Mapping[str, Any], experiment_id: str | None, attempt: int) -> Object:
    launch = Launch.stored(of["launch"], of["script"])
    if launch.launcher:
        program = f"their launcher: {shlex.join(launch.launcher)}"
    elif launch.runner == "python" and of["interpreter"]:
        program = of["interpreter"]
    else:  # it is looked for when an attempt is started, and nobody writes down what was found
        runner = "python3" if launch.runner == "python" else launch.runner
        program = f"the {runner} that the service's machine finds when each starts"
    lines = (
        "Nothing was built: experiments run in an environment that is there already.",
        f"Their scripts are run by {program}",
    )
    text = "".join(f"{line}\n" for line in lines)
    times = [Time(1, of["created_at"], is_approximate=False)]
    page = Page(1, len(lines), text, times, is_all=True, is_end=True)
    return log_page_object(experiment_id, of["name"], attempt, page)
