"""Finds the client's query files and returns, for each operation, the newest version that the service understands.

Files are read as text: whether they fit the schema and the models is checked by `grid.schema_tools`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from grid.errors import ServiceTooOld
from grid.shared.wire import API_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.resources.abc import Traversable

__all__ = ["MissingFragment", "Query", "QueryFile", "QueryFiles", "Registry", "query_files"]

# What a GraphQL document may hold besides its structure: block strings, strings and comments, in the order to try them.
_OPAQUE = re.compile(r'"""(?:\\"""|.)*?"""|"(?:\\.|[^"\\\n])*"|#[^\n]*', re.DOTALL)
_SPREAD = re.compile(r"\.\.\.\s*(?!on\b)([A-Za-z_]\w*)")
_OPERATION = re.compile(r"\b(query|mutation|subscription)\b\s*([A-Za-z_]\w*)")


@dataclass(frozen=True, slots=True)
class Query:
    """An operation as it is sent.

    Attributes
    ----------
    name
        The operation's name.
    version
        The version whose folder holds the operation's file.
    kind
        `query`, `mutation` or `subscription`.
    text
        The document: the operation and every fragment that it needs, without comments.
    path
        The operation's file.
    """

    name: str
    version: int
    kind: str
    text: str
    path: str


class QueryFile(NamedTuple):
    """One version of one operation or fragment."""

    name: str
    version: int
    source: Traversable

    @property
    def path(self) -> str:
        """The file's path, for messages."""
        return str(self.source)

    def read(self) -> str:
        """Return the file's text."""
        return self.source.read_text(encoding="utf-8")


class MissingFragment(ValueError):
    """A query file uses a fragment that does not exist."""

    def __init__(self, path: str, line: int, reason: str) -> None:
        super().__init__(f"{path}:{line}: {reason}")
        self.path = path
        self.line = line
        self.reason = reason


class QueryFiles(NamedTuple):
    """Everything below one folder of queries: each name with its versions, oldest first."""

    latest: int
    operations: Mapping[str, tuple[QueryFile, ...]]
    fragments: Mapping[str, tuple[QueryFile, ...]]


class Registry:
    """The queries that fit a service of one version.

    Parameters
    ----------
    package
        The package that holds the folders `v1`, `v2`, …, or a path to such a folder. `v1` is complete, a later one
        holds only what changed; the files of fragments are in a folder `fragments` inside.
    version
        The version that the service speaks, its `apiVersion`.

    Raises
    ------
    ValueError
        If the package holds no queries.
    """

    def __init__(self, package: str | Traversable = "grid.queries", *, version: int = API_VERSION) -> None:
        self.version = version
        self._package = package
        self._files = query_files(package)
        self._queries: dict[str, Query] = {}

    def __repr__(self) -> str:
        return f"Registry(version={self.version}, latest={self.latest}, operations={len(self.names)})"

    @property
    def latest(self) -> int:
        """The newest version that has a folder."""
        return self._files.latest

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all operations, including those that the service is too old for."""
        return tuple(self._files.operations)

    def at(self, version: int) -> Registry:
        """Return the registry of the same files that fits a service of another version."""
        return Registry(self._package, version=version)

    def get(self, name: str) -> Query:
        """Return the newest version of an operation that the service understands.

        Parameters
        ----------
        name
            The operation's name.

        Returns
        -------
        Query
            The operation with the fragments that it needs; each of these is the newest that the service understands.

        Raises
        ------
        ServiceTooOld
            If the operation came with a later version than the service speaks.
        ValueError
            If no version has an operation of this name; `MissingFragment` if one that it uses is missing.
        """
        query = self._queries.get(name)
        if query is None:
            query = self._queries[name] = self._compose(name)
        return query

    def parts(self, name: str) -> tuple[QueryFile, ...]:
        """Return the files that an operation is made of: its own, then its fragments' in the order of their use.

        Raises
        ------
        ServiceTooOld
            If the operation came with a later version than the service speaks.
        ValueError
            If no version has an operation of this name; `MissingFragment` if one that it uses is missing.
        """
        return self._with_fragments(self._find("query", name, self._files.operations))

    def parts_of_fragment(self, name: str) -> tuple[QueryFile, ...]:
        """Return the files that a fragment is made of, as `parts` does for an operation."""
        return self._with_fragments(self._find("fragment", name, self._files.fragments))

    def _compose(self, name: str) -> Query:
        parts = self.parts(name)
        texts = [_without_comments(part.read()) for part in parts]
        operation = _OPERATION.search(_blanked(texts[0]))
        if operation is None or operation[2] != name:
            message = f"{parts[0].path} holds no operation {name}: a file is named after the operation in it"
            raise ValueError(message)
        return Query(name, parts[0].version, operation[1], "\n".join(texts), parts[0].path)

    def _find(self, kind: str, name: str, group: Mapping[str, tuple[QueryFile, ...]]) -> QueryFile:
        if name not in group:
            message = f"there is no {kind} {name!r}{_close(name, group)}"
            raise ValueError(message)
        found = self._newest(group[name])
        if found is None:
            message = (
                f"{name} needs a service of version {group[name][0].version}, but this one speaks version "
                f"{self.version}: update the service, or use an older client"
            )
            raise ServiceTooOld(message)
        return found

    def _with_fragments(self, part: QueryFile) -> tuple[QueryFile, ...]:
        fragments: dict[str, QueryFile] = {}
        waiting = [part]
        while waiting:
            user = waiting.pop(0)
            text = _blanked(user.read())
            for spread in _SPREAD.finditer(text):
                name = spread[1]
                if name in fragments:
                    continue
                fragment = self._newest(self._files.fragments.get(name, ()))
                if fragment is None:
                    line = text.count("\n", 0, spread.start()) + 1
                    message = (
                        f"no version up to {self.version} has a fragment {name!r}, which is used here"
                        f"{_close(name, self._files.fragments)}"
                    )
                    raise MissingFragment(user.path, line, message)
                fragments[name] = fragment
                waiting.append(fragment)
        return (part, *fragments.values())

    def _newest(self, versions: tuple[QueryFile, ...]) -> QueryFile | None:
        return next((file for file in reversed(versions) if file.version <= self.version), None)


def query_files(package: str | Traversable) -> QueryFiles:
    """Return every file below a package or folder of queries: `latest`, and `operations` and `fragments` by name.

    Parameters
    ----------
    package
        As for `Registry`.

    Raises
    ------
    ValueError
        If there is no folder `v1` in it.
    """
    if isinstance(package, str):
        from importlib.resources import files  # noqa: PLC0415  # costs more than the rest of this file

        try:
            folder: Traversable = files(package)
        except ModuleNotFoundError as error:
            message = f"there is no package {package!r} to read queries from: {error}"
            raise ValueError(message) from error
    else:
        folder = package
    versions: dict[int, Traversable] = {}
    if folder.is_dir():
        versions = {int(entry.name[1:]): entry for entry in folder.iterdir() if re.fullmatch(r"v[1-9]\d*", entry.name)}
    if 1 not in versions:
        message = f"there are no queries in {folder}: they are expected in folders v1, v2, …"
        raise ValueError(message)
    operations: dict[str, list[QueryFile]] = {}
    fragments: dict[str, list[QueryFile]] = {}
    for version in sorted(versions):
        for found, where in ((operations, versions[version]), (fragments, versions[version] / "fragments")):
            for name, source in _graphql_files(where):
                found.setdefault(name, []).append(QueryFile(name, version, source))
    return QueryFiles(
        max(versions),
        {name: tuple(operations[name]) for name in sorted(operations)},
        {name: tuple(fragments[name]) for name in sorted(fragments)},
    )


def _graphql_files(folder: Traversable) -> list[tuple[str, Traversable]]:
    if not folder.is_dir():
        return []
    entries = [entry for entry in folder.iterdir() if entry.name.endswith(".graphql")]
    return sorted((entry.name[: -len(".graphql")], entry) for entry in entries)


def _close(name: str, known: Mapping[str, object]) -> str:
    import difflib  # noqa: PLC0415  # only for messages

    matches = difflib.get_close_matches(name, known)
    return f"; did you mean {' or '.join(matches)}?" if matches else f"; known names: {', '.join(known) or 'none'}"


def _blanked(text: str) -> str:
    """Return a document without strings and comments but with all its lines, to search for spreads and operations."""
    return _OPAQUE.sub(lambda match: "\n" * match[0].count("\n") or " ", text)


def _without_comments(text: str) -> str:
    """Return a document without comments and blank lines: a comment may change without changing what is sent."""
    bare = _OPAQUE.sub(lambda match: "" if match[0].startswith("#") else match[0], text)
    return "".join(line.rstrip() + "\n" for line in bare.splitlines() if line.strip())
