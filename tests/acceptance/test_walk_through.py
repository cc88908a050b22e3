"""The walk-through, played from its own document against a real service, and compared with what the document prints."""

from __future__ import annotations

import ast
import datetime
import re
import shutil
import subprocess
import sys
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from IPython.lib.pretty import pretty

import grid
from grid.service.system.machine import account
from tests.support.projects import make_project
from tests.support.waiting import wait_for_run

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = Path(__file__).with_name("getting-started.md")

# What the document has in the places that differ from one machine to another.
STARTED_NAME = "peculiar-shockley-4136"
LOADED_NAME = "striped-hamilton-1458"
USER = "rlizzo"

ORDER = ("QUEUED", "PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED")
ENDS = ORDER[3:]

_PROSE = re.compile(r"[A-Z][\w.]* \w")  # a sentence; a repr has a bracket after its first word
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{6})?")

SCRIPT = """
import argparse, pathlib, time

parser = argparse.ArgumentParser()
parser.add_argument("--max_epochs", type=int)
parser.add_argument("--learning_rate", type=float)
parser.parse_args()
while not pathlib.Path({gate!r}).exists():
    time.sleep(0.02)
"""


@dataclass(frozen=True)
class Step:
    """A command of the document, and what the document prints for it."""

    command: str
    printed: str


def read_document(text: str) -> tuple[list[Step], list[str]]:
    """Return the commands of a document's Python blocks, and the sentences that stand in between."""
    steps: list[Step] = []
    prose: list[str] = []
    for block in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        command: list[str] = []
        printed: list[str] = []

        def close(command: list[str] = command, printed: list[str] = printed) -> None:
            if "".join(command).strip():
                steps.append(Step("\n".join(command) + "\n", "\n".join(printed)))
            command.clear()
            printed.clear()

        for line in block.splitlines():
            if line.startswith(">>>"):
                close()
                command.append(line[4:])
            elif line.startswith("..."):
                command.append(line[4:])
            elif command and not _PROSE.match(line):
                printed.append(line)
            else:
                prose.append(line)
        close()
    return steps, prose


class Prompt:
    """A Python prompt: commands go in, the values that it would show come out."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}

    def enter(self, command: str) -> list[Any]:
        """Execute a command as a prompt does."""
        shown: list[Any] = []
        before, sys.displayhook = sys.displayhook, lambda value: None if value is None else shown.append(value)
        try:
            exec(compile(command, "<walk-through>", "single"), self.names)  # noqa: S102 - the document's own commands
        finally:
            sys.displayhook = before
        return shown


class Statuses:
    """The statuses in which experiments were seen; none ever goes back."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def see(self, name: str, status: str) -> None:
        """Note a status, which must be a known one, and not one that the experiment has already passed."""
        assert status in ORDER
        before = self._seen.get(name, "QUEUED")
        assert before == status or (before not in ENDS and ORDER.index(status) > ORDER.index(before)), (name, before)
        self._seen[name] = status


def plain_status(status: str) -> str:
    """Return a status as far as the document can know it: what comes before an end depends on the machine."""
    assert status in ORDER
    return status if status in ENDS else "UNFINISHED"


def plain_groups(groups: dict[str, list[str]]) -> dict[str, str]:
    """Return the status of each name in a status report, which must not hold an empty list."""
    assert all(groups.values())
    return {name: plain_status(status) for status, names in groups.items() for name in names}


def plain_text(text: str) -> str:
    """Return a repr without times, hashes, sampled numbers, clusters and the stages before an end."""

    def counts(match: re.Match[str]) -> str:
        plain: dict[str, int] = defaultdict(int)
        for status, count in ast.literal_eval(match[1]).items():
            plain[plain_status(status)] += count
        return f"status={dict(plain)},"

    text = _MOMENT.sub("<time>", text)
    text = re.sub(r"@ [0-9a-f]{40}\b", "@ <hash>", text)
    text = re.sub(r"'learning_rate': '[^']*'", "'learning_rate': '<number>'", text)
    text = re.sub(r"(?m)^( *invocation_command=.*--learning_rate) \S+,$", r"\1 <number>,", text)
    text = re.sub(r"\bstatus=(\{.*\}),", counts, text)
    text = re.sub(r"\bstatus=([A-Z]+),", lambda match: f"status={plain_status(match[1])},", text)
    # Before the start there is no end, and the document shows none.
    return text if "    name=,\n" in text else re.sub(r"(?m)^    cluster=.*,$", "    cluster=<cluster>,", text)


class WalkThrough:
    """The document, played in order."""

    def __init__(self, loaded_name: str, head: str) -> None:
        self.prompt = Prompt()
        self.statuses = Statuses()
        self._loaded_name = loaded_name
        self._head = head
        self._rates: set[str] = set()

    @property
    def started_name(self) -> str:
        """The name that the run was given."""
        return self.prompt.names["r"].name if "r" in self.prompt.names else ""

    def here(self, text: str) -> str:
        """Return a text of the document with the names of this machine."""
        return text.replace(LOADED_NAME, self._loaded_name).replace(STARTED_NAME, self.started_name or STARTED_NAME)

    def play(self, step: Step) -> None:
        """Enter a command, and compare what it shows with the document."""
        shown = self.prompt.enter(self.here(step.command))
        if not step.printed:
            assert shown == [], step.command
            return
        assert len(shown) == 1, step.command
        expected = self.here(step.printed).replace(f"user={USER},", f"user={account()},")
        if expected.startswith(("defaultdict(", "datetime.", "[", "'", "0.")):
            self._compare_values(expected, shown[0])
        else:
            self._compare_texts(expected, repr(shown[0]))

    def _compare_values(self, expected: str, shown: Any) -> None:
        meaning = {"defaultdict": defaultdict, "list": list, "datetime": datetime}
        wanted = eval(expected, meaning)  # noqa: S307 - the document's own values
        assert type(shown) is type(wanted)
        assert eval(pretty(shown), meaning) == shown  # noqa: S307 - as IPython prints it
        if isinstance(wanted, defaultdict):
            assert shown.default_factory is wanted.default_factory
            assert plain_groups(shown) == plain_groups(wanted)
            for status, names in shown.items():
                assert names == sorted(names)
                for name in names:
                    self.statuses.see(name, status)
        elif isinstance(wanted, datetime.datetime):
            assert shown.tzinfo is wanted.tzinfo
            assert abs(shown - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=5)
        else:
            assert shown == wanted

    def _compare_texts(self, expected: str, shown: str) -> None:
        assert plain_text(shown) == plain_text(expected)
        for sha in re.findall(r"@ ([0-9a-f]{40})\b", shown):
            assert sha == self._head
        self._rates.update(re.findall(r"'learning_rate': '([^']*)'", shown))
        self._rates.update(re.findall(r"(?m)^ *invocation_command=.*--learning_rate (\S+),$", shown))
        assert len(self._rates) <= 1, "one draw meets both values of max_epochs"
        assert all(1e-5 <= float(rate) <= 1e-3 for rate in self._rates)
        for experiment in re.split(r"Experiment\(,\n", shown)[1:]:
            self._check_experiment(dict(re.findall(r"(?m)^ *(\w+)=(.*),$", experiment)))

    def _check_experiment(self, fields: dict[str, str]) -> None:
        self.statuses.see(fields["name"], fields["status"])
        never = "1970-01-01 00:00:00"
        assert (fields["started_running_at"] == never) == (fields["status"] in {"QUEUED", "PENDING"})
        assert (fields["finished_at"] == never) == (fields["status"] not in ENDS)
        assert fields["created_at"] > "2021"


def test_document_is_read_as_it_is_meant() -> None:
    """Commands, what they print and the sentences in between are told apart."""
    steps, prose = read_document(DOCUMENT.read_text())

    commands = [step.command for step in steps]
    assert len(commands) == 21
    assert commands[:2] == ["from grid import login\n", "login()\n"]
    assert commands[-2:] == [f"rr = Run({LOADED_NAME!r})\n", "rr\n"]
    assert "foo" not in "".join(commands)
    assert steps[commands.index("r.estimated_hourly_cost\n")].printed == "0.38"
    assert steps[commands.index("r.name\n")].printed == repr(STARTED_NAME)
    assert [sentence.split()[0] for sentence in prose] == ["from", "Start", "The"]


@pytest.mark.parametrize(
    ("first", "then"), [("RUNNING", "QUEUED"), ("SUCCEEDED", "RUNNING"), ("CANCELLED", "SUCCEEDED"), ("QUEUED", "DONE")]
)
def test_status_that_goes_back_is_noticed(first: str, then: str) -> None:
    """The walk-through would fail on a status that went back, and on a word that is not a status."""
    statuses = Statuses()
    statuses.see("a-exp0", first)
    statuses.see("a-exp0", first)

    with pytest.raises((AssertionError, ValueError)):
        statuses.see("a-exp0", then)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The file that the project's script waits for."""
    return tmp_path / "gate"


@pytest.fixture
def project(tmp_path: Path, gate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project of the walk-through, in the current folder."""
    folder = tmp_path / "work" / "Demo_Project"
    make_project(folder, SCRIPT.format(gate=str(gate)), origin="git@github.com:gridai/Demo_Project.git")
    monkeypatch.chdir(folder.parent)
    yield folder
    shutil.rmtree(folder)


def runs_of_earlier_days(names: list[str]) -> str:
    """Make the runs that the document already lists, oldest first; return the name of the one that it loads."""
    loaded = ""
    for name in reversed(names):
        if name == LOADED_NAME:
            # Not named by us: its script_command shows no --name.
            arguments = '--max_epochs "[10, 20]" --learning_rate "uniform(1e-3, 1e-5, 1)"'
            run = grid.create_run("Demo_Project/run.py", script_args=arguments, instance_type="t2.xlarge", cpus=3)
            loaded = run.name
        else:
            run = grid.create_run("Demo_Project/run.py", name=name, script_args="--max_epochs 1")
        assert wait_for_run(run).keys() == {"SUCCEEDED"}
    return loaded


def test_walk_through(project: Path, gate: Path, grid_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed at a prompt in order, every command of the document shows what the document shows."""
    monkeypatch.setenv("GRID_LOCAL_CPUS", "6")  # so that nothing is clamped, whatever machine this is
    steps, _ = read_document(DOCUMENT.read_text())
    listed = ast.literal_eval(next(step.printed for step in steps if step.command == "list_runs()\n"))
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=project, text=True).strip()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grid.login()
        gate.touch()
        walk = WalkThrough(runs_of_earlier_days(listed[1:]), head)
        gate.unlink()

        for step in steps:
            walk.play(step)

        gate.touch()
        ended = wait_for_run(walk.prompt.names["r"])
    assert ended == {"CANCELLED": [f"{walk.started_name}-exp0"], "SUCCEEDED": [f"{walk.started_name}-exp1"]}
    assert sorted(path.name for path in project.iterdir()) == [".git", "run.py"]
