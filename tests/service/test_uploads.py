"""Tests of uploads: which are accepted, which are refused with nothing kept, and that the same content is kept once."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import io
import os
import random
import shutil
import sqlite3
import tarfile
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from grid import Run
from grid.chain.endpoint import Endpoint
from grid.errors import SourceError
from grid.service.http.app import Application, opened
from grid.service.store import snapshot_rows
from grid.service.store.tables import snapshots as rows
from grid.service.system.addresses import Address, AddressExpired
from grid.service.system.settings import Options
from grid.service.system.world import World
from grid.shared.wire import MAX_SNAPSHOT_BYTES
from tests.support.disks import small_disk
from tests.support.experiments import database_of
from tests.support.people import add_user, operated
from tests.support.requests import ask, code_of, requests
from tests.support.services import ServiceProcess, service_process
from tests.support.waiting import wait_for_run, wait_until

Start = Callable[..., Run]

ANNOUNCE = """
mutation($digest: String!, $size: Float!) {
  createSnapshot(input: {digest: $digest, sizeBytes: $size}) { digest stored uploadPath expiresAt }
}
"""
START = """
mutation($key: String!, $digest: String!, $script: String!) {
  startRun(input: {key: $key, settings: {entrypoint: "run.py", cpus: 1}, snapshot: $digest, script: $script}) {
    run { name }
  }
}
"""


def archive(text: str, name: str = "run.py") -> bytes:
    """Return an archive of one file."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as members:
        info = tarfile.TarInfo(name)
        info.size = len(text)
        members.addfile(info, io.BytesIO(text.encode()))
    return written.getvalue()


def digest_of(content: bytes) -> str:
    """Return the digest of an archive."""
    return hashlib.sha256(content).hexdigest()


def announce(service: ServiceProcess, digest: str, size: float) -> dict[str, Any]:
    """Ask where to upload an archive."""
    return ask(service.endpoint, ANNOUNCE, digest=digest, size=size)


def upload_path(service: ServiceProcess, content: bytes) -> str:
    """Return the upload address of an archive that is not stored yet."""
    answer = announce(service, digest_of(content), len(content))["data"]["createSnapshot"]
    assert answer["stored"] is False
    return answer["uploadPath"]


def put(service: ServiceProcess, path: str, content: bytes, method: str = "PUT") -> int:
    """Upload, without any key; return the status of the answer."""
    return put_and_read(service, path, content, method)[0]


def put_and_read(service: ServiceProcess, path: str, content: bytes, method: str = "PUT") -> tuple[int, str]:
    """Upload, without any key; return the status of the answer, and the answer."""
    parts = urlsplit(service.endpoint.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        connection.request(method, path, content)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def kept(service: ServiceProcess, digest: str) -> bool:
    """Whether anything of an upload is kept, in whatever state."""
    with database_of(service) as connection:
        rows = connection.execute("SELECT * FROM snapshots WHERE digest = ?", [digest]).fetchall()
    incoming = list((service.home / "incoming").iterdir())
    return bool(rows or incoming or (service.home / "snapshots" / digest).exists())


def test_upload(service: ServiceProcess, session: object) -> None:
    """What was announced and uploaded is stored as a tree, and is not requested again."""
    content = archive("print(1)")
    assert put(service, upload_path(service, content), content) == 204
    tree = service.home / "snapshots" / digest_of(content)
    assert (tree / "run.py").read_text() == "print(1)"
    assert announce(service, digest_of(content), len(content))["data"]["createSnapshot"] == {
        "digest": digest_of(content),
        "stored": True,
        "uploadPath": None,
        "expiresAt": None,
    }


def start_with(endpoint: Endpoint, digest: str) -> dict[str, Any]:
    """Start a run of source code that is named by nothing but its digest."""
    return ask(endpoint, START, key=uuid.uuid4().hex, digest=digest, script="run.py")


def test_source_code_of_somebody_else(service: ServiceProcess) -> None:
    """Who knows a digest cannot run the source code, nor learn that it is here; who has it sends it, and can."""
    content = archive("print('whose is it')")
    digest, unknown = digest_of(content), digest_of(b"unknown")
    assert put(service, upload_path(service, content), content) == 204
    stranger = add_user(service, "stranger")
    refused, nothing = (start_with(stranger, each) for each in (digest, unknown))
    assert code_of(refused) == "INVALID_SNAPSHOT"
    assert refused["errors"][0]["message"].replace(digest, unknown) == nothing["errors"][0]["message"]
    answer = ask(stranger, ANNOUNCE, digest=digest, size=len(content))["data"]["createSnapshot"]
    assert answer["stored"] is False
    path = answer["uploadPath"]
    # To name another user in the address makes it another address.
    user = parse_qs(urlsplit(path).query)["user"][0]
    assert put(service, path.replace(user, service.endpoint.user_id), content) == 403
    assert put(service, path, content[:-1] + b"x") == 400
    assert code_of(start_with(stranger, digest)) == "INVALID_SNAPSHOT"
    assert put(service, path, content) == 204
    assert ask(stranger, ANNOUNCE, digest=digest, size=len(content))["data"]["createSnapshot"]["stored"] is True
    for endpoint in (stranger, service.endpoint):
        assert start_with(endpoint, digest)["data"]


def test_source_code_of_a_teammate(service: ServiceProcess, session: object) -> None:
    """Who may read a run may start one of its source code, without sending it, for as long as they may read it."""
    content = archive("print('ours')")
    digest = digest_of(content)
    operated(service.home, "teams", "add", "readers")
    owner, teammate = (add_user(service, name, "readers") for name in ("writes", "reads"))
    path = ask(owner, ANNOUNCE, digest=digest, size=len(content))["data"]["createSnapshot"]["uploadPath"]
    assert put(service, path, content) == 204
    # What was uploaded and not run yet is nobody else's.
    assert code_of(start_with(teammate, digest)) == "INVALID_SNAPSHOT"
    run = start_with(owner, digest)["data"]["startRun"]["run"]["name"]
    assert ask(teammate, ANNOUNCE, digest=digest, size=len(content))["data"]["createSnapshot"]["stored"] is True
    operated(service.home, "teams", "leave", "readers", "reads")
    assert code_of(start_with(teammate, digest)) == "INVALID_SNAPSHOT"
    operated(service.home, "teams", "join", "readers", "reads")
    own = start_with(teammate, digest)["data"]["startRun"]["run"]["name"]
    operated(service.home, "teams", "leave", "readers", "reads")
    assert start_with(teammate, digest)["data"]
    for endpoint, name in ((owner, run), (teammate, own)):
        wait_until(lambda endpoint=endpoint, name=name: is_ended(endpoint, name), "the end of the run")


def is_ended(endpoint: Endpoint, name: str) -> bool:
    """Whether a run of one experiment has ended."""
    answer = ask(endpoint, "query($name: String!) { run(name: $name) { status { groups { status } } } }", name=name)
    return answer["data"]["run"]["status"]["groups"] == [{"status": "SUCCEEDED"}]


def test_uploading_again(service: ServiceProcess) -> None:
    """An upload that is repeated, perhaps after a lost answer, is accepted again and changes nothing."""
    content = archive("print('again')")
    path = upload_path(service, content)
    assert [put(service, path, content) for _ in range(2)] == [204, 204]
    assert list((service.home / "incoming").iterdir()) == []


def test_the_same_code_is_stored_once(service: ServiceProcess, session: Any, start: Start) -> None:
    """A second run of the same code uploads nothing and stores nothing new."""
    text = "print('the same code')"
    first = start(text, "--n 1")
    stored = sorted((service.home / "snapshots").iterdir())
    with requests(session) as sent:
        second = start(text, "--n 2")
    assert sent == [3]  # estimate, createSnapshot, startRun
    assert sorted((service.home / "snapshots").iterdir()) == stored
    assert list(wait_for_run(first)) == list(wait_for_run(second)) == ["SUCCEEDED"]


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(lambda path: path.replace("signature=", "signature=0"), id="longer"),
        pytest.param(lambda path: path[:-1] + ("0" if path[-1] != "0" else "1"), id="other signature"),
        pytest.param(lambda path: path.rpartition("&")[0], id="no signature"),
        pytest.param(lambda path: path.partition("?")[0], id="nothing signed"),
        pytest.param(lambda path: path.replace("size=", "size=9"), id="other size"),
        pytest.param(lambda path: path.replace("expires=", "expires=9"), id="later"),
        pytest.param(lambda path: path.replace("expires=", "expires=-"), id="negative"),
        pytest.param(lambda path: path.replace("size=", "size=%C2%B2"), id="a digit that is no number"),
        pytest.param(lambda path: path.replace("size=", "size=" + "9" * 5_000), id="huge"),
        pytest.param(lambda path: path.replace("signature=", "signature=%C3%A9"), id="not ASCII"),
        pytest.param(lambda path: path.replace("/snapshots/", "/snapshots/0")[:-1], id="other digest"),
        pytest.param(lambda path: path.replace("/snapshots/", "/snapshots/..%2F"), id="other folder"),
    ],
)
def test_forged_address(service: ServiceProcess, forge: Callable[[str], str]) -> None:
    """An address that differs in any way from the one issued accepts nothing."""
    content = archive("print('forged')")
    assert put(service, forge(upload_path(service, content)), content) in (403, 404)
    assert not kept(service, digest_of(content))


def test_address_of_another_archive(service: ServiceProcess) -> None:
    """The signature for one archive is not valid for another."""
    mine, other = archive("print('mine')"), archive("print('other')")
    query = upload_path(service, mine).partition("?")[2]
    assert put(service, f"/snapshots/{digest_of(other)}?{query}", other) == 403
    assert not kept(service, digest_of(other))


@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(lambda content: content[:-1], id="too short"),
        pytest.param(lambda content: content + b"x", id="too long"),
        pytest.param(lambda content: content * 200, id="much too long"),
        pytest.param(lambda content: content.replace(b"altered", b"ALTERED"), id="other content"),
        pytest.param(lambda content: b"", id="nothing"),
    ],
)
def test_another_archive_than_announced(service: ServiceProcess, alter: Callable[[bytes], bytes]) -> None:
    """An upload of another size or another hash is refused, and nothing of it is kept."""
    content = archive("print('altered')")
    assert put(service, upload_path(service, content), alter(content)) == 400
    assert not kept(service, digest_of(content))


@pytest.mark.parametrize("content", [archive("x", "../../escaped"), b"no archive at all"])
def test_what_cannot_be_unpacked(service: ServiceProcess, content: bytes) -> None:
    """What is announced truthfully but must not be unpacked is refused, and nothing of it is kept."""
    assert put(service, upload_path(service, content), content) == 400
    assert not kept(service, digest_of(content))
    assert not (service.home / "escaped").exists()


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_only_put(service: ServiceProcess, method: str) -> None:
    """The address serves uploads and nothing else."""
    content = archive("print('method')")
    assert put(service, upload_path(service, content), content, method) == 405
    assert not kept(service, digest_of(content))


@pytest.mark.parametrize(
    ("digest", "size", "code"),
    [
        ("0" * 63, 10, "INVALID_ARGUMENT"),
        ("A" * 64, 10, "INVALID_ARGUMENT"),
        ("../" + "0" * 61, 10, "INVALID_ARGUMENT"),
        ("0" * 64 + "\n", 10, "INVALID_ARGUMENT"),
        ("0" * 64, 0, "INVALID_ARGUMENT"),
        ("0" * 64, -1, "INVALID_ARGUMENT"),
        ("0" * 64, 1.5, "INVALID_ARGUMENT"),
        ("0" * 64, MAX_SNAPSHOT_BYTES + 1, "LIMIT_EXCEEDED"),
        ("0" * 64, 1e300, "LIMIT_EXCEEDED"),
    ],
)
def test_what_cannot_be_announced(service: ServiceProcess, digest: str, size: float, code: str) -> None:
    """What is not a digest, not a size or too large a size is refused before anything is sent."""
    assert code_of(announce(service, digest, size)) == code


@pytest.mark.parametrize("script", ["other.py", "run.py/x.py", "n" * 300 + ".py"])
def test_run_of_a_script_that_is_not_in_the_snapshot(service: ServiceProcess, script: str) -> None:
    """A run whose script is not a file of its snapshot is refused."""
    content = archive("print('script')")
    put(
        service,
        announce(service, digest_of(content), len(content))["data"]["createSnapshot"]["uploadPath"] or "",
        content,
    )
    answer = ask(service.endpoint, START, key="k" * 16, digest=digest_of(content), script=script)
    assert code_of(answer) == "INVALID_ARGUMENT"


def test_run_of_a_snapshot_that_is_not_stored(service: ServiceProcess) -> None:
    """A run whose snapshot was not uploaded is refused."""
    answer = ask(service.endpoint, START, key="k" * 16, digest="0" * 64, script="run.py")
    assert code_of(answer) == "INVALID_SNAPSHOT"


def test_client_says_what_is_wrong_with_an_upload(service: ServiceProcess, session: Any, tmp_path: Path) -> None:
    """A client whose upload is refused raises the error of the service's code."""
    content = archive("print('client')")
    (tmp_path / "other").write_bytes(content[:-1] + b"x")
    path = upload_path(service, content)
    with pytest.raises(SourceError, match="not the archive that was announced"):
        session.upload(path, tmp_path / "other", len(content))


class Clock(World):
    """A world whose time is set by the test."""

    at = 1_000_000_000_000_000

    def now(self) -> int:
        """Return the time."""
        return self.at


def test_expired_address(tmp_path: Path) -> None:
    """An address works until it expires, and not afterwards."""
    content, clock = archive("print('late')"), Clock()
    digest = digest_of(content)

    async def body() -> AsyncIterator[bytes]:
        yield content

    async def play() -> None:
        async with opened(Options(home=tmp_path / "home", cpus=1), clock) as application:
            snapshots = application.service.snapshots
            user = await application.add_user("somebody", "key")
            given = await snapshots.announce(user.id, digest, len(content))
            assert given is not None
            query = parse_qsl(urlsplit(given.path).query)
            clock.at = given.expires_at + 1
            with pytest.raises(AddressExpired, match="has expired"):
                await snapshots.receive(digest, query, body())
            assert not await snapshots.is_stored(digest)
            clock.at = given.expires_at
            await snapshots.receive(digest, query, body())
            assert await snapshots.is_stored(digest)

    asyncio.run(play())


def test_what_a_killed_service_had_of_an_upload_is_removed(tmp_path: Path) -> None:
    """Uploads that were cut off by the end of a service do not stay for ever."""
    incoming = tmp_path / "home" / "incoming"
    (incoming / "half").mkdir(parents=True)
    (incoming / "half.tar").write_bytes(b"half")

    async def play() -> None:
        async with opened(Options(home=tmp_path / "home", cpus=1)):
            assert list(incoming.iterdir()) == []

    asyncio.run(play())


def test_snapshot_whose_folder_has_vanished(service: ServiceProcess) -> None:
    """A snapshot that was removed past the service is no longer stored: it is requested, and accepted, again."""
    content = archive("print('vanished')")
    put(service, upload_path(service, content), content)
    shutil.rmtree(service.home / "snapshots" / digest_of(content))
    answer = ask(service.endpoint, START, key="v" * 16, digest=digest_of(content), script="run.py")
    assert code_of(answer) == "INVALID_SNAPSHOT"
    assert put(service, upload_path(service, content), content) == 204
    assert (service.home / "snapshots" / digest_of(content) / "run.py").read_text() == "print('vanished')"
    assert "errors" not in ask(service.endpoint, START, key="v" * 16, digest=digest_of(content), script="run.py")


def test_folder_that_is_not_recorded(service: ServiceProcess) -> None:
    """What a service that was killed has left in a snapshot's place is replaced as a whole."""
    content = archive("print('orphan')")
    place = service.home / "snapshots" / digest_of(content)
    (place / "folder").mkdir(parents=True)
    (place / "run.py").write_text("half")
    assert put(service, upload_path(service, content), content) == 204
    assert [path.name for path in place.iterdir()] == ["run.py"]
    assert (place / "run.py").read_text() == "print('orphan')"
    assert list((service.home / "incoming").iterdir()) == []


class Place:
    """The snapshots of an application that is open, past HTTP."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.home = application.options.home
        self.snapshots = application.service.snapshots
        self.database = application.database

    async def announce(self, content: bytes) -> Address | None:
        """Announce an archive, as a user of the application."""
        user = await self.application.add_user("somebody", "key")
        return await self.snapshots.announce(user.id, digest_of(content), len(content))

    async def upload(self, content: bytes) -> None:
        """Announce an archive and upload it."""
        given = await self.announce(content)
        assert given is not None
        await self.send(given.path, content)

    async def send(self, path: str, content: bytes) -> None:
        """Send an archive to the address that was given for it."""

        async def body() -> AsyncIterator[bytes]:
            yield content

        query = parse_qsl(urlsplit(path).query)
        await self.snapshots.receive(digest_of(content), query, body())

    async def forget(self, digest: str) -> None:
        """Delete the record of a snapshot."""
        await self.database.write(lambda connection: snapshot_rows.delete_unused(connection, digest))

    def tree(self, digest: str) -> Path:
        """The folder of a snapshot's tree."""
        return self.home / "snapshots" / digest

    def left_over(self) -> list[Path]:
        """What is being received or removed."""
        return [path for folder in ("incoming", "trash") for path in (self.home / folder).glob("*")]


def in_a_place(tmp_path: Path, play: Callable[[Place], Coroutine[Any, Any, None]]) -> None:
    """Play something with the snapshots of a new home."""

    async def main() -> None:
        async with opened(Options(home=tmp_path / "home", cpus=1)) as application:
            await play(Place(application))

    asyncio.run(main())


def test_removing(tmp_path: Path) -> None:
    """A snapshot is removed once it is no longer recorded; removing it twice is not an error, and it can come back."""
    content = archive("print('removed')")
    digest = digest_of(content)

    async def play(place: Place) -> None:
        await place.upload(content)
        await place.snapshots.remove(digest)
        assert place.tree(digest).is_dir()
        await place.forget(digest)
        for _ in range(2):
            await place.snapshots.remove(digest)
            assert not place.tree(digest).exists()
        await place.upload(content)
        assert await place.snapshots.is_stored(digest)
        assert place.left_over() == []

    in_a_place(tmp_path, play)


def test_removing_what_was_cut_short(tmp_path: Path) -> None:
    """What an earlier service has begun to remove is removed by the next call, even if the same came back meanwhile."""
    content = archive("print('removed')")
    digest = digest_of(content)

    async def play(place: Place) -> None:
        (place.home / "trash" / digest / "half").mkdir(parents=True)
        await place.upload(content)
        await place.forget(digest)
        await place.snapshots.remove(digest)
        assert not place.tree(digest).exists()
        assert place.left_over() == []

    in_a_place(tmp_path, play)


def test_removing_while_the_same_is_uploaded(tmp_path: Path) -> None:
    """Whichever comes first, in the end the tree is there if and only if it is recorded."""
    content = archive("print('both')")
    digest, chance = digest_of(content), random.Random(20261122)

    async def play(place: Place) -> None:
        given = await place.announce(content)
        assert given is not None
        for _ in range(30):
            work = [place.send(given.path, content), place.send(given.path, content), place.snapshots.remove(digest)]
            work += [place.forget(digest), place.snapshots.remove(digest)]
            chance.shuffle(work)
            await asyncio.gather(*work)
            recorded = await place.database.read(lambda connection: connection.execute(rows.select()).all())
            assert bool(recorded) == await place.snapshots.is_stored(digest)
            if recorded:
                assert (place.tree(digest) / "run.py").read_text() == "print('both')"
            await place.snapshots.remove(digest)
            assert bool(recorded) == place.tree(digest).exists()
        assert place.left_over() == []

    in_a_place(tmp_path, play)


def test_on_the_disk_before_it_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole tree, and its name, reach the disk before the answer says that it is stored."""
    synced: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        with closing(sqlite3.connect(tmp_path / "home" / "grid.sqlite3")) as connection:
            assert connection.execute("SELECT * FROM snapshots").fetchall() == []
        real(descriptor)
        synced.append(os.fstat(descriptor).st_ino)

    content = archive("print('durable')", "folder/deep/run.py")

    async def play(place: Place) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        await place.upload(content)
        monkeypatch.undo()
        tree = place.tree(digest_of(content))
        assert {path.stat().st_ino for path in (tree, *tree.rglob("*"))} < set(synced)
        assert tree.parent.stat().st_ino == synced[-1]

    in_a_place(tmp_path, play)


def test_upload_to_a_disk_that_is_full(tmp_path: Path) -> None:
    """An upload that finds no space is refused without naming a path, and leaves nothing; with space it works."""
    rest = bytes(500_000)
    content = archive("print('large')" + "#" * 700_000)
    with small_disk(tmp_path / ".grid", 4) as home, service_process(tmp_path, "--cpus", "1") as service:
        path = upload_path(service, content)
        ballast = home / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while shutil.disk_usage(home).free > 600_000:
                file.write(rest[:100_000])
        answer = put_and_read(service, path, content)
        assert answer[0] == 507
        assert "No space left on device" in answer[1]
        assert str(home) not in answer[1]
        assert not kept(service, digest_of(content))
        ballast.unlink()
        assert put(service, path, content) == 204
        assert (home / "snapshots" / digest_of(content) / "run.py").stat().st_size == len("print('large')") + 700_000
