"""An upload in parts that survives cut connections and restarts of the API (docs/storage.md).

Each part is sealed in the store under an id of its own, and counts from the moment in which `keep_part` moves the session's offset by
compare-and-set: of two clients that send the same part, one moves it and the other is told the new offset. No lock is held while bytes travel.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Select, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute, Session

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.db.session import get_engine, transaction
from ringi.identity.permissions import visible
from ringi.kit.actor import Actor
from ringi.kit.digests import Digest
from ringi.kit.errors import NotFound, RingiError
from ringi.settings import get_settings
from ringi.storage import blobs
from ringi.storage.blobs import BlobMissing, DigestMismatch, StoredBlob, UploadTooLarge, get_store
from ringi.storage.schemas import StoredKind
from ringi.uploads import service
from ringi.uploads.models import Upload, UploadPart, UploadSession
from ringi.uploads.refusals import TooManyUploads, UploadEnded, UploadFinishing, UploadIncomplete, UploadOffsetMismatch
from ringi.uploads.schemas import UploadState

MAX_OPEN, MAX_PARTS = 100, 10_000
# Each holds a thread and a connection for as long as its file takes.
_JOINS = threading.BoundedSemaphore(4)


def open_session(session: Session, actor: Actor, *, size: int, digest: Digest) -> UploadSession:
    """A new session, or the caller's open one for the same bytes: whoever lost its id, or an answer, asks again and goes on.

    Bytes that the caller finished sending a short time ago are answered with their stored session: they need not be sent again.
    """
    if size > (limit := get_settings().max_upload_bytes):
        raise UploadTooLarge(limit)
    if (stored := _stored(session, actor, size=size, digest=digest)) is not None:
        return stored
    mine = visible(actor, UploadSession).where(UploadSession.user_id == actor.id, UploadSession.state == UploadState.OPEN)
    same = session.scalars(mine.where(UploadSession.digest == digest).with_for_update()).one_or_none()
    if same is not None and same.size == size and not session.scalar(select(_over(same.expires_at))):
        same.expires_at = _expiry()
        session.flush()  # the answer shows the database's time
        session.refresh(same)
        return same
    if same is not None:
        end(session, same)
    elif (session.scalar(select(func.count()).select_from(mine.subquery())) or 0) >= MAX_OPEN:
        raise TooManyUploads("open uploads of this user")
    new = session.scalar(
        insert(UploadSession)
        .values(user_id=actor.id, organization_id=actor.organization_id, digest=digest, size=size, expires_at=_expiry())
        .on_conflict_do_nothing()
        .returning(UploadSession.id)
    )
    found = session.scalars(mine.where(UploadSession.digest == digest)).one()
    if new is not None:
        audit.record(
            session, actor, AuditAction.UPLOAD_OPEN, object_type="upload_session", object_id=found.id, object_digest=digest, details={"bytes": size}
        )  # fmt: skip
    return found


def _stored(session: Session, actor: Actor, *, size: int, digest: Digest) -> UploadSession | None:
    blobs.hold(session, [digest])
    mine = (UploadSession.digest == digest, UploadSession.size == size, UploadSession.state == UploadState.STORED)
    found = session.scalars(listed(actor).where(*mine).order_by(UploadSession.id.desc()).limit(1)).one_or_none()
    if found is None or session.scalar(visible(actor, Upload).where(Upload.user_id == actor.id, Upload.digest == digest)) is None:
        return None
    # Half of the grace period is left at least: time to register them before the collector comes.
    fresh = get_store().now() - timedelta(seconds=get_settings().orphan_grace_s / 2)
    try:
        return found if get_store().look(digest).at > fresh else None
    except BlobMissing:
        return None


def listed(actor: Actor) -> Select[UploadSession]:
    """The caller's sessions."""
    return visible(actor, UploadSession).where(UploadSession.user_id == actor.id)


def find(session: Session, actor: Actor, session_id: UUID) -> UploadSession:
    """One of the caller's sessions."""
    found = session.scalars(listed(actor).where(UploadSession.id == session_id)).one_or_none()
    if found is None:
        raise NotFound("upload", session_id)
    return found


def room(session: Session, actor: Actor, session_id: UUID, *, offset: int) -> UploadSession:
    """The session, if a part may begin at `offset` now; raises UploadEnded, UploadOffsetMismatch and TooManyUploads."""
    found = find(session, actor, session_id)
    if found.state != UploadState.OPEN or session.scalar(select(_over(found.expires_at))):
        raise UploadEnded(found)
    if found.received != offset:
        raise UploadOffsetMismatch(found, offset)
    parts = session.scalar(select(func.count()).where(UploadPart.session_id == found.id))
    if (parts or 0) >= MAX_PARTS:
        raise TooManyUploads("parts of this upload")
    return found


def keep_part(session: Session, actor: Actor, session_id: UUID, *, offset: int, part: UUID, size: int) -> UploadSession:
    """From the commit of this on the part's bytes are acknowledged. Raises what `room` raises when someone else was faster."""
    here = (UploadSession.id == session_id, UploadSession.state == UploadState.OPEN, UploadSession.received == offset)
    moved = session.scalars(
        update(UploadSession).where(*here).values(received=offset + size, expires_at=_expiry()).returning(UploadSession)
    ).one_or_none()
    if moved is None:
        return room(session, actor, session_id, offset=offset)
    session.add(UploadPart(id=part, session_id=session_id, start=offset, size=size))
    session.flush()  # the unique start of a part is checked before the answer
    return moved


def end(session: Session, found: UploadSession) -> list[UUID]:
    """Give an open session up; returns the ids of its parts, which the store may drop once this is committed."""
    found.state = UploadState.ENDED
    session.flush()  # the same user may open another session for the same digest in this transaction
    return _forget_parts(session, found.id)


def give_up(session: Session, actor: Actor, session_id: UUID) -> tuple[UploadSession, list[UUID]]:
    """The same on the caller's demand; asked again it answers the same. Raises UploadEnded for what is stored already."""
    found = session.scalars(listed(actor).where(UploadSession.id == session_id).with_for_update()).one_or_none()
    if found is None:
        raise NotFound("upload", session_id)
    if found.state == UploadState.ENDED:
        return found, []
    if found.state != UploadState.OPEN:
        raise UploadEnded(found)
    audit.record(session, actor, AuditAction.UPLOAD_END, object_type="upload_session", object_id=found.id, object_digest=found.digest)
    return found, end(session, found)


def expire(session: Session, *, batch: int = 100) -> list[UUID]:
    """End sessions that nobody went on with; returns the ids of their parts."""
    # unscoped: the platform looks after every session.
    over = select(UploadSession).where(UploadSession.state == UploadState.OPEN, _over(UploadSession.expires_at))
    found = session.scalars(over.limit(batch).with_for_update(skip_locked=True)).all()
    return [part for one in found for part in end(session, one)]


def finish(actor: Actor, session_id: UUID) -> StoredBlob:
    """Join the parts, check the digest and seal; again, it answers the same. Short transactions of its own: joining takes as long as the file.

    Raises UploadIncomplete, UploadEnded, UploadFinishing, DigestMismatch (the session is over then) and what the store raises (it stays open then).
    """
    with _alone(session_id):
        return _finish(actor, session_id)


@contextmanager
def _alone(session_id: UUID) -> Iterator[None]:
    """A file is read and written once more to be joined: by one request at a time, and by few of a process."""
    if not _JOINS.acquire(blocking=False):
        raise UploadFinishing
    try:
        # The lock goes with its connection: a process that is killed leaves nothing behind that is "finishing" for ever.
        with get_engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            lock = int.from_bytes(session_id.bytes[-8:], "big", signed=True)
            if not connection.scalar(select(func.pg_try_advisory_lock(lock))):
                raise UploadFinishing
            try:
                yield
            finally:
                connection.execute(select(func.pg_advisory_unlock(lock)))
    finally:
        _JOINS.release()


def _finish(actor: Actor, session_id: UUID) -> StoredBlob:
    with transaction() as session:
        found = find(session, actor, session_id)
        if found.state == UploadState.STORED:
            return StoredBlob(found.digest, found.size)
        if found.state != UploadState.OPEN:
            raise UploadEnded(found)
        if found.received != found.size:
            raise UploadIncomplete(found)
        parts = list(session.scalars(select(UploadPart.id).where(UploadPart.session_id == found.id).order_by(UploadPart.start)))
    try:
        stored = blobs.put(get_store(), _joined(parts), expected=found.digest)
    except DigestMismatch:
        with suppress(UploadEnded), transaction() as session:
            give_up(session, actor, session_id)
        drop(parts)
        raise
    except BlobMissing:
        # The parts are gone: a second client has finished the session meanwhile, or ended it.
        with transaction() as session:
            found = find(session, actor, session_id)
        if found.state == UploadState.OPEN:
            raise
        if found.state == UploadState.ENDED:
            raise UploadEnded(found) from None
        return StoredBlob(found.digest, found.size)
    with transaction() as session:
        service.receive(session, actor, stored)
        closing = update(UploadSession).where(UploadSession.id == session_id, UploadSession.state == UploadState.OPEN)
        session.execute(closing.values(state=UploadState.STORED))
        parts = _forget_parts(session, session_id)
    drop(parts)
    return stored


def _joined(parts: list[UUID]) -> Iterator[bytes]:
    for part in parts:
        yield from get_store().open_part(part)


def _forget_parts(session: Session, session_id: UUID) -> list[UUID]:
    return list(session.scalars(delete(UploadPart).where(UploadPart.session_id == session_id).returning(UploadPart.id)))


def drop(parts: list[UUID]) -> None:
    """Remove parts that no row names any more; what the store does not remove now, housekeeping does."""
    for part in parts:
        with suppress(RingiError, OSError):
            get_store().remove(StoredKind.PART, str(part))


def _expiry() -> ColumnElement[datetime]:
    return func.clock_timestamp() + timedelta(seconds=get_settings().upload_session_s)


def _over(expires_at: datetime | InstrumentedAttribute[datetime]) -> ColumnElement[bool]:
    return func.clock_timestamp() > expires_at
