"""Tests of what tells a process from another one of the same pid."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from grid.shared import processes
from grid.shared.holder import Holder
from grid.shared.processes import boot_id, process_start


def test_start_of_a_process(tmp_path: Path) -> None:
    """A process has the same start time for as long as it lives, whatever its name, and none once it is a zombie."""
    program = tmp_path / "a) Z 1 ("  # as a process that has ended might be shown
    program.symlink_to(shutil.which("sleep") or "sleep")
    with subprocess.Popen([program, "1000"]) as process:
        start = process_start(process.pid)
        assert start is not None
        assert start == process_start(process.pid)
        if sys.platform == "linux":
            assert int(start) >= int(process_start(os.getpid()) or 0)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process_start(process.pid) is None
    assert process_start(process.pid) is None


@pytest.mark.skipif(sys.platform != "linux", reason="it is /proc that may be missing")
def test_not_known_is_not_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc the code that judges supervisors gets an error; the holder of a home then counts as gone."""
    ours = Holder.of(os.getpid())
    assert ours.is_alive()
    monkeypatch.setattr(processes, "PROC", "/nowhere")
    boot_id.cache_clear()
    try:
        with pytest.raises(FileNotFoundError):
            process_start(os.getpid())
        with pytest.raises(FileNotFoundError):
            boot_id()
        assert not ours.is_alive()
        assert (Holder.of(os.getpid()).start, Holder.of(os.getpid()).boot) == ("", "")
    finally:
        boot_id.cache_clear()
