"""Events of adapters, their versions, and how these stand to a new base."""

from uuid import UUID

from pydantic import Field

from ringi.events.catalogue.data import AdapterName, Code, EventData, Explanation, JobId, RevisionName, VersionName
from ringi.kit.digests import Digest


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


class CompatibilityAssessed(EventData):
    """A version was judged against another revision of its base."""

    NAME, TITLE = "compatibility.assessed", "互換性が判定されました"
    version: VersionName
    version_id: UUID
    base_revision: RevisionName
    verdict: str
    action: str = Field(description="`keep`, `regression` or `block`: what has to happen before it moves to that revision.")
