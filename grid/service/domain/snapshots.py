"""Snapshots of source code: where they are uploaded, how they are checked, and where their trees are kept.

A snapshot is an uncompressed tar archive, identified by the SHA-256 of its bytes; the same content is kept only once.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import weakref
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from grid.service.domain.errors import (
    InvalidDigest,
    InvalidSize,
    OtherArchive,
    SnapshotTooLarge,
)
from grid.service.domain.unpacking import unpack
from grid.service.store import snapshot_rows
from grid.service.store.database import Database
from grid.service.system import failpoints, removal
from grid.service.system.addresses import Address, Addresses
from grid.service.system.durable import sync_folder, sync_tree
from grid.service.system.workspace import PRIVATE_FILE, PRIVATE_FOLDER, Workspace, remove_tree
from grid.service.system.world import World
from grid.shared.wire import MAX_SNAPSHOT_BYTES

_log = logging.getLogger(__name__)

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Snapshots:
    """The trees below the workspace's ``snapshots`` folder."""

    def __init__(self, workspace: Workspace, database: Database, world: World, addresses: Addresses) -> None:
        self._workspace = workspace
        self._database = database
        self._world = world
        self._addresses = addresses
        # One for each digest whose tree is being put into its place or taken away.
        self._moving: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def announce(self, user_id: str, digest: str, size_bytes: float) -> Address | None:
        """Return where a user can upload an archive; None if its content is here and they may use it.

        A digest alone is no proof: it is known to whoever has seen it, in a log, or as the commit of a run. So somebody
        else's content is uploaded again, and nobody learns that it was here.
        """
        if not _DIGEST.fullmatch(digest):
            raise InvalidDigest(digest)
        if not 1 <= size_bytes <= MAX_SNAPSHOT_BYTES or size_bytes != int(size_bytes):
            raise (SnapshotTooLarge if size_bytes > MAX_SNAPSHOT_BYTES else InvalidSize)(size_bytes, MAX_SNAPSHOT_BYTES)
        if await self.may_use(user_id, digest):
            return None
        return self._addresses.sign("PUT", _path(digest), user_id, {"size": str(int(size_bytes))})

    async def may_use(self, user_id: str, digest: str) -> bool:
        """Return whether the content is here, and a user has uploaded it or may read a run that has it."""
        may = await self._database.read(lambda connection: snapshot_rows.may_use(connection, user_id, digest))
        return may and self._workspace.snapshot(digest).is_dir()

    async def is_stored(self, digest: str) -> bool:
        """Return whether the content with this digest is here: recorded, and not removed behind the service's back."""
        recorded = await self._database.read(lambda connection: snapshot_rows.is_stored(connection, digest))
        return recorded and self._workspace.snapshot(digest).is_dir()

    async def size(self, digest: str) -> int:
        """Return the size of a stored snapshot in bytes."""
        return await self._database.read(lambda connection: snapshot_rows.size(connection, digest))

    def tree(self, digest: str) -> Path:
        """Return where a stored snapshot lies."""
        return self._workspace.snapshot(digest)

    def holds(self, digest: str, script: str) -> bool:
        """Return whether a stored snapshot has a file of this path."""
        return os.path.isfile(self._workspace.snapshot(digest) / script)

    async def receive(self, digest: str, query: Sequence[tuple[str, str]], body: AsyncIterator[bytes]) -> None:
        """Receive an archive at the address that `announce` returned, check it and keep its tree.

        Parameters
        ----------
        digest, query
            What the address says.
        body
            The archive, in pieces.

        Raises
        ------
        AddressRefused, AddressExpired
            If the address is not ours or has expired. Nothing is then kept.
        SnapshotRefused
            If the archive is not the one that was announced, or contains something that may not be unpacked. Nothing is
            then kept.
        OSError
            If the disk refuses it. Nothing is then kept.
        """
        said = self._addresses.check("PUT", _path(digest), query)
        user_id, size = said["user"], int(said["size"])
        archive = self._workspace.incoming / f"{self._world.new_id()}.tar"
        tree = archive.with_suffix("")
        try:
            await _save(archive, body, size, digest)
            await asyncio.to_thread(_unpack_durably, archive, tree)
            async with self._lock(digest):
                await self._keep(digest, tree)
                await failpoints.reached_async("snapshot.placed")
                at = self._world.now()
                await self._database.write(
                    lambda connection: snapshot_rows.insert(connection, digest, size, user_id, at)
                )
                await failpoints.reached_async("snapshot.recorded")
        finally:
            for left in (archive, tree):
                await asyncio.to_thread(_discard, left)

    async def remove(self, digest: str) -> None:
        """Remove the tree of a snapshot that is no longer recorded; do nothing if it is recorded, or gone already.

        If the same content is uploaded meanwhile, the upload waits and then finds the place free. A removal that was
        cut short is finished by the next call.
        """
        async with self._lock(digest):
            if not await self._database.read(lambda connection: snapshot_rows.is_stored(connection, digest)):
                self._workspace.trash.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
                await asyncio.to_thread(remove_tree, self._workspace.snapshot(digest), self._workspace.trash / digest)

    async def _keep(self, digest: str, tree: Path) -> None:
        """Put a tree into its place, unless it is stored already: another client may have sent the same meanwhile."""
        if not await self.is_stored(digest):
            final = self._workspace.snapshot(digest)
            # A tree that is in the place but not recorded was left by a service that was killed, and may be incomplete.
            await asyncio.to_thread(remove_tree, final, tree.with_name(f"{tree.name}-before"))
            await failpoints.reached_async("snapshot.place.before")
            await asyncio.to_thread(_rename_durably, tree, final)

    def _lock(self, digest: str) -> asyncio.Lock:
        return self._moving.setdefault(digest, asyncio.Lock())


def _path(digest: str) -> str:
    return f"/snapshots/{digest}"


def _discard(left: Path) -> None:
    try:
        removal.remove(str(left))
    except OSError as error:
        _log.warning("what is left of an upload cannot be removed: %s; trying again at the next start", error)


async def _save(archive: Path, body: AsyncIterator[bytes], size: int, digest: str) -> None:
    received, hasher = 0, hashlib.sha256()
    with os.fdopen(os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE), "wb") as file:
        async for chunk in body:
            received += len(chunk)
            if received > size:
                break
            hasher.update(chunk)
            await asyncio.to_thread(file.write, chunk)
    if received != size or hasher.hexdigest() != digest:
        raise OtherArchive


def _unpack_durably(archive: Path, tree: Path) -> None:
    """Unpack, and return when everything is on the disk: only then may the snapshot be reported as stored."""
    unpack(archive, tree)
    sync_tree(tree)


def _rename_durably(tree: Path, final: Path) -> None:
    tree.rename(final)
    sync_folder(final.parent)
