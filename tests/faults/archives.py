"""Archives that must not be unpacked as they are, written header by header: tarfile itself would not make them."""

from __future__ import annotations

import tarfile

END = bytes(1024)


def header(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, **fields: object) -> bytes:
    """The header of a member, whatever it says."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = size
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def file(name: str, content: bytes = b"x") -> bytes:
    """A file."""
    return header(name, size=len(content)) + padded(content)


def link(name: str, target: str) -> bytes:
    """A symbolic link."""
    return header(name, tarfile.SYMTYPE, linkname=target)


def padded(content: bytes) -> bytes:
    """A file's content as an archive holds it."""
    return content + bytes(-len(content) % 512)


def record(name: str, value: str) -> bytes:
    """A record of an extended header."""
    rest = f" {name}={value}\n".encode()
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def extended(*records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """A header that says more about the next one, or about all that follow."""
    content = b"".join(records)
    return header("extended", kind, len(content)) + padded(content)


def altered(block: bytes, place: int, value: bytes) -> bytes:
    """A header with some bytes replaced, and the checksum that fits."""
    block = block[:place] + value + block[place + len(value) :]
    blank = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(blank) + block[156:]


LONG = header("././@LongLink", tarfile.GNUTYPE_LONGNAME, 2) + padded(b"a\0")
SPARSE = (record("GNU.sparse.major", "1"), record("GNU.sparse.minor", "0"), record("GNU.sparse.name", "q"))

REFUSED: dict[str, bytes] = {
    # Elsewhere
    "absolute path": file("/tmp/escaped") + END,
    "parent": file("../../escaped") + END,
    "parent within": file("a/b/../../../escaped") + END,
    "parent as a folder": header("../escaped", tarfile.DIRTYPE) + END,
    "parent in an extended header": extended(record("path", "../../escaped")) + file("a") + END,
    "parent for all": extended(record("path", "../escaped"), kind=tarfile.XGLTYPE) + file("a") + END,
    "null in a path": extended(record("path", "a\0b")) + file("a") + END,
    # Links
    "absolute link": link("a", "/etc") + END,
    "link to a parent": link("a", "../..") + END,
    "link through links": link("a", "b") + link("b", "c/d") + header("c", tarfile.DIRTYPE) + link("c/d", "../..") + END,
    "link by an extended header": extended(record("linkpath", "../..")) + link("a", "b") + END,
    "file through a link": link("a", ".") + file("a/b") + END,
    "file through a link that leads out": link("a", "../../snapshots") + file("a/escaped") + END,
    "hard link": file("a") + header("b", tarfile.LNKTYPE, linkname="a") + END,
    "hard link to elsewhere": header("b", tarfile.LNKTYPE, linkname="/etc/passwd") + END,
    # Not files
    "character device": header("a", tarfile.CHRTYPE, devmajor=1, devminor=3) + END,
    "block device": header("a", tarfile.BLKTYPE, devmajor=8) + END,
    "pipe": header("a", tarfile.FIFOTYPE) + END,
    "unknown kind": header("a", b"Z") + END,
    "part of another volume": header("a", b"M") + END,
    # Twice
    "file twice": file("a") + file("./a") + END,
    "file and folder": file("a") + header("a", tarfile.DIRTYPE) + END,
    "link and file": link("a", "b") + file("a") + END,
    # Larger than they are
    "sparse file": altered(header("a", tarfile.GNUTYPE_SPARSE), 483, b"77777777777\0") + END,
    "sparse file without an end": altered(header("a", tarfile.GNUTYPE_SPARSE), 482, b"\1"),
    "sparse file by an extended header": extended(*SPARSE, record("GNU.sparse.realsize", "1" * 12))
    + file("a", b"1\n0\n1\n".ljust(512, b"\0") + b"x")
    + END,
    "sparse map": extended(record("GNU.sparse.map", "0,1"), record("GNU.sparse.size", "99999999999")) + file("a") + END,
    "sparse map that is none": extended(record("GNU.sparse.map", "x,y")) + file("a") + END,
    "size beyond the end": header("a", size=1 << 40) + END,
    "size of nine bytes": header("a", size=1 << 62) + END,
    "size below zero": header("a", size=-512) + END,
    "folder of a size below zero": header("a", tarfile.DIRTYPE, -512) + END,
    "size that lies": extended(record("size", "9" * 11)) + file("a") + END,
    "size that leads back": extended(record("size", "-5120")) + file("a") + END,
    # Too many, too deep, too long
    "deep path": file("/".join("d" * 201)) + END,
    "long name": file("n" * 300) + END,
    "long link": link("a", "l" * 5_000) + END,
    "headers of headers": extended(record("a", "b")) * 2_000 + file("a") + END,
    "headers for all": extended(record("a", "b"), kind=tarfile.XGLTYPE) * 2_000 + file("a") + END,
    "long names of long names": LONG * 2_000 + file("a") + END,
    "header without an end": header("x", tarfile.XHDTYPE, 1 << 40) + END,
    "large header": header("x", tarfile.XHDTYPE, 1_000_000) + padded(b"11 a=bcdef\n" * 90_909) + file("a") + END,
    "large name": header("././@LongLink", tarfile.GNUTYPE_LONGNAME, 1_000_000) + padded(b"a" * 1_000_000) + END,
    "many records for all": b"".join(
        extended(*(record(f"a{part}-{number}", "") for number in range(90)), kind=tarfile.XGLTYPE) + file(f"f{part}")
        for part in range(3)
    )
    + END,
    # Not what they should be
    "digits": extended(record("comment", "1" * 50_000)) + file("a") + END,
    "digits that are no record": extended(b"1" * 60_000) + file("a") + END,
    "record of no length": extended(b"0 a=b\n") + file("a") + END,
    "record beyond its end": extended(b"99 a=b\n") + file("a") + END,
    "record without a value": extended(b"5 ab\n") + file("a") + END,
    "time that is none": extended(record("mtime", "nan")) + file("a") + END,
    "endless time": extended(record("mtime", "1e400")) + file("a") + END,
    "cut in a header": file("a") + header("b")[:100],
    "cut in a file": file("a", bytes(10_000))[:5_000],
    "cut in an extended header": extended(record("path", "b" * 2_000))[:700],
    "compressed": b"\x1f\x8b\x08" + bytes(1021),
    "zip": b"PK\3\4" + bytes(1020),
    "nothing": b"",
}
