"""Makes a thousand small files, some of them empty, in folders within folders."""

import argparse
import pathlib
import time

parser = argparse.ArgumentParser()
parser.add_argument("--gate")
gate = pathlib.Path(parser.parse_args().gate)

for number in range(1_000):
    folder = pathlib.Path("results", str(number % 10), str(number % 7))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{number}.txt").write_text(f"{number}\n" * (number % 50))
pathlib.Path("ready").touch()
while not gate.exists():
    time.sleep(0.02)
