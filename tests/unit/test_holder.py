"""The recorded holder of a home: whether it is a process of this machine."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from grid.shared import holder
from grid.shared.holder import Holder


@pytest.mark.parametrize(
    ("changes", "machine", "expected"),
    [
        ({}, "here", False),
        ({"host": "renamed"}, "here", False),
        ({"boot": "earlier", "host": "renamed"}, "here", False),
        ({"machine": "of-a-container", "host": "c0ffee"}, "here", False),
        ({"machine": "", "host": "c0ffee"}, "here", False),
        ({"boot": "of-another", "machine": "another"}, "here", True),
        ({"boot": "of-another", "machine": "another", "host": "other"}, "here", True),
        ({"boot": "of-another", "machine": "", "host": "other"}, "here", True),
        ({"boot": "of-another", "machine": ""}, "here", False),
        ({"boot": "of-another", "host": "other"}, "", True),
        ({"boot": "of-another"}, "", False),
        ({"boot": "", "machine": "", "host": "other"}, "here", True),
    ],
)
def test_which_machine(monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], machine: str, expected: bool) -> None:
    """The same boot or the same id is the same machine, whatever it is called; the name counts where there is no id."""
    here = replace(Holder.of(os.getpid()), machine="here")
    monkeypatch.setattr(holder, "machine_id", lambda: machine)
    assert replace(here, **changes).is_elsewhere() == expected
