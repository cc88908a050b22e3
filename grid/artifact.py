"""One file that an experiment leaves behind, as its user holds it. The mapping of them is in ``artifacts_view.py``."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO

from grid.errors import ArtifactNotFound, DownloadFailed
from grid.views import describe_artifact

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from grid.downloads.listing import Page
    from grid.downloads.remote import Remote
    from grid.models import ArtifactRecord
    from grid.session.session import Session

_BLOCK = 1 << 20
"""How many bytes one request reads of a file that is read bit by bit."""


class Artifact:
    """A file that the script of an experiment has made or changed, as it was when it was listed.

    It comes from :attr:`Experiment.artifacts`. What it says does not change; its content is read when it is asked for.

    Examples
    --------
    >>> best = experiment.artifacts["ckpt/best.pt"]  # doctest: +SKIP
    >>> best.size, best.sha256  # doctest: +SKIP
    (44782091, '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08')
    >>> torch.load(best.open())  # doctest: +SKIP
    """

    __slots__ = ("__weakref__", "_page", "_record", "_session", "_sha256")

    def __init__(self, record: ArtifactRecord, page: Page, session: Session) -> None:
        self._record = record
        self._page = page
        self._session = session
        self._sha256 = record.sha256

    @property
    def path(self) -> str:
        """Its path from the working copy, with ``/`` between its parts; ``../`` in front if it lies beside that."""
        return self._record.path

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return int(self._record.size)

    @property
    def modified_at(self) -> datetime:
        """When it was last written to, in UTC."""
        return self._record.modified_at

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of its content in 64 hexadecimal digits; None if it was listed while the script could change it.

        The service computes it when it is first asked for, which takes a while for a large file.

        Raises
        ------
        RequestTimeout
            If the service takes much longer than that.
        """
        if self._sha256 is None:
            from grid.chain import loop  # noqa: PLC0415 - not before the first call

            self._sha256 = loop.run(self._remote().digest(self._record))
        return self._sha256

    def read_bytes(self) -> bytes:
        """Return its content, as it is now.

        Raises
        ------
        ArtifactNotFound
            If it is gone.
        DownloadFailed
            If what arrives is not what the service says it is, or is overwritten again and again meanwhile.
        """
        from grid.chain import loop  # noqa: PLC0415 - not before the first call
        from grid.downloads.names import shown  # noqa: PLC0415
        from grid.downloads.receivers import FileReceiver, Memory, TooLarge  # noqa: PLC0415

        async def read(remote: Remote) -> bytes:
            memory = Memory()
            receiver = FileReceiver(memory, most=self.size if self._page.has_ended else None)
            try:
                if not await remote.receive(self._record, receiver):
                    raise self._gone()
                is_right = await remote.confirms(self._record, receiver.etag, memory.size, memory.sha256)
            except TooLarge:
                is_right = False
            if not is_right:
                message = (
                    f"the content of {self.path!r} of {shown(self._page.whose.name)} is not what the service says it is"
                )
                raise DownloadFailed(message)
            return bytes(memory.content)

        return loop.run(read(self._remote()))

    def open(self) -> BinaryIO:
        """Open it for reading, as ``open(path, "rb")`` does: only what is read is fetched.

        Returns
        -------
        BinaryIO
            A buffered file that can seek. It has the size that the file has when it is first read, or when its end is
            first sought; ``read()`` gets all of that at once. Otherwise 1 MiB is fetched at a time, and if the file is
            changed meanwhile, reading on fails with an `OSError`. That it has only grown makes no difference: what a
            script still appends to is had whole by ``read()``, :meth:`read_bytes` and :meth:`download`.

        Raises
        ------
        ArtifactNotFound
            If it is gone.
        """
        from grid.chain import loop  # noqa: PLC0415 - not before the first call
        from grid.downloads.remote_file import RemoteFile  # noqa: PLC0415

        remote = self._remote()
        found = loop.run(remote.look(self.path)).artifact
        if found is None:
            raise self._gone()
        return io.BufferedReader(RemoteFile(remote, found), _BLOCK)

    def download(self, folder: str | os.PathLike[str]) -> Path:
        """Write it to a folder, as ``<folder>/<experiment>/<path>``; checked, and not at all if it is there already.

        Parameters
        ----------
        folder
            Where to; it is made if it is not there.

        Returns
        -------
        Path
            Where it is.

        Raises
        ------
        ArtifactNotFound
            If it is gone.
        DownloadFailed
            If its path would lead out of the folder, or what arrives is not what the service says it is.
        """
        from grid.downloads.face import fetched  # noqa: PLC0415 - not before the first call
        from grid.session.outages import Lasting  # noqa: PLC0415

        async def alone() -> AsyncGenerator[Page, None]:
            yield replace(self._page, artifacts=(self._record,))

        try:
            paths = fetched(Lasting(self._session), alone(), folder, match=None, progress=False)
        except DownloadFailed as error:
            if isinstance(error.__cause__, ArtifactNotFound):
                raise error.__cause__ from None
            raise
        if not paths:
            raise self._gone()
        return paths[0]

    def _remote(self) -> Remote:
        from grid.downloads.remote import Remote  # noqa: PLC0415 - not before the first call
        from grid.session.outages import Lasting  # noqa: PLC0415

        return Remote(Lasting(self._session), self._page)

    def _gone(self) -> ArtifactNotFound:
        from grid.downloads.names import shown  # noqa: PLC0415 - not before the first call

        return ArtifactNotFound(f"the artifact {self.path!r} of {shown(self._page.whose.name)} no longer exists")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Artifact):
            return NotImplemented
        return self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[object, ...]:
        whose = self._page.whose
        return whose.id, whose.attempt, self._record.path, self._record.etag

    def __repr__(self) -> str:
        return describe_artifact(self._record, self._sha256)
