"""Events of base models and their revisions."""

from uuid import UUID

from ringi.events.catalogue.data import Code, EventData, JobId, RevisionName
from ringi.kit.digests import Digest


class BaseCreated(EventData):
    """A base model without revisions was created."""

    NAME, TITLE = "base.created", "ベースモデルが作成されました"
    base: str
    base_id: UUID


class _OfRevision(EventData):
    revision: RevisionName
    revision_id: UUID
    digest: Digest
    job_id: JobId


class BaseRevisionRegistered(_OfRevision):
    """The files of a base revision arrived; their fingerprint is being computed."""

    NAME, TITLE = "base.revision.registered", "ベースモデルの改訂が登録されました"


class BaseRevisionSealed(_OfRevision):
    """A base revision has its fingerprint. Adapters of earlier revisions are assessed next: `compatibility.assessed`."""

    NAME, TITLE = "base.revision.sealed", "ベースモデルの改訂が封印されました"


class BaseRevisionRefused(_OfRevision):
    """The files of a base revision were turned away."""

    NAME, TITLE = "base.revision.refused", "ベースモデルの改訂が拒否されました"
    code: Code
