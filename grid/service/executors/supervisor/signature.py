"""The signature of a record: that a supervisor has written it, and no script."""

from __future__ import annotations

import binascii

try:  # not `hashlib`, which loads OpenSSL: 4 MB in a process that is forked for each experiment
    from _sha2 import sha256  # type: ignore[import-not-found]
except ImportError:
    try:
        from _sha256 import sha256  # type: ignore[import-not-found] # Python 3.11
    except ImportError:
        from hashlib import sha256

LENGTH = 16
"""Characters: 96 bits in base64url."""

_BLOCK = 64
_BITS = 96
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def signature(key: bytes, record: bytes) -> bytes:
    """Return the HMAC-SHA-256 (RFC 2104) of a record, cut to 96 bits, in base64url.

    Parameters
    ----------
    key
        At most 64 bytes.
    record
        What is signed.
    """
    padded = key.ljust(_BLOCK, b"\0")
    inner = sha256(bytes(byte ^ 0x36 for byte in padded) + record).digest()
    outer = sha256(bytes(byte ^ 0x5C for byte in padded) + inner).digest()
    return binascii.b2a_base64(outer[: _BITS // 8], newline=False).translate(_URL_SAFE)
