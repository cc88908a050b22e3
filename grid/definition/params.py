"""`params`: more arguments of a script as Python objects, and how they travel as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from grid.definition.checks import shown
from grid.errors import InvalidArgument


def check_params(name: str, value: object) -> None:
    """Refuse what is neither None, nor a dict by name, nor a list of those."""
    if value is None or isinstance(value, Mapping):
        return
    if isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(each, Mapping) for each in value):
        return
    msg = f"{name} must be a dict from name to value, or a list of such dicts, not {shown(value)}"
    raise InvalidArgument(msg)


def write_params_text(params: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None) -> str:
    """Return `params` as the JSON text that travels; empty for none."""
    return json.dumps(params, ensure_ascii=False) if params else ""


def read_params_text(text: str) -> Any:
    """Return the `params` that a JSON text holds; None if it is empty."""
    return json.loads(text) if text else None


def plain_params(params: Any) -> Any:
    """Return `params` as a configuration file holds them."""
    return params
