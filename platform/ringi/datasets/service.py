"""Create datasets, validate uploads in a job, and seal what passed."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.datasets.models import Dataset, DatasetVersion
from ringi.events.catalogue import datasets as datasets_events
from ringi.events.emission import emit
from ringi.identity.models import Project
from ringi.identity.permissions import visible
from ringi.jobs import service as jobs
from ringi.jobs.contracts.datasets import SplitSpec, ValidateDatasetPayload, ValidateDatasetResult
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.models import Job
from ringi.kit.actor import Actor, system_actor
from ringi.kit.digests import Digest, sha256_json
from ringi.kit.errors import Conflict, NotFound
from ringi.quotas import service as quotas
from ringi.storage import blobs
from ringi.storage.blobs import StoredBlob
from ringi.storage.models import Blob
from ringi.uploads import service as uploads
from ringi.uploads.schemas import UploadedFile
from ringi.web.selectors import digest_start, moment_of, number_of


class DatasetExists(Conflict):
    """The name is in use."""

    code = "dataset_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is already a dataset named '{name}' in this project.", next_step="Add a version to it instead.")


def create(session: Session, actor: Actor, *, project: Project, name: str, description: str) -> Dataset:
    """A new dataset without versions."""
    if session.scalar(visible(actor, Dataset).where(Dataset.project_id == project.id, Dataset.name == name)) is not None:
        raise DatasetExists(name)
    dataset = Dataset(project_id=project.id, project=project, name=name, description=description)
    session.add(dataset)
    session.flush()  # dataset.id goes into the audit event
    audit.record(session, actor, AuditAction.DATASET_CREATE, object_type="dataset", object_id=dataset.id, project_id=project.id)
    emit(session, datasets_events.DatasetCreated(dataset=f"{project.name}/{name}", dataset_id=dataset.id), project_id=project.id)
    return dataset


def find(session: Session, actor: Actor, *, project: Project, name: str) -> Dataset:
    """A dataset by name."""
    query = visible(actor, Dataset).where(Dataset.project_id == project.id, Dataset.name == name).options(joinedload(Dataset.project))
    dataset = session.scalars(query).one_or_none()
    if dataset is None:
        raise NotFound("dataset", f"{project.name}/{name}")
    return dataset


def find_version(session: Session, actor: Actor, *, dataset: Dataset, selector: str) -> DatasetVersion:
    """A version by `v3`, `latest` or `sha256:…`; `latest@TIME` is what was the latest then."""
    query = visible(actor, DatasetVersion).where(DatasetVersion.dataset_id == dataset.id).options(joinedload(DatasetVersion.dataset))
    if (number := number_of(selector, "v")) is not None:
        query = query.where(DatasetVersion.number == number)
    elif (digest := digest_start(selector)) is not None:
        query = query.where(DatasetVersion.digest.startswith(digest, autoescape=True))
    else:
        moment = moment_of(selector)
        if moment.word != "latest":
            raise NotFound("dataset version", f"{dataset.name}:{selector}")
        if moment.at is not None:
            query = query.where(DatasetVersion.created_at <= moment.at)
        query = query.order_by(DatasetVersion.number.desc()).limit(1)
    version = session.scalars(query).one_or_none()
    if version is None:
        raise NotFound("dataset version", f"{dataset.name}:{selector}")
    return version


def add_version(session: Session, actor: Actor, *, dataset: Dataset, source: Digest, split: SplitSpec) -> Job | DatasetVersion:
    """The sealed version of the same bytes and split when there is one, else the job that validates and seals."""
    (uploaded,) = uploads.claim_files(session, actor, [UploadedFile(path="source", digest=source)])
    same = visible(actor, DatasetVersion).where(
        DatasetVersion.dataset_id == dataset.id,
        DatasetVersion.source_digest == source,
        DatasetVersion.split == split.model_dump(mode="json"),
    )
    if (existing := session.scalars(same.options(joinedload(DatasetVersion.dataset))).one_or_none()) is not None:
        return existing
    payload = ValidateDatasetPayload(
        dataset_id=dataset.id, version_name=f"{dataset.project.name}/{dataset.name}", source=source, split=split
    )
    job = jobs.enqueue(
        session, actor, JobKind.VALIDATE_DATASET, payload, subject=f"dataset {dataset.project.name}/{dataset.name}", project_id=dataset.project_id,
        # Its source, and the two parts that it is split into, which together are about as large.
        exclusive_key=f"dataset:{dataset.id}", adds_bytes=2 * uploaded.size,
    )  # fmt: skip
    audit.record(
        session, actor, AuditAction.DATASET_VERSION_ADD, object_type="dataset", object_id=dataset.id, object_digest=source,
        project_id=dataset.project_id, details={"job": str(job.id)},
    )  # fmt: skip
    return job


def complete(session: Session, job: Job, result: ValidateDatasetResult) -> None:
    """Seal the version that the validation job made; equal content seals nothing new."""
    payload = ValidateDatasetPayload.model_validate(job.payload)
    for part in (result.train, result.validation):
        blobs.register(session, StoredBlob(part.digest, part.size))
    split = payload.split.model_dump(mode="json")
    digest = sha256_json(
        {
            "source": payload.source, "train": result.train.digest, "validation": result.validation.digest,
            "split": {"seed": payload.split.seed, "validation_fraction": repr(payload.split.validation_fraction)},
        }
    )  # fmt: skip
    # unscoped: the platform itself seals, on behalf of a job that was authorised when it was started.
    session.execute(select(Dataset.id).where(Dataset.id == payload.dataset_id).with_for_update(key_share=True))
    known = select(DatasetVersion.number).where(DatasetVersion.dataset_id == payload.dataset_id, DatasetVersion.digest == digest)
    if (number := session.scalar(known)) is not None:
        job.produced = f"{payload.version_name}:v{number}"
        return
    newest = session.scalar(select(func.max(DatasetVersion.number)).where(DatasetVersion.dataset_id == payload.dataset_id))
    version = DatasetVersion(
        project_id=job.project_id, dataset_id=payload.dataset_id, number=(newest or 0) + 1, digest=digest, source_digest=payload.source, split=split,
        train_digest=result.train.digest, train_size=result.train.size, validation_digest=result.validation.digest,
        validation_size=result.validation.size, report=result.report.model_dump(mode="json"), created_by=job.created_by,
    )  # fmt: skip
    session.add(version)
    source_size = session.scalars(select(Blob.size).where(Blob.digest == payload.source)).one()
    parts = ((result.train.digest, result.train.size), (result.validation.digest, result.validation.size))
    quotas.note_bytes(session, job.project_id, ((payload.source, source_size), *parts))
    session.flush()  # version.id goes into the audit event
    job.produced = f"{payload.version_name}:v{version.number}"
    audit.record(
        session, system_actor("worker"), AuditAction.DATASET_VERSION_SEAL, object_type="dataset_version", object_id=version.id, object_digest=digest,
        project_id=job.project_id, organization_id=job.organization_id, details={"job": str(job.id), "on_behalf_of": str(job.created_by)},
    )  # fmt: skip
    sealed = datasets_events.DatasetVersionSealed(version=job.produced, version_id=version.id, digest=digest, job_id=job.id)
    emit(session, sealed, project_id=job.project_id)
