"""Trains ten epochs, each from the checkpoint of the one before, and breaks down once after the fifth.

``--how raise``: with an exception. ``--how machine``: as if its machine had died, together with what watches over it.
"""

import os
import signal
import sys
import time
from pathlib import Path

HOW = sys.argv[sys.argv.index("--how") + 1]
CHECKPOINT = Path("checkpoint.txt")

done = int(CHECKPOINT.read_text()) if CHECKPOINT.exists() else 0
is_first = done == 0
print(f"starting after epoch {done}", flush=True)
for epoch in range(done + 1, 11):
    CHECKPOINT.write_text(str(epoch))
    print(f"epoch {epoch}", flush=True)
    if is_first and epoch == 5:
        if HOW == "machine":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(1000)
        raise RuntimeError("out of luck")
print("done", flush=True)
