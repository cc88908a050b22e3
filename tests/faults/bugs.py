"""Bugs that the service might have: each changes a few lines of it, in processes of the tests alone.

A change names the lines that it is about, and fails if they are no longer there: then it must be written again.
"""

from __future__ import annotations

import importlib
import inspect
import operator
import re
import shutil
import textwrap
from dataclasses import dataclass
from pathlib import Path

from grid.service.executors import spawner_client


@dataclass(frozen=True)
class Change:
    """Lines of a function (`module:Class.name`) or of a file of the supervisor (`name.py`), and what replaces them."""

    where: str
    old: str
    new: str


@dataclass(frozen=True)
class Bug:
    """What is wrong, which scenario of `test_seeded_bugs.py` shows it, and a pattern of the judge's report."""

    scenario: str
    verdict: str
    changes: tuple[Change, ...]


_SCHEDULER = "grid.service.domain.scheduler:Scheduler."
_LIFECYCLE = "grid.service.domain.lifecycle:"
_EVIDENCE = "grid.service.executors.evidence:"

_WITHOUT_CGROUPS = Change("attempt.py", "parent = own() if self.cgroups else None", "parent = None")
_ANY_SPAWNER = Change(
    "attempt.py", 'if self.record.spawner() not in (None, self.job["spawner"]):', "if self.record.spawner() == 0:"
)
# As if the script had removed its folder: a supervisor does not make a working copy where there is one.
_OVER_WHAT_IS_THERE = (
    Change("working_copy.py", "os.mkdir(work, 0o700)", "os.path.exists(work) or os.mkdir(work, 0o700)"),
    Change("working_copy.py", "os.O_CREAT | os.O_EXCL", "os.O_CREAT | os.O_TRUNC"),
)

BUGS = {
    "a status changes from whatever it was": Bug(
        "all_in_order",
        "were executed too often",
        (
            Change(
                _LIFECYCLE + "change",
                "sources, reasons = TRANSITIONS[to]",
                "sources, reasons = tuple(ExperimentStatus), TRANSITIONS[to][1]",
            ),
            Change(
                _LIFECYCLE + "queue_again",
                "TRANSITIONS[_QUEUED][0]",
                "tuple(ExperimentStatus)",
            ),
        ),
    ),
    "an attempt is not claimed": Bug(
        "two_supervisors",
        "executed 2 times",
        (
            Change("record.py", "except FileExistsError:\n    return False", "except FileExistsError:\n    pass"),
            _ANY_SPAWNER,
            *_OVER_WHAT_IS_THERE,
        ),
    ),
    "a supervisor of an earlier spawner goes on": Bug(
        "two_supervisors", "executed 2 times", (_ANY_SPAWNER, *_OVER_WHAT_IS_THERE)
    ),
    "a process is known by its pid and the boot": Bug(
        "pid_of_somebody_else",
        "another process was killed",
        (
            Change(
                _EVIDENCE + "_is_alive",
                "process_start(claim.pid) == claim.start",
                "process_start(claim.pid) is not None",
            ),
        ),
    ),
    "a process is known by its pid and its start": Bug(
        "pid_of_another_boot",
        "another process was killed",
        (Change(_EVIDENCE + "_is_alive", "claim.boot == boot_id() and ", ""),),
    ),
    "what cannot be told is taken for dead": Bug(
        "unreadable_claim",
        "LOST",
        (Change(_EVIDENCE + "_without_words", "return State.UNKNOWN", "return State.DEAD"),),
    ),
    "the end is not made in one step": Bug(
        "read_while_it_is_written",
        "its script says",
        (
            Change(
                "attempt.py",
                "self.record.put(EXIT, text)",
                "file = os.open(self.job['home'] + '/' + self.job['record'] + '/exit', os.O_WRONLY | os.O_CREAT)\n"
                'reached("supervisor.exit.torn")\n'
                "os.write(file, text)",
            ),
            Change(
                _EVIDENCE + "ending_of",
                "record = os.fsencode(os.readlink(folder.exit))",
                'torn = b"0 - %d EXIT_CODE" % 2**50\n'
                'record = folder.exit.read_bytes() or signature(key, torn) + b" " + torn',
            ),
        ),
    ),
    "the signature of an end is not checked": Bug(
        "planted_end",
        "its script says",
        (
            Change(
                _EVIDENCE + "ending_of", "if not hmac.compare_digest(signed, signature(key, record)):", "if not key:"
            ),
        ),
    ),
    "a script is in its supervisor's process group": Bug(
        "kills_its_group",
        "its script says",
        (Change("attempt.py", "setpgroup=0,", ""),),
    ),
    "the end is told before all processes are gone": Bug(
        "a_process_stays_behind",
        "a process is left",
        (
            Change("attempt.py", "if not self._reap():", "if not self._reap() or self.finished is not None:"),
            _WITHOUT_CGROUPS,
        ),
    ),
    "nobody inherits orphans": Bug(
        "a_process_stays_behind",
        "a process is left",
        (
            Change("attempt.py", "become_subreaper()\n", "\n"),
            _WITHOUT_CGROUPS,
        ),
    ),
    "a cancel loses against a later end": Bug(
        "ended_while_it_is_cancelled",
        "its cancel was accepted, and it is",
        (
            Change(
                _LIFECYCLE + "end",
                "if cancelled or experiment_rows.is_cancel_requested(connection, *attempt):",
                "if cancelled:",
            ),
        ),
    ),
    "a cancel is told before it is recorded": Bug(
        "killed_while_cancelling",
        "no client asked for that",
        (
            Change(
                _SCHEDULER + "cancel",
                'await failpoints.reached_async("scheduler.cancel.before")',
                "for attempt in self._held:\n"
                "    await self._executor.cancel(attempt)\n"
                'await failpoints.reached_async("scheduler.cancel.before")',
            ),
        ),
    ),
    "an attempt is started before its turn is recorded": Bug(
        "cancelled_while_its_turn_is_recorded",
        "a process is left",
        (
            Change(
                _SCHEDULER + "_turn",
                'await failpoints.reached_async("scheduler.turn.before")',
                "for row, gpu_ids in await self._database.read(lambda connection: self._fitting(connection, free)):\n"
                "    await self._give(self._executor.start, row, gpu_ids)\n"
                'await failpoints.reached_async("scheduler.turn.before")',
            ),
        ),
    ),
    "what was reported is forgotten where a commit fails": Bug(
        "disk_full_at_the_end",
        "for ever",
        (
            Change(
                _SCHEDULER + "_turn",
                "reports = list(self._reports)",
                "reports = list(self._reports)\nself._reports.clear()",
            ),
            Change(_SCHEDULER + "_turn", "del self._reports[: len(reports)]", "pass"),
        ),
    ),
    "the key of a start is not looked up": Bug(
        "asked_twice",
        "there are 2 runs",
        (Change("grid.service.domain.runs:Runs.start", 'key = given["key"]', "key = self._world.new_id()"),),
    ),
    "the key of a retry is not looked up": Bug(
        "asked_twice",
        "a later attempt than was asked for",
        (
            Change(
                "grid.service.domain.runs:Runs.retry",
                "queued = run_rows.retried(connection, run.seq, key)",
                "queued, key = None, self._world.new_id()",
            ),
        ),
    ),
    "counts are not changed": Bug(
        "all_in_order",
        "experiments are SUCCEEDED, and 0 are counted",
        (Change("grid.service.store.status_counts:write", '"v_more": more[key]', '"v_more": 0'),),
    ),
    "a retry is not counted": Bug(
        "all_in_order",
        "0 experiments are QUEUED, and -2 are counted",
        (
            Change(
                "grid.service.store.status_changes:_note",
                "pending.counts[row.run_seq, to.value] += 1",
                "pending.counts[row.run_seq, to.value] += to.value != 'QUEUED'; "
                "pending.counts[row.run_seq, row.status] += to.value == 'QUEUED'",
            ),
        ),
    ),
    "a deletion is not counted": Bug(
        "an_experiment_is_deleted",
        "0 experiments are SUCCEEDED, and 1 are counted",
        (
            Change(
                "grid.service.store.experiment_rows:delete",
                "pending.counts[row.run_seq, row.status] -= 1",
                "pass",
            ),
        ),
    ),
    "a run is deleted while it runs": Bug(
        "deleted_while_it_runs",
        "of which there is no record",
        (
            Change(
                "grid.service.domain.deletions:Deletions.delete_run",
                "unfinished = experiment_rows.unfinished_of(connection, run.seq)",
                "unfinished = 0",
            ),
        ),
    ),
}


def apply(name: str, folder: Path) -> None:
    """Make this process have a bug.

    Parameters
    ----------
    name
        The bug's name.
    folder
        Where a changed copy of the supervisor can be put.
    """
    for change in BUGS[name].changes:
        if change.where.endswith(".py"):
            package = _copied_supervisor(folder)
            file = package / change.where
            file.write_text(_changed(file.read_text(), change))
        else:
            _replace_function(change)


def _changed(text: str, change: Change) -> str:
    first = change.old.partition("\n")[0]
    found = []
    for match in re.finditer(re.escape(first), text):
        line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        indented = "\n" + " " * (len(line) - len(line.lstrip(" ")))
        if text.startswith(change.old.replace("\n", indented), match.start()):
            found.append((match.start(), indented))
    if len(found) != 1:
        message = f"{change.where} has {len(found)} times what the bug is about: {change.old!r}"
        raise AssertionError(message)
    ((start, indented),) = found
    end = start + len(change.old.replace("\n", indented))
    return text[:start] + change.new.replace("\n", indented) + text[end:]


def _replace_function(change: Change) -> None:
    module_name, _, path = change.where.partition(":")
    module = importlib.import_module(module_name)
    *outer, name = path.split(".")
    owner = operator.attrgetter(".".join(outer))(module) if outer else module
    function = inspect.unwrap(getattr(owner, name))
    # A function that was changed before has its text with it.
    text = getattr(function, "changed_text", None) or textwrap.dedent(inspect.getsource(function))
    text = _changed(text, change)
    names: dict = {}
    exec(compile(f"from __future__ import annotations\n{text}", change.where, "exec"), vars(module), names)  # noqa: S102
    inspect.unwrap(names[name]).changed_text = text
    setattr(owner, name, names[name])


def _copied_supervisor(folder: Path) -> Path:
    """Let the spawner import from a copy of Grid's folder; return where its package is in there."""
    copy = folder / "grid"
    if not copy.exists():
        shutil.copytree(spawner_client.GRID, copy, ignore=shutil.ignore_patterns("__pycache__"))
        spawner_client.GRID = copy
    return copy / "service" / "executors" / "supervisor"
