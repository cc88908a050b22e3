"""Tests of the warnings of a start: each is shown once, at the line of whoever has called."""

from __future__ import annotations

import warnings

from grid.errors import GridWarning
from grid.session.sending import Said


def test_each_is_shown_once() -> None:
    """What both the client and the service say, and what one of them says twice, is one warning."""
    said = Said()
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        said.warn(["here", "here"], stacklevel=1)
        said.warn(["there", "here", "there"], stacklevel=1)
        Said().warn(["here"], stacklevel=1)  # of another start
    assert [str(each.message) for each in shown] == ["here", "there", "here"]
    assert {(each.category, each.filename) for each in shown} == {(GridWarning, __file__)}
