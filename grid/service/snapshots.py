"""Snapshots of source code: where they are uploaded to, how they are checked, and where their trees are kept.

A snapshot is an uncompressed tar archive, known by the SHA-256 of its bytes; the same content is kept once.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import hmac
import os
import re
import shutil
import stat
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlencode

from grid.service.api_errors import ApiError
from grid.service.sources import Sources
from grid.service.store import accounts
from grid.service.store.database import Database
from grid.service.workspace import PRIVATE_FILE, PRIVATE_FOLDER, Workspace
from grid.wire import ErrorCode

MAX_BYTES = 2 * 1024**3
"""The largest archive."""

_MAX_MEMBERS = 200_000
_MAX_DEPTH = 200
"""Folders within folders: what removes a tree goes down by calling itself."""
_UNUSABLE = frozenset({errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ENOENT})
"""What a file system says of a name, or of what a link leads to, that it does not take."""
_UPLOAD_SECONDS = 15 * 60
"""How long an upload may take to begin."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Upload:
    """Where to PUT an archive, until when (microseconds since the epoch)."""

    path: str
    expires_at: int


class Snapshots:
    """The trees below the workspace's ``snapshots`` folder."""

    def __init__(self, workspace: Workspace, database: Database, sources: Sources, secret: bytes) -> None:
        self._workspace = workspace
        self._database = database
        self._sources = sources
        self._secret = secret

    async def announce(self, digest: str, size_bytes: float) -> Upload | None:
        """Return where to upload an archive, or None where its content is stored already."""
        if not _DIGEST.fullmatch(digest):
            message = f"digest {digest[:80]!r} is not the SHA-256 of an archive: 64 lower-case hexadecimal digits"
            raise ApiError(ErrorCode.INVALID_ARGUMENT, message)
        if not 1 <= size_bytes <= MAX_BYTES or size_bytes != int(size_bytes):
            code = ErrorCode.LIMIT_EXCEEDED if size_bytes > MAX_BYTES else ErrorCode.INVALID_ARGUMENT
            raise ApiError(code, f"a snapshot has 1 to {MAX_BYTES:,} bytes, not {size_bytes:,}")
        if await self.is_stored(digest):
            return None
        expires_at = self._sources.now() + _UPLOAD_SECONDS * 1_000_000
        query = {"size": int(size_bytes), "expires": expires_at}
        query["signature"] = self._signature(digest, **query)  # type: ignore[assignment]
        return Upload(f"/snapshots/{digest}?{urlencode(query)}", expires_at)

    async def is_stored(self, digest: str) -> bool:
        """Whether the content of this digest is here."""
        return await self._database.read(lambda connection: accounts.has_snapshot(connection, digest))

    async def check_space(self, digest: str, copies: int) -> None:
        """Refuse a run whose working copies would not find space on the disk.

        Parameters
        ----------
        digest
            Of a stored snapshot.
        copies
            How many working copies there may be at once: when an experiment has ended, what it did not change is
            removed.
        """
        size = await self._database.read(lambda connection: accounts.snapshot_size(connection, digest))
        needed, free = copies * size, shutil.disk_usage(self._workspace.experiments).free
        if needed > free:
            message = (
                f"{copies} working copies of the source code need {needed / 2**20:,.0f} MiB on the disk, where "
                f"{free / 2**20:,.0f} MiB are free; make space, or take large files out of the source code"
            )
            raise ApiError(ErrorCode.UNSUPPORTED, message)

    def holds(self, digest: str, script: str) -> bool:
        """Whether a stored snapshot has such a file."""
        return os.path.isfile(self._workspace.snapshot(digest) / script)

    async def receive(self, digest: str, size: str, expires: str, signature: str, body: AsyncIterator[bytes]) -> None:
        """Take an archive that comes to the address that `announce` gave, check it and keep its tree.

        Raises
        ------
        ApiError
            Where the address is not ours or has expired, the archive is another than was announced, or it holds
            something that may not be unpacked. Nothing is kept then.
        """
        numbers = _WHOLE_NUMBER.fullmatch(size) and _WHOLE_NUMBER.fullmatch(expires)
        if not (numbers and _DIGEST.fullmatch(digest)) or not hmac.compare_digest(
            self._signature(digest, int(size), int(expires)).encode(), signature.encode()
        ):
            raise ApiError(
                ErrorCode.FORBIDDEN, "this address does not take an upload: createSnapshot gives one that does"
            )
        if self._sources.now() > int(expires):
            raise ApiError(ErrorCode.FORBIDDEN, "this address has expired: createSnapshot gives a new one")
        archive = self._workspace.incoming / f"{self._sources.new_id()}.tar"
        tree = archive.with_suffix("")
        try:
            await _save(archive, body, int(size), digest)
            await asyncio.to_thread(unpack, archive, tree)
            final = self._workspace.snapshot(digest)
            try:
                tree.rename(final)
            except OSError:
                # Somebody else has stored the same content meanwhile: then it is there.
                if not final.is_dir():
                    raise
        finally:
            archive.unlink(missing_ok=True)
            await asyncio.to_thread(shutil.rmtree, tree, ignore_errors=True)
        at = self._sources.now()
        await self._database.write(lambda connection: accounts.insert_snapshot(connection, digest, int(size), at))

    def _signature(self, digest: str, size: int, expires: int) -> str:
        return hmac.new(self._secret, f"PUT\n{digest}\n{size}\n{expires}".encode(), hashlib.sha256).hexdigest()


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
        message = "the upload is not the archive that was announced: its size or its SHA-256 differs"
        raise ApiError(ErrorCode.INVALID_SNAPSHOT, message)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into a new folder, or refuse it as a whole.

    Parameters
    ----------
    archive
        An uncompressed tar archive from anybody.
    folder
        Does not exist yet.

    Raises
    ------
    ApiError
        ``INVALID_SNAPSHOT``, naming the member that is no regular file, folder or link inside the tree.
    """
    folder.mkdir(mode=PRIVATE_FOLDER)
    try:
        with tarfile.open(archive, "r:") as members:
            for number, member in enumerate(members):
                if number >= _MAX_MEMBERS:
                    _refuse(member, f"the archive has more than {_MAX_MEMBERS:,} members")
                try:
                    _unpack_member(members, member, folder)
                except OSError as error:
                    if error.errno not in _UNUSABLE:
                        raise
                    _refuse(member, f"it cannot be written here: {error.strerror}")
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise ApiError(ErrorCode.INVALID_SNAPSHOT, "the snapshot is not an uncompressed tar archive") from error
    root = os.path.realpath(folder)
    for path, folders, names in os.walk(folder):
        for name in (*folders, *names):
            link = os.path.join(path, name)
            # Only now that everything is in its place can it be said where a chain of links leads to.
            if os.path.islink(link) and not f"{os.path.realpath(link)}/".startswith(f"{root}/"):
                raise ApiError(
                    ErrorCode.INVALID_SNAPSHOT, f"the snapshot holds a link that leads out of it: {name[:200]!r}"
                )


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\0" in member.name:
        _refuse(member, "it would be written outside the folder")
    if len(path.parts) > _MAX_DEPTH:
        _refuse(member, f"it lies more than {_MAX_DEPTH} folders deep")
    target = folder
    for part in path.parts if member.isdir() else path.parts[:-1]:
        target /= part
        # Looked at before anything is made in it: a link among them must not lead out even for a moment.
        if not os.path.lexists(target):
            target.mkdir(mode=PRIVATE_FOLDER)
        elif not stat.S_ISDIR(target.lstat().st_mode):
            _refuse(member, "it would be written through a link or a file")
    if member.isdir():
        return
    target = folder.joinpath(*path.parts)
    if os.path.lexists(target):
        _refuse(member, "it is there twice")
    elif member.issym():
        target.symlink_to(member.linkname)
    elif member.isreg() and not member.issparse():
        content = archive.extractfile(member)
        assert content is not None
        with target.open("xb") as file:
            shutil.copyfileobj(content, file)
        target.chmod(0o700 if member.mode & 0o100 else PRIVATE_FILE)
        os.utime(target, (member.mtime, member.mtime))
    else:
        _refuse(member, "it is neither a regular file nor a folder nor a symbolic link")


def _refuse(member: tarfile.TarInfo, why: str) -> None:
    raise ApiError(ErrorCode.INVALID_SNAPSHOT, f"the snapshot cannot be unpacked: {member.name[:200]!r}: {why}")
