"""Logs as the API tells them: pages of an experiment's, a run's as they are printed, attempt by attempt."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from grid import Run, pause_cluster, resume_cluster
from grid.session.session import Session
from grid.shared.wire import experiment_name
from tests.support.experiments import database_of, folder_of, only, output_of, record_of, restart, starter
from tests.support.logs import (
    FOLLOW,
    PAGE,
    Told,
    answer_of,
    following,
    logs_of,
    page_of,
    pages_of,
    text_of,
)
from tests.support.people import add_user, operated
from tests.support.requests import ask, code_of
from tests.support.services import ServiceProcess, service_process
from tests.support.subscriptions import watching
from tests.support.waiting import wait_for_run, wait_until

Start = Callable[..., Run]

STEPS = """\
import os, sys, time
for step in range(3):
    print("step", step, flush=True)
    while not os.path.exists(f"{sys.argv[1]}{step}"): time.sleep(0.01)
print("unfinished", end="")
"""
# Prints lines with its number until there is a file.
TALK = """\
import os, sys, time
number = 0
while not os.path.exists(sys.argv[1]):
    number += 1
    print("line", number, sys.argv[2:], flush=True)
    time.sleep(0.002)
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service of the test's own, which it may kill."""
    with service_process(tmp_path, "--cpus", "2") as running:
        yield running


def start_on(service: ServiceProcess, folder: Path) -> Start:
    """Start runs on a service of the test's own."""
    from grid.session import session as sessions

    sessions.use(service.session())
    return starter(folder)


# Pages of an experiment's


def test_log_of_an_ended_experiment(service: ServiceProcess, start: Start) -> None:
    """All of it, with when it was printed; an unfinished line is a line once the attempt has ended."""
    run = start("print('one'); print('two'); print('three', end='')")
    wait_for_run(run)
    page = page_of(service.endpoint, only(run).id)
    assert page["text"] == "one\ntwo\nthree\n"
    assert (page["number"], page["count"], page["isEnd"], page["attempt"]) == (1, 3, True, 1)
    assert page["name"] == experiment_name(run.name, 0)
    assert [time["isApproximate"] for time in page["times"]] == [False]


def test_log_while_it_runs(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """A page shows what was printed a moment ago, and no line before it is finished."""
    run = start(
        "import os, sys, time\nprint('ready')\nprint('half', end='')\n" + STEPS.partition("\n")[2], str(tmp_path / "go")
    )
    experiment = only(run)
    wait_until(lambda: "half" in output_of(service, experiment), "the script")
    page = page_of(service.endpoint, experiment.id)
    assert (page["text"].split("\n")[0], page["isEnd"]) == ("ready", False)
    for step in range(3):
        (tmp_path / f"go{step}").touch()
    wait_for_run(run)
    assert text_of(service.endpoint, experiment.id) == "ready\nhalfstep 0\nstep 1\nstep 2\nunfinished\n"


def test_places(service: ServiceProcess, start: Start) -> None:
    """A page begins with a number, so many lines before the end, or a time; it has at most so many lines."""
    run = start("for number in range(1, 26): print(number)")
    wait_for_run(run)
    (experiment,) = run

    def numbers(**arguments: Any) -> list[int]:
        return [int(line) for line in page_of(service.endpoint, experiment.id, **arguments)["text"].split()]

    assert numbers(number=24) == [24, 25]
    assert numbers(last=2) == [24, 25]
    assert numbers(last=20, first=2) == [6, 7]
    assert numbers(number=26) == numbers(last=0) == []
    assert numbers(secondsAgo=3600) == list(range(1, 26))
    assert numbers(secondsAgo=0) == []
    page = page_of(service.endpoint, experiment.id)
    assert numbers(since=page["times"][0]["at"]) == list(range(1, 26))
    assert numbers(since="2100-01-01T00:00:00Z") == []
    assert page_of(service.endpoint, experiment.id, since="2100-01-01T00:00:00Z")["number"] == 26
    assert [page["count"] for page in pages_of(service.endpoint, experiment.id, first=10)] == [10, 10, 5]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ({"number": 1, "last": 1}, "INVALID_ARGUMENT", "at most one of number, since, secondsAgo, last"),
        ({"number": 0}, "INVALID_ARGUMENT", "number=0 is not allowed: expected 1 or more"),
        ({"last": -1}, "INVALID_ARGUMENT", "last=-1 is not allowed: expected 0 or more"),
        ({"secondsAgo": -0.5}, "INVALID_ARGUMENT", "secondsAgo=-0.5 is not allowed"),
        ({"secondsAgo": 1e308}, None, ""),
        ({"since": "yesterday"}, "INVALID_ARGUMENT", "since='yesterday' is not allowed: expected a time in ISO 8601"),
        ({"since": "2021-08-10T16:59:58"}, "INVALID_ARGUMENT", "with its offset"),
        ({"attempt": 2}, "INVALID_ARGUMENT", "has no attempt 2: its only attempt is 1"),
        ({"attempt": 0}, "INVALID_ARGUMENT", "has no attempt 0"),
        ({"first": 0}, "INVALID_ARGUMENT", "it must be from 1 to 10000"),
        ({"first": 10_001}, "LIMIT_EXCEEDED", "it must be from 1 to 10000"),
    ],
)
def test_arguments(
    service: ServiceProcess, start: Start, arguments: dict[str, Any], code: str | None, words: str
) -> None:
    """What is not allowed gets an error that says what is."""
    run = start("print('one')")
    wait_for_run(run)
    answer = answer_of(service.endpoint, only(run).id, **arguments)
    if code is None:
        assert answer["data"]["experiment"]["log"]["text"] == "one\n"
    else:
        assert code_of(answer) == code
        assert words in answer["errors"][0]["message"]


def test_queued(service: ServiceProcess, session: Session, start: Start) -> None:
    """An experiment that waits has printed nothing, and may print something later."""
    pause_cluster("local")
    try:
        run = start("print('one')")
        page = page_of(service.endpoint, only(run).id)
        assert (page["count"], page["number"], page["isEnd"], page["times"]) == (0, 1, False, [])
    finally:
        resume_cluster("local")
    wait_for_run(run)


def test_long_pages(service: ServiceProcess, start: Start) -> None:
    """A page ends where it would become too long, and the next one goes on there."""
    run = start("for number in range(300): print(number, 'x' * 10_000)")
    wait_for_run(run)
    pages = list(pages_of(service.endpoint, only(run).id))
    assert len(pages) > 1
    assert all(len(page["text"]) < 1.5 * 1024 * 1024 for page in pages)
    assert "".join(page["text"] for page in pages) == output_of(service, only(run))


def test_a_line_of_100_megabytes(service: ServiceProcess, start: Start) -> None:
    """A line without an end is cut with a mark, and the lines around it are whole."""
    run = start(
        "import sys\nprint('before')\nfor _ in range(100): sys.stdout.write('x' * 1_000_000)\nprint('\\nafter')"
    )
    wait_for_run(run)
    lines = text_of(service.endpoint, only(run).id).split("\n")
    assert (lines[0], lines[2:]) == ("before", ["after", ""])
    assert lines[1] == "x" * 65_536 + " … [99,934,464 more bytes]"


def test_output_that_its_script_has_removed(service: ServiceProcess, start: Start) -> None:
    """There is what there is."""
    run = start("import os\nprint('gone')\nos.remove('../../output')\nprint('gone, too')")
    wait_for_run(run)
    page = page_of(service.endpoint, only(run).id)
    assert (page["count"], page["isEnd"]) == (0, True)
    with following(service.endpoint, run.id) as pages:
        assert not [page for page in pages if page["count"] > 1]


# A run's as they are printed


def test_following(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """Each line comes when it is printed, and the end comes after the last of them."""
    run = start(STEPS, str(tmp_path / "go"))
    with following(service.endpoint, run.id) as pages:
        told = Told()
        for step in range(3):
            page = next(pages)
            told.hear(page)
            assert page["text"] == f"step {step}\n"
            assert not page["isEnd"]
            (tmp_path / f"go{step}").touch()
        rest = list(pages)  # the end may come with the last line or in a piece of its own
        for page in rest:
            told.hear(page)
        assert "".join(page["text"] for page in rest) == "unfinished\n"
        assert [page["isEnd"] for page in rest] == [False] * (len(rest) - 1) + [True]
    assert text_of(service.endpoint, only(run).id) == told.texts[only(run).id, 1]


def test_times_are_the_same_afterwards(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """A line has the same time while it is followed and later."""
    run = start(TALK, str(tmp_path / "over"))
    live: dict[int, tuple[str, bool]] = {}
    with following(service.endpoint, run.id) as pages:
        for page in pages:
            live |= times_of(page)
            if page["number"] > 200:
                (tmp_path / "over").touch()
    later: dict[int, tuple[str, bool]] = {}
    for page in pages_of(service.endpoint, only(run).id):
        later |= times_of(page)
    assert live == later
    assert len({at for at, _ in later.values()}) > 3
    assert not any(is_approximate for _, is_approximate in later.values())


def times_of(page: dict[str, Any]) -> dict[int, tuple[str, bool]]:
    """When each line of a page was printed."""
    end = page["number"] + page["count"]
    starts = [*page["times"], {"number": end}]
    return {
        number: (this["at"], this["isApproximate"])
        for this, following in pairwise(starts)
        for number in range(this["number"], following["number"])
    }


def test_several_experiments(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """All experiments of a run are told, also those that begin later; one that was asked for is told alone."""
    run = start(TALK.replace("sys.argv[1]", "f'{sys.argv[1]}{sys.argv[3]}'"), f"{tmp_path / 'over'} --n '[1, 2, 3, 4]'")
    experiments = list(run)
    told, alone = Told(), Told()
    with (
        following(service.endpoint, run.id) as pages,
        following(service.endpoint, run.id, experiment=experiments[1].id) as pages_of_one,
    ):
        while len(told.numbers) < 2:
            told.hear(next(pages))
        for number in range(1, 5):
            (tmp_path / f"over{number}").touch()
        for page in pages:
            told.hear(page)
        for page in pages_of_one:
            alone.hear(page)
    expected = {(each.id, 1): text for each in experiments if (text := output_of(service, each))}
    assert told.texts == expected
    assert alone.texts == {key: text for key, text in expected.items() if key[0] == experiments[1].id}


def test_turns(service: ServiceProcess, start: Start) -> None:
    """One that has printed a lot does not keep the others waiting: experiments take turns."""
    run = start(
        "import sys\nfor number in range(20_000 if sys.argv[2] == '1' else 1): print(number)", "--n '[1, 2, 3]'"
    )
    wait_for_run(run)
    with following(service.endpoint, run.id) as pages:
        order = [page["name"][-1] for page in pages]
    assert order[:4] == ["0", "1", "2", "0"]
    assert len(order) > 10


def test_going_on(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """With cursors a subscription goes on where another one was cut off: nothing is told twice, nothing is missing."""
    run = start(TALK, f"{tmp_path / 'over'} --n '[1, 2]'")
    told = Told()
    for count in (1, 5, 10, 20):
        with following(service.endpoint, run.id, after=told.cursors) as pages:
            for _ in range(count):
                told.hear(next(pages))
    (tmp_path / "over").touch()
    with following(service.endpoint, run.id, after=told.cursors) as pages:
        for page in pages:
            told.hear(page)
    assert told.texts == {(each.id, 1): output_of(service, each) for each in run}
    with following(service.endpoint, run.id, after=told.cursors) as pages:
        assert not list(pages)


def test_last(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """`last` begins with the last lines that are there, for experiments of which nothing is known."""
    run = start(STEPS, f"{tmp_path / 'go'} --n '[1, 2]'")
    (tmp_path / "go0").touch()
    wait_until(lambda: all(output_of(service, each) == "step 0\nstep 1\n" for each in run), "the scripts")
    first, second = run
    heard: dict[str, str] = {first.id: "", second.id: ""}
    with following(service.endpoint, run.id, last=1, after={second.id: "1:3"}) as pages:
        page = next(pages)
        assert (page["experimentId"], page["number"], page["text"]) == (first.id, 2, "step 1\n")
        (tmp_path / "go1").touch()
        (tmp_path / "go2").touch()
        for page in pages:
            heard[page["experimentId"]] += page["text"]
    assert heard == dict.fromkeys(heard, "step 2\nunfinished\n")


def test_beginnings_come_last(service: ServiceProcess, session: Session, start: Start) -> None:
    """Where one begins that waits is said after the lines of others: there may be thousands that wait."""
    run = start("import sys\nprint('one', flush=True)\nraise SystemExit(sys.argv[-1] == '1')", "--n '[1, 2]'")
    wait_for_run(run)
    first, second = run
    pause_cluster("local")
    try:
        run.retry()
        pages = logs_of(service.endpoint, run.name, {}, last=1)["pages"]
        with following(service.endpoint, run.id, last=1) as followed:
            told = [next(followed) for _ in range(2)]
    finally:
        resume_cluster("local")
    for some in (pages, told):
        assert [(page["experimentId"], page["attempt"], page["number"], page["count"]) for page in some] == [
            (second.id, 1, 1, 1),
            (first.id, 2, 1, 0),
        ]
    wait_for_run(run)


def test_attempt_that_was_deleted_a_moment_ago(service: ServiceProcess, start: Start) -> None:
    """Where there is an experiment's row but no attempt of it any more, the experiment is missing."""
    run = start("raise SystemExit(1)")
    wait_for_run(run)
    run.retry()
    wait_for_run(run)
    with database_of(service) as connection:
        connection.execute(
            "DELETE FROM attempts WHERE experiment_seq = (SELECT seq FROM experiments WHERE id = ?)", (only(run).id,)
        )
    assert code_of(answer_of(service.endpoint, only(run).id, attempt=1)) == "EXPERIMENT_NOT_FOUND"


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ({"id": "nothing"}, "RUN_NOT_FOUND", "nothing"),
        ({"experiment": "nothing"}, "EXPERIMENT_NOT_FOUND", "nothing"),
        ({"last": -1}, "INVALID_ARGUMENT", "last=-1"),
        *(
            ({"after": {"E": cursor}}, "INVALID_ARGUMENT", "<attempt>:<line> for each experiment, both counted from 1")
            for cursor in (
                "0:1",
                "1:0",
                "1",
                "1:",
                ":1",
                "-1:1",
                "+1:1",
                "1:1:1",
                "1: 1",
                "1:1\n",
                "",
                "1:١",
                "1:" + "9" * 99,
            )
        ),
        ({"after": {"E": "3:1"}}, "INVALID_ARGUMENT", "attempt 1 to 2 of this experiment"),
        ({"after": {"another": "1"}}, "INVALID_ARGUMENT", "another: 1"),
        ({"after": {"E": 1}}, "GRAPHQL_VALIDATION_FAILED", "a StringMap is an object whose values are all strings"),
        (
            {"after": [["E", "1:1"]]},
            "GRAPHQL_VALIDATION_FAILED",
            "a StringMap is an object whose values are all strings",
        ),
    ],
)
def test_what_cannot_be_followed(
    service: ServiceProcess, start: Start, more: dict[str, Any], code: str, words: str
) -> None:
    """What is wrong with a subscription is said."""
    run = start("print('one')")
    wait_for_run(run)
    if "E" in more.get("after", ()):
        more = {"after": {only(run).id: more["after"]["E"]}}
    with watching(service.endpoint, FOLLOW, **{"id": run.id, "after": {}, **more}) as answers:
        (answer,) = answers
    assert code_of(answer) == code
    assert words in answer["errors"][0]["message"]


def test_cursor_of_a_deleted_experiment(service: ServiceProcess, session: Session, start: Start) -> None:
    """A cursor of an experiment that is no longer there is in nobody's way."""
    run = start("print('one')", "--n '[1, 2]'")
    wait_for_run(run)
    first, second = run
    first.delete()
    cursors = {each.id: "1:1" for each in (first, second)}
    with following(service.endpoint, run.id, after=cursors) as pages:
        assert [page["experimentId"] for page in pages] == [second.id]


def test_emptied_while_it_is_followed(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """A script that empties its output begins anew; whoever follows it hears that at once, and nothing hangs."""
    text = "import os, sys, time\nfor _ in range(50): print('before', flush=True)\n"
    text += "while not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"
    text += "os.truncate(1, 0)\nwhile not os.path.exists(sys.argv[1] + '-on'): time.sleep(0.01)\n"
    text += "print('after', flush=True)\n"
    run = start(text, str(tmp_path / "go"))
    with following(service.endpoint, run.id) as pages:
        heard = 0
        while heard < 50:
            heard += next(pages)["count"]
        (tmp_path / "go").touch()
        page = next(pages)
        assert (page["text"], page["number"], page["count"], page["isEnd"]) == ("", 1, 0, False)
        (tmp_path / "go-on").touch()
        rest = list(pages)
    assert [(page["text"], page["number"]) for page in rest if page["count"]] == [("after\n", 1)]


# Several attempts


def lose(service: ServiceProcess, run: Run, attempt: int) -> None:
    """Kill the supervisor of an attempt."""
    record = record_of(service, only(run), attempt)
    os.kill(int(os.readlink(record / "claim").split()[0]), signal.SIGKILL)


def test_attempts_in_their_order(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """An experiment that was queued again goes on with its next attempt; each attempt's log can be read by itself."""
    text = "import os, sys\nprint(os.getcwd().split(os.sep)[-3], flush=True)\n" + STEPS
    run = start(text, str(tmp_path / "go"), max_retries=1)
    experiment = only(run)
    with following(service.endpoint, run.id) as pages:
        told = Told()
        while told.texts.get((experiment.id, 1), "") != "attempt-1\nstep 0\n":
            told.hear(next(pages))
        lose(service, run, 1)
        while (experiment.id, 2) not in told.texts:
            told.hear(next(pages))
        for step in range(3):
            (tmp_path / f"go{step}").touch()
        for page in pages:
            told.hear(page)
    second = "attempt-2\nstep 0\nstep 1\nstep 2\nunfinished\n"
    assert told.texts == {(experiment.id, 1): "attempt-1\nstep 0\n", (experiment.id, 2): second}
    assert text_of(service.endpoint, experiment.id, attempt=1) == "attempt-1\nstep 0\n"
    assert text_of(service.endpoint, experiment.id) == text_of(service.endpoint, experiment.id, attempt=2) == second
    with following(service.endpoint, run.id, last=1) as pages:
        assert [(page["attempt"], page["text"]) for page in pages] == [(2, "unfinished\n")]
    with following(service.endpoint, run.id, after={experiment.id: "2:4"}) as pages:
        assert [(page["attempt"], page["text"]) for page in pages] == [(2, "step 2\nunfinished\n")]
    answer = answer_of(service.endpoint, experiment.id, attempt=3)
    assert "has no attempt 3: its attempts are 1 to 2" in answer["errors"][0]["message"]


def test_retry_by_its_owner(service: ServiceProcess, start: Start) -> None:
    """After a retry there are the logs of both attempts, and the first one's page says that it has ended."""
    run = start("import os\nprint(os.getcwd().split(os.sep)[-3])\nraise SystemExit(1)")
    wait_for_run(run)
    run.retry()
    wait_for_run(run)
    with following(service.endpoint, run.id) as pages:
        assert [(page["attempt"], page["text"]) for page in pages] == [(1, "attempt-1\n"), (2, "attempt-2\n")]
    first = page_of(service.endpoint, only(run).id, attempt=1)
    assert (first["text"], first["isEnd"]) == ("attempt-1\n", True)


# Without a subscription


def test_asking_again_and_again(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """Where no subscription can be had, the same is asked for in pieces; what has ended is not asked for again."""
    run = start(TALK.replace("sys.argv[1]", "f'{sys.argv[1]}{sys.argv[3]}'"), f"{tmp_path / 'over'} --n '[1, 2, 3]'")
    told = Told()
    cursors: dict[str, str] = {}
    asked = 0
    while True:
        answer = logs_of(service.endpoint, run.name, cursors)
        for page in answer["pages"]:
            if page["count"]:
                told.hear(page)
            is_end = page["isEnd"]
            place = (page["attempt"] + 1, 1) if is_end else (page["attempt"], page["number"] + page["count"])
            cursors[page["experimentId"]] = "{}:{}".format(*place)
        if answer["isEnd"]:
            break
        asked += 1
        if asked == 3:
            for number in (1, 2, 3):
                (tmp_path / f"over{number}").touch()
        time.sleep(0.02)
    assert told.texts == {(each.id, 1): output_of(service, each) for each in run if output_of(service, each)}
    assert logs_of(service.endpoint, run.name, cursors) == {"isEnd": True, "pages": []}
    assert set(cursors.values()) == {"2:1"}


def test_pieces_are_bounded(service: ServiceProcess, start: Start) -> None:
    """One answer has at most some 10,000 lines, and says that it is not all."""
    run = start("for number in range(30_000): print(number)", "--n '[1, 2]'")
    wait_for_run(run)
    answer = logs_of(service.endpoint, run.name, {})
    assert not answer["isEnd"]
    assert 8_000 <= sum(page["count"] for page in answer["pages"]) <= 12_000
    assert len({page["experimentId"] for page in answer["pages"]}) == 2
    last = logs_of(service.endpoint, run.name, {}, last=1)
    assert (last["isEnd"], [page["text"] for page in last["pages"]]) == (True, ["29999\n"] * 2)


# A service that is killed and started


def test_killed_in_the_middle(own: ServiceProcess, tmp_path: Path) -> None:
    """After a crash no line is told twice and none is missing; those that nobody saw are marked, and no others."""
    run = start_on(own, tmp_path)(TALK, str(tmp_path / "over"))
    (experiment,) = run
    told = Told()
    with following(own.endpoint, run.id) as pages:
        while told.numbers.get(experiment.id, (1, 1))[1] < 100:
            told.hear(next(pages))
    seen = told.numbers[experiment.id][1]
    own.kill()
    before = output_of(own, experiment).count("\n")
    wait_until(lambda: output_of(own, experiment).count("\n") > before + 50, "more lines")
    missed = output_of(own, experiment).count("\n")
    run = restart(own, run)
    started = output_of(own, experiment).count("\n") + 2
    with following(own.endpoint, run.id, after=told.cursors) as pages:
        while told.numbers[experiment.id][1] < started + 100:
            told.hear(next(pages))
        (tmp_path / "over").touch()
        for page in pages:
            told.hear(page)
    assert told.texts == {(experiment.id, 1): output_of(own, experiment)}
    marks = {}
    for page in pages_of(own.endpoint, experiment.id):
        marks |= {number: is_approximate for number, (_, is_approximate) in times_of(page).items()}
    assert not any(marks[number] for number in range(1, seen))
    assert all(marks[number] for number in range(before + 50, missed))
    assert not any(marks[number] for number in range(started + 50, len(marks) + 1))


def test_ended_while_no_service_ran(own: ServiceProcess, tmp_path: Path) -> None:
    """What was printed while no service ran is told after the next start, to its unfinished last line."""
    run = start_on(own, tmp_path)(STEPS, str(tmp_path / "go"))
    (experiment,) = run
    wait_until(lambda: output_of(own, experiment) == "step 0\n", "the script")
    assert page_of(own.endpoint, experiment.id)["text"] == "step 0\n"
    own.kill()
    for step in range(3):
        (tmp_path / f"go{step}").touch()
    wait_until(lambda: "unfinished" in output_of(own, experiment), "the script's end")
    run = restart(own, run)
    wait_for_run(run)
    page = page_of(own.endpoint, experiment.id)
    assert page["text"] == "step 0\nstep 1\nstep 2\nunfinished\n"
    assert page["isEnd"]
    assert [(each["number"], each["isApproximate"]) for each in page["times"]] == [(1, False), (2, True)]


def test_index_that_is_lost(own: ServiceProcess, tmp_path: Path) -> None:
    """Without its index a log has the same text, and its times are marked."""
    run = start_on(own, tmp_path)("for number in range(5_000): print(number)")
    wait_for_run(run)
    (experiment,) = run
    before = text_of(own.endpoint, experiment.id)
    index = own.home / "results" / f"{experiment.id}-1" / "log"
    assert index.exists()
    shutil.rmtree(index.parent)
    assert text_of(own.endpoint, experiment.id) == before == output_of(own, experiment)
    assert all(each["isApproximate"] for each in page_of(own.endpoint, experiment.id)["times"])
    assert index.exists()


def test_no_place_for_indexes(own: ServiceProcess, tmp_path: Path) -> None:
    """Where no index can be made, experiments end as they do, and their logs are whole: only their times are marked."""
    shutil.rmtree(own.home / "results")
    (own.home / "results").write_text("in the way")
    run = start_on(own, tmp_path)("for number in range(3_000): print(number)", "--n '[1, 2, 3]'")
    with following(own.endpoint, run.id) as pages:
        told = Told()
        for page in pages:
            told.hear(page)
    assert told.texts == {(each.id, 1): output_of(own, each) for each in run}
    assert run.status().keys() == {"SUCCEEDED"}
    page = page_of(own.endpoint, next(iter(run)).id, last=10)
    assert (page["number"], page["count"], page["isEnd"]) == (2991, 10, True)
    assert all(each["isApproximate"] for each in page["times"])


def test_deleted(own: ServiceProcess, tmp_path: Path) -> None:
    """With an experiment goes its index, and with a run go all of them, also while somebody reads them."""
    run = start_on(own, tmp_path)("for number in range(5_000): print(number)", "--n '[1, 2, 3]'")
    wait_for_run(run)
    first, second, _ = run
    folders = own.home / "results"
    wait_until(lambda: len(list(folders.iterdir())) == 3, "the indexes")
    first.delete()
    assert len(list(folders.iterdir())) == 2
    shutil.rmtree(folders / f"{second.id}-1")
    page_of(own.endpoint, second.id)  # made again
    run.delete()
    assert list(folders.iterdir()) == []
    assert ask(own.endpoint, f"query($id: ID!) {{ experiment(id: $id) {{ log {{ {PAGE} }} }} }}", id=second.id) == {
        "data": {"experiment": None}
    }


def test_attempts_that_print_nothing(own: ServiceProcess, tmp_path: Path) -> None:
    """Nothing is made for an attempt that prints nothing."""
    run = start_on(own, tmp_path)("", "--n '[1, 2, 3, 4]'")
    wait_for_run(run)
    assert page_of(own.endpoint, next(iter(run)).id)["isEnd"]
    with following(own.endpoint, run.id) as pages:
        assert [(page["count"], page["isEnd"]) for page in pages] == [(0, True)] * 4
    own.stop()
    assert list((own.home / "results").iterdir()) == []


def test_attempt_of_the_old_layout(own: ServiceProcess, tmp_path: Path) -> None:
    """Attempts whose rows say that their files are laid out as they were before are read where these lie."""
    run = start_on(own, tmp_path)("import os\nprint(os.getcwd().split(os.sep)[-3])\nraise SystemExit(1)")
    wait_for_run(run)
    (experiment,) = run
    with database_of(own) as connection:
        connection.execute("UPDATE experiments SET layout = 1")
        connection.execute("UPDATE attempts SET layout = 1")
    assert folder_of(own, experiment).exists()
    assert text_of(own.endpoint, experiment.id) == "attempt-1\n"
    run.retry()
    wait_for_run(run)
    assert text_of(own.endpoint, experiment.id, attempt=1) == "attempt-1\n"
    with following(own.endpoint, run.id) as pages:
        assert [page["text"] for page in pages] == ["attempt-1\n", "attempt-2\n"]


# Who may read it


def test_teammates(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """A teammate may read and follow; who leaves the team hears nothing more; nobody else hears anything."""
    run = start(TALK, str(tmp_path / "over"))
    (experiment,) = run
    operated(service.home, "teams", "add", "log-readers")
    operated(service.home, "teams", "join", "log-readers", service.username)
    teammate, stranger = add_user(service, "log-reader", "log-readers"), add_user(service, "log-stranger")
    wait_until(lambda: output_of(service, experiment), "the script")
    assert page_of(teammate, experiment.id)["text"]
    with following(service.endpoint, run.id) as pages, watching(teammate, FOLLOW, id=run.id, after={}) as answers:
        assert "errors" not in next(answers)
        operated(service.home, "teams", "leave", "log-readers", "log-reader")
        rest = list(answers)
        assert code_of(rest[-1]) == "RUN_NOT_FOUND"
        next(pages)
        (tmp_path / "over").touch()
        for _ in pages:
            pass
    for endpoint in (teammate, stranger):
        assert answer_of(endpoint, experiment.id, last=1)["data"] == {"experiment": None}
        with watching(endpoint, FOLLOW, id=run.id, after={}) as answers:
            (answer,) = answers
        assert code_of(answer) == "RUN_NOT_FOUND"


# How environments were built


def test_build_logs(service: ServiceProcess, start: Start) -> None:
    """For now they say that nothing was built, and which interpreter runs the experiments."""
    run = start("print('one')")
    wait_for_run(run)
    query = (
        f"query($name: String!) {{ run(name: $name) {{ createdAt buildLog {{ {PAGE} }}"
        f" experiments {{ nodes {{ id buildLog {{ {PAGE} }} }} }} }} }}"
    )
    answer = ask(service.endpoint, query, name=run.name)["data"]["run"]
    (experiment,) = answer["experiments"]["nodes"]
    for page, name, experiment_id in (
        (answer["buildLog"], run.name, None),
        (experiment["buildLog"], experiment_name(run.name, 0), experiment["id"]),
    ):
        assert page["text"].split("\n") == [
            "Nothing was built: experiments run in an environment that is there already.",
            f"Their scripts are run by {sys.executable}",
            "",
        ]
        assert (page["name"], page["experimentId"], page["number"], page["count"]) == (name, experiment_id, 1, 2)
        assert page["times"] == [{"number": 1, "at": answer["createdAt"], "isApproximate": False}]
        assert page["isEnd"]
    for script, interpreter, words in (
        ("run.py", "/opt/old/bin/python", "run by /opt/old/bin/python"),
        ("run.py", None, "run by the python3 that the service's machine finds when each starts"),
        ("run.sh", "/opt/old/bin/python", "run by the bash that the service's machine finds when each starts"),
    ):
        with database_of(service) as connection:
            connection.execute(
                "UPDATE runs SET script = ?, launch = '', interpreter = ? WHERE name = ?",
                (script, interpreter, run.name),
            )
        text = ask(service.endpoint, query, name=run.name)["data"]["run"]["buildLog"]["text"]
        assert text.endswith(f"{words}\n")
