"""What is played with a service while processes die: a little of everything that a user does, as fast as possible."""

from __future__ import annotations

import shlex
from collections import Counter

from tests.faults.judge import judge
from tests.faults.ledger import HELD, entries, have_ended, rows, statuses
from tests.faults.victims import Victim
from tests.support.waiting import TERMINAL, wait_until

WAYS = ["exit-0", "held", "exit-1", "signal-9"]
HELD_ONE = WAYS.index("held")


LEFT = "SELECT * FROM removals"
"""What is still on the disk of what was deleted."""


def play(service: Victim) -> None:
    """Start a run, cancel one experiment of it, retry what has failed, and delete another run, whatever dies."""
    release = service.folder / "release"
    release.touch()
    arguments = f"{service.ledger} {release} --how {shlex.quote(str(WAYS))}"
    run = service.start_run(HELD, arguments, key="this-run" * 2)
    other = service.start_run(HELD, f"{service.folder / 'other'} {release} --how exit-0", key="that-run" * 2)

    def is_held() -> bool:
        held = any(entry.event == "held" for entry in entries(service.ledger))
        return held or statuses(service.home)[HELD_ONE] in TERMINAL

    wait_until(lambda: not service.revive_if_dead() and is_held(), "the one that is to be cancelled")
    service.cancel(f"{run['name']}-exp{HELD_ONE}")
    wait_for_end(service)
    service.retry(run["id"])
    wait_for_end(service)
    service.delete(other["id"])
    service.stop()
    if rows(service.home, LEFT):  # it was cut short, and the next one goes on with it
        service.start()
        wait_until(lambda: not rows(service.home, LEFT), "the end of what was deleted")
        service.stop()


def wait_for_end(service: Victim) -> None:
    """Wait until every experiment has ended, whichever process dies meanwhile."""
    wait_until(lambda: not service.revive_if_dead() and have_ended(service.home), "the end of every experiment", 60)


def verdicts(service: Victim, *, may_be_lost: bool = False) -> list[str]:
    """Judge a service after the play."""
    wrong = judge(service.home, service.ledger, may_be_lost=may_be_lost)
    if not may_be_lost:
        executed = Counter(entry.attempt for entry in entries(service.ledger) if entry.event == "started")
        if executed != {1: 4, 2: 2}:
            wrong.append(f"attempts were executed too often: {executed}")
        if len(entries(service.folder / "other")) != 3:
            wrong.append("the run that was deleted was not executed once")
    kept = {row["id"] for row in rows(service.home, "SELECT id FROM experiments")}
    found = {folder.name for folder in (service.home / "experiments").iterdir()}
    if found != kept:
        wrong.append(f"there are folders of {found}, and experiments {kept}")
    return wrong
