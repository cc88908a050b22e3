"""Tests of what is run again: by its owner, by the service where it was lost, and what stays of each attempt."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from grid import Run, models, pause_cluster, resume_cluster
from grid.errors import PermissionDenied, RunNotFound, RunNotStarted
from grid.experiment import Experiment
from grid.session import session as sessions
from grid.session.session import Session
from tests.support.experiments import (
    database_of,
    events_of,
    facts_of,
    folder_of,
    lose,
    only,
    output_of,
    starter,
    work_of,
)
from tests.support.people import add_user, operated, session_of
from tests.support.requests import ask, code_of
from tests.support.services import ServiceProcess, service_process
from tests.support.waiting import wait_for_run, wait_until

Start = Callable[..., Run]

RETRY = "mutation($input: RetryRunInput!) { retryRun(input: $input) { names } }"
ATTEMPTS = """
query($id: ID!) {
  experiment(id: $id) {
    status reason attempt exitCode startedRunningAt finishedAt
    attempts { number status reason startedRunningAt finishedAt failure { exitCode lastLines finalLine } }
  }
}
"""

# Says which attempt it is, and fails with the code that it is given until there is a file.
FAIL = """
import os, sys
mended, _, code = sys.argv[1:]
print(f'this is {os.getcwd().split(os.sep)[-3]} of {code}')
sys.exit(0 if os.path.exists(mended) else int(code))
"""
# Says that it runs, in a common ledger, and ends with its number when there is a file.
HOLD = """
import os, sys, time
ledger, release, _, code = sys.argv[1:]
descriptor = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(descriptor, f'{os.getcwd().split(os.sep)[-3]} {code}\\n'.encode())
while not os.path.exists(release): time.sleep(0.01)
sys.exit(int(code))
"""
# Counts its attempts in a file that it makes, and appends to one that came with the source code.
COUNT = """
import os, sys, time
with open('count', 'a') as file: file.write('x')
with open('sent') as file: print(file.read(), os.path.getsize('count'), flush=True)
with open('sent', 'a') as file: file.write('!')
os.makedirs('checkpoints', exist_ok=True)
open(f'checkpoints/{os.path.getsize("count")}', 'w').close()
print(*sorted(os.listdir('checkpoints')), flush=True)
while not os.path.exists(sys.argv[1]): time.sleep(0.01)
"""


@pytest.fixture
def mended(tmp_path: Path) -> Path:
    """The file without which the scripts fail."""
    return tmp_path / "mended"


@pytest.fixture
def failed(start: Start, mended: Path) -> Run:
    """A run whose second and third experiments have failed."""
    run = start(FAIL, f"{mended} --code '[0, 1, 2]'")
    wait_for_run(run)
    return run


def attempts_of(service: ServiceProcess, experiment: Experiment) -> dict[str, Any]:
    """What the service says of an experiment and its attempts."""
    return ask(service.endpoint, ATTEMPTS, id=experiment.id)["data"]["experiment"]


def retry(service: ServiceProcess, run: Run, key: str) -> list[str]:
    """Ask for a retry, past the client."""
    answer = ask(service.endpoint, RETRY, input={"id": run.id, "key": key.rjust(16, "0")})
    return answer["data"]["retryRun"]["names"]


# By its owner


def test_failed_experiments_are_run_again(service: ServiceProcess, failed: Run, mended: Path) -> None:
    """What has failed is run again with the same parameters, in a folder of its own; what it did before stays."""
    first, *others = failed
    before = [each.parameters for each in failed]
    kept = {path: path.read_bytes() for each in failed for path in folder_of(service, each).iterdir() if path.is_file()}
    mended.touch()

    assert failed.retry() == [each.name for each in others]

    assert wait_for_run(failed) == {"SUCCEEDED": list(failed.experiments)}
    assert [each.attempt for each in failed] == [1, 2, 2]
    assert [each.parameters for each in failed] == before
    assert not folder_of(service, first, 2).exists()
    for code, each in enumerate(others, 1):
        assert output_of(service, each, 1) == f"this is attempt-1 of {code}\n"
        assert output_of(service, each, 2) == f"this is attempt-2 of {code}\n"
        assert events_of(service, each) == ["PENDING", "RUNNING", "FAILED", "QUEUED", "PENDING", "RUNNING", "SUCCEEDED"]
    assert {path: path.read_bytes() for path in kept} == kept


def test_only_what_has_failed(service: ServiceProcess, session: object, start: Start, mended: Path) -> None:
    """Neither what has succeeded nor what was cancelled is run again; if nothing has failed, nothing happens."""
    run = start(FAIL, f"{mended} --code '[0, 1]'")
    wait_for_run(run)
    pause_cluster("local")
    try:
        waiting = start(FAIL, f"{mended} --code 1")
        waiting.cancel()
        assert waiting.retry() == []
        assert waiting.status() == {"CANCELLED": list(waiting.experiments)}
        assert run.retry() == [f"{run.name}-exp1"]
        assert run.status() == {"SUCCEEDED": [f"{run.name}-exp0"], "QUEUED": [f"{run.name}-exp1"]}
        assert run.retry() == []
        assert len(run.cancel()) == 2
        assert run.retry() == []
    finally:
        resume_cluster("local")
    assert [each.status() for each in run] == ["SUCCEEDED", "CANCELLED"]
    ended = attempts_of(service, list(run)[1])["attempts"]
    assert [(each["number"], each["status"], each["reason"]) for each in ended] == [
        (1, "FAILED", "EXIT_CODE"),
        (2, "CANCELLED", "CANCELLED_BY_USER"),
    ]


def test_again_and_again(service: ServiceProcess, start: Start, mended: Path) -> None:
    """Each retry is a further attempt; the experiment shows the present one, and the service keeps them all."""
    run = start("import sys\n1 / 0", "")
    experiment = only(run)
    for number in range(1, 4):
        wait_for_run(run)
        known = attempts_of(service, experiment)
        assert (known["status"], known["attempt"], experiment.attempt) == ("FAILED", number, number)
        assert [each["number"] for each in known["attempts"]] == list(range(1, number + 1))
        last = known["attempts"][-1]
        assert {name: last[name] for name in ("startedRunningAt", "finishedAt", "reason")} == {
            name: known[name] for name in ("startedRunningAt", "finishedAt", "reason")
        }
        assert last["failure"]["exitCode"] == 1
        assert last["failure"]["finalLine"] == "ZeroDivisionError: division by zero"
        assert last["failure"]["lastLines"].startswith("Traceback (most recent call last):")
        assert run.retry() == [experiment.name]
    times = [(each["startedRunningAt"], each["finishedAt"]) for each in known["attempts"]]
    assert times == sorted(times)
    assert wait_for_run(run)


def test_what_is_seen_of_a_further_attempt(failed: Run, mended: Path, session: object) -> None:
    """A client that holds the run or its experiments sees the next attempt wait, run and end."""
    second = list(failed)[1]
    assert second.status() == "FAILED"
    assert second.finished_at is not None
    pause_cluster("local")
    try:
        failed.retry()
        assert second.status() == "QUEUED"
        assert (second.attempt, second.started_running_at, second.finished_at, second.failure) == (2, None, None, None)
        assert repr(failed.experiments).count("status=QUEUED") == 2
        assert repr(second).count("status=QUEUED") == 1
        assert sorted(failed.status()) == ["QUEUED", "SUCCEEDED"]
        assert failed.failures() == []
    finally:
        resume_cluster("local")
    wait_for_run(failed)
    assert [group.names for group in failed.failures()] == [tuple(failed.experiments)[1:]]
    assert repr(failed.experiments).count("status=FAILED") == 2


def test_watching_a_retry(session: Session, failed: Run, mended: Path) -> None:
    """A watcher of a run that was queued again hears of every change until it has ended again."""
    pause_cluster("local")
    try:
        failed.retry()
        mended.touch()
        watching = session.subscribe(models.RunStatusChanged, name=failed.name)
        first = next(watching)
    finally:
        resume_cluster("local")
    told = [{group.status.value for group in each.run_status_changed.groups} for each in (first, *watching)]
    assert told[0] == {"QUEUED", "SUCCEEDED"}
    assert told[-1] == {"SUCCEEDED"}


def test_one_key_is_one_retry(service: ServiceProcess, failed: Run) -> None:
    """A retry that is requested repeatedly, at once or after it was carried out, is carried out once."""
    names = [each.name for each in failed][1:]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: retry(service, failed, "same"), range(8)))
    assert answers == [names] * 8
    wait_for_run(failed)
    assert [each.attempt for each in failed] == [1, 2, 2]
    assert retry(service, failed, "same") == names
    assert sorted(failed.status()) == ["FAILED", "SUCCEEDED"]
    assert retry(service, failed, "other") == names
    wait_for_run(failed)
    assert retry(service, failed, "same") == names
    assert [each.attempt for each in failed] == [1, 3, 3]


def test_a_key_is_a_runs_own(service: ServiceProcess, failed: Run, start: Start, mended: Path) -> None:
    """For another run the same key means another retry."""
    other = start(FAIL, f"{mended} --code 1")
    wait_for_run(other)
    assert len(retry(service, failed, "key")) == 2
    assert retry(service, other, "key") == list(other.experiments)


def test_different_keys_at_once(service: ServiceProcess, failed: Run) -> None:
    """Of several retries at once one queues what has failed, and the others find nothing."""
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: retry(service, failed, f"key{number}"), range(8)))
    # One may have come when the attempt of another had failed already.
    numbers = {name: sum(name in answer for answer in answers) for name in list(failed.experiments)[1:]}
    wait_for_run(failed)
    assert [each.attempt for each in failed] == [1, *(1 + number for number in numbers.values())]


@pytest.mark.parametrize("key", ["", "short", "k" * 65, "k" * 15 + "\n", "ключ" * 5])
def test_keys_that_are_not_keys(service: ServiceProcess, failed: Run, key: str) -> None:
    """A key that could not be kept is refused, and nothing is queued."""
    assert code_of(ask(service.endpoint, RETRY, input={"id": failed.id, "key": key})) == "INVALID_ARGUMENT"
    assert sorted(failed.status()) == ["FAILED", "SUCCEEDED"]


def test_who_may_retry(service: ServiceProcess, failed: Run) -> None:
    """Only the owner can retry a run: a stranger does not find it, and a teammate may only read it."""
    input_ = {"id": failed.id, "key": "k" * 16}
    stranger, mate = add_user(service, "stranger"), add_user(service, "mate")
    operated(service.home, "teams", "add", "ours")
    for name in ("mate", service.username):
        operated(service.home, "teams", "join", "ours", name)
    assert code_of(ask(stranger, RETRY, input=input_)) == "RUN_NOT_FOUND"
    assert code_of(ask(mate, RETRY, input=input_)) == "FORBIDDEN"
    assert code_of(ask(service.endpoint, RETRY, input={**input_, "id": "no-such-run"})) == "RUN_NOT_FOUND"
    theirs = Run._of(failed._state.record, session_of(mate))
    with pytest.raises(PermissionDenied, match=f"belongs to '{service.username}'"):
        theirs.retry()
    assert sorted(failed.status()) == ["FAILED", "SUCCEEDED"]


def test_retry_of_what_is_not_there(session: object, failed: Run) -> None:
    """Before its start and after its deletion a run cannot be retried."""
    with pytest.raises(RunNotStarted, match="nothing to retry"):
        Run(entrypoint=__file__).retry()
    failed.delete()
    with pytest.raises(RunNotFound):
        failed.retry()


def test_while_others_run(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """What has failed can be run again while the rest of its run goes on undisturbed."""
    ledger, release, mended = tmp_path / "ledger", tmp_path / "release", tmp_path / "mended"
    run = start(
        f"import os, sys\nif sys.argv[-1] == '1' and not os.path.exists({str(mended)!r}): sys.exit(1)\n{HOLD}",
        f"{ledger} {release} --code '[0, 1]'",
    )
    first, second = run
    wait_until(lambda: sorted(run.status()) == ["FAILED", "RUNNING"], "one that runs and one that has failed")
    mended.touch()
    assert run.retry() == [second.name]
    wait_until(lambda: ledger.exists() and len(ledger.read_text().splitlines()) == 2, "both at once")
    assert run.retry() == []
    assert [each.status() for each in run] == ["RUNNING", "RUNNING"]
    release.touch()
    wait_for_run(run)
    assert sorted(ledger.read_text().splitlines()) == ["attempt-1 0", "attempt-2 1"]
    assert (first.attempt, second.attempt) == (1, 2)


@pytest.mark.parametrize("seed", range(6))
def test_cancel_and_retry_at_once(service: ServiceProcess, start: Start, tmp_path: Path, seed: int) -> None:
    """However cancels and retries meet, each attempt runs at most once, ends once, and none follows a cancelled one."""
    ledger = tmp_path / "ledger"
    ledger.touch()
    run = start(HOLD, f"{ledger} {ledger} --code '[1, 2, 3, 4]'")
    wait_for_run(run)
    delays = random.Random(seed)
    begin = threading.Barrier(3)

    def both(times: list[float], what: Callable[[], object]) -> None:
        begin.wait()
        for seconds in times:
            threading.Event().wait(seconds)  # at a random moment
            what()

    plans = [(3, run.retry), (3, run.retry), (1, run.cancel)]
    with ThreadPoolExecutor(3) as threads:
        for done in [
            threads.submit(both, [delays.uniform(0, 0.2) for _ in range(times)], what) for times, what in plans
        ]:
            done.result()
    wait_for_run(run)
    seen = ledger.read_text().splitlines()
    assert len(set(seen)) == len(seen)
    for code, each in enumerate(run, 1):
        known = attempts_of(service, each)
        ended = known["attempts"]
        assert [one["number"] for one in ended] == list(range(1, known["attempt"] + 1))
        assert {one["status"] for one in ended[:-1]} <= {"FAILED"}
        assert ended[-1]["status"] == known["status"] != "SUCCEEDED"
        ran = {f"attempt-{one['number']} {code}" for one in ended if one["reason"] == "EXIT_CODE"}
        assert ran <= set(seen)
        told = events_of(service, each)
        assert told.count("PENDING") <= known["attempt"] == told.count("QUEUED") + 1
        assert told.count("FAILED") + told.count("CANCELLED") == known["attempt"]


# By the service


def test_lost_stays_lost(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """By default what is lost has failed; its owner may run it again."""
    release = tmp_path / "release"
    run = start(HOLD, f"{tmp_path / 'ledger'} {release} --code 0")
    ledger = tmp_path / "ledger"
    wait_until(ledger.exists, "the script")
    lose(service, only(run), 1)
    assert list(wait_for_run(run)) == ["FAILED"]
    assert facts_of(service, only(run))["reason"] == "LOST"
    release.touch()
    assert run.retry() == [only(run).name]
    assert list(wait_for_run(run)) == ["SUCCEEDED"]
    assert ledger.read_text().splitlines() == ["attempt-1 0", "attempt-2 0"]


def test_as_often_as_the_run_says(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """What is lost is queued again as often as `max_retries` says, and has failed after that."""
    ledger = tmp_path / "ledger"
    run = start(HOLD, f"{ledger} {tmp_path / 'release'} --code 0", max_retries=2)
    experiment = only(run)
    ledger.touch()
    for number in (1, 2, 3):
        wait_until(lambda number=number: len(ledger.read_text().splitlines()) == number, "the script")
        lose(service, experiment, number)
    assert list(wait_for_run(run)) == ["FAILED"]
    known = attempts_of(service, experiment)
    assert [(each["number"], each["reason"]) for each in known["attempts"]] == [(1, "LOST"), (2, "LOST"), (3, "LOST")]
    assert ledger.read_text().splitlines() == [f"attempt-{number} 0" for number in (1, 2, 3)]
    one = ["PENDING", "RUNNING", "FAILED"]
    assert events_of(service, experiment) == [*one, "QUEUED", *one, "QUEUED", *one]
    with database_of(service) as connection:
        query = (
            "SELECT events.attempt FROM events JOIN experiments ON experiments.seq = events.experiment_seq "
            "WHERE experiments.id = ? ORDER BY events.seq"
        )
        numbers = [number for (number,) in connection.execute(query, [experiment.id])]
    assert numbers == [1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    (tmp_path / "release").touch()
    run.retry()
    assert list(wait_for_run(run)) == ["SUCCEEDED"]
    assert experiment.attempt == 4


def test_scripts_that_fail_are_not_run_again(service: ServiceProcess, start: Start, mended: Path) -> None:
    """`max_retries` is for what was lost: a script that fails by itself would fail again."""
    run = start(FAIL, f"{mended} --code 1", max_retries=3, auto_resume=True)
    assert list(wait_for_run(run)) == ["FAILED"]
    assert only(run).attempt == 1


def test_lost_without_the_service(tmp_path: Path) -> None:
    """What was lost while there was no service is queued again by the next, once."""
    ledger, release = tmp_path / "ledger", tmp_path / "release"
    with service_process(tmp_path, "--grace", "1", "--cpus", "1") as service:
        sessions.use(service.session())
        run = starter(tmp_path)(HOLD, f"{ledger} {release} --code 0", max_retries=1)
        wait_until(ledger.exists, "the script")
        service.kill()
        lose(service, only(run), 1)
        release.touch()
        service.start()
        sessions.use(service.session())
        again = Run(run.name)
        assert list(wait_for_run(again)) == ["SUCCEEDED"]
        assert ledger.read_text().splitlines() == ["attempt-1 0", "attempt-2 0"]
        assert [each["reason"] for each in attempts_of(service, only(again))["attempts"]] == ["LOST", "EXIT_CODE"]
        assert again.max_retries == 1


@pytest.fixture
def counting(session: object, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Start the script that counts its attempts, with the file that it finds."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "run.py").write_text(COUNT)
    (project / "sent").write_text("as it was sent")
    started: list[Run] = []

    def start(**options: Any) -> Run:
        run = Run(
            entrypoint=str(project / "run.py"), script_args=str(tmp_path / "release"), localdir=True, cpus=1, **options
        )
        run.start()
        started.append(run)
        return run

    yield start
    for run in started:
        run.cancel()


def test_resumed(service: ServiceProcess, counting: Callable[..., Run], tmp_path: Path) -> None:
    """With `auto_resume` the next attempt finds what the one before it has made and changed, and adds to it."""
    run = counting(auto_resume=True)
    experiment = only(run)
    wait_until(lambda: output_of(service, experiment).count("\n") == 2, "the first attempt")
    lose(service, experiment, 1)
    wait_until(lambda: output_of(service, experiment, 2).count("\n") == 2, "the second attempt")
    assert output_of(service, experiment, 1) == "as it was sent 1\n1\n"
    assert output_of(service, experiment, 2) == "as it was sent! 2\n1 2\n"
    first = work_of(service, experiment, 1)
    assert [(first / name).read_text() for name in ("count", "sent")] == ["x", "as it was sent!"]
    lose(service, experiment, 2)
    assert list(wait_for_run(run)) == ["FAILED"]  # it asks for one retry
    (tmp_path / "release").touch()
    run.retry()
    assert list(wait_for_run(run)) == ["SUCCEEDED"]
    assert output_of(service, experiment, 3) == "as it was sent!! 3\n1 2 3\n"


def test_not_resumed(service: ServiceProcess, counting: Callable[..., Run], tmp_path: Path) -> None:
    """Without `auto_resume` each attempt begins with the source code and nothing else."""
    run = counting(max_retries=1)
    experiment = only(run)
    wait_until(lambda: output_of(service, experiment).count("\n") == 2, "the first attempt")
    lose(service, experiment, 1)
    (tmp_path / "release").touch()
    assert list(wait_for_run(run)) == ["SUCCEEDED"]
    assert output_of(service, experiment, 2) == output_of(service, experiment, 1) == "as it was sent 1\n1\n"


def test_cancelled_while_it_is_lost(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """What is cancelled is not queued again, whatever became of it."""
    run = start(HOLD, f"{tmp_path / 'ledger'} {tmp_path / 'release'} --code 0", max_retries=5)
    experiment = only(run)
    lose(service, experiment, 1)
    experiment.cancel()
    known = attempts_of(service, experiment)
    assert (known["status"], known["reason"]) == ("CANCELLED", "CANCELLED_BY_USER")
    assert [each["status"] for each in known["attempts"]][:-1] == ["FAILED"] * (known["attempt"] - 1)
    assert run.retry() == []
