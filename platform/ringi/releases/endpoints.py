"""HTTP for channels and releases."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy import select
from sqlalchemy.orm import Session

from ringi.adapters import service as adapters
from ringi.adapters.models import ChannelHead
from ringi.db.session import get_sessionmaker
from ringi.evaluation.service import evidence_of
from ringi.gates.service import measured_gates
from ringi.identity.dependencies import InProject, allowed_in_project
from ringi.identity.permissions import Permission, visible
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.releases import service, standing
from ringi.releases.lists import ALL_RELEASES, CHANNELS, RELEASES
from ringi.releases.models import Channel, Release
from ringi.releases.schemas import ChannelOut, CreateChannel, GateOut, LiveOut, Publish, ReleaseOut, RollBack, StandingOut
from ringi.tags.lists import with_tags
from ringi.web.as_of import BadAsOf, past
from ringi.web.errors import responses
from ringi.web.paging import Ask, asking, page_of
from ringi.web.preconditions import IfMatch, PreconditionFailed
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(
    route_class=ApiRoute, prefix="/projects/{project}", tags=["releases"], responses=responses(Unauthenticated, Forbidden, NotFound)
)
Reader = Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)]
Creator = Annotated[InProject, allowed_in_project(Permission.CHANNEL_CREATE)]
Releaser = Annotated[InProject, allowed_in_project(Permission.RELEASE_PUBLISH)]


def live_out(session: Session, head: ChannelHead) -> LiveOut:
    """What is served for one adapter, and what its base has come to."""
    version = head.version
    base = standing.base_standing(session, version)
    return LiveOut(
        adapter=version.adapter.reference, version=f"{version.adapter.reference}:v{version.number}", manifest_digest=version.manifest_digest,
        commit=version.commit, sequence=head.sequence, base=f"{version.base_revision.base_model.name}:r{version.base_revision.number}",
        base_status=base.status, base_note=base.note, released_at=head.created_at,
    )  # fmt: skip


def channel_out(session: Session, caller: InProject, channel: Channel) -> ChannelOut:
    """A channel with what it serves."""
    heads = session.scalars(service.heads(caller.actor, channel)).all()
    return ChannelOut(
        id=channel.id,
        name=channel.name,
        environment=channel.environment,
        description=channel.description,
        live=[live_out(session, head) for head in heads],
        created_at=channel.created_at,
        row_version=service.version_of(channel, heads),
    )


def release_out(release: Release) -> ReleaseOut:
    """A release with names instead of ids."""
    reference, previous = release.version.adapter.reference, release.previous_version
    return ReleaseOut(
        id=release.id, channel=release.channel.name, sequence=release.sequence, action=release.action, version=f"{reference}:v{release.version.number}",
        manifest_digest=release.version.manifest_digest, previous=f"{reference}:v{previous.number}" if previous else None, grant_id=release.grant_id,
        released_by=release.releaser.name, reason=release.reason, created_at=release.created_at,
    )  # fmt: skip


@router.post("/channels", status_code=201, responses=responses(service.ChannelExists))
def create_channel(session: SessionDep, caller: Creator, body: CreateChannel) -> ChannelOut:
    """A new channel that serves nothing yet."""
    channel = service.create_channel(
        session, caller.actor, project=caller.project, name=body.name, environment=body.environment, description=body.description
    )
    return channel_out(session, caller, channel)


@router.get("/channels")
def list_channels(session: SessionDep, caller: Reader, ask: Annotated[Ask, asking(CHANNELS)]) -> Page[ChannelOut]:
    """Channels of the project and what they serve."""
    query = visible(caller.actor, Channel).where(Channel.project_id == caller.project.id)
    return page_of(session, query, ask, lambda row: channel_out(session, caller, row))


@router.get("/channels/{channel}")
def get_channel(session: SessionDep, caller: Reader, channel: str) -> ChannelOut:
    """One channel and what it serves."""
    return with_tags(
        session, channel_out(session, caller, service.find_channel(session, caller.actor, project=caller.project, name=channel))
    )


@router.post(
    "/channels/{channel}/adapters/{adapter}/releases", status_code=201,
    responses=responses(service.ReleaseRefused, service.AlreadyLive, service.ChannelMoved, PreconditionFailed),
)  # fmt: skip
def publish(session: SessionDep, caller: Releaser, channel: str, adapter: str, body: Publish, match: IfMatch) -> ReleaseOut:
    """Let the channel serve a version, if every gate passes."""
    found = service.find_channel(session, caller.actor, project=caller.project, name=channel)
    service.require_unmoved(session, match, channel=found)
    one = adapters.find(session, caller.actor, project=caller.project, name=adapter)
    version = adapters.find_version(session, caller.actor, adapter=one, selector=body.version)
    with _refusals_noted(session, caller, channel):
        return release_out(service.publish(session, caller.actor, channel=found, version=version, reason=body.reason))


@router.post(
    "/channels/{channel}/adapters/{adapter}/rollback", status_code=201,
    responses=responses(service.ReleaseRefused, service.NothingToRollBackTo, service.ChannelMoved, PreconditionFailed),
)  # fmt: skip
def roll_back(session: SessionDep, caller: Releaser, channel: str, adapter: str, body: RollBack, match: IfMatch) -> ReleaseOut:
    """Return to what was served before, or to a named earlier version."""
    found = service.find_channel(session, caller.actor, project=caller.project, name=channel)
    service.require_unmoved(session, match, channel=found)
    one = adapters.find(session, caller.actor, project=caller.project, name=adapter)
    to = adapters.find_version(session, caller.actor, adapter=one, selector=body.to) if body.to else None
    with _refusals_noted(session, caller, channel):
        return release_out(service.roll_back(session, caller.actor, channel=found, adapter=one, to=to, reason=body.reason))


@contextmanager
def _refusals_noted(session: Session, caller: InProject, channel: str) -> Iterator[None]:
    """A refused move of a channel is audited in a transaction of its own, after the request's has given its locks and connection back."""
    project_id = caller.project.id
    try:
        yield
    except service.ReleaseRefused as refusal:
        session.rollback()
        with get_sessionmaker().begin() as own:
            service.note_refusal(own, caller.actor, project_id=project_id, channel=channel, refusal=refusal)
        raise


@router.get("/channels/{channel}/adapters/{adapter}/releases")
def list_releases(
    session: SessionDep, caller: Reader, channel: str, adapter: str, ask: Annotated[Ask, asking(RELEASES)]
) -> Page[ReleaseOut]:
    """The whole history of what the channel served for the adapter, newest first."""
    found = service.find_channel(session, caller.actor, project=caller.project, name=channel)
    one = adapters.find(session, caller.actor, project=caller.project, name=adapter)
    return page_of(session, service.releases(caller.actor, found, one.id), ask, release_out)


@router.get("/releases", responses=responses(BadAsOf))
def list_all_releases(
    session: SessionDep,
    caller: Reader,
    ask: Annotated[Ask, asking(ALL_RELEASES)],
    as_of: Annotated[str | None, Query(max_length=40)] = None,
) -> Page[ReleaseOut]:
    """Every move of every channel of the project, newest first; with `as_of` only those that decided what was served at that time."""
    query = service.listed(caller.actor).where(Release.project_id == caller.project.id)
    if as_of is not None:
        query = service.in_force(query, past(as_of, of="as_of"))
    return page_of(session, query, ask, release_out)


@router.get("/adapters/{adapter}/versions/{selector}/standing")
def version_standing(session: SessionDep, caller: Reader, adapter: str, selector: str) -> StandingOut:
    """Evaluated, approved, live; and what each channel would say to this version's release now."""
    one = adapters.find(session, caller.actor, project=caller.project, name=adapter)
    version = adapters.find_version(session, caller.actor, adapter=one, selector=selector)
    channels = session.scalars(visible(caller.actor, Channel).where(Channel.project_id == caller.project.id).order_by(Channel.name)).all()
    # unscoped: the caller holds the version already.
    live = session.scalars(select(ChannelHead.channel).where(ChannelHead.version_id == version.id).order_by(ChannelHead.channel)).all()
    verdicts = {channel.name: standing.gates_of(session, version, environment=channel.environment).gates for channel in channels}
    return StandingOut(
        version=f"{one.reference}:v{version.number}", state=version.state, evaluated=bool(evidence_of(session, version)) or measured_gates(session, version) > 0,
        approved_for=sorted({grant.environment for grant in service.grants_of(session, version)}), live_on=list(live),
        gates={name: [GateOut.model_validate(gate) for gate in gates] for name, gates in verdicts.items()},
    )  # fmt: skip
