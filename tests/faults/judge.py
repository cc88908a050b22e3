"""The judge of the fault tests: what must be true of a service's records, given what its scripts wrote themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from grid.service.executors.supervisor.cgroups import oom_kills_of_machine
from tests.faults.ledger import Entry, all_processes, entries, rows
from tests.support.waiting import TERMINAL, wait_until

_PATHS = [
    ["CANCELLED"],
    *(
        [*way, status]
        for way in (["PENDING"], ["PENDING", "RUNNING"])
        for status in ("SUCCEEDED", "FAILED", "CANCELLED")
    ),
]
"""The statuses that an attempt may go through after it was queued."""

_UNEXPLAINED = ("LOST", "START_FAILED")
"""The reasons with which an attempt may end whose supervisor was killed."""

_OOM_KILLS = oom_kills_of_machine()
"""How many processes the machine had killed for want of memory when the tests began."""


def judge(
    home: Path,
    ledger: Path,
    *,
    may_be_lost: bool = False,
    logs: Mapping[str, Sequence[str]] | None = None,
    seconds: float = 60,
) -> list[str]:
    """Compare what a service recorded with what the scripts wrote; return what is wrong, in words.

    Parameters
    ----------
    home
        The home of a service that has been stopped, all of whose experiments should have ended.
    ledger
        What its scripts wrote.
    may_be_lost
        Whether scripts or supervisors were killed too: then an attempt may be lost.
    logs
        What somebody was told who followed the log of each experiment meanwhile, by their ids; None if nobody did.
    seconds
        How long processes may take to end.
    """
    with suppress(AssertionError):
        wait_until(lambda: not all_processes(home, ledger), "the end of every process", seconds)
    return list(_Judge(home, ledger, may_be_lost=may_be_lost, logs=logs).verdicts())


class _Judge:
    def __init__(
        self, home: Path, ledger: Path, *, may_be_lost: bool, logs: Mapping[str, Sequence[str]] | None
    ) -> None:
        self.home = home
        self.ledger = ledger
        self.may_be_lost = may_be_lost
        self.logs = logs
        self.told: dict[tuple[str, int], list[Entry]] = {}
        for entry in entries(ledger):
            self.told.setdefault((entry.experiment, entry.attempt), []).append(entry)

    def verdicts(self) -> Iterator[str]:
        yield from (f"a process is left: {process}" for process in all_processes(self.home, self.ledger))
        (check,) = rows(self.home, "PRAGMA integrity_check")
        if list(check.values()) != ["ok"]:
            yield f"the database is damaged: {check}"
        yield from (f"there is no experiment: {row}" for row in rows(self.home, "PRAGMA foreign_key_check"))
        yield from self.of_counts()
        experiments = rows(self.home, "SELECT * FROM experiments ORDER BY seq")
        for strange in {experiment for experiment, _ in self.told} - {row["id"] for row in experiments}:
            yield f"{strange}: a script ran of which there is no record"
        for row in experiments:
            yield from (f"experiment {row['index']} ({row['id']}): {verdict}" for verdict in self.of_experiment(row))

    def of_counts(self) -> Iterator[str]:
        counts = rows(self.home, "SELECT * FROM status_counts")
        kept = {(row["run_seq"], row["status"]): row["number"] for row in counts}
        experiments = rows(self.home, "SELECT run_seq, status FROM experiments")
        true = Counter((row["run_seq"], row["status"]) for row in experiments)
        for key in sorted({*kept, *true}):
            if kept.get(key) != true[key]:
                yield f"run {key[0]}: {true[key]} experiments are {key[1]}, and {kept.get(key)} are counted"

    def of_experiment(self, row: dict[str, Any]) -> Iterator[str]:
        if row["status"] not in TERMINAL:
            yield f"it is {row['status']} for ever"
        events = rows(self.home, "SELECT * FROM events WHERE experiment_seq = ? ORDER BY seq", row["seq"])
        for change, times in Counter((event["attempt"], event["status"]) for event in events).items():
            if times > 1:
                yield f"it came to {change} {times} times"
        recorded = {
            attempt["number"]: attempt
            for attempt in rows(self.home, "SELECT * FROM attempts WHERE experiment_seq = ?", row["seq"])
        }
        told = {attempt for experiment, attempt in self.told if experiment == row["id"]}
        for number in sorted({*range(1, row["attempt"] + 1), *recorded, *told}):
            path = [event["status"] for event in events if event["attempt"] == number]
            verdicts = self.of_attempt(row, number, recorded.get(number), path)
            yield from (f"attempt {number}: {verdict}" for verdict in verdicts)
        last = recorded.get(row["attempt"], {})
        for name in ("status", "reason", "exit_code", "signal", "started_at", "finished_at"):
            if last.get(name) != row[name]:
                yield f"its {name} is {row[name]}, that of its last attempt is {last.get(name)}"

        if self.logs is not None:
            yield from self.of_log(row["id"], row["attempt"], self.logs.get(row["id"], ()))

    def of_log(self, experiment: str, attempts: int, followed: Sequence[str]) -> Iterator[str]:
        written: list[str] = []
        for number in range(1, attempts + 1):
            before, printed = len(written), self.printed(experiment, number)
            written += self.output(experiment, number).splitlines()
            if printed is not None:
                yield from self.of_lines(printed, followed[before : len(written)])
        if list(followed) != written:
            yield f"its log was told as {followed}, and what it has written is {written}"

    def of_lines(self, printed: int, followed: Sequence[str]) -> Iterator[str]:
        wanted = [f"line {line + 1} of {printed}" for line in range(printed)]
        told = Counter(followed)
        yield from (f"its log was told without {line!r}" for line in wanted if not told[line])
        yield from (f"its log was told with {line!r} {told[line]} times" for line in wanted if told[line] > 1)
        if list(followed[:printed]) != wanted:
            yield f"the log of its attempt begins with {followed[:printed]}, and it has printed {wanted}"

    def printed(self, experiment: str, number: int) -> int | None:
        story = self.told.get((experiment, number), [])
        return next((entry.detail for entry in story if entry.event == "printed"), None)

    def output(self, experiment: str, number: int) -> str:
        file = self.home / "experiments" / experiment / f"attempt-{number}" / "output"
        return file.read_text() if file.exists() else ""

    def of_attempt(
        self, row: dict[str, Any], number: int, record: dict[str, Any] | None, path: list[str]
    ) -> Iterator[str]:
        if path[number > 1 :] not in _PATHS or path[: number > 1] != ["QUEUED"][: number > 1]:
            yield f"it went through {path}"
        story = self.told.get((row["id"], number), [])
        for event, times in Counter(entry.event for entry in story).items():
            if times > 1:
                yield f"it was executed {times} times: {event}"
        if record is None:
            yield "its end is not recorded"
            return
        if path and path[-1] != record["status"]:
            yield f"it is {record['status']}, and its last event is {path[-1]}"
        last = next((entry for entry in story if entry.event in ("exit", "signal")), None)
        was_cancelled = row["cancel_requested_at"] is not None and number == row["attempt"]
        yield from self.of_end(record, last, was_cancelled=was_cancelled)
        yield from self.of_output(row["id"], number, story, exit_code=record["exit_code"])

    def of_end(self, record: dict[str, Any], last: Entry | None, *, was_cancelled: bool) -> Iterator[str]:
        outcome = tuple(record[name] for name in ("status", "reason", "exit_code", "signal"))
        is_explained = self.may_be_lost and record["reason"] in _UNEXPLAINED
        if was_cancelled:
            if outcome[:2] != ("CANCELLED", "CANCELLED_BY_USER"):
                yield f"its cancel was accepted, and it is {outcome}"
        elif record["status"] == "CANCELLED":
            yield "it is cancelled, and no client asked for that"
        elif last is None and not is_explained:
            yield f"its script did not come to its end, and it is {outcome}"
        elif last is not None and outcome != _outcome(last) and not (is_explained or _may_be_oom(outcome, last)):
            yield f"its script says {_outcome(last)}, and it is {outcome}"
        if last is not None and record["finished_at"] < last.at:
            yield "it ended before its script did"

    def of_output(self, experiment: str, number: int, story: list[Entry], *, exit_code: int | None) -> Iterator[str]:
        printed = self.printed(experiment, number)
        if printed is None:
            return
        output = self.output(experiment, number)
        if output.splitlines()[:printed] != [f"line {line + 1} of {printed}" for line in range(printed)]:
            yield "lines of its output are missing"
        # A script that ends with this code raises. It says so before it does: a cancel may end it in between.
        has_raised = exit_code == 1 and any((entry.event, entry.detail) == ("exit", 1) for entry in story)
        if has_raised and "it was to be so" not in output:
            yield "its traceback is missing"


def _outcome(last: Entry) -> tuple[str, str, int | None, int | None]:
    if last.event == "signal":
        return "FAILED", "SIGNAL", None, last.detail
    return ("SUCCEEDED" if last.detail == 0 else "FAILED"), "EXIT_CODE", last.detail, None


def _may_be_oom(outcome: tuple[Any, ...], last: Entry) -> bool:
    """Whether a SIGKILL may have been taken for the kernel's: it did kill some process, of another test for instance.

    Where control groups do not count memory, a supervisor cannot tell the two apart: see `docs/lifecycle.md`.
    """
    is_oom = outcome == ("FAILED", "OUT_OF_MEMORY", None, 9)
    return is_oom and _outcome(last) == ("FAILED", "SIGNAL", None, 9) and oom_kills_of_machine() != _OOM_KILLS
