"""Make, change and remove watches. What a watch does when it is due is looking.py, what comes of it judging.py."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, aliased, joinedload

from ringi.adapters import service as adapters
from ringi.adapters.models import Adapter, AdapterVersion
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.base_models.models import BaseRevision
from ringi.events.catalogue import watches as watch_events
from ringi.events.emission import emit
from ringi.identity.models import Project
from ringi.identity.permissions import visible
from ringi.kit.actor import Actor, system_actor
from ringi.kit.errors import NotFound
from ringi.measurements import service as measurements
from ringi.releases import service as releases
from ringi.settings import get_settings
from ringi.suites import service as suites
from ringi.suites.models import Suite, SuiteVersion
from ringi.watches import refusals, schedule
from ringi.watches.models import Watch, WatchLook
from ringi.watches.schemas import ChangeWatch, CreateWatch, DriftLimits, LookState

MAX_PER_PROJECT = 100


def create(session: Session, actor: Actor, *, project: Project, body: CreateWatch) -> Watch:
    """A watch whose first look is due at once, or when its crontab says. Raises WatchExists, TooManyWatches, NotFound, those of `schedule`."""
    # unscoped: the caller has been let into the project already. Its row is the lock: of two with one name the second sees the first.
    session.execute(select(Project.id).where(Project.id == project.id).with_for_update(key_share=True))
    names = set(session.scalars(listed(actor, project).with_only_columns(Watch.name)))
    if body.name in names:
        raise refusals.WatchExists(body.name)
    if len(names) >= MAX_PER_PROJECT:
        raise refusals.TooManyWatches(MAX_PER_PROJECT)
    now = moment(session)
    schedule.check(body.schedule, body.timezone, now=now, shortest_s=get_settings().watch_shortest_s)
    adapter = adapters.find(session, actor, project=project, name=body.adapter) if body.adapter else None
    made = Watch(
        project_id=project.id, name=body.name, description=body.description, channels=list(dict.fromkeys(body.channels)),
        adapter_id=adapter.id if adapter else None, suite=body.suite, schedule=body.schedule, timezone=body.timezone, baseline=body.baseline,
        drift=body.drift.model_dump(mode="json"), within_s=body.within_s,
        placement=body.placement.model_dump(mode="json") if body.placement else None, created_by=actor.id,
        due_at=schedule.first(body.schedule, body.timezone, now=now),
    )  # fmt: skip
    _require_there(session, actor, project, made, adapter)
    _require_measured(session, actor, project, made)
    session.add(made)
    session.flush()  # its id goes into the audit event
    _told(session, actor, AuditAction.WATCH_CREATE, made, "created")
    return find(session, actor, project=project, name=made.name)


def change(session: Session, actor: Actor, watch: Watch, body: ChangeWatch) -> Watch:
    """What is given; a new schedule counts from now. Raises what `create` raises."""
    for name in ("description", "suite", "schedule", "timezone", "baseline", "within_s"):
        if (value := getattr(body, name)) is not None:
            setattr(watch, name, value)
    for name, document in (("drift", body.drift), ("placement", body.placement)):
        if document is not None:
            # Whole: a limit that is null is one that there is not.
            setattr(watch, name, document.model_dump(mode="json"))
    if body.channels is not None:
        watch.channels = list(dict.fromkeys(body.channels))
    now = moment(session)
    schedule.check(watch.schedule, watch.timezone, now=now, shortest_s=get_settings().watch_shortest_s)
    _require_there(session, actor, watch.project, watch, watch.adapter)
    if body.drift is not None or body.suite is not None:
        _require_measured(session, actor, watch.project, watch)
    resumed = body.paused is False and watch.paused_at is not None
    if body.schedule is not None or body.timezone is not None or resumed:
        watch.due_at = schedule.first(watch.schedule, watch.timezone, now=now)
    what = "changed"
    if body.paused is not None and body.paused is not (watch.paused_at is not None):
        watch.paused_at, what = (now, "paused") if body.paused else (None, "resumed")
    session.flush()  # the answer shows what is stored
    _told(session, actor, AuditAction.WATCH_CHANGE, watch, what, fields=",".join(sorted(body.model_fields_set)))
    return find(session, actor, project=watch.project, name=watch.name)


def remove(session: Session, actor: Actor, watch: Watch) -> Watch:
    """No more looks; those that were taken stay, with their measurements and decisions. One that is on its way ends as it does."""
    watch.deleted_at = moment(session)
    session.flush()  # what comes next no longer finds it
    _told(session, actor, AuditAction.WATCH_DELETE, watch, "removed")
    return watch


def _require_there(session: Session, actor: Actor, project: Project, watch: Watch, adapter: Adapter | None) -> None:
    """What is named exists now; it may be gone when the watch is due, which is a look of its own kind."""
    for channel in watch.channels:
        releases.find_channel(session, actor, project=project, name=channel)
    suites.named(session, actor, project=project, reference=watch.suite)
    if ":" in watch.baseline:
        if adapter is None or adapter.name != watch.baseline.partition(":")[0]:
            raise refusals.AdapterNeeded(watch.baseline)
        measurements.version_named(session, actor, project=project, name=watch.baseline)


def _require_measured(session: Session, actor: Actor, project: Project, watch: Watch) -> None:
    """Every metric with a limit is one of the suite's. A later version may do without it: it is looked at all the same."""
    limits = DriftLimits.model_validate(watch.drift).metrics
    if not limits:
        return
    suite = suites.named(session, actor, project=project, reference=watch.suite)
    known = {f"{task.name}.{spec.metric}" for task in suites.document_of(suite).tasks for spec in task.scorers}
    if unknown := sorted(limits.keys() - known):
        raise refusals.MetricUnknown(unknown, f"{suite.suite.name}:v{suite.number}", sorted(known))


def _told(session: Session, actor: Actor, action: AuditAction, watch: Watch, what: str, **details: str) -> None:
    audit.record(
        session, actor, action, object_type="watch", object_id=watch.id, project_id=watch.project_id,
        details={"name": watch.name, "suite": watch.suite, "baseline": watch.baseline, "schedule": watch.schedule, **details},
    )  # fmt: skip
    emit(session, watch_events.WatchChanged(watch=watch.name, watch_id=watch.id, change=what), project_id=watch.project_id)


def actor_of(watch: Watch) -> Actor:
    """The platform, which does what was authorised when the watch was made, for the organisation that the watch is of."""
    return replace(system_actor("watcher"), organization_id=watch.project.organization_id)


def moment(session: Session) -> datetime:
    """Now, by the database's clock: the machines of two beats may disagree."""
    now: datetime = session.scalar(select(func.clock_timestamp()))  # type: ignore[assignment]  # never null
    return now


def listed(actor: Actor, project: Project) -> Select[Watch]:
    """Watches of the project that are not removed."""
    here = visible(actor, Watch).where(Watch.project_id == project.id, Watch.deleted_at.is_(None))
    return here.options(joinedload(Watch.project), joinedload(Watch.adapter).joinedload(Adapter.project))


def find(session: Session, actor: Actor, *, project: Project, name: str, lock: bool = False) -> Watch:
    """A watch by name."""
    query = listed(actor, project).where(Watch.name == name).execution_options(populate_existing=True)
    if lock:
        query = query.with_for_update(of=Watch, key_share=True)
    found = session.scalars(query).one_or_none()
    if found is None:
        raise NotFound("watch", f"{project.name}/{name}")
    return found


def looks(actor: Actor, watch: Watch) -> Select[WatchLook]:
    """Looks of the watch, with what rendering them needs."""
    return visible(actor, WatchLook).where(WatchLook.watch_id == watch.id).options(*loads())


def loads() -> Sequence[Any]:
    """What is loaded beside a look."""
    return (
        joinedload(WatchLook.watch).joinedload(Watch.project),
        joinedload(WatchLook.adapter).joinedload(Adapter.project),
        joinedload(WatchLook.version).options(
            joinedload(AdapterVersion.adapter).joinedload(Adapter.project),
            joinedload(AdapterVersion.base_revision).joinedload(BaseRevision.base_model),
        ),
        joinedload(WatchLook.suite_version).joinedload(SuiteVersion.suite).joinedload(Suite.project),
    )


def standing(session: Session, actor: Actor, watches: Sequence[UUID]) -> dict[UUID, list[WatchLook]]:
    """By watch, the newest look that has ended of each adapter on each channel.

    A channel that once served nothing and serves something now has no line for nothing.
    """
    ended = visible(actor, WatchLook).where(WatchLook.watch_id.in_(watches), WatchLook.state != LookState.PENDING)
    later = aliased(WatchLook)
    # unscoped: only whether a later look of the same line exists.
    newer = select(later.id).where(
        later.watch_id == WatchLook.watch_id, later.channel == WatchLook.channel, later.state != LookState.PENDING,
        later.adapter_id.is_not_distinct_from(WatchLook.adapter_id) | WatchLook.adapter_id.is_(None), later.id > WatchLook.id,
    )  # fmt: skip
    found: dict[UUID, list[WatchLook]] = {one: [] for one in watches}
    for look in session.scalars(ended.where(~newer.exists()).options(*loads()).order_by(WatchLook.channel, WatchLook.id)):
        found[look.watch_id].append(look)
    return found
