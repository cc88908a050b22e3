"""Trains with progress bars as libraries draw them: rewritten in place, coloured, half of them on stderr.

``--release PATH``: waits for that file in the middle of the second bar.
"""

import sys
import time
from pathlib import Path

RELEASE = Path(sys.argv[sys.argv.index("--release") + 1])
STEPS = 8


def draw(epoch: int, done: int) -> None:
    """Draw the bar of an epoch over what it was before."""
    bar = "█" * done + "▌" * (done < STEPS)
    sys.stderr.write(
        f"\r\x1b[2K\x1b[38;5;42mepoch {epoch}\x1b[0m {100 * done // STEPS:3d}%|{bar:<{STEPS}}| {done}/{STEPS}"
    )
    sys.stderr.flush()


print("\x1b]0;training\x07\x1b[1mtraining\x1b[0m \x1b[4mresnet\x1b[24m", flush=True)
print("see \x1b]8;;https://example.org/docs\x1b\\the docs\x1b]8;;\x1b\\", flush=True)
for epoch in (1, 2, 3):
    for done in range(STEPS + 1):
        draw(epoch, done)
        if (epoch, done) == (2, STEPS // 2):
            while not RELEASE.exists():
                time.sleep(0.005)
    sys.stderr.write("\n")
    print(f"\x1b[33mloss\x1b[0m\t{1 / epoch:.3f}\r\n", end="", flush=True)
print("downloading 10%\rdownloading 100%\rdone       \r", flush=True)
print("\x1b[1A\x1b[Ksaved \x1b[?25hmodel.pt", end="", flush=True)
