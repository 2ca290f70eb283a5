"""A watch is due: ask for a measurement of exactly what its channels serve now, in one transaction with the looks that wait for it.

The watch's row is the lock, and the look's unique time the last word: however many processes find a watch due, one asks. The next time that is due
counts from now, so that a schedule that nobody kept for a week is kept once.
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import chain
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from ringi.adapters.models import Adapter, AdapterVersion, ChannelHead
from ringi.adapters.schemas import VersionState
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.base_models.models import BaseRevision
from ringi.jobs.schemas import Placement
from ringi.kit.actor import Actor
from ringi.kit.errors import NotFound, RingiError
from ringi.measurements import service as measurements
from ringi.measurements.models import Measurement
from ringi.measurements.schemas import MAX_ARMS, RequestSweep
from ringi.suites import service as suites
from ringi.suites.models import SuiteVersion
from ringi.watches import judging, refusals, schedule, service
from ringi.watches.models import Watch, WatchLook
from ringi.watches.schemas import LookState

# Versions of one sweep, which may have the baseline's beside them.
VERSIONS_AT_ONCE = MAX_ARMS - 1


class Served(NamedTuple):
    """What one channel serves for one adapter."""

    channel: str
    version: AdapterVersion


class Asked(NamedTuple):
    """A sweep's measurements: by version, and of the bare base."""

    job_id: UUID
    by_version: dict[UUID, Measurement]
    bare: Measurement | None


def due(session: Session) -> list[UUID]:
    """Watches whose time has come and whose last look has ended, the longest waiting first."""
    # unscoped: the platform keeps the schedule of everybody.
    pending = select(WatchLook.id).where(WatchLook.watch_id == Watch.id, WatchLook.state == LookState.PENDING)
    ready = (Watch.deleted_at.is_(None), Watch.paused_at.is_(None), Watch.due_at <= service.moment(session))
    return list(session.scalars(select(Watch.id).where(*ready, ~pending.exists()).order_by(Watch.due_at)))


def look_if_due(session: Session, watch_id: UUID) -> list[WatchLook]:
    """Take the look that is due; none when another process is at it, or was."""
    now = service.moment(session)
    # unscoped: the platform keeps the schedule of everybody.
    query = select(Watch).where(Watch.id == watch_id, Watch.deleted_at.is_(None), Watch.paused_at.is_(None), Watch.due_at <= now)
    query = query.options(joinedload(Watch.project), joinedload(Watch.adapter).joinedload(Adapter.project))
    watch = session.scalars(query.with_for_update(of=Watch, key_share=True, skip_locked=True)).one_or_none()
    if watch is None or _pending(session, watch):
        return []
    was_due, watch.due_at = watch.due_at, schedule.after(watch.schedule, watch.timezone, due=watch.due_at, now=now)
    return _look(session, service.actor_of(watch), watch, due_at=was_due, by_hand=False)


def look_now(session: Session, actor: Actor, watch: Watch) -> list[WatchLook]:
    """The same by hand, paused or not; the caller holds the watch's row. Raises LookOnItsWay."""
    if _pending(session, watch):
        raise refusals.LookOnItsWay(watch.name)
    return _look(session, actor, watch, due_at=service.moment(session), by_hand=True)


def _pending(session: Session, watch: Watch) -> bool:
    # unscoped: the caller holds the watch.
    found = select(WatchLook.id).where(WatchLook.watch_id == watch.id, WatchLook.state == LookState.PENDING).limit(1)
    return session.scalar(found) is not None


def _look(session: Session, actor: Actor, watch: Watch, *, due_at: datetime, by_hand: bool) -> list[WatchLook]:
    def look(channel: str, version: AdapterVersion | None = None) -> WatchLook:
        adapter_id = version.adapter_id if version else watch.adapter_id
        made = WatchLook(
            project_id=watch.project_id, watch_id=watch.id, watch=watch, channel=channel, adapter_id=adapter_id, version=version, due_at=due_at,
            by_hand=by_hand, state=LookState.PENDING, turned=False,
        )  # fmt: skip
        session.add(made)
        return made

    served = _served(session, watch)
    looks = [look(one.channel, one.version) for one in served]
    empty = [look(channel) for channel in watch.channels if channel not in {one.channel for one in served}]
    session.flush()  # a look of the same time is refused here, before anything is asked for
    audit.record(
        session, actor, AuditAction.WATCH_LOOK, object_type="watch", object_id=watch.id, project_id=watch.project_id,
        details={"due_at": due_at.isoformat(), "by_hand": by_hand, "versions": len(looks), "empty": len(empty)},
    )  # fmt: skip
    for one in empty:
        judging.fail(session, actor, one, refusals.ServesNothing(one.channel, watch.adapter.reference if watch.adapter else None))
    _ask(session, actor, watch, looks)
    session.flush()  # the answer shows what is stored
    stored = service.looks(actor, watch).where(WatchLook.due_at == due_at).order_by(WatchLook.id)
    return list(session.scalars(stored.execution_options(populate_existing=True)))


def _served(session: Session, watch: Watch) -> list[Served]:
    # unscoped: the caller holds the watch, which is of the same project.
    heads = select(ChannelHead).where(ChannelHead.project_id == watch.project_id, ChannelHead.channel.in_(watch.channels))
    if watch.adapter_id is not None:
        heads = heads.where(ChannelHead.adapter_id == watch.adapter_id)
    version = joinedload(ChannelHead.version).options(
        joinedload(AdapterVersion.adapter).joinedload(Adapter.project),
        joinedload(AdapterVersion.base_revision).joinedload(BaseRevision.base_model),
    )
    found = session.scalars(heads.options(version).order_by(ChannelHead.channel, ChannelHead.adapter_id)).all()
    return [Served(head.channel, head.version) for head in found]


def _ask(session: Session, actor: Actor, watch: Watch, looks: Sequence[WatchLook]) -> None:
    """Sweeps of one base revision each; a look that cannot be asked for has failed with the refusal's code."""
    try:
        suite = suites.named(session, actor, project=watch.project, reference=watch.suite)
        baseline = _baseline(session, actor, watch)
    except NotFound as refusal:
        for one in looks:
            judging.fail(session, actor, one, refusal)
        return
    able: list[WatchLook] = []
    for one in looks:
        one.suite_version = suite
        version = one.version
        if version is not None and version.state == VersionState.REVOKED:
            judging.fail(session, actor, one, refusals.VersionStopped(one.channel, f"{version.adapter.reference}:v{version.number}"))
        elif version is not None:
            able.append(one)
    for group in grouped(able):
        try:
            # What a refused sweep has written is taken back, and nothing else.
            with session.begin_nested():
                _wait_for(group, _swept(session, actor, watch, suite, group, baseline), baseline)
        except RingiError as refusal:
            for one in group:
                judging.fail(session, actor, one, refusal)


def grouped(looks: Sequence[WatchLook]) -> list[list[WatchLook]]:
    """Looks at versions, by the sweep that they are asked for in: of one base revision, and of no more versions than a sweep takes."""
    by_base: dict[UUID, dict[UUID, list[WatchLook]]] = {}
    for one in looks:
        if one.version is not None:
            by_base.setdefault(one.version.base_revision_id, {}).setdefault(one.version.id, []).append(one)
    return [
        list(chain.from_iterable(list(versions.values())[start : start + VERSIONS_AT_ONCE]))
        for versions in by_base.values()
        for start in range(0, len(versions), VERSIONS_AT_ONCE)
    ]


def _baseline(session: Session, actor: Actor, watch: Watch) -> AdapterVersion | None:
    if ":" not in watch.baseline:
        return None
    return measurements.version_named(session, actor, project=watch.project, name=watch.baseline)


def _swept(
    session: Session, actor: Actor, watch: Watch, suite: SuiteVersion, group: Sequence[WatchLook], baseline: AdapterVersion | None
) -> Asked:
    """Ask for what is served anew; the baseline beside it may be taken over from before, when the worker's runtime is the same."""
    served = {one.version.id: one.version for one in group if one.version is not None}
    arms = list({one.id: one for one in (*served.values(), *([baseline] if baseline else []))}.values())
    body = RequestSweep(
        suite=f"{suite.suite.name}:v{suite.number}", versions=[f"{one.adapter.name}:v{one.number}" for one in arms], again=True,
        include_base=watch.baseline == "base", placement=Placement.model_validate(watch.placement) if watch.placement else None,
    )  # fmt: skip
    job, found = measurements.request(session, actor, project=watch.project, body=body)
    for one in found:
        one.again = one.version_id in served
    return Asked(
        job.id,
        {one.version_id: one for one in found if one.version_id is not None},
        next((one for one in found if one.version_id is None), None),
    )


def _wait_for(group: Sequence[WatchLook], asked: Asked, baseline: AdapterVersion | None) -> None:
    other = asked.by_version[baseline.id] if baseline is not None else asked.bare
    for one in group:
        if one.version is not None:
            one.job_id, one.measurement = asked.job_id, asked.by_version[one.version.id]
            one.baseline_id = other.id if other is not None else None
