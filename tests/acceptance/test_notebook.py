"""In a notebook: a real kernel, whose event loop runs while a cell does."""

from __future__ import annotations

import os
import re
import sys
import time
from queue import Empty
from typing import TYPE_CHECKING, Any

import pytest
from jupyter_client.manager import KernelManager

from tests.support.environments import clean_environment
from tests.support.gates import SCRIPT, Gates
from tests.support.projects import make_project
from tests.support.services import service_process
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.services import ServiceProcess

_DEADLINE = 60.0

# Ends neither by itself nor by SIGTERM.
STUBBORN = """
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("deaf").touch()
while True:
    time.sleep(0.1)
"""


class CellFailed(AssertionError):
    """A cell ended with an exception."""


class Notebook:
    """A kernel, and the cells that it is given."""

    def __init__(self, manager: KernelManager) -> None:
        self._manager = manager
        self._client = manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=_DEADLINE)
        self.first = self.said = self.html = ""
        self.updates: dict[str, list[str]] = {}

    def begin(self, source: str) -> str:
        """Send the kernel a cell; return the id by which its messages are recognised."""
        self.updates = {}
        # One cell's failure must not make the kernel skip the next.
        return str(self._client.execute(source, stop_on_error=False))

    def finish(self, cell: str) -> str:
        """Wait for a cell; return what it displayed as plain text, and printed.

        What a display was updated to is in `updates`, by the id of the display. HTML is in `html`.
        """
        shown: list[str] = []
        self.said = self.html = ""
        deadline = time.monotonic() + _DEADLINE
        while True:
            message = self._message(deadline)
            if message["parent_header"].get("msg_id") != cell:
                continue
            content: dict[str, Any] = message["content"]
            kind = message["msg_type"]
            if kind in {"execute_result", "display_data"}:
                shown.append(content["data"]["text/plain"])
                self.html += content["data"].get("text/html", "")
                if display := content.get("transient", {}).get("display_id"):
                    self.updates[display] = []
            elif kind == "update_display_data":
                self.updates[content["transient"]["display_id"]].append(content["data"]["text/plain"])
            elif kind == "stream":
                shown.append(content["text"])
                self.said += content["text"]
            elif kind == "error":
                raise CellFailed(content["ename"] + ": " + content["evalue"])
            elif kind == "status" and content["execution_state"] == "idle":
                return "".join(shown)

    def wait_for_display(self, cell: str) -> None:
        """Wait until a cell has displayed something, which is in `first` then."""
        deadline = time.monotonic() + _DEADLINE
        while True:
            message = self._message(deadline)
            if message["parent_header"].get("msg_id") == cell and message["msg_type"] == "display_data":
                self.first = message["content"]["data"]["text/plain"]
                self.updates = {message["content"]["transient"]["display_id"]: []}
                return

    def run(self, source: str) -> str:
        """Send the kernel a cell, and return what it showed."""
        return self.finish(self.begin(source))

    def interrupt(self) -> None:
        """Press the stop button."""
        self._manager.interrupt_kernel()

    def close(self) -> None:
        """Let go of the kernel."""
        self._client.stop_channels()

    def _message(self, deadline: float) -> dict[str, Any]:
        try:
            message: dict[str, Any] = self._client.get_iopub_msg(timeout=max(deadline - time.monotonic(), 0.01))
        except Empty:
            raise AssertionError("the cell did not end in time") from None
        return message


@pytest.fixture(scope="module")
def deliberate_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service that gives processes a long time to end by themselves, so that a cancel takes long."""
    home = tmp_path_factory.mktemp("deliberate")
    with service_process(home, "--grace", "600", "--cpus", "2") as running:
        yield running


@pytest.fixture
def notebook(deliberate_service: ServiceProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    """A notebook of a new user whose embedded service is the one that is running."""
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        folder = tmp_path / "jupyter" / name
        folder.mkdir(parents=True)
        monkeypatch.setenv(name, str(folder))
    environment = {
        **clean_environment(deliberate_service.home.parent),
        **{name: value for name, value in os.environ.items() if name.startswith(("IPYTHON", "JUPYTER"))},
        "GRID_HTTP_TIMEOUT": "600",
    }
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env=environment, cwd=str(tmp_path))
    opened = Notebook(manager)
    try:
        yield opened
    finally:
        opened.close()
        manager.shutdown_kernel(now=True)


def test_everything_works_while_the_loop_of_the_notebook_runs(notebook: Notebook, tmp_path: Path) -> None:
    """Cells log in, start, look and cancel; what they display is the repr."""
    make_project(tmp_path / "project", "import time; time.sleep(600)")
    assert notebook.run("import sys; sys.executable") == repr(sys.executable)
    assert notebook.run("import asyncio; asyncio.get_running_loop().is_running()") == "True"

    assert notebook.run("from grid import Run, list_runs, login, runs\nlogin()") == ""
    notebook.run("r = Run(entrypoint='project/run.py', script_args='--x \"[1, 2]\"', cpus=1)\nr.start()")
    notebook.run("held = Run(r.name); name = r.name + '-exp0'")

    assert notebook.run("isinstance(r.status(), dict) and sum(map(len, r.status().values()))") == "2"
    assert notebook.run("await asyncio.sleep(0)\nr.name in list_runs()") == "True"
    assert notebook.run("r.cancel() == list(r.experiments)") == "True"
    assert (
        notebook.run("r.status()") == notebook.run("from IPython.lib.pretty import pprint; pprint(r.status())").rstrip()
    )
    assert notebook.run("r.status()").startswith("defaultdict(list,\n            {'CANCELLED': ['")
    for shown in ("r", "r.experiments", "r.experiments[name]", "held", "runs"):
        assert notebook.run(shown) == notebook.run(f"print(repr({shown}), end='')")
        assert "CANCELLED" in notebook.run(shown)


def test_html(notebook: Notebook, tmp_path: Path) -> None:
    """A cell that ends with a preview, a run, an experiment or a view shows a table with what varies first."""
    make_project(tmp_path / "project", "print(1)")
    notebook.run(
        "from grid import Run, login, pause_cluster, resume_cluster, runs\nlogin()\n_ = pause_cluster('local')"
    )
    notebook.run("r = Run(entrypoint='project/run.py', script_args='--n 5 --lr \"[0.1, 0.2]\"', cpus=1)")
    assert notebook.run("r.preview()").startswith("Preview: 2 experiments, lr: 2")
    assert "lr: 2" in notebook.html
    assert ">n<" not in notebook.html.partition("<details>")[0]
    notebook.run("r.start()")
    for shown in ("r", "r.experiments"):
        assert notebook.run(shown) == notebook.run(f"print(repr({shown}), end='')")
        notebook.run(shown)
        first, _, behind = notebook.html.partition("<details>")
        assert re.findall(r">(0\.\d)</td>", first) == ["0.1", "0.2"]
        assert "QUEUED" in first
        assert re.search(">n</th><td[^>]*>5</td>", behind)
    notebook.run("next(iter(r))")
    assert re.search(">lr</th><td[^>]*>0.1</td>", notebook.html.partition("<details>")[0])
    notebook.run("runs")
    assert ">experiments</th>" in notebook.html
    notebook.run("next(iter(r)).artifacts")
    assert ">sha256</th>" in notebook.html
    notebook.run("_ = r.cancel(); _ = resume_cluster('local')")


def test_work_goes_on_beside_a_call(notebook: Notebook) -> None:
    """Calls work from tasks of the notebook's loop and from its threads, and leave the loop running."""
    notebook.run("import asyncio\nfrom grid import list_runs, login\nlogin()\nfirst = list_runs()")

    assert (
        notebook.run("await asyncio.gather(*(asyncio.to_thread(list_runs) for _ in range(8))) == 8 * [first]") == "True"
    )
    assert notebook.run("async def ask():\n    return list_runs()\nawait asyncio.create_task(ask()) == first") == "True"
    assert notebook.run("await asyncio.sleep(0)\nlist_runs() == first") == "True"


def test_progress_is_one_display(notebook: Notebook, tmp_path: Path) -> None:
    """A cell that waits shows one display, which is updated to the last state; one that is not to shows nothing."""
    gates = Gates(tmp_path / "gates")
    make_project(tmp_path / "project", SCRIPT)
    notebook.run("from grid import Run, login\nlogin()")
    arguments = repr(gates.arguments(2))
    notebook.run(f"r = Run(entrypoint='project/run.py', script_args={arguments}, cpus=1)\nr.start()")
    cell = notebook.begin("_ = r.wait()")
    notebook.wait_for_display(cell)
    gates.open(0, 1)
    notebook.finish(cell)
    shown = notebook.first
    (updates,) = notebook.updates.values()
    assert shown.count("\n") == 0
    assert shown.startswith(notebook.run("print(r.name, end='')") + " ░░")
    assert notebook.run("_ = r.wait()").endswith(" ████████ 2/2")
    assert updates[-1].endswith(" ████████ 2/2")
    assert notebook.run("_ = r.wait(progress=False)") == ""
    assert notebook.updates == {}


def test_waiting_in_the_loop_of_the_notebook(notebook: Notebook, tmp_path: Path) -> None:
    """A cell can await a run, watch it, and take its experiments, while the notebook's own tasks go on."""
    gates = Gates(tmp_path / "gates")
    make_project(tmp_path / "project", SCRIPT)
    notebook.run("import asyncio, grid\nfrom grid import Run, login\nlogin()")
    arguments = repr(gates.arguments(2))
    notebook.run(f"r = Run(entrypoint='project/run.py', script_args={arguments}, cpus=1)\nr.start()")
    notebook.run(
        "ended, told = [], []\n"
        "async def take():\n    async for e in grid.aio.as_completed(r): ended.append(e.name)\n"
        "async def watch():\n    async for event in grid.aio.watch(r): told.append(event)\n"
        "tasks = [asyncio.create_task(take()), asyncio.create_task(watch())]"
    )
    gates.open(1, 0)
    assert notebook.run("(await grid.aio.wait(r, progress=False)) is r") == "True"
    notebook.run("await asyncio.gather(*tasks)")
    assert notebook.run("ended == [e.name for e in r.as_completed()]") == "True"
    assert notebook.run("told == list(r.watch()) and len(told) == 6") == "True"


def test_interrupted_wait(notebook: Notebook, tmp_path: Path) -> None:
    """The stop button ends the waiting, says that the run goes on, and the next cell looks at it."""
    gates = Gates(tmp_path / "gates")
    make_project(tmp_path / "project", SCRIPT)
    notebook.run("from grid import Run, login\nlogin()")
    arguments = repr(gates.arguments(1))
    notebook.run(f"r = Run(entrypoint='project/run.py', script_args={arguments}, cpus=1)\nr.start()")
    cell = notebook.begin("r.wait()")
    notebook.wait_for_display(cell)
    notebook.interrupt()
    with pytest.raises(CellFailed, match="KeyboardInterrupt"):
        notebook.finish(cell)
    assert notebook.said == "still running; r.cancel() stops it\n"
    gates.open(0)
    assert notebook.run("_ = r.wait(60, progress=False); print(list(r.status()))") == "['SUCCEEDED']\n"


def test_interrupted_cell_leaves_the_session_usable(
    notebook: Notebook, deliberate_service: ServiceProcess, tmp_path: Path
) -> None:
    """The stop button ends a cell that waits for a cancel, at once, and the next cell goes on."""
    make_project(tmp_path / "project", STUBBORN)
    notebook.run("from grid import Run, list_runs, login\nlogin()")
    notebook.run("r = Run(entrypoint='project/run.py', cpus=1)\nr.start()\ne = r.experiments[r.name + '-exp0']")
    experiment = notebook.run("print(e.id, end='')")
    attempt = deliberate_service.home / "experiments" / experiment / "attempt-1"
    record = deliberate_service.home / "records" / f"{experiment}-1"
    wait_until((attempt / "room" / "work" / "deaf").exists, "the script that does not listen")

    cell = notebook.begin("e.cancel()")
    # The cell waits now: the service has recorded the cancel and gives the script 600 s.
    wait_until((record / "cancel").exists, "the cancel")
    notebook.interrupt()

    with pytest.raises(CellFailed, match="KeyboardInterrupt"):
        notebook.finish(cell)
    assert notebook.run("r.name in list_runs()") == "True"
    assert notebook.run("e.status()") == "'RUNNING'"
