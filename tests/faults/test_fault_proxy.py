"""A line between client and service on which everything goes wrong: nothing is done twice, and nothing is lost."""

from __future__ import annotations

import ast
import asyncio
import json
import subprocess
import warnings
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from graphql import build_schema

import grid
from grid import errors, models
from grid.chain import loop
from grid.chain.endpoint import Endpoint, RetryPolicy
from grid.chain.transport import Transport
from grid.session import session as sessions
from grid.session import waiting
from grid.session.session import Session
from grid.session.streams import Stream, follow
from tests.acceptance.test_walk_through import DOCUMENT, WalkThrough, read_document, runs_of_earlier_days
from tests.acceptance.test_walk_through import SCRIPT as WALK_THROUGH_SCRIPT
from tests.faults.proxy import SILENT, SUBSCRIPTION, UPLOAD, Exchange, Fault, Proxy, at_random, once
from tests.faults.sizes import figure, seed, size
from tests.support.experiments import RECOUNT, database_of
from tests.support.projects import make_project
from tests.support.requests import requests
from tests.support.services import ServiceProcess, login_environment, service_process
from tests.support.waiting import wait_for_run, wait_until

QUICK = RetryPolicy(first_wait=0.001, max_wait=0.01)
IMPATIENT = RetryPolicy(
    first_wait=0.001, max_wait=0.01, read_timeout=0.5, tries=100, deadline=60, slowest_upload=2.0**22
)
"""If nothing comes, the client must give up before it can try again."""

HARMLESS = {Fault.DELAY, Fault.AFTER_ANSWER}
"""They spoil nothing of the request that they meet."""

OF_A_BODY = {
    Fault.AFTER_ANSWER_HEAD,
    Fault.IN_ANSWER_BODY,
    Fault.TRUNCATED_JSON,
    Fault.LENGTH_TOO_SHORT,
    Fault.EMPTY,
}
"""They spoil nothing of an answer that has no body, as that to an upload."""


@pytest.fixture(scope="module")
def paused_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service that starts nothing, so that what is counted does not change."""
    with service_process(tmp_path_factory.mktemp("paused"), "--grace", "1", "--cpus", "2") as running:
        running.session().execute(models.PauseCluster, name="local")
        yield running


def log_in(proxy: Proxy, service: ServiceProcess, policy: RetryPolicy) -> Session:
    """Log in through a proxy; this becomes the session of this process."""
    endpoint = Endpoint(proxy.url, service.endpoint.user_id, service.endpoint.api_key)
    sessions.use(Session(endpoint, is_embedded=False, policy=policy))
    return sessions.current()


def start(folder: Path) -> grid.Run:
    """Start a run of three experiments that has the folder's name, from source code that no other run has."""
    folder.mkdir()
    script = folder / "train.py"
    # A large upload is read while it is sent.
    script.write_text(f"# {folder}\n" + "# padding\n" * (110_000 if folder.name.startswith(UPLOAD) else 20_000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", grid.GridWarning)
        return grid.create_run(str(script), script_args="--x '[1, 2, 3]'", localdir=True, cpus=1, name=folder.name)


def events_of(service: ServiceProcess, name: str) -> Counter[str]:
    """How often the experiments of a run reached each status."""
    query = (
        "SELECT events.status FROM events JOIN experiments ON experiments.seq = events.experiment_seq "
        "JOIN runs ON runs.seq = experiments.run_seq WHERE runs.name = ?"
    )
    with database_of(service) as connection:
        return Counter(status for (status,) in connection.execute(query, [name]))


def count_of(service: ServiceProcess, table: str) -> int:
    """Count the rows of a table, past the service."""
    with database_of(service) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - a name of ours


# One fault at a time

# What a client does so that it sends a request of that name, with a folder whose run already exists.
CALLS: dict[str, Callable[[Path], Any]] = {
    "CancelRun": lambda folder: grid.cancel_run(folder.name),
    "GetRunStatus": lambda folder: grid.Run(folder.name).status()["QUEUED"],
    "GetRun": lambda folder: list(grid.Run(folder.name).experiments),
    "GetExperimentByName": lambda folder: [grid.get_experiment_by_name(f"{folder.name}-exp{i}").name for i in range(3)],
    "CancelExperiment": lambda folder: [grid.cancel_experiment(f"{folder.name}-exp{i}") for i in range(3)],
}
# The same if the run does not exist yet.
STARTS = ("StartRun", UPLOAD, "CreateSnapshot", "Estimate")
CHOSEN = [*STARTS[: size(2, len(STARTS))], *list(CALLS)[: size(2, len(CALLS))]]
CASES = [(name, fault) for name in CHOSEN for fault in Fault]


@pytest.mark.parametrize(
    ("operation", "fault"), CASES, ids=[f"{name}-{fault.name.replace('_', '-').lower()}" for name, fault in CASES]
)
def test_spoiled_request_is_made_good(
    paused_service: ServiceProcess, tmp_path: Path, operation: str, fault: Fault
) -> None:
    """A request whose first try is spoiled succeeds with the second, and what it does is done once."""
    folder = tmp_path / f"{operation}-{fault.name.replace('_', '-')}".lower()
    names = [f"{folder.name}-exp{index}" for index in range(3)]
    before = {table: count_of(paused_service, table) for table in ("runs", "experiments", "snapshots")}

    with Proxy(paused_service.endpoint.url) as proxy:
        session = log_in(proxy, paused_service, IMPATIENT if fault in SILENT else QUICK)
        if operation in CALLS:
            start(folder)
        proxy.plan = once(operation, fault)
        given = CALLS[operation](folder) if operation in CALLS else list(start(folder).experiments)
        assert given == names
        assert fault in proxy.faults()
        tries = sum(exchange.operation == operation for exchange, _ in proxy.exchanges)
        # No request gets the answer to an earlier one.
        assert session.execute(models.Clusters).clusters[0].name == "local"

    harmless = HARMLESS | OF_A_BODY if operation == UPLOAD else HARMLESS
    wanted = {"GetExperimentByName": 3, "CancelExperiment": 3}.get(operation, 1) + (fault not in harmless)
    # A connection that was closed behind the client's back spoils the next request; on a busy machine, more.
    assert tries == wanted or (fault in (*SILENT, Fault.AFTER_ANSWER) and tries > wanted)
    after = {table: count_of(paused_service, table) for table in before}
    assert {table: after[table] - before[table] for table in before} == {"runs": 1, "experiments": 3, "snapshots": 1}
    ends = events_of(paused_service, folder.name)["CANCELLED"]
    assert ends == (3 if operation.startswith("Cancel") else 0)
    assert list((paused_service.home / "incoming").iterdir()) == []


# The most dangerous first: the service has done it, and the client does not know.
BY_DANGER = sorted(
    Fault, key=lambda fault: fault not in {Fault.BEFORE_ANSWER, Fault.IN_ANSWER_BODY, Fault.AFTER_REQUEST}
)
SOME_FAULTS = BY_DANGER[: size(4, len(BY_DANGER))]


@contextmanager
def spoiled(service: ServiceProcess, folder: Path, operation: str, fault: Fault) -> Iterator[grid.Run]:
    """Yield a run that is started over a line on which the first request of an operation will be spoiled."""
    with Proxy(service.endpoint.url, once(operation, fault)) as proxy:
        log_in(proxy, service, IMPATIENT if fault in SILENT else QUICK)
        yield start(folder)
        assert fault in proxy.faults()


def rows_of(service: ServiceProcess, run: grid.Run) -> list[tuple[int, int, str]]:
    """Index, attempt and status of a run's experiments, past the service."""
    query = (
        'SELECT experiments."index", experiments.attempt, experiments.status FROM experiments '
        "JOIN runs ON runs.seq = experiments.run_seq WHERE runs.id = ? ORDER BY 1"
    )
    with database_of(service) as connection:
        return connection.execute(query, [run.id]).fetchall()


@pytest.mark.parametrize("fault", SOME_FAULTS, ids=lambda fault: fault.name)
def test_spoiled_retry_is_one_attempt(paused_service: ServiceProcess, tmp_path: Path, fault: Fault) -> None:
    """A retry whose first try is spoiled gives each failed experiment one more attempt, and says which."""
    with spoiled(paused_service, tmp_path / f"retry-{fault.value}", "RetryRun", fault) as run:
        with database_of(paused_service) as connection:
            query = (
                "UPDATE experiments SET status = 'FAILED', reason = 'LOST', finished_at = created_at "
                'WHERE "index" <> 1 AND run_seq = (SELECT seq FROM runs WHERE id = ?)'
            )
            connection.execute(query, [run.id])
            connection.execute(RECOUNT)
        assert run.retry() == [f"{run.name}-exp0", f"{run.name}-exp2"]
    assert rows_of(paused_service, run) == [(0, 2, "QUEUED"), (1, 1, "QUEUED"), (2, 2, "QUEUED")]


@pytest.mark.parametrize("fault", SOME_FAULTS, ids=lambda fault: fault.name)
def test_spoiled_deletion(paused_service: ServiceProcess, tmp_path: Path, fault: Fault) -> None:
    """A deletion whose first try is spoiled succeeds with the second, and takes nothing else along."""
    with spoiled(paused_service, tmp_path / f"delete-run-{fault.value}", "DeleteRun", fault) as run:
        before = count_of(paused_service, "runs")
        run.cancel()
        run.delete()
    assert rows_of(paused_service, run) == []
    assert count_of(paused_service, "runs") == before - 1

    with spoiled(paused_service, tmp_path / f"delete-one-{fault.value}", "DeleteExperiment", fault) as run:
        one = run.experiments[f"{run.name}-exp1"]
        one.cancel()
        one.delete()
    assert rows_of(paused_service, run) == [(0, 1, "QUEUED"), (2, 1, "QUEUED")]


def test_upload_whose_address_has_expired(paused_service: ServiceProcess, tmp_path: Path) -> None:
    """If the address of an upload is refused, another one is requested, once."""

    class Late(Session):
        late = 1

        def upload(self, path: str, archive: Path, size: int) -> None:
            if self.late:
                self.late -= 1
                path = path.replace("expires=1", "expires=0")  # and so the signature no longer fits
            super().upload(path, archive, size)

    sessions.use(Late(paused_service.endpoint, is_embedded=False))
    assert len(start(tmp_path / "late")) == 3

    sessions.current().late = 2
    with pytest.raises(errors.PermissionDenied, match="createSnapshot"):
        start(tmp_path / "too-late")


def test_repr_over_a_bad_line(paused_service: ServiceProcess, tmp_path: Path) -> None:
    """A repr whose first tries are spoiled still shows how things are, within the time that it has."""
    with Proxy(paused_service.endpoint.url, once("GetRunStatus", Fault.IN_ANSWER_BODY, 2)) as proxy:
        log_in(proxy, paused_service, QUICK)
        run = start(tmp_path / "shown")
        grid.cancel_run(run.name)
        assert "status={'CANCELLED': 3}," in repr(run)
        assert proxy.faults() == [Fault.IN_ANSWER_BODY] * 2


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.PAGE], ids=lambda fault: fault.name)
def test_login_that_is_spoiled(paused_service: ServiceProcess, fault: Fault) -> None:
    """The very first request is retried as well, whatever came instead of its answer."""
    with Proxy(paused_service.endpoint.url, once("Login", fault, 2)) as proxy:
        session = log_in(proxy, paused_service, IMPATIENT if fault in SILENT else QUICK)
        assert session.viewer.username == paused_service.username
        assert proxy.faults()[: len(proxy.exchanges) - 1] == [fault] * (len(proxy.exchanges) - 1)


def test_embedded_service_is_asked_until_it_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a service lives the client keeps asking for a time, not a number of times: a machine may be slow."""
    with service_process(tmp_path, "--cpus", "1") as service, Proxy(service.endpoint.url) as proxy:
        monkeypatch.setenv("GRID_HOME", str(service.home))
        record = service.home / "service" / "service.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), "url": proxy.url}))
        endpoint = Endpoint(proxy.url, service.endpoint.user_id, service.endpoint.api_key)
        session = Session(endpoint, is_embedded=True, policy=RetryPolicy(tries=2, first_wait=0.001, max_wait=0.001))
        proxy.plan = once("Clusters", Fault.REFUSED, 20)
        assert session.execute(models.Clusters).clusters[0].name == "local"
        assert proxy.faults() == [Fault.REFUSED] * 20


def test_embedded_service_that_has_moved_is_asked_however_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call whose time is over still asks the service once that it has just found somewhere else."""
    with service_process(tmp_path, "--cpus", "1") as service, Proxy(service.endpoint.url) as proxy:
        monkeypatch.setenv("GRID_HOME", str(service.home))
        endpoint = Endpoint(proxy.url, service.endpoint.user_id, service.endpoint.api_key)
        session = Session(endpoint, is_embedded=True, policy=replace(QUICK, patience=0))
        proxy.plan = lambda _: Fault.REFUSED
        assert session.execute(models.Clusters).clusters[0].name == "local"
        assert session.url == service.endpoint.url


def test_embedded_service_is_not_asked_without_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a policy allows one try and no pause of its own, the rounds of a call still wait between them."""
    with service_process(tmp_path, "--cpus", "1") as service, Proxy(service.endpoint.url) as proxy:
        monkeypatch.setenv("GRID_HOME", str(service.home))
        record = service.home / "service" / "service.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), "url": proxy.url}))
        endpoint = Endpoint(proxy.url, service.endpoint.user_id, service.endpoint.api_key)
        policy = RetryPolicy(tries=1, first_wait=0.05, max_wait=0.2, patience=0.5)
        session = Session(endpoint, is_embedded=True, policy=policy)
        proxy.plan = lambda _: Fault.REFUSED
        with pytest.raises(errors.ConnectionFailed):
            session.execute(models.Clusters)
        assert len(proxy.faults()) <= 6


def test_page_is_believed_until_the_service_has_answered(paused_service: ServiceProcess) -> None:
    """A complete page of another program means at login that the address is wrong; later, that something is between."""
    with Proxy(paused_service.endpoint.url, lambda _: Fault.PAGE) as proxy:
        with pytest.raises(errors.InvalidResponse, match="Sign in.*Check the URL"):
            log_in(proxy, paused_service, QUICK)
        assert len(proxy.exchanges) == 1

        proxy.plan = lambda _: None
        session = log_in(proxy, paused_service, QUICK)
        proxy.plan = lambda _: Fault.PAGE
        with pytest.raises(errors.InvalidResponse, match=r"Sign in.*6 tries over.*in between") as caught:
            session.execute(models.Clusters)
    assert "Check the URL" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (Fault.REFUSED, errors.ConnectionFailed, "disconnected"),
        (Fault.IN_ANSWER_BODY, errors.ConnectionFailed, "payload"),
        (Fault.BAD_GATEWAY, errors.ConnectionFailed, "HTTP 502"),
        (Fault.RANDOM_BYTES, errors.InvalidResponse, "does not speak HTTP"),
        (Fault.TRUNCATED_JSON, errors.InvalidResponse, "the answer is broken"),
        (Fault.SILENCE, errors.RequestTimeout, "no answer within 0.5 s"),
    ],
)
def test_error_at_the_deadline_says_what_was_tried(
    paused_service: ServiceProcess, fault: Fault, kind: type[errors.GridError], says: str
) -> None:
    """A fault that never passes is an error with operation, address, number and time of the tries, and last failure."""
    with Proxy(paused_service.endpoint.url) as proxy:
        session = log_in(proxy, paused_service, QUICK)
        proxy.plan = lambda _: fault
        patience = 0.5 if fault is Fault.SILENCE else 30  # a service that does answer may be slow
        session.policy = RetryPolicy(first_wait=0.001, max_wait=0.01, read_timeout=patience, tries=5, deadline=60)
        with pytest.raises(kind) as caught:
            session.execute(models.Clusters)
        assert proxy.faults() == [fault] * 5

    message = str(caught.value)
    assert message.startswith(f"Clusters at {proxy.url}: ")
    assert "(5 tries over " in message
    assert says in message


def test_service_that_hangs_gets_two_whole_tries(paused_service: ServiceProcess) -> None:
    """Without a deadline each try has its whole time; with one, the error says that the last was cut short."""
    with Proxy(paused_service.endpoint.url) as proxy:
        session = log_in(proxy, paused_service, QUICK)
        proxy.plan = lambda _: Fault.SILENCE
        # The second begins as late as twice the time: a busy machine notices only then that the first has had its own.
        session.policy = RetryPolicy(first_wait=0.001, read_timeout=1)
        with pytest.raises(errors.RequestTimeout, match=r"no answer within 1 s \(2 tries over"):
            session.execute(models.Clusters)

        session.policy = RetryPolicy(read_timeout=30, deadline=0.5)
        # What is left is less than the whole where a busy machine took its time to begin.
        with pytest.raises(
            errors.RequestTimeout, match=r"no answer within 0\.\d+ s, all that was left of 0\.5 s \(1 try"
        ):
            session.execute(models.Clusters)


REPEATABLE = {
    "createSnapshot": "announces content by its digest",
    "startRun": "has a key",
    "cancelRun": "cancels what is not cancelled yet",
    "cancelExperiment": "cancels what is not cancelled yet",
    "retryRun": "has a key",
    "deleteRun": "names what it deletes by its id, which nothing else ever has",
    "deleteExperiment": "names what it deletes by its id, which nothing else ever has",
    "pauseCluster": "pauses what is not paused yet",
    "resumeCluster": "resumes what is paused",
}


def test_every_mutation_may_be_repeated() -> None:
    """The transport repeats whatever it carries: for each mutation there is a reason why that does no harm."""
    mutations = build_schema(grid.schema_path().read_text()).mutation_type
    assert mutations is not None
    assert set(mutations.fields) == set(REPEATABLE)


# Watching


class Statuses(Stream[models.StatusGroups]):
    """The status of a run, each time that it has changed."""

    def __init__(self, run: grid.Run) -> None:
        super().__init__(sessions.current())
        self.name = run.name
        self.revision = -1
        self.tries = 0

    def is_news(self, status: models.StatusGroups) -> bool:
        """Move the cursor on to a status, unless it is where it was."""
        is_news = status.revision > self.revision
        self.revision = status.revision
        self.is_over = all(group.status.is_terminal for group in status.groups)
        return is_news

    async def pushed(self) -> AsyncGenerator[models.StatusGroups, None]:
        """Yield what comes over one WebSocket."""
        self.tries += 1
        async with aclosing(self.session.listen(models.RunStatusChanged, name=self.name)) as answers:
            async for answer in answers:
                if self.is_news(answer.run_status_changed):
                    yield answer.run_status_changed

    async def polled(self) -> AsyncGenerator[models.StatusGroups, None]:
        """Yield what is new."""
        answer = await self.session.ask(models.GetRunStatus, name=self.name)
        assert answer.run is not None
        if self.is_news(answer.run.status):
            yield answer.run.status


@pytest.fixture
def gated(service: ServiceProcess, tmp_path: Path) -> Iterator[tuple[Path, Callable[[], grid.Run]]]:
    """A file that the scripts of a run wait for, and what starts such a run with the session of the process."""
    gate = tmp_path / "gate"
    script = tmp_path / "wait.py"
    script.write_text(f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.02)\n")
    yield gate, lambda: grid.create_run(str(script), script_args="--x '[1, 2]'", localdir=True, cpus=1)
    gate.touch()


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.BEFORE_ANSWER, Fault.IN_ANSWER_HEAD, Fault.IN_ANSWER_BODY])
def test_subscription_that_is_cut_begins_again(
    service: ServiceProcess, gated: tuple[Path, Callable[[], grid.Run]], fault: Fault
) -> None:
    """A client that watches a run sees its end, and nothing twice, however often the line is cut on the way."""
    gate, start_gated = gated

    def plan(exchange: Exchange) -> Fault | None:
        if exchange.operation != SUBSCRIPTION:
            return None
        if exchange.number == 2:
            gate.touch()
        return fault if exchange.number < 2 else None

    with Proxy(service.endpoint.url, plan) as proxy:
        log_in(proxy, service, QUICK)
        watched = Statuses(start_gated())
        seen = list(loop.iterate(follow(watched)))
        assert proxy.faults() == [fault] * 2

    assert [status.revision for status in seen] == sorted({status.revision for status in seen})
    assert {group.status.value: len(group.names) for group in seen[-1].groups} == {"SUCCEEDED": 2}
    assert watched.session.asks_since is None


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.IN_ANSWER_HEAD])
def test_subscription_that_is_always_cut(
    service: ServiceProcess, gated: tuple[Path, Callable[[], grid.Run]], fault: Fault
) -> None:
    """Where no WebSocket lasts, the client asks, after longer and longer pauses, and tries another once a minute."""
    gate, start_gated = gated
    now, pauses = 1000.0, []

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        pauses.append(seconds)
        if len(pauses) == 20:
            gate.touch()
        if gate.exists():
            await asyncio.sleep(0.05)

    with Proxy(service.endpoint.url, lambda exchange: fault if exchange.operation == SUBSCRIPTION else None) as proxy:
        log_in(proxy, service, QUICK)
        run = start_gated()
        wait_until(lambda: run.status().keys() == {"RUNNING"}, "the scripts")
        watched = Statuses(run)
        seen = list(loop.iterate(follow(watched, clock=lambda: now, sleep=sleep)))

    assert [status.revision for status in seen] == sorted({status.revision for status in seen})
    assert {group.status.value: len(group.names) for group in seen[-1].groups} == {"SUCCEEDED": 2}
    # Three are cut at once, and after a minute there is another; the first request has brought something.
    assert pauses[:15] == [0.1, 0.1, 1.0, 2.0, 4.0, 8.0, *[10.0] * 9]
    assert watched.tries == 3 + (sum(pauses[2:]) - 5) // 60


def test_service_that_does_not_answer_any_more(paused_service: ServiceProcess, tmp_path: Path) -> None:
    """A line on which nothing passes any more is an error that says what was asked, and how often."""
    with Proxy(paused_service.endpoint.url) as proxy:
        log_in(proxy, paused_service, QUICK)
        watched = Statuses(start(tmp_path / "silent"))
        proxy.plan = lambda _: Fault.IN_ANSWER_HEAD
        with pytest.raises(errors.ConnectionFailed, match=rf"GetRunStatus at {proxy.url}: .*6 tries over"):
            list(loop.iterate(follow(watched)))


@pytest.mark.parametrize("pauses_until_back", [7, None])
def test_service_that_goes_after_it_has_worked(
    service: ServiceProcess,
    gated: tuple[Path, Callable[[], grid.Run]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    pauses_until_back: int | None,
) -> None:
    """Whoever follows waits for a service that has answered before, for minutes, and says so; then the error comes."""
    monkeypatch.setattr(waiting, "_SECONDS", 0)
    gate, start_gated = gated
    now, pauses, is_back = 1000.0, [], False

    async def sleep(seconds: float) -> None:
        nonlocal now, is_back
        if is_back:
            await asyncio.sleep(0.05)
            return
        now += seconds
        pauses.append(seconds)
        if len(pauses) == pauses_until_back:
            gate.touch()
            is_back = True

    with Proxy(service.endpoint.url) as proxy:
        log_in(proxy, service, QUICK)
        run = start_gated()
        wait_until(lambda: run.status().keys() == {"RUNNING"}, "the scripts")
        watched = Statuses(run)
        following = loop.iterate(follow(watched, asks_first=True, clock=lambda: now, sleep=sleep))
        seen = [next(following)]
        proxy.plan = lambda _: None if is_back else Fault.REFUSED
        proxy.cut()
        if pauses_until_back:
            seen += following
            assert {group.status.value: len(group.names) for group in seen[-1].groups} == {"SUCCEEDED": 2}
        else:
            with pytest.raises(errors.ConnectionFailed, match=rf"GetRunStatus at {proxy.url}: .*6 tries over"):
                list(following)
            assert sum(pauses) == 600
    assert pauses[:7] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]
    told = f"grid: still waiting for the service at {proxy.url}, which does not answer\n"
    assert capsys.readouterr().err.count(told) == 1


def test_key_that_is_refused_after_it_has_worked(
    service: ServiceProcess, gated: tuple[Path, Callable[[], grid.Run]]
) -> None:
    """A refusal is no reason to wait."""
    _, start_gated = gated

    async def sleep(seconds: float) -> None:
        pytest.fail(f"a pause of {seconds} s")

    with Proxy(service.endpoint.url) as proxy:
        log_in(proxy, service, QUICK)
        watched = Statuses(start_gated())
        following = loop.iterate(follow(watched, asks_first=True, sleep=sleep))
        next(following)
        endpoint = replace(watched.session.transport.endpoint, api_key="another")
        watched.session.transport = Transport(endpoint, QUICK)
        with pytest.raises(errors.AuthenticationFailed):
            list(following)


# The walk-through

# Silence lasts as long as the client's patience, which two in a row use up: it has its own tests.
AT_RANDOM = tuple(fault for fault in Fault if fault not in SILENT)

LEDGER = """
import os, sys
ledger = os.open({ledger!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
os.write(ledger, (os.environ["GRID_EXPERIMENT_NAME"] + "\\n").encode())
"""


@pytest.mark.parametrize("number", range(size(1, 20)))
def test_walk_through_over_a_bad_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """With a fault in every fifth request the walk-through shows what its document shows, and makes the same runs."""
    print(f"GRID_SEED={seed()} number={number}")
    gate, ledger = tmp_path / "gate", tmp_path / "ledger"
    project = tmp_path / "work" / "Demo_Project"
    script = LEDGER.format(ledger=str(ledger)) + WALK_THROUGH_SCRIPT.format(gate=str(gate))
    make_project(project, script, origin="git@github.com:gridai/Demo_Project.git")
    monkeypatch.chdir(project.parent)
    steps, _ = read_document(DOCUMENT.read_text())
    listed = ast.literal_eval(next(step.printed for step in steps if step.command == "list_runs()\n"))
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=project, text=True).strip()

    anything = at_random(seed() + number, 0.2, AT_RANDOM)
    no_page = at_random(seed() + number, 0.2, tuple(fault for fault in AT_RANDOM if fault is not Fault.PAGE))
    with (
        service_process(tmp_path, "--grace", "1", GRID_LOCAL_CPUS="6") as service,
        Proxy(service.endpoint.url) as proxy,
        warnings.catch_warnings(),
    ):
        # A page in place of the first answer is believed: see above.
        proxy.plan = lambda exchange: no_page(exchange) if exchange.operation == "Login" else anything(exchange)
        for name, value in {**login_environment(service), "GRID_URL": proxy.url}.items():
            monkeypatch.setenv(name, value)
        warnings.simplefilter("error")
        grid.login()
        gate.touch()
        walk = WalkThrough(runs_of_earlier_days(listed[1:]), head)
        gate.unlink()

        for step in steps:
            walk.play(step)

        gate.touch()
        ended = wait_for_run(walk.prompt.names["r"])
        faults = proxy.faults()
        figure(
            f"{len(faults)} of {len(proxy.exchanges)} requests were spoiled: {Counter(fault.name for fault in faults)}"
        )

        assert ended == {"CANCELLED": [f"{walk.started_name}-exp0"], "SUCCEEDED": [f"{walk.started_name}-exp1"]}
        with database_of(service) as connection:
            names = [name for (name,) in connection.execute("SELECT name FROM runs ORDER BY seq")]
            rows = connection.execute(
                "SELECT runs.name || '-exp' || experiments.\"index\", experiments.attempt, experiments.status "
                "FROM experiments JOIN runs ON runs.seq = experiments.run_seq"
            ).fetchall()
    loaded = walk.here("striped-hamilton-1458")
    expected = [loaded if name == "striped-hamilton-1458" else name for name in reversed(listed[1:])]
    assert names == [*expected, walk.started_name]
    assert {attempt for _, attempt, _ in rows} == {1}
    assert len(rows) == len({name for name, _, _ in rows}) == len(listed) + 2
    done = Counter(ledger.read_text().split())
    never_ran = f"{walk.started_name}-exp0"
    assert {name: count for name, count in done.items() if name != never_ran} == {
        name: 1 for name, _, status in rows if status == "SUCCEEDED"
    }
    assert done[never_ran] <= 1
    assert len(faults) > 5


def test_embedded_service_that_says_that_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is there and cannot use its database is asked as often as any, and not for half a minute."""
    with service_process(tmp_path, "--cpus", "1") as service:
        monkeypatch.setenv("GRID_HOME", str(service.home))
        session = service.session(QUICK, is_embedded=True)
        (service.home / "grid.sqlite3").rename(service.home / "elsewhere")
        with (
            requests(session) as sent,
            pytest.raises(errors.ConnectionFailed, match="no longer the file that was opened"),
        ):
            session.execute(models.PauseCluster, name="local")
    assert sent == [1 + QUICK.tries]
