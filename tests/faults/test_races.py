"""Cancels that race against starts and ends, from two clients at once; failpoints decide which comes first."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.judge import judge
from tests.faults.ledger import HELD, statuses
from tests.faults.sizes import figure, seed, size
from tests.faults.victims import Victim
from tests.support.waiting import TERMINAL, wait_until

NewVictim = Callable[..., Victim]

ROUNDS = size(2, 100)

WINS = {
    "scheduler.start.before": "its turn is recorded, and nobody has been told to run it",
    "spawner.fork.before": "the spawner knows of it",
    "supervisor.claim.before": "its supervisor is there",
    "supervisor.claim.after": "its supervisor has claimed it",
    "supervisor.script.before": "its supervisor has seen no cancel, and starts the script",
    "supervisor.script.after": "its script runs, and nobody has said so",
    "supervisor.exit.before": "its script has ended, and nobody has said how",
    "supervisor.exit.after": "its end is written down, and not recorded",
}
"""Where an attempt stops until both cancels are answered: they come before its end is recorded."""


class Clients:
    """Two clients that cancel the same experiment at once."""

    def __init__(self, service: Victim, run: str, pool: ThreadPoolExecutor) -> None:
        self._service = service
        self._run = run
        self._pool = pool

    def cancel(self, index: int) -> Callable[[], bool]:
        """Begin; return a function that waits for both answers, and says whether one was "not ended yet"."""
        name = f"{self._run}-exp{index}"
        asked = [self._pool.submit(self._service.cancel, name) for _ in range(2)]
        return lambda: any(each.result(60)["pending"] for each in asked)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for two clients."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


def start(service: Victim, plan: str, number: int, pool: ThreadPoolExecutor) -> Clients:
    """Start a run of experiments that take turns, each of which ends by itself at once."""
    service.start(plan)
    (service.folder / "release").touch()
    draw = random.Random(seed())
    ways = [draw.choice(["exit-0", "exit-1", "exit-3", "signal-9"]) for _ in range(number)]
    run = service.start_run(HELD, f'{service.ledger} {service.folder / "release"} --how "{ways}"')
    return Clients(service, run["name"], pool)


def wait_for_end(service: Victim, index: int) -> str:
    """Return the status of an experiment that has ended."""
    return wait_until(lambda: (status := statuses(service.home)[index]) in TERMINAL and status, f"the end of {index}")


@pytest.mark.timeout(size(180, 1200))
@pytest.mark.parametrize("point", WINS)
def test_cancelled_before_its_end_is_recorded(new_victim: NewVictim, pool: ThreadPoolExecutor, point: str) -> None:
    """A cancel wins at any point between an experiment's turn and the record of its end."""
    service = new_victim("--cpus", "1")
    gate = service.folder / "gate"
    clients = start(service, f"{point}:1+:wait={gate}", ROUNDS, pool)
    for index in range(ROUNDS):
        service.wait_for_hits(point, index + 1)
        was_pending = clients.cancel(index)
        assert was_pending()
        service.let_go(gate)
        assert wait_for_end(service, index) == "CANCELLED"
    service.stop()
    assert judge(service.home, service.ledger) == []


@pytest.mark.timeout(size(180, 1200))
def test_recorded_and_not_told(new_victim: NewVictim, pool: ThreadPoolExecutor) -> None:
    """A recorded cancel wins over an end that comes before any process was told of the cancel."""
    service = new_victim("--cpus", "1")
    told, ended = service.folder / "told", service.folder / "ended"
    plan = f"scheduler.cancel.after:1+:wait={told};supervisor.exit.before:1+:wait={ended}"
    clients = start(service, plan, ROUNDS, pool)
    for index in range(ROUNDS):
        service.wait_for_hits("supervisor.exit.before", index + 1)
        was_pending = clients.cancel(index)
        service.wait_for_hits("scheduler.cancel.after", 2 * (index + 1))
        service.let_go(ended)
        assert wait_for_end(service, index) == "CANCELLED"
        service.let_go(told, 2)
        assert not was_pending()
    service.stop()
    assert judge(service.home, service.ledger) == []


def test_cancelled_after_its_end_was_recorded(new_victim: NewVictim, pool: ThreadPoolExecutor) -> None:
    """A cancel that comes later changes nothing, and is not an error."""
    service = new_victim("--cpus", "1")
    clients = start(service, "", ROUNDS, pool)
    for index in range(ROUNDS):
        status = wait_for_end(service, index)
        assert not clients.cancel(index)()
        assert statuses(service.home)[index] == status
    service.stop()
    assert judge(service.home, service.ledger) == []
    assert "CANCELLED" not in statuses(service.home)


@pytest.mark.timeout(size(180, 1200))
def test_at_random(new_victim: NewVictim, pool: ThreadPoolExecutor) -> None:
    """With every step taking a moment longer or shorter, the answers and the records are true."""
    number = size(4, 200)
    service = new_victim("--cpus", "2")
    clients = start(service, f"*:1+:delay={seed()}", number, pool)
    draw = random.Random(seed())
    counted = Counter[tuple[str, bool]]()
    for index in draw.sample(range(number), number):
        accepted = clients.cancel(index)()
        status = wait_for_end(service, index)
        assert status == "CANCELLED" or not accepted
        counted[status, accepted] += 1
    service.stop()
    assert judge(service.home, service.ledger) == []
    figure(f"races: {counted}")
