"""Events of channels and releases."""

from uuid import UUID

from pydantic import Field

from ringi.events.catalogue.data import EventData, Explanation, RevisionName, VersionName
from ringi.kit.digests import Digest


class ChannelCreated(EventData):
    """A channel that serves nothing yet was created."""

    NAME, TITLE = "channel.created", "チャンネルが作成されました"
    channel: str
    environment: str


class ChannelStaleBase(EventData):
    """What a channel serves stands on a base with a newer revision on which it must not simply go on. It is still served as before."""

    NAME, TITLE = "channel.stale_base", "配信中の版のベースモデルが古くなりました"
    channel: str
    version: VersionName
    base_revision: RevisionName
    verdict: str
    action: str


class _OfRelease(EventData):
    release_id: UUID
    channel: str
    environment: str
    version: VersionName
    version_id: UUID
    manifest_digest: Digest
    previous_version_id: UUID | None
    sequence: int = Field(description="Counts the moves of this adapter on this channel, from 1.")
    reason: Explanation


class ReleasePublished(_OfRelease):
    """A channel serves another version from now on."""

    NAME, TITLE = "release.published", "リリースされました"


class ReleaseRolledBack(_OfRelease):
    """A channel serves again what it had served before."""

    NAME, TITLE = "release.rolled_back", "リリースが巻き戻されました"


class ReleaseRefused(EventData):
    """A gate stopped a release or a rollback; the channel serves what it served."""

    NAME, TITLE = "release.refused", "リリースが拒否されました"
    channel: str
    version_id: UUID
    manifest_digest: Digest
    codes: list[str] = Field(description="The gates that failed.")
