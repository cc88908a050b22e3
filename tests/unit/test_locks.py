"""A lock on a file has one holder at a time, and is free once the holder has released it or has died."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from grid.shared import locks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")

HOLDER = """
import sys
from pathlib import Path
from grid.shared import locks
lock = locks.acquire(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is not there yet."""
    return tmp_path / "lock"


@pytest.fixture
def holder(path: Path):
    """Another process, which holds the lock until its input ends."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_one_at_a_time(path):
    """The second is refused at once, or waits; a third gets the lock that the first has released."""
    with locks.acquire(path, seconds=0):
        assert locks.is_held(path)
        with pytest.raises(locks.StillHeld, match=str(path)):
            locks.acquire(path, seconds=0)
    assert not locks.is_held(path)
    locks.acquire(path, seconds=0).close()


def test_the_file_is_private_and_stays_as_it_is(path):
    """Only its user can read a new file; the content of an existing file is not touched, and none is removed."""
    locks.acquire(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("text")
    with locks.acquire(path, seconds=0):
        assert locks.is_held(path)
    assert path.read_text() == "text"


def test_asking_makes_no_file(path):
    """If there is no file, or not even a folder, the lock is not held, and asking makes neither."""
    assert not locks.is_held(path)
    assert not path.exists()
    assert not locks.is_held(path / "below")
    path.write_text("")
    assert not locks.is_held(path / "below")
    with pytest.raises(NotADirectoryError):
        locks.acquire(path / "below")


def test_askers_do_not_see_each_other(path):
    """Two that ask at the same time do not take each other for the holder."""
    import fcntl

    path.write_text("")
    with path.open("rb") as asked:
        fcntl.flock(asked, fcntl.LOCK_SH)
        assert not locks.is_held(path)


def test_another_process(path, holder):
    """The lock of another process is free once that has been killed, and not before."""
    assert locks.is_held(path)
    with pytest.raises(locks.StillHeld):
        locks.acquire(path, seconds=0)
    holder.kill()
    holder.wait()
    assert not locks.is_held(path)


@pytest.mark.parametrize("seconds", [60.0, None])
def test_whoever_waits_gets_it(path, seconds):
    """One that waits, with a deadline or without, gets the lock when it is released."""
    first = locks.acquire(path)
    got = threading.Event()

    def wait() -> None:
        with locks.acquire(path, seconds=seconds):
            got.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not got.is_set()
    first.close()
    thread.join(60)
    assert got.is_set()


def test_waiting_ends_early(path):
    """Waiting ends as soon as the condition that is checked between two tries is true, and not before."""
    answers = iter([False, False, True])
    with locks.acquire(path), pytest.raises(locks.StillHeld):
        locks.acquire(path, seconds=3600, unless=lambda: next(answers))
    assert next(answers, "all were asked for") == "all were asked for"
    locks.acquire(path, seconds=0, unless=lambda: pytest.fail("asked, though nobody has it")).close()


def test_a_refused_lock_leaves_no_file_open(path):
    """A file that was opened for a lock held elsewhere is closed again."""
    with locks.acquire(path):
        before = len(os.listdir("/dev/fd"))
        for _ in range(3):
            with pytest.raises(locks.StillHeld):
                locks.acquire(path, seconds=0)
        assert len(os.listdir("/dev/fd")) == before


def test_removed_file(path):
    """A lock says that its file was removed: others can have the lock of the next file of that name."""
    with locks.acquire(path) as lock:
        assert not lock.is_lost()
        path.unlink()
        assert lock.is_lost()
        locks.acquire(path, seconds=0).close()


def test_file_in_place_of_another(path):
    """A lock is lost when its path leads to another file, and not when it leads nowhere."""
    with locks.acquire(path) as lock:
        path.rename(path.with_name("moved"))
        assert not lock.is_lost()
        path.touch()
        assert lock.is_lost()


def test_lock_of_a_folder(tmp_path):
    """A folder has a lock like a file, whatever becomes of the files in it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with locks.acquire(folder, seconds=0) as lock:
        assert locks.is_held(folder)
        with pytest.raises(locks.StillHeld):
            locks.acquire(folder, seconds=0)
        folder.rmdir()
        assert lock.is_lost()
        assert not locks.is_held(folder)


def test_system_without_such_locks(path, monkeypatch):
    """Without `fcntl` every function says so, and makes nothing."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    for call in (locks.require_support, lambda: locks.acquire(path), lambda: locks.is_held(path)):
        with pytest.raises(locks.Unsupported, match=sys.platform):
            call()
    assert not path.exists()
