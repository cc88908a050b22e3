"""Unpacks an archive from an untrusted sender: no member leaves its folder, or costs much more than its size.

Where archives come from and where their trees are kept is in `snapshots`.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tarfile
from pathlib import Path, PurePosixPath
from tarfile import HeaderError
from typing import NoReturn

from grid.service.domain.errors import LinkLeadsOut, MemberRefused, NotAnArchive
from grid.service.system.workspace import PRIVATE_FILE, PRIVATE_FOLDER
from grid.shared.wire import MAX_SNAPSHOT_DEPTH

__all__ = ["unpack"]

MAX_MEMBERS = 200_000
"""Of files, links and folders, including the folders that are named only in the path of another member."""
MAX_HEADER_BYTES = 64 * 1024
"""Of a header that only describes the next one; a path has at most 4,096 bytes."""

_MAX_HEADERS = 4
"""How many headers may describe one member: tarfile calls itself for each."""
_MAX_KEYS = 100
"""Of headers that describe all members after them: tarfile copies them for each member."""
_MAX_LINKS = 40
"""How many links a path may lead through: Linux follows at most this many, other systems fewer."""
_UNUSABLE = frozenset({errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ENOENT})
"""The errors of a file system that does not accept a name, or the target of a link."""

_LONG = frozenset({tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK})
_RECORDS = frozenset({tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE})
_BLOCK = tarfile.BLOCKSIZE
_RECORD = re.compile(rb"([0-9]{1,6}) ")
# Some versions of Python need quadratic time to read long numbers.
_DIGITS = re.compile(rb"[0-9]{300}")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into a new folder, or refuse it as a whole.

    Parameters
    ----------
    archive
        An uncompressed tar archive, not trusted.
    folder
        Must not exist yet.

    Raises
    ------
    SnapshotRefused
        If it is not an archive, or has a member that is not a regular file, a folder or a link inside the tree.
    """
    folder.mkdir(mode=PRIVATE_FOLDER)
    left = MAX_MEMBERS
    try:
        with _Archive.open(archive, "r:") as members:
            for member in members:
                try:
                    left -= _unpack_member(members, member, folder)
                except OSError as error:
                    if error.errno not in _UNUSABLE:
                        raise
                    _refuse(member, f"it cannot be written here: {error.strerror}")
                if left < 0:
                    _refuse(member, f"the archive has more than {MAX_MEMBERS:,} files and folders")
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise NotAnArchive from error
    for path, folders, names in os.walk(folder, onerror=_raise):
        for name in (*folders, *names):
            link = os.path.join(path, name)
            # Where a chain of links leads is known only now, when everything is in its place.
            if os.path.islink(link) and _leads_out(link, str(folder)):
                raise LinkLeadsOut(name)


class _Member(tarfile.TarInfo):
    """A header, checked before tarfile acts on it."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0:
            _distrust("a size below zero")
        if member.type == tarfile.GNUTYPE_SPARSE:
            _refuse(member, "it is neither a regular file nor a folder nor a symbolic link")
        if member.type in _LONG | _RECORDS and member.size > MAX_HEADER_BYTES:
            _distrust("a header that is too large")
        return member

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _Member:
        # Recursive, through tarfile, if this header only describes the next one.
        archive = tarfile
        assert isinstance(archive, _Archive)
        assert archive.fileobj is not None
        position = archive.fileobj.tell()
        block = archive.fileobj.read(_BLOCK)
        if block.strip(b"\0"):  # nothing and zeros are the end
            try:
                header = cls.frombuf(block, archive.encoding or "utf-8", archive.errors or "strict")
            except HeaderError:
                # tarfile would take it for the end, wherever it stands.
                _distrust("a block that is not a header")
            if header.type in _RECORDS:
                _check_records(archive.fileobj.read(header.size))
        archive.fileobj.seek(position)
        archive.headers += 1
        if archive.headers > _MAX_HEADERS or len(archive.pax_headers) > _MAX_KEYS:
            _distrust("too many headers")
        try:
            return super().fromtarfile(archive)
        finally:
            archive.headers -= 1


class _Archive(tarfile.TarFile):
    tarinfo = _Member
    headers = 0


def _check_records(content: bytes) -> None:
    """Refuse malformed records: tarfile spends much time on searching them."""
    if _DIGITS.search(content):
        _distrust("a number that is too long")
    position = 0
    while position < len(content) and content[position]:
        begin = _RECORD.match(content, position)
        end = position + int(begin[1]) if begin else 0
        if begin is None or end <= begin.end() or end > len(content) or content[end - 1] != ord("\n"):
            _distrust("a malformed record")
        name, equals, value = content[begin.end() : end - 1].partition(b"=")
        if not equals or (name == b"size" and not value.isdigit()):
            _distrust("a malformed record")
        position = end


def _distrust(what: str) -> NoReturn:
    raise tarfile.ReadError(what)


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> int:
    """Write a member; return how many files, links and folders were made."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\0" in member.name:
        _refuse(member, "it would be written outside the folder")
    if len(path.parts) > MAX_SNAPSHOT_DEPTH:
        _refuse(member, f"it lies more than {MAX_SNAPSHOT_DEPTH} folders deep")
    target, made = folder, 1
    for part in path.parts if member.isdir() else path.parts[:-1]:
        target /= part
        # Checked before anything is made in it: a link among them must not lead out even for a moment.
        if not os.path.lexists(target):
            target.mkdir(mode=PRIVATE_FOLDER)
            made += 1
        elif not stat.S_ISDIR(target.lstat().st_mode):
            _refuse(member, "it would be written through a link or a file")
    if member.isdir():
        return made
    target = folder.joinpath(*path.parts)
    if os.path.lexists(target):
        _refuse(member, "it appears twice")
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
    return made


def _leads_out(link: str, root: str) -> bool:
    """Return whether a link inside a tree leads out of it, directly or through others, to an existing target or not.

    A path through more links than any system follows leads nowhere.
    """
    here = os.path.relpath(os.path.dirname(link), root).split("/")
    here = [part for part in here if part != "."]
    ahead = [os.path.basename(link)]
    links = 0
    while ahead:
        part = ahead.pop()
        if part == "..":
            if not here:
                return True
            here.pop()
        elif part and part != ".":
            path = os.path.join(root, *here, part)
            if not os.path.islink(path):
                here.append(part)
                continue
            links += 1
            if links > _MAX_LINKS:
                return False
            target = os.readlink(path)
            if target.startswith("/"):
                return True
            ahead += reversed(target.split("/"))
    return False


def _raise(error: OSError) -> NoReturn:
    # By default a folder that cannot be read is passed over, and so would be its links.
    raise error


def _refuse(member: tarfile.TarInfo, why: str) -> NoReturn:
    raise MemberRefused(member.name, why)
