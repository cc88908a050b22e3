"""Tests of downloads: whole files and parts of them over real HTTP, and what tells one content from another."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote

import pytest

from grid import Run
from grid.experiment import Experiment
from tests.support.artifacts import bundle, bundle_path, download_path, members, one_of, page_of
from tests.support.experiments import folder_of, only, work_of
from tests.support.raw_http import Line, call, refused
from tests.support.services import ServiceProcess
from tests.support.waiting import wait_for_run

Start = Callable[..., Run]

CONTENT = bytes(range(256)) * 40
MAKE = """
import os
open('data.bin', 'wb').write(bytes(range(256)) * 40)
open('empty', 'w').close()
os.mkdir('sub')
open('sub/"qu\u00f6te" 1.txt', 'w').write('quoted')
open('../beside.txt', 'w').write('beside')
"""


class Ended(NamedTuple):
    """An experiment that has ended, and has files."""

    service: ServiceProcess
    experiment: Experiment

    def path(self, path: str = "data.bin") -> str:
        """Where a file can be had."""
        return download_path(self.service.endpoint, self.experiment.id, path)


@pytest.fixture
def ended(service: ServiceProcess, start: Start) -> Ended:
    """An experiment that has ended, and has files."""
    run = start(MAKE)
    wait_for_run(run)
    return Ended(service, only(run))


def test_whole_file(ended: Ended) -> None:
    """A file comes whole, with what tells its content and its size, and as something that no browser shows."""
    answer = call(ended.service, "GET", ended.path())
    assert (answer.status, answer.body) == (200, CONTENT)
    told = one_of(ended.service.endpoint, ended.experiment.id, "data.bin")
    assert answer.headers["etag"] == told["etag"]
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert told["size"] == len(CONTENT)
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "private, no-transform"
    assert answer.headers["content-disposition"] == "attachment; filename=\"data.bin\"; filename*=UTF-8''data.bin"
    assert "content-range" not in answer.headers
    assert told["sha256"] == hashlib.sha256(CONTENT).hexdigest()


def test_head(ended: Ended) -> None:
    """HEAD has the headers of GET and no body, and knows no ranges; the connection goes on."""
    with Line(ended.service) as line:
        for headers in ([], [("If-None-Match", "*")]):
            got, told = (line.call(method, ended.path(), headers) for method in ("GET", "HEAD"))
            assert (told.status, told.body) == (got.status, b"")
            assert {**told.headers, "date": ""} == {**got.headers, "date": ""}
        for text in ("bytes=1-5", "bytes=99999-"):
            told = line.call("HEAD", ended.path(), [("Range", text)])
            assert (told.status, told.body) == (200, b"")
            assert told.headers["content-length"] == str(len(CONTENT))


def test_names(ended: Ended) -> None:
    """A file beside the working copy has an address, and any name is told to browsers without breaking the header."""
    assert call(ended.service, "GET", ended.path("../beside.txt")).body == b"beside"
    answer = call(ended.service, "GET", ended.path('sub/"qu\u00f6te" 1.txt'))
    assert answer.body == b"quoted"
    plain, _, encoded = answer.headers["content-disposition"].partition("; filename*=UTF-8''")
    assert plain == 'attachment; filename="_qu_te_ 1.txt"'
    assert unquote(encoded) == '"qu\u00f6te" 1.txt'


def test_empty_file(ended: Ended) -> None:
    """An empty file has no part that could be sent, and comes whole, or not at all."""
    path = ended.path("empty")
    for headers, status in ([], 200), ([("Range", "bytes=-5")], 200), ([("Range", "bytes=0-")], 416):
        answer = call(ended.service, "GET", path, headers)
        assert answer.status == status
        assert status == 416 or (answer.body, answer.headers["content-length"]) == (b"", "0")


@pytest.mark.parametrize(
    ("text", "first", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, 10240),
        ("bytes=5-10", 5, 11),
        ("bytes=10000-99999", 10000, 10240),
        ("bytes=10239-", 10239, 10240),
        ("bytes=-10", 10230, 10240),
        ("bytes=-99999", 0, 10240),
        ("BYTES = 7-8", 7, 9),
        ("bytes=0005-0006", 5, 7),
        ("bytes=10-" + "9" * 40, 10, 10240),
    ],
)
def test_ranges(ended: Ended, text: str, first: int, stop: int) -> None:
    """One range is answered with that part, and with what part it is."""
    answer = call(ended.service, "GET", ended.path(), [("Range", text)])
    assert (answer.status, answer.body) == (206, CONTENT[first:stop])
    assert answer.headers["content-range"] == f"bytes {first}-{stop - 1}/10240"
    assert answer.headers["content-length"] == str(stop - first)


@pytest.mark.parametrize("text", ["bytes=10240-", "bytes=99999-999999", "bytes=-0", "bytes=" + "9" * 40 + "-"])
def test_ranges_behind_the_end(ended: Ended, text: str) -> None:
    """A part that is not there is refused, with how long the file is."""
    answer = call(ended.service, "GET", ended.path(), [("Range", text)])
    refused(answer, 416, "INVALID_ARGUMENT", ended.service.home)
    assert answer.headers["content-range"] == "bytes */10240"


@pytest.mark.parametrize(
    "text",
    ["bytes=0-1,3-4", "bytes=5-4", "bytes=", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=1-2-3", "bytes 1-2", "",
     "\xb2", "bytes=\xb2-"],
)  # fmt: skip
def test_ranges_that_are_ignored(ended: Ended, text: str) -> None:
    """Several ranges, other units, and what is no range at all are answered with the whole file, as HTTP allows."""
    answer = call(ended.service, "GET", ended.path(), [("Range", text)])
    assert (answer.status, answer.body) == (200, CONTENT)


def test_conditions(ended: Ended) -> None:
    """A client that knows the content gets nothing again, one that has a part of it gets the rest if it is the same."""
    path = ended.path()
    etag = call(ended.service, "HEAD", path).headers["etag"]
    part = ("Range", "bytes=10000-")
    for header, value, status in (
        ("If-None-Match", etag, 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", f'"other", W/{etag}', 304),
        ("If-None-Match", '"other"', 206),
        ("If-Match", etag, 206),
        ("If-Match", "*", 206),
        ("If-Match", f"W/{etag}", 412),
        ("If-Match", '"other"', 412),
        ("If-Range", etag, 206),
        ("If-Range", '"other"', 200),
        ("If-Range", f"W/{etag}", 200),
        ("If-Range", "Sat, 29 Oct 2094 19:43:31 GMT", 200),
    ):
        answer = call(ended.service, "GET", path, [part, (header, value)])
        assert answer.status == status, (header, value)
        assert answer.headers["etag"] == etag
        expected = {206: CONTENT[10000:], 200: CONTENT, 304: b""}
        assert status == 412 or answer.body == expected[status]


def test_other_content(ended: Ended) -> None:
    """A file that was changed or replaced has another tag, and so what was begun is not gone on with."""
    path, file = ended.path(), work_of(ended.service, ended.experiment) / "data.bin"
    etag = call(ended.service, "HEAD", path).headers["etag"]
    times = file.stat()
    other = file.with_name("other")
    other.write_bytes(CONTENT[::-1])
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(file)  # same size, same time
    answer = call(ended.service, "GET", path, [("Range", "bytes=5-"), ("If-Range", etag)])
    assert (answer.status, answer.body) == (200, CONTENT[::-1])
    assert answer.headers["etag"] != etag
    told = one_of(ended.service.endpoint, ended.experiment.id, "data.bin")
    assert told["sha256"] == hashlib.sha256(CONTENT[::-1]).hexdigest()


def test_gone(ended: Ended) -> None:
    """What is not there any more, or is something else by now, is not found."""
    file = work_of(ended.service, ended.experiment) / "data.bin"
    path = ended.path()
    file.unlink()
    for put in (
        lambda: None,
        file.mkdir,
        lambda: (file.rmdir(), file.symlink_to("/etc/passwd")),
        lambda: (file.unlink(), os.mkfifo(file)),
    ):
        put()
        refused(call(ended.service, "GET", path), 404, "ARTIFACT_NOT_FOUND", ended.service.home)
    shutil.rmtree(folder_of(ended.service, ended.experiment))
    refused(call(ended.service, "GET", path), 404, "ARTIFACT_NOT_FOUND", ended.service.home)


def test_bundle(ended: Ended) -> None:
    """Many files come as one archive, each with its size, time and digest; what is not there is left out."""
    nodes = page_of(ended.service.endpoint, ended.experiment.id)["nodes"]
    paths = [node["path"] for node in nodes]
    assert paths == ["../beside.txt", "data.bin", "empty", 'sub/"qu\u00f6te" 1.txt']
    where = bundle_path(ended.service.endpoint, ended.experiment.id)
    answer = bundle(ended.service, where, [*paths, "nothing", "data.bin", "../../output", "../work/data.bin"])
    assert answer.headers["content-type"] == "application/x-tar"
    found = members(answer)
    assert list(found) == paths
    for node in nodes:
        member, content = found[node["path"]]
        assert member.pax_headers["GRID.sha256"] == hashlib.sha256(content).hexdigest()
        assert len(content) == node["size"]
    assert found["data.bin"][1] == CONTENT
