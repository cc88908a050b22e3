"""How the script of a run is started: from which folder, by which words, and where Python looks first for modules."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from grid.service.domain.errors import InvalidValue
from grid.shared import words
from grid.shared.wire import SCRIPT_SUFFIXES

RUNNERS = {".sh": "bash", ".jl": "julia"}
"""The program that runs a script, by the script's suffix; Python runs all others."""

_MODULE = re.compile(r"-m\s+(\w[\w-]*(?:\.\w[\w-]*)*)\s*")
_MODULE_FORM = "-m and the name of a module, as in '-m package.module'"
_ABOVE = ("", "src")
"""The folders of the source code below which a module may lie."""

_ROOT, _SCRIPT = "root", "script"
_FOLDER_FORM = (
    "'root', 'script', or the path of a folder that is part of the source code; an empty folder is not, nor is what "
    "git ignores"
)
_PATH_FORM = "the path of a folder inside the snapshot, without '..' and ':'"
_MOST_PATHS = 100
_LONGEST_PATH = 4_000

_ELASTIC = "torchrun --standalone --nproc_per_node={processes}"
_COUNTS = frozenset({"--nproc_per_node", "--nproc-per-node", "--num_processes", "--num-processes"})
_MPI = frozenset({"mpirun", "mpiexec"})
_MPI_COUNTS = frozenset({"-n", "-np", "--np"})


@dataclass(frozen=True, slots=True)
class Launch:
    """How the experiments of a run are started."""

    target: tuple[str, ...]
    """What is started, as it is called in its folder: the path of a script, or ``-m`` and a module."""
    launcher: tuple[str, ...] = ()
    """The words that start it; none for what runs such scripts. In them ``{index}`` stands for the experiment's own."""
    folder: str = ""
    """Where it starts, seen from the root of the source code; empty for the root. No link is on the way."""
    import_paths: tuple[str, ...] = ()
    """Where Python looks first for modules, seen from the root: before what the run's own ``PYTHONPATH`` names."""

    @classmethod
    def stored(cls, text: str, script: str) -> Launch:
        """Return what `text` wrote; for a run that was started before there was such a thing, how its script is."""
        if not text:
            return cls((script,))
        target, launcher, folder, paths = orjson.loads(text)
        return cls(tuple(target), tuple(launcher), folder, tuple(paths))

    def text(self) -> str:
        """Return it as the row of a run has it."""
        return orjson.dumps([self.target, self.launcher, self.folder, self.import_paths]).decode()

    @property
    def is_module(self) -> bool:
        """Whether a module is run, and not a file."""
        return self.target[0] == "-m"

    @property
    def runner(self) -> str:
        """The program that runs it where no launcher does, by the name that a person would type."""
        return "python" if self.is_module else RUNNERS.get(PurePosixPath(self.target[0]).suffix, "python")

    def launcher_of(self, index: int) -> list[str]:
        """Return the launcher's words for an experiment of the run."""
        return [word.replace("{index}", str(index)) for word in self.launcher]

    def shown(self, index: int) -> list[str]:
        """Return the words of an experiment's command up to its arguments, as a person would type them."""
        return [*(self.launcher_of(index) or [self.runner]), *self.target]

    def processes(self, gpus: int) -> int:
        """Return how many processes the launcher starts for an experiment that has so many GPUs; 1 if it is not known.

        Only the usual launchers are known: those of PyTorch and Accelerate, and MPI's.
        """
        is_mpi = False
        for word, after in pairwise((*self.launcher, "")):
            is_mpi |= PurePosixPath(word).name in _MPI
            name, _, value = word.partition("=")
            if name in _COUNTS or (is_mpi and name in _MPI_COUNTS):
                count = value or after
                if count.isascii() and count.isdecimal():
                    return max(int(count), 1)
                return max(gpus, 1) if count == "gpu" else 1
        return 1


def module_of(entrypoint: str) -> str | None:
    """Return the module that an entrypoint names, or None if it is the path of a script.

    Raises
    ------
    InvalidValue
        If it is neither.
    """
    if entrypoint.startswith("-m") and PurePosixPath(entrypoint).suffix not in SCRIPT_SUFFIXES:
        found = _MODULE.fullmatch(entrypoint)
        if found is None:
            raise InvalidValue("entrypoint", entrypoint, _MODULE_FORM)
        return found[1]
    if PurePosixPath(entrypoint).suffix not in SCRIPT_SUFFIXES:
        wanted = f"a file that ends in {', '.join(SCRIPT_SUFFIXES)}, or {_MODULE_FORM}"
        raise InvalidValue("entrypoint", entrypoint, wanted)
    return None


def shown_script(entrypoint: str, script: str) -> str:
    """Return what stands for the script among an experiment's parameters: its path in the snapshot, or the module."""
    module = module_of(entrypoint)
    return script if module is None else f"-m {module}"


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse settings that can belong to no run, whatever its source code is.

    Raises
    ------
    InvalidValue
        The value, and what is expected.
    """
    module_of(settings["entrypoint"])
    launcher_words(settings, 0)
    _working_dir(settings)


def check_script(entrypoint: str, script: str) -> None:
    """Refuse the path of a file in the snapshot that can be no script, or not the one that is meant."""
    path = PurePosixPath(script)
    module = module_of(entrypoint)
    if path.is_absolute() or ".." in path.parts or "\0" in script or path.suffix not in SCRIPT_SUFFIXES:
        raise InvalidValue("script", script, f"a path inside the snapshot that ends in {', '.join(SCRIPT_SUFFIXES)}")
    if module is not None and _above(module, script) is None:
        files = " or ".join(_files(module, ""))
        raise InvalidValue("script", script, f"the file of the module {module}: {files}, below the root or below src")


def check_import_paths(paths: Sequence[str]) -> None:
    """Refuse folders that do not lie in a snapshot, and what a list of paths cannot hold."""
    if len(paths) > _MOST_PATHS:
        raise InvalidValue("importPaths", f"{len(paths)} paths", f"at most {_MOST_PATHS}")
    for each in paths:
        path = PurePosixPath(each)
        is_odd = os.pathsep in each or "\0" in each or len(each) > _LONGEST_PATH
        if path.is_absolute() or ".." in path.parts or is_odd:
            raise InvalidValue("importPaths", each, _PATH_FORM)


def launcher_words(settings: Mapping[str, Any], gpus: int) -> Sequence[str]:
    """Return the words that start the script in place of the interpreter, as they are written; none for none."""
    launcher: str = settings.get("launcher") or ""
    if not launcher and settings["framework"] == "TORCHELASTIC":
        launcher = _ELASTIC.format(processes=max(gpus, 1))
    try:
        found = words.split(launcher, "launcher").words
    except words.WordsError as error:
        raise InvalidValue("launcher", launcher, f"words as a shell splits them: {error}") from None
    if launcher and not any(found[:1]):
        raise InvalidValue("launcher", launcher, "a program and its arguments, or nothing at all")
    return found


def warnings_of(settings: Mapping[str, Any]) -> Sequence[str]:
    """Return what a shell would have done with the words of a launcher that was accepted, and nobody does here."""
    return words.split(settings.get("launcher") or "", "launcher").warnings


def launch_of(
    settings: Mapping[str, Any],
    script: str,
    tree: Path | None,
    counts: Mapping[str, int],
    import_paths: Sequence[str] = (),
) -> Launch:
    """Return how a run's script is started. It looks into the tree of its source code, so it is for threads.

    Parameters
    ----------
    settings
        The fields of ``RunSettingsInput``.
    script
        The path of its file in the snapshot, which holds it.
    tree
        Where the snapshot lies; None to say how it would be started if there is no link on the way.
    counts
        How many ``cpus`` and ``gpus`` each experiment gets.
    import_paths
        Folders in the snapshot in which Python is to look first for modules.

    Raises
    ------
    InvalidValue
        If the folder where it is to start is not part of the source code.
    """
    launcher = [
        word.replace("{cpus}", str(counts["cpus"])).replace("{gpus}", str(counts["gpus"]))
        for word in launcher_words(settings, counts["gpus"])
    ]
    folder = _folder(settings, script, tree)
    paths = [PurePosixPath(path).as_posix() for path in import_paths]
    module = module_of(settings["entrypoint"])
    if module is not None:
        target = ["-m", module]
        above = _above(module, script) or ""
        # Python itself looks into the folder in which it is started with `-m`.
        if (above or ".") != (folder or "."):
            paths.insert(0, above or ".")
    else:
        target = [_named(script, folder, tree)]
        if launcher and PurePosixPath(script).suffix in RUNNERS and "/" not in target[0]:
            target = [f"./{target[0]}"]  # a program of that name is looked for on the PATH, and not here
    return Launch(tuple(target), tuple(launcher), folder, tuple(dict.fromkeys(paths)))


def _working_dir(settings: Mapping[str, Any]) -> PurePosixPath | None:
    """Return the folder that was asked for, seen from the root; None for the script's own."""
    given: str = settings.get("workingDir") or _ROOT
    if given == _SCRIPT:
        return None
    path = PurePosixPath("" if given == _ROOT else given)
    if path.is_absolute() or ".." in path.parts or "\0" in given:
        raise InvalidValue("working_dir", given, _FOLDER_FORM)
    return path


def _folder(settings: Mapping[str, Any], script: str, tree: Path | None) -> str:
    wanted = _working_dir(settings)
    given = PurePosixPath(script).parent if wanted is None else wanted
    if tree is None:
        return "" if given.as_posix() == "." else given.as_posix()
    root = tree.resolve()
    # Links of a snapshot lead to what is in it; where one is on the way, the folder itself is meant.
    folder = (root / given).resolve()
    if not folder.is_dir() or not folder.is_relative_to(root):
        raise InvalidValue("working_dir", settings["workingDir"], _FOLDER_FORM)
    found = folder.relative_to(root).as_posix()
    return "" if found == "." else found


def _named(script: str, folder: str, tree: Path | None) -> str:
    """Return the path of the script as it is seen from a folder."""
    if not folder:
        named = script
    elif tree is None:
        named = os.path.relpath(script, folder)
    else:
        path = PurePosixPath(script)
        named = os.path.relpath((tree / path.parent).resolve() / path.name, (tree / folder).resolve())
    return f"./{named}" if named.startswith("-") else named


def _above(module: str, script: str) -> str | None:
    """Return the folder below which the file of a module lies; None if that is not its file."""
    return next((above for above in _ABOVE if PurePosixPath(script).as_posix() in _files(module, above)), None)


def _files(module: str, above: str) -> tuple[str, str]:
    path = PurePosixPath(above, *module.split(".")).as_posix()
    return f"{path}.py", f"{path}/__main__.py"
