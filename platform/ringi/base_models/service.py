"""Register base models and revisions, seal them when the fingerprint job is done, and start the comparison with what went before."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, joinedload

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.base_models.models import BaseModel, BaseRevision
from ringi.base_models.schemas import RevisionState
from ringi.events.catalogue import bases as bases_events
from ringi.events.emission import emit
from ringi.identity.permissions import visible
from ringi.jobs import service as jobs
from ringi.jobs.contracts.base_models import CompareBasesPayload, ComparedBase, FingerprintPayload, FingerprintResult
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.contracts.parts import BaseRef, FileRef, as_document
from ringi.jobs.models import Job
from ringi.jobs.schemas import OPEN
from ringi.kit.actor import Actor, ActorKind, system_actor
from ringi.kit.digests import hex_of, sha256_json
from ringi.kit.errors import Conflict, InvalidInput, NotFound
from ringi.kit.ids import uuid7
from ringi.storage import blobs
from ringi.storage.blobs import StoredBlob
from ringi.uploads import service as uploads
from ringi.uploads.schemas import UploadedFile
from ringi.web.selectors import Moment, digest_start, moment_of, number_of


class BaseModelExists(Conflict):
    """The name is in use."""

    code = "base_model_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is already a base model named '{name}'.", next_step="Register a revision of it instead.")


class BaseFilesIncomplete(InvalidInput):
    """A base needs its config and its weights as safetensors."""

    code = "base_files_incomplete"

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(
            f"A base model revision needs {' and '.join(missing)}.",
            next_step="Save it with save_pretrained(..., safe_serialization=True) and upload the whole folder.",
        )


class RevisionNotSealed(Conflict):
    """The revision's fingerprint is not computed, or its files were refused."""

    code = "base_revision_not_sealed"

    def __init__(self, revision: BaseRevision) -> None:
        super().__init__(
            f"Revision r{revision.number} is '{revision.state}', not sealed.",
            next_step=f"Follow its job {revision.job_id}: ringi jobs show.",
        )


def create(session: Session, actor: Actor, *, name: str, description: str) -> BaseModel:
    """A new base model without revisions."""
    if session.scalar(visible(actor, BaseModel).where(BaseModel.name == name)) is not None:
        raise BaseModelExists(name)
    base = BaseModel(organization_id=actor.organization_id, name=name, description=description)
    session.add(base)
    session.flush()  # base.id goes into the audit event
    audit.record(session, actor, AuditAction.BASE_MODEL_CREATE, object_type="base_model", object_id=base.id)
    emit(session, bases_events.BaseCreated(base=name, base_id=base.id), organization_id=base.organization_id)
    return base


def find(session: Session, actor: Actor, name: str) -> BaseModel:
    """A base model by name."""
    base = session.scalars(visible(actor, BaseModel).where(BaseModel.name == name)).one_or_none()
    if base is None:
        raise NotFound("base model", name)
    return base


def find_revision(session: Session, actor: Actor, *, base: BaseModel, selector: str = "latest") -> BaseRevision:
    """A revision by `r2`, `latest` (the newest sealed one), a 40-hex commit or a digest; `latest@TIME` is what was that then."""
    query = (
        visible(actor, BaseRevision)
        .where(BaseRevision.base_model_id == base.id)
        .options(joinedload(BaseRevision.base_model), joinedload(BaseRevision.job))
    )
    if (number := number_of(selector, "r")) is not None:
        query = query.where(BaseRevision.number == number)
    elif (digest := digest_start(selector)) is not None:
        query = query.where(BaseRevision.digest.startswith(digest, autoescape=True))
    else:
        query = _latest(query, base, moment_of(selector))
    revision = session.scalars(query).one_or_none()
    if revision is None:
        raise NotFound("base revision", f"{base.name}:{selector}")
    return revision


def _latest(query: Select[BaseRevision], base: BaseModel, moment: Moment) -> Select[BaseRevision]:
    if moment.word != "latest":
        raise NotFound("base revision", f"{base.name}:{moment.word}")
    if moment.at is not None:
        # A revision is sealed by its job, in the transaction that ends it.
        query = query.join(Job, Job.id == BaseRevision.job_id).where(Job.finished_at <= moment.at)
    return query.where(BaseRevision.state == RevisionState.SEALED).order_by(BaseRevision.number.desc()).limit(1)


def sealed_revision(session: Session, actor: Actor, *, base: BaseModel, selector: str) -> BaseRevision:
    """A revision that can be trained on and evaluated with; raises RevisionNotSealed."""
    revision = find_revision(session, actor, base=base, selector=selector)
    if revision.state != RevisionState.SEALED:
        raise RevisionNotSealed(revision)
    return revision


def reference(revision: BaseRevision) -> BaseRef:
    """The revision as payloads name it."""
    base = revision.base_model
    return BaseRef(
        name=base.name, repository=base.repository, revision=revision.number, commit=revision.commit, digest=revision.digest,
        files=tuple(FileRef.model_validate(file) for file in revision.files),
    )  # fmt: skip


def tree_digest(files: Sequence[FileRef]) -> str:
    """The digest of a folder: SHA-256 of the canonical JSON of its files, sorted by path."""
    return sha256_json(
        [{"path": file.path, "size": file.size, "sha256": hex_of(file.digest)} for file in sorted(files, key=lambda file: file.path)]
    )


def register_revision(session: Session, actor: Actor, *, base: BaseModel, files: Sequence[UploadedFile], note: str) -> BaseRevision:
    """A pending revision and the job that fingerprints it; equal bytes give the revision that exists."""
    refs = uploads.claim_files(session, actor, files)
    names = {ref.path for ref in refs}
    missing = [
        what
        for what, there in (("config.json", "config.json" in names), ("*.safetensors", any(n.endswith(".safetensors") for n in names)))
        if not there
    ]
    if missing:
        raise BaseFilesIncomplete(missing)
    digest = tree_digest(refs)
    # unscoped: the caller holds the base already. Its row is the lock: two registrations at once get two numbers, or the same revision.
    session.execute(select(BaseModel.id).where(BaseModel.id == base.id).with_for_update())
    same = visible(actor, BaseRevision).where(BaseRevision.base_model_id == base.id, BaseRevision.digest == digest)
    existing = session.scalars(same.options(joinedload(BaseRevision.base_model), joinedload(BaseRevision.job))).one_or_none()
    # A pending revision whose job was cancelled, or gave up, would stay pending for ever: it is tried again like a refused one.
    if existing is not None and (existing.state == RevisionState.SEALED or existing.job.state in OPEN):
        return existing
    newest = session.scalar(select(func.max(BaseRevision.number)).where(BaseRevision.base_model_id == base.id))
    number = existing.number if existing else (newest or 0) + 1
    revision_id = existing.id if existing else uuid7()
    job = jobs.enqueue(
        session, actor, JobKind.FINGERPRINT, FingerprintPayload(revision_id=revision_id, files=refs), subject=f"base {base.name}:r{number}",
        project_id=None, exclusive_key=f"base:{base.id}:{number}",
    )  # fmt: skip
    revision = existing or BaseRevision(
        id=revision_id, organization_id=base.organization_id, base_model_id=base.id, number=number, digest=digest,
        files=[as_document(ref) for ref in refs], note=note, created_by=actor.id, parts={}, job_id=job.id,
    )  # fmt: skip
    revision.state, revision.job_id = RevisionState.PENDING, job.id
    revision.base_model, revision.job = base, job
    session.add(revision)
    session.flush()  # created_at goes into the answer
    audit.record(
        session, actor, AuditAction.BASE_MODEL_REVISION_REGISTER, object_type="base_revision", object_id=revision.id, object_digest=digest,
        details={"number": number},
    )  # fmt: skip
    arrived = bases_events.BaseRevisionRegistered(revision=f"{base.name}:r{number}", revision_id=revision.id, digest=digest, job_id=job.id)
    emit(session, arrived, organization_id=base.organization_id)
    return revision


def complete(session: Session, job: Job, result: FingerprintResult) -> None:
    """Seal the revision and compare it with every earlier sealed one."""
    # unscoped: the platform itself seals, on behalf of a job that was authorised when it was started.
    # The base's row is the lock: of two revisions that end their fingerprints at once, the second sees the first and is compared with it.
    own = select(BaseRevision.base_model_id).where(BaseRevision.job_id == job.id)
    session.execute(select(BaseModel.id).where(BaseModel.id == own.scalar_subquery()).with_for_update())
    revision = session.scalars(select(BaseRevision).where(BaseRevision.job_id == job.id).with_for_update()).one()
    for part in (result.f1_document, result.tensors):
        blobs.register(session, StoredBlob(part.digest, part.size))
    revision.parts = {
        "F1": result.f1, "F2": result.f2, "f1_document": as_document(result.f1_document), "tensors": as_document(result.tensors),
    }  # fmt: skip
    revision.facts = as_document(result.facts)
    revision.state = RevisionState.SEALED
    job.produced = job.subject.removeprefix("base ")
    actor = Actor(kind=ActorKind.SYSTEM, id=UUID(int=0), name="worker", organization_id=revision.organization_id)
    audit.record(
        session, actor, AuditAction.BASE_MODEL_REVISION_SEAL, object_type="base_revision", object_id=revision.id, object_digest=revision.digest,
        details={"f1": result.f1, "f2": result.f2, "job": str(job.id)},
    )  # fmt: skip
    sealed = bases_events.BaseRevisionSealed(revision=job.produced, revision_id=revision.id, digest=revision.digest, job_id=job.id)
    emit(session, sealed, organization_id=revision.organization_id)
    earlier = select(BaseRevision).where(
        BaseRevision.base_model_id == revision.base_model_id, BaseRevision.id != revision.id, BaseRevision.state == RevisionState.SEALED
    )
    for old in session.scalars(earlier).all():
        first, second = sorted((old, revision), key=lambda one: one.number)
        payload = CompareBasesPayload(base_model_id=revision.base_model_id, old=_compared(first), new=_compared(second))
        jobs.enqueue(
            session, actor, JobKind.COMPARE_BASES, payload, subject=f"base r{first.number} -> r{second.number}", project_id=None,
            exclusive_key=f"compare:{first.id}:{second.id}",
        )  # fmt: skip


def refused(session: Session, job: Job) -> None:
    """The fingerprint job failed for good: the revision can be registered again with other files."""
    # unscoped: the platform itself ends what was authorised when it was started.
    revision = session.scalars(select(BaseRevision).where(BaseRevision.job_id == job.id).with_for_update()).one_or_none()
    if revision is not None and revision.state == RevisionState.PENDING:
        revision.state = RevisionState.REFUSED
        audit.record(
            session, system_actor("worker"), AuditAction.BASE_MODEL_REVISION_REFUSE, object_type="base_revision", object_id=revision.id,
            object_digest=revision.digest, organization_id=revision.organization_id,
            details={"code": (job.error or {}).get("code"), "job": str(job.id)},
        )  # fmt: skip
        name, code = job.subject.removeprefix("base "), (job.error or {}).get("code", "unknown")
        told = bases_events.BaseRevisionRefused(revision=name, revision_id=revision.id, digest=revision.digest, job_id=job.id, code=code)
        emit(session, told, organization_id=revision.organization_id)


def _compared(revision: BaseRevision) -> ComparedBase:
    return ComparedBase(
        revision_id=revision.id, revision=revision.number, f1=revision.parts["F1"], f2=revision.parts["F2"],
        f1_document=FileRef.model_validate(revision.parts["f1_document"]), tensors=FileRef.model_validate(revision.parts["tensors"]),
        files=tuple(FileRef.model_validate(file) for file in revision.files),
    )  # fmt: skip
