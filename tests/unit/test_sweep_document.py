"""`docs/sweeps.md`: what stands below each command line is what the grammar makes of it, and every form is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import grid
from grid.service.domain.sweeps import SweepError
from grid.service.domain.sweeps._names import KNOWN
from tests.support.sweeping import grid as expanded

DOCUMENT = (Path(grid.__file__).parent.parent / "docs" / "sweeps.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```sweep\n(.*?)\n((?:→|error:|warning:).*?\n)```", re.DOTALL)
BLOCKS = BLOCK.findall(DOCUMENT)


def printed(script_args: str) -> list[str]:
    """Return the lines of a block."""
    try:
        expansion = expanded(script_args)
    except SweepError as error:
        return [f"error: {error}"]
    return [
        *(f"→ {shlex.join(trial.arguments)}" for trial in expansion.trials),
        *(f"warning: {line}" for line in expansion.warnings),
    ]


@pytest.mark.parametrize(("script_args", "shown"), BLOCKS, ids=[script_args for script_args, _ in BLOCKS])
def test_what_is_shown_is_what_is_made(script_args: str, shown: str) -> None:
    """Each line was really printed; long ones are broken at spaces."""
    assert " ".join(shown.split()) == " ".join(" ".join(printed(script_args)).split())


def test_every_block_was_checked() -> None:
    """No block has lost what is shown in it."""
    assert len(BLOCKS) == DOCUMENT.count("```sweep\n") > 30


def test_every_form_is_there() -> None:
    """The document names each known form."""
    assert {name for name in KNOWN if not re.search(rf"`{name}[`(]", DOCUMENT)} == set()
