"""Logs that are followed where no WebSocket can be had, of scripts that empty their own output."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from grid.session import streams
from tests.faults.proxy import Proxy
from tests.support.experiments import only, starter
from tests.support.waiting import wait_until

EMPTIES = """\
import os, sys, time
_, files, left = sys.argv

def wait_for(name):
    while not os.path.exists(f"{files}/{name}"): time.sleep(0.01)

for number in range(1, 51): print("before", number, flush=True)
wait_for("go")
os.truncate(1, 0)
for number in range(1, 101):
    if number == int(left) + 1:
        open(f"{files}/emptied", "w").close()
        wait_for("on")
    print("after", number, flush=True)
"""


@pytest.mark.parametrize("whose", ["experiment", "run"])
@pytest.mark.parametrize("left", [0, 2])
def test_emptied_output_begins_again(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str, left: int
) -> None:
    """What a script prints after it has emptied its output is told from its first line, and none of it is missing."""
    monkeypatch.setattr(streams, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(streams, "_LONGEST_PAUSE", 0.05)
    proxy.upgrades = 503
    run = starter(tmp_path)(EMPTIES, f"{tmp_path} {left}")
    lines = (line.partition("] ")[2] for line in (run if whose == "run" else only(run)).logs(follow=True))
    assert list(itertools.islice(lines, 50)) == [f"before {number}" for number in range(1, 51)]
    (tmp_path / "go").touch()
    wait_until((tmp_path / "emptied").exists, "the script")
    with ThreadPoolExecutor() as pool:
        rest = pool.submit(list, lines)
        asked = len(proxy.exchanges)
        wait_until(lambda: len(proxy.exchanges) > asked + 3, "some questions")
        (tmp_path / "on").touch()
        assert rest.result(60) == [f"after {number}" for number in range(1, 101)]
