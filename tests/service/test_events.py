"""Tests of what has happened in a run: told once, in order, from any number on, to those who may read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from grid import Run, errors, models, pause_cluster, resume_cluster
from grid.models import EventPiece, RunEvent
from grid.session.session import Session
from tests.support.experiments import only, wait_until_ready
from tests.support.services import ServiceProcess
from tests.support.waiting import wait_for_run

Start = Callable[..., Run]

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
