"""Record an upload, and turn the files that a request names into references to stored bytes."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.jobs.contracts.parts import FileRef
from ringi.kit.actor import Actor
from ringi.kit.errors import InvalidInput
from ringi.storage import blobs
from ringi.storage.blobs import StoredBlob
from ringi.storage.models import Blob
from ringi.uploads.models import Upload
from ringi.uploads.paths import check_safe
from ringi.uploads.schemas import UploadedFile


class NotUploaded(InvalidInput):
    """The caller never sent these bytes."""

    code = "file_not_uploaded"

    def __init__(self, paths: Sequence[str]) -> None:
        super().__init__(
            f"You have not uploaded the content of: {', '.join(paths)}.",
            next_step="Send each file first (POST /api/v1/uploads), then name it by the digest of the answer.",
            details={"paths": list(paths)},
        )


def receive(session: Session, actor: Actor, stored: StoredBlob) -> None:
    """The caller sent `stored`; the same bytes again change nothing."""
    blobs.register(session, stored)
    new = session.scalar(
        insert(Upload)
        .values(user_id=actor.id, organization_id=actor.organization_id, digest=stored.digest)
        .on_conflict_do_nothing()
        .returning(Upload.id)
    )
    if new is not None:
        audit.record(session, actor, AuditAction.UPLOAD_STORE, object_type="blob", object_id=stored.digest, object_digest=stored.digest)


def claim_files(session: Session, actor: Actor, files: Sequence[UploadedFile]) -> tuple[FileRef, ...]:
    """References to the caller's own uploads, sorted by path; raises UploadPathUnsafe, and NotUploaded for what others sent."""
    # Workers write these files under their paths.
    check_safe(file.path for file in files)
    digests = {file.digest for file in files}
    blobs.hold(session, digests)  # first the lock, then the look: what is found now stays until the references are committed
    rows = session.execute(
        select(Blob.digest, Blob.size)
        .join(Upload, Upload.digest == Blob.digest)
        .where(Upload.user_id == actor.id, Blob.digest.in_(digests))
    )
    sizes: dict[str, int] = {row.digest: row.size for row in rows}
    if missing := [file.path for file in files if file.digest not in sizes]:
        raise NotUploaded(missing)
    return tuple(FileRef(path=file.path, size=sizes[file.digest], digest=file.digest) for file in sorted(files, key=lambda file: file.path))
