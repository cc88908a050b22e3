"""Prints bytes that are no text, as a crashing library or a wrong encoding does.

``--release PATH``: waits for that file in the middle of a character.
"""

import sys
import time
from pathlib import Path

RELEASE = Path(sys.argv[sys.argv.index("--release") + 1])


def put(content: bytes) -> None:
    """Write bytes at once, as they are."""
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


put("größe\n".encode("latin-1"))
put(b"nothing\0 here\n")
put(bytes(range(0x80, 0x100)) + b"\n")
put("größe\n".encode("utf-16-le"))
put(b"half of " + "ü".encode()[:1])
while not RELEASE.exists():
    time.sleep(0.005)
put("ü".encode()[1:] + b"\n")
put("emoji 🎉, \u2028, \x85 and \x0b end no line\n".encode())
put(b"\xf0\x9f\x8e")
