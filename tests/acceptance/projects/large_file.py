"""Makes a file that is too large for a bundle, and then another one."""

import argparse
import pathlib
import random
import time

parser = argparse.ArgumentParser()
parser.add_argument("--gate")
gate = pathlib.Path(parser.parse_args().gate)

pathlib.Path("model.pt").write_bytes(random.Random(1).randbytes(6_000_000))
pathlib.Path("ready").touch()
while not gate.exists():
    time.sleep(0.02)
pathlib.Path("last.pt").write_bytes(random.Random(2).randbytes(3_000_000))
