"""Fails half way, and goes on from its checkpoint when it is run again."""

import argparse
import pathlib
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("--gate")
gate = pathlib.Path(parser.parse_args().gate)

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
        sys.exit("out of luck")
