"""Prints a line of ``--megabytes N`` million bytes between two short ones.

``--release PATH``: waits for that file in the middle of the line.
"""

import sys
import time
from pathlib import Path

MEGABYTES = int(sys.argv[sys.argv.index("--megabytes") + 1])
RELEASE = Path(sys.argv[sys.argv.index("--release") + 1])
MEGABYTE = "0123456789" * 100_000

print("before")
for megabyte in range(MEGABYTES):
    sys.stdout.write(MEGABYTE)
    sys.stdout.flush()
    while megabyte == MEGABYTES // 2 and not RELEASE.exists():
        time.sleep(0.005)
print("\nafter", flush=True)
