"""The words of the audit log: actions, outcomes, and the event whose canonical bytes are a leaf (governance B2).

A leaf is for ever, so it holds opaque ids and digests only: no names of persons, no free text. Free text (an approval's reason)
enters as `payload_commit`, an HMAC-SHA-256 under a random salt that is stored with the text and can be destroyed with it.
"""

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from ringi.kit.digests import Digest

MAX_ENTRY_BYTES = 65_535
MAX_DETAIL_CHARACTERS = 256
_SAFE_INTEGER = 2**53 - 1
_COMMITMENT = re.compile(r"hmac-sha256:[0-9a-f]{64}")


class AuditAction(StrEnum):
    """Every action that the log knows, `domain.thing.verb`. Members are added, never renamed or removed."""

    ORGANIZATION_CREATE = "organization.create"
    PROJECT_CREATE = "project.create"
    USER_CREATE = "user.create"
    USER_LINK = "user.link"
    USER_DISABLE = "user.disable"
    USER_ENABLE = "user.enable"
    MEMBERSHIP_GRANT = "membership.grant"
    MEMBERSHIP_REVOKE = "membership.revoke"
    TOKEN_ISSUE = "token.issue"  # noqa: S105  # an action's name, not a secret
    TOKEN_REVOKE = "token.revoke"  # noqa: S105  # an action's name, not a secret
    TOKEN_LIMIT = "token.limit"  # noqa: S105  # an action's name, not a secret
    SESSION_BEGIN = "session.begin"
    SESSION_END = "session.end"
    QUOTA_SET = "quota.set"
    UPLOAD_STORE = "upload.store"
    UPLOAD_OPEN = "upload.open"
    UPLOAD_END = "upload.end"
    BLOB_COLLECT = "blob.collect"
    STORAGE_COLLECT = "storage.collect"
    BASE_MODEL_CREATE = "base_model.create"
    BASE_MODEL_REVISION_REGISTER = "base_model.revision.register"
    BASE_MODEL_REVISION_SEAL = "base_model.revision.seal"
    BASE_MODEL_REVISION_REFUSE = "base_model.revision.refuse"
    DATASET_CREATE = "dataset.create"
    DATASET_VERSION_ADD = "dataset.version.add"
    DATASET_VERSION_SEAL = "dataset.version.seal"
    DATASET_POLICY_SET = "dataset.policy.set"
    DATASET_TRACE = "dataset.trace"
    ADAPTER_CREATE = "adapter.create"
    ADAPTER_VERSION_REGISTER = "adapter.version.register"
    ADAPTER_VERSION_SEAL = "adapter.version.seal"
    ADAPTER_VERSION_REFUSE = "adapter.version.refuse"
    ADAPTER_VERSION_DEPRECATE = "adapter.version.deprecate"
    ADAPTER_VERSION_RETIRE = "adapter.version.retire"
    ADAPTER_VERSION_REVOKE = "adapter.version.revoke"
    ADAPTER_VERSION_ORIGIN = "adapter.version.origin"
    TRAINING_RUN_START = "training.run.start"
    TRAINING_RUN_PAUSE = "training.run.pause"
    TRAINING_RUN_CONTINUE = "training.run.continue"
    TRAINING_RUN_COMPLETE = "training.run.complete"
    TRAINING_RUN_FAIL = "training.run.fail"
    SEARCH_REQUEST = "training.search.request"
    SEARCH_COMPLETE = "training.search.complete"
    RETRAINING_POLICY_SET = "retraining.policy.set"
    RETRAINING_PLAN = "retraining.plan"
    RETRAINING_END = "retraining.end"
    EVALUATION_REQUEST = "evaluation.request"
    EVALUATION_COMPLETE = "evaluation.complete"
    SUITE_CREATE = "suite.create"
    SUITE_VERSION_SEAL = "suite.version.seal"
    SWEEP_REQUEST = "evaluation.sweep.request"
    MEASUREMENT_COMPLETE = "evaluation.measurement.complete"
    MEASUREMENT_IMPORT = "evaluation.measurement.import"
    MEASUREMENT_CANCEL = "evaluation.measurement.cancel"
    MEASUREMENT_STOP = "evaluation.measurement.stop"
    GATE_DECIDE = "evaluation.gate.decide"
    WATCH_CREATE = "evaluation.watch.create"
    WATCH_CHANGE = "evaluation.watch.change"
    WATCH_DELETE = "evaluation.watch.delete"
    WATCH_LOOK = "evaluation.watch.look"
    WATCH_TURN = "evaluation.watch.turn"
    WATCH_DRIFT = "evaluation.watch.drift"
    WATCH_FAIL = "evaluation.watch.fail"
    COMPATIBILITY_ASSESS = "compatibility.assess"
    POLICY_CREATE = "policy.create"
    APPROVAL_REQUEST = "approval.request"
    APPROVAL_VOTE = "approval.vote"
    APPROVAL_WITHDRAW = "approval.withdraw"
    APPROVAL_GRANT = "approval.grant"
    APPROVAL_REFUSE = "approval.refuse"
    APPROVAL_LAPSE = "approval.lapse"
    CHANNEL_CREATE = "channel.create"
    RELEASE_PUBLISH = "release.publish"
    RELEASE_ROLL_BACK = "release.roll_back"
    RELEASE_REFUSE = "release.refuse"
    HUB_FILE_DOWNLOAD = "hub.file.download"
    JOB_CANCEL = "job.cancel"
    JOB_FAIL = "job.fail"
    TAG_SET = "tag.set"
    TAG_REMOVE = "tag.remove"
    JOB_PRIORITIZE = "job.prioritize"
    WORKER_CORDON = "worker.cordon"
    WORKER_UNCORDON = "worker.uncordon"
    WORKER_DRAIN = "worker.drain"
    SUBSCRIPTION_CREATE = "subscription.create"
    SUBSCRIPTION_CHANGE = "subscription.change"
    SUBSCRIPTION_ENABLE = "subscription.enable"
    SUBSCRIPTION_DISABLE = "subscription.disable"
    SUBSCRIPTION_ROTATE_SECRET = "subscription.secret.rotate"  # noqa: S105  # an action's name, not a secret
    SUBSCRIPTION_TEST = "subscription.test"
    SUBSCRIPTION_REPLAY = "subscription.replay"
    SUBSCRIPTION_DELETE = "subscription.delete"
    AUDIT_EXPORT = "audit.export"
    LOG_STOP = "log.stop"
    LOG_RESUME = "log.resume"
    LOG_ORIGIN_OPEN = "log.origin.open"
    LOG_KEY_ADDED = "log.key.added"
    LOG_KEY_RETIRED = "log.key.retired"
    ACCESS_DENY = "access.deny"
    AUTHENTICATION_REFUSE = "authentication.refuse"
    PAYLOAD_ERASED = "payload.erased"


class Outcome(StrEnum):
    """How it ended."""

    OK = "ok"
    DENIED = "denied"
    ERROR = "error"


def _commitment(text: str) -> str:
    if not _COMMITMENT.fullmatch(text):
        raise ValueError("a commitment is 'hmac-sha256:' followed by 64 lowercase hex characters")
    return text


PayloadCommit = Annotated[str, AfterValidator(_commitment)]
# Floats have no place in canonical bytes that live for ever; a measurement goes in as a decimal string.
SafeInteger = Annotated[StrictInt, Field(ge=-_SAFE_INTEGER, le=_SAFE_INTEGER)]
DetailText = Annotated[StrictStr, Field(max_length=MAX_DETAIL_CHARACTERS, pattern=r"^[^\x00-\x1f\x7f]*$")]
DetailName = Annotated[StrictStr, Field(max_length=64, pattern=r"^[a-z][a-z0-9_]*$")]
DetailValue = StrictBool | SafeInteger | DetailText | None


class EventPart(BaseModel):
    """Frozen and closed: what is in the bytes is in the model and the other way round."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EventAuth(EventPart):
    """How the actor proved who it is: by a token of this platform, or by a login at the identity provider `iss`."""

    token_id: str | None
    iss: Annotated[str, Field(max_length=512)] | None = None
    acr: Annotated[str, Field(max_length=128)] | None = None
    amr: list[Annotated[str, Field(max_length=128)]] | None = None
    auth_time: str | None = None


class EventActor(EventPart):
    """`id` is opaque for persons and services, and the component's name for `system`."""

    type: Literal["user", "service", "system"]
    id: str
    on_behalf_of: str | None = None
    auth: EventAuth | None = None


class EventObject(EventPart):
    """What was acted upon. `digest` is its content's identity where it has one (a manifest, a dataset version)."""

    type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.]*$", max_length=64)]
    id: Annotated[str, Field(min_length=1, max_length=256)]
    digest: Digest | None


class Event(EventPart):
    """One leaf. Its bytes are the RFC 8785 form of exactly these keys, nulls included.

    `ts` is RFC 3339 in UTC with microseconds, by the database's clock. `before` and `after` are digests of the canonical JSON of
    the state row; an auditor recomputes `after` from the exported row. `policy` is the digest of the policy applied.
    """

    v: Literal[1] = 1
    origin: str
    id: str
    ts: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")]
    actor: EventActor
    action: AuditAction
    outcome: Outcome
    object: EventObject
    organization: str | None
    project: str | None
    before: Digest | None
    after: Digest | None
    policy: Digest | None
    request_id: str | None
    details: dict[DetailName, DetailValue] | None
    payload_commit: PayloadCommit | None
