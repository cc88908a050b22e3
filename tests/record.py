"""Records every cassette again, from services that it starts itself: `python -m tests.record [FOLDER]`.

With an unchanged client and an unchanged service the files come out as they were.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grid
from grid.chain.endpoint import Endpoint
from tests.contract.scenarios import CASSETTES, SCENARIOS, cassette, in_project, open_session
from tests.support.commands import Forked
from tests.support.environments import clean_environment
from tests.support.services import end_everything
from tests.support.waiting import wait_until


def record(name: str, folder: Path) -> None:
    """Record the cassette of one operation."""
    scenario = SCENARIOS[name]
    path = folder / f"{name}.yaml"
    path.unlink(missing_ok=True)
    with _recording_service() as endpoint, in_project(), warnings.catch_warnings():
        warnings.simplefilter("ignore", grid.GridWarning)
        open_session(endpoint)
        grid.pause_cluster("local")  # nothing starts, so that no status depends on timing
        scenario.prepare()
        with cassette(path, record=True):
            open_session(endpoint)
            scenario.play()


@contextmanager
def _recording_service() -> Iterator[Endpoint]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / ".grid"
        log = Path(folder) / "service.log"
        environment = clean_environment(Path(folder), PATH=folder)  # other machines have other programs
        process = Forked([str(home)], environment, log, log, module="tests.contract.recording_service")
        try:
            where = home / "service" / "service.json"
            wait_until(lambda: where.exists() or process.poll() is not None, "the recording service")
            assert process.poll() is None, log.read_text()
            said = json.loads(where.read_text())
            yield Endpoint(said["url"], said["user_id"], said["api_key"])
        finally:
            process.terminate()
            process.wait()
            end_everything(home)


def main(folder: Path) -> None:
    """Record them all; remove what no longer belongs to an operation."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SCENARIOS:
        record(name, folder)
        sys.stdout.write(f"recorded {os.path.relpath(folder / name)}.yaml\n")
    for path in folder.glob("*.yaml"):
        if path.stem not in SCENARIOS:
            path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else CASSETTES)
