"""Channels and releases in and out."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from ringi.kit.digests import Digest
from ringi.tags.schemas import Tagged
from ringi.web.schemas import Name, Reason, Schema, Selector, Text


class ReleaseAction(StrEnum):
    """How a channel came to serve a version."""

    PUBLISH = "publish"
    ROLL_BACK = "roll_back"


class BaseStatus(StrEnum):
    """What the newest revision of the base means for what is live. `stale_base` goes on serving on the revision that it was approved on."""

    CURRENT = "current"
    KEEP = "keep"
    STALE_BASE = "stale_base"
    NOT_ASSESSED = "not_assessed"


class CreateChannel(Schema):
    """A channel serves one environment; several channels may serve the same one."""

    name: Name
    environment: Name
    description: Text = ""


class Publish(Schema):
    """Let the channel serve a version (`v2`, `sha256:…`, `latest`)."""

    version: Selector
    reason: Reason


class RollBack(Schema):
    """Return to the version that was served before, or to a named earlier one."""

    to: Selector | None = None
    reason: Reason


class ReleaseOut(Tagged):
    """One move of a channel."""

    channel: str
    sequence: int
    action: ReleaseAction
    version: str
    manifest_digest: Digest
    previous: str | None
    grant_id: UUID
    released_by: str
    reason: str
    created_at: datetime


class LiveOut(Schema):
    """What a channel serves for one adapter now."""

    adapter: str
    version: str
    manifest_digest: Digest
    commit: str
    sequence: int
    base: str
    base_status: BaseStatus
    base_note: str
    released_at: datetime


class ChannelOut(Tagged):
    """A channel and what it serves."""

    name: str
    environment: str
    description: str
    live: list[LiveOut]
    created_at: datetime
    row_version: int


class GateOut(Schema):
    """One gate of a release and whether it holds now."""

    number: int
    code: str
    passed: bool
    message: str


class StandingOut(Schema):
    """What is derived about a version: evaluated, approved where, live where, and what each channel would say to its release."""

    version: str
    state: str
    evaluated: bool
    approved_for: list[str]
    live_on: list[str]
    gates: dict[str, list[GateOut]]
