"""Finds the source code of a run: the commit or the folder that its script is in. Nothing is packed or sent here.

:mod:`grid.source.snapshot` packs what is found. What is wrong with it, and what its user should know of, is said here,
so that a preview and a start say the same.
"""

from __future__ import annotations

import os
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grid.errors import SourceError
from grid.source import git, lfs
from grid.source.ignore import IGNORE_FILES, Tree, check_depth, walk
from grid.source.modules import BASES, ModuleFile, candidates, find_module, module_of, nearest
from grid.source.sizes import refuse_large, some_of

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMIT_HINT = "take it out of the commit, or pass localdir=True and exclude it in .gridignore"
"""What to do about a commit that is too large."""
_LINK = "120000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The source code of a run, found but not packed.

    Attributes
    ----------
    root
        The folder that it is the source code of: the repository's, or the script's own with ``localdir``.
    script
        The path of the file that is run, below the root, with ``/`` between its parts.
    module
        The name of the module, if ``python -m`` runs it; empty for a script.
    import_folder
        The folder below the root that leads ``PYTHONPATH`` for a module: ``""`` is the root itself, None for a script.
    project
        ``owner/name`` of the repository's ``origin``; the folder's name if there is none.
    commit_sha
        The commit; None for a folder as it is, which is known by its digest when it is packed.
    files
        Each file and link that is part of it, by its path below the root, with its size in bytes.
    warnings
        What the user may expect to be part of it but is not.
    pointers
        The files of Git LFS that are part of it as pointers, as far as can be told before it is packed.
    all_pointers
        Every file that git knows as such a pointer, whether or not it is replaced by its content.
    repository
        The repository of the commit; None for a folder as it is.
    tree
        What was found in a folder as it is; None for a commit.
    """

    root: str
    script: str
    module: str
    import_folder: str | None
    project: str
    commit_sha: str | None
    files: Mapping[str, int]
    warnings: tuple[str, ...] = ()
    pointers: tuple[str, ...] = ()
    all_pointers: tuple[str, ...] = ()
    repository: git.Repository | None = None
    tree: Tree | None = None

    def folders(self) -> set[str]:
        """Return the folders of which something is part of it, and the empty ones that are, without the root."""
        folders = {entry.path for entry in self.tree.entries if entry.kind == stat.S_IFDIR} if self.tree else set()
        for path in self.files:
            folder = path
            while (folder := folder.rpartition("/")[0]) and folder not in folders:
                folders.add(folder)
        return folders

    def text(self, path: str) -> str:
        """Return the text of a file that is part of it, as the run will have it; what is no text is replaced.

        Raises
        ------
        SourceError
            If it cannot be read.
        """
        if self.repository is not None:
            return git.ask("cat-file", "blob", f"{self.repository.commit}:{path}", cwd=self.root)
        try:
            return (Path(self.root) / path).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            msg = f"cannot read {os.path.join(self.root, path)}: {error.strerror}"
            raise SourceError(msg) from error


def find_source(entrypoint: str, *, localdir: bool) -> Source:
    """Find the source code that a script belongs to.

    Parameters
    ----------
    entrypoint
        The path of the script, or ``-m`` and the name of a module.
    localdir
        ``False``: the tree committed at ``HEAD`` of the git repository that holds the script; of a module, of the one
        around the current folder. ``True``: the script's folder as it is, or the current folder for a module, without
        ``.git`` and what ``.gridignore`` (or ``.gitignore`` if there is none) excludes.

    Raises
    ------
    SourceError
        If the script is missing or would not be part of it, there is no commit, something lies too deep, or it would be
        larger than 2 GiB.
    """
    module = module_of(entrypoint)
    if module:
        folder, name = os.path.realpath(os.getcwd()), ""
    else:
        if not os.path.isfile(entrypoint):
            msg = f"the entrypoint {entrypoint!r} is not a file; give the path of the script, seen from {os.getcwd()}"
            raise SourceError(msg)
        folder, name = os.path.split(os.path.abspath(entrypoint))
        # Only the folder's links are followed: a script that is a link is found in the snapshot under its own name.
        folder = os.path.realpath(folder)
    return _find_folder(folder, name, module) if localdir else _find_commit(folder, name, module, entrypoint)


def walk_folder(folder: str) -> Tree:
    """Find what is sent of a folder as it is.

    Raises
    ------
    SourceError
        If it cannot be read, or something lies deeper than can be sent.
    """
    return walk(Path(folder), ignore_name=_ignore_name(folder))


def _ignore_name(folder: str) -> str:
    """Return the name of the ignore files that count below a folder."""
    return next((name for name in IGNORE_FILES if os.path.isfile(os.path.join(folder, name))), IGNORE_FILES[-1])


def _find_folder(folder: str, name: str, module: str) -> Source:
    ignore_name = _ignore_name(folder)
    tree = walk_folder(folder)
    files = {entry.path: entry.size for entry in tree.entries if entry.kind != stat.S_IFDIR}
    base = None
    if module:
        found = _find_module(module, files, folder, f"{ignore_name} there excludes it: add a line that begins with `!`")
        name, base = found.path, found.base
    elif name not in files:
        msg = f"the entrypoint {name!r} is excluded by {ignore_name} in {folder}; add a line `!{name}` there"
        raise SourceError(msg)
    sizes = {entry.path: entry.size for entry in tree.entries}
    refuse_large(sizes, folder, f"exclude what the script does not need in {os.path.join(folder, IGNORE_FILES[0])}")
    warnings = []
    if tree.special:
        warnings.append(f"left out, because only files, folders and links can be sent: {some_of(tree.special)}")
    regular = {entry.path: entry.size for entry in tree.entries if entry.kind == stat.S_IFREG}
    return Source(
        root=folder,
        script=name,
        module=module,
        import_folder=base,
        project=git.project_of(folder),
        commit_sha=None,
        files=files,
        warnings=tuple(warnings),
        pointers=lfs.pointers_in_folder(folder, regular),
        tree=tree,
    )


def _find_commit(folder: str, name: str, module: str, entrypoint: str) -> Source:
    repository = git.find_repository(folder, entrypoint, is_module=bool(module))
    script, base = repository.prefix + name, None
    warnings = []
    files: dict[str, int] = {}
    submodules: list[str] = []
    small: dict[str, str] = {}
    for line in git.ask("ls-tree", "-r", "-z", "-l", "--full-tree", repository.commit, cwd=folder).split("\0")[:-1]:
        facts, _, path = line.partition("\t")
        mode, kind, blob, size = facts.split()
        check_depth(path, repository.root)
        if kind == "commit":
            submodules.append(path)
        else:
            files[path] = int(size) if size.isdigit() else 0
            if mode != _LINK and lfs.may_be_pointer(files[path]):
                small[path] = blob
    if module:
        way_out = "commit it, or pass localdir=True to send the current folder as it is"
        found = _find_module(module, files, repository.root, way_out)
        script, base = found.path, found.base
    elif script not in files:
        msg = (
            f"the entrypoint {entrypoint!r} is not in the commit at HEAD of {repository.root}; commit it "
            f"(git add {shlex.quote(entrypoint)} && git commit), or pass localdir=True to send its folder as it is"
        )
        raise SourceError(msg)
    refuse_large(files, repository.root, COMMIT_HINT)

    changes = git.ask(
        "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=no", "--ignore-submodules=all",
        cwd=repository.root,
    )  # fmt: skip
    changed = [line[3:] for line in changes.split("\0")[:-1]]
    if changed:
        warnings.append(f"uncommitted changes are not part of the run: {some_of(changed)}")
    if submodules:
        warnings.append(f"the content of submodules is not part of the run: {some_of(submodules)}")
    pointers = lfs.pointers_in_commit(small, folder)
    return Source(
        root=repository.root,
        script=script,
        module=module,
        import_folder=base,
        project=git.project_of(repository.root),
        commit_sha=repository.commit,
        files=files,
        warnings=tuple(warnings),
        pointers=lfs.stay_pointers(pointers, repository.root),
        all_pointers=pointers,
        repository=repository,
    )


def _find_module(module: str, files: Mapping[str, int], root: str, way_out: str) -> ModuleFile:
    """Find a module in the source code; if it is not there, say where was looked, and what there is instead."""
    found = find_module(module, files.keys())
    if found is not None:
        return found
    places = candidates(module)
    present = [path for path in places if path not in files and os.path.isfile(os.path.join(root, path))]
    if present:
        msg = f"the module {module!r} is {present[0]} in {root}, which is not part of the source code; {way_out}"
        raise SourceError(msg)
    looked = ", nor below ".join(os.path.join(root, base).rstrip(os.sep) for base in BASES)
    is_package = any(path.replace("__main__", "__init__") in files for path in places if path.endswith("/__main__.py"))
    why = "is a package that has no __main__.py" if is_package else "was not found"
    near = nearest(module, files.keys())
    advice = f"the nearest modules are {', '.join(near)}" if near else "there are no modules"
    msg = f"the module {module!r} {why} below {looked}; {advice}"
    raise SourceError(msg)
