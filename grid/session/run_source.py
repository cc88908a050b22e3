"""The source code of a run that is described: where it is, and what its user should know before it is sent or shown."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grid.definition.run_definition import to_settings_input
from grid.definition.surroundings import surprises
from grid.errors import InvalidArgument
from grid.shared.words import split
from grid.source import lfs, missed
from grid.source.finding import find_source
from grid.source.fitting import check_launcher, check_working_dir, replaced, start_folder
from grid.source.imports import imports_of
from grid.source.installed import installed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grid.definition.run_definition import RunDefinition
    from grid.source.finding import Source
    from grid.source.snapshot import Snapshot

_MULTIRUN = frozenset({"-m", "--multirun", "hydra.mode=MULTIRUN"})


@dataclass(frozen=True, slots=True)
class RunSource:
    """The source code of a run.

    Attributes
    ----------
    source
        What is part of it.
    folder
        The folder below its root in which the script starts.
    warnings
        What its user should know, a line for each, but for what is known for certain only when it is packed.
    import_paths
        The folders below its root into which Python looks first: only the embedded service is told of them.
    """

    source: Source
    folder: str
    warnings: tuple[str, ...]
    import_paths: tuple[str, ...] = ()

    def told(self, packed: Snapshot | None = None) -> tuple[str, ...]:
        """Return all warnings: what is foreseen, or, once it is packed, what is so."""
        pointers = self.source.pointers if packed is None else packed.pointers
        return (*self.warnings, lfs.warning(pointers)) if pointers else self.warnings


def find_run_source(definition: RunDefinition, *, runs_here: bool) -> RunSource:
    """Find the source code of a run. Nothing is packed, and nothing is sent.

    Parameters
    ----------
    definition
        The run.
    runs_here
        Whether the interpreter of this process will run its scripts, and import what is installed for it.

    Raises
    ------
    SourceError
        If it cannot be sent.
    InvalidArgument
        If the run is one that Grid must not start, a sweep of Hydra's own, or does not fit its source code.
    """
    settings = to_settings_input(definition)
    words = list(split(settings["scriptArgs"]).words)
    texts = [*words, *_texts(json.loads(settings["params"]))] if settings.get("params") else words
    source = find_source(definition.entrypoint, localdir=definition.localdir)
    _refuse_multirun(source, [*words, *_flags(definition.params)])
    check_working_dir(source, definition.working_dir)
    folder = start_folder(source, definition.working_dir)
    check_launcher(source, definition.launcher, folder)
    about_data = replaced(source, definition.data or {}, folder=folder)
    warnings = [*source.warnings, *surprises(definition, source.script), *about_data]
    if named := missed.named_paths(source, texts, folder=folder, linked=tuple(definition.data or ())):
        warnings.append(missed.named_warning(source, named))
    if importable := missed.importable_files(source):
        warnings.append(missed.importable_warning(source, importable))
    if not runs_here or source.script.endswith(".jl"):
        return RunSource(source, folder, tuple(warnings))
    own_path = (settings.get("environment") or {}).get("PYTHONPATH", "")
    imports = imports_of(source, installed(), folder=folder, python_path=own_path)
    return RunSource(source, folder, (*warnings, *imports.warnings), imports.paths)


def _refuse_multirun(source: Source, words: list[str]) -> None:
    """Refuse a script that would sweep by itself, within each experiment of a sweep of ours."""
    if "--" in words:
        words = words[: words.index("--")]
    asked = next((word for word in words if word in _MULTIRUN), None)
    if asked is not None and "hydra.main" in source.text(source.script):
        msg = (
            f"{source.script} is a Hydra application, and {asked} makes Hydra run a sweep of its own: Grid sweeps, and "
            f"Hydra must not. Leave {asked} out, and write what is swept over as Grid does: lr=[0.1,0.2]"
        )
        raise InvalidArgument(msg)


def _flags(params: Any) -> Iterator[str]:
    """Yield the names of parameters that are flags, as the script gets them."""
    for combination in params if isinstance(params, (list, tuple)) else [params or {}]:
        for name, value in combination.items():
            if value not in (None, False):
                yield name if str(name).startswith("-") else f"--{name}"


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in parameters as they travel."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
