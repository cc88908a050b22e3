"""What real scripts leave behind: as the mapping shows it and as it is downloaded, while they run and after."""

from __future__ import annotations

import hashlib
import io
import random
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

import grid
from grid.chain.endpoint import RetryPolicy
from grid.experiment import Experiment
from grid.session import session as sessions
from tests.faults.proxy import Fault, Proxy, at_random
from tests.support.experiments import only, starter
from tests.support.services import ServiceProcess, service_process
from tests.support.waiting import wait_for_run, wait_until

PROJECTS = Path(__file__).with_name("projects")
Contents = dict[str, bytes]


@dataclass(frozen=True)
class Project:
    """A script, and what is to be seen of it once it is ready and when it has ended."""

    script: str
    running: Contents
    ended: Contents
    more: dict[str, str] = field(default_factory=dict)
    """Other files of its source code."""


MANY = {f"results/{n % 10}/{n % 7}/{n}.txt": f"{n}\n".encode() * (n % 50) for n in range(1_000)}
MODEL, LAST = random.Random(1).randbytes(6_000_000), random.Random(2).randbytes(3_000_000)
ODD = {
    "real.txt": b"real",
    "second_name.txt": b"real",
    "with blank and\nnewline.txt": b"odd",
    r"\xff.bin": b"no text",
    "2026-01-01T10:00:00.log": b"colons",
    "über.txt": b"letters",
    "../data/x": b"beside",
    "../y": b"beside, too",
}
HALF = {"ckpt/step.txt": b"5"} | {f"ckpt/{step}.pt": bytes([step]) * 1_000 for step in range(1, 6)}
WHOLE = {"ckpt/step.txt": b"10"} | {f"ckpt/{step}.pt": bytes([step]) * 1_000 for step in range(1, 11)}

ALL = [
    Project("many_files", MANY, MANY),
    Project("large_file", {"model.pt": MODEL}, {"model.pt": MODEL, "last.pt": LAST}),
    Project(
        "growing_files",
        {"log.csv": b"step,loss\n", "best.txt": b"first best", "gone.txt": b"not for long", "notes.txt": b"changed\n"},
        {"log.csv": b"step,loss\n" + b"1,0.5\n" * 100_000, "best.txt": b"second", "notes.txt": b"changed\n"},
        {"notes.txt": "as it was\n", "unchanged.txt": "as it is\n"},
    ),
    Project("links_and_pipes", ODD, ODD),
    Project("checkpoints", HALF, HALF),
]


class Middle:
    """What happens to the service while a script runs."""

    def __init__(self, service: ServiceProcess) -> None:
        self.service = service

    def session(self) -> sessions.Session:
        """Log in, in the way that this is about."""
        return self.service.session()

    def happen(self) -> None:
        """Let it happen."""


class Killed(Middle):
    """The service is killed and started again."""

    def happen(self) -> None:
        self.service.kill()
        self.service.start()


class Spoiled(Middle):
    """Every third request is spoiled on its way."""

    def __init__(self, service: ServiceProcess, proxy: Proxy) -> None:
        super().__init__(service)
        self.proxy = proxy

    def session(self) -> sessions.Session:
        policy = RetryPolicy(tries=12, first_wait=0.01, max_wait=0.1)
        session = sessions.Session(replace(self.service.endpoint, url=self.proxy.url), is_embedded=False, policy=policy)
        session.interpreter = self.service.session().interpreter
        return session


@pytest.fixture(params=[Middle, Killed, Spoiled], ids=["quiet", "killed", "spoiled"])
def middle(request: pytest.FixtureRequest, service: ServiceProcess, tmp_path: Path) -> Iterator[Middle]:
    """What happens in the middle, to a service that is there for it."""
    with ExitStack() as stack:
        if request.param is Killed:
            (tmp_path / "home").mkdir()
            yield Killed(stack.enter_context(service_process(tmp_path / "home", "--grace", "1", "--cpus", "2")))
        elif request.param is Spoiled:
            faults = tuple(
                fault
                for fault in Fault
                if fault not in {Fault.SILENCE, Fault.SILENCE_IN_ANSWER, Fault.DELAY, Fault.LENGTH_TOO_SHORT}
            )
            proxy = stack.enter_context(Proxy(service.endpoint.url, at_random(1, 0.3, faults)))
            yield Spoiled(service, proxy)
        else:
            yield Middle(service)


def shown(experiment: Experiment, attempt: int | None = None) -> Contents:
    """What the mapping shows, read; but for what says that the script is ready."""
    view = experiment.artifacts if attempt is None else experiment.artifacts.of(attempt=attempt)
    return {path: artifact.read_bytes() for path, artifact in view.items() if path != "ready"}


def tree(folder: Path) -> Contents:
    """Every file below a folder, as an artifact would be called."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    return {re.sub("^_beside/", "../", name): path.read_bytes() for name, path in files.items() if name != "ready"}


@contextmanager
def running(project: Project, folder: Path, more: str = "") -> Iterator[tuple[grid.Run, Path]]:
    """Start a project; yield the run once its script is ready, and the gate that it waits for."""
    gate = folder / "gate"
    text = (PROJECTS / f"{project.script}.py").read_text()
    run = starter(folder)(text, f"--gate {gate} {more}", files=project.more, auto_resume=True)
    try:
        wait_until(lambda: "ready" in only(run).artifacts, "the script")
        yield run, gate
    finally:
        gate.touch()
        wait_for_run(grid.Run(run.name))  # of the session by then


@pytest.mark.parametrize("project", ALL, ids=lambda project: project.script)
def test_project(project: Project, middle: Middle, tmp_path: Path) -> None:
    """The files of a script are shown and downloaded as they are, while it runs and when it has ended."""
    sessions.use(middle.session())
    with running(project, tmp_path) as (run, gate):
        experiment = only(run)
        few = project.script == "many_files"
        assert few or shown(experiment) == project.running
        assert {artifact.sha256 for artifact in list(experiment.artifacts.values())[:3]} == {None}
        experiment.download_artifacts(tmp_path / "early")
        assert tree(tmp_path / "early" / experiment.name) == project.running

        middle.happen()

        sessions.use(middle.session())
        late = grid.Run(run.name)
        experiment = only(late)
        late.download_artifacts(tmp_path / "middle")
        assert tree(tmp_path / "middle" / experiment.name) == project.running
        gate.touch()
        wait_for_run(late)

    paths = late.download_artifacts(tmp_path / "early")  # over what is there from earlier
    found = {path: (artifact.size, artifact.sha256) for path, artifact in experiment.artifacts.items()}
    found.pop("ready")
    assert found == {path: (len(text), hashlib.sha256(text).hexdigest()) for path, text in project.ended.items()}
    there = tree(tmp_path / "early" / experiment.name)
    assert {path: there[path] for path in project.ended} == project.ended
    assert len(paths) == len(project.ended) + 1
    assert not list(tmp_path.rglob("*.part"))
    experiment.download_artifacts(tmp_path / "late")
    assert tree(tmp_path / "late" / experiment.name) == project.ended
    if isinstance(middle, Spoiled):
        assert len(middle.proxy.faults()) > 3


RESTLESS = """
import os, sys
from pathlib import Path
Path("calm.bin").write_bytes(bytes(1_000_000))
Path("state.bin").write_bytes(bytes(100_000_000))
with open("state.bin", "r+b", buffering=0) as file:
    Path("ready").touch()
    number = 0
    while not os.path.exists(sys.argv[2]):
        number += 1
        os.pwrite(file.fileno(), number.to_bytes(8, "big"), 0)
"""


def test_file_that_is_overwritten_without_pause(session: sessions.Session, tmp_path: Path) -> None:
    """It is given up with an error that says what to do; all else comes, and so does it once its script has ended."""
    gate, folder = tmp_path / "gate", tmp_path / "out"
    run = starter(tmp_path)(RESTLESS, f"--gate {gate}")
    experiment = only(run)
    try:
        wait_until(lambda: "ready" in experiment.artifacts, "the script")
        says = r"'state.bin'.*overwritten each time.*has ended.*rename"
        with pytest.raises(grid.errors.DownloadFailed, match=says) as raised:
            experiment.download_artifacts(folder, progress=False)
    finally:
        gate.touch()
        wait_for_run(run)
    assert len(raised.value.reasons) == 1
    there = folder / experiment.name
    assert sorted(path.name for path in there.iterdir()) == ["calm.bin", "ready"]
    assert [path.name for path in folder.iterdir()] == [experiment.name]

    experiment.download_artifacts(folder, progress=False)
    number = int.from_bytes((there / "state.bin").read_bytes()[:8], "big")
    assert number > 0


GROWING = """
import os, sys
from pathlib import Path
Path("empty.bin").touch()
small, large = (open(name, "ab", buffering=0) for name in ("small.bin", "large.bin"))
small.write(b"0123456789")
large.write(b"0123456789" * 300_000)
Path("ready").touch()
opened = Path(sys.argv[2])
while not opened.exists():
    pass
Path("empty.bin").write_bytes(b"no more")
while not opened.with_name("gate").exists():
    if os.fstat(small.fileno()).st_size < 500_000:
        small.write(b"0123456789")
        large.write(b"0123456789")
    os.utime(small.fileno())
    os.utime(large.fileno())
"""


def test_open_file_that_grows(session: sessions.Session, tmp_path: Path) -> None:
    """A file that has grown since it was opened is read, up to its size at the first read; and from any place."""
    opened = tmp_path / "opened"
    run = starter(tmp_path)(GROWING, f"--opened {opened}")
    experiment = only(run)
    try:
        wait_until(lambda: "ready" in experiment.artifacts, "the script")
        with ExitStack() as stack:
            files = {
                name: stack.enter_context(experiment.artifacts[f"{name}.bin"].open())
                for name in ("empty", "small", "large")
            }
            middle, whole = (stack.enter_context(experiment.artifacts["large.bin"].open()) for _ in range(2))
            opened.touch()
            wait_until(lambda: experiment.artifacts["small.bin"].size > 1_000, "growth")
            assert files["empty"].read() == b"no more"
            assert files["small"].read(10) == b"0123456789"
            rest = files["small"].read()
            assert len(rest) > 900
            assert rest == b"0123456789" * (len(rest) // 10)
            assert files["small"].seek(0, io.SEEK_END) == len(rest) + 10
            assert files["large"].read(25) == b"0123456789012345678901234"
            assert middle.seek(1_000_005) == 1_000_005
            assert middle.read(10) == b"5678901234"
            content = whole.read()
            assert len(content) > 3_000_900
            assert content == b"0123456789" * (len(content) // 10)
            seen = experiment.artifacts["large.bin"]
            wait_until(lambda: experiment.artifacts["large.bin"] != seen, "another change")
            with pytest.raises(OSError, match="changed while it was read: 'large.bin'"):
                files["large"].read()
    finally:
        opened.touch()
        (tmp_path / "gate").touch()
        wait_for_run(run)
    with experiment.artifacts["large.bin"].open() as file:
        assert file.read(10) + file.read() == b"0123456789" * (experiment.artifacts["large.bin"].size // 10)


@pytest.mark.parametrize("how", ["exit", "machine"])
def test_attempts(how: str, session: sessions.Session, tmp_path: Path) -> None:
    """Each attempt has its own files; without a number they are the current one's, which began with the earlier."""
    project = ALL[-1]
    with running(project, tmp_path, f"--how {how}") as (run, gate):
        experiment = only(run)
        view, first = experiment.artifacts, experiment.artifacts["ckpt/step.txt"]
        gate.touch()
        if how == "exit":
            wait_for_run(run)
            run.retry()
        wait_until(lambda: experiment.attempt == 2, "the second attempt")
        wait_for_run(run)

    assert shown(experiment, 1) == HALF
    assert shown(experiment) == shown(experiment, 2) == WHOLE
    assert dict(view) == dict(experiment.artifacts)
    assert (first.read_bytes(), view["ckpt/step.txt"].read_bytes()) == (b"5", b"10")
    experiment.download_artifacts(tmp_path / "1", attempt=1)
    experiment.download_artifacts(tmp_path / "2", match=r"\.txt$")
    assert tree(tmp_path / "1" / experiment.name) == HALF
    assert tree(tmp_path / "2" / experiment.name) == {"ckpt/step.txt": b"10"}
    for wrong in (3, 10**6):
        with pytest.raises(grid.errors.InvalidArgument, match=f"attempt={wrong}"):
            list(experiment.artifacts.of(wrong))
        with pytest.raises(grid.errors.InvalidArgument, match=f"attempt={wrong}"):
            experiment.download_artifacts(tmp_path, attempt=wrong)
    for wrong in (0, -1, True, "1", 2**31):
        with pytest.raises(grid.errors.InvalidArgument, match="attempt must be the number of an attempt"):
            experiment.artifacts.of(wrong)  # type: ignore[arg-type]
