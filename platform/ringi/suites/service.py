"""Create suites, and seal versions of them. What may be sealed is said in sealing.py; here items are fetched and rows written."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.datasets import service as datasets
from ringi.events.catalogue import suites as suites_events
from ringi.events.emission import emit
from ringi.gating.advice import Advice
from ringi.gating.schemas import Requirement
from ringi.identity.models import Project
from ringi.identity.permissions import visible
from ringi.jobs import admission
from ringi.jobs.contracts.suites import Item
from ringi.kit.actor import Actor
from ringi.kit.digests import Digest, sha256_bytes
from ringi.kit.errors import NotFound
from ringi.kit.ids import uuid7
from ringi.quotas import service as quotas
from ringi.storage import blobs
from ringi.storage.blobs import UploadTooLarge
from ringi.suites import harness, off_task_probe, refusals, sealing
from ringi.suites.mapping import mapped, rows_of
from ringi.suites.models import Suite, SuiteVersion
from ringi.suites.schemas import AddSuiteVersion, AddTask, SuiteDocument, TaskFacts
from ringi.suites.sealing import Drafted, Sealed
from ringi.uploads import service as uploads
from ringi.uploads.schemas import UploadedFile
from ringi.web.selectors import digest_start, moment_of, number_of

# Of one task: all of it is held while it is checked.
LIMIT_BYTES = 128 * 2**20


def create(session: Session, actor: Actor, *, project: Project, name: str, description: str) -> Suite:
    """A new suite without versions."""
    if session.scalar(visible(actor, Suite).where(Suite.project_id == project.id, Suite.name == name)) is not None:
        raise refusals.SuiteExists(name)
    suite = Suite(project_id=project.id, project=project, name=name, description=description, created_by=actor.id)
    session.add(suite)
    session.flush()  # suite.id goes into the audit event
    audit.record(session, actor, AuditAction.SUITE_CREATE, object_type="suite", object_id=suite.id, project_id=project.id)
    emit(session, suites_events.SuiteCreated(suite=f"{project.name}/{name}", suite_id=suite.id), project_id=project.id)
    return suite


def find(session: Session, actor: Actor, *, project: Project, name: str) -> Suite:
    """A suite by name."""
    query = visible(actor, Suite).where(Suite.project_id == project.id, Suite.name == name).options(joinedload(Suite.project))
    suite = session.scalars(query).one_or_none()
    if suite is None:
        raise NotFound("suite", f"{project.name}/{name}")
    return suite


def find_version(session: Session, actor: Actor, *, suite: Suite, selector: str) -> SuiteVersion:
    """A version by `v3`, `latest` or `sha256:…`; `latest@TIME` is what was the latest then."""
    query = visible(actor, SuiteVersion).where(SuiteVersion.suite_id == suite.id).options(joinedload(SuiteVersion.suite))
    if (number := number_of(selector, "v")) is not None:
        query = query.where(SuiteVersion.number == number)
    elif (digest := digest_start(selector)) is not None:
        query = query.where(SuiteVersion.digest.startswith(digest, autoescape=True))
    else:
        moment = moment_of(selector)
        if moment.word != "latest":
            raise NotFound("suite version", f"{suite.name}:{selector}")
        if moment.at is not None:
            query = query.where(SuiteVersion.created_at <= moment.at)
        query = query.order_by(SuiteVersion.number.desc()).limit(1)
    version = session.scalars(query).one_or_none()
    if version is None:
        raise NotFound("suite version", f"{suite.name}:{selector}")
    return version


def named(session: Session, actor: Actor, *, project: Project, reference: str) -> SuiteVersion:
    """The version that `quality:v2` or `quality` (its latest) names."""
    name, _, selector = reference.partition(":")
    return find_version(session, actor, suite=find(session, actor, project=project, name=name), selector=selector or "latest")


def add_version(session: Session, actor: Actor, *, suite: Suite, body: AddSuiteVersion) -> tuple[SuiteVersion, bool]:
    """The version of this content, and whether it is new. Raises the refusals of `refusals.py`, MarginUnsupported, NotUploaded, BytesUsedUp."""
    drafts = [_drafted(session, actor, suite, task) for task in body.tasks]
    return seal_drafts(session, actor, suite=suite, drafts=drafts, wanted=body.requirements, off_task=body.off_task)


def seal_drafts(
    session: Session,
    actor: Actor,
    *,
    suite: Suite,
    drafts: Sequence[Drafted],
    wanted: Sequence[Requirement],
    off_task: bool,
    details: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[SuiteVersion, bool]:
    """As `add_version`, of tasks whose items are at hand. `details` go into the audit event of a new version."""
    probe = off_task_probe.beside([draft.task.name for draft in drafts]) if off_task else off_task_probe.NOTHING
    # A suite that requires nothing of its own is asked the probe and still decides nothing.
    sealed = sealing.seal([*drafts, *probe.drafts], [*wanted, *probe.requirements] if wanted else [])
    # unscoped: the caller holds the suite already. Its row is the lock: two at once get two numbers, or the same version.
    session.execute(select(Suite.id).where(Suite.id == suite.id).with_for_update(key_share=True))
    same = visible(actor, SuiteVersion).where(SuiteVersion.suite_id == suite.id, SuiteVersion.digest == sealed.digest)
    if (known := session.scalars(same.options(joinedload(SuiteVersion.suite))).one_or_none()) is not None:
        return known, False
    _keep(session, suite.project_id, sealed)
    newest = session.scalar(select(func.max(SuiteVersion.number)).where(SuiteVersion.suite_id == suite.id))
    version_id, number, name = uuid7(), (newest or 0) + 1, f"{suite.project.name}/{suite.name}"
    # The event comes first: the row is written once, with the event's id.
    event = audit.record(
        session, actor, AuditAction.SUITE_VERSION_SEAL, object_type="suite_version", object_id=version_id, object_digest=sealed.digest,
        project_id=suite.project_id, details={"number": number, "suite": str(suite.id), **details},
    )  # fmt: skip
    version = SuiteVersion(
        id=version_id, project_id=suite.project_id, suite_id=suite.id, suite=suite, number=number, digest=sealed.digest,
        document=sealed.document.model_dump(mode="json"), facts={task: facts.model_dump() for task, facts in sealed.facts.items()},
        items=sum(facts.items for facts in sealed.facts.values()), created_by=actor.id, audit_event_id=event,
    )  # fmt: skip
    session.add(version)
    session.flush()  # created_at goes into the answer
    told = suites_events.SuiteVersionSealed(version=f"{name}:v{number}", version_id=version.id, digest=sealed.digest)
    emit(session, told, project_id=suite.project_id)
    return version, True


def _keep(session: Session, project_id: UUID, sealed: Sealed) -> None:
    contents = (sealed.content, *sealed.files.values())
    admission.admit_bytes(session, project_id, ((sha256_bytes(content), len(content)) for content in contents))
    store = blobs.get_store()
    stored = [blobs.put(store, [content]) for content in contents]
    blobs.hold(session, [one.digest for one in stored])
    for one in stored:
        blobs.register(session, one)
    quotas.note_bytes(session, project_id, ((one.digest, one.size) for one in stored))


def _drafted(session: Session, actor: Actor, suite: Suite, task: AddTask) -> Drafted:
    places = [place for place in (task.items, task.items_digest, task.dataset) if place is not None]
    if not places:
        if task.harness is not None and task.harness.task is not None:
            return harness.drafted(task, None)
        raise refusals.SuiteNoItems(task.name)
    if len(places) > 1:
        raise refusals.SuiteItemsAmbiguous(task.name)
    choices = tuple(task.choices)
    rows, dataset = _rows(session, actor, suite, task)
    if harness.is_meant(task):
        return harness.drafted(task, rows, dataset=dataset)
    if task.dataset is not None:
        return Drafted(task, *mapped(task.name, list(rows), task.dataset, choices=choices), dataset=dataset)
    return Drafted(task, sealing.items_of(task.name, rows), choices)


def _rows(session: Session, actor: Actor, suite: Suite, task: AddTask) -> tuple[Iterable[Mapping[str, Any]], Digest | None]:
    """What stands in the one place that the task's items come from, and the digest of the dataset version where that is it."""
    if task.dataset is not None:
        name, _, selector = task.dataset.version.partition(":")
        dataset = datasets.find(session, actor, project=suite.project, name=name)
        version = datasets.find_version(session, actor, dataset=dataset, selector=selector or "latest")
        return rows_of(task.name, _lines(version.validation_digest)), version.digest
    if task.items_digest is not None:
        uploads.claim_files(session, actor, [UploadedFile(path="items.jsonl", digest=task.items_digest)])
        return rows_of(task.name, _lines(task.items_digest)), None
    return task.items or [], None


def _lines(digest: str) -> list[bytes]:
    store = blobs.get_store()
    if store.look(digest).size > LIMIT_BYTES:
        raise UploadTooLarge(LIMIT_BYTES)
    # Whole, because the digest is verified at the end.
    return list(blobs.lines(store.open(digest)))


def document_of(version: SuiteVersion) -> SuiteDocument:
    """The sealed document."""
    return SuiteDocument.model_validate(version.document)


def facts_of(version: SuiteVersion) -> dict[str, TaskFacts]:
    """What the items of each task are."""
    return {name: TaskFacts.model_validate(facts) for name, facts in version.facts.items()}


def advice(version: SuiteVersion) -> list[Advice]:
    """What the items can show."""
    return sealing.advice_of(document_of(version).requirements, facts_of(version))


def items(version: SuiteVersion, task: str) -> list[Item]:
    """The items of a task, verified. Raises NotFound."""
    found = next((one for one in document_of(version).tasks if one.name == task), None)
    if found is None:
        raise NotFound("task", task)
    return [Item.model_validate_json(line) for line in _lines(found.items)]
