"""Calls about judgement: compatibility, approvals and releases."""

from typing import Unpack
from uuid import UUID

from ringi.approvals.policy import PolicyDocument
from ringi.approvals.schemas import ApprovalOut, CastVote, PolicyOut, RequestApproval, RequestState, SetPolicy, VoteDecision, Withdraw
from ringi.cli.asked import Asked, AskedInOrder
from ringi.cli.connection import Connection, route
from ringi.cli.listed import Listed
from ringi.compatibility.schemas import AssessmentOut
from ringi.releases.schemas import ChannelOut, CreateChannel, Publish, ReleaseOut, RollBack, StandingOut


class CompatibilityCalls:
    """`client.compatibility`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def of_version(self, project: str, adapter: str, version: str, **asked: Unpack[AskedInOrder]) -> Listed[AssessmentOut]:
        """A version against the other revisions of its base."""
        return self._http.items(
            route("projects", project, "adapters", adapter, "versions", version, "compatibility"), AssessmentOut, **asked
        )

    def of_revision(self, base: str, revision: str, **asked: Unpack[AskedInOrder]) -> Listed[AssessmentOut]:
        """Every adapter version in sight against a revision of its base."""
        return self._http.items(route("bases", base, "revisions", revision, "compatibility"), AssessmentOut, **asked)


class ApprovalCalls:
    """`client.approvals`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def request(self, project: str, adapter: str, version: str, *, environment: str = "production", note: str = "") -> ApprovalOut:
        """Ask for a grant for one environment."""
        path = route("projects", project, "adapters", adapter, "versions", version, "approvals")
        return self._http.post(path, ApprovalOut, RequestApproval(environment=environment, note=note))

    def all(self, project: str, *, state: RequestState | None = None, **asked: Unpack[Asked]) -> Listed[ApprovalOut]:
        """Requests of the project, newest first."""
        return self._http.items(route("projects", project, "approvals"), ApprovalOut, state=state, **asked)

    def get(self, project: str, request_id: UUID) -> ApprovalOut:
        """One request with its votes and what is still missing."""
        return self._http.get(route("projects", project, "approvals", str(request_id)), ApprovalOut)

    def vote(self, project: str, seen: ApprovalOut, *, decision: VoteDecision, reason: str, if_match: str | None = None) -> ApprovalOut:
        """Vote on the request as it was `seen`: its digests go with the vote, so nothing else can be voted on unknowingly."""
        body = CastVote(
            decision=decision, reason=reason, manifest_digest=seen.manifest_digest, policy_digest=seen.policy_digest,
            evidence_digest=seen.evidence_digest,
        )  # fmt: skip
        return self._http.post(route("projects", project, "approvals", str(seen.id), "votes"), ApprovalOut, body, if_match=if_match)

    def withdraw(self, project: str, request_id: UUID, *, reason: str, if_match: str | None = None) -> ApprovalOut:
        """Take a request back."""
        path = route("projects", project, "approvals", str(request_id), "withdraw")
        return self._http.post(path, ApprovalOut, Withdraw(reason=reason), if_match=if_match)

    def policy(self, project: str, environment: str) -> PolicyOut:
        """The policy that decides in an environment now."""
        return self._http.get(route("projects", project, "policies", environment), PolicyOut)

    def set_policy(
        self, project: str, document: PolicyDocument, *, environment: str | None = None, if_match: str | None = None
    ) -> PolicyOut:
        """A new policy version for the project, or for one environment of it."""
        body = SetPolicy(environment=environment, document=document)
        return self._http.post(route("projects", project, "policies"), PolicyOut, body, if_match=if_match)


class ReleaseCalls:
    """`client.releases`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def create_channel(self, project: str, name: str, *, environment: str, description: str = "") -> ChannelOut:
        """A channel that serves nothing yet."""
        body = CreateChannel(name=name, environment=environment, description=description)
        return self._http.post(route("projects", project, "channels"), ChannelOut, body)

    def channels(self, project: str, **asked: Unpack[Asked]) -> Listed[ChannelOut]:
        """Channels of the project and what they serve."""
        return self._http.items(route("projects", project, "channels"), ChannelOut, **asked)

    def channel(self, project: str, name: str) -> ChannelOut:
        """One channel."""
        return self._http.get(route("projects", project, "channels", name), ChannelOut)

    def publish(self, project: str, adapter: str, *, version: str, channel: str, reason: str, if_match: str | None = None) -> ReleaseOut:
        """Let the channel serve a version, if every gate passes."""
        path = route("projects", project, "channels", channel, "adapters", adapter, "releases")
        return self._http.post(path, ReleaseOut, Publish(version=version, reason=reason), if_match=if_match)

    def roll_back(
        self, project: str, adapter: str, *, channel: str, reason: str, to: str | None = None, if_match: str | None = None
    ) -> ReleaseOut:
        """Return to what was served before, or to version `to`."""
        path = route("projects", project, "channels", channel, "adapters", adapter, "rollback")
        return self._http.post(path, ReleaseOut, RollBack(to=to, reason=reason), if_match=if_match)

    def history(self, project: str, adapter: str, *, channel: str, **asked: Unpack[Asked]) -> Listed[ReleaseOut]:
        """Every move of the channel for the adapter, newest first."""
        return self._http.items(route("projects", project, "channels", channel, "adapters", adapter, "releases"), ReleaseOut, **asked)

    def all_history(self, project: str, *, as_of: str | None = None, **asked: Unpack[Asked]) -> Listed[ReleaseOut]:
        """Every move of every channel, newest first; with `as_of` (a time) only those that decided what was served then."""
        return self._http.items(route("projects", project, "releases"), ReleaseOut, as_of=as_of, **asked)

    def standing(self, project: str, adapter: str, version: str) -> StandingOut:
        """What is derived about a version, and what each channel's gates say to it."""
        return self._http.get(route("projects", project, "adapters", adapter, "versions", version, "standing"), StandingOut)
