"""Tests of what has happened in a run: told once, in order, from any number on, to those who may read it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from grid import Run, errors, models, pause_cluster, resume_cluster
from grid.chain.registry import Registry
from grid.models import EventPiece, RunEvent
from grid.service.api.context import Context
from grid.service.api.operations import Operations
from grid.service.api.schema import executable_schema
from grid.service.domain import lifecycle
from grid.service.domain.accounts import User
from grid.service.domain.errors import RunMissing
from grid.service.executors.protocol import AttemptName, Ending
from grid.service.http.app import Application, opened
from grid.service.store import experiment_rows, run_rows
from grid.service.system.settings import Options
from grid.session.session import Session
from grid.shared.wire import ExperimentStatus, Reason
from tests.support.experiments import insert_run, lose, only, wait_until_ready
from tests.support.people import add_user, operated, session_of
from tests.support.services import ServiceProcess
from tests.support.waiting import wait_for_run

Start = Callable[..., Run]
RUNNING = ExperimentStatus.RUNNING

HOLD = """
import os, sys, time

print("ready")
folder, _, name = sys.argv[1:]
while not os.path.exists(os.path.join(folder, name)):
    time.sleep(0.01)
"""


def watch(session: Session, run: Run, after: int = 0, experiment: str | None = None) -> Iterator[EventPiece]:
    """The answers of a subscription."""
    for answer in session.subscribe(models.RunEvents, id=run.id, after=after, experiment=experiment):
        yield answer.run_events


def ask(session: Session, run: Run, after: int = 0, first: int = 1000, experiment: str | None = None) -> EventPiece:
    """A piece of what has happened, without a subscription."""
    found = session.execute(models.GetEvents, name=run.name, after=after, first=first, experiment=experiment).run
    assert found is not None
    assert found.id == run.id
    return found.events


def told(pieces: Iterator[EventPiece]) -> list[RunEvent]:
    """The events of all answers, which must go on where the one before ended, and of which the last is the end."""
    answers = list(pieces)
    assert [answer.is_end for answer in answers] == [False] * (len(answers) - 1) + [True]
    events = [event for answer in answers for event in answer.events]
    numbers = [event.number for event in events]
    assert numbers == sorted(set(numbers))
    for answer in answers:
        assert all(event.number <= answer.revision for event in answer.events)
    assert [answer.revision for answer in answers] == sorted(answer.revision for answer in answers)
    return events


def words(events: list[RunEvent], name: str) -> list[Any]:
    """The statuses of an experiment, in the order in which they were told."""
    return [event.status and event.status.value for event in events if event.name == name]


def test_everything_until_the_end(session: Session, start: Start) -> None:
    """A watcher hears each change of each experiment once, and the end with the last; who asks hears the same."""
    pause_cluster("local")
    try:
        run = start("import sys; sys.exit(int(sys.argv[2]))", "--n '[0, 1, 0]'")
        watching = watch(session, run)
        first = next(watching)
        assert first == EventPiece(revision=0, events=(), is_end=False) == ask(session, run)
    finally:
        resume_cluster("local")
    events = told(iter([first, *watching]))
    for name, status in zip(run.experiments, ("SUCCEEDED", "FAILED", "SUCCEEDED"), strict=True):
        assert words(events, name) == ["PENDING", "RUNNING", status]
    ids = {experiment.name: experiment.id for experiment in run}
    assert all(event.experiment_id == ids[event.name] and event.attempt == 1 for event in events)
    ended = [event for event in events if event.status and event.status.is_terminal]
    assert {event.reason for event in events} == {None, *(event.reason for event in ended)}
    assert not any(event.is_queued_again for event in events)
    assert [event.number for event in events] == list(range(1, 10))
    assert ask(session, run) == EventPiece(revision=9, events=tuple(events), is_end=True)


def test_from_any_number(session: Session, start: Start) -> None:
    """From any number on the rest is told, by either way and in pieces of any size."""
    run = start("", "--n '[0, 1]'")
    wait_for_run(run)
    events = told(watch(session, run))
    for after in range(len(events) + 1):
        assert told(watch(session, run, after)) == events[after:]
        assert list(ask(session, run, after).events) == events[after:]
        pieces = [ask(session, run, after, first=4)]
        while not pieces[-1].is_end:
            pieces.append(ask(session, run, pieces[-1].revision, first=4))
        assert told(iter(pieces)) == events[after:]


def test_one_experiment(service: ServiceProcess, session: Session, start: Start, tmp_path: Path) -> None:
    """Of one experiment only its events are told, and it is over with that, whatever becomes of the others."""
    run = start(HOLD, f"{tmp_path} --n '[0, 1]'")
    short, long = run
    wait_until_ready(service, short, long)
    watching = watch(session, run, experiment=short.id)
    first = next(watching)
    assert words(list(first.events), short.name) == ["PENDING", "RUNNING"]
    (tmp_path / "0").touch()
    events = told(iter([first, *watching]))
    assert words(events, short.name) == ["PENDING", "RUNNING", "SUCCEEDED"]
    assert {event.name for event in events} == {short.name}
    assert ask(session, run, experiment=short.id).is_end
    assert not ask(session, run, experiment=long.id).is_end
    assert not ask(session, run).is_end
    (tmp_path / "1").touch()
    assert len(told(watch(session, run))) == 6


@pytest.mark.parametrize(
    ("variables", "error", "message"),
    [
        ({"after": -1}, errors.InvalidArgument, "after=-1 is not allowed: expected the number of an event, or 0"),
        ({"after": 99}, errors.InvalidArgument, "after=99 is not allowed: expected at most 3, the number of the run's"),
        ({"experiment": "nobody"}, errors.ExperimentNotFound, "no experiment with the id 'nobody'"),
    ],
)
def test_what_cannot_be(
    session: Session, start: Start, variables: dict[str, Any], error: type[Exception], message: str
) -> None:
    """A number that no event has, and an experiment that the run does not have, are refused with what there is."""
    run = start("")
    wait_for_run(run)
    for call in (ask, lambda *args, **options: next(watch(*args, **options))):
        with pytest.raises(error, match=message):
            call(session, run, **variables)
    other = start("")
    with pytest.raises(errors.ExperimentNotFound):
        ask(session, run, experiment=only(other).id)


@pytest.mark.parametrize("first", [0, -1, 1001])
def test_pieces_of_no_size(session: Session, start: Start, first: int) -> None:
    """A piece has 1 to 1,000 events."""
    with pytest.raises(errors.GridError, match=f"first of Run.events is {first}: it must be from 1 to 1000"):
        ask(session, start(""), first=first)


def test_pieces(session: Session, start: Start) -> None:
    """A long history comes in pieces, without a pause between them, and nothing is left out."""
    pause_cluster("local")
    try:
        run = start("", "--n 'range(350)'")
        run.cancel()
    finally:
        resume_cluster("local")
    pieces = list(watch(session, run))
    events = told(iter(pieces))
    assert [event.number for event in events] == list(range(1, 351))
    assert [event.name for event in events] == list(run.experiments)
    assert max(len(piece.events) for piece in pieces) == 100
    assert told(watch(session, run, 317)) == events[317:]
    assert [event.number for event in ask(session, run, 340, first=7).events] == list(range(341, 348))


def test_deletion(service: ServiceProcess, session: Session, start: Start, tmp_path: Path) -> None:
    """A deletion is told by its name, also to those who come later; what happened to the experiment before is gone."""
    run = start(HOLD, f"{tmp_path} --n '[0, 1]'")
    first, second = run
    wait_until_ready(service, first, second)
    watching = watch(session, run)
    seen = [next(watching)]
    (tmp_path / "0").touch()
    while words(seen[-1].events, first.name)[-1:] != ["SUCCEEDED"]:
        seen.append(next(watching))
    first.delete()
    seen.append(next(watching))
    (deletion,) = seen[-1].events
    assert (deletion.name, deletion.experiment_id, deletion.status, deletion.reason) == (first.name, None, None, None)
    assert (deletion.attempt, deletion.is_queued_again) == (1, False)
    (tmp_path / "1").touch()
    events = told(iter([*seen, *watching]))
    assert words(events, first.name) == ["PENDING", "RUNNING", "SUCCEEDED", None]
    later = told(watch(session, run))
    assert later == [event for event in events if event.name != first.name or event.status is None]
    assert told(watch(session, run, deletion.number - 1)) == events[deletion.number - 1 :]
    with pytest.raises(errors.ExperimentNotFound):
        next(watch(session, run, experiment=first.id))


def test_queued_again(service: ServiceProcess, session: Session, start: Start, tmp_path: Path) -> None:
    """The end of an attempt that was lost and is queued again says so: the experiment has not ended with it."""
    run = start(HOLD, f"{tmp_path} --n '[0]'", max_retries=1)
    experiment = only(run)
    wait_until_ready(service, experiment)
    watching = watch(session, run, experiment=experiment.id)
    seen = [next(watching)]
    for attempt in (1, 2):
        lose(service, experiment, attempt)
        while not any(event.reason == "LOST" and event.attempt == attempt for event in seen[-1].events):
            seen.append(next(watching))
    events = told(iter([*seen, *watching]))
    once = ["PENDING", "RUNNING", "FAILED"]
    assert words(events, experiment.name) == [*once, "QUEUED", *once]
    assert [event.attempt for event in events] == [1, 1, 1, 2, 2, 2, 2]
    assert [event.number for event in events if event.is_queued_again] == [3]
    (tmp_path / "0").touch()
    run.retry()
    wait_for_run(run)
    by_owner = told(watch(session, run))
    assert by_owner[:7] == events
    assert [event.number for event in by_owner if event.is_queued_again] == [3]


def test_teammates(service: ServiceProcess, session: Session, start: Start, tmp_path: Path) -> None:
    """Who may read a run may watch it, but nobody else; who leaves the team hears nothing of the next change."""
    run = start(HOLD, f"{tmp_path} --n '[0, 1]'")
    wait_until_ready(service, *run)
    operated(service.home, "teams", "add", "watchers")
    operated(service.home, "teams", "join", "watchers", service.username)
    stranger = session_of(add_user(service, "stranger"))
    teammate = session_of(add_user(service, "teammate", "watchers"))
    for after in (0, -1, 99):
        with pytest.raises(errors.RunNotFound):
            next(watch(stranger, run, after))
    watching = watch(teammate, run)
    assert {event.name for event in next(watching).events} == set(run.experiments)
    (tmp_path / "0").touch()
    assert next(watching).events[-1].status == "SUCCEEDED"
    operated(service.home, "teams", "leave", "watchers", "teammate")
    (tmp_path / "1").touch()
    with pytest.raises(errors.RunNotFound):
        next(watching)
    wait_for_run(run)


class Watching:
    """A subscription of an application that starts nothing, so that everything happens when the test says."""

    def __init__(self, application: Application, **variables: Any) -> None:
        text = Registry().get("RunEvents").text
        self._service = application.service
        self._operations = Operations(executable_schema(), self._context)
        self._params = {"query": text, "variables": {"after": 0, **variables}}

    async def answers(self) -> AsyncGenerator[dict[str, Any], None]:
        document, operation = self._operations.load(self._params)
        context = Context(self._service, User("u", "u"))
        return await self._operations.subscribe(document, operation, self._params, context)

    @staticmethod
    async def _context(*_: Any) -> Any:
        raise AssertionError


def test_what_is_deleted_before_its_end_was_told(tmp_path: Path) -> None:
    """A watcher of an experiment that ends and is deleted at once hears of that; of a run, that it is gone."""

    async def play() -> None:
        async with opened(Options(home=tmp_path / "home", cpus=1), starting=False) as application:
            database, changes = application.database, application.service.changes
            (one, _) = await database.write(lambda connection: insert_run(connection, RUNNING, RUNNING))
            of_one = await Watching(application, id="r0", experiment=one).answers()
            of_all = await Watching(application, id="r0").answers()
            for answers in (of_one, of_all):
                assert (await anext(answers))["data"]["runEvents"] == {"revision": 0, "events": [], "isEnd": False}

            def end_and_delete(connection: Connection) -> None:
                lifecycle.end(connection, AttemptName(one, 1), Ending(Reason.EXIT_CODE, exit_code=0), at=1)
                experiment_rows.delete(connection, experiment_rows.by_id(connection, one), at=2)

            await database.write(end_and_delete)
            changes.announce([1])
            for answers, is_end in ((of_one, True), (of_all, False)):
                answer = (await anext(answers))["data"]["runEvents"]
                assert [(event["name"], event["status"]) for event in answer["events"]] == [("r0-exp0", None)]
                assert answer["isEnd"] is is_end
            with pytest.raises(StopAsyncIteration):
                await anext(of_one)
            await database.write(lambda connection: run_rows.delete(connection, run_rows.by_seq(connection, 1)))
            changes.announce([1])
            with pytest.raises(RunMissing, match="you have no run with the id 'r0'"):
                await anext(of_all)

    asyncio.run(play())
