"""Bring in what was measured elsewhere. It is marked for ever, and no evidence of an approval unless the policy says so."""

from sqlalchemy.orm import Session

from ringi.identity.models import Project
from ringi.jobs import admission
from ringi.kit.actor import Actor
from ringi.kit.ids import uuid7
from ringi.measurements import delivery, records, service, summaries
from ringi.measurements.models import Measurement
from ringi.measurements.schemas import ImportMeasurement, MeasurementState
from ringi.quotas import service as quotas
from ringi.suites import service as suites
from ringi.uploads import service as uploads
from ringi.uploads.schemas import UploadedFile


def bring_in(session: Session, actor: Actor, *, project: Project, body: ImportMeasurement) -> Measurement:
    """A measurement from uploaded records. Raises NotUploaded, RecordUnreadable, RecordsForeign, BytesUsedUp."""
    suite = suites.named(session, actor, project=project, reference=body.suite)
    revision = service.revision_named(session, actor, body.base_revision)
    version = service.version_named(session, actor, project=project, name=body.version) if body.version is not None else None
    (file,) = uploads.claim_files(session, actor, [UploadedFile(path="records.jsonl", digest=body.records)])
    admission.admit_bytes(session, project.id, [(file.digest, file.size)])
    document = suites.document_of(suite)
    read = summaries.by_task(records.read(file.digest), document.tasks, complete=False)
    summaries.check_ranges(read, document.tasks)
    for task in document.tasks:
        known = {item.id for item in suites.items(suite, task.name)}
        foreign = sorted({record.item for record in read.get(task.name, [])} - known)
        if foreign:
            raise summaries.RecordsForeign(f"task '{task.name}' has no item '{foreign[0]}'")
    one = Measurement(
        id=uuid7(), project_id=project.id, suite_version_id=suite.id, suite_version=suite, base_revision_id=revision.id, base_revision=revision,
        version_id=version.id if version else None, version=version, imported_from=body.source, requested_by=actor.id, place=0, again=False,
        state=MeasurementState.PENDING,
    )  # fmt: skip
    session.add(one)
    session.flush()  # it is filled in below, as one that was measured here
    quotas.note_bytes(session, project.id, [(file.digest, file.size)])
    runtime = {"imported_from": body.source}
    values = {
        "records_digest": file.digest, "summary": {name: found.model_dump() for name, found in summaries.summarised(read).items()},
        "operations": None, "items_done": sum(map(len, read.values())), "runtime": runtime, "evidence": delivery.evidence(one, file.digest, runtime=runtime),
    }  # fmt: skip
    delivery.complete(session, actor, one, values, organization_id=actor.organization_id)
    session.expire(one)
    return service.find(session, actor, project=project, measurement_id=one.id)
