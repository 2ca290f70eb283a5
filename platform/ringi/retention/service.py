"""Remove bytes that nothing refers to, never bytes that something is about to refer to.

The bargain with those who write (storage/blobs.py, `hold` and `register`), for one digest:

1. Bytes first, rows second. Whoever refers to a digest holds its lock (shared) from before looking whether it is there until the commit.
2. Rows go first, bytes second, each in a transaction of its own under the digest's lock (alone, and never waited for). Rows are removed only
   if no row refers to the digest, and both row and bytes are older than the grace period: sending the same bytes again renews them.
3. Bytes are removed only where no row names them. A crash between the two leaves bytes without a row, which the next round removes.
4. Who registers after that finds the bytes gone under the lock, and is told to send them again (BlobCollected).

So a row never names bytes that are gone, whichever side is interrupted. Ages of bytes are judged by the store's clock, of rows by the database's.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from ringi.audit import service as audit
from ringi.audit.read_only import AuditReadOnly, open_stop
from ringi.audit.schemas import AuditAction
from ringi.db.session import platform_transaction, transaction
from ringi.identity.permissions import visible
from ringi.kit.actor import Actor, system_actor
from ringi.kit.digests import Digest, parse_digest
from ringi.retention.references import referenced
from ringi.retention.schemas import Amount, CollectionOut, UsageOut
from ringi.settings import get_settings
from ringi.storage.blobs import LOCK_SEED, BlobMissing, BlobStore, StoredObject, get_store
from ringi.storage.models import Blob
from ringi.storage.schemas import StoredKind
from ringi.uploads import sessions
from ringi.uploads.models import Upload, UploadPart, UploadSession
from ringi.uploads.schemas import UploadState

BATCH = 50
# What one request may remove; the relay goes on.
ROUND = 10_000
# Objects of a store that are looked up in the database together.
_LISTED = 500
_UNUSED = f"""
    WITH referenced AS MATERIALIZED ({referenced()})
    SELECT blobs.digest, blobs.size FROM blobs
    WHERE blobs.created_at < :before AND blobs.digest > :after AND NOT EXISTS (SELECT 1 FROM referenced WHERE referenced.digest = blobs.digest)
      AND (CAST(:only AS text[]) IS NULL OR blobs.digest = ANY(CAST(:only AS text[])))
    ORDER BY blobs.digest LIMIT {BATCH}
"""  # noqa: S608  # made of the table of references alone
_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended(:digest, :seed))"


class Removal(NamedTuple):
    """One thing that was removed, or would be; `size` in bytes."""

    kind: StoredKind
    name: str
    size: int


def collect(store: BlobStore, *, grace: timedelta, dry_run: bool = False) -> Iterator[Removal | None]:
    """One round, a step at a time: None where a step removed nothing. Every step is a short transaction of its own."""
    before = store.now() - grace
    if not dry_run:
        with platform_transaction() as session:
            ended = sessions.expire(session)
        sessions.drop(ended)
    yield None
    yield from _unused(store, before, grace=grace, dry_run=dry_run)
    listing = (found for found in store.objects() if found.at < before)
    while batch := list(islice(listing, _LISTED)):
        yield None
        for found in _unknown(batch):
            if dry_run or _removed(store, found, before):
                yield Removal(found.kind, found.name, found.size)


def _unused(store: BlobStore, before: datetime, *, grace: timedelta, dry_run: bool) -> Iterator[Removal | None]:
    """Registered blobs that nothing refers to: their rows, then their bytes."""
    after = ""
    while True:
        with platform_transaction() as session:
            candidates = _unreferenced(session, grace, after=after)
            after = max(candidates, default="")
            old = {digest: size for digest, size in candidates.items() if _is_old(store, digest, before)}
            mine = [digest for digest in old if not dry_run and _locked(session, digest)]
            # Under the locks once more: what was committed while we came here is a reference too.
            gone = [digest for digest in _unreferenced(session, grace, only=mine) if _is_old(store, digest, before)] if mine else []
            _forget(session, gone)
        yield None
        for digest in old if dry_run else gone:
            if dry_run or _removed(store, StoredObject(StoredKind.BLOB, digest, old[digest], before), before):
                yield Removal(StoredKind.BLOB, digest, old[digest])
        if not candidates:
            return


def _unreferenced(session: Session, grace: timedelta, *, after: str = "", only: list[Digest] | None = None) -> dict[Digest, int]:
    """Digest and size of the next registered blobs that nothing refers to and that are older than the grace period by the database's clock."""
    now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    rows = session.execute(text(_UNUSED), {"before": now - grace, "after": after, "only": only})
    return {row.digest: row.size for row in rows}


def _is_old(store: BlobStore, digest: Digest, before: datetime) -> bool:
    try:
        return store.look(digest).at < before
    except BlobMissing:
        return True


def _locked(session: Session, digest: Digest) -> bool:
    """Whether nobody is about to refer to the digest; nobody can begin to until the transaction ends."""
    return bool(session.execute(text(_TRY_LOCK), {"digest": digest, "seed": LOCK_SEED}).scalar_one())


def _forget(session: Session, digests: list[Digest]) -> None:
    """Remove the rows; the log keeps who sent the bytes, and says here that they went."""
    if not digests:
        return
    # unscoped: the platform looks after the store of every organisation.
    senders = session.execute(delete(Upload).where(Upload.digest.in_(digests)).returning(Upload.digest, Upload.organization_id))
    for digest, organization in sorted({(row.digest, row.organization_id) for row in senders}):
        audit.record(
            session, system_actor("housekeeping"), AuditAction.BLOB_COLLECT, object_type="blob", object_id=digest, object_digest=digest,
            organization_id=organization,
        )  # fmt: skip
    session.execute(delete(Blob).where(Blob.digest.in_(digests)))


def _unknown(batch: list[StoredObject]) -> list[StoredObject]:
    """Those of `batch` that no row names. A name that is none of ours is left alone."""
    digests = [found.name for found in batch if found.kind is StoredKind.BLOB]
    parts = [part for found in batch if found.kind is StoredKind.PART and (part := _part_id(found.name))]
    with platform_transaction() as session:
        known = set(session.scalars(select(Blob.digest).where(Blob.digest.in_(digests))))
        known |= {str(part) for part in session.scalars(select(UploadPart.id).where(UploadPart.id.in_(parts)))}
    return [found for found in batch if found.name not in known and _is_ours(found)]


def _is_ours(found: StoredObject) -> bool:
    if found.kind is StoredKind.PART:
        return _part_id(found.name) is not None
    if found.kind is StoredKind.BLOB:
        try:
            parse_digest(found.name)
        except ValueError:
            return False
    return True


def _part_id(name: str) -> UUID | None:
    try:
        return UUID(name)
    except ValueError:
        return None


def _removed(store: BlobStore, found: StoredObject, before: datetime) -> bool:
    """Remove bytes that no row names; False when something names, renews or holds them now."""
    if found.kind is not StoredKind.BLOB:
        # A part's row comes in the request that wrote it, and the rest never has one: older than the grace period means left behind.
        store.remove(found.kind, found.name)
        return True
    with platform_transaction() as session:
        if not _locked(session, found.name) or session.get(Blob, found.name) is not None or not _is_old(store, found.name, before):
            return False
        store.remove(StoredKind.BLOB, found.name)
    return True


def usage(session: Session, actor: Actor) -> UsageOut:
    """What lies in the store, as the database knows it."""
    # Sums of bytes are numeric in PostgreSQL.
    everything = session.execute(select(func.count(), func.coalesce(func.sum(Blob.size), 0))).one()
    sent = visible(actor, Upload).with_only_columns(Upload.digest).distinct().subquery()
    own = session.execute(select(func.count(), func.coalesce(func.sum(Blob.size), 0)).join(sent, sent.c.digest == Blob.digest)).one()
    arriving = visible(actor, UploadSession).where(UploadSession.state == UploadState.OPEN).subquery()
    coming = session.execute(select(func.count(), func.coalesce(func.sum(arriving.c.received), 0))).one()
    return UsageOut(
        store="s3" if (get_settings().blob_url or "").startswith("s3:") else "local", blobs=_amount(*everything), uploaded=_amount(*own),
        open_uploads=_amount(*coming), grace_s=get_settings().orphan_grace_s,
    )  # fmt: skip


def _amount(count: int, size: int) -> Amount:
    return Amount(count=int(count), bytes=int(size))


def collect_now(actor: Actor, *, dry_run: bool) -> CollectionOut:
    """A round at an operator's wish, ended at ROUND removals. Raises AuditReadOnly before anything is removed."""
    with transaction() as session:
        if not dry_run and (why := open_stop(session)) is not None:
            raise AuditReadOnly(why)
    grace_s = get_settings().orphan_grace_s
    steps = (one for one in collect(get_store(), grace=timedelta(seconds=grace_s), dry_run=dry_run) if one is not None)
    # In a dry run nothing goes, so bytes whose row would go first are met once as a blob and never as unknown bytes.
    removed: dict[StoredKind, Amount] = {}
    count = 0
    for count, one in enumerate(islice(steps, ROUND), start=1):  # noqa: B007  # the last count is asked below
        amount = removed.setdefault(one.kind, Amount())
        amount.count, amount.bytes = amount.count + 1, amount.bytes + one.size
    if not dry_run:
        with transaction() as session:
            audit.record(
                session, actor, AuditAction.STORAGE_COLLECT, object_type="organization", object_id=str(actor.organization_id), details={"removed": count}
            )  # fmt: skip
    return CollectionOut(dry_run=dry_run, grace_s=grace_s, removed=removed, complete=count < ROUND)
