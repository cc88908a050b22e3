"""Runs the benchmarks that are named on the command line, or all."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks import client, experiments, interrupt, processes, restart, server

_BENCHMARKS = {
    "imports": processes.imports,
    "sessions": processes.sessions,
    "loading": client.loading,
    "decoding": client.decoding,
    "experiments": experiments.trivial,
    "requests": server.requests,
    "restart": restart.killed,
    "interrupt": interrupt.prompt,
}


def main(names: list[str]) -> int:
    """Run them; return the exit code."""
    unknown = set(names) - _BENCHMARKS.keys()
    if unknown:
        sys.stderr.write(
            f"error: no benchmark is named {', '.join(sorted(unknown))}; there are {', '.join(_BENCHMARKS)}\n"
        )
        return 2
    for name in names or _BENCHMARKS:
        with tempfile.TemporaryDirectory() as folder:
            _BENCHMARKS[name](Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
