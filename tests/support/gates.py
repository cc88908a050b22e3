"""Scripts that end when a test says so, and with the exit code that it says."""

from __future__ import annotations

from pathlib import Path

SCRIPT = """
import pathlib, sys, time

gate = pathlib.Path(sys.argv[2], sys.argv[4])
while not gate.exists():
    time.sleep(0.01)
sys.exit(int(gate.read_text()))
"""


class Gates:
    """What the scripts of a run wait for.

    Parameters
    ----------
    folder
        Where to make them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def arguments(self, count: int) -> str:
        """The arguments of a run of `SCRIPT` with this many experiments."""
        return f"--folder {self.folder} --number 'range({count})'"

    def open(self, *numbers: int, code: int = 0) -> None:
        """Let the scripts of these experiments end."""
        for number in numbers:
            written = self.folder / f"{number}.new"
            written.write_text(str(code))
            written.rename(self.folder / str(number))

    def close(self, number: int) -> None:
        """Keep the next attempt of an experiment waiting."""
        (self.folder / str(number)).unlink()
