"""Events of watches: what is live turned, drifted, or could not be looked at."""

from uuid import UUID

from pydantic import Field

from ringi.events.catalogue.data import Code, EventData, Explanation, VersionName
from ringi.kit.digests import Digest


class _OfWatch(EventData):
    watch: str
    watch_id: UUID


class WatchChanged(_OfWatch):
    """A watch was made, changed, paused, resumed or removed."""

    NAME, TITLE = "evaluation.watch.changed", "定期監視の設定が変わりました"
    change: str = Field(description="`created`, `changed`, `paused`, `resumed` or `removed`.")


class _OfLook(_OfWatch):
    look_id: UUID
    channel: str


class WatchTurned(_OfLook):
    """The gate judges what a channel serves otherwise than before: from GO to something else, or back."""

    NAME, TITLE = "evaluation.watch.turned", "稼働中の版の品質判定が変わりました"
    version: VersionName
    suite: str = Field(description="The suite's version, as `project/name:v1`.")
    verdict: str
    verdict_before: str | None = Field(description="Null when this is the first verdict.")
    gate_id: UUID
    decision_digest: Digest


class WatchDrifted(_OfLook):
    """Scores or operational figures of what a channel serves crossed a limit of the watch, or came back."""

    NAME, TITLE = "evaluation.watch.drifted", "稼働中の版の指標が変動しました"
    version: VersionName
    suite: str = Field(description="The suite's version, as `project/name:v1`.")
    drifted: bool = Field(description="False: everything is within its limits again.")
    figures: list[str] = Field(description="What is over its limit, as `task.metric -0.12 (limit 0.05)`.")


class WatchFailed(_OfLook):
    """What a channel serves could not be measured. Told once, until it can be, or fails for another reason."""

    NAME, TITLE = "evaluation.watch.failed", "定期監視の測定ができませんでした"
    version: str | None = Field(description="The version, as `project/adapter:v3`; null where the channel serves none.")
    code: Code
    message: Explanation
