"""How a script is started: as a file or a module, from which folder, and by which words in place of the interpreter."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import Any

from grid.definition.checks import check_text, shown, split_words
from grid.errors import InvalidArgument, SourceError
from grid.shared.wire import SCRIPT_SUFFIXES
from grid.shared.words import WordsError

_MODULE = re.compile(r"-m\s+(\S.*?)\s*", re.DOTALL)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_PLACEHOLDERS = ("cpus", "gpus", "index")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


# --- the entrypoint --------------------------------------------------------------------------------------------------


def module_of(entrypoint: str) -> str:
    """Return the module that an entrypoint names; empty if it is the path of a script."""
    found = _MODULE.fullmatch(entrypoint)
    return found[1] if found else ""


def take_entrypoint(value: Any) -> Any:
    """Return an entrypoint with one space behind its `-m`, if it has one."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    module = module_of(value) if isinstance(value, str) else ""
    return f"-m {module}" if module else value


def check_entrypoint(name: str, value: object) -> None:
    """Refuse what cannot be the path of a script or name a module; whether it exists is checked elsewhere."""
    try:
        check_text(name, value)
    except InvalidArgument as error:
        raise SourceError(str(error)) from error
    text = str(value)
    module = module_of(text)
    if module:
        _check_module(name, text, module)
    elif not text.endswith(SCRIPT_SUFFIXES):
        wanted = "the path of a script that ends in .py, .sh or .jl, or '-m' and the name of a module"
        hint = "; write a space behind -m" if re.match(r"-m\w", text) else ""
        msg = f"{name} must be {wanted}, not {shown(value)}{hint}"
        raise SourceError(msg)


def _check_module(name: str, text: str, module: str) -> None:
    hint = None
    if module.endswith(".py") or "/" in module:
        path = PurePosixPath(module).with_suffix("") if module.endswith(".py") else PurePosixPath(module)
        hint = f"write {'.'.join(path.parts)!r} behind -m, or give the path of the script without it"
    elif len(module.split()) > 1:
        hint = "put the script's arguments into script_args"
    elif not all(part.isidentifier() for part in module.split(".")):
        hint = "its parts are letters, digits and '_', with dots between them"
    if hint:
        msg = f"{name} must name a module behind -m, as in '-m package.module', not {shown(text)}; {hint}"
        raise SourceError(msg)


# --- where it starts -------------------------------------------------------------------------------------------------


def check_working_dir(name: str, value: object) -> None:
    """Refuse what is neither a word for a folder nor a path below the root of the source code."""
    check_text(name, value)
    path = PurePosixPath(str(value))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        allowed = '"root", "script", or the path of a folder below the root of the source code, such as \'training\''
        hint = '; write "root"' if value and not path.parts else ""
        msg = f"{name} must be {allowed}, not {shown(value)}{hint}"
        raise InvalidArgument(msg)


# --- by which words --------------------------------------------------------------------------------------------------


def check_launcher(name: str, value: object) -> None:
    """Refuse what is not a program and its arguments, or has a placeholder that nothing is known for."""
    try:
        words = split_words(name, value)
    except WordsError as error:
        raise InvalidArgument(str(error)) from None
    if not words:
        if value:
            msg = f"{name} must be a program and its arguments, or empty, not {shown(value)}"
            raise InvalidArgument(msg)
        return
    first = words[0]
    if not first or first.startswith("-"):
        msg = f"{name} must begin with a program, as in 'torchrun --nproc_per_node=2', not with {shown(first)}"
        raise InvalidArgument(msg)
    if _VARIABLE.match(first):
        variable = first.partition("=")[0]
        instead = f"environment={{{variable!r}: '…'}} sets it"
        msg = f"{name} must begin with a program, not with the variable {variable}; {instead}"
        raise InvalidArgument(msg)
    for word in words:
        for found in _PLACEHOLDER.finditer(word):
            if found[1] not in _PLACEHOLDERS:
                known = ", ".join(f"{{{each}}}" for each in _PLACEHOLDERS)
                msg = f"{name} has {found[0]}, for which nothing is known; {known} are replaced"
                raise InvalidArgument(msg)


def check_together(entrypoint: str, framework: str, launcher: str) -> None:
    """Refuse a way of starting that its parts do not allow together.

    Raises
    ------
    InvalidArgument
        If both a launcher and the framework say by which words the script starts, or that framework's launcher cannot
        start such a script.
    """
    if framework != "torchelastic":
        return
    if launcher:
        meant = "'torchrun --standalone --nproc_per_node=N', where N is the GPUs, or 1"
        msg = (
            f"framework 'torchelastic' is a launcher itself ({meant}), so launcher={launcher!r} cannot be given "
            "with it; leave one of them out"
        )
        raise InvalidArgument(msg)
    if not module_of(entrypoint) and not entrypoint.endswith(".py"):
        msg = (
            f"framework 'torchelastic' starts Python scripts and modules, not {entrypoint!r}; let that script "
            "call torchrun itself, and leave framework out"
        )
        raise InvalidArgument(msg)
