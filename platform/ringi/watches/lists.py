"""The fields of the lists of watches and looks."""

from sqlalchemy import select

from ringi.adapters.lists import version_of
from ringi.adapters.models import Adapter
from ringi.gating.schemas import Verdict
from ringi.identity.lists import owner
from ringi.watches.models import Watch, WatchLook
from ringi.watches.schemas import LookState
from ringi.web.listing import Listing, column, through, word

# unscoped: the list's own rows are scoped.
_ADAPTERS = select(Adapter.id)

WATCHES = Listing(
    "watches", key=Watch.id,
    fields={
        "name": column(Watch.name, "The watch's name."),
        "adapter": through(Watch.adapter_id, _ADAPTERS, Adapter.name, "The adapter, of a watch of one alone."),
        "suite": column(Watch.suite, "The suite as it was named."),
        "baseline": column(Watch.baseline, "The baseline as it was named."),
        "due_at": column(Watch.due_at, "When the next look is due; of a paused watch when it would have been."),
        "paused_at": column(Watch.paused_at, "Since when it is paused."),
        "owner": owner(Watch.created_by, "Who made it."),
        "created_at": column(Watch.created_at, "When it was made."),
    },
)  # fmt: skip
LOOKS = Listing(
    "watch-looks", key=WatchLook.id,
    fields={
        **version_of(WatchLook.version_id),
        "channel": column(WatchLook.channel, "The channel."),
        "state": column(WatchLook.state, "How it stands.", choices=LookState),
        "verdict": column(WatchLook.verdict, "What the gate decided.", choices=Verdict),
        "turned": column(WatchLook.turned, "Whether the verdict is another than before."),
        "drifted": column(WatchLook.drifted, "Whether something drifted; nothing where nothing could be compared."),
        "problem": word(WatchLook.problem, "code", about="The code of what went wrong."),
        "by_hand": column(WatchLook.by_hand, "Whether somebody asked for it."),
        "due_at": column(WatchLook.due_at, "The time that it is of."),
        "completed_at": column(WatchLook.completed_at, "When it ended."),
        "created_at": column(WatchLook.created_at, "When it was taken."),
    },
)  # fmt: skip
