"""Uploads of snapshots over HTTP: from a request to what the domain keeps, and from its refusals to their statuses."""

from __future__ import annotations

import logging
import re

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from grid.service.api.errors import ApiError, translated
from grid.service.domain.errors import DomainError
from grid.service.domain.snapshots import Snapshots
from grid.service.store.faults import DatabaseUnavailable
from grid.shared.wire import ErrorCode

_log = logging.getLogger(__name__)

PATH = re.compile(r"/snapshots/[^/]+")
_STATUS = {ErrorCode.FORBIDDEN: 403, ErrorCode.LIMIT_EXCEEDED: 413, ErrorCode.UNAVAILABLE: 503}


async def receive(snapshots: Snapshots, request: Request) -> Response:
    """Hand an archive on to the snapshots while it comes, and answer with what became of it.

    Parameters
    ----------
    snapshots
        What keeps it.
    request
        A PUT to an address under `PATH`, whose query should be the one that `createSnapshot` signed.

    Returns
    -------
    Response
        204 where the archive is kept; otherwise an error in the shape of GraphQL's.
    """
    query = request.query_params
    try:
        await snapshots.receive(
            request.scope["path"].rpartition("/")[2],
            query.get("size", ""),
            query.get("expires", ""),
            query.get("signature", ""),
            request.stream(),
        )
    except (DomainError, DatabaseUnavailable) as error:
        refusal = translated(error)
        if refusal is None:
            raise
        return JSONResponse({"errors": [refusal.formatted]}, status_code=_STATUS.get(refusal.code, 400))
    except OSError as error:
        _log.exception("an upload cannot be kept")
        message = f"the service cannot keep the upload: {error.strerror or 'its disk does not take it'}"
        refusal = ApiError(ErrorCode.UNAVAILABLE, message)
        return JSONResponse({"errors": [refusal.formatted]}, status_code=507)
    except ClientDisconnect:
        return Response(status_code=400)  # which nobody reads
    return Response(status_code=204)
