"""`start()` interrupted, repeated, and called twice at once: it starts one run."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import grid
from grid import models
from grid.chain.endpoint import Endpoint
from grid.session import session as sessions
from grid.session.session import Session
from tests.faults.proxy import UPLOAD, Fault, Proxy
from tests.faults.sizes import figure, seed, size
from tests.support.environments import clean_environment
from tests.support.experiments import database_of
from tests.support.scripts import script
from tests.support.services import ServiceProcess, login_environment, service_process

_DEADLINE = 60.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service that starts nothing, so that what is counted does not change."""
    with service_process(tmp_path_factory.mktemp("paused"), "--cpus", "2") as running:
        running.session().execute(models.PauseCluster, name="local")
        yield running


def experiments_of(service: ServiceProcess) -> dict[str, int]:
    """How many experiments each run has, past the service; runs of one name would count together."""
    with database_of(service) as connection:
        query = (
            "SELECT runs.name, count(*) FROM runs JOIN experiments ON experiments.run_seq = runs.seq GROUP BY runs.name"
        )
        return dict(connection.execute(query))


# Ctrl-C at each step of a start, while the proxy holds it there.
PHASES = [
    ("Estimate", Fault.BEFORE_ANSWER),
    ("CreateSnapshot", Fault.REFUSED),
    ("CreateSnapshot", Fault.BEFORE_ANSWER),
    (UPLOAD, Fault.REFUSED),
    (UPLOAD, Fault.IN_REQUEST_BODY),
    (UPLOAD, Fault.BEFORE_ANSWER),
    ("StartRun", Fault.REFUSED),
    ("StartRun", Fault.IN_REQUEST_BODY),
    ("StartRun", Fault.AFTER_REQUEST),
    ("StartRun", Fault.BEFORE_ANSWER),
    ("StartRun", Fault.IN_ANSWER_HEAD),
    ("StartRun", Fault.IN_ANSWER_BODY),
]

STARTS = """
import asyncio, pathlib, warnings
warnings.simplefilter("ignore")

def begin(r):
    try:
        r.start()
    except KeyboardInterrupt:
        print("interrupted", flush=True)

async def begin_in_cell(r):
    begin(r)

def play(name, *, in_loop):
    folder = pathlib.Path(name)
    folder.mkdir()
    (folder / "train.py").write_text(f"# {name}" + "\\n# padding" * 200_000)
    r = Run(name=name, entrypoint=f"{name}/train.py", script_args="--x '[1, 2, 3]'", localdir=True, cpus=1)
    if in_loop:
        asyncio.get_event_loop_policy().new_event_loop().run_until_complete(begin_in_cell(r))
    else:
        begin(r)
    input()
    r.start()
    print(r.name, len(r), sum(map(len, r.status().values())), flush=True)
    input()
"""


@pytest.mark.parametrize("in_loop", [False, True], ids=["at-a-prompt", "in-a-running-loop"])
def test_start_is_interrupted_at_each_step(service: ServiceProcess, tmp_path: Path, in_loop: bool) -> None:
    """At every step of a start Ctrl-C is heard at once; the repeated start makes one run, late requests none."""
    before = experiments_of(service)
    names = [f"{'loop' if in_loop else 'prompt'}-{number}" for number in range(len(PHASES))]
    source = STARTS + f"for name in {names!r}:\n    play(name, in_loop={in_loop})\n"
    with Proxy(service.endpoint.url) as proxy:
        # The first is set up before the script can reach it, each of the others while the script waits.
        hold = proxy.hold(*PHASES[0])
        environment = {**login_environment(service), "GRID_URL": proxy.url, "TMPDIR": str(tmp_path)}
        with script(source, tmp_path, **environment) as starting:
            for name, following in zip(names, [*PHASES[1:], None], strict=True):
                assert hold.reached.wait(_DEADLINE), name
                starting.interrupt()
                assert starting.read() == "interrupted"
                starting.go_on()
                assert starting.read() == f"{name} 3 3"
                # Only now does the interrupted request go on to the service, if its sender has left it whole.
                hold.released.set()
                assert hold.done.wait(_DEADLINE), name
                assert experiments_of(service) == {**before, **dict.fromkeys(names[: names.index(name) + 1], 3)}
                if following is not None:
                    hold = proxy.hold(*following)
                starting.go_on()
            starting.finish()
    assert list((service.home / "incoming").iterdir()) == []
    assert list(tmp_path.glob("grid-snapshot-*")) == []


REPEATS = """
import os, pathlib, signal, warnings
from grid.errors import RunStarted
warnings.simplefilter("ignore")
prefix, count = {prefix!r}, {count}
started, r = {{}}, None

def start_all():
    global r
    while len(started) < count:
        try:
            if r is None:
                script = pathlib.Path("train.py")
                script.write_text(f"# {{prefix}} {{len(started)}}" + "\\n# padding" * 20_000)
                r = Run(name=f"{{prefix}}-{{len(started)}}", entrypoint="train.py", localdir=True, cpus=1)
            os.write(1, b"starting %d\\n" % len(started))  # as a whole or not at all
            try:
                r.start()
            except RunStarted:
                pass
            started[r.id] = True
            r = None
        except KeyboardInterrupt:
            pass
    signal.signal(signal.SIGINT, signal.SIG_IGN)

while True:
    try:
        start_all()
        break
    except KeyboardInterrupt:  # which came outside of any start
        pass
print(len(started), "started", flush=True)
"""


def test_start_is_interrupted_at_random(service: ServiceProcess, tmp_path: Path) -> None:
    """A start that is repeated after each Ctrl-C, at random moments, makes one run in the end."""
    print(f"GRID_SEED={seed()}")
    draw = random.Random(seed())
    count = size(4, 300)
    before = experiments_of(service)
    source = REPEATS.format(prefix="random", count=count)
    starting = subprocess.Popen(
        [sys.executable, "-c", "from grid import *; login()\n" + source],
        cwd=tmp_path,
        env=clean_environment(tmp_path, TMPDIR=str(tmp_path), **login_environment(service)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    interrupts: Counter[str] = Counter()
    line = ""
    try:
        assert starting.stdout is not None
        # What was printed meanwhile is skipped: the start that is going on now is the one to interrupt.
        while said := os.read(starting.stdout.fileno(), 1 << 16).decode():
            line = said.splitlines()[-1]
            if not line.startswith("starting"):
                break
            # The moment is drawn from a period that grows until the start succeeds, on any machine.
            time.sleep(draw.uniform(0, 0.05 * 1.3 ** interrupts[line]))
            os.killpg(starting.pid, signal.SIGINT)  # as a terminal does: whatever it has started hears it, too
            interrupts[line] += 1
        _, complaints = starting.communicate(timeout=_DEADLINE)
    finally:
        if starting.poll() is None:
            starting.kill()
            starting.communicate()
    # If it comes while Python collects garbage, Python says so, and nothing can be done about it.
    complaints = re.sub(
        r"Exception ignored in: .*?\nKeyboardInterrupt: \n\n?", "", complaints.decode(), flags=re.DOTALL
    )
    figure(f"Ctrl-C: {sum(interrupts.values())} interrupts of {count} starts")
    print(complaints)
    assert (line, complaints, starting.returncode) == (f"{count} started", "", 0)
    assert experiments_of(service) == {**before, **{f"random-{number}": 1 for number in range(count)}}


def test_two_threads_start_one_run_object(service: ServiceProcess, tmp_path: Path) -> None:
    """Two threads that start the same object at once start one run, and both calls return."""
    entrypoint = tmp_path / "train.py"
    entrypoint.write_text("")
    with Proxy(service.endpoint.url) as proxy, warnings.catch_warnings(), ThreadPoolExecutor(2) as pool:
        warnings.simplefilter("ignore")
        endpoint = Endpoint(proxy.url, service.endpoint.user_id, service.endpoint.api_key)
        sessions.use(Session(endpoint, is_embedded=False))
        run = grid.Run(name="threads", entrypoint=str(entrypoint), script_args="--x '[1, 2]'", localdir=True, cpus=1)
        hold = proxy.hold("StartRun", Fault.REFUSED)
        late = pool.submit(run.start)
        assert hold.reached.wait(_DEADLINE)
        pool.submit(run.start).result(_DEADLINE)
        made = run.id
        hold.released.set()
        late.result(_DEADLINE)

    assert run.id == made
    assert list(run.experiments) == ["threads-exp0", "threads-exp1"]
    assert experiments_of(service)["threads"] == 2


def test_many_threads_start_one_run_object(service: ServiceProcess, tmp_path: Path) -> None:
    """Eight threads that start the same object start one run; a call that comes too late says that it is started."""
    entrypoint = tmp_path / "train.py"
    entrypoint.write_text("")
    sessions.use(service.session())
    for number in range(size(3, 50)):
        with warnings.catch_warnings(), ThreadPoolExecutor(8) as pool:
            warnings.simplefilter("ignore")
            name = f"eight-{number}"
            run = grid.Run(name=name, entrypoint=str(entrypoint), localdir=True, cpus=1)
            together = threading.Barrier(8)

            def start(run: grid.Run = run, together: threading.Barrier = together) -> None:
                together.wait(_DEADLINE)
                run.start()

            outcomes = [future.exception(_DEADLINE) for future in [pool.submit(start) for _ in range(8)]]
        assert None in outcomes
        assert {type(outcome) for outcome in outcomes} <= {type(None), grid.errors.RunStarted}
        assert experiments_of(service)[name] == 1
        assert list(run.experiments) == [f"{name}-exp0"]
