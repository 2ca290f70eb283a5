"""Create datasets, validate uploads in a job, and seal what passed. What the job does: validation.py, preparation.py."""

from datetime import date

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.datasets import policies
from ringi.datasets.models import Dataset, DatasetVersion
from ringi.datasets.schemas import AddDatasetVersion
from ringi.events.catalogue import datasets as datasets_events
from ringi.events.emission import emit
from ringi.identity.models import Project
from ringi.identity.permissions import visible
from ringi.jobs import service as jobs
from ringi.jobs.contracts.datasets import (
    DatasetReport,
    Kept,
    ReadAs,
    Recipe,
    SplitSpec,
    Terms,
    ValidateDatasetPayload,
    ValidateDatasetResult,
)
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


def add_version(session: Session, actor: Actor, *, dataset: Dataset, body: AddDatasetVersion) -> Job | DatasetVersion:
    """The sealed version of the same bytes, split, recipe and terms when there is one, else the job that seals it. Raises NotFound."""
    (uploaded,) = uploads.claim_files(session, actor, [UploadedFile(path="source", digest=body.source)])
    split = SplitSpec(validation_fraction=body.validation_fraction, seed=body.seed)
    recipe = policies.at_least(session, dataset.project_id, body.recipe)
    earlier = _kept(session, actor, dataset, body)
    if (existing := _sealed(session, actor, dataset, body, split, recipe)) is not None:
        return existing
    payload = ValidateDatasetPayload(
        dataset_id=dataset.id, version_name=f"{dataset.project.name}/{dataset.name}", source=body.source, split=split,
        read_as=ReadAs(row_format=body.row_format, file_type=body.file_type), recipe=recipe, kept=earlier,
        terms=Terms.model_validate(body.terms.model_dump(mode="json")),
    )  # fmt: skip
    job = jobs.enqueue(
        session, actor, JobKind.VALIDATE_DATASET, payload, subject=f"dataset {dataset.project.name}/{dataset.name}", project_id=dataset.project_id,
        # Its source, and the two parts that it is split into, which together are about as large.
        exclusive_key=f"dataset:{dataset.id}", adds_bytes=2 * uploaded.size,
    )  # fmt: skip
    audit.record(
        session, actor, AuditAction.DATASET_VERSION_ADD, object_type="dataset", object_id=dataset.id, object_digest=body.source,
        project_id=dataset.project_id, details={"job": str(job.id), "recipe": _recipe_digest(recipe)},
    )  # fmt: skip
    return job


def _kept(session: Session, actor: Actor, dataset: Dataset, body: AddDatasetVersion) -> Kept | None:
    """The version whose rows keep their side."""
    if body.keep_validation_of == "none":
        return None
    previous = body.keep_validation_of == "previous"
    try:
        version = find_version(session, actor, dataset=dataset, selector="latest" if previous else body.keep_validation_of)
    except NotFound:
        if previous:
            return None
        raise
    return Kept(version=f"v{version.number}", train=version.train_digest, validation=version.validation_digest)


def _sealed(
    session: Session, actor: Actor, dataset: Dataset, body: AddDatasetVersion, split: SplitSpec, recipe: Recipe
) -> DatasetVersion | None:
    """The newest version that was made of the same, however its file was recognised unless that was said."""
    query = visible(actor, DatasetVersion).where(
        DatasetVersion.dataset_id == dataset.id,
        DatasetVersion.source_digest == body.source,
        DatasetVersion.split == split.model_dump(mode="json"),
        *(getattr(DatasetVersion, name).is_not_distinct_from(value) for name, value in body.terms),
    )
    found = session.scalars(query.options(joinedload(DatasetVersion.dataset)).order_by(DatasetVersion.number.desc()))
    return next((version for version in found if Recipe.model_validate(version.recipe) == recipe and _was_asked(version, body)), None)


def _was_asked(version: DatasetVersion, body: AddDatasetVersion) -> bool:
    """Whether what the request says of reading and dividing is what happened."""
    report = DatasetReport.model_validate(version.report)
    kept = "none" if report.kept_validation_of is None else report.kept_validation_of
    return (
        body.row_format in {None, report.row_format}
        and body.file_type in {None, report.file_type}
        and body.keep_validation_of in {"previous", kept}
    )


def _recipe_digest(recipe: Recipe) -> Digest:
    return sha256_json(recipe.model_dump(mode="json") | {"near_threshold": repr(recipe.near_threshold)})


def digest_of(payload: ValidateDatasetPayload, result: ValidateDatasetResult) -> Digest:
    """The identity of a version. A recipe that does nothing more than always, and terms that say nothing, leave it as it was before there were any."""
    split = {"seed": payload.split.seed, "validation_fraction": repr(payload.split.validation_fraction)}
    parts: dict[str, object] = {
        "source": payload.source,
        "train": result.train.digest,
        "validation": result.validation.digest,
        "split": split,
    }
    if payload.recipe != Recipe():
        parts["recipe"] = _recipe_digest(payload.recipe)
    if payload.terms != Terms():
        parts["terms"] = payload.terms.model_dump(mode="json")
    return sha256_json(parts)


def complete(session: Session, job: Job, result: ValidateDatasetResult) -> DatasetVersion | None:
    """Seal the version that the validation job made, and return it; equal content seals nothing new."""
    payload = ValidateDatasetPayload.model_validate(job.payload)
    for part in (result.train, result.validation):
        blobs.register(session, StoredBlob(part.digest, part.size))
    digest = digest_of(payload, result)
    # unscoped: the platform itself seals, on behalf of a job that was authorised when it was started.
    session.execute(select(Dataset.id).where(Dataset.id == payload.dataset_id).with_for_update(key_share=True))
    known = select(DatasetVersion.number).where(DatasetVersion.dataset_id == payload.dataset_id, DatasetVersion.digest == digest)
    if (number := session.scalar(known)) is not None:
        job.produced = f"{payload.version_name}:v{number}"
        return None
    newest = session.scalar(select(func.max(DatasetVersion.number)).where(DatasetVersion.dataset_id == payload.dataset_id))
    version = DatasetVersion(
        project_id=job.project_id, dataset_id=payload.dataset_id, number=(newest or 0) + 1, digest=digest, source_digest=payload.source,
        split=payload.split.model_dump(mode="json"), recipe=payload.recipe.model_dump(mode="json"),
        licence=payload.terms.licence, origin=payload.terms.origin, consent=payload.terms.consent,
        retain_until=date.fromisoformat(payload.terms.retain_until) if payload.terms.retain_until else None,
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
    return version
