"""Starts a script several times, as `python -m torch.distributed.run` does: each process is told its rank."""

import argparse
import os
import subprocess
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--nproc_per_node", type=int, default=1)
parser.add_argument("script")
parser.add_argument("arguments", nargs=argparse.REMAINDER)
given = parser.parse_args()
count = given.nproc_per_node
started = [
    subprocess.Popen(
        [sys.executable, given.script, *given.arguments],
        env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)},
    )
    for rank in range(count)
]
sys.exit(max(process.wait() for process in started))
