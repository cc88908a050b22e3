"""Snapshots of source code: announcing one, and where to upload it if it is not stored yet."""

from __future__ import annotations

from ariadne import MutationType

from grid.service.api.context import Info
from grid.service.api.projections import Object, moment
from grid.service.api.resolvers.mutations import to_its_end

_mutation = MutationType()

BINDABLES = (_mutation,)


@_mutation.field("createSnapshot")
@to_its_end
async def _create_snapshot(_: object, info: Info, input: Object) -> Object:  # noqa: A002 - the schema's word
    context = info.context
    upload = await context.service.snapshots.announce(context.user.id, input["digest"], input["sizeBytes"])
    return {
        "digest": input["digest"],
        "stored": upload is None,
        "uploadPath": upload and upload.path,
        "expiresAt": upload and moment(upload.expires_at),
    }
