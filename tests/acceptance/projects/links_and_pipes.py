"""Makes what is no regular file, names that are unusual, and files beside its working copy."""

import argparse
import os
import pathlib
import socket
import time

parser = argparse.ArgumentParser()
parser.add_argument("--gate")
gate = pathlib.Path(parser.parse_args().gate)

pathlib.Path("real.txt").write_text("real")
os.link("real.txt", "second_name.txt")
os.symlink("real.txt", "link.txt")
os.symlink("/etc/passwd", "passwd")
os.symlink("/etc", "etc")
os.symlink("nowhere", "dangling")
os.mkfifo("pipe")
with socket.socket(socket.AF_UNIX) as listening:
    listening.bind("socket")
pathlib.Path("empty_folder").mkdir()
pathlib.Path("with blank and\nnewline.txt").write_text("odd")
pathlib.Path("2026-01-01T10:00:00.log").write_text("colons")
pathlib.Path("über.txt").write_text("letters")
with open(b"\xff.bin", "wb") as file:
    file.write(b"no text")
pathlib.Path("../data").mkdir()
pathlib.Path("../data/x").write_text("beside")
pathlib.Path("../y").write_text("beside, too")
os.symlink("work/real.txt", "../link")
pathlib.Path("ready").touch()
while not gate.exists():
    time.sleep(0.02)
