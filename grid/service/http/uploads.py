"""Uploads of snapshots over HTTP: passes requests to the domain, and turns its refusals into HTTP statuses."""

from __future__ import annotations

import logging
import re

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from grid.service.api.context import Service
from grid.service.api.errors import ApiError, translated
from grid.service.domain.errors import DomainError
from grid.service.store.faults import DatabaseUnavailable
from grid.service.system.addresses import AddressExpired, AddressRefused
from grid.shared.wire import ErrorCode

_log = logging.getLogger(__name__)

PATH = re.compile(r"/snapshots/[^/]+")
_STATUS = {ErrorCode.FORBIDDEN: 403, ErrorCode.LIMIT_EXCEEDED: 413, ErrorCode.UNAVAILABLE: 503}


METHODS = ("PUT",)


async def answer(service: Service, request: Request) -> Response:
    """Pass an archive to the snapshots while it arrives, and answer with the outcome.

    Parameters
    ----------
    service
        The service.
    request
        A PUT to an address that matches `PATH`; its query must be the one that `createSnapshot` signed.

    Returns
    -------
    Response
        204 if the archive is stored; otherwise an error in the form of GraphQL's errors.
    """
    try:
        await service.snapshots.receive(
            request.scope["path"].rpartition("/")[2], request.query_params.multi_items(), request.stream()
        )
    except (DomainError, AddressRefused, AddressExpired, DatabaseUnavailable) as error:
        refusal = translated(error)
        if refusal is None:
            raise
        return JSONResponse({"errors": [refusal.formatted]}, status_code=_STATUS.get(refusal.code, 400))
    except OSError as error:
        _log.exception("an upload cannot be stored")
        message = f"the service cannot store the upload: {error.strerror or 'its disk refuses it'}"
        refusal = ApiError(ErrorCode.UNAVAILABLE, message)
        return JSONResponse({"errors": [refusal.formatted]}, status_code=507)
    except ClientDisconnect:
        return Response(status_code=400)  # the client is gone and reads nothing
    return Response(status_code=204)
