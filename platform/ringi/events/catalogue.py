"""Every event that the platform tells of: a name `domain.thing.past`, a Japanese title, and the model of its `data`.

docs/events.md is made from this page. Plain values only: an event explains itself long after the rows behind it have moved on.
A field may be added to an event; a name or a field is never renamed or removed, because receivers are programs of other people.
"""
# long: one vocabulary on one page, in the order of an adapter's life.

from datetime import datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ringi.kit.digests import Digest

MAX_EXPLANATION = 500  # characters


def _bounded(text: Any) -> Any:
    return text[:MAX_EXPLANATION] if isinstance(text, str) else text


Explanation = Annotated[str, BeforeValidator(_bounded), Field(description="Why, in words; at most 500 characters.")]
VersionName = Annotated[str, Field(description="The version, as `project/adapter:v3`.")]
AdapterName = Annotated[str, Field(description="The adapter, as `project/adapter`.")]
RevisionName = Annotated[str, Field(description="The revision of the base model, as `name:r2`.")]
JobId = Annotated[UUID, Field(description="The job that did it.")]
Code = Annotated[str, Field(description="The stable code of the refusal: docs/errors.md.")]


class EventData(BaseModel):
    """What an event says: frozen and closed. A subclass with a `NAME` is an event of the catalogue."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    NAME: ClassVar[str] = ""
    TITLE: ClassVar[str] = ""


class DatasetCreated(EventData):
    """A dataset without versions was created."""

    NAME, TITLE = "dataset.created", "データセットが作成されました"
    dataset: str = Field(description="The dataset, as `project/name`.")
    dataset_id: UUID


class DatasetVersionSealed(EventData):
    """A dataset version passed validation; from now on it never changes."""

    NAME, TITLE = "dataset.version.sealed", "データセットの版が封印されました"
    version: str = Field(description="The version, as `project/name:v1`.")
    version_id: UUID
    digest: Digest
    job_id: JobId


class BaseCreated(EventData):
    """A base model without revisions was created."""

    NAME, TITLE = "base.created", "ベースモデルが作成されました"
    base: str
    base_id: UUID


class _OfRevision(EventData):
    revision: RevisionName
    revision_id: UUID
    digest: Digest
    job_id: JobId


class BaseRevisionRegistered(_OfRevision):
    """The files of a base revision arrived; their fingerprint is being computed."""

    NAME, TITLE = "base.revision.registered", "ベースモデルの改訂が登録されました"


class BaseRevisionSealed(_OfRevision):
    """A base revision has its fingerprint. Adapters of earlier revisions are assessed next: `compatibility.assessed`."""

    NAME, TITLE = "base.revision.sealed", "ベースモデルの改訂が封印されました"


class BaseRevisionRefused(_OfRevision):
    """The files of a base revision were turned away."""

    NAME, TITLE = "base.revision.refused", "ベースモデルの改訂が拒否されました"
    code: Code


class AdapterCreated(EventData):
    """An adapter without versions was created."""

    NAME, TITLE = "adapter.created", "アダプターが作成されました"
    adapter: AdapterName
    adapter_id: UUID
    base: str = Field(description="Its base model.")


class _OfVersion(EventData):
    version: VersionName
    version_id: UUID
    manifest_digest: Digest


class AdapterVersionSealed(_OfVersion):
    """A version passed admission and its effect proof; from now on its files never change."""

    NAME, TITLE = "adapter.version.sealed", "アダプターの版が封印されました"
    source: str = Field(description="`trained` or `registered`.")
    job_id: JobId


class AdapterVersionRefused(EventData):
    """A registered adapter was turned away; nothing was sealed."""

    NAME, TITLE = "adapter.version.refused", "アダプターが拒否されました"
    adapter: AdapterName
    job_id: JobId
    code: Code


class AdapterVersionDeprecated(_OfVersion):
    """A version goes on serving, and whoever uses it should move on."""

    NAME, TITLE = "adapter.version.deprecated", "アダプターの版が非推奨になりました"
    reason: Explanation


class AdapterVersionRetired(_OfVersion):
    """A version's service ended in good order."""

    NAME, TITLE = "adapter.version.retired", "アダプターの版が引退しました"
    reason: Explanation


class AdapterVersionRevoked(_OfVersion):
    """A version was stopped at once and for ever: delete what you have of it."""

    NAME, TITLE = "adapter.version.revoked", "アダプターの版が失効しました"
    reason: Explanation


class _OfRun(EventData):
    run_id: UUID
    adapter: AdapterName
    job_id: JobId


class TrainingRunStarted(_OfRun):
    """A training run was asked for; a worker takes it as soon as one is free."""

    NAME, TITLE = "training.run.started", "学習が開始されました"
    dataset_digest: Digest
    base: RevisionName


class TrainingRunSucceeded(_OfRun):
    """A training run ended with a sealed version."""

    NAME, TITLE = "training.run.succeeded", "学習が成功しました"
    version: VersionName
    version_id: UUID
    manifest_digest: Digest


class TrainingRunFailed(_OfRun):
    """A training run failed for good."""

    NAME, TITLE = "training.run.failed", "学習が失敗しました"
    code: Code
    message: Explanation


class TrainingRunCancelled(_OfRun):
    """A training run was cancelled."""

    NAME, TITLE = "training.run.cancelled", "学習が取り消されました"


class _OfEvaluation(EventData):
    evaluation_id: UUID
    version: VersionName
    job_id: JobId


class EvaluationRequested(_OfEvaluation):
    """An evaluation was asked for."""

    NAME, TITLE = "evaluation.requested", "評価が依頼されました"


class EvaluationCompleted(_OfEvaluation):
    """An evaluation was judged. A verdict other than `better` is a result as well."""

    NAME, TITLE = "evaluation.completed", "評価が完了しました"
    verdict: str
    evidence_digest: Digest


class EvaluationFailed(_OfEvaluation):
    """An evaluation failed for good; there is no verdict."""

    NAME, TITLE = "evaluation.failed", "評価が失敗しました"
    code: Code
    message: Explanation


class EvaluationCancelled(_OfEvaluation):
    """An evaluation was cancelled."""

    NAME, TITLE = "evaluation.cancelled", "評価が取り消されました"


class CompatibilityAssessed(EventData):
    """A version was judged against another revision of its base."""

    NAME, TITLE = "compatibility.assessed", "互換性が判定されました"
    version: VersionName
    version_id: UUID
    base_revision: RevisionName
    verdict: str
    action: str = Field(description="`keep`, `regression` or `block`: what has to happen before it moves to that revision.")


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


class OfRequest(EventData):
    """What every event of an approval request says."""

    request_id: UUID
    version: VersionName
    version_id: UUID
    environment: str


class ApprovalRequested(OfRequest):
    """Someone asks for a version to be approved for an environment."""

    NAME, TITLE = "approval.requested", "承認が依頼されました"
    requester_id: UUID
    manifest_digest: Digest
    expires_at: datetime


class ApprovalVoted(OfRequest):
    """A vote was cast. Its reason is not told here: it can be erased, an event cannot."""

    NAME, TITLE = "approval.voted", "承認の投票がありました"
    voter_id: UUID
    decision: str
    stage: str


class ApprovalGranted(OfRequest):
    """The last vote that the policy needs was cast: there is a grant."""

    NAME, TITLE = "approval.granted", "承認されました"
    grant_id: UUID
    manifest_digest: Digest
    expires_at: datetime


class ApprovalRefused(OfRequest):
    """The voters sent the request back or rejected it."""

    NAME, TITLE = "approval.refused", "承認されませんでした"
    outcome: str = Field(description="`changes_requested` (差戻し) or `rejected` (却下).")


class ApprovalWithdrawn(OfRequest):
    """The requester took the request back."""

    NAME, TITLE = "approval.withdrawn", "承認の依頼が取り下げられました"


class ApprovalLapsed(OfRequest):
    """A request ended without a decision, noticed when someone came back to it."""

    NAME, TITLE = "approval.lapsed", "承認の依頼が無効になりました"
    outcome: str = Field(description="`expired` (its time was over) or `stale` (its subject, policy or evidence moved).")


class ApprovalPolicySet(EventData):
    """A new policy version holds for new requests."""

    NAME, TITLE = "approval.policy.set", "承認の方針が変わりました"
    policy_id: UUID
    number: int
    digest: Digest
    environment: str | None = Field(description="Null: for every environment without a policy of its own.")


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


class _OfJob(EventData):
    job_id: UUID
    kind: str
    subject: str = Field(description="What it worked for, in words.")


class JobFailed(_OfJob):
    """A job of any kind failed for good. Training runs and evaluations have events of their own beside it."""

    NAME, TITLE = "job.failed", "ジョブが失敗しました"
    code: Code
    message: Explanation


class JobCancelled(_OfJob):
    """A job of any kind was cancelled."""

    NAME, TITLE = "job.cancelled", "ジョブが取り消されました"


class SubscriptionDisabled(EventData):
    """The platform gave up on a receiver; it is told to the project's other subscriptions."""

    NAME, TITLE = "subscription.disabled", "通知先が無効になりました"
    subscription: str
    subscription_id: UUID
    reason: Explanation


class SubscriptionTested(EventData):
    """A test call, sent to the subscription that was tested and to no other."""

    NAME, TITLE = "subscription.tested", "通知のテストです"
    subscription: str
    message: str


def _below(parent: type[EventData]) -> list[type[EventData]]:
    return [one for child in parent.__subclasses__() for one in ([child] if child.NAME else []) + _below(child)]


# By name.
CATALOGUE: dict[str, type[EventData]] = {event.NAME: event for event in sorted(_below(EventData), key=lambda one: one.NAME)}
