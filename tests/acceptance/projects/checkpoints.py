"""Breaks down half way, and goes on from its checkpoint when it is run again.

``--how exit``: with an exit code. ``--how machine``: as if its machine had died, together with what watches over it.
"""

import argparse
import os
import pathlib
import signal
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("--gate")
parser.add_argument("--how", default="exit")
given = parser.parse_args()
gate = pathlib.Path(given.gate)

checkpoint = pathlib.Path("ckpt/step.txt")
checkpoint.parent.mkdir(exist_ok=True)
step = int(checkpoint.read_text()) if checkpoint.exists() else 0
while step < 10:
    step += 1
    checkpoint.write_text(str(step))
    pathlib.Path(f"ckpt/{step}.pt").write_bytes(bytes([step]) * 1_000)
    if step == 5:
        pathlib.Path("ready").touch()
        while not gate.exists():
            time.sleep(0.02)
        if given.how == "machine":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(1_000)
        sys.exit("out of luck")
