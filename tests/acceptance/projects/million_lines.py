"""Prints ``--lines N`` lines as fast as it can; with ``--release PATH`` it waits for that file after half of them."""

import sys
import time
from pathlib import Path

COUNT = int(sys.argv[sys.argv.index("--lines") + 1])
HALF = COUNT // 2
print("\n".join(f"step {number} of {COUNT}: loss {1 / number:.6f}" for number in range(1, HALF + 1)), flush=True)
if "--release" in sys.argv:
    release = Path(sys.argv[sys.argv.index("--release") + 1])
    while not release.exists():
        time.sleep(0.005)
print(
    "\n".join(f"step {number} of {COUNT}: loss {1 / number:.6f}" for number in range(HALF + 1, COUNT + 1)), flush=True
)
