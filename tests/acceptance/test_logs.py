"""Logs as users read them: which lines, from where, while they are printed and afterwards, and who may."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import grid
from grid import LogLine, LogPrinted, Run, errors
from grid.errors import InvalidArgument
from grid.experiment import Experiment
from grid.session import session as sessions
from tests.support.experiments import only, output_of, starter
from tests.support.log_projects import PROJECTS, messages
from tests.support.people import add_user, operated, session_of
from tests.support.requests import requests
from tests.support.services import ServiceProcess
from tests.support.waiting import wait_for_run, wait_until

Start = Callable[..., Run]

pytestmark = pytest.mark.usefixtures("session")

COUNTS = """
import sys, time
from pathlib import Path

_, count, release = sys.argv
for number in range(1, int(count) + 1):
    print(f"line {number}", flush=True)
if release != "now":
    while not Path(release).exists():
        time.sleep(0.005)
    print("more", flush=True)
    print("and an error", file=sys.stderr)
"""

GATED = """
import os, sys, time
print("begun", flush=True)
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
"""
ENDLESS = """
import itertools, time

for number in itertools.count(1):
    print(f"line {number}", flush=True)
    time.sleep(0.001)
"""

LOST_ONCE = """
import os, signal, sys, time
from pathlib import Path

attempt = os.getcwd().split(os.sep)[-3].removeprefix("attempt-")
while attempt == "2" and not Path(sys.argv[1]).exists():
    time.sleep(0.005)
print("attempt", attempt, flush=True)
if attempt == "1":
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1000)
"""

GREETS = """
import sys, time
from pathlib import Path

words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
print("hello from", words["--name"], flush=True)
while "--release" in words and not Path(words["--release"]).exists():
    time.sleep(0.005)
print("goodbye from", words["--name"], flush=True)
"""


@pytest.fixture
def begin(session: object, tmp_path: Path) -> Iterator[Start]:
    """Start a run of a script whose text is given; what is left of it is cancelled."""
    started: list[Run] = []
    start_one = starter(tmp_path)

    def begin(*arguments: Any, **options: Any) -> Run:
        started.append(start_one(*arguments, **options))
        return started[-1]

    yield begin
    for run in started:
        with suppress(errors.RunNotFound):
            run.cancel()


@pytest.fixture
def counted(begin: Start) -> Experiment:
    """An experiment that has printed ten lines and ended."""
    run = begin(COUNTS, "10 now")
    wait_for_run(run)
    return only(run)


def written_at(file: Path) -> datetime:
    """Write a file, and return when that was according to its file system."""
    file.write_text("")
    return datetime.fromtimestamp(file.stat().st_mtime, UTC)


def numbered(*numbers: int) -> list[str]:
    """The messages of these lines."""
    return [f"line {number}" for number in numbers]


def test_lines(counted: Experiment) -> None:
    """Each line is a string with its time in UTC, or an object that prints as that string."""
    texts, lines = list(counted.logs()), list(counted.log_lines())

    assert messages(texts) == numbered(*range(1, 11))
    assert texts == [str(line) for line in lines]
    assert [(line.number, line.message) for line in lines] == [(n, f"line {n}") for n in range(1, 11)]
    begun, ended = counted.started_running_at, counted.finished_at
    assert begun is not None
    assert ended is not None
    for line in lines:
        assert isinstance(line, LogLine)
        assert line.time.tzinfo is UTC
        assert begun <= line.time <= ended
        assert not line.is_approximate
    assert messages(grid.get_experiment_logs(counted.name)) == numbered(*range(1, 11))


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        ({"n_lines": 3}, [8, 9, 10]),
        ({"n_lines": 10}, range(1, 11)),
        ({"n_lines": 11}, range(1, 11)),
        ({"n_lines": 0}, []),
        ({"n_lines": None}, range(1, 11)),
        ({"since": 8}, [8, 9, 10]),
        ({"since": 1, "n_lines": 2}, range(1, 11)),
        ({"since": 10}, [10]),
        ({"since": 11}, []),
        ({"since": timedelta(days=1)}, range(1, 11)),
        ({"since": datetime(2020, 1, 1, tzinfo=UTC)}, range(1, 11)),
        ({"since": datetime(2120, 1, 1, tzinfo=UTC)}, []),
        ({"attempt": 1}, range(1, 11)),
    ],
    ids=str,
)
def test_which_lines(begin: Start, arguments: dict[str, Any], numbers: list[int]) -> None:
    """A log begins where it should, and goes to its end; followed, it says the same of what has ended."""
    run = begin(COUNTS, "10 now")
    wait_for_run(run)
    experiment = only(run)

    assert messages(experiment.logs(**arguments)) == numbered(*numbers)
    assert messages(experiment.logs(follow=True, **arguments)) == numbered(*numbers)
    assert [line.number for line in experiment.log_lines(**arguments)] == list(numbers)
    if "attempt" not in arguments:
        assert messages(line.partition(" | ")[2] for line in run.logs(**arguments)) == numbered(*numbers)
        assert messages(line.partition(" | ")[2] for line in run.logs(follow=True, **arguments)) == numbered(*numbers)


def test_since_a_moment(begin: Start, tmp_path: Path) -> None:
    """A datetime, or a timedelta by the service's clock, gives what was printed since."""
    run = begin(COUNTS, f"10 {tmp_path / 'release'}")
    experiment = only(run)
    wait_until(lambda: list(experiment.logs()), "ten lines")
    between = datetime.now(UTC)
    # The clock of files may be some milliseconds behind.
    wait_until(lambda: written_at(tmp_path / "clock") > between, "a file to be written after that")
    (tmp_path / "release").touch()
    wait_for_run(run)

    assert messages(experiment.logs(since=between)) == ["more", "and an error"]
    # How long ago that was by the service's clock cannot be told to the moment, however long a request takes.
    assert len(messages(experiment.logs(since=timedelta(days=1)))) == 12
    assert messages(experiment.logs(since=timedelta(microseconds=1))) == []
    assert messages(line.partition(" | ")[2] for line in run.logs(since=between)) == ["more", "and an error"]


def test_follow(begin: Start, tmp_path: Path) -> None:
    """Following gives the last lines, and then each that is printed, until the experiment has ended."""
    experiment = only(begin(COUNTS, f"10 {tmp_path / 'release'}"))
    lines = experiment.logs(n_lines=2, follow=True)
    wait_until(lambda: len(list(experiment.logs())) == 10, "ten lines")

    assert messages(itertools.islice(lines, 2)) == numbered(9, 10)
    (tmp_path / "release").touch()
    assert messages(lines) == ["more", "and an error"]
    assert experiment.status() == "SUCCEEDED"


def test_follow_what_is_queued(begin: Start, paused: None) -> None:
    """One that has not begun can be followed; nothing of it is missed."""
    run = begin(COUNTS, "10 now")
    assert list(run.logs()) == list(only(run).logs()) == []
    lines, of_run = only(run).logs(n_lines=0, follow=True), run.logs(n_lines=0, follow=True)
    grid.resume_cluster("local")
    assert messages(lines) == numbered(*range(1, 11))
    assert messages(line.partition(" | ")[2] for line in of_run) in ([], numbered(*range(1, 11)))


def test_nothing_is_shown_of_what_is_cancelled_in_the_queue(begin: Start, paused: None) -> None:
    """One that was never started has no log, and following it ends with it."""
    run = begin(COUNTS, "10 now")
    run.cancel()
    assert list(only(run).logs(follow=True)) == list(run.logs(follow=True)) == []


@pytest.mark.parametrize("arguments", [{"n_lines": None}, {"since": 1}, {"n_lines": 25_000}], ids=str)
def test_what_is_printed_meanwhile_is_not_chased(begin: Start, tmp_path: Path, arguments: dict[str, Any]) -> None:
    """Without following, a log ends where it ended when it was asked for, however much is printed while it is read."""
    experiment = only(begin(COUNTS, f"25000 {tmp_path / 'release'}"))
    wait_until(lambda: len(list(experiment.logs(None))) == 25_000, "all lines")
    lines = experiment.logs(**arguments)
    first = next(lines)
    (tmp_path / "release").touch()
    wait_until(lambda: experiment.status() == "SUCCEEDED", "the end")
    assert messages([first, *lines]) == numbered(*range(1, 25_001))


@pytest.mark.parametrize("arguments", [{"n_lines": None}, {"since": 1}, {"n_lines": 25_000}], ids=str)
def test_what_is_printed_meanwhile_is_not_chased_in_a_run(
    begin: Start, tmp_path: Path, arguments: dict[str, Any]
) -> None:
    """The same of a run: the log of each experiment ends where it ended."""
    run = begin(COUNTS, f"25000 {tmp_path / 'release'}")
    experiment = only(run)
    wait_until(lambda: len(list(experiment.logs(None))) == 25_000, "all lines")
    lines = run.logs(**arguments)
    first = next(lines)
    (tmp_path / "release").touch()
    wait_until(lambda: experiment.status() == "SUCCEEDED", "the end")
    shown = [line.partition(" | ")[2] for line in (first, *lines)]
    assert messages(shown) == numbered(*range(1, 25_001))


@pytest.mark.parametrize("arguments", [{"n_lines": None}, {"since": 1}, {"since": timedelta(days=1)}], ids=str)
def test_logs_of_scripts_that_print_all_the_time(begin: Start, tmp_path: Path, arguments: dict[str, Any]) -> None:
    """However fast the scripts of a run print, its log comes to an end, after as many requests as its length needs."""
    run = begin(ENDLESS, "--name '[1, 2, 3]'")
    wait_until(lambda: list(next(iter(run)).logs(1)), "the first lines")
    with requests(sessions.current()) as sent:
        lines = list(run.logs(**arguments))
    assert lines
    assert sent[0] <= 4 + len(lines) // 1_000
    run.cancel()


def test_pages_are_fetched_as_they_are_consumed(begin: Start) -> None:
    """A log costs no request before it is read, one for its first lines, and no more than its length needs."""
    run = begin(COUNTS, "30000 now")
    wait_for_run(run)
    experiment = only(run)
    with requests(sessions.current()) as sent:
        lines = experiment.logs(n_lines=None)
    assert sent == [0]
    with requests(sessions.current()) as sent:
        assert messages([next(lines)]) == numbered(1)
    assert sent == [1]
    with requests(sessions.current()) as sent:
        assert messages(lines) == numbered(*range(2, 30_001))
    assert sent == [2]
    for read in (experiment.logs, experiment.log_lines, run.logs):
        with requests(sessions.current()) as sent:
            assert len(list(read())) == 200
        assert sent == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_lines": -1}, "n_lines must be a whole number from 0"),
        ({"n_lines": True}, "n_lines must be a whole number from 0"),
        ({"n_lines": "all"}, "or None for all lines, not 'all'"),
        ({"follow": 1}, "follow must be True or False, not 1"),
        ({"since": 0}, "since must be the number of a line, from 1"),
        ({"since": "1 h"}, "since must be a datetime with a time zone, a timedelta"),
        ({"since": datetime(2021, 8, 10)}, "since must have a time zone"),  # noqa: DTZ001 - what is wrong with it
        ({"since": timedelta(0)}, "since must be a time that has passed"),
        ({"attempt": 0}, "attempt must be the number of an attempt, from 1"),
        ({"attempt": "1"}, "attempt must be the number of an attempt, from 1"),
        ({"attempt": 2}, "attempt must be from 1 to 1, the current one of .*-exp0, not 2"),
    ],
    ids=str,
)
def test_wrong_arguments(counted: Experiment, arguments: dict[str, Any], message: str) -> None:
    """A wrong argument is refused at once, by the call and not by the first line, and without a request."""
    run = grid.get_run(counted.name.rpartition("-")[0])
    counted.status()
    with requests(sessions.current()) as sent:
        for read in (counted.logs, counted.log_lines, *([] if "attempt" in arguments else [run.logs])):
            with pytest.raises(InvalidArgument, match=message):
                read(**arguments)
    assert sent == [0]


def test_build_logs(counted: Experiment) -> None:
    """Nothing is built yet, and the log says so, and which interpreter there is."""
    run = grid.get_run(counted.name.rpartition("-")[0])
    lines = list(run.build_logs())
    assert sessions.current().interpreter in " ".join(messages(lines))
    assert "othing was built" in lines[0]
    for again in (
        counted.build_logs(),
        counted.build_logs(None),
        grid.get_build_logs(run.name),
        grid.get_build_logs(run_name=run.name),
        grid.get_build_logs(exp_name=counted.name),
    ):
        assert list(again) == lines
    assert list(run.build_logs(1)) == list(counted.build_logs(n_lines=1)) == lines[-1:]
    assert list(run.build_logs(0)) == []
    for wrong in ((), (run.name, counted.name)):
        with pytest.raises(ValueError, match="exactly one"):
            grid.get_build_logs(*wrong)
    with pytest.raises(InvalidArgument, match="must be the name of a run, not ''"):
        grid.get_build_logs(run_name="")
    for read_one in (lambda: grid.get_build_logs(exp_name=""), lambda: grid.get_experiment_logs("")):
        with pytest.raises(InvalidArgument, match="must be the name of an experiment, not ''"):
            read_one()
    for read in (run.build_logs, counted.build_logs):
        with pytest.raises(InvalidArgument, match="n_lines"):
            read(-1)
    with pytest.raises(errors.RunNotFound):
        grid.get_build_logs("no-such-run")
    with pytest.raises(errors.ExperimentNotFound):
        grid.get_build_logs(exp_name="no-such-run-exp0")
    with pytest.raises(errors.ExperimentNotFound):
        grid.get_experiment_logs("no-such-run-exp0")


def test_attempts(begin: Start) -> None:
    """A log is the current attempt's; those before it are read by their numbers."""
    run = begin((PROJECTS / "resumes.py").read_text(), "--how raise", auto_resume=True)
    wait_for_run(run)
    experiment = only(run)
    first = ["starting after epoch 0", *(f"epoch {number}" for number in range(1, 6))]
    assert messages(experiment.logs())[:6] == first
    assert messages(experiment.logs())[-1] == "RuntimeError: out of luck"
    assert run.retry() == [experiment.name]
    wait_for_run(run)
    second = ["starting after epoch 5", *(f"epoch {number}" for number in range(6, 11)), "done"]
    for follow in (False, True):
        assert messages(experiment.logs(follow=follow)) == second
        assert messages(experiment.logs(follow=follow, attempt=2)) == second
        assert messages(experiment.logs(follow=follow, attempt=1))[:6] == first
        assert (
            len(messages(experiment.logs(follow=follow, attempt=1, since=7)))
            == len(messages(experiment.logs(attempt=1))) - 6
        )
        assert messages(line.partition(" | ")[2] for line in run.logs(follow=follow)) == second
        assert messages(line.partition(" | ")[2] for line in run.logs(None, follow=follow)) == second


def test_retried_run_is_followed_from_its_new_attempts(begin: Start, paused: None) -> None:
    """What is queued again is followed from its beginning, and nothing of the attempt before it is shown."""
    grid.resume_cluster("local")
    run = begin((PROJECTS / "resumes.py").read_text(), "--how raise", auto_resume=True)
    wait_for_run(run)
    grid.pause_cluster("local")
    run.retry()
    lines = run.logs(n_lines=None, follow=True)
    assert list(run.logs(n_lines=None)) == []
    grid.resume_cluster("local")
    assert messages(line.partition(" | ")[2] for line in lines)[0] == "starting after epoch 5"


def test_follow_goes_on_with_the_next_attempt(begin: Start) -> None:
    """Following goes on when an experiment is queued again by itself; of one attempt it ends with that."""
    run = begin((PROJECTS / "resumes.py").read_text(), "--how machine", auto_resume=True)
    experiment = only(run)
    of_first = experiment.log_lines(None, follow=True, attempt=1)
    lines = list(experiment.log_lines(None, follow=True))
    begun = ["starting after epoch 0", *(f"epoch {number}" for number in range(1, 6))]
    resumed = ["starting after epoch 5", *(f"epoch {number}" for number in range(6, 11)), "done"]
    assert [line.message for line in lines] == [*begun, *resumed]
    assert [line.number for line in lines] == [*range(1, 7), *range(1, 8)]
    assert [line.message for line in of_first] == begun
    assert experiment.attempt == 2


def test_follow_one_attempt(begin: Start, tmp_path: Path) -> None:
    """Who follows one attempt is told of its end when it is lost, even if the next one prints nothing."""
    run = begin(LOST_ONCE, str(tmp_path / "release"), max_retries=1)
    experiment = only(run)
    lines, both = experiment.logs(follow=True, attempt=1), experiment.logs(follow=True)
    assert messages([next(both)]) == ["attempt 1"]
    assert messages(lines) == ["attempt 1"]
    assert experiment.status() in {"QUEUED", "PENDING", "RUNNING"}
    (tmp_path / "release").touch()
    assert messages(both) == ["attempt 2"]


def test_run(begin: Start) -> None:
    """The logs of a run are those of all its experiments, each line after what varies."""
    run = begin(GREETS, "--name \"['ada', 'grace', 'mary']\" --fixed 1")
    wait_for_run(run)
    for lines in (list(run.logs()), list(Run(run.name).logs(n_lines=None)), list(run.logs(follow=True))):
        by_label: dict[str, list[str]] = {}
        for line in lines:
            label, bar, rest = line.partition(" | ")
            assert bar
            by_label.setdefault(label, []).append(rest)
        names = {"name=ada  ": "ada", "name=grace": "grace", "name=mary ": "mary"}
        assert by_label.keys() == names.keys()
        for label, name in names.items():
            assert messages(by_label[label]) == [f"hello from {name}", f"goodbye from {name}"]
    assert len(list(run.logs(n_lines=1))) == 3


def test_run_without_differences(begin: Start) -> None:
    """Where nothing varies, the index of an experiment tells whose a line is."""
    run = begin(GREETS, "--name ada")
    wait_for_run(run)
    assert [line.partition("[")[0] for line in run.logs()] == ["exp0 | "] * 2


def test_follow_run(begin: Start, tmp_path: Path) -> None:
    """A run is followed as it prints: every experiment's lines, in their order, until all have ended."""
    run = begin(GREETS, f"--name \"['ada', 'grace']\" --release {tmp_path / 'release'}")
    lines = run.logs(follow=True)
    begun = list(itertools.islice(lines, 2))
    assert sorted(messages(line.partition(" | ")[2] for line in begun)) == ["hello from ada", "hello from grace"]
    (tmp_path / "release").touch()
    ended = list(lines)
    assert sorted(messages(line.partition(" | ")[2] for line in ended)) == ["goodbye from ada", "goodbye from grace"]
    assert sorted(line.partition(" | ")[0] for line in ended) == ["name=ada  ", "name=grace"]


def test_run_that_was_not_started(tmp_path: Path) -> None:
    """A run that was not started has nothing to read."""
    (tmp_path / "run.py").touch()
    run = Run(entrypoint=str(tmp_path / "run.py"), localdir=True)
    for read in (run.logs, run.build_logs):
        with pytest.raises(errors.RunNotStarted, match="nothing to read"):
            read()


def test_before_login() -> None:
    """Without a session the functions say what to do."""
    sessions.use(None)
    for read in (lambda: grid.get_experiment_logs("a-exp0"), lambda: grid.get_build_logs("a")):
        with pytest.raises(errors.NotLoggedIn, match=r"grid.login\(\)"):
            read()


def test_what_was_deleted(counted: Experiment) -> None:
    """What is deleted has no log any more, and a log that is being read says so."""
    run = grid.get_run(counted.name.rpartition("-")[0])
    (elsewhere,) = Run(run.name)
    of_run = Run(run.name)
    later, later_of_run = elsewhere.logs(), of_run.logs()
    counted.delete()
    with pytest.raises(errors.ExperimentNotFound, match="no longer exists"):
        counted.logs()
    with pytest.raises(errors.ExperimentNotFound, match="no longer exists"):
        list(later)
    with pytest.raises(errors.ExperimentNotFound, match="no longer exists"):
        list(elsewhere.build_logs())
    assert list(later_of_run) == []
    run.delete()
    for read in (of_run.logs, of_run.build_logs):
        with pytest.raises(errors.RunNotFound, match="no longer exists"):
            list(read())
    with pytest.raises(errors.RunNotFound, match="no longer exists"):
        run.logs()


def test_deleted_while_it_is_followed(begin: Start, tmp_path: Path) -> None:
    """Somebody who follows what is deleted is told, and does not wait for ever."""
    run = begin(COUNTS, f"10 {tmp_path / 'never'}")
    lines = only(run).logs(follow=True)
    assert messages(itertools.islice(lines, 10)) == numbered(*range(1, 11))
    run.cancel()
    run.delete()
    with suppress(errors.NotFound):
        assert list(lines) == []


def test_teammates(service: ServiceProcess, begin: Start, tmp_path: Path) -> None:
    """Teammates read logs as they read runs, others do not, and who leaves the team reads nothing from then on."""
    operated(service.home, "teams", "add", "lab")
    operated(service.home, "teams", "join", "lab", service.username)
    run = begin(COUNTS, f"30000 {tmp_path / 'release'}")
    experiment = only(run)
    wait_until(lambda: len(list(experiment.logs(None))) == 30_000, "all lines")
    owner, mate, stranger = service.username, add_user(service, "mate", "lab"), add_user(service, "stranger")

    sessions.use(session_of(stranger))
    with pytest.raises(errors.ExperimentNotFound):
        grid.get_experiment_logs(f"{owner}:{experiment.name}")
    with pytest.raises(errors.ExperimentNotFound):
        grid.get_experiment_by_id(experiment.id)
    with pytest.raises(errors.RunNotFound):
        grid.get_build_logs(f"{owner}:{run.name}")

    sessions.use(session_of(mate))
    theirs = grid.get_experiment_by_name(f"{owner}:{experiment.name}")
    of_run = Run(f"{owner}:{run.name}")
    assert messages(theirs.logs(n_lines=1)) == numbered(30_000)
    assert len(list(of_run.logs(n_lines=1))) == 1
    assert list(theirs.build_logs()) == list(of_run.build_logs()) != []
    pages, followed, run_followed = theirs.logs(None), theirs.logs(1, follow=True), of_run.logs(1, follow=True)
    assert messages([next(pages), next(followed)]) == numbered(1, 30_000)
    assert next(run_followed)

    operated(service.home, "teams", "leave", "lab", "mate")
    (tmp_path / "release").touch()
    for read in (pages, theirs.logs(), theirs.logs(follow=True), theirs.build_logs()):
        with pytest.raises(errors.ExperimentNotFound):
            assert len(list(read)) < 30_000
    for read in (of_run.logs(), of_run.logs(follow=True), of_run.build_logs(), followed, run_followed):
        with pytest.raises(errors.NotFound):
            assert list(read) == []


def test_iterator_that_is_left(service: ServiceProcess, begin: Start, tmp_path: Path) -> None:
    """Who stops reading in the middle leaves nothing behind: no subscription, and no request that goes on."""
    run = begin(COUNTS, f"10 {tmp_path / 'release'}")
    experiment = only(run)
    lines = experiment.logs(follow=True)
    assert messages([next(lines)]) == numbered(1)
    lines.close()  # type: ignore[attr-defined]
    with requests(sessions.current()) as sent:
        (tmp_path / "release").touch()
        wait_until(lambda: "and an error" in output_of(service, experiment), "the end")
    assert sent == [0]


def test_awaited(begin: Start, tmp_path: Path) -> None:
    """Who has an event loop follows without stopping it, and can leave in the middle."""
    experiment = only(begin(COUNTS, f"10 {tmp_path / 'release'}"))

    async def read() -> list[str]:
        lines = grid.aio.logs(experiment, follow=True)
        begun = [await anext(lines) for _ in range(10)]
        left = grid.aio.logs(experiment, n_lines=3, follow=True)
        assert messages([await anext(left)]) == numbered(8)
        await left.aclose()  # type: ignore[attr-defined]
        # Released by this loop, while it waits for the next line.
        asyncio.get_running_loop().call_later(0.01, (tmp_path / "release").touch)
        return begun + [line async for line in lines]

    assert messages(asyncio.run(read())) == [*numbered(*range(1, 11)), "more", "and an error"]

    async def at_once(**arguments: Any) -> list[str]:
        return [line async for line in grid.aio.logs(experiment, **arguments)]

    assert messages(asyncio.run(at_once(n_lines=1))) == ["and an error"]
    assert messages(asyncio.run(at_once(since=11, attempt=1))) == ["more", "and an error"]
    with pytest.raises(InvalidArgument, match="n_lines"):
        grid.aio.logs(experiment, n_lines=-1)


def test_watch(begin: Start) -> None:
    """Who watches a run with its logs is told each line of every attempt, each status, and both in their order."""
    run = begin((PROJECTS / "resumes.py").read_text(), "--how machine --name \"['ada', 'grace']\"", auto_resume=True)
    events = list(run.watch(logs=True))
    first = ["starting after epoch 0", *(f"epoch {number}" for number in range(1, 6))]
    second = ["starting after epoch 5", *(f"epoch {number}" for number in range(6, 11)), "done"]
    for experiment in run:
        printed = [each for each in events if isinstance(each, LogPrinted) and each.experiment == experiment.name]
        assert [(each.attempt, each.number, each.message) for each in printed] == [
            *((1, number, message) for number, message in enumerate(first, 1)),
            *((2, number, message) for number, message in enumerate(second, 1)),
        ]
        assert [str(each) for each in printed[:6]] == [
            line.replace("] ", f"] {experiment.name}: ", 1) for line in experiment.logs(attempt=1)
        ]
        assert str(printed[-1]).endswith(f"{experiment.name}, attempt 2: done")
    changes = [each for each in events if isinstance(each, grid.StatusChanged)]
    assert changes == list(run.watch())
    assert list(run.watch(logs=True)) != []

    async def awaited() -> list[object]:
        return [event async for event in grid.aio.watch(run, logs=True)]

    again = asyncio.run(awaited())
    assert [each for each in again if isinstance(each, grid.StatusChanged)] == changes
    assert sorted(map(str, again)) == sorted(map(str, events))


def test_in_a_running_event_loop(counted: Experiment) -> None:
    """Logs are read where a loop runs already, as in a notebook."""

    async def read() -> list[str]:
        return list(counted.logs(n_lines=2, follow=True))

    assert messages(asyncio.run(read())) == numbered(9, 10)


@pytest.mark.parametrize("has_ended", [True, False])
def test_interrupt_while_a_log_is_followed(
    begin: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str], has_ended: bool
) -> None:
    """Ctrl-C says that the run goes on if it does, whatever was known of it before; a log as it is says nothing."""
    gate = tmp_path / "gate"
    run = begin(GATED, f"--gate {gate}")
    experiment = only(run)
    wait_until(lambda: list(experiment.logs(1)), "the first line")
    if has_ended:
        gate.touch()
        wait_for_run(grid.get_run(run.name))  # so that this run does not know
    capsys.readouterr()
    reads: list[tuple[Iterator[Any], str]] = [
        (experiment.logs(follow=True), "e.cancel()"),
        (run.logs(follow=True), "r.cancel()"),
        (run.watch(), "r.cancel()"),
        (experiment.logs(), ""),
        (run.logs(), ""),
    ]
    for lines, stopping in reads:
        next(lines)
        with pytest.raises(KeyboardInterrupt):
            lines.throw(KeyboardInterrupt())  # type: ignore[attr-defined]
        said = "" if has_ended or not stopping else f"still running; {stopping} stops it\n"
        assert capsys.readouterr().err == said
    gate.touch()
