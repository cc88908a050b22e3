"""The service is killed at every point where something has just happened or is about to, one after the other.

`grid/service/system/failpoints.py` says how. A point has a name; the service is killed at the first hit of that name,
then at the second, and so on until none fires. The short version takes the first hits of some names, drawn by the seed.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.faults.judge import judge
from tests.faults.ledger import HELD
from tests.faults.play import play, verdicts, wait_for_end
from tests.faults.sizes import figure, seed, size
from tests.faults.victims import Victim, Zygote, victim

NewVictim = Callable[..., Victim]

MIDDLE = "supervisor.script.after:2:kill"
"""Kills the service when two scripts have been started, and it knows of the first at most."""


def survives(service: Victim, *plans: str, may_be_lost: bool = False) -> list[str]:
    """Play under a plan, and after each death under the next; judge; return what the plans have done."""
    service.start(plans[0], then=plans[1:])
    play(service)
    wrong = verdicts(service, may_be_lost=may_be_lost)
    assert wrong == [], (plans, service.fired(), service.log.read_text()[-4000:])
    return service.fired()


def fail_everywhere(
    new_victim: NewVictim,
    which: Iterable[str],
    action: str,
    *,
    most: int,
    before: tuple[str, ...] = (),
    may_be_lost: bool = False,
) -> None:
    """Play with a fault at each point of those names, one after the other; print how many there were."""
    names = sorted(which)
    chosen = names if size(0, 1) else random.Random(seed()).sample(names, min(most, len(names)))
    fired = Counter[str]()
    for name in chosen:
        for number in itertools.count(1):
            plan = f"{name}:{number}:{action}"
            done = survives(new_victim(), *before, plan, may_be_lost=may_be_lost)
            if len(done) <= len(before):
                break
            fired[name] += 1
            if not size(0, 1):
                break
    figure(f"failpoints ({action}): {fired.total()} points of {len(fired)} names: {dict(fired)}")
    # One that was reached in a play without faults is reached in nearly every one.
    assert len(fired) >= len(chosen) / 2


def names_reached(service: Victim, *plans: str) -> set[str]:
    """Play under plans, the last of which only counts the points; return their names."""
    survives(service, *plans, "")
    return set(service.reached())


@pytest.mark.timeout(size(180, 3600))
def test_service_killed_at_each_point(new_victim: NewVictim) -> None:
    """At whichever point the service dies, the next one goes on, nothing runs twice, and the records are true."""
    fail_everywhere(new_victim, names_reached(new_victim()), "kill", most=6)


@pytest.mark.timeout(size(180, 3600))
def test_service_killed_at_each_point_of_its_recovery(new_victim: NewVictim) -> None:
    """A service that dies while it goes on with what another left is no worse than one that dies at any other time."""
    names = names_reached(new_victim(), MIDDLE)
    fail_everywhere(new_victim, names, "kill", before=(MIDDLE,), most=4)


@pytest.mark.timeout(size(180, 3600))
def test_supervisor_killed_at_each_point(new_victim: NewVictim) -> None:
    """An attempt whose supervisor or spawner dies is lost, or ends as it truly ended; it is not executed again."""
    names = [name for name in names_reached(new_victim()) if name.startswith(("supervisor.", "spawner."))]
    fail_everywhere(new_victim, names, "die", most=4, may_be_lost=True)


@pytest.mark.timeout(size(180, 3600))
def test_each_write_fails_once(new_victim: NewVictim) -> None:
    """A transaction that fails, and one that succeeds and reports a failure, change nothing of what is true."""
    names = [name for name in names_reached(new_victim()) if name.startswith("database.")]
    fail_everywhere(new_victim, names, "raise", most=2)


def fresh(zygote: Zygote, folder: Path) -> Iterator[Victim]:
    """Services of homes that do not exist yet."""
    for number in itertools.count():
        with victim(zygote, folder / f"fresh-{number}", "--grace", "1", "--cpus", "2") as service:
            yield service


@pytest.mark.timeout(size(180, 3600))
def test_service_killed_while_it_makes_its_home(zygote: Zygote, tmp_path: Path) -> None:
    """A first start that is cut short at any point is no worse than none."""
    services = fresh(zygote, tmp_path)
    first = next(services)
    first.start("")
    first.stop()
    names = sorted(first.reached())
    killed = 0
    for name in names if size(0, 1) else random.Random(seed()).sample(names, min(3, len(names))):
        for number in itertools.count(1):
            service = next(services)
            service.start(f"{name}:{number}:kill")
            if not service.fired():
                service.stop()
                break
            service.start_run(HELD, f"{service.ledger} {tmp_path} --how exit-0")
            wait_for_end(service)
            service.stop()
            assert judge(service.home, service.ledger) == [], (name, number)
            killed += 1
            if not size(0, 1):
                break
    services.close()
    figure(f"failpoints (kill, first start): {killed} points")
    assert killed
