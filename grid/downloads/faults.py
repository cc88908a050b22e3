"""What a download could not get, or not write: it gets everything else, and says it in the end."""

from __future__ import annotations

import errno

from grid.errors import ArtifactNotFound, DownloadFailed

__all__ = ["Faults", "FileFault", "is_of_one_file"]

_SHOWN = 20
_OF_ONE_FILE = frozenset(
    {
        *(errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR),
        *(errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP, errno.EBUSY, errno.ETXTBSY, errno.EFBIG),
        errno.EXDEV,
    }
)
"""What systems say of one name, or of one file; a full disk, for example, is the end of all."""

FileFault = DownloadFailed | ArtifactNotFound | OSError


def is_of_one_file(error: BaseException) -> bool:
    """Whether an error is about one file alone, so that others can be fetched."""
    if isinstance(error, OSError):
        return error.errno in _OF_ONE_FILE
    return isinstance(error, (DownloadFailed, ArtifactNotFound))


class Faults:
    """Gathers them."""

    def __init__(self) -> None:
        self._all: list[FileFault] = []

    def note(self, error: FileFault) -> None:
        """Note what one file could not be got or written for; raises whatever is not about one file alone."""
        if not is_of_one_file(error):
            raise error
        self._all.append(error)

    def check(self) -> None:
        """Raise one error that names them all.

        Raises
        ------
        DownloadFailed
            If there are any; it comes from the first of them.
        """
        if not self._all:
            return
        reasons = tuple(_reason(error) for error in self._all)
        if len(reasons) == 1:
            raise DownloadFailed(reasons[0], reasons=reasons) from self._all[0]
        lines = [f"{len(reasons):,} files are not downloaded, but all others are:", *reasons[:_SHOWN]]
        if len(reasons) > _SHOWN:
            lines.append(f"and {len(reasons) - _SHOWN:,} more, which are in the error's `reasons`")
        raise DownloadFailed("\n  ".join(lines), reasons=reasons) from self._all[0]


def _reason(error: FileFault) -> str:
    if isinstance(error, OSError):
        return f"{error.filename!r} is not downloaded: {error.strerror}"
    return str(error)
