"""An upload in parts: open, send parts with their offset, finish. The offset is the truth, as in tus 1.0; rules in sessions.py.

POST   /uploads/sessions               announce size and digest; the same again answers the open session with its offset
PATCH  /uploads/sessions/{id}          bytes from Upload-Offset on; answers the new offset
GET    /uploads/sessions[/{id}]        where it stands
POST   /uploads/sessions/{id}/finish   join, check, seal
DELETE /uploads/sessions/{id}          give it up
"""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from ringi.db.session import transaction
from ringi.identity.dependencies import allowed, allowed_beforehand
from ringi.identity.permissions import Permission
from ringi.kit.actor import Actor
from ringi.kit.digests import Digest
from ringi.kit.errors import Forbidden, NotFound, RingiError, Unauthenticated
from ringi.kit.ids import uuid7
from ringi.storage.blobs import BlobWriter, DigestMismatch, StoreFull, StoreUnavailable, UploadTooLarge, get_store
from ringi.uploads import sessions
from ringi.uploads.endpoints import STREAMED_BODY, pieces
from ringi.uploads.models import UploadSession
from ringi.uploads.refusals import (
    TooManyUploads,
    UploadEnded,
    UploadFinishing,
    UploadIncomplete,
    UploadLongerThanAnnounced,
    UploadOffsetMismatch,
)
from ringi.uploads.schemas import OpenUpload, UploadOut, UploadSessionOut
from ringi.web.errors import responses
from ringi.web.listing import Listing, column
from ringi.web.paging import Ask, asking, page_of
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(route_class=ApiRoute, tags=["uploads"], responses=responses(Unauthenticated, Forbidden))
Sender = Annotated[Actor, allowed(Permission.UPLOAD)]
SenderBeforehand = Annotated[Actor, allowed_beforehand(Permission.UPLOAD)]
Reader = Annotated[Actor, allowed(Permission.ORGANIZATION_READ)]
# A cut part is kept from this size on, in bytes; smaller ones would only fill the list of parts.
KEPT_OF_A_CUT_PART = 64 * 1024
UPLOADS = Listing(
    "uploads", key=UploadSession.id,
    fields={
        "state": column(UploadSession.state, "How far it is."),
        "size": column(UploadSession.size, "The announced size in bytes."),
        "offset": column(UploadSession.received, "How much has arrived, in bytes."),
        "digest": column(UploadSession.digest, "The announced digest."),
        "created_at": column(UploadSession.created_at, "When it was opened."),
        "expires_at": column(UploadSession.expires_at, "When it is given up."),
    },
)  # fmt: skip


def session_out(found: UploadSession) -> UploadSessionOut:
    """A session as its owner sees it."""
    return UploadSessionOut(
        id=found.id, digest=found.digest, size=found.size, offset=found.received, state=found.state, created_at=found.created_at,
        expires_at=found.expires_at,
    )  # fmt: skip


@router.post("/uploads/sessions", status_code=201, responses=responses(UploadTooLarge, TooManyUploads))
def open_upload(session: SessionDep, actor: Sender, body: OpenUpload) -> UploadSessionOut:
    """Announce a file; your open upload of the same digest and size is answered again, with its offset."""
    return session_out(sessions.open_session(session, actor, size=body.size, digest=body.digest))


@router.get("/uploads/sessions")
def list_uploads(session: SessionDep, actor: Reader, ask: Annotated[Ask, asking(UPLOADS)]) -> Page[UploadSessionOut]:
    """Your uploads in parts, newest first."""
    return page_of(session, sessions.listed(actor), ask, session_out)


@router.get("/uploads/sessions/{session_id}", responses=responses(NotFound))
def get_upload(session: SessionDep, actor: Reader, session_id: UUID) -> UploadSessionOut:
    """One of your uploads; `offset` is where to go on."""
    return session_out(sessions.find(session, actor, session_id))


@router.patch(
    "/uploads/sessions/{session_id}",
    openapi_extra=STREAMED_BODY,
    responses=responses(
        NotFound, UploadOffsetMismatch, UploadEnded, UploadLongerThanAnnounced, DigestMismatch, StoreUnavailable, StoreFull, TooManyUploads
    ),
)
async def append_to_upload(
    request: Request,
    actor: SenderBeforehand,
    session_id: UUID,
    upload_offset: Annotated[int, Header(ge=0, lt=2**63, description="Where the part begins, in bytes: the session's offset")],
    x_content_digest: Annotated[Digest | None, Header(description="Digest the part must have")] = None,
) -> UploadSessionOut:
    """Add bytes. They are kept when this answers; of a part that is cut off, what had arrived is kept too where it carries no digest."""
    found = await run_in_threadpool(_room, actor, session_id, upload_offset)
    part = uuid7()
    writer = await run_in_threadpool(get_store().part_writer, part)
    try:
        size, whole = await _written(request, writer, found)
        if size == 0 or not (whole or (size >= KEPT_OF_A_CUT_PART and x_content_digest is None)):
            return session_out(found)
        return await run_in_threadpool(_keep, actor, session_id, upload_offset, part, writer, x_content_digest)
    finally:
        await run_in_threadpool(writer.abort)


async def _written(request: Request, writer: BlobWriter, found: UploadSession) -> tuple[int, bool]:
    """How many bytes came, and whether they came to their end."""
    size = 0
    try:
        async for piece in pieces(request):
            size += len(piece)
            if size > found.size - found.received:
                raise UploadLongerThanAnnounced(found.size)
            await run_in_threadpool(writer.write, piece)
    except ClientDisconnect:
        return size, False
    return size, True


def _room(actor: Actor, session_id: UUID, offset: int) -> UploadSession:
    with transaction() as session:
        return sessions.room(session, actor, session_id, offset=offset)


def _keep(actor: Actor, session_id: UUID, offset: int, part: UUID, writer: BlobWriter, announced: Digest | None) -> UploadSessionOut:
    stored = writer.seal()
    if announced not in {None, stored.digest}:
        sessions.drop([part])
        raise DigestMismatch(expected=announced or "", found=stored.digest)
    try:
        with transaction() as session:
            return session_out(sessions.keep_part(session, actor, session_id, offset=offset, part=part, size=stored.size))
    except RingiError:
        # A refusal: no row names the part. After a lost commit the row may be there, and the part stays.
        sessions.drop([part])
        raise


@router.post(
    "/uploads/sessions/{session_id}/finish",
    status_code=201,
    responses=responses(NotFound, UploadIncomplete, UploadEnded, UploadFinishing, DigestMismatch, StoreUnavailable, StoreFull),
)
def finish_upload(actor: SenderBeforehand, session_id: UUID) -> UploadOut:
    """Join the parts, check the digest of the whole, and store it. Asked again, it answers the same."""
    stored = sessions.finish(actor, session_id)
    return UploadOut(digest=stored.digest, size=stored.size)


@router.delete("/uploads/sessions/{session_id}", responses=responses(NotFound, UploadEnded))
def end_upload(actor: SenderBeforehand, session_id: UUID) -> UploadSessionOut:
    """Give an upload up; what was sent is removed."""
    with transaction() as session:
        found, parts = sessions.give_up(session, actor, session_id)
        answer = session_out(found)
    sessions.drop(parts)
    return answer
