"""Explains failures of scripts that have missed a file which their user has, beside the script, but the run has not."""

from __future__ import annotations

import ast
import os
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from grid.errors import SourceError
from grid.models import FailureGroup
from grid.source import git
from grid.source.finding import walk_folder
from grid.source.missed import is_linked, link_advice
from grid.source.modules import module_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from grid.models import RunRecord

_MISSING = re.compile(r"\[Errno 2\] No such file or directory: (b?(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"))")
_SAID = re.compile(r"^(?:[\w.]+\.)?FileNotFoundError: (.+)$", re.MULTILINE)
"""What libraries say in words of their own, as NumPy does: `data/train.csv not found.`"""
_QUOTED = re.compile(r"'([^']+)'|\"([^\"]+)\"")
_MARKS = ".,:;!?()[]<>'\"`"
_MOST_WORDS = 50
_IN_ROOM = re.compile(r"/attempt-[0-9]+/room/(work/)?(.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedGroup(FailureGroup):
    """Experiments that failed in the same way, for a reason that this machine knows more of.

    Attributes
    ----------
    hint
        Which file the script has missed, and how it can have it.
    """

    hint: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that the service sent for this."""
        return FailureGroup(**{each.name: getattr(self, each.name) for each in fields(FailureGroup)}).to_dict()


def explained(groups: Iterable[FailureGroup], record: RunRecord, folder: str) -> list[FailureGroup]:
    """Return the groups, those with a hint that have missed a file which is beside the script on this machine.

    Parameters
    ----------
    groups
        What the service says.
    record
        Their run.
    folder
        From where its entrypoint was seen.
    """
    groups = list(groups)
    missing = {index: paths for index, group in enumerate(groups) if (paths := _missing_paths(group))}
    here = _Here.of(record, folder) if missing else None
    if here is None:
        return groups
    for index, paths in missing.items():
        if found := next(filter(None, map(here.find, paths)), None):
            file, outermost = found
            hint = f"{file} exists beside the script, but is not part of the run: {link_advice(here.root, [outermost])}"
            values = {each.name: getattr(groups[index], each.name) for each in fields(FailureGroup)}
            groups[index] = ExplainedGroup(**values, hint=hint)
    return groups


def _missing_paths(group: FailureGroup) -> Sequence[str]:
    """Return what may be the path of the file that a script has missed; nothing if it failed for another reason."""
    texts = (group.final_line or "", group.example.last_lines)
    for text in texts:
        # What failed in the end is told last.
        if found := _MISSING.findall(text):
            try:
                path = ast.literal_eval(found[-1])
            except (SyntaxError, ValueError):
                continue
            return [os.fsdecode(path)]
    for text in texts:
        if found := _SAID.findall(text):
            # Whatever is said: only what exists here, and is not part of the run, is told.
            quoted = ("".join(each) for each in _QUOTED.findall(found[-1]))
            words = (word.strip(_MARKS) for word in found[-1].split()[:_MOST_WORDS])
            return list(dict.fromkeys(filter(None, (found[-1].strip(), *quoted, *words))))
    return []


@dataclass(frozen=True, slots=True)
class _Here:
    """The source code of a run, where its user has it.

    Attributes
    ----------
    root
        Its root.
    commit
        The commit that was sent; empty for a folder as it was.
    files
        What is sent of a folder as it is, by path; nothing for a commit.
    seen_from
        The folders below the root from which the script may have seen a path, the most likely one first.
    linked
        What is linked into its working copies.
    """

    root: str
    commit: str
    files: frozenset[str]
    seen_from: tuple[str, ...]
    linked: Sequence[str]

    @classmethod
    def of(cls, record: RunRecord, folder: str) -> _Here | None:
        """Return what there is of a run on this machine; None if its script is not here, or is that of another run."""
        settings = record.settings
        try:
            is_module = bool(module_of(settings.entrypoint))
            script = os.path.join(folder, "" if is_module else settings.entrypoint)
            if not (is_module or os.path.isfile(script)):
                return None
            place = os.path.realpath(os.path.dirname(script))
            if settings.localdir:
                root, commit, above = place, "", ""
                files = frozenset(entry.path for entry in walk_folder(place).entries)
            else:
                repository = git.find_repository(place, settings.entrypoint)
                root, commit, above, files = repository.root, record.commit_sha, repository.prefix, frozenset[str]()
                if git.answers("cat-file", "-t", commit, cwd=root) != "commit":
                    return None
        except SourceError:  # what cannot be read explains nothing
            return None
        scripts = "" if is_module else above.rstrip("/")
        start = {"root": "", "script": scripts}.get(settings.working_dir, settings.working_dir)
        return cls(root, commit, files, tuple(dict.fromkeys((start, "", scripts))), tuple(settings.data))

    def find(self, path: str) -> tuple[str, str] | None:
        """Return what a script has missed, seen from the root, and the outermost of it that is not part of the run.

        None if the path is not here, or is part of the run, or is linked in.
        """
        for place in self._places(path):
            if is_linked(place, self.linked) or not os.path.lexists(os.path.join(self.root, place)):
                continue
            around = list(_up(place))
            present = self._present(around)
            if place not in present:
                return place, [each for each in around if each not in present][-1]
        return None

    def _places(self, path: str) -> Iterator[str]:
        if os.path.isabs(path):
            found = _IN_ROOM.search(path)
            seen = [f"{'' if found[1] else '../'}{found[2]}"] if found else []
        else:
            seen = [os.path.join(folder, path) for folder in self.seen_from]
        for each in dict.fromkeys(map(os.path.normpath, seen)):
            if each not in {".", ".."} and not each.startswith(("../..", "/")) and "\n" not in each:
                yield each

    def _present(self, paths: Sequence[str]) -> frozenset[str]:
        """Return which of some paths are part of the run."""
        if not self.commit:
            return self.files.intersection(paths)
        inside = [path for path in paths if not path.startswith("../")]
        asked = "".join(f"{self.commit}:{path}\n" for path in inside)
        try:
            answers = git.ask("cat-file", "--batch-check", cwd=self.root, given=asked).splitlines()
        except SourceError:  # as above: then nothing is missed, as far as is known
            return frozenset(paths)
        return frozenset(path for path, answer in zip(inside, answers, strict=True) if not answer.endswith(" missing"))


def _up(path: str) -> Iterator[str]:
    """Yield a path, and each folder around it that is not the root, nor what the root is in."""
    while path not in {"", ".."}:
        yield path
        path = os.path.dirname(path)
