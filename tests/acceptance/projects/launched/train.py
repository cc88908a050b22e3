"""A script for several processes: each prints who it is."""

import argparse
import json
import os

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
threads = {name: os.environ[name] for name in ("RANK", "WORLD_SIZE", "OMP_NUM_THREADS")}
os.write(1, f"{json.dumps({**vars(parser.parse_args()), **threads})}\n".encode())
