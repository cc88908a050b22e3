"""What a caller may expect of a run because of where it is defined, and what does not hold there.

A start and a preview warn of it alike.
"""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from grid.definition.starting import module_of
from grid.definition.variables import entries
from grid.shared.words import split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grid.definition.run_definition import RunDefinition
    from grid.definition.variables import Environment

_MISSED = ("WANDB_", "HF_", "MLFLOW_", "COMET_", "NEPTUNE_")
"""How variables begin that scripts are often meant to have, besides `PYTHONPATH`."""


def surprises(definition: RunDefinition, script: str, caller: Mapping[str, str] | None = None) -> list[str]:
    """Return a line for each thing that a caller would have and the experiments do not.

    That is: variables, the current folder, and the shell that a launcher may be written for.

    Parameters
    ----------
    definition
        The run.
    script
        The path of the script's file below the root of the source code.
    caller
        The environment of whoever starts it; None for this process's.
    """
    variables = not_passed(definition.environment, os.environ if caller is None else caller)
    return [
        *(line for line in (variables, _starts_elsewhere(definition, script)) if line),
        *split(definition.launcher, "launcher").warnings,
    ]


def not_passed(environment: Environment, caller: Mapping[str, str]) -> str | None:
    """Return a line with the caller's variables that scripts often need and the run does not pass; None if it has none.

    Values are not told.
    """
    passed = entries(environment)
    names = sorted(
        name
        for name, text in caller.items()
        if text and (name == "PYTHONPATH" or name.startswith(_MISSED)) and name not in passed
    )
    if not names:
        return None
    are, them = ("is", "it") if len(names) == 1 else ("are", "them")
    listed = ", ".join(f'"{name}"' for name in names)
    return (
        f"{', '.join(names)} {are} set in your environment, and the experiments do not get {them}: "
        f"environment=[{listed}] passes {them}"
    )


def _starts_elsewhere(definition: RunDefinition, script: str) -> str | None:
    is_said = "working_dir" in definition.given or (definition.config and "working_dir" in definition.config.values)
    folder = PurePosixPath(script).parent
    if is_said or not folder.parts or module_of(definition.entrypoint):
        return None
    own = os.path.dirname(os.path.abspath(definition.entrypoint))
    if os.path.realpath(own) != os.path.realpath(os.getcwd()):
        return None
    return (
        f"the script starts in the root of the source code, and not in {folder}, where you are: "
        'working_dir="script" starts it there, and working_dir="root" says that the root is meant'
    )
