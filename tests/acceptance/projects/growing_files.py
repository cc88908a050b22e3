"""Writes on to files, renames others over some, changes its source code, and removes what it no longer needs."""

import argparse
import pathlib
import time

parser = argparse.ArgumentParser()
parser.add_argument("--gate")
gate = pathlib.Path(parser.parse_args().gate)


def replace(path, text):
    """Write a file as careful programs do."""
    pathlib.Path(path + ".tmp").write_text(text)
    pathlib.Path(path + ".tmp").replace(path)


pathlib.Path("log.csv").write_text("step,loss\n")
replace("best.txt", "first best")
pathlib.Path("gone.txt").write_text("not for long")
pathlib.Path("notes.txt").write_text("changed\n")
pathlib.Path("ready").touch()
while not gate.exists():
    time.sleep(0.02)
with pathlib.Path("log.csv").open("a") as log:
    log.write("1,0.5\n" * 100_000)
replace("best.txt", "second")
pathlib.Path("gone.txt").unlink()
pathlib.Path("__pycache__").mkdir()
pathlib.Path("__pycache__", "cached.pyc").write_bytes(b"\0")
