"""The mapping of an experiment's files, and each of them: what they show, what they cost, who may see them."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import grid
from grid.artifact import Artifact
from grid.errors import ArtifactNotFound, ExperimentNotFound, InvalidArgument, RunNotStarted
from grid.experiment import Experiment
from grid.session import session as sessions
from tests.support.artifact_service import LARGE, Offer, artifact_service, sha256
from tests.support.experiments import grow_run, only, starter
from tests.support.people import add_user, operated, session_of
from tests.support.requests import requests
from tests.support.scripts import script
from tests.support.services import ServiceProcess, login_environment
from tests.support.waiting import wait_for_run, wait_until

TEXT = b"0123456789" * 300_000
SCRIPT = """
import os, sys
os.makedirs("ckpt")
open("ckpt/best.pt", "wb").write(b"0123456789" * 300_000)
open("metrics.json", "w").write('{"loss": 0.1}')
for number in range(int(sys.argv[2])):
    open(f"{number:04}.txt", "w").write(str(number))
"""


@pytest.fixture(scope="module")
def ended(service: ServiceProcess, tmp_path_factory: pytest.TempPathFactory) -> grid.Run:
    """A run of three experiments that have ended, and left files behind."""
    sessions.use(service.session())
    run = starter(tmp_path_factory.mktemp("ended"))(SCRIPT, "--files '[0, 3, 130]'")
    wait_for_run(run)
    return run


@pytest.fixture
def run(ended: grid.Run, session: sessions.Session) -> grid.Run:
    """The same run, as this test's session has it."""
    return grid.Run(ended.name)


@pytest.fixture
def experiment(run: grid.Run) -> Experiment:
    """An experiment with five files."""
    return list(run)[1]


NAMES = ["0000.txt", "0001.txt", "0002.txt", "ckpt/best.pt", "metrics.json"]


def test_mapping(experiment: Experiment) -> None:
    """It is a mapping in the order of the paths, and each file says what is known of it."""
    view = experiment.artifacts

    assert isinstance(view, Mapping)
    assert list(view) == list(view.keys()) == NAMES
    assert len(view) == 5
    assert [artifact.path for artifact in view.values()] == [path for path, _ in view.items()] == NAMES
    assert "metrics.json" in view
    assert "nothing" not in view
    assert 3 not in view
    assert view.get("nothing") is None
    best = view["ckpt/best.pt"]
    assert isinstance(best, Artifact)
    assert (best.path, best.size, best.sha256) == ("ckpt/best.pt", len(TEXT), sha256(TEXT))
    assert timedelta(0) <= datetime.now(UTC) - best.modified_at < timedelta(hours=1)
    assert best.modified_at.tzinfo is UTC
    assert best == view["ckpt/best.pt"] == dict(view)["ckpt/best.pt"]
    assert best != view["metrics.json"]
    assert len({best, view["ckpt/best.pt"]}) == 1
    assert view == experiment.artifacts
    with pytest.raises(AttributeError):
        best.size = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        view["a"] = best  # type: ignore[index]


def test_unknown_path(experiment: Experiment) -> None:
    """A path that is not there is a key error that names close ones."""
    with pytest.raises(KeyError, match="ckpt/best.pt") as caught:
        experiment.artifacts["ckpt/bets.pt"]
    assert isinstance(caught.value, ArtifactNotFound)
    for odd in ("", "..", "../../x", "/etc/passwd", "a\0b", "ckpt", "x" * 5_000):
        assert odd not in experiment.artifacts
    with pytest.raises(ArtifactNotFound):
        experiment.artifacts[7]  # type: ignore[index]


def test_what_a_look_costs(run: grid.Run, experiment: Experiment, session: sessions.Session, tmp_path: Path) -> None:
    """A page, or one file, is one request: none for each file, and none for each experiment of a run."""
    with requests(session) as sent:
        list(experiment.artifacts.items())
        len(experiment.artifacts)
        experiment.artifacts["ckpt/best.pt"]
        repr(experiment.artifacts)
    assert sent == [4]

    with requests(session) as sent:
        found = run.download_artifacts(tmp_path, match="nothing is called so")
    assert found == []
    assert sent == [2]  # a page of experiments, and the rest of the one that has more than a page of files


def test_what_a_large_run_costs(
    service: ServiceProcess, session: sessions.Session, tmp_path: Path, ended: grid.Run
) -> None:
    """The files of many experiments are listed with one request for each page of them."""
    started = starter(tmp_path)(SCRIPT, "--files 1")
    wait_for_run(started)
    run = grow_run(service, started, 120)  # whose copies have left nothing behind
    with requests(session) as sent:
        assert run.download_artifacts(tmp_path / "out", match="nothing is called so") == []
    assert sent == [3]


def vars_of(artifact: Artifact) -> list[object]:
    """What an artifact consists of."""
    return [artifact, artifact._record, artifact._page]


def test_repr(experiment: Experiment, session: sessions.Session) -> None:
    """The repr shows what there is, one line each, and says so where it cannot."""
    lines = repr(experiment.artifacts).splitlines()
    assert (lines[0], lines[-1]) == ("{", "}")
    assert [line.split("'")[1] for line in lines[1:-1]] == NAMES
    assert f"size={len(TEXT)}" in lines[4]
    assert "signature" not in repr(experiment.artifacts) + repr(vars_of(experiment.artifacts["metrics.json"]))
    assert repr(experiment.artifacts["metrics.json"]).startswith("Artifact(path='metrics.json', size=13, modified_at=")


def test_repr_of_many(run: grid.Run) -> None:
    """Of very many files only the first are shown."""
    many = list(run)[2].artifacts
    assert len(many) == 132
    lines = repr(many).splitlines()
    assert len(lines) == 103
    assert lines[-2].strip() == "# and more"


def test_repr_without_a_service(experiment: Experiment) -> None:
    """Where nothing answers, the repr says so, and soon."""
    with artifact_service(Offer("x")) as service:
        view = service.experiment(tries=2).artifacts
        assert "'x'" in repr(view)
    begun = time.monotonic()
    assert "could not be fetched" in repr(view)
    assert time.monotonic() - begun < 60  # 2 s, and what a busy machine makes of it
    assert repr(experiment.artifacts.of(7)).count("could not be fetched: attempt=7") == 1


def test_reading(experiment: Experiment, session: sessions.Session) -> None:
    """A file is read whole, or bit by bit, from any place; only what is read is fetched."""
    best = experiment.artifacts["ckpt/best.pt"]
    assert best.read_bytes() == TEXT
    with best.open() as file:
        assert file.readable()
        assert file.seekable()
        assert not file.writable()
        assert file.read(10) == TEXT[:10]
        assert file.tell() == 10
        assert file.seek(-5, io.SEEK_END) == len(TEXT) - 5
        with requests(session) as sent:
            assert file.read() == TEXT[-5:]
        assert sent == [1]
        assert file.read() == b""
        assert file.seek(7) == 7
        assert file.read() == TEXT[7:]
        file.seek(len(TEXT) + 10)
        assert file.read(1) == b""
        with pytest.raises(OSError, match="Invalid argument"):
            file.seek(-1)
    with pytest.raises(ValueError, match="closed"):
        file.read()
    with experiment.artifacts["metrics.json"].open() as file, io.TextIOWrapper(file) as text:
        assert text.read() == '{"loss": 0.1}'
    with requests(session) as sent, best.open() as file:
        assert b"".join(iter(lambda: file.read(1_000), b"")) == TEXT
    assert sent[0] <= 5


def test_file_that_changes_while_it_is_read() -> None:
    """Nothing of one file is put together with another's: reading on fails."""
    with artifact_service(Offer("x", b"1" * LARGE * 5)) as service:
        file = service.experiment().artifacts["x"].open()
        assert file.read(1) == b"1"
        service.offers[:] = [Offer("x", b"2" * LARGE * 5)]
        with pytest.raises(OSError, match="changed while it was read: 'x'"):
            file.read()
        service.offers.clear()
        with pytest.raises(FileNotFoundError, match="removed while it was read: 'x'"):
            file.seek(LARGE * 3) and file.read(1)


def test_digest_is_asked_for_with_patience() -> None:
    """Where the service does not know a digest yet, it is asked until it does; of a file that can change, never."""
    offer = Offer("x", b"1", sha256=None)
    with artifact_service(offer) as service:
        artifact = service.experiment().artifacts["x"]
        answers = iter(["", "", sha256(b"1")])
        original = service._artifact

        def later(path: str) -> object:
            offer.known_later = next(answers)
            return original(path)

        service._artifact = later  # type: ignore[method-assign,assignment]
        assert artifact.sha256 == sha256(b"1")
        assert artifact.sha256 == sha256(b"1")
        assert service.asked["GetArtifact"] == 4

        service._artifact = original  # type: ignore[method-assign]
        offer.known_later, service.status = "", "RUNNING"
        running = service.experiment().artifacts["x"]
        assert running.sha256 is None
        offer.content, offer.known_later, service.status = b"22", sha256(b"22"), "SUCCEEDED"
        assert running.sha256 is None  # what was listed is not there any more
        assert service.experiment().artifacts["x"].sha256 == sha256(b"22")


def test_downloading_one(experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file goes to the same place as with all others."""
    monkeypatch.chdir(tmp_path)
    best = experiment.artifacts["ckpt/best.pt"]

    assert best.download("here") == Path("here") / experiment.name / "ckpt" / "best.pt"
    assert best.download(tmp_path / "here").read_bytes() == TEXT
    assert experiment.download_artifacts("here", match=r"\.pt$") == [best.download("here")]


def test_downloading_a_run(run: grid.Run, tmp_path: Path) -> None:
    """A run's files go to a folder for each experiment; the same again fetches nothing and changes nothing."""
    names = list(run.experiments)
    paths = run.download_artifacts(tmp_path, match="txt$|json")
    assert [path.relative_to(tmp_path).parts[0] for path in paths] == [names[0]] + [names[1]] * 4 + [names[2]] * 131
    assert (tmp_path / names[2] / "0129.txt").read_text() == "129"
    before = {path: path.stat().st_ino for path in paths}
    assert run.download_artifacts(str(tmp_path), match="txt$|json") == paths
    assert {path: path.stat().st_ino for path in paths} == before


def test_bad_arguments(run: grid.Run, experiment: Experiment, tmp_path: Path, session: sessions.Session) -> None:
    """What cannot be meant is refused before anything is asked or written."""
    with requests(session) as sent:
        for download in (run.download_artifacts, experiment.download_artifacts):
            for bad in ("(", "[", "*", 3, b"("):
                with pytest.raises(InvalidArgument, match="is not a regular expression for paths, such as"):
                    download(tmp_path / "out", match=bad)  # type: ignore[arg-type]
            with pytest.raises(InvalidArgument, match="progress"):
                download(tmp_path / "out", progress="min loss")  # type: ignore[arg-type]
    assert sent == [0]
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="file"):
        experiment.download_artifacts(tmp_path / "file")
    (tmp_path / "run.py").touch()
    with pytest.raises(RunNotStarted, match="nothing to download"):
        grid.Run(entrypoint=str(tmp_path / "run.py"), localdir=True).download_artifacts(tmp_path / "out")


def test_progress(experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe nothing is shown unless it is asked for."""
    experiment.download_artifacts(tmp_path / "quiet")
    assert capsys.readouterr() == ("", "")
    experiment.download_artifacts(tmp_path / "shown", progress=True)
    out, told = capsys.readouterr()
    assert out == ""
    assert "5/5 files" in told
    assert "3.0 MB of 3.0 MB" in told


def test_teammates(service: ServiceProcess, session: sessions.Session, experiment: Experiment, tmp_path: Path) -> None:
    """Who may read an experiment may read its files; who may not any more is refused with the next request."""
    operated(service.home, "teams", "add", "vision")
    operated(service.home, "teams", "join", "vision", service.username)
    mate = session_of(add_user(service, "grace", "vision"))
    stranger = session_of(add_user(service, "mallory"))
    try:
        seen = Experiment(experiment._record, mate)
        held = seen.artifacts["metrics.json"]
        assert held.read_bytes() == b'{"loss": 0.1}'
        assert len(seen.download_artifacts(tmp_path / "mate")) == 5
        for look in (
            lambda: len(Experiment(experiment._record, stranger).artifacts),
            lambda: Experiment(experiment._record, stranger).download_artifacts(tmp_path / "stranger"),
        ):
            with pytest.raises(ExperimentNotFound):
                look()
        operated(service.home, "teams", "leave", "vision", "grace")
        for look in (
            held.read_bytes,
            held.open,
            lambda: held.download(tmp_path / "late"),
            lambda: list(seen.artifacts),
        ):
            with pytest.raises(ExperimentNotFound):
                look()
        assert not list((tmp_path / "stranger").rglob("*.json"))
        assert not list((tmp_path / "late").rglob("*.json"))
    finally:
        with suppress(AssertionError):
            operated(service.home, "teams", "leave", "vision", service.username)


def test_deleted_experiment(session: sessions.Session, tmp_path: Path) -> None:
    """Files of what was deleted are gone, and it says so."""
    run = starter(tmp_path)(SCRIPT, "--files 1")
    wait_for_run(run)
    experiment = only(run)
    held = experiment.artifacts["metrics.json"]
    other = grid.get_experiment_by_id(experiment.id)
    run.delete()
    for look in (held.read_bytes, lambda: len(other.artifacts), lambda: other.download_artifacts(tmp_path / "out")):
        with pytest.raises(ExperimentNotFound, match=f"{experiment.name}.*no longer exists"):
            look()
    with pytest.raises(grid.errors.RunNotFound):
        run.download_artifacts(tmp_path / "out")
    with pytest.raises(grid.errors.RunNotFound):
        run.download_artifacts(tmp_path / "out")


def test_interrupt(service: ServiceProcess, tmp_path: Path) -> None:
    """Ctrl-C ends a download at once: what is complete stays, the rest is incomplete, and goes on the next time."""
    content = os.urandom(8 << 20)
    with artifact_service(Offer("small", b"1"), Offer("large", content), Offer("slow", content[::-1])) as toy:
        from starlette.responses import StreamingResponse

        reached: list[int] = []

        def dribble(request: object, offer: Offer) -> object:
            from tests.support.artifact_service import answered

            if offer.path != "slow" or reached:
                return answered(request, offer.content, offer.node["etag"])  # type: ignore[arg-type]
            reached.append(1)

            async def pieces() -> object:
                import asyncio

                yield offer.content[: 3 << 20]
                await asyncio.Event().wait()

            headers = {"ETag": offer.node["etag"], "Content-Length": str(len(offer.content))}
            return StreamingResponse(pieces(), headers=headers)  # type: ignore[arg-type]

        toy.send = dribble  # type: ignore[assignment]
        source = f"""
from pathlib import Path
from grid.chain.endpoint import Endpoint
from grid.session.session import Session
from grid.experiment import Experiment
from grid.chain.decoding import decode
from grid.models import ExperimentRecord
session = Session(Endpoint({toy.url!r}, "ada", "key"), is_embedded=False)
experiment = Experiment(decode(ExperimentRecord, {toy._experiment()!r}), session)
print("ready", flush=True)
try:
    experiment.download_artifacts("out")
except KeyboardInterrupt:
    print("interrupted", flush=True)
input()
print(len(experiment.download_artifacts("out")), flush=True)
"""
        with script(source, tmp_path, **login_environment(service)) as process:
            assert process.read() == "ready"
            folder = tmp_path / "out" / toy.name

            def is_half_way() -> bool:
                parts = [path.stat().st_size for path in (tmp_path / "out" / ".grid-parts").glob("slow.*.part")]
                return (folder / "large").exists() and (folder / "small").exists() and max(parts, default=0) > 1 << 20

            wait_until(is_half_way, "half of it")
            process.interrupt()
            assert process.read() == "interrupted"
            assert {path.name for path in folder.iterdir()} == {"small", "large"}
            begun = toy.asked["GET"]
            process.go_on()
            assert process.read() == "3"
        assert (folder / "slow").read_bytes() == content[::-1]
        assert {path.name for path in folder.iterdir()} == {"small", "large", "slow"}
        assert toy.asked["GET"] == begun + 1
