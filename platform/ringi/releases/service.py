"""Create channels, publish and roll back. A channel's pointer moves by compare-and-set, after every gate has passed."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased, joinedload

from ringi.adapters.models import Adapter, AdapterVersion, ChannelHead
from ringi.approvals.models import ApprovalGrant
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction, Outcome
from ringi.base_models.models import BaseRevision
from ringi.events.catalogue import releases as releases_events
from ringi.events.emission import emit
from ringi.identity.environments import bound_to
from ringi.identity.models import Project
from ringi.identity.permissions import visible
from ringi.kit.actor import Actor
from ringi.kit.errors import Conflict, NotFound
from ringi.kit.ids import uuid7
from ringi.releases.gates import Gate
from ringi.releases.models import Channel, Release
from ringi.releases.schemas import ReleaseAction
from ringi.releases.standing import gates_of
from ringi.web.preconditions import Match


class ChannelExists(Conflict):
    """The name is in use."""

    code = "channel_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is already a channel '{name}' in this project.", next_step="Use it, or choose another name.")


class ReleaseRefused(Conflict):
    """A gate did not pass; the channel serves what it served."""

    code = "release_refused"

    def __init__(self, version: AdapterVersion, channel: str, failed: list[Gate]) -> None:
        # Kept as plain values: the refusal is audited after the request's transaction is gone.
        self.version_id, self.manifest_digest = version.id, version.manifest_digest
        super().__init__(
            f"{version.adapter.reference}:v{version.number} cannot be released to '{channel}': "
            + " ".join(gate.message for gate in failed),
            next_step="Mend the reasons, then release again; the channel is unchanged.",
            details={"reasons": [{"code": gate.code, "message": gate.message} for gate in failed]},
        )


class AlreadyLive(Conflict):
    """The channel serves this version already."""

    code = "release_already_live"

    def __init__(self, reference: str, channel: str) -> None:
        super().__init__(f"'{channel}' already serves {reference}.", next_step="There is nothing to do.")


class NothingToRollBackTo(Conflict):
    """No earlier release with another version."""

    code = "release_nothing_to_roll_back_to"

    def __init__(self, channel: str) -> None:
        super().__init__(f"'{channel}' has never served another version of this adapter.", next_step="Publish a version instead.")


class ChannelMoved(Conflict):
    """Someone else moved the pointer at the same time."""

    code = "channel_moved"

    def __init__(self, channel: str) -> None:
        super().__init__(f"Someone else moved '{channel}' at the same time.", next_step="Read what it serves now, then decide again.")


def create_channel(session: Session, actor: Actor, *, project: Project, name: str, environment: str, description: str) -> Channel:
    """A new channel that serves nothing yet."""
    if session.scalar(visible(actor, Channel).where(Channel.project_id == project.id, Channel.name == name)) is not None:
        raise ChannelExists(name)
    bound_to(actor, environment)
    channel = Channel(project_id=project.id, name=name, environment=environment, description=description)
    session.add(channel)
    session.flush()  # channel.id goes into the audit event
    audit.record(
        session, actor, AuditAction.CHANNEL_CREATE, object_type="channel", object_id=channel.id, project_id=project.id,
        details={"name": name, "environment": environment},
    )  # fmt: skip
    emit(session, releases_events.ChannelCreated(channel=name, environment=environment), project_id=project.id)
    return channel


def find_channel(session: Session, actor: Actor, *, project: Project, name: str) -> Channel:
    """A channel by name."""
    channel = session.scalars(visible(actor, Channel).where(Channel.project_id == project.id, Channel.name == name)).one_or_none()
    if channel is None:
        raise NotFound("channel", f"{project.name}:{name}")
    return channel


def version_of(channel: Channel, heads: Sequence[ChannelHead]) -> int:
    """How often the channel has changed: every move of a head raises that head's sequence by one, and heads are never removed."""
    return channel.row_version + sum(head.sequence for head in heads)


def require_unmoved(session: Session, match: Match, *, channel: Channel) -> None:
    """Hold the channel and its heads as they are, when the request says what they must be. Raises PreconditionFailed."""
    if match.versions is None:
        return
    # unscoped: the caller holds the channel already.
    session.execute(select(Channel.id).where(Channel.id == channel.id).with_for_update(key_share=True))
    heads = select(ChannelHead).where(ChannelHead.project_id == channel.project_id, ChannelHead.channel == channel.name)
    ordered = heads.order_by(ChannelHead.id).with_for_update(key_share=True).execution_options(populate_existing=True)
    match.require(version_of(channel, session.scalars(ordered).all()))


def publish(
    session: Session, actor: Actor, *, channel: Channel, version: AdapterVersion, reason: str, action: ReleaseAction = ReleaseAction.PUBLISH
) -> Release:
    """Let `channel` serve `version`; raises ReleaseRefused with every gate that failed, AlreadyLive, ChannelMoved."""
    reference = f"{version.adapter.reference}:v{version.number}"
    bound_to(actor, channel.environment)
    # unscoped: the caller holds the version already. Its lock keeps a revocation at the same moment out: either it comes first and the gate sees it, or it comes after.
    session.execute(select(AdapterVersion.id).where(AdapterVersion.id == version.id).with_for_update())
    session.refresh(version, ["state", "state_reason"])
    grant_id, gates = gates_of(session, version, environment=channel.environment)
    failed = [gate for gate in gates if not gate.passed]
    if failed or grant_id is None:
        raise ReleaseRefused(version, channel.name, failed)
    head = _head(session, channel, version.adapter_id)
    if head is not None and head.version_id == version.id:
        raise AlreadyLive(reference, channel.name)
    release = Release(
        id=uuid7(), project_id=channel.project_id, channel_id=channel.id, adapter_id=version.adapter_id, version_id=version.id,
        previous_version_id=head.version_id if head else None, grant_id=grant_id, sequence=head.sequence + 1 if head else 1, action=action,
        reason=reason, released_by=actor.id,
    )  # fmt: skip
    _move(session, channel, head, release)
    release.audit_event_id = audit.record(
        session, actor, AuditAction.RELEASE_PUBLISH if action == ReleaseAction.PUBLISH else AuditAction.RELEASE_ROLL_BACK, object_type="release",
        object_id=release.id, object_digest=version.manifest_digest, project_id=channel.project_id, record=release_record(release),
        details={
            "channel": channel.name, "environment": channel.environment, "sequence": release.sequence, "version": str(version.id),
            "adapter": str(version.adapter_id),
        },
        payload=reason,
    )  # fmt: skip
    session.add(release)
    told = releases_events.ReleasePublished if action == ReleaseAction.PUBLISH else releases_events.ReleaseRolledBack
    moved = told(
        release_id=release.id, channel=channel.name, environment=channel.environment, version=reference, version_id=version.id,
        manifest_digest=version.manifest_digest, previous_version_id=release.previous_version_id, sequence=release.sequence, reason=reason,
    )  # fmt: skip
    emit(session, moved, project_id=channel.project_id)
    session.flush()  # created_at goes into the answer
    return session.scalars(releases(actor, channel, version.adapter_id).where(Release.id == release.id)).one()


def release_record(release: Release) -> dict[str, str | int | None]:
    """What the audit log vouches for of a release's row."""
    return {
        "id": str(release.id), "channel": str(release.channel_id), "adapter": str(release.adapter_id), "version": str(release.version_id),
        "previous": str(release.previous_version_id) if release.previous_version_id else None, "grant": str(release.grant_id),
        "sequence": release.sequence, "action": str(release.action), "released_by": str(release.released_by),
    }  # fmt: skip


def note_refusal(session: Session, actor: Actor, *, project_id: UUID, channel: str, refusal: ReleaseRefused) -> None:
    """A refused release or rollback is an event too (A3.17); called in a transaction of its own."""
    codes = ",".join(reason["code"] for reason in refusal.details["reasons"])
    audit.record(
        session, actor, AuditAction.RELEASE_REFUSE, object_type="adapter_version", object_id=refusal.version_id,
        object_digest=refusal.manifest_digest, outcome=Outcome.DENIED, project_id=project_id, details={"channel": channel, "codes": codes},
    )  # fmt: skip
    told = releases_events.ReleaseRefused(
        channel=channel, version_id=refusal.version_id, manifest_digest=refusal.manifest_digest, codes=codes.split(",") if codes else []
    )
    emit(session, told, project_id=project_id)


def roll_back(session: Session, actor: Actor, *, channel: Channel, adapter: Adapter, to: AdapterVersion | None, reason: str) -> Release:
    """Return to `to`, or to what the channel served before the current version. The gates hold for a rollback as well."""
    head = _head(session, channel, adapter.id)
    history = session.scalars(releases(actor, channel, adapter.id).order_by(Release.sequence)).all()
    target = _earlier(history, head.version_id) if head and to is None else None
    if to is not None:
        target = next((release.version for release in history if release.version_id == to.id), None)
    if target is None:
        raise NothingToRollBackTo(channel.name)
    return publish(session, actor, channel=channel, version=target, reason=reason, action=ReleaseAction.ROLL_BACK)


def _earlier(history: Sequence[Release], live: UUID) -> AdapterVersion | None:
    """What was served before `live` was first released: a second rollback goes further back, not forward to what was rolled back from."""
    first = next((release for release in history if release.version_id == live), None)
    before = first.previous_version_id if first else None
    return next((release.version for release in history if release.version_id == before), None)


def _head(session: Session, channel: Channel, adapter_id: UUID) -> ChannelHead | None:
    # unscoped: the caller holds the channel already.
    query = select(ChannelHead).where(
        ChannelHead.project_id == channel.project_id, ChannelHead.channel == channel.name, ChannelHead.adapter_id == adapter_id
    )
    return session.scalars(query.execution_options(populate_existing=True)).one_or_none()


def _move(session: Session, channel: Channel, head: ChannelHead | None, release: Release) -> None:
    if head is None:
        # unscoped: the caller holds the channel already. Who said what the channel must be holds this row (`require_unmoved`).
        session.execute(select(Channel.id).where(Channel.id == channel.id).with_for_update(key_share=True))
        first = insert(ChannelHead).values(
            id=uuid7(),
            project_id=channel.project_id,
            channel=channel.name,
            adapter_id=release.adapter_id,
            version_id=release.version_id,
            sequence=1,
        )
        moved = session.scalar(first.on_conflict_do_nothing().returning(ChannelHead.id))
    else:
        moved = session.scalar(
            update(ChannelHead)
            .where(ChannelHead.id == head.id, ChannelHead.sequence == head.sequence)
            .values(version_id=release.version_id, sequence=release.sequence, created_at=func.clock_timestamp())
            .returning(ChannelHead.id)
        )
    if moved is None:
        raise ChannelMoved(channel.name)


def listed(actor: Actor) -> Select[Release]:
    """Releases in sight with what rendering them needs."""
    version = joinedload(Release.version)
    return visible(actor, Release).options(
        version.joinedload(AdapterVersion.adapter).options(joinedload(Adapter.project), joinedload(Adapter.base_model)),
        version.joinedload(AdapterVersion.base_revision).joinedload(BaseRevision.base_model),
        joinedload(Release.previous_version),
        joinedload(Release.releaser),
        joinedload(Release.channel),
    )


def releases(actor: Actor, channel: Channel, adapter_id: UUID) -> Select[Release]:
    """The adapter's releases on a channel."""
    return listed(actor).where(Release.channel_id == channel.id, Release.adapter_id == adapter_id)


def in_force(query: Select[Release], at: datetime) -> Select[Release]:
    """Of `query`, for every channel and adapter, the move that decided what was served at that time."""
    later = aliased(Release)
    # unscoped: only whether a later move of the same pointer exists.
    moved_on = select(later.id).where(
        later.channel_id == Release.channel_id,
        later.adapter_id == Release.adapter_id,
        later.sequence > Release.sequence,
        later.created_at <= at,
    )
    return query.where(Release.created_at <= at, ~moved_on.exists())


def heads(actor: Actor, channel: Channel) -> Select[ChannelHead]:
    """What the channel serves, with what rendering it needs."""
    version = joinedload(ChannelHead.version)
    return (
        visible(actor, ChannelHead)
        .where(ChannelHead.project_id == channel.project_id, ChannelHead.channel == channel.name)
        .options(
            version.joinedload(AdapterVersion.adapter).options(joinedload(Adapter.project), joinedload(Adapter.base_model)),
            version.joinedload(AdapterVersion.base_revision).joinedload(BaseRevision.base_model),
        )
        .order_by(ChannelHead.adapter_id)
    )


def grants_of(session: Session, version: AdapterVersion) -> list[ApprovalGrant]:
    """Grants of the version that are good now."""
    # unscoped: the caller holds the version already.
    query = select(ApprovalGrant).where(ApprovalGrant.version_id == version.id, ApprovalGrant.expires_at > func.clock_timestamp())
    return list(session.scalars(query.order_by(ApprovalGrant.id)))
