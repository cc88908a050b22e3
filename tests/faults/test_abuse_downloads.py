"""Downloads by an intruder: at forged, changed and expired addresses, of what is not theirs, with hostile requests."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

import pytest

from grid.experiment import Experiment
from grid.session import session as sessions
from tests.support.artifacts import bundle, bundle_path, download_path, members
from tests.support.experiments import database_of, only, starter
from tests.support.raw_http import JSON, Answer, Line, call, key_of, refused, says_nothing
from tests.support.services import ServiceProcess
from tests.support.waiting import wait_for_run

SECRET = b"the content of the file"


class Victim(NamedTuple):
    """An experiment with a file."""

    service: ServiceProcess
    experiment: Experiment
    download: str
    bundle: str


@pytest.fixture
def victim(service: ServiceProcess, tmp_path: Path) -> Victim:
    """An experiment with a file, and where its owner can get it."""
    sessions.use(service.session())
    run = starter(tmp_path)(f"open('secret.txt', 'wb').write({SECRET!r})")
    wait_for_run(run)
    experiment = only(run)
    return Victim(
        service,
        experiment,
        download_path(service.endpoint, experiment.id, "secret.txt"),
        bundle_path(service.endpoint, experiment.id),
    )


def signed(service: ServiceProcess, method: str, path: str, /, **query: str) -> str:
    """An address as the service would give it."""
    with database_of(service) as connection:
        ((secret,),) = connection.execute("SELECT value FROM secrets WHERE name = 'uploads'").fetchall()
    text = json.dumps([method, path, sorted(query.items())])
    return f"{path}?" + urlencode({**query, "signature": hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()})


def changed(path: str, /, **changes: Any) -> str:
    """An address with some of its parameters changed, or left out."""
    place, _, query = path.partition("?")
    parameters = {**dict(parse_qsl(query)), **changes}
    return place + "?" + urlencode({name: value for name, value in parameters.items() if value is not None})


def gets(victim: Victim, method: str, path: str) -> Answer:
    """What an address is answered with; the secret must not be in it."""
    answer = call(victim.service, method, path, [JSON], b'["secret.txt"]' if method == "POST" else b"")
    assert SECRET not in answer.body
    if answer.body:
        says_nothing(answer, victim.service.home)
    return answer


CHANGES: list[dict[str, str | None]] = [
    {"signature": None}, {"signature": ""}, {"signature": "0" * 64}, {"signature": "\xe9"}, {"user": None},
    {"user": "somebody"}, {"user": ""}, {"expires": None}, {"expires": str(10**17)}, {"expires": "0"},
    {"expires": "-1"}, {"expires": ""}, {"expires": "9" * 5_000}, {"expires": "\u00b2"}, {"more": "x"},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_addresses_that_were_changed(victim: Victim, method: str, change: dict[str, str | None]) -> None:
    """An address that differs in any way from the one given away sends nothing, with the right key or without."""
    path = changed(victim.download if method == "GET" else victim.bundle, **change)
    refused(gets(victim, method, path), 403, "FORBIDDEN", victim.service.home)
    keyed = call(victim.service, method, path, [key_of(victim.service)], b"[]" if method == "POST" else b"")
    assert keyed.status == 403


@pytest.mark.parametrize(
    "path", ["../../output", "/etc/passwd", "secret.txt/", "", "../secret.txt", "run.py", "\0", "secret.tx\u0442"]
)
def test_other_paths(victim: Victim, path: str) -> None:
    """An address for one file serves no other, however the path is written."""
    refused(gets(victim, "GET", changed(victim.download, path=path)), 403, "FORBIDDEN", victim.service.home)
    place, _, query = victim.download.partition("?")
    again = f"{place}?{query}&path={quote(path)}"
    refused(gets(victim, "GET", again), 403, "FORBIDDEN", victim.service.home)


def test_for_nothing_else(victim: Victim) -> None:
    """An address for a download is none for an archive, an upload or another attempt, nor the other way round."""
    place, _, query = victim.download.partition("?")
    bundled = victim.bundle.partition("?")[2]
    for method, path in (
        ("POST", f"{place.replace('artifacts', 'bundles')}?{query}"),
        ("GET", f"{place}?{bundled}&path=secret.txt"),
        ("GET", f"{place[:-1]}2?{query}"),
        ("GET", f"/artifacts/{'0' * 32}/1?{query}"),
        ("PUT", f"/snapshots/{'0' * 64}?{query}"),
        ("GET", f"{place}?"),
        ("GET", place),
    ):
        assert gets(victim, method, path).status == 403, path
    for method in ("POST", "PUT", "DELETE", "PATCH", "COPY"):
        assert gets(victim, method, victim.download).status == 405 or method == "POST"
    for method in ("GET", "HEAD", "PUT"):
        assert gets(victim, method, victim.bundle).status == 405
    for path in (
        "/artifacts/x",
        "/artifacts/x/y",
        "/artifacts//1",
        "/bundles/../x",
        "/artifacts/x/1/2",
        "/bundles/x/-1",
    ):
        assert gets(victim, "GET", f"{path}?{query}").status == 404


def test_expired(victim: Victim) -> None:
    """A valid address works no longer than it says, and none is given away for ever."""
    now = time.time_ns() // 1_000
    given = dict(parse_qsl(victim.download.partition("?")[2]))
    assert now < int(given["expires"]) <= now + 3_600 * 1_000_000
    place, user = victim.download.partition("?")[0], victim.service.endpoint.user_id
    query = {"path": "secret.txt", "user": user}
    answer = gets(victim, "GET", signed(victim.service, "GET", place, expires=str(now - 1), **query))
    refused(answer, 403, "FORBIDDEN", victim.service.home)
    assert "expired" in answer.json["errors"][0]["message"]
    later = signed(victim.service, "GET", place, expires=str(now + 60_000_000), **query)
    assert call(victim.service, "GET", later).body == SECRET
    for other in ({"user": "nobody"}, {"user": ""}):
        path = signed(victim.service, "GET", place, expires=str(now + 60_000_000), **{**query, **other})
        refused(gets(victim, "GET", path), 401, "UNAUTHENTICATED", victim.service.home)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"{", 400), (b"{}", 400), (b"null", 400), (b'"x"', 400), (b"[1]", 400), (b"[[]]", 400),
        (b"[" * 100_000, 400), (b'["\xff"]', 400), (b'["\\ud800"]', 400), (json.dumps(["x"] * 10_001).encode(), 413),
        (b" " * (16 * 1024**2 + 1), 413),
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_bodies(victim: Victim, body: bytes, status: int) -> None:
    """What is no list of paths, or a longer one than one request may have, is refused."""
    answer = call(victim.service, "POST", victim.bundle, [JSON], body)
    assert answer.status == status, answer
    assert answer.codes == ["LIMIT_EXCEEDED" if status == 413 else "BAD_REQUEST"]
    says_nothing(answer, victim.service.home)


def test_hostile_lists(victim: Victim) -> None:
    """Paths that lead elsewhere are as if they were not there; the rest comes, once."""
    paths = ["../../output", "/etc/passwd", "../../../../../etc/passwd", "", ".", "..", "a" * 100_000, "\0", "run.py/x"]
    found = members(bundle(victim.service, victim.bundle, [*paths, "secret.txt", "secret.txt"]))
    assert [(name, content) for name, (_, content) in found.items()] == [("secret.txt", SECRET)]
    assert members(bundle(victim.service, victim.bundle, [])) == {}


@pytest.mark.parametrize(
    "headers",
    [
        [("Host", "evil.example")],
        [("Origin", "https://evil.example")],
        [("Sec-Fetch-Site", "cross-site")],
    ],
    ids=str,
)
def test_pages_of_other_sites(victim: Victim, headers: list[tuple[str, str]]) -> None:
    """A web page of another site gets nothing, even with an address."""
    for method, path in ("GET", victim.download), ("POST", victim.bundle):
        answer = call(victim.service, method, path, headers, b'["secret.txt"]' if method == "POST" else b"")
        assert answer.status in (403, 421)
        assert SECRET not in answer.body


def test_hostile_headers(victim: Victim) -> None:
    """Whatever stands in conditions and ranges, the answer is the file, a part of it, or a refusal."""
    with Line(victim.service) as line:
        for name in ("Range", "If-Range", "If-Match", "If-None-Match"):
            for value in (
                '"',
                "bytes=" + "0-0," * 5_000,
                "bytes=" + "9" * 30_000 + "-",
                '"' * 9_999,
                "\xff\xfe",
                "*,*",
                ", ,",
            ):
                answer = line.call("GET", victim.download, [(name, value)])
                assert answer.status in (200, 206, 304, 412, 416), (name, value[:20], answer)


def test_no_address_in_the_log(victim: Victim) -> None:
    """Nothing of an address is logged, whether it works or not."""
    gone = changed(victim.download, signature="f" * 64)
    for path in (victim.download, gone):
        call(victim.service, "GET", path)
    log = victim.service.log.read_text()
    assert "signature" not in log
    assert dict(parse_qsl(victim.download.partition("?")[2]))["signature"] not in log
