"""Tests of artifacts as the API shows them: pages, attempts, digests, and what a transfer meets while things change."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from grid import Run, pause_cluster, resume_cluster
from grid.experiment import Experiment
from grid.session import session as sessions
from tests.support.artifacts import (
    BUNDLE,
    PAGE,
    bundle,
    bundle_path,
    download_path,
    members,
    one_of,
    page_of,
    paths_of,
)
from tests.support.experiments import only, restart, starter, work_of
from tests.support.people import add_user, operated
from tests.support.raw_http import address_of, call, refused
from tests.support.requests import ask, code_of
from tests.support.services import ServiceProcess, service_process
from tests.support.waiting import wait_for_run, wait_until

Start = Callable[..., Run]

# Makes files, says that it is ready, and waits for a file that lets it end.
HOLD = """
import os, sys, time
open('first.txt', 'w').write('first')
print('ready', flush=True)
while not os.path.exists(sys.argv[1]): time.sleep(0.01)
open('last.txt', 'w').write('last')
"""
# Fails the first time.
TWICE = """
import os, sys
attempt = os.getcwd().split(os.sep)[-3]
open(attempt, 'w').write(attempt)
sys.exit(attempt == 'attempt-1')
"""
DIGESTS = "query($id: ID!) { experiment(id: $id) { status artifacts { nodes { path sha256(waitSeconds: 20) } } } }"


def results_of(service: ServiceProcess, experiment: Experiment) -> list[Path]:
    """What the service has made of an experiment's attempts."""
    return sorted((service.home / "results").glob(f"{experiment.id}-*"))


def test_while_it_runs_and_after(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """Files are listed and sent while the script runs; there is no digest before they are what they will be."""
    experiment = only(start(HOLD, str(tmp_path / "go")))
    wait_until(lambda: "first.txt" in paths_of(service.endpoint, experiment.id), "the first file")
    wait_until(lambda: one_of(service.endpoint, experiment.id, "first.txt")["size"] == 5, "its content")
    running = ask(service.endpoint, DIGESTS, id=experiment.id)["data"]["experiment"]
    assert running["artifacts"]["nodes"] == [{"path": "first.txt", "sha256": None}]
    path = download_path(service.endpoint, experiment.id, "first.txt")
    assert call(service, "GET", path).body == b"first"
    where = bundle_path(service.endpoint, experiment.id)
    assert [content for _, content in members(bundle(service, where, ["first.txt", "last.txt"])).values()] == [b"first"]
    assert not [file for folder in results_of(service, experiment) for file in folder.glob("sha256")]
    (tmp_path / "go").touch()
    wait_for_run(Run(experiment.name.rpartition("-exp")[0]))
    ended = ask(service.endpoint, DIGESTS, id=experiment.id)["data"]["experiment"]
    assert ended["artifacts"]["nodes"] == [
        {"path": f"{name}.txt", "sha256": hashlib.sha256(name.encode()).hexdigest()} for name in ("first", "last")
    ]


def test_attempts(service: ServiceProcess, start: Start) -> None:
    """The files of an earlier attempt are there by its number; one that does not exist is a clear error."""
    run = start(TWICE)
    wait_for_run(run)
    experiment = only(run)
    assert paths_of(service.endpoint, experiment.id) == ["attempt-1"]
    pause_cluster("local")
    try:
        run.retry()
        # The second attempt waits, and has nothing.
        assert page_of(service.endpoint, experiment.id) == {
            "attempt": 2,
            "nodes": [],
            "pageInfo": {"hasNextPage": False, "endCursor": None},
        }
        earlier = download_path(service.endpoint, experiment.id, "attempt-1", attempt=1)
        assert call(service, "GET", earlier).body == b"attempt-1"
    finally:
        resume_cluster("local")
    wait_for_run(run)
    assert paths_of(service.endpoint, experiment.id) == ["attempt-2"]
    assert paths_of(service.endpoint, experiment.id, attempt=1) == ["attempt-1"]
    where = bundle_path(service.endpoint, experiment.id, attempt=1)
    assert list(members(bundle(service, where, ["attempt-1", "attempt-2"]))) == ["attempt-1"]
    for query in (PAGE, BUNDLE):
        for number in (0, 3, -1):
            answer = ask(service.endpoint, query, id=experiment.id, attempt=number)
            assert code_of(answer) == "INVALID_ARGUMENT"
            assert f"attempt={number}" in answer["errors"][0]["message"]
            assert "1 to 2" in answer["errors"][0]["message"]


def test_pages(service: ServiceProcess, start: Start) -> None:
    """A page ends where it was asked to, and the next one goes on behind it, whatever has come or gone meanwhile."""
    run = start("for number in range(25): open(f'{number:02}.txt', 'w').write('x')")
    wait_for_run(run)
    experiment = only(run)
    first = page_of(service.endpoint, experiment.id, first=10)
    assert [node["path"] for node in first["nodes"]] == [f"{number:02}.txt" for number in range(10)]
    assert first["pageInfo"]["hasNextPage"]
    work = work_of(service, experiment)
    (work / "09.txt").unlink()
    (work / "10.txt").unlink()
    (work / "00a.txt").touch()
    (work / "11a.txt").touch()
    second = page_of(service.endpoint, experiment.id, first=1000, after=first["pageInfo"]["endCursor"])
    assert [node["path"] for node in second["nodes"]][:3] == ["11.txt", "11a.txt", "12.txt"]
    assert not second["pageInfo"]["hasNextPage"]
    for cursor in ("x", "\u00e4", "//8="):
        answer = ask(service.endpoint, PAGE, id=experiment.id, after=cursor)
        assert code_of(answer) == "INVALID_ARGUMENT"
        assert "endCursor" in answer["errors"][0]["message"]
    assert code_of(ask(service.endpoint, PAGE, id=experiment.id, first=1001)) == "LIMIT_EXCEEDED"


def test_page_of_nothing(service: ServiceProcess, start: Start) -> None:
    """A page ends after many folders without a file, and the next one goes on there; clients see all that is there."""
    run = start("""
import os
for number in range(20_500): os.mkdir(f'{number}')
open('z', 'w').write('x')
""")
    wait_for_run(run)
    experiment = only(run)
    first = page_of(service.endpoint, experiment.id)
    assert (first["nodes"], first["pageInfo"]["hasNextPage"]) == ([], True)
    assert paths_of(service.endpoint, experiment.id, after=first["pageInfo"]["endCursor"]) == ["z"]
    assert list(experiment.artifacts) == ["z"]


def test_folder_that_was_removed(service: ServiceProcess, start: Start) -> None:
    """An attempt whose folder somebody has removed has no files, and that is no fault."""
    run = start("import os, shutil; open('x', 'w').close(); shutil.rmtree(os.path.abspath('../../..'))")
    wait_for_run(run)
    assert paths_of(service.endpoint, only(run).id) == []
    assert one_of(service.endpoint, only(run).id, "x") is None


@pytest.fixture
def own_service(tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service that a test may start again."""
    with service_process(tmp_path) as own:
        sessions.use(own.session())
        yield own


def test_digests_are_kept(own_service: ServiceProcess, tmp_path: Path) -> None:
    """A digest is computed once, asked for or sent, found again by its file, and gone with the experiment."""
    service = own_service
    run = starter(tmp_path)("for name in 'abc': open(name, 'w').write(name * 1000)")
    wait_for_run(run)
    experiment = only(run)

    def known() -> list[str]:
        return [node["path"] for node in page_of(service.endpoint, experiment.id)["nodes"] if node["sha256"]]

    assert known() == []
    assert one_of(service.endpoint, experiment.id, "a", wait=0)["sha256"] is None
    assert one_of(service.endpoint, experiment.id, "a")["sha256"] == hashlib.sha256(b"a" * 1000).hexdigest()
    assert known() == ["a"]
    path = download_path(service.endpoint, experiment.id, "b", wait=0)
    assert call(service, "GET", path, [("Range", "bytes=1-")]).status == 206
    assert known() == ["a"]
    assert call(service, "GET", path).status == 200
    wait_until(lambda: known() == ["a", "b"], "the digest of what was sent")
    bundle(service, bundle_path(service.endpoint, experiment.id), ["a", "c"])
    wait_until(lambda: known() == ["a", "b", "c"], "the digest of what was sent in an archive")
    (folder,) = results_of(service, experiment)
    lines = (folder / "sha256").read_bytes().splitlines()
    assert len(lines) == 3
    for _ in range(2):
        assert call(service, "GET", path).status == 200
    assert (folder / "sha256").read_bytes().splitlines() == lines
    # Torn, or of another file: as if it were not there.
    (folder / "sha256").write_bytes(b"\n".join([b"x" * 40, *lines[1:], lines[0][:50]]))
    (work_of(service, experiment) / "b").write_text("B" * 1000)
    service.stop()
    experiment = only(restart(service, run))
    assert known() == ["c"]
    assert one_of(service.endpoint, experiment.id, "b")["sha256"] == hashlib.sha256(b"B" * 1000).hexdigest()
    experiment.delete()
    assert results_of(service, experiment) == []


@pytest.mark.parametrize("seconds", [-1, 20.5, 1e300])
def test_waits_are_bounded(service: ServiceProcess, start: Start, seconds: float) -> None:
    """Nobody waits for a digest for longer than a request may take."""
    run = start("open('a', 'w').close()")
    wait_for_run(run)
    query = "query($id: ID!, $s: Float!) { experiment(id: $id) { artifacts { nodes { sha256(waitSeconds: $s) } } } }"
    answer = ask(service.endpoint, query, id=only(run).id, s=seconds)
    assert code_of(answer) == "INVALID_ARGUMENT"
    assert "0 to 20" in answer["errors"][0]["message"]


def test_growing_file(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """A file that grows is sent up to the size that it had when it was asked for."""
    run = start("open('log', 'wb').write(b'x' * 30_000_000)")
    wait_for_run(run)
    experiment = only(run)
    path = download_path(service.endpoint, experiment.id, "log", wait=0)
    line = http.client.HTTPConnection(*address_of(service), timeout=60)
    line.request("GET", path)
    answer = line.getresponse()
    with (work_of(service, experiment) / "log").open("ab") as file:
        file.write(b"y" * 1000)
    assert answer.read() == b"x" * 30_000_000
    line.request("GET", path)
    assert line.getresponse().read()[-1000:] == b"y" * 1000
    line.close()


def test_shrinking_file(service: ServiceProcess, start: Start) -> None:
    """A file that becomes shorter while it is sent breaks the connection: what was announced does not come."""
    run = start("open('log', 'wb').write(b'x' * 50_000_000)")
    wait_for_run(run)
    experiment = only(run)
    path = download_path(service.endpoint, experiment.id, "log", wait=0)
    where = bundle_path(service.endpoint, experiment.id)
    for method, target, body in ("GET", path, None), ("POST", where, b'["log"]'):
        line = http.client.HTTPConnection(*address_of(service), timeout=60)
        line.request(method, target, body)
        answer = line.getresponse()
        assert answer.status == 200
        assert answer.read(1)  # it is open: an archive is answered before its first file is looked at
        os.truncate(work_of(service, experiment) / "log", 10)
        with pytest.raises(http.client.IncompleteRead):
            answer.read()
        line.close()
        os.truncate(work_of(service, experiment) / "log", 50_000_000)
    assert call(service, "GET", "/health").status == 200


def test_overwritten_file(service: ServiceProcess, start: Start) -> None:
    """A file that is overwritten in place while it is sent breaks the connection; one that grows comes as it was."""
    run = start("open('data', 'wb').write(b'x' * 50_000_000)")
    wait_for_run(run)
    experiment = only(run)
    file = work_of(service, experiment) / "data"
    path = download_path(service.endpoint, experiment.id, "data", wait=0)
    where = bundle_path(service.endpoint, experiment.id)
    for method, target, body, headers in (
        ("GET", path, None, {}),
        ("GET", path, None, {"Range": "bytes=5-"}),
        ("POST", where, b'["data"]', {}),
    ):
        for change in "r+b", "ab":
            line = http.client.HTTPConnection(*address_of(service), timeout=60)
            line.request(method, target, body, headers)
            answer = line.getresponse()
            assert answer.read(1)
            with file.open(change) as writing:
                writing.write(b"yyyy")
            if change == "ab":
                assert len(answer.read()) >= 49_999_990
            else:
                with pytest.raises(http.client.IncompleteRead):
                    answer.read()
            line.close()
            os.truncate(file, 50_000_000)
            os.utime(file)


@pytest.mark.parametrize("what", ["experiment", "run"])
def test_deleted_while_it_is_sent(service: ServiceProcess, start: Start, what: str) -> None:
    """A deletion waits for no download: what has begun comes whole, nothing begins after it, and nothing is left."""
    run = start("open('log', 'wb').write(b'x' * 30_000_000)")
    wait_for_run(run)
    experiment = only(run)
    path = download_path(service.endpoint, experiment.id, "log", wait=0)
    line = http.client.HTTPConnection(*address_of(service), timeout=60)
    line.request("GET", path)
    answer = line.getresponse()
    (experiment if what == "experiment" else run).delete()
    assert len(answer.read()) == 30_000_000
    line.close()
    refused(call(service, "GET", path), 404, "EXPERIMENT_NOT_FOUND", service.home)
    assert results_of(service, experiment) == []
    assert not (service.home / "experiments" / experiment.id).exists()


def test_client_that_goes_away(service: ServiceProcess, start: Start) -> None:
    """A client that hangs up in the middle leaves nothing open, and no complaint in the log."""
    run = start("open('log', 'wb').write(b'x' * 30_000_000)")
    wait_for_run(run)
    path = download_path(service.endpoint, only(run).id, "log", wait=0)
    before = service.log.read_text()
    for _ in range(20):
        with socket.create_connection(address_of(service), timeout=60) as line:
            line.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert line.recv(100).startswith(b"HTTP/1.1 200")
    wait_until(lambda: not open_files(service, "log"), "the service to close the file")
    assert service.log.read_text() == before


def open_files(service: ServiceProcess, name: str) -> list[str]:
    """The files of that name that a service has open."""
    found = []
    for link in Path(f"/proc/{service.process.pid}/fd").iterdir():
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if os.path.basename(target) == name:
            found.append(target)
    return found


def test_who_may_read(service: ServiceProcess, start: Start) -> None:
    """Teammates may, others may not; who leaves the team or is disabled reads nothing with the next request."""
    run = start("open('a', 'w').write('mine')")
    wait_for_run(run)
    experiment = only(run)
    owner = service.endpoint
    operated(service.home, "teams", "add", "readers")
    name = ask(owner, "{ viewer { username } }")["data"]["viewer"]["username"]
    operated(service.home, "teams", "join", "readers", name)
    mate, stranger = add_user(service, "mate", "readers"), add_user(service, "stranger")
    for query in (PAGE, BUNDLE):
        assert ask(stranger, query, id=experiment.id)["data"]["experiment"] is None
    path, where = download_path(mate, experiment.id, "a"), bundle_path(mate, experiment.id)

    def answers() -> list[tuple[int, str]]:
        found = [call(service, "GET", path), call(service, "HEAD", path), bundle(service, where, ["a"])]
        return [(each.status, each.codes[0] if each.status >= 400 and each.body else "") for each in found]

    assert answers() == [(200, ""), (200, ""), (200, "")]
    operated(service.home, "teams", "leave", "readers", "mate")
    missing = "EXPERIMENT_NOT_FOUND"
    assert answers() == [(404, missing), (404, ""), (404, missing)]
    operated(service.home, "teams", "join", "readers", "mate")
    assert answers() == [(200, ""), (200, ""), (200, "")]
    operated(service.home, "users", "disable", "mate")
    unknown = "UNAUTHENTICATED"
    assert answers() == [(401, unknown), (401, ""), (401, unknown)]
    assert call(service, "GET", download_path(owner, experiment.id, "a")).body == b"mine"
