"""Waiting for runs and experiments, and watching them: until the end, until a deadline, and over lines that fail."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

import grid
from grid import errors, models
from grid.chain.endpoint import RetryPolicy
from grid.session import session as sessions
from grid.session import streams
from grid.session.session import Session
from grid.shared.wire import ExperimentStatus, Reason
from grid.watching import deadlines
from grid.watching.events import _Ended
from tests.faults.proxy import SUBSCRIPTION, Exchange, Fault, Proxy
from tests.support.gates import SCRIPT, Gates
from tests.support.requests import requests
from tests.support.services import ServiceProcess, service_process
from tests.support.waiting import wait_for_run, wait_until

Start = Callable[..., grid.Run]


@pytest.fixture
def gates(tmp_path: Path) -> Gates:
    """What the scripts wait for."""
    return Gates(tmp_path / "gates")


@pytest.fixture
def begin(start: Start, gates: Gates) -> Callable[[int], grid.Run]:
    """Start a run of so many experiments, two of which run at a time."""
    return lambda count: start(gates.arguments(count), text=SCRIPT)


@pytest.fixture
def start(session: object, tmp_path: Path) -> Iterator[Start]:
    """Start a run of a script."""
    started: list[grid.Run] = []

    def start(arguments: str, *, text: str, **options: object) -> grid.Run:
        script = tmp_path / f"script-{len(started)}" / "run.py"
        script.parent.mkdir()
        script.write_text(text)
        started.append(grid.create_run(str(script), script_args=arguments, localdir=True, cpus=1, **options))
        return started[-1]

    yield start
    for run in started:
        with suppress(errors.RunNotFound):  # deleted by the test
            grid.Run(run.name).cancel()


def statuses(run: grid.Run, name: str) -> list[str]:
    """What has happened to an experiment."""
    return [event.status for event in run.watch() if event.experiment == name]


def running(run: grid.Run, count: int) -> None:
    """Wait until so many scripts run."""
    wait_until(lambda: len(run.status().get("RUNNING", [])) == count, "the scripts")


# Waiting


def test_wait_until_the_end(begin: Callable[[int], grid.Run], gates: Gates) -> None:
    """The wait ends with the last experiment, not before, whatever became of it; an ended run costs one request."""
    run = begin(3)
    with ThreadPoolExecutor() as pool:
        waits = [pool.submit(run.wait), *(pool.submit(each.wait) for each in run)]
        gates.open(0)
        gates.open(1, code=1)
        assert waits[1].result(60).status() == "SUCCEEDED"
        assert waits[2].result(60).status() == "FAILED"
        assert not waits[0].done()
        assert not waits[3].done()
        gates.open(2)
        assert waits[0].result(60) is run
    assert {word: len(names) for word, names in run.status().items()} == {"SUCCEEDED": 2, "FAILED": 1}
    with requests(sessions.current()) as sent:
        assert run.wait(timeout=0) is run
    with requests(sessions.current()) as sent_for_all:
        for experiment in run:
            assert experiment.wait(timeout=0) is experiment
    assert (sent, sent_for_all) == ([1], [1])  # what has succeeded is known to have ended


def test_timeout_says_what_still_runs(begin: Callable[[int], grid.Run], gates: Gates) -> None:
    """Who waits no longer is told which experiments have not ended; all go on, and can be waited for again."""
    run = begin(5)
    gates.open(0)
    wait_until(lambda: "SUCCEEDED" in run.status(), "the first end")
    running(run, 2)
    first, second, *queued = [each.name for each in run][1:]
    for timeout in (0, 0.01):
        with pytest.raises(errors.WaitTimeout) as caught:
            run.wait(timeout)
        assert isinstance(caught.value, TimeoutError)
        assert str(caught.value) == (
            f"the run {run.name!r} has not ended within {timeout:g} s: 2 RUNNING ({first}, {second}), "
            f"2 QUEUED ({', '.join(queued)}). It goes on: wait again, or cancel it"
        )
    completed = run.as_completed(timeout=0.2)
    assert next(completed).name == f"{run.name}-exp0"
    with pytest.raises(errors.WaitTimeout, match=f"within 0.2 s: 2 RUNNING .{first}, "):
        next(completed)
    experiment = run.experiments[first]
    with pytest.raises(
        errors.WaitTimeout, match=f"the experiment {first!r} has not ended within 0 s: it was RUNNING when"
    ):
        experiment.wait(0)
    gates.open(1, 2, 3, 4)
    assert experiment.wait(60).status() == "SUCCEEDED"
    assert run.wait(60).status().keys() == {"SUCCEEDED"}


@pytest.mark.parametrize("how", ["wait", "as_completed", "experiment"])
def test_timeout_while_the_service_hangs(
    begin: Callable[[int], grid.Run],
    gates: Gates,
    service: ServiceProcess,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """A service that takes requests and does not answer holds up nobody who has a timeout, and is not asked again."""
    monkeypatch.setattr(deadlines, "_ONE_LOOK", 0.1)
    with Proxy(service.endpoint.url) as proxy:
        sessions.use(Session(dataclasses.replace(service.endpoint, url=proxy.url), is_embedded=False))
        run = begin(2)
        gates.open(0)
        wait_until(lambda: "SUCCEEDED" in run.status(), "the first end")
        experiment = next(each for each in grid.Run(run.name) if each.name.endswith("exp1"))
        known = experiment.status()
        asked: list[str] = []

        def plan(exchange: Exchange) -> Fault | None:
            asked.append(exchange.operation)
            return Fault.SILENCE

        proxy.plan = plan
        # What is asked without a deadline of its own is given up after 30 s.
        waits = {
            "wait": lambda: run.wait(0.05),
            "as_completed": lambda: list(run.as_completed(0.05)),
            "experiment": lambda: experiment.wait(0.05),
        }
        with pytest.raises(errors.WaitTimeout, match=f"it was {known} when" if how == "experiment" else "not answered"):
            waits[how]()
    sessions.use(service.session())
    assert len(asked) == 1


@pytest.mark.parametrize("timeout", [-1, float("nan"), "5", True, [1]])
def test_timeouts_that_are_none(begin: Callable[[int], grid.Run], timeout: object) -> None:
    """What is not a number of seconds is refused at once, with what was given."""
    run = begin(1)
    for wait in (run.wait, run.as_completed, next(iter(run)).wait):
        with pytest.raises(errors.InvalidArgument, match="timeout must be a number of seconds, 0 or more, or None"):
            wait(timeout)


@pytest.fixture
def described(session: object, tmp_path: Path) -> grid.Run:
    """A run that was not started."""
    script = tmp_path / "described.py"
    script.touch()
    return grid.Run(entrypoint=str(script), localdir=True)


def test_what_is_not_there_yet(begin: Callable[[int], grid.Run], described: grid.Run) -> None:
    """Metrics are refused until there are some, and so is a run that was not started."""
    run = begin(1)
    with pytest.raises(
        errors.InvalidArgument, match="metrics=True would tell the values of metrics, and these are not"
    ):
        run.watch(metrics=True)
    with pytest.raises(errors.InvalidArgument, match="progress='min val/loss' would show .* are not there yet"):
        run.wait(progress="min val/loss")  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidArgument, match="progress must be None, True or False, not 1"):
        run.wait(progress=1)  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidArgument, match="logs must be True or False, not 'yes'"):
        run.watch(logs="yes")  # type: ignore[arg-type]
    for call in (described.wait, described.as_completed, described.watch):
        with pytest.raises(errors.RunNotStarted, match="has not been started: there is nothing to wa"):
            call()


def test_deleted_meanwhile(begin: Callable[[int], grid.Run], gates: Gates, service: ServiceProcess) -> None:
    """Who waits for what somebody deletes is told so; who waited for the rest of its run goes on."""
    run = begin(3)
    other = grid.Run(run.name)
    gone, *_ = other
    gates.open(0)
    wait_until(lambda: gone.status() == "SUCCEEDED", "an end")
    with ThreadPoolExecutor() as pool:
        waits = [pool.submit(run.wait), pool.submit(lambda: [each.name for each in run.as_completed()])]
        watching = pool.submit(lambda: list(run.watch()))
        gone.delete()
        wait_until(lambda: len(grid.Run(run.name)) == 2, "the deletion")
        gates.open(1, 2)
        for wait in waits:
            wait.result(60)
        events = watching.result(60)
    told = [event for event in events if event.experiment == gone.name]
    assert [event.status for event in told if event.number > 3][-1] == "DELETED"
    assert gone.name not in [each.name for each in run.as_completed()]
    other.delete()
    for call in (run.wait, lambda: list(run.as_completed()), lambda: list(run.watch())):
        with pytest.raises(errors.RunNotFound, match=f"the run '{run.name}' no longer exists"):
            call()
    with pytest.raises(errors.ExperimentNotFound, match="no longer exists"):
        gone.wait()
    for call in (other.wait, other.as_completed, other.watch):  # it knows that itself
        with pytest.raises(errors.RunNotFound, match="no longer exists"):
            call()


def test_deleted_while_somebody_waits(begin: Callable[[int], grid.Run], gates: Gates) -> None:
    """A run that is cancelled and deleted ends every wait, and a wait for an experiment of it."""
    run = begin(2)
    running(run, 2)
    other = grid.Run(run.name)
    with ThreadPoolExecutor() as pool:
        waits = [pool.submit(run.wait), pool.submit(lambda: list(run.watch())), pool.submit(next(iter(run)).wait)]
        other.cancel()
        other.delete()
        for wait in waits:  # each has seen the end, or comes too late for it
            assert isinstance(wait.exception(60), (errors.NotFound, type(None)))


# The order of ends


def test_experiments_in_the_order_of_their_ends(begin: Callable[[int], grid.Run], gates: Gates) -> None:
    """Each comes when it has ended, and those that had ended before come first, in their order."""
    run = begin(4)
    name = [each.name for each in run]
    completed = run.as_completed()
    gates.open(1)
    assert next(completed).name == name[1]
    gates.open(2, code=3)
    assert next(completed).name == name[2]
    gates.open(0)
    assert next(completed).name == name[0]
    late = run.as_completed()
    gates.open(3)
    assert [each.name for each in completed] == [name[3]]
    assert [each.name for each in late] == [name[1], name[2], name[0], name[3]]
    assert [each.status() for each in run.as_completed()] == ["SUCCEEDED", "FAILED", "SUCCEEDED", "SUCCEEDED"]


def test_retried_experiments_come_at_their_last_end(begin: Callable[[int], grid.Run], gates: Gates) -> None:
    """An experiment that was retried has not ended; one that is retried after it came comes again."""
    run = begin(2)
    first, second = (each.name for each in run)
    seen = run.as_completed()
    gates.open(0, code=1)
    assert next(seen).name == first
    gates.close(0)
    assert run.retry() == [first]
    late = run.as_completed()
    gates.open(1)
    assert next(late).name == second
    gates.open(0)
    assert [each.name for each in late] == [first]
    assert [each.name for each in seen] == [second, first]
    assert [(each.name, each.attempt) for each in run.as_completed()] == [(second, 1), (first, 2)]
    told = [(event.status, event.attempt) for event in run.watch() if event.experiment == first]
    assert [pair for pair in told if pair[0] not in ("PENDING", "RUNNING")] == [
        ("FAILED", 1),
        ("QUEUED", 2),
        ("SUCCEEDED", 2),
    ]


def test_retried_by_who_hears_of_the_last_end(begin: Callable[[int], grid.Run], gates: Gates) -> None:
    """A loop that retries what has failed goes on until nothing fails any more, be it the last one of the run."""
    run = begin(1)
    gates.open(0, code=1)
    seen = []
    for experiment in run.as_completed(60):
        seen.append((experiment.attempt, experiment.status()))
        if len(seen) == 2:
            gates.close(0)
            gates.open(0)
        if experiment.status() == "FAILED":
            run.retry()
    assert seen == [(1, "FAILED"), (2, "FAILED"), (3, "SUCCEEDED")]
    told = []
    for event in run.watch():
        told.append((event.attempt, event.status))
        if told[-1] == (3, "SUCCEEDED"):
            run.delete()  # the loop has nothing more to hear of, and ends as it would have
    assert [pair for pair in told if pair[1] in ("QUEUED", "FAILED", "SUCCEEDED")] == [
        (1, "FAILED"),
        (2, "QUEUED"),
        (2, "FAILED"),
        (3, "QUEUED"),
        (3, "SUCCEEDED"),
    ]


def test_retried_while_logs_are_told(start: Start, tmp_path: Path) -> None:
    """Lines take longer to tell than changes: of what is retried meanwhile both are told."""
    text = "import sys\nfor n in range(30_000): print('line', n, 'x' * 100)\n"
    text += f"sys.exit(not pathlib.Path({str(tmp_path / 'mark')!r}).exists())"
    run = start("", text="import pathlib; " + text)
    run.wait(60)
    assert run.status().keys() == {"FAILED"}
    told = run.watch(logs=True)
    seen = [next(told) for _ in range(20_000)]
    (tmp_path / "mark").touch()
    run.retry()
    seen += told
    lines = [(event.attempt, event.number) for event in seen if isinstance(event, grid.LogPrinted)]
    assert lines == [(attempt, number) for attempt in (1, 2) for number in range(1, 30_001)]
    changes = [(event.attempt, event.status) for event in seen if isinstance(event, grid.StatusChanged)]
    assert changes[2:4] + changes[-1:] == [(1, "FAILED"), (2, "QUEUED"), (2, "SUCCEEDED")]


def test_ends_that_were_no_ends(start: Start, tmp_path: Path) -> None:
    """Of a long history, told in many pieces, an attempt that was retried much later is not taken for an end."""
    text = f"import pathlib, sys; mark = pathlib.Path({str(tmp_path / 'mark')!r})\n"
    text += "sys.exit(sys.argv[2] == '0' and not mark.exists())"
    run = start("--n 'range(40)'", text=text)
    run.wait(120)
    (tmp_path / "mark").touch()
    assert run.retry() == [f"{run.name}-exp0"]
    run.wait(60)
    names = [each.name for each in run.as_completed()]
    assert names[-1] == f"{run.name}-exp0"
    assert sorted(names) == sorted(each.name for each in run)


def test_lost_attempts_are_no_ends() -> None:
    """An end together with which the experiment was queued again counts for nothing, even if no more is known yet."""
    what = {"experiment_id": "1", "name": "x-exp0", "attempt": 1, "at": datetime.now(UTC)}
    lost = models.RunEvent(number=3, status=ExperimentStatus.FAILED, reason=Reason.LOST, is_queued_again=True, **what)
    ended = _Ended()
    ended.see([lost])
    assert ended.take() == []
    ended.see([dataclasses.replace(lost, is_queued_again=False)])
    assert ended.take() == ["x-exp0"]
    ended.see([dataclasses.replace(lost, is_queued_again=False, experiment_id=None)])
    assert ended.take() == []


def test_a_page_and_not_an_experiment(start: Start) -> None:
    """Taking the ends of many experiments asks for pages: not for each of them."""
    run = start("--n 'range(40)'", text="")
    wait_for_run(run)
    held = grid.Run(run.name)
    with requests(sessions.current()) as sent:
        assert [each.status() for each in held.as_completed()] == ["SUCCEEDED"] * 40
    assert sent[0] <= 3


# Watching


def test_everything_that_happens(begin: Callable[[int], grid.Run], gates: Gates) -> None:
    """Each change comes once, in order, with its time, its attempt and its reason; an event is a frozen object."""
    run = begin(2)
    watching = run.watch()
    gates.open(0)
    gates.open(1, code=7)
    events = list(watching)
    assert [event.number for event in events] == list(range(1, 7))
    assert [event.at for event in events] == sorted(event.at for event in events)
    assert {event.attempt for event in events} == {1}
    for index, end in enumerate(("SUCCEEDED", "FAILED")):
        assert statuses(run, f"{run.name}-exp{index}") == ["PENDING", "RUNNING", end]
    failed = next(event for event in events if event.status == "FAILED")
    assert (failed.experiment, failed.reason) == (f"{run.name}-exp1", "EXIT_CODE")
    assert str(failed).endswith(f"] {run.name}-exp1: FAILED (EXIT_CODE)")
    assert list(run.watch()) == events
    with pytest.raises(dataclasses.FrozenInstanceError):
        failed.status = "SUCCEEDED"  # type: ignore[misc]


def test_leaving_a_watch(begin: Callable[[int], grid.Run], gates: Gates) -> None:
    """An iterator that is left closes its connection, and the session goes on."""
    run = begin(1)
    for _ in run.watch():
        break
    for event in run.watch():
        assert event.status == "PENDING"
        break
    gates.open(0)
    run.wait(60)


# Lines that fail


@pytest.mark.parametrize("upgrades", [400, 403, 404, 426, 501, 502, 0])
def test_where_no_websocket_can_be_had(
    begin: Callable[[int], grid.Run],
    gates: Gates,
    service: ServiceProcess,
    upgrades: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind something that refuses upgrades, or hangs up, waiting and watching ask instead, and see the same."""
    monkeypatch.setattr(streams, "_FIRST_PAUSE", 0.05)
    with Proxy(service.endpoint.url) as proxy:
        proxy.upgrades = upgrades
        sessions.use(Session(dataclasses.replace(service.endpoint, url=proxy.url), is_embedded=False))
        run = begin(3)
        with ThreadPoolExecutor() as pool:
            waits = [
                pool.submit(run.wait),
                pool.submit(next(iter(run)).wait),
                pool.submit(lambda: [each.name for each in run.as_completed()]),
                pool.submit(lambda: list(run.watch())),
            ]
            wait_until(lambda: sessions.current().asks_since is not None, "no more WebSockets")
            for number in (1, 0, 2):
                gates.open(number)
                if number:
                    wait_until(lambda n=number: run.experiments[f"{run.name}-exp{n}"].status() == "SUCCEEDED", "an end")
            results = [wait.result(60) for wait in waits]
        tried = sum(exchange.operation == SUBSCRIPTION for exchange, _ in proxy.exchanges)
    sessions.use(service.session())
    run = grid.Run(run.name)
    assert results[2] == [each.name for each in run.as_completed()]
    assert results[3] == list(run.watch())
    assert 1 <= tried <= 4 * 3 * 2


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.BEFORE_ANSWER, Fault.IN_ANSWER_HEAD, Fault.IN_ANSWER_BODY])
def test_over_a_line_that_is_cut(
    begin: Callable[[int], grid.Run], gates: Gates, service: ServiceProcess, fault: Fault
) -> None:
    """However often the line is cut, each event is told once and none is missing."""

    def plan(exchange: Exchange) -> Fault | None:
        # One of three gets through, so that WebSockets are tried again and again.
        return fault if exchange.operation == SUBSCRIPTION and exchange.number % 3 else None

    with Proxy(service.endpoint.url, plan) as proxy:
        policy = RetryPolicy(first_wait=0.001, max_wait=0.01)
        sessions.use(Session(dataclasses.replace(service.endpoint, url=proxy.url), is_embedded=False, policy=policy))
        run = begin(6)
        with ThreadPoolExecutor() as pool:
            watching = [pool.submit(lambda: list(run.watch())) for _ in range(4)]
            order = pool.submit(lambda: [each.name for each in run.as_completed()])
            gates.open(*range(6))
            seen = [each.result(120) for each in watching]
        assert fault in proxy.faults()
    sessions.use(service.session())
    run = grid.Run(run.name)
    assert seen == [list(run.watch())] * 4
    assert order.result() == [each.name for each in run.as_completed()]
    assert len(seen[0]) == 18


def test_restart_in_the_middle(tmp_path: Path, gates: Gates, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits or watches outlives a service that is killed and started again elsewhere."""
    (tmp_path / "service").mkdir()
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    with service_process(tmp_path / "service", "--cpus", "2") as service:
        monkeypatch.setenv("GRID_HOME", str(service.home))
        sessions.use(service.session(is_embedded=True))
        before = service.endpoint.url
        run = grid.create_run(str(script), script_args=gates.arguments(4), localdir=True, cpus=1)
        running(run, 2)
        with ThreadPoolExecutor() as pool:
            waits = [
                pool.submit(run.wait),
                pool.submit(next(iter(run)).wait),
                pool.submit(lambda: [each.name for each in run.as_completed()]),
            ]
            told: list[grid.StatusChanged] = []
            watching = pool.submit(lambda: [told.append(event) for event in run.watch()])
            wait_until(lambda: len(told) == 4, "the first events")
            service.kill()
            gates.open(1)
            service.start()
            wait_until(lambda: len(told) > 4, "further events")
            service.stop()
            service.start()
            gates.open(0, 2, 3)
            results = [wait.result(120) for wait in waits]
            watching.result(60)
        assert service.endpoint.url != before
        assert results[2] == [each.name for each in run.as_completed()]
        assert told == list(run.watch())
        assert len(told) == 12


def test_service_that_has_gone(tmp_path: Path, gates: Gates) -> None:
    """A service elsewhere that does not come back ends the wait with an error that says so."""
    (tmp_path / "service").mkdir()
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    with service_process(tmp_path / "service", "--cpus", "1") as service:
        sessions.use(service.session(RetryPolicy(first_wait=0.001, max_wait=0.01, outage=0.1)))
        run = grid.create_run(str(script), script_args=gates.arguments(1), localdir=True, cpus=1)
        running(run, 1)
        seen = threading.Event()
        with ThreadPoolExecutor() as pool:

            def watch() -> None:
                for _ in run.watch():
                    seen.set()

            waits = [pool.submit(run.wait), pool.submit(watch)]
            assert seen.wait(60)
            service.kill()
            for wait in waits:
                error = wait.exception(60)
                assert isinstance(error, errors.ConnectionFailed), error
        gates.open(0)


# From a loop of the caller's own


def test_everything_can_be_awaited(begin: Callable[[int], grid.Run], gates: Gates) -> None:
    """Under a loop of one's own all of it works at once, and other tasks go on meanwhile."""
    run = begin(4)

    async def main() -> tuple[object, ...]:
        waits = [
            asyncio.create_task(grid.aio.wait(run)),
            asyncio.create_task(grid.aio.wait(next(iter(run)))),
            asyncio.create_task(_all(grid.aio.as_completed(run))),
            asyncio.create_task(_all(grid.aio.watch(run))),
        ]
        await asyncio.sleep(0)
        gates.open(3, 0, 1, 2)
        return tuple(await asyncio.gather(*waits))

    async def _all(items: object) -> list[object]:
        return [item async for item in items]  # type: ignore[attr-defined]

    waited, experiment, completed, events = asyncio.run(main())
    assert waited is run
    assert experiment is next(iter(run))
    assert [each.name for each in completed] == [each.name for each in run.as_completed()]
    assert events == list(run.watch())


def test_awaiting_and_cancelling(begin: Callable[[int], grid.Run], gates: Gates) -> None:
    """A task that is cancelled, or times out, ends the waiting at once; the run goes on, and so does the session."""
    run = begin(1)
    running(run, 1)

    async def main() -> None:
        for wait in (grid.aio.wait(run), grid.aio.wait(next(iter(run))), anext(aiter_of(run))):
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(0.05):
                    await wait
            assert not isinstance(caught.value, errors.GridError)
        task = asyncio.create_task(grid.aio.wait(run))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(errors.WaitTimeout, match="has not ended within 0 s: 1 RUNNING"):
            await grid.aio.wait(run, timeout=0)
        async for event in grid.aio.watch(run):
            assert event.status == "PENDING"
            break
        gates.open(0)
        await grid.aio.wait(run, timeout=60)

    def aiter_of(run: grid.Run) -> object:
        return grid.aio.as_completed(run)

    asyncio.run(main())
    assert run.status().keys() == {"SUCCEEDED"}


def test_awaiting_what_cannot_be(begin: Callable[[int], grid.Run], described: grid.Run) -> None:
    """What the methods refuse is refused here, too: by a call where it is called, else where it is awaited."""
    run = begin(1)
    with pytest.raises(errors.RunNotStarted):
        grid.aio.as_completed(described)
    with pytest.raises(errors.RunNotStarted):
        grid.aio.watch(described)
    with pytest.raises(errors.RunNotStarted):
        asyncio.run(grid.aio.wait(described))
    with pytest.raises(errors.InvalidArgument, match="metrics=True"):
        grid.aio.watch(run, metrics=True)
    with pytest.raises(errors.InvalidArgument, match="timeout must be"):
        asyncio.run(grid.aio.wait(run, timeout=-1))
    with pytest.raises(errors.InvalidArgument, match="progress='min"):
        asyncio.run(grid.aio.wait(next(iter(run)), progress="min val/loss"))  # type: ignore[arg-type]
