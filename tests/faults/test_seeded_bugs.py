"""The fault tests can fail: the judge sees each bug of `bugs.py`, and without it has nothing to report."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.faults.bugs import BUGS
from tests.faults.judge import judge
from tests.faults.ledger import HELD, KILLS_ITS_GROUP, LEAVES, PLANTS, entries, have_ended, rows, statuses
from tests.faults.machine import bystander, power_off
from tests.faults.play import play, verdicts
from tests.faults.victims import CUT, Refused, Victim
from tests.support.waiting import wait_until

NewVictim = Callable[..., Victim]


def start_run(service: Victim, way: str, **settings: object) -> dict[str, str]:
    """Start a run of one experiment, which ends that way when the file `release` exists."""
    release = service.folder / "release"
    return service.start_run(HELD, f"{service.ledger} {release} --how {way}", **settings)


def wait_for_event(service: Victim, event: str) -> None:
    """Wait until a script has reported something."""
    wait_until(lambda: any(entry.event == event for entry in entries(service.ledger)), event)


def wait_for_end(service: Victim) -> None:
    """Wait until every experiment has ended; not for long, because a bug may prevent that: the judge sees it."""
    seconds = 2 if service.bug and BUGS[service.bug].verdict == "for ever" else 60
    with suppress(AssertionError):
        wait_until(lambda: not service.revive_if_dead() and have_ended(service.home), "the end", seconds)


def judged(service: Victim, *, may_be_lost: bool = False) -> list[str]:
    """Stop a service, and judge it."""
    service.stop()
    return judge(service.home, service.ledger, may_be_lost=may_be_lost, seconds=0.5 if service.bug else 60)


def all_in_order(service: Victim) -> list[str]:
    """No process dies."""
    service.start()
    play(service)
    return verdicts(service)


def ended_while_it_is_cancelled(service: Victim) -> list[str]:
    """A script ends by itself when its cancel is recorded, but has not been signalled yet."""
    told, ended = service.folder / "told", service.folder / "ended"
    service.start(f"scheduler.cancel.after:1:wait={told};supervisor.exit.before:1:wait={ended}")
    (service.folder / "release").touch()
    run = start_run(service, "exit-0")
    service.wait_for_hits("supervisor.exit.before", 1)
    with ThreadPoolExecutor(1) as pool:
        cancelled = pool.submit(service.cancel, f"{run['name']}-exp0")
        service.wait_for_hits("scheduler.cancel.after", 1)
        service.let_go(ended)
        wait_for_end(service)
        service.let_go(told)
        cancelled.result(60)
    return judged(service)


def two_supervisors(service: Victim) -> list[str]:
    """The service dies before a supervisor has claimed its attempt; the next one starts another, and forgets it."""
    gate = service.folder / "gate"
    service.start(f"supervisor.claim.before:1:kill;supervisor.claim.before:1:wait={gate}")
    (service.folder / "release").touch()
    start_run(service, "exit-0")
    wait_until(service.revive_if_dead, "the death of the service")
    wait_for_end(service)
    wait_until(lambda: not list(service.home.glob("records/*-1")), "the removal of the record")
    service.let_go(gate)
    return judged(service)


def pid_of_somebody_else(service: Victim, *, another_boot: bool = False) -> list[str]:
    """The machine dies; then another process has the pid of the supervisor, and the experiment is cancelled."""
    service.start()
    run = start_run(service, "held")
    wait_for_event(service, "held")
    power_off(service, another_boot=another_boot)
    with bystander(service) as somebody:
        service.start()
        service.cancel(f"{run['name']}-exp0")
        wait_for_end(service)
        wrong = judged(service, may_be_lost=True)
        return wrong if somebody.poll() is None else [*wrong, "another process was killed"]


def pid_of_another_boot(service: Victim) -> list[str]:
    """The same, but that process was started as long after the boot as the supervisor was."""
    return pid_of_somebody_else(service, another_boot=True)


def unreadable_claim(service: Victim) -> list[str]:
    """The service dies, and the disk loses the content of a claim whose attempt still runs."""
    service.start()
    start_run(service, "exit-3")
    wait_for_event(service, "started")
    service.kill()
    (record,) = service.home.glob("records/*-1")
    supervisor = int((record / "claim").readlink().name.split()[0])
    os.kill(supervisor, signal.SIGSTOP)  # it would make its claim again
    (record / "claim").unlink()
    (record / "claim").symlink_to("nonsense")
    service.start()
    wait_until(lambda: have_ended(service.home) or "cannot tell" in service.log.read_text(), "a look at the claim")
    with suppress(ProcessLookupError):  # a service with the bug has killed it
        os.kill(supervisor, signal.SIGCONT)
    (service.folder / "release").touch()
    wait_for_end(service)
    return judged(service)


def read_while_it_is_written(service: Victim) -> list[str]:
    """A new service reads the end of an attempt while that is being written."""
    gate = service.folder / "gate"
    service.start(f"supervisor.exit.torn:1:wait={gate}")
    (service.folder / "release").touch()
    start_run(service, "exit-3")
    wait_until(lambda: service.reached()["supervisor.exit.torn"] or have_ended(service.home), "the end of the script")
    service.kill()
    service.start()
    wait_for_end(service)
    service.let_go(gate)
    return judged(service)


def a_process_stays_behind(service: Victim) -> list[str]:
    """A script leaves a process that has nothing in common with it."""
    service.start()
    service.start_run(LEAVES, str(service.ledger))
    wait_for_end(service)
    return judged(service)


def killed_while_cancelling(service: Victim) -> list[str]:
    """The service dies before it has recorded a cancel, and no client asks again."""
    service.start("scheduler.cancel.before:1:kill")
    run = start_run(service, "exit-0")
    wait_for_event(service, "started")
    with pytest.raises(CUT):
        service.ask("mutation($name: String!) { cancelExperiment(name: $name) { ended } }", name=f"{run['name']}-exp0")
    service.kill()
    service.start()
    (service.folder / "release").touch()
    wait_for_end(service)
    return judged(service)


def cancelled_while_its_turn_is_recorded(service: Victim) -> list[str]:
    """An experiment is cancelled while the transaction that gives it its turn is under way."""
    gate = service.folder / "gate"
    service.start(f"scheduler.turn.before:2+:wait={gate}")
    run = start_run(service, "held")
    service.wait_for_hits("scheduler.turn.before", 2)
    service.cancel(f"{run['name']}-exp0")
    service.let_go(gate, 1000)
    wait_for_end(service)
    return judged(service)


def disk_full_at_the_end(service: Victim) -> list[str]:
    """Nothing can be recorded while a script ends, and then it can again."""
    full = service.folder / "full"
    service.start(f"scheduler.turn.before:1+:raise={full}")
    start_run(service, "exit-0")
    wait_until(lambda: statuses(service.home) == ["RUNNING"], "the start of the script")
    full.touch()
    (service.folder / "release").touch()
    wait_until(service.fired, "a transaction that fails")
    full.unlink()
    wait_for_end(service)
    return judged(service)


def asked_twice(service: Victim) -> list[str]:
    """A client that has lost the answers asks for a start and for a retry once more."""
    service.start()
    (service.folder / "release").touch()
    run = start_run(service, "always-3")
    start_run(service, "always-3")
    for _ in range(2):
        wait_for_end(service)
        service.retry(run["id"])
    wait_for_end(service)
    wrong = judged(service)
    if (number := len(rows(service.home, "SELECT * FROM runs"))) != 1:
        wrong.append(f"there are {number} runs of one key")
    if any(row["attempt"] > 2 for row in rows(service.home, "SELECT attempt FROM experiments")):
        wrong.append("there is a later attempt than was asked for")
    return wrong


def deleted_while_it_runs(service: Victim) -> list[str]:
    """A run that has not ended is to be deleted, which is refused."""
    service.start()
    run = start_run(service, "held")
    wait_for_event(service, "held")
    try:
        service.delete(run["id"])
    except Refused as refusal:
        assert refusal.code == "NOT_ENDED"
        service.cancel(f"{run['name']}-exp0")
        wait_for_end(service)
    return judged(service)


def planted_end(service: Victim) -> list[str]:
    """A script plants the record of a good end, and kills its supervisor before that can make the true one."""
    service.start()
    service.start_run(PLANTS, str(service.ledger))
    wait_for_end(service)
    return judged(service, may_be_lost=True)


def kills_its_group(service: Victim) -> list[str]:
    """A script kills the process group that it is in."""
    service.start()
    service.start_run(KILLS_ITS_GROUP, str(service.ledger))
    wait_for_end(service)
    return judged(service)


def an_experiment_is_deleted(service: Victim) -> list[str]:
    """The only experiment of a run is deleted, and the run stays."""
    service.start()
    run = service.start_run("print('hello')", "")
    wait_for_end(service)
    (row,) = rows(service.home, "SELECT id FROM experiments")
    service.insist(lambda: service.ask("mutation($id: ID!) { deleteExperiment(id: $id) { deleted } }", id=row["id"]))
    assert service.ask("query($name: String!) { run(name: $name) { id } }", name=run["name"])
    return judged(service)


SCENARIOS: dict[str, Callable[[Victim], list[str]]] = {
    scenario.__name__: scenario
    for scenario in (
        all_in_order,
        ended_while_it_is_cancelled,
        two_supervisors,
        pid_of_somebody_else,
        pid_of_another_boot,
        unreadable_claim,
        read_while_it_is_written,
        a_process_stays_behind,
        killed_while_cancelling,
        cancelled_while_its_turn_is_recorded,
        disk_full_at_the_end,
        asked_twice,
        deleted_while_it_runs,
        planted_end,
        kills_its_group,
        an_experiment_is_deleted,
    )
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_without_a_bug(new_victim: NewVictim, scenario: str) -> None:
    """The judge has nothing to report."""
    assert SCENARIOS[scenario](new_victim()) == []


@pytest.mark.parametrize("name", BUGS)
def test_with_a_bug(new_victim: NewVictim, name: str) -> None:
    """The judge sees the bug."""
    service = new_victim()
    service.bug = name
    wrong = SCENARIOS[BUGS[name].scenario](service)
    assert re.search(BUGS[name].verdict, "\n".join(wrong)), (wrong, service.log.read_text()[-4000:])
