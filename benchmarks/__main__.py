"""Runs the benchmarks that are named on the command line, or all of them."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import (
    artifacts,
    client,
    client_logs,
    downloads,
    experiments,
    interrupt,
    logs,
    processes,
    restart,
    server,
    stores,
)

# Each with the arguments for its smallest size, which only shows that it still works.
BENCHMARKS: dict[str, tuple[Callable[..., None], dict[str, Any]]] = {
    "imports": (processes.imports, {"pairs": 1}),
    "sessions": (processes.sessions, {"cold": 1, "warm": 1}),
    "loading": (client.loading, {"sizes": [101], "pairs": 1}),
    "decoding": (client.decoding, {"number": 1, "pairs": 1}),
    "experiments": (experiments.trivial, {"number": 2, "pairs": 1}),
    "requests": (server.requests, {"clients": 2, "seconds": 0.1, "pairs": 1}),
    "pages": (server.pages, {"experiments": 11, "clients": 2, "seconds": 0.1, "pairs": 1}),
    "stalls": (server.stalls, {"experiments": 11, "pairs": 1}),
    "artifacts": (artifacts.sent, {"mebibytes": 1, "files": 10, "pairs": 1}),
    "restart": (restart.killed, {"runs": 1, "experiments": 11, "pairs": 1}),
    "stores": (stores.grown, {"runs": 2, "experiments": 4, "share": 2, "pairs": 1}),
    "idle": (logs.idle, {"seconds": 0.1}),
    "reading": (logs.reading, {"lines": 20, "pairs": 1}),
    "telling": (logs.telling, {"experiments": 2, "seconds": 0.3, "every": 0.05}),
    "follow": (client_logs.follow, {"experiments": 2, "ticks": 3}),
    "read_back": (client_logs.read_back, {"lines": 100, "pairs": 1}),
    "downloads": (downloads.artifacts, {"megabytes": 2, "files": 20, "pairs": 1}),
    "interrupt": (interrupt.prompt, {"delay": 0.2}),
}


def main(arguments: list[str]) -> int:
    """Run the benchmarks; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the speed of Grid.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)}; all if none is named")
    parser.add_argument("--smallest", action="store_true", help="measure so little that the figures are meaningless")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - BENCHMARKS.keys()
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; the benchmarks are {', '.join(BENCHMARKS)}")
    for name in options.names or BENCHMARKS:
        benchmark, smallest = BENCHMARKS[name]
        with tempfile.TemporaryDirectory() as folder:
            benchmark(Path(folder), **smallest if options.smallest else {})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
