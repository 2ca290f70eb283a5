"""Create adapters, find versions by any reference, and seal versions. What may be sealed is decided in `admission.py`."""

import io
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, joinedload
from sqlalchemy.sql.base import ExecutableOption

from ringi.adapters import admission, as_of, config_gate, weights
from ringi.adapters import files as adapter_files
from ringi.adapters.admission import AdapterRefused
from ringi.adapters.labels import CLASSIFIES, LABELS, MAX_LABELS_BYTES, AdapterLabelsMissing, parse_labels
from ringi.adapters.manifest import FORMATS, Manifest
from ringi.adapters.models import Adapter, AdapterVersion, ChannelHead
from ringi.adapters.schemas import VersionSource
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.base_models import service as base_models
from ringi.base_models.models import BaseModel, BaseRevision
from ringi.events.catalogue import adapters as adapters_events
from ringi.events.emission import emit
from ringi.identity.models import Project
from ringi.identity.permissions import visible
from ringi.jobs import service as jobs
from ringi.jobs.contracts.adapters import AdapterFacts, EffectFacts, InspectPayload, InspectResult
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.contracts.parts import AdapterRef, BaseRef, FileRef, as_document
from ringi.jobs.models import Job
from ringi.kit.actor import Actor, system_actor
from ringi.kit.digests import hex_of, sha256_json
from ringi.kit.errors import Conflict, NotFound
from ringi.kit.ids import uuid7
from ringi.quotas import service as quotas
from ringi.storage import blobs
from ringi.storage.blobs import StoredBlob
from ringi.uploads import service as uploads
from ringi.uploads.schemas import UploadedFile
from ringi.web.selectors import Moment, digest_start, moment_of, number_of

CONFIG_LIMIT_BYTES = 1024 * 1024
_HEAD_BYTES = 512


class AdapterExists(Conflict):
    """The name is in use."""

    code = "adapter_exists"

    def __init__(self, reference: str) -> None:
        super().__init__(f"There is already an adapter '{reference}'.", next_step="Train or register a version of it instead.")


def create(session: Session, actor: Actor, *, project: Project, name: str, base: BaseModel, description: str) -> Adapter:
    """A new adapter without versions."""
    if session.scalar(visible(actor, Adapter).where(Adapter.project_id == project.id, Adapter.name == name)) is not None:
        raise AdapterExists(f"{project.name}/{name}")
    adapter = Adapter(
        project_id=project.id,
        project=project,
        name=name,
        base_model_id=base.id,
        base_model=base,
        description=description,
        created_by=actor.id,
    )
    session.add(adapter)
    session.flush()  # adapter.id goes into the audit event
    audit.record(session, actor, AuditAction.ADAPTER_CREATE, object_type="adapter", object_id=adapter.id, project_id=project.id)
    emit(session, adapters_events.AdapterCreated(adapter=adapter.reference, adapter_id=adapter.id, base=base.name), project_id=project.id)
    return adapter


def find(session: Session, actor: Actor, *, project: Project, name: str) -> Adapter:
    """An adapter by name."""
    query = visible(actor, Adapter).where(Adapter.project_id == project.id, Adapter.name == name)
    adapter = session.scalars(query.options(joinedload(Adapter.project), joinedload(Adapter.base_model))).one_or_none()
    if adapter is None:
        raise NotFound("adapter", f"{project.name}/{name}")
    return adapter


def find_version(session: Session, actor: Actor, *, adapter: Adapter, selector: str) -> AdapterVersion:
    """A version by `v3`, `latest`, `sha256:…` (manifest), 40-hex commit, or the name of a channel that serves it.

    `latest@TIME` and `channel@TIME` are what these meant then; raises NotFound and BadAsOf.
    """
    query = visible(actor, AdapterVersion).where(AdapterVersion.adapter_id == adapter.id).options(*loads())
    if (number := number_of(selector, "v")) is not None:
        query = query.where(AdapterVersion.number == number)
    elif (digest := digest_start(selector)) is not None:
        query = query.where(AdapterVersion.manifest_digest.startswith(digest, autoescape=True))
    else:
        query = _meant(query, adapter, moment_of(selector))
    version = session.scalars(query).one_or_none()
    if version is None:
        raise NotFound("adapter version", f"{adapter.reference}:{selector}")
    return version


def _meant(query: Select[AdapterVersion], adapter: Adapter, moment: Moment) -> Select[AdapterVersion]:
    if moment.word == "latest":
        known = query if moment.at is None else query.where(AdapterVersion.created_at <= moment.at)
        return known.order_by(AdapterVersion.number.desc()).limit(1)
    if moment.at is not None:
        return query.where(AdapterVersion.id == as_of.served(adapter.id, channel=moment.word, at=moment.at).scalar_subquery())
    # unscoped: the caller holds the adapter already.
    head = select(ChannelHead.version_id).where(ChannelHead.adapter_id == adapter.id, ChannelHead.channel == moment.word)
    return query.where(AdapterVersion.id == head.scalar_subquery())


def loads() -> list[ExecutableOption]:
    """What rendering a version needs beside its own row."""
    return [
        joinedload(AdapterVersion.adapter).options(joinedload(Adapter.project), joinedload(Adapter.base_model)),
        joinedload(AdapterVersion.base_revision).options(joinedload(BaseRevision.base_model)),
    ]


def reference(version: AdapterVersion) -> AdapterRef:
    """The version as payloads name it."""
    return AdapterRef(
        name=f"{version.adapter.reference}:v{version.number}", manifest_digest=version.manifest_digest,
        files=tuple(FileRef.model_validate(file) for file in version.files),
    )  # fmt: skip


def register(session: Session, actor: Actor, *, adapter: Adapter, files: Sequence[UploadedFile], base_revision: str) -> Job:
    """Check what can be checked from headers now, and start the job that checks the rest and seals."""
    adapter_files.check_paths([file.path for file in files])
    refs = uploads.claim_files(session, actor, files)
    revision = base_models.sealed_revision(session, actor, base=adapter.base_model, selector=base_revision)
    base = base_models.reference(revision)
    check_content(refs, base)
    payload = InspectPayload(adapter_id=adapter.id, adapter_name=adapter.reference, base=base, files=refs)
    # Many versions of an adapter may be on their way at once (they are numbered when sealed), but not the same one twice.
    same = hex_of(sha256_json([base.digest, [[ref.path, ref.digest] for ref in refs]]))
    job = jobs.enqueue(
        session, actor, JobKind.INSPECT, payload, subject=f"adapter {adapter.reference}", project_id=adapter.project_id,
        exclusive_key=f"inspect:{adapter.id}:{same}", adds_bytes=sum(ref.size for ref in refs),
    )  # fmt: skip
    audit.record(
        session, actor, AuditAction.ADAPTER_VERSION_REGISTER, object_type="adapter", object_id=adapter.id, project_id=adapter.project_id,
        details={"job": str(job.id), "base_revision": str(revision.id)},
    )  # fmt: skip
    return job


def check_content(refs: Sequence[FileRef], base: BaseRef) -> None:
    """Config, labels and weights header, read in bounded memory; raises the coded refusals of `config_gate`, `labels` and `weights`."""
    store = blobs.get_store()
    by_path = {ref.path: ref for ref in refs}
    config = blobs.read_all(store, by_path["adapter_config.json"].digest, limit=CONFIG_LIMIT_BYTES)
    if config_gate.check_config(config, expected_base=base.repository, expected_commit=base.commit).task_type == CLASSIFIES:
        if LABELS not in by_path:
            raise AdapterLabelsMissing
        parse_labels(blobs.read_all(store, by_path[LABELS].digest, limit=MAX_LABELS_BYTES))
    tensors = by_path["adapter_model.safetensors"]
    # Eight bytes give the header's length, the header follows: the weights themselves are not read here.
    head = b"".join(store.open(tensors.digest, end=min(tensors.size, weights.ADAPTER_LIMITS.max_header_bytes + 8)))
    weights.read_header(io.BytesIO(head), file_size=tensors.size)
    for ref in refs:
        adapter_files.check_content(ref.path, b"".join(store.open(ref.digest, end=min(ref.size, _HEAD_BYTES))))


def complete_inspection(session: Session, job: Job, result: InspectResult) -> AdapterVersion:
    """Seal what the inspection job found fit; raises AdapterRefused otherwise."""
    payload = InspectPayload.model_validate(job.payload)
    return register_version(
        session, job, adapter_id=payload.adapter_id, adapter_name=payload.adapter_name, base=payload.base, files=result.files, facts=result.facts, effect=result.effect,
        runtime=result.runtime, source=VersionSource.REGISTERED,
    )  # fmt: skip


def register_version(  # a version is made of exactly these
    session: Session, job: Job, *, adapter_id: UUID, adapter_name: str, base: BaseRef, files: tuple[FileRef, ...], facts: AdapterFacts, effect: EffectFacts,
    runtime: dict[str, str], source: VersionSource,
) -> AdapterVersion:  # fmt: skip
    """Seal a version, in the transaction that ends its job; equal files give the version that exists. Raises AdapterRefused."""
    if refusals := admission.refusals(facts, effect):
        raise AdapterRefused(refusals)
    manifest = Manifest.of(
        files, base_name=base.repository, base_revision=base.revision, base_digest=base.digest, format=FORMATS[facts.peft_type]
    )
    # unscoped: the platform itself seals, on behalf of a job that was authorised when it was started. The row lock numbers versions.
    session.execute(select(Adapter.id).where(Adapter.id == adapter_id).with_for_update(key_share=True))
    same = select(AdapterVersion).where(AdapterVersion.adapter_id == adapter_id, AdapterVersion.manifest_digest == manifest.digest)
    if (existing := session.scalars(same).one_or_none()) is not None:
        job.produced = f"{adapter_name}:v{existing.number}"
        return existing
    for ref in files:
        blobs.register(session, StoredBlob(ref.digest, ref.size))
    quotas.note_bytes(session, job.project_id, ((ref.digest, ref.size) for ref in files))
    # Two bases of an organisation may hold the same bytes, so the digest alone is not enough.
    revision = session.scalars(
        select(BaseRevision)
        .join(BaseRevision.base_model)
        .where(BaseModel.organization_id == job.organization_id, BaseModel.name == base.name, BaseRevision.number == base.revision)
    ).one()
    newest = session.scalar(select(func.max(AdapterVersion.number)).where(AdapterVersion.adapter_id == adapter_id))
    version = AdapterVersion(
        id=uuid7(), project_id=job.project_id, adapter_id=adapter_id, number=(newest or 0) + 1, source=source, manifest_digest=manifest.digest,
        manifest=manifest.canonical, files=[as_document(ref) for ref in files], base_revision_id=revision.id, facts=as_document(facts),
        effect=as_document(effect), runtime=dict(runtime), job_id=job.id, created_by=job.created_by,
    )  # fmt: skip
    # The event comes first: the row is written once, with the event's id, and the application may never change it again.
    version.audit_event_id = audit.record(
        session, system_actor("worker"), AuditAction.ADAPTER_VERSION_SEAL, object_type="adapter_version", object_id=version.id,
        object_digest=manifest.digest, project_id=job.project_id, organization_id=job.organization_id, record=version_record(version),
        details={"job": str(job.id), "on_behalf_of": str(job.created_by), "number": version.number, "source": source.value},
    )  # fmt: skip
    session.add(version)
    job.produced = f"{adapter_name}:v{version.number}"
    sealed = adapters_events.AdapterVersionSealed(
        version=job.produced, version_id=version.id, manifest_digest=manifest.digest, source=source.value, job_id=job.id
    )
    emit(session, sealed, project_id=job.project_id)
    session.flush()  # the run that made it names the version
    return version


def version_record(version: AdapterVersion) -> dict[str, str | int]:
    """What the audit log vouches for of a version's row; its state moves have events of their own."""
    return {
        "id": str(version.id), "adapter": str(version.adapter_id), "number": version.number, "manifest_digest": version.manifest_digest,
        "base_revision": str(version.base_revision_id), "source": str(version.source), "created_by": str(version.created_by),
    }  # fmt: skip


def note_refusal(session: Session, job: Job) -> None:
    """A refused adapter leaves an audit event: what was sent, and under which code it was turned away."""
    payload = InspectPayload.model_validate(job.payload)
    weights_ref = next((file for file in payload.files if file.path == "adapter_model.safetensors"), None)
    audit.record(
        session, system_actor("worker"), AuditAction.ADAPTER_VERSION_REFUSE, object_type="adapter", object_id=payload.adapter_id,
        object_digest=weights_ref.digest if weights_ref else None, project_id=job.project_id, organization_id=job.organization_id,
        details={"job": str(job.id), "code": (job.error or {}).get("code", "unknown"), "on_behalf_of": str(job.created_by)},
    )  # fmt: skip
    code = (job.error or {}).get("code", "unknown")
    emit(session, adapters_events.AdapterVersionRefused(adapter=payload.adapter_name, job_id=job.id, code=code), project_id=job.project_id)
