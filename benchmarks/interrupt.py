"""How soon the prompt returns after Ctrl-C."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from benchmarks.report import line, milliseconds
from tests.support.services import clean_environment

_SCRIPT = """
import os, signal, sys, threading, time
from grid import login

def interrupt():
    time.sleep(DELAY)
    global sent
    sent = time.perf_counter()
    os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with SIGINT ignored
threading.Thread(target=interrupt, daemon=True).start()
try:
    WAIT
except KeyboardInterrupt:
    print(time.perf_counter() - sent)
"""


def prompt(folder: Path, delay: float = 1.5) -> None:
    """Measure a call that waits for a service that does not answer, beside `time.sleep`."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        ours = _interrupted(f"login(user_id='a', api_key='b', url='{url}')", delay, folder)
        sleep = _interrupted("time.sleep(60)", delay, folder)
    line("Ctrl-C while waiting for an answer", milliseconds(ours), f"time.sleep {milliseconds(sleep)}", None, "at once")


def _interrupted(wait: str, delay: float, folder: Path) -> float:
    command = [sys.executable, "-c", _SCRIPT.replace("WAIT", wait).replace("DELAY", str(delay))]
    done = subprocess.run(command, env=clean_environment(folder), capture_output=True, text=True, check=True)
    return float(done.stdout)
