"""The logs of a run of 10,000 experiments: followed, cut off and gone on with, by WebSocket and without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from grid import LogPrinted, Run, errors
from grid.session import streams
from tests.faults.proxy import SUBSCRIPTION, Proxy
from tests.support.experiments import grow_run, starter
from tests.support.services import ServiceProcess
from tests.support.waiting import wait_until

COUNT = 10_000

# The first of them ends at once; the others wait for a file before each word.
SAYS = """\
import os, sys, time
_, files, _, number = sys.argv
for word in ("begins", "goes on", "ends"):
    while number != "0" and not os.path.exists(f"{files}/{number} {word}"): time.sleep(0.01)
    print(number, word, flush=True)
"""


@pytest.fixture
def large(proxy: Proxy, service: ServiceProcess, tmp_path: Path) -> Iterator[Run]:
    """A run whose experiments have ended, but for two that wait; two more have printed something, one the last."""
    run = starter(tmp_path)(SAYS, f"{tmp_path} --n '[0, 1, 2]'")
    first, *others = run.experiments
    wait_until(lambda: run.status() == {"SUCCEEDED": [first], "RUNNING": others}, "the scripts")
    for index in (COUNT // 2, COUNT - 1):
        folder = service.home / "experiments" / f"{run.experiments[first].id}-{index}" / "attempt-1"
        folder.mkdir(parents=True)
        (folder / "output").write_text(f"copy {index}\n")
    yield grow_run(service, run, COUNT)
    with suppress(errors.RunNotFound):
        run.cancel()


def follow(run: Run) -> Iterator[str]:
    """What follows from `Run.logs`."""
    return (line.partition("] ")[2] for line in run.logs(follow=True))


def watch(run: Run) -> Iterator[str]:
    """The same from `Run.watch`."""
    return (event.message for event in run.watch(logs=True) if isinstance(event, LogPrinted))


def hear(lines: Iterator[str], last: str) -> list[str]:
    """Lines up to one of them."""
    heard = [next(lines)]
    while heard[-1] != last:
        heard.append(next(lines))
    return heard


@pytest.mark.parametrize(("how", "upgrades"), [(follow, None), (watch, 503)])
def test_nothing_twice_and_nothing_missing(
    large: Run,
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: Callable[[Run], Iterator[str]],
    upgrades: int | None,
) -> None:
    """A client that knows how far 10,000 experiments are goes on where it was, whenever it is cut off."""
    monkeypatch.setattr(streams, "_FIRST_PAUSE", 0.05)
    proxy.upgrades = upgrades
    lines = how(large)
    last = f"copy {COUNT - 1}"
    assert hear(lines, last) == ["0 begins", "0 goes on", "0 ends", f"copy {COUNT // 2}", last]

    def asked(operation: str) -> int:
        return sum(exchange.operation == operation for exchange, _ in proxy.exchanges)

    with ThreadPoolExecutor(1) as pool:
        for word in ("begins", "goes on", "ends"):
            proxy.cut()
            queries, subscriptions = asked("GetRunLogs"), asked(SUBSCRIPTION)
            heard = [pool.submit(next, lines)]
            wait_until(lambda before=queries: asked("GetRunLogs") > before, "a question")
            if upgrades is None:
                wait_until(lambda before=subscriptions: asked(SUBSCRIPTION) > before, "a WebSocket")
            for number in (1, 2):
                (tmp_path / f"{number} {word}").touch()
            heard.append(pool.submit(next, lines))
            assert sorted(each.result(60) for each in heard) == [f"1 {word}", f"2 {word}"]
    assert list(lines) == []
