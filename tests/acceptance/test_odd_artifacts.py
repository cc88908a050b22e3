"""Downloads of what is odd among what is not: all else is fetched, and one error says what is missing, and why."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

import grid
from grid.downloads.names import Place
from grid.downloads.parts import PartFile
from grid.downloads.target import Target
from grid.errors import ArtifactNotFound, DownloadFailed, GridError, InvalidResponse
from tests.acceptance.test_hostile_artifacts import EXP0, GOOD, tree
from tests.support.artifact_service import LARGE, Offer, archive, artifact_service
from tests.support.waiting import wait_until

MUCH = 64 << 20
"""What a hostile service sends in place of a few bytes."""


@pytest.mark.parametrize("size", [4, LARGE])
def test_artifact_named_like_what_is_incomplete(tmp_path: Path, size: int) -> None:
    """No name of an artifact is that of what has arrived of another one, so that neither lands in the other's place."""
    digest = hashlib.sha256(f"{EXP0}/best.pt".encode()).hexdigest()
    names = [f"best.pt.{digest[:length]}{end}" for length in (8, 32) for end in (".part", ".etag.part")]
    offers = [Offer("best.pt", b"B" * 2 * LARGE), *(Offer(name, b"e" * size) for name in names)]
    offers += [Offer(f".grid-parts/{name}", b"e" * size) for name in names]
    with artifact_service(*offers) as service:
        service.experiment().download_artifacts(tmp_path)

    assert tree(tmp_path / EXP0) == {offer.path: offer.content for offer in offers}
    assert [path.name for path in tmp_path.iterdir()] == [EXP0]


@pytest.mark.parametrize("size", [4, LARGE])
def test_odd_names_stop_nothing_else(tmp_path: Path, size: int) -> None:
    """Of many artifacts, those whose names cannot be written are named by one error, and all others are there."""
    long = r"\xff" * 70
    odd = ["../../evil", "_beside/x", long, f"{long}/x", "a", "x\x1b[2J/../y"]
    fine = ["C:/x", "../x", "a/b", "good.pt", "z\x1b[2J"]
    paths = sorted([*odd, *fine], key=lambda path: (path == "a", path))
    with artifact_service(*(Offer(path, b"x" * size) for path in paths)) as service:
        experiment = service.experiment()
        if size == LARGE:
            experiment.download_artifacts(tmp_path, match="^a/b$")  # which of the two comes first is chance
        with pytest.raises(DownloadFailed) as caught:
            experiment.download_artifacts(tmp_path)

        places = {path.replace("../", "_beside/") for path in fine}
        assert set(tree(tmp_path / EXP0)) == places
        assert len(caught.value.reasons) == len(odd)
        assert str(caught.value).startswith("6 files are not downloaded, but all others are:\n")
        assert all(reason in str(caught.value) for reason in caught.value.reasons)
        said = str(caught.value)
        assert "\x1b" not in said
        for name in ("'../../evil'", "same place as '../x'", long, f"{EXP0}/a is not", "File name too long"):
            assert name.replace("\\", "\\\\") in said or name in said
        paths_there = experiment.download_artifacts(tmp_path / "few", match=r"good\.pt$")
        assert [path.name for path in paths_there] == ["good.pt"]


def test_many_odd_names(tmp_path: Path) -> None:
    """The message does not grow without end; the error has all reasons."""
    with (
        artifact_service(*(Offer(f"../../{number}") for number in range(50)), GOOD) as service,
        pytest.raises(DownloadFailed, match="and 30 more") as caught,
    ):
        service.experiment().download_artifacts(tmp_path)
    assert len(caught.value.reasons) == 50
    assert set(tree(tmp_path / EXP0)) == {"good.txt"}


@pytest.mark.parametrize("status", ["RUNNING", "SUCCEEDED"])
def test_files_that_the_service_cannot_read(tmp_path: Path, status: str) -> None:
    """What is listed and not sent is named, whether its script still runs or not; everything else is fetched."""
    offers = [GOOD, Offer("closed", b"x" * 4), Offer("large", b"x" * LARGE), Offer("large, closed", b"y" * LARGE)]

    def send(request: Request, offer: Offer) -> Response:
        if "closed" in offer.path:
            error = {"message": "it cannot be read", "extensions": {"code": "ARTIFACT_NOT_FOUND"}}
            return JSONResponse({"errors": [error]}, 404)
        return Response(offer.content, headers={"ETag": offer.node["etag"]})

    with artifact_service(*offers, status=status) as service:
        service.send = send
        service.bundle = lambda offers: archive([offer for offer in offers if "closed" not in offer.path])
        experiment = service.experiment()
        with pytest.raises(DownloadFailed) as caught:
            experiment.download_artifacts(tmp_path)
        assert len(caught.value.reasons) == 2
        for name in ("'closed'", "'large, closed'"):
            assert f"{name} of {EXP0} is gone, or the service cannot read it" in str(caught.value)
        with pytest.raises(ArtifactNotFound, match="large, closed"):
            experiment.artifacts["large, closed"].download(tmp_path)
    assert set(tree(tmp_path / EXP0)) == {"good.txt", "large"}
    assert [path.name for path in tmp_path.iterdir()] == [EXP0]


class Endless:
    """Answers that go on and on, and how much of them was sent."""

    def __init__(self, **headers: str) -> None:
        self.sent = 0
        self.headers = headers

    def __call__(self, request: Request, offer: Offer) -> Response:
        status = 206 if "Content-Range" in self.headers else 200
        return StreamingResponse(self._body(), status, {"ETag": offer.node["etag"], **self.headers})

    async def _body(self) -> AsyncIterator[bytes]:
        sent = 0
        while sent < MUCH:
            await asyncio.sleep(0)  # so that it can be told that nobody listens
            yield b"x" * (1 << 18)
            sent += 1 << 18
            self.sent += 1 << 18


@pytest.mark.parametrize("status", ["RUNNING", "SUCCEEDED"])
@pytest.mark.parametrize("call", ["download", "read_bytes", "open", "open_range"])
def test_answers_without_end(tmp_path: Path, call: str, status: str) -> None:
    """No more is taken of an answer than its head says, or than was listed, wherever it goes."""
    endless = Endless(**({"Content-Range": "bytes 0-6/7"} if call == "open_range" else {}))
    calls: dict[str, Callable[[grid.experiment.Experiment], object]] = {
        "download": lambda experiment: experiment.download_artifacts(tmp_path),
        "read_bytes": lambda experiment: experiment.artifacts["a"].read_bytes(),
        "open": lambda experiment: experiment.artifacts["a"].open().read(),
        "open_range": lambda experiment: experiment.artifacts["a"].open().read(),
    }
    with artifact_service(Offer("a", b"content"), status=status) as service:
        service.send = endless
        with pytest.raises((GridError, OSError)):
            calls[call](service.experiment(tries=2))
        assert endless.sent < MUCH // 2
    assert tree(tmp_path) == {}


def test_member_that_is_larger_than_listed(tmp_path: Path) -> None:
    """A member of an archive that has more bytes than were listed is not taken; the others are."""
    asked = []

    def lie(offers: list[Offer]) -> bytes:
        asked.append([offer.path for offer in offers])
        return archive([Offer(each.path, b"x" * MUCH) if each.path == "b" else each for each in offers])

    with artifact_service(GOOD, Offer("b", b"content"), Offer("c", b"c"), Offer("d", b"d")) as service:
        service.bundle = lie
        service.experiment().download_artifacts(tmp_path)
    assert tree(tmp_path / EXP0) == {"good.txt": b"good", "b": b"content", "c": b"c", "d": b"d"}
    assert asked == [["good.txt", "b", "c", "d"], ["c", "d"]]


def test_etag_that_no_header_can_hold() -> None:
    """An ETag with a line feed is an error of ours, and never sent."""
    with (
        artifact_service(Offer("a", b"content", etag='"x"\r\nX: y'), GOOD) as service,
        pytest.raises(InvalidResponse, match=re.escape(repr('"x"\r\nX: y'))),
    ):
        service.experiment().artifacts["a"].open().read()


def test_names_that_would_write_to_a_terminal(tmp_path: Path) -> None:
    """Neither a path nor a name of an experiment is written to a terminal as it is."""
    bad = Offer("a\x1b[2J", b"content", sha256="0" * 64)
    with artifact_service(bad, name="x\x1b]0;t") as service:
        artifact = service.experiment().artifacts[bad.path]
        for call in (lambda: artifact.download(tmp_path), artifact.read_bytes):
            with pytest.raises(DownloadFailed) as caught:
                call()
            assert "\x1b" not in str(caught.value)
            assert r"\x1b[2J" in str(caught.value)


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A disk on which opening something waits until it is interrupted and told to go on."""
    may_go_on, has_begun = threading.Event(), threading.Event()

    def slow(kind: type, name: str) -> tuple[threading.Event, threading.Event]:
        real = getattr(kind, name)

        def wait(*arguments: Any) -> Any:
            result = real(*arguments)
            if not has_begun.is_set():
                has_begun.set()
                threading.Timer(0, os.kill, (os.getpid(), signal.SIGINT)).start()
                may_go_on.wait(60)
            return result

        monkeypatch.setattr(kind, name, wait)
        return has_begun, may_go_on

    yield slow
    may_go_on.set()


def open_below(folder: Path) -> list[str]:
    """What this process has open in a folder."""
    found = []
    for each in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{each}"))
        except FileNotFoundError:  # that of the list itself
            continue
    return [each for each in found if each.startswith(str(folder))]


@pytest.mark.parametrize("what", [(PartFile, "_locked"), (Target, "is_case_sensitive"), (Target, "__init__")])
def test_interrupted_while_something_is_opened(tmp_path: Path, slow_disk: Any, what: tuple[type, str]) -> None:
    """Ctrl-C while a file is being opened leaves nothing open and nothing locked, as soon as it is."""
    with artifact_service(Offer("large", b"x" * LARGE)) as service:
        experiment = service.experiment()
        _, may_go_on = slow_disk(*what)
        with pytest.raises(KeyboardInterrupt):
            experiment.download_artifacts(tmp_path / "out", progress=False)
        may_go_on.set()
        wait_until(lambda: not open_below(tmp_path), "the end of what was interrupted")
        experiment.download_artifacts(tmp_path / "out", progress=False)
    assert tree(tmp_path / "out" / EXP0) == {"large": b"x" * LARGE}


def test_place_of_another_process(tmp_path: Path) -> None:
    """A file that another process downloads is named in the end, and the others are fetched."""
    target = Target(tmp_path)
    part = PartFile(target, Place((EXP0,), "large"))
    try:
        with (
            artifact_service(Offer("large", b"x" * LARGE), GOOD) as service,
            pytest.raises(DownloadFailed, match="large is being downloaded by another process"),
        ):
            service.experiment().download_artifacts(tmp_path)
    finally:
        part.discard()
        target.close()
    assert set(tree(tmp_path / EXP0)) == {"good.txt"}
