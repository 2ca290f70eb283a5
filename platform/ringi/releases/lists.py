"""The fields of the lists of channels and releases."""

from dataclasses import replace

from sqlalchemy import select

from ringi.adapters.lists import adapter_of
from ringi.adapters.models import Adapter, AdapterVersion, ChannelHead
from ringi.identity.lists import owner
from ringi.releases.models import Channel, Release
from ringi.releases.schemas import ReleaseAction
from ringi.tags.lists import fill, tags_of
from ringi.web.listing import Listing, column, through
from ringi.web.search import folded

# unscoped: the lists' own rows are scoped.
_CHANNELS, _VERSIONS = select(Channel.id), select(AdapterVersion.id)
_SERVING = (
    # unscoped: channels of the same project by their names, as heads hold them.
    select(Channel.id)
    .join(ChannelHead, (ChannelHead.channel == Channel.name) & (ChannelHead.project_id == Channel.project_id))
    .join(Adapter, Adapter.id == ChannelHead.adapter_id)
)

CHANNELS = Listing(
    "channels", key=Channel.id, search=(folded(Channel.name), folded(Channel.description)), families=tags_of(Channel.id), finish=fill,
    fields={
        "name": column(Channel.name, "The channel's name."),
        "environment": column(Channel.environment, "The environment that it serves."),
        "description": column(Channel.description, "What it is.", sort=False),
        "serves": through(Channel.id, _SERVING, Adapter.name, "The name of an adapter that it serves.", sort=False),
        "created_at": column(Channel.created_at, "When it was made."),
    },
)  # fmt: skip
RELEASES = Listing(
    "releases", key=Release.id, search=(folded(Release.reason),), families=tags_of(Release.id), finish=fill,
    fields={
        "channel": through(Release.channel_id, _CHANNELS, Channel.name, "The channel's name."),
        "environment": through(Release.channel_id, _CHANNELS, Channel.environment, "The channel's environment."),
        "adapter": adapter_of(Release.adapter_id),
        "version": through(Release.version_id, _VERSIONS, AdapterVersion.number, "The number of the version that is served from then on."),
        "action": column(Release.action, "Published or rolled back to.", choices=ReleaseAction),
        "sequence": column(Release.sequence, "Which move of the channel for the adapter it is."),
        "owner": owner(Release.released_by, "Who did it."),
        "reason": column(Release.reason, "Why.", sort=False),
        "created_at": column(Release.created_at, "When."),
    },
)  # fmt: skip
# The same over all channels of a project, and as of a time.
ALL_RELEASES = replace(RELEASES, name="all-releases", also=("as_of",))
