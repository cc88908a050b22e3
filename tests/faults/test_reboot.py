"""The machine dies: the service and everything that it has started are gone at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.faults.judge import judge
from tests.faults.ledger import HELD, PRELUDE, entries, have_ended, rows, statuses
from tests.faults.machine import bystander, power_off
from tests.faults.sizes import size
from tests.faults.victims import Victim
from tests.support.waiting import wait_until

NewVictim = Callable[..., Victim]

# Arguments: the ledger and a file: it ends when that exists. It reports how many attempts left a line in its folder.
RESUMED = (
    PRELUDE
    + """
_, ledger, release = sys.argv
tell(ledger, "started")
with open("state", "a+") as file:
    file.seek(0)
    found = len(file.readlines())
    file.write(attempt + "\\n")
tell(ledger, "found", found)
while not os.path.exists(release):
    time.sleep(0.005)
end(ledger, "exit-0")
"""
)


LOST = "SELECT * FROM attempts WHERE reason = 'LOST'"


@pytest.mark.timeout(size(180, 600))
@pytest.mark.parametrize("boots", ["another boot", "the same boot"])
def test_everything_dies(new_victim: NewVictim, boots: str) -> None:
    """What ran is lost, or runs again if the run asks for it; nothing runs twice, and no other process is killed."""
    times = size(2, 10)
    service = new_victim("--cpus", "4")
    release = service.folder / "release"
    service.start()
    service.start_run(RESUMED, f"{service.ledger} {release}", key="resumed" * 3, maxRetries=times, autoResume=True)
    service.start_run(RESUMED, f"{service.ledger} {release}", key="repeated" * 3, maxRetries=times)
    for number in range(times):
        service.start_run(HELD, f"{service.ledger} {release} --how held", key=f"once-{number:016}")

        def all_run(number: int = number) -> bool:
            told = [entry.event for entry in entries(service.ledger)]
            return told.count("found") == 2 * (number + 1) and told.count("held") == number + 1

        wait_until(all_run, "all that fit")
        power_off(service, another_boot=boots == "another boot")
        with bystander(service) as somebody:
            service.start()
            wait_until(lambda lost=3 * (number + 1): len(rows(service.home, LOST)) == lost, "all that was lost")
            assert somebody.poll() is None
    release.touch()
    wait_until(lambda: have_ended(service.home), "the end of everything")
    service.stop()
    assert judge(service.home, service.ledger, may_be_lost=True) == []
    found = {entry.experiment: [] for entry in entries(service.ledger) if entry.event == "found"}
    for entry in entries(service.ledger):
        if entry.event == "found":
            assert entry.attempt == len(found[entry.experiment]) + 1
            found[entry.experiment].append(entry.detail)
    # The files of the previous attempt are there if the run asked for them, and only then.
    assert sorted(found.values()) == [[0] * (times + 1), list(range(times + 1))]
    assert Counter(statuses(service.home)) == {"SUCCEEDED": 2, "FAILED": times}
