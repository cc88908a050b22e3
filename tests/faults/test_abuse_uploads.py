"""Uploads by an intruder, to forged addresses, and of archives that are not source code."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import resource
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from grid.service.domain.errors import LinkLeadsOut, MemberRefused, NotAnArchive, SnapshotRefused
from grid.service.domain.unpacking import unpack
from tests.faults.archives import END, REFUSED, file, header, link
from tests.support.experiments import database_of
from tests.support.raw_http import Answer, call, key_of, says_nothing
from tests.support.services import ServiceProcess
from tests.support.uploads import path_for


def signed(service: ServiceProcess, digest: str, size: int, expires: int) -> str:
    """An address as the service would give it, for any time."""
    with database_of(service) as connection:
        ((secret,),) = connection.execute("SELECT value FROM secrets WHERE name = 'uploads'").fetchall()
    user = service.endpoint.user_id
    path, query = f"/snapshots/{digest}", {"user": user, "size": str(size), "expires": str(expires)}
    text = json.dumps(["PUT", path, sorted(query.items())])
    return f"{path}?" + urlencode({**query, "signature": hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()})


def kept(service: ServiceProcess) -> list[str]:
    """Everything that uploads have left, whole or half."""
    return sorted(str(path) for name in ("incoming", "snapshots") for path in (service.home / name).rglob("*"))


def with_query(path: str, **changes: Any) -> str:
    """An address with some of its parameters changed, or left out."""
    place, _, query = path.partition("?")
    parameters = {**dict(parse_qsl(query)), **changes}
    return place + "?" + urlencode({name: value for name, value in parameters.items() if value is not None})


def refused_upload(answer: Answer, service: ServiceProcess, status: int, code: str) -> None:
    """Require an answer that refuses, with one error of this code."""
    assert (answer.status, answer.codes) == (status, [code]), answer
    says_nothing(answer, service.home)


@pytest.mark.parametrize(
    "change",
    [
        {"signature": None}, {"signature": ""}, {"signature": "0" * 64}, {"signature": "\xe9"}, {"size": None},
        {"size": "9999"}, {"size": "-1"}, {"size": "1e9"}, {"size": "9" * 5_000}, {"size": "\u00b2"},
        {"expires": None}, {"expires": str(10**17)}, {"expires": "0"}, {"expires": "-1"}, {"expires": ""},
    ],
    ids=str,
)  # fmt: skip
def test_addresses_that_were_changed(service: ServiceProcess, change: dict[str, str | None]) -> None:
    """An address that differs in any way from the one issued accepts nothing, with the right key or without."""
    content, before = file("changed.py", str(change).encode()) + END, kept(service)
    path = with_query(path_for(service, content), **change)
    for headers in ([], [key_of(service)]):
        refused_upload(call(service, "PUT", path, headers, content), service, 403, "FORBIDDEN")
    assert kept(service) == before


def test_signed_twice(service: ServiceProcess) -> None:
    """A second parameter of one name does not stand in for the first."""
    content = file("twice.py", b"twice") + END
    path = path_for(service, content)
    for more in ("&size=1", "&expires=1", "&signature=0"):
        refused_upload(call(service, "PUT", path + more, body=content), service, 403, "FORBIDDEN")


def test_address_that_has_expired(service: ServiceProcess) -> None:
    """A valid address works no longer than it says, and the service never signs one for ever."""
    content, before, now = file("late.py", b"late") + END, kept(service), time.time_ns() // 1_000
    digest = hashlib.sha256(content).hexdigest()
    answer = call(service, "PUT", signed(service, digest, len(content), now - 1_000_000), body=content)
    refused_upload(answer, service, 403, "FORBIDDEN")
    assert "expired" in answer.json["errors"][0]["message"]
    assert kept(service) == before
    given = dict(parse_qsl(path_for(service, content).partition("?")[2]))
    assert now < int(given["expires"]) <= now + 3_600 * 1_000_000
    path = signed(service, digest, len(content), now + 60_000_000)
    assert call(service, "PUT", path, body=content).status == 204


def test_address_of_another_archive(service: ServiceProcess) -> None:
    """An address serves one content: another digest, another size, another content, another method are refused."""
    mine, other = (file(f"{name}.py", name.encode()) + END for name in ("mine", "other"))
    path, before = path_for(service, mine), kept(service)
    digest = hashlib.sha256(other).hexdigest()
    moved = f"/snapshots/{digest}?" + path.partition("?")[2]
    refused_upload(call(service, "PUT", moved, body=other), service, 403, "FORBIDDEN")
    for content in (other, mine[:-1], mine + b"\0", mine.replace(b"mine", b"MINE"), b""):
        refused_upload(call(service, "PUT", path, body=content), service, 400, "INVALID_SNAPSHOT")
    for method in ("GET", "POST", "DELETE", "PATCH", "COPY"):
        assert call(service, method, path, body=mine).status in (400, 405)
    assert kept(service) == before
    assert call(service, "PUT", path, body=mine).status == 204
    # Once used, it still accepts only that content.
    stored = kept(service)
    refused_upload(call(service, "PUT", path, body=other), service, 400, "INVALID_SNAPSHOT")
    assert call(service, "PUT", path, body=mine).status == 204
    assert kept(service) == stored


def test_what_is_uploaded_cannot_be_downloaded(service: ServiceProcess) -> None:
    """No address returns source code."""
    content = file("secret.py", b"secret") + END
    path = path_for(service, content)
    assert call(service, "PUT", path, body=content).status == 204
    for place in (path, path.partition("?")[0], path.partition("?")[0] + "/secret.py"):
        answer = call(service, "GET", place, [key_of(service)])
        assert answer.status in (404, 405)
        assert b"secret" not in answer.body


@pytest.mark.parametrize("kind", REFUSED)
def test_archives_that_are_not_unpacked(service: ServiceProcess, tmp_path: Path, kind: str) -> None:
    """What could write elsewhere, is not a file, or is larger than it looks is refused, and nothing of it is kept."""
    content, before, logged = REFUSED[kind], kept(service), service.log.stat().st_size
    if content:
        answer = call(service, "PUT", path_for(service, content), body=content)
        refused_upload(answer, service, 400, "INVALID_SNAPSHOT")
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(SnapshotRefused):
        unpack(tmp_path / "archive", tmp_path / "tree")
    assert kept(service) == before
    assert not list(service.home.rglob("escaped"))
    assert not Path("/tmp/escaped").exists()
    log = service.log.read_bytes()[logged:]
    assert b"Traceback" not in log
    assert b"internal error" not in log


def unpacked(folder: Path, content: bytes) -> Path:
    """Unpack an archive."""
    (folder / "archive").write_bytes(content)
    unpack(folder / "archive", folder / "tree")
    return folder / "tree"


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, links and folders are counted together, and so are folders that only a path names."""
    monkeypatch.setattr("grid.service.domain.unpacking.MAX_MEMBERS", 100)
    for number, content in enumerate(
        (
            b"".join(file(f"f{each}") for each in range(101)),
            b"".join(link(f"l{each}", "x") for each in range(101)),
            b"".join(header(f"d{each}", b"5") for each in range(101)),
            b"".join(file(f"{each}/" + "/".join("d" * 20)) for each in range(6)),
        )
    ):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(MemberRefused, match="more than 100 files and folders"):
            unpacked(tmp_path / str(number), content + END)
    (tmp_path / "within").mkdir()
    assert len(list(unpacked(tmp_path / "within", b"".join(file(f"f{n}") for n in range(100)) + END).iterdir())) == 100


def test_chains_of_links(tmp_path: Path) -> None:
    """Links that lead to links are followed as far as a system follows them, which overflows nothing."""
    chain = b"".join(link(f"l{number}", f"l{number + 1}") for number in range(1_500))
    tree = unpacked(tmp_path, chain + link("loop", "loop") + END)
    with pytest.raises(OSError, match="symbolic link"):
        os.stat(tree / "l0")
    short = b"".join(link(f"s{number}", f"s{number + 1}") for number in range(30)) + link("s30", "../out")
    (tmp_path / "short").mkdir()
    with pytest.raises(LinkLeadsOut, match="leads out of it"):
        unpacked(tmp_path / "short", short + END)


def test_memory_of_large_headers(tmp_path: Path) -> None:
    """A header that announces much is not read into memory."""
    size = 256 * 2**20
    with (tmp_path / "archive").open("wb") as archive:
        archive.write(header("x", b"x", size))
        archive.truncate(size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(NotAnArchive):
        unpack(tmp_path / "archive", tmp_path / "tree")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < size // 1024 // 2


def test_errors_of_the_disk_say_no_path(service: ServiceProcess) -> None:
    """If the service cannot store an upload, its client learns why, but not where."""
    content, incoming = file("disk.py", b"disk") + END, service.home / "incoming"
    path = path_for(service, content)
    incoming.rename(incoming.with_name("moved"))
    try:
        answer = call(service, "PUT", path, body=content)
    finally:
        incoming.with_name("moved").rename(incoming)
    assert answer.status in (503, 507)
    assert json.loads(answer.body)["errors"][0]["extensions"]["code"] == "UNAVAILABLE"
    says_nothing(answer, service.home)
