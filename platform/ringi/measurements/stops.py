"""A measurement that was stopped early: what the worker says is shown again from the records before it is kept. It is no evidence of anything good."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Session

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.events.catalogue import work as work_events
from ringi.events.emission import emit
from ringi.gating import stopping
from ringi.gating.stopping import Seen, Watch
from ringi.jobs.contracts.suites import Answer
from ringi.jobs.contracts.sweeps import ArmResult, Record, Stop, StopRule
from ringi.jobs.holding import hold
from ringi.kit.actor import system_actor
from ringi.kit.digests import sha256_json
from ringi.kit.errors import RingiError
from ringi.measurements import delivery, records, summaries
from ringi.measurements.models import Measurement
from ringi.measurements.schemas import MeasurementState
from ringi.quotas import service as quotas
from ringi.storage import blobs
from ringi.storage.blobs import StoredBlob
from ringi.suites import service as suites
from ringi.suites.models import SuiteVersion


class StopNotShown(RingiError):
    """The records do not show what the measurement is said to have been stopped for."""

    code, status = "measurement_stop_not_shown", 409

    def __init__(self, measurement_id: UUID) -> None:
        super().__init__(
            f"The records of measurement {measurement_id} do not show harm beyond the margin.",
            next_step="Measure it whole: ringi sweep … without --stop-early-against.",
        )


def seen(answers: Iterable[Answer], metric: str) -> dict[str, Seen]:
    """Answers as a watch sees them."""
    return {one.item: Seen(one.asked, one.source, one.scores.get(metric)) for one in answers}


def shown(rule: StopRule, suite: SuiteVersion, found: Mapping[str, Sequence[Record]]) -> Stop | None:
    """What the records of an arm show against those of the rule's baseline, in the drawn order."""
    before = summaries.by_task(records.read(rule.records), suites.document_of(suite).tasks, complete=False)
    for watched in rule.watched:
        items = [(item.id, item.source) for item in suites.items(suite, watched.task)]
        blocks = stopping.drawn(rule.seed, watched.task, items)
        watch = Watch(watched, blocks, seen(before.get(watched.task, []), watched.metric))
        if watch.see(seen(found.get(watched.task, []), watched.metric)):
            return watch.stop(rule, items=sum(map(len, found.values())), of=suite.items)
    return None


def unused(one: Measurement) -> str | None:
    """Why a measurement that could have been stopped early was not looked at on the way; None where it was, or nobody asked for it."""
    if one.state != MeasurementState.MEASURED or one.reused_from is not None or one.job is None:
        return None
    # One rule of a document with the files of every arm: it is not read whole for that. Arms stand in their measurements' order.
    arms = one.job.payload.get("arms", [])
    rule = arms[one.place].get("stop") if one.place < len(arms) else None
    if rule is None or rule["runtime"] == one.runtime_digest:
        return None
    return f"{rule['name']} was measured under another runtime, so all items were asked."


def stop(session: Session, job_id: UUID, *, owner: str, attempt: int, result: ArmResult, rule: StopRule) -> Stop:
    """An arm was not asked the rest. Raises LeaseLost, MeasurementDelivered, RecordsForeign, StopNotShown."""
    job = hold(session, job_id, owner=owner, attempt=attempt)
    one = delivery.pending(session, job_id, result.measurement_id)
    found = summaries.by_task(records.read(result.records.digest), suites.document_of(one.suite_version).tasks, complete=False)
    why = shown(rule, one.suite_version, found)
    if why is None:
        raise StopNotShown(one.id)
    blobs.register(session, StoredBlob(result.records.digest, result.records.size))
    quotas.note_bytes(session, one.project_id, [(result.records.digest, result.records.size)])
    text, said = stopping.told(why), why.model_dump(mode="json")
    event_id = audit.record(
        session, system_actor("worker"), AuditAction.MEASUREMENT_STOP, object_type="measurement", object_id=one.id, project_id=one.project_id,
        organization_id=job.organization_id,
        details={"stop": sha256_json(said), "records": result.records.digest, "suite": one.suite_version.digest, "job": str(job.id), "on_behalf_of": str(job.created_by)},
    )  # fmt: skip
    values: dict[str, Any] = {
        "state": MeasurementState.STOPPED, "stopped": said, "audit_event_id": event_id, "problem": {"code": "stopped_early", "message": text},
        "records_digest": result.records.digest, "items_done": why.items, "runtime": dict(result.runtime), "runtime_digest": sha256_json(dict(result.runtime)),
        "summary": {task: figures.model_dump() for task, figures in summaries.summarised(found).items()},
        "operations": {task: dict(some) for task, some in result.operations.items()}, "completed_at": func.clock_timestamp(),
    }  # fmt: skip
    delivery.move(session, one.id, values)
    event = work_events.MeasurementStopped(
        measurement_id=one.id, job_id=job.id, version=delivery.name_in(job, one), baseline=why.baseline_name, task=why.task, metric=why.metric,
        items=why.items, of=why.of, message=text,
    )  # fmt: skip
    emit(session, event, project_id=one.project_id)
    return why
