"""Tests of the index of an output: what is in it, that it goes on, and that nothing depends on it but times."""

from __future__ import annotations

import os
import random
import shutil
import stat
import threading
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grid.service.executors.local_files import LocalFiles
from grid.service.executors.protocol import FileState, Written
from grid.service.results import index, lines, output
from grid.service.results.index import Entry
from grid.service.results.looker import Looker
from grid.service.results.pages import Begin, Page, Pages, Time
from tests.support.disks import small_disk
from tests.support.outputs import WRITTEN, Attempt, look
from tests.support.shown import shown_lines

SECOND = 1_000_000


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    """An attempt that has printed nothing."""
    return Attempt(tmp_path / "home")


def test_an_entry_for_each_look(attempt: Attempt) -> None:
    """Each look that finds whole lines makes an entry, with the time of the last writing."""
    found = attempt.output()
    look(found)
    assert not attempt.index.parent.exists()
    attempt.print(b"one\ntwo\n", at=10)
    look(found)
    look(found)
    attempt.print(b"thr", at=20)
    look(found)
    attempt.print(b"ee\nfour", at=30)
    look(found)
    assert attempt.entries() == [Entry(2, 8, 10 * SECOND), Entry(3, 14, 30 * SECOND)]
    attempt.print(b"", at=40)
    look(found, has_ended=True)
    assert attempt.entries()[2:] == [Entry(4, 18, 40 * SECOND)]
    page = attempt.read()
    assert page.text == "one\ntwo\nthree\nfour\n"
    assert page.times == [Time(1, 10 * SECOND, False), Time(3, 30 * SECOND, False), Time(4, 40 * SECOND, False)]
    assert stat.S_IMODE(attempt.index.stat().st_mode) == 0o600
    assert stat.S_IMODE(attempt.index.parent.stat().st_mode) == 0o700


def test_nothing_for_nothing(attempt: Attempt) -> None:
    """An attempt that prints nothing leaves no index, whether there is a file or not."""
    found = attempt.output()
    look(found, has_ended=True)
    attempt.print(b"")
    look(found, has_ended=True)
    assert not attempt.index.parent.exists()
    page = attempt.read()
    assert (page.number, page.count, page.text, page.is_end) == (1, 0, "", True)
    assert not attempt.index.parent.exists()


def test_an_entry_for_every_1024_lines(attempt: Attempt) -> None:
    """A line is never far from an entry, however much one look finds."""
    found = attempt.output()
    attempt.print(b"x\n" * 1_000, at=1)
    look(found)
    attempt.print(b"x\n" * 2_072, at=2)
    look(found)
    counts = [(entry.lines, entry.offset, entry.at) for entry in attempt.entries()]
    assert counts == [
        *((1_000, 2_000, SECOND), (1_024, 2_048, 2 * SECOND), (2_048, 4_096, 2 * SECOND), (3_072, 6_144, 2 * SECOND))
    ]


def test_many_entries(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number of entries there is one a second; lines that wait for theirs have the time that it will have."""
    monkeypatch.setattr(output, "_MANY", 2)
    found = attempt.output()
    for number in range(40):
        attempt.print(b"x\n", at=number)
        look(found, now=number / 10)
        if number == 7:
            assert found.waits
            assert (found.reached.lines, found.reached.at) == (8, 2 * SECOND)
    look(found, now=5)
    # The first second's waiting lines are those found from 0.2 s on; they are written down at 1.1 s.
    assert [(entry.lines, entry.at // SECOND) for entry in attempt.entries()] == [
        *((1, 0), (2, 1), (12, 2), (22, 12), (32, 22), (40, 32))
    ]


def test_waiting_lines_are_written_at_the_end(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for its entry gets it when the attempt ends, and when the service is stopped."""
    monkeypatch.setattr(output, "_MANY", 1)
    found = attempt.output()
    for number in range(3):
        attempt.print(b"x\n", at=number)
        look(found)
    assert found.waits
    look(found, has_ended=True)
    assert [entry.lines for entry in attempt.entries()] == [1, 3]


def test_what_nobody_saw(attempt: Attempt) -> None:
    """What was printed before the first look of a service is marked, what comes after it is not."""
    seen = attempt.output()
    attempt.print(b"seen\n", at=1)
    look(seen)
    attempt.print(b"missed\nhalf", at=2)
    again = attempt.output(is_new=False)
    look(again)
    attempt.print(b" a line\n", at=3)
    look(again)
    attempt.print(b"seen\n", at=4)
    look(again)
    marks = [(entry.lines, entry.at // SECOND, entry.is_approximate) for entry in attempt.entries()]
    assert marks == [(1, 1, False), (2, 2, True), (3, 3, True), (4, 4, False)]


class Growing(LocalFiles):
    """Files of which one grows, and is looked at, as soon as somebody has opened it for a page."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt.workspace)
        self.attempt = attempt
        self.looker: Looker | None = None

    def open(self, attempt: Written, path: str) -> tuple[BinaryIO, FileState] | None:
        """Open it, and let more be printed before the caller goes on."""
        found = super().open(attempt, path)
        looker, is_page = self.looker, threading.current_thread().name.startswith("grid-logs")
        if looker is not None and is_page:
            self.looker = None
            self.attempt.print(b"two\n", at=20)
            looker.catch_up(attempt, has_ended=False).result(60)
        return found


def test_growing_while_it_is_read(attempt: Attempt) -> None:
    """That a page finds more in the index than the output had when it was opened does not make the index broken."""
    attempt.files = files = Growing(attempt)

    async def read(pages: Pages) -> Page:
        pages.looker.begins(WRITTEN, 1, is_new=True)
        attempt.print(b"one\n", at=10)
        await pages.read(WRITTEN, Begin(), has_ended=False)
        files.looker = pages.looker
        return await pages.read(WRITTEN, Begin(), has_ended=False, is_fresh=False)

    page = attempt.with_pages(read)
    assert files.looker is None
    assert page.text == "one\ntwo\n"
    assert page.times == [Time(1, 10 * SECOND, False), Time(2, 20 * SECOND, False)]
    assert attempt.entries() == [Entry(1, 4, 10 * SECOND), Entry(2, 8, 20 * SECOND)]


def test_missed_in_many_looks(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody saw is marked to its end, also where it takes many looks, and nothing after it."""
    monkeypatch.setattr(output, "AT_ONCE", 7)
    attempt.print(b"missed\n" * 10)
    again = attempt.output(is_new=False)
    again.look(0)
    attempt.print(b"seen\n" * 10)
    look(again)
    assert {entry.lines: entry.is_approximate for entry in attempt.entries() if entry.lines in {10, 20}} == {
        10: True,
        20: False,
    }


@pytest.mark.parametrize("size", range(16 + 3 * 32))
def test_torn(attempt: Attempt, size: int) -> None:
    """Of an index that was cut anywhere as much is kept as is whole; nothing is counted twice or left out."""
    found = attempt.output()
    for number in range(3):
        attempt.print(b"x\n", at=number)
        look(found)
    os.truncate(attempt.index, size)
    whole = max(size - 16, 0) // 32
    again = attempt.output(is_new=False)
    look(again)
    entries = attempt.entries()
    assert [entry.lines for entry in entries[:whole]] == list(range(1, whole + 1))
    assert (entries[-1].lines, entries[-1].offset) == (3, 6)
    assert [entry.is_approximate for entry in entries] == [False] * whole + [True]
    page = attempt.read()
    assert (page.text, page.count, page.is_end) == ("x\n" * 3, 3, True)


@pytest.mark.parametrize("place", range(16 + 3 * 32))
def test_corrupted(attempt: Attempt, place: int) -> None:
    """Whatever byte of an index is wrong, the text and the numbers of lines are right."""
    found = attempt.output()
    for number in range(3):
        attempt.print(b"%d\n" % number, at=number)
        look(found)
    content = bytearray(attempt.index.read_bytes())
    content[place] ^= 0xFF
    attempt.index.write_bytes(content)
    for number in (1, 2, 3):
        page = attempt.read(Begin(number=number), first=1)
        assert (page.number, page.text) == (number, f"{number - 1}\n")
    page = attempt.read()
    assert (page.text, page.is_end) == ("0\n1\n2\n", True)


def test_of_another_output(attempt: Attempt) -> None:
    """An index that does not fit the output is made again."""
    found = attempt.output()
    attempt.print(b"one\ntwo\nthree\n")
    look(found)
    attempt.path.write_bytes(b"1\n2\n3\n4\n5\n6\n7\n8\n9\n")
    page = attempt.read()
    assert (page.count, page.text, page.is_end) == (9, "1\n2\n3\n4\n5\n6\n7\n8\n9\n", True)
    assert [time.is_approximate for time in page.times] == [True]
    attempt.path.write_bytes(b"1\n")
    assert attempt.read().text == "1\n"
    attempt.path.write_bytes(b"")
    assert attempt.read().count == 0


@pytest.mark.parametrize("what", ["emptied", "replaced", "overwritten"])
def test_script_that_changes_its_output(attempt: Attempt, what: str) -> None:
    """A script that empties, replaces or overwrites its output: the output is what is in it from then on."""
    found = attempt.output()
    attempt.print(b"one\ntwo\nthree\n")
    look(found)
    if what == "replaced":
        attempt.path.unlink()
    attempt.path.write_bytes(
        {"emptied": b"", "replaced": b"1\n2\n", "overwritten": b"1\n2\n3\n4\n5\n6\n7\n8\n9\n"}[what]
    )
    look(found)
    attempt.print(b"more\n")
    look(found)
    expected = attempt.path.read_text()
    page = attempt.read()
    assert (page.text, page.count, page.is_end) == (expected, expected.count("\n"), True)
    assert attempt.entries()[-1].lines == page.count


@pytest.mark.parametrize("what", ["nothing", "folder", "pipe", "link", "device"])
def test_something_else_in_its_place(attempt: Attempt, tmp_path: Path, what: str) -> None:
    """What is no regular file has no lines; no link is followed, and nobody waits for a pipe."""
    found = attempt.output()
    attempt.print(b"one\n")
    look(found)
    attempt.path.unlink()
    (tmp_path / "secret").write_text("secret\n")
    make = {
        "nothing": lambda: None,
        "folder": attempt.path.mkdir,
        "pipe": lambda: os.mkfifo(attempt.path),
        "link": lambda: attempt.path.symlink_to(tmp_path / "secret"),
        "device": lambda: attempt.path.symlink_to("/dev/zero"),
    }
    make[what]()
    look(found, has_ended=True)
    page = attempt.read()
    assert (page.number, page.count, page.text, page.is_end) == (1, 0, "", True)


@pytest.mark.parametrize("what", ["folder", "pipe", "link"])
def test_something_else_in_the_place_of_the_index(attempt: Attempt, tmp_path: Path, what: str) -> None:
    """Whatever lies where the index should be costs times alone, and nothing is written through it."""
    attempt.index.parent.mkdir()
    (tmp_path / "other").write_text("other")
    make = {
        "folder": attempt.index.mkdir,
        "pipe": lambda: os.mkfifo(attempt.index),
        "link": lambda: attempt.index.symlink_to(tmp_path / "other"),
    }
    make[what]()
    found = attempt.output()
    attempt.print(b"one\ntwo\n")
    look(found, has_ended=True)
    page = attempt.read(Begin(last=1))
    assert (page.number, page.text, page.is_end) == (2, "two\n", True)
    assert (tmp_path / "other").read_text() == "other"


def test_index_that_vanishes(attempt: Attempt) -> None:
    """An index that is removed while it grows is made again, and lines keep their numbers."""
    found = attempt.output()
    attempt.print(b"one\ntwo\n", at=1)
    look(found)
    shutil.rmtree(attempt.index.parent)
    attempt.print(b"three\n", at=2)
    look(found)
    look(found)
    assert attempt.entries() == [Entry(3, 14, 2 * SECOND, is_approximate=True)]


def test_deleted_while_it_is_made(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that is made while its experiment is deleted does not outlive it."""
    found = attempt.output()
    attempt.print(b"one\n")
    append = index.append

    def late(*arguments: object) -> bool:
        shutil.rmtree(attempt.path.parent)
        shutil.rmtree(attempt.index.parent, ignore_errors=True)
        return append(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(index, "append", late)
    look(found)
    assert not attempt.index.parent.exists()


def test_full_disk(attempt: Attempt, tmp_path: Path) -> None:
    """A full disk costs times, and no line; when there is room again, the index goes on."""
    results = attempt.workspace.results
    with small_disk(results, 1):
        found = attempt.output()
        attempt.print(b"one\n", at=1)
        look(found, now=0)
        filler = results / "filler"
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(b"x" * 2 * 1024 * 1024)
        with attempt.index.open("ab") as file:  # to the end of its page, so that there is no room in it either
            held = 4096 - file.tell()
        for number in range(held // 32 + 2):
            attempt.print(b"line\n", at=10 + number)
            look(found, now=10 + number)
        assert found.waits
        lost = found.reached.lines
        page = attempt.read(has_ended=True)
        assert page.count == lost
        assert page.times[-1].is_approximate
        filler.unlink()
        attempt.print(b"room\n", at=5_000)
        look(found, now=5_000)
        attempt.print(b"again\n", at=6_000)
        look(found, now=6_000)
        assert [(entry.lines - lost, entry.is_approximate) for entry in attempt.entries()[-2:]] == [
            (1, True),
            (2, False),
        ]
        assert attempt.read(Begin(last=2)).text == "room\nagain\n"


def test_begin(attempt: Attempt) -> None:
    """A page begins with a line, so many lines before the end, or with the first line that is not older than a time."""
    found = attempt.output()
    for number in range(1, 10):
        attempt.print(b"a%d\nb%d\n" % (number, number), at=number)
        look(found)

    def texts(begin: Begin, **options: int) -> tuple[int, list[str]]:
        page = attempt.read(begin, **options)
        return page.number, page.text.split("\n")[:-1]

    assert texts(Begin(number=17)) == (17, ["a9", "b9"])
    assert texts(Begin(number=18, last=None), first=1) == (18, ["b9"])
    assert texts(Begin(number=19)) == (19, [])
    assert texts(Begin(number=1_000)) == (19, [])
    assert texts(Begin(last=3)) == (16, ["b8", "a9", "b9"])
    assert texts(Begin(last=0)) == (19, [])
    assert texts(Begin(last=100), first=2) == (1, ["a1", "b1"])
    assert texts(Begin(since=8 * SECOND)) == (15, ["a8", "b8", "a9", "b9"])
    assert texts(Begin(since=8 * SECOND + 1)) == (17, ["a9", "b9"])
    assert texts(Begin(since=0), first=1) == (1, ["a1"])
    assert texts(Begin(since=10 * SECOND)) == (19, [])


@pytest.mark.parametrize("at", [-(10**10), -1, 0, 2**40])
def test_any_time(attempt: Attempt, at: int) -> None:
    """A script may give its file any time; it is told as one that can be written down."""
    found = attempt.output()
    attempt.print(b"one\n")
    os.utime(attempt.path, (at, at))
    look(found)
    (entry,) = attempt.entries()
    assert 0 <= entry.at < 253_402_300_800 * SECOND


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.binary(max_size=40) | st.sampled_from([b"\n", b"a\r", b"word\n", b"\x1b[1mx", b"\xe6"]), max_size=40),
    st.integers(0, 2**32),
)
def test_anything(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], seed: int) -> None:
    """However an output grows, and whenever a service begins again, every page has the lines that it has as a whole."""
    chance = random.Random(seed)
    attempt = Attempt(tmp_path_factory.mktemp("any") / "home")
    with pytest.MonkeyPatch.context() as patched:
        for module, name, value in (
            (output, "AT_ONCE", chance.randint(1, 20)),
            (output, "_EVERY", chance.randint(1, 5)),
            (output, "_MANY", chance.randint(0, 10)),
            (lines, "_READ", chance.randint(1, 20)),
            (lines, "MAX_LINE", 16),
        ):
            patched.setattr(module, name, value)
        found = attempt.output()
        for number, part in enumerate(parts):
            attempt.print(part)
            if chance.random() < 0.5:
                found.look(number * chance.random())
            if chance.random() < 0.1:
                found = attempt.output(is_new=False)
            if chance.random() < 0.05 and attempt.index.exists():
                os.truncate(attempt.index, chance.randint(0, attempt.index.stat().st_size))
        expected = shown_lines(b"".join(parts), 16)
        number = 1
        told: list[str] = []
        while True:
            page = attempt.read(Begin(number=number), first=chance.randint(1, 9))
            assert page.number == number
            told += page.text.split("\n")[:-1]
            number += page.count
            if page.is_end:
                break
        assert told == expected
        numbers = [entry.lines for entry in attempt.entries()]
        assert numbers == sorted(set(numbers))
        assert not numbers or numbers[-1] == len(expected)
        last = chance.randint(0, 10)
        assert attempt.read(Begin(last=last)).text.split("\n")[:-1] == expected[max(len(expected) - last, 0) :]
    shutil.rmtree(attempt.workspace.home.parent)
