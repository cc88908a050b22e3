"""Experiments of a run that failed alike, as users hold them: what the service says of them, and what varies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from grid.models import FailureGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedAlike(FailureGroup):
    """A group of failures that says by what its experiments differ from others of the run.

    Attributes
    ----------
    hint
        What can be done about it, where this machine knows more than the service; empty if it does not.
    varying
        What varies of each of the experiments that were read here, by name: ``lr=0.1 n_layer=6``.

    Examples
    --------
    >>> for group in run.failures():  # doctest: +SKIP
    ...     print(group)
    1 x EXIT_CODE: ValueError: rate must be below 1 (clever-noether-1882-exp3 with lr=0.1 n_layer=6)
    """

    hint: str = ""
    varying: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, group: FailureGroup, varying: Mapping[str, str]) -> FailureGroup:
        """Return a group together with what is known to vary in it; the group itself if that is nothing."""
        known = {name: varying[name] for name in group.names if varying.get(name)}
        return cls(**_said(group), hint=group.hint, varying=known) if known else group

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that the service sent for this."""
        return FailureGroup(**_said(self)).to_dict()

    def _told(self, name: str) -> str:
        return f"{name} with {self.varying[name]}" if name in self.varying else name


def _said(group: FailureGroup) -> dict[str, Any]:
    """Return what the service says of a group."""
    return {each.name: getattr(group, each.name) for each in fields(FailureGroup)}
