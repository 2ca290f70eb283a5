"""Where a person's rows are: which rows of which dataset versions hold a text or an id, and which adapters were trained on them.

Sealed versions never change, so rows are not deleted here: a new version is added without them, and what was trained on the old ones is
retired or revoked. The answer says what that is.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from sqlalchemy.orm import Session, joinedload

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.datasets import service as datasets
from ringi.datasets.contents import texts_in
from ringi.datasets.models import Dataset, DatasetVersion
from ringi.datasets.validation import normalise
from ringi.identity.models import Project
from ringi.identity.permissions import visible
from ringi.kit.actor import Actor
from ringi.kit.digests import Digest
from ringi.kit.errors import InvalidInput
from ringi.storage import blobs
from ringi.training import service
from ringi.training.models import TrainingRun
from ringi.training.schemas import TracedRow, TraceRows

# Read through while the caller waits; little of it is kept.
LIMIT_BYTES = 1024 * 2**20
SHOWN_ROWS = 100


class TraceTooLarge(InvalidInput):
    """More bytes than are read through for one question."""

    code: ClassVar[str] = "dataset_trace_too_large"

    def __init__(self, size: int) -> None:
        super().__init__(
            f"The versions to be searched hold {size} bytes, and {LIMIT_BYTES} are read through for one question.",
            next_step="Name one dataset at a time: ringi datasets trace PROJECT/DATASET --text ….",
            details={"bytes": size, "limit": LIMIT_BYTES},
        )


class Found(NamedTuple):
    """The rows of one version, how many of each part, and the first of them."""

    version: DatasetVersion
    train: int
    validation: int
    rows: list[TracedRow]


class Trace(NamedTuple):
    """What was found, the runs on it, and how many versions were looked into."""

    found: list[Found]
    runs: Sequence[TrainingRun]
    searched: int


def trace(session: Session, actor: Actor, *, project: Project, body: TraceRows) -> Trace:
    """Look through every version of the project, or of one dataset. Raises NotFound, TraceTooLarge."""
    query = visible(actor, DatasetVersion).where(DatasetVersion.project_id == project.id).options(joinedload(DatasetVersion.dataset))
    if body.dataset is not None:
        query = query.where(DatasetVersion.dataset_id == datasets.find(session, actor, project=project, name=body.dataset).id)
    versions = list(session.scalars(query.join(Dataset).order_by(Dataset.name, DatasetVersion.number)))
    sizes = {version.train_digest: version.train_size for version in versions}
    sizes |= {version.validation_digest: version.validation_size for version in versions}
    if (size := sum(sizes.values())) > LIMIT_BYTES:
        raise TraceTooLarge(size)
    # Versions share parts, which are read once.
    matches = {digest: list(_matches(digest, body)) for digest in sizes}
    found = [one for version in versions if (one := _found(version, matches)).train + one.validation]
    learnt = [one.version.id for one in found if one.train]
    runs = session.scalars(service.listed(actor).where(TrainingRun.dataset_version_id.in_(learnt)).order_by(TrainingRun.created_at)).all()
    audit.record(
        session, actor, AuditAction.DATASET_TRACE, object_type="project", object_id=project.id, project_id=project.id,
        # What was looked for is personal, and stays out of a log that is kept for ever.
        details={"by": "text" if body.text is not None else "id", "versions": len(found), "rows": sum(one.train + one.validation for one in found), "runs": len(runs)},
    )  # fmt: skip
    return Trace(found, runs, len(versions))


def _found(version: DatasetVersion, matches: Mapping[Digest, list[Mapping[str, Any]]]) -> Found:
    parts = {"train": matches[version.train_digest], "validation": matches[version.validation_digest]}
    rows = [TracedRow(id=str(row["id"]), source_id=row.get("source_id"), part=part) for part, found in parts.items() for row in found]
    return Found(version, len(parts["train"]), len(parts["validation"]), rows[:SHOWN_ROWS])


def _matches(digest: Digest, body: TraceRows) -> Iterator[Mapping[str, Any]]:
    wanted = None if body.text is None else normalise(body.text)
    for line in blobs.lines(blobs.get_store().open(digest)):
        row: Mapping[str, Any] = json.loads(line)
        by_id = body.id is not None and body.id in {row.get("id"), row.get("source_id")}
        if by_id or (wanted is not None and any(wanted in normalise(text) for text in texts_in(row))):
            yield row
