"""POST /uploads: the body is the file. It streams to the store in pieces, so memory does not grow with it.

Files of many gigabytes come in parts instead: session_endpoints.py.
"""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from ringi.db.session import transaction
from ringi.identity.dependencies import allowed_beforehand
from ringi.identity.permissions import Permission
from ringi.kit.actor import Actor
from ringi.kit.digests import CHUNK_BYTES, Digest
from ringi.kit.errors import Forbidden, Unauthenticated
from ringi.settings import get_settings
from ringi.storage.blobs import DigestMismatch, StoredBlob, StoreFull, StoreUnavailable, UploadTooLarge, get_store
from ringi.uploads import service
from ringi.uploads.schemas import UploadOut
from ringi.web.errors import responses
from ringi.web.route import ApiRoute

router = APIRouter(
    route_class=ApiRoute,
    tags=["uploads"],
    responses=responses(Unauthenticated, Forbidden, DigestMismatch, UploadTooLarge, StoreUnavailable, StoreFull),
)
STREAMED_BODY = {"requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}}


async def pieces(request: Request) -> AsyncIterator[bytes]:
    """The request's body in pieces of about a MiB: each costs the store a turn of a thread."""
    waiting = bytearray()
    try:
        async for piece in request.stream():
            waiting += piece
            if len(waiting) >= CHUNK_BYTES:
                yield bytes(waiting)
                waiting.clear()
    except ClientDisconnect:
        # An upload in parts keeps what came before the cut.
        yield bytes(waiting)
        raise
    if waiting:
        yield bytes(waiting)


async def _received(request: Request, expected: Digest | None) -> StoredBlob:
    # A request body can be streamed in async code alone. Disk and network work stays in threads.
    limit = get_settings().max_upload_bytes
    announced = request.headers.get("content-length")
    if announced is not None and int(announced) > limit:
        raise UploadTooLarge(limit)
    writer = await run_in_threadpool(get_store().writer, expected)
    size = 0
    try:
        async for piece in pieces(request):
            size += len(piece)
            if size > limit:
                raise UploadTooLarge(limit)
            await run_in_threadpool(writer.write, piece)
        return await run_in_threadpool(writer.seal)
    finally:
        await run_in_threadpool(writer.abort)


@router.post("/uploads", status_code=201, openapi_extra=STREAMED_BODY)
async def upload(
    request: Request,
    actor: Annotated[Actor, allowed_beforehand(Permission.UPLOAD)],
    x_content_digest: Annotated[Digest | None, Header(description="Digest the content must have")] = None,
) -> UploadOut:
    """Store one file; answers with its digest."""
    stored = await _received(request, x_content_digest)
    await run_in_threadpool(_record, actor, stored)
    return UploadOut(digest=stored.digest, size=stored.size)


def _record(actor: Actor, stored: StoredBlob) -> None:
    with transaction() as session:
        service.receive(session, actor, stored)
