"""Votes through the API: four eyes, one grant, and what makes a request stale."""

from collections.abc import Callable

import pytest

from ringi.approvals.policy import PolicyDocument, Seat, Stage
from ringi.approvals.schemas import ApprovalOut, RequestState, VoteDecision
from ringi.cli.client import RingiClient
from ringi.identity.schemas import Role, UserKind
from ringi.kit.errors import RingiError
from support.at_once import at_once, codes
from support.refusals import refused
from support.running_platform import PROJECT, Platform
from support.story import ADAPTER, Ground, environment_name, evaluated

REASON = "I have read the evaluation and agree"
TWO_REVIEWERS = PolicyDocument(stages=(Stage(name="technical", seats=(Seat(role=Role.REVIEWER, people=2),)),))


def requested(platform: Platform, version: str = "v1", environment: str | None = None) -> ApprovalOut:
    return platform.as_("contributor").approvals.request(PROJECT, ADAPTER, version, environment=environment or environment_name())


def vote(client: RingiClient, seen: ApprovalOut, decision: VoteDecision = VoteDecision.APPROVE, reason: str = REASON) -> ApprovalOut:
    return client.approvals.vote(PROJECT, seen, decision=decision, reason=reason)


@pytest.fixture
def second_reviewer(ground: Ground) -> str:
    if "reviewer-2" not in ground.platform.tokens:
        ground.platform.add_user("reviewer-2", Role.REVIEWER)
    return "reviewer-2"


@pytest.fixture
def policy_admin(ground: Ground) -> RingiClient:
    if "policy-admin" not in ground.platform.tokens:
        ground.platform.add_user("policy-admin", Role.POLICY_ADMIN, project=None)
    return ground.platform.as_("policy-admin")


def test_a_new_project_asks_for_one_reviewer_and_an_evaluation(ground: Ground) -> None:
    policy = ground.platform.as_("viewer").approvals.policy(PROJECT, environment_name()).document
    assert [(seat.role, seat.people) for stage in policy.stages for seat in stage.seats] == [(Role.REVIEWER, 1)]
    assert [rule.model_dump()["verdicts"] for rule in policy.evidence] == [("better",)]
    request = requested(ground.platform)
    assert {one.code: one.satisfied for one in request.requirements} == {"technical.reviewer": False, "evidence.evaluation": True}


def test_the_requester_cannot_vote_even_with_the_reviewers_role(ground: Ground) -> None:
    platform = ground.platform
    request = requested(platform)
    with refused("forbidden", 403):
        vote(platform.as_("contributor"), request)
    membership = platform.as_("admin").identity.grant_role("contributor", Role.REVIEWER, project=PROJECT)
    with refused("self_approval", 403):
        vote(platform.as_("contributor"), request)
    platform.as_("admin").identity.revoke_role(membership.id)
    after = platform.as_("viewer").approvals.get(PROJECT, request.id)
    assert (after.state, after.votes) == (RequestState.IN_REVIEW, [])


def test_who_was_part_of_the_version_cannot_judge_it_when_another_requests(ground: Ground) -> None:
    platform = ground.platform
    platform.add_user("colleague", Role.CONTRIBUTOR)
    request = platform.as_("colleague").approvals.request(PROJECT, ADAPTER, "v1", environment=environment_name())
    membership = platform.as_("admin").identity.grant_role("contributor", Role.REVIEWER, project=PROJECT)
    with refused("self_approval", 403) as why:
        vote(platform.as_("contributor"), request)
    platform.as_("admin").identity.revoke_role(membership.id)
    assert "author of this version" in why.message


def test_a_service_account_cannot_vote(ground: Ground) -> None:
    platform = ground.platform
    admin = platform.as_("admin").identity
    admin.create_user("robot", kind=UserKind.SERVICE)
    admin.grant_role("robot", Role.REVIEWER, project=PROJECT)
    platform.tokens["robot"] = admin.issue_token("robot").token
    with refused("service_account_vote", 403):
        vote(platform.as_("robot"), requested(platform))


def test_a_role_that_one_gave_oneself_never_counts(ground: Ground) -> None:
    platform = ground.platform
    platform.as_("admin").identity.grant_role("admin", Role.CONTRIBUTOR, project=PROJECT)
    platform.add_user("chief", Role.IDENTITY_ADMIN, project=None)
    platform.as_("chief").identity.grant_role("chief", Role.REVIEWER, project=PROJECT)
    request = requested(platform)
    with refused("no_seat", 403):
        vote(platform.as_("chief"), request)
    assert platform.as_("viewer").approvals.get(PROJECT, request.id).votes == []


@pytest.mark.parametrize(
    ("decision", "state"),
    [
        (VoteDecision.REJECT, RequestState.REJECTED),
        (VoteDecision.RETURN, RequestState.CHANGES_REQUESTED),
        (VoteDecision.ACKNOWLEDGE, RequestState.IN_REVIEW),
    ],
)
def test_only_an_approval_grants(ground: Ground, decision: VoteDecision, state: RequestState) -> None:
    decided = vote(ground.platform.as_("reviewer"), requested(ground.platform), decision)
    assert (decided.state, decided.grant) == (state, None)


def test_a_vote_needs_a_reason(ground: Ground) -> None:
    request = requested(ground.platform)
    body = {"decision": "approve", "reason": "ok", **digests_of(request)}
    answer = ground.platform.call("reviewer", "POST", f"/projects/{PROJECT}/approvals/{request.id}/votes", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_request")


def digests_of(request: ApprovalOut) -> dict[str, str]:
    return {name: getattr(request, name) for name in ("manifest_digest", "policy_digest", "evidence_digest")}


def test_an_ended_request_takes_no_votes_and_a_withdrawn_one_ends(ground: Ground) -> None:
    platform, environment = ground.platform, environment_name()
    request = requested(platform, environment=environment)
    with refused("approval_request_open", 409):
        requested(platform, environment=environment)
    assert (
        platform.as_("contributor").approvals.withdraw(PROJECT, request.id, reason="there is a better version").state
        is RequestState.WITHDRAWN
    )
    with refused("approval_request_ended", 409):
        vote(platform.as_("reviewer"), request)
    assert requested(platform, environment=environment).id != request.id


def test_a_vote_that_names_other_digests_changes_nothing(ground: Ground) -> None:
    platform, request = ground.platform, requested(ground.platform)
    body = {"decision": "approve", "reason": REASON, **digests_of(request), "manifest_digest": "sha256:" + "0" * 64}
    answer = platform.call("reviewer", "POST", f"/projects/{PROJECT}/approvals/{request.id}/votes", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "stale_subject")
    assert answer.json()["details"]["current"] == digests_of(request)
    assert platform.as_("viewer").approvals.get(PROJECT, request.id).state is RequestState.IN_REVIEW


def new_evidence(platform: Platform, _: RingiClient, __: str) -> None:
    evaluated(platform, "v1")


def new_policy(_: Platform, policy_admin: RingiClient, environment: str) -> None:
    policy_admin.approvals.set_policy(PROJECT, TWO_REVIEWERS, environment=environment)


@pytest.mark.parametrize(("change", "moved"), [(new_evidence, "there is new evidence"), (new_policy, "the policy changed")])
def test_a_vote_on_a_changed_subject_is_refused_and_the_request_is_stale(
    ground: Ground, policy_admin: RingiClient, change: Callable[[Platform, RingiClient, str], None], moved: str
) -> None:
    platform, environment = ground.platform, environment_name()
    request = requested(platform, environment=environment)
    change(platform, policy_admin, environment)
    with refused("stale_subject", 409) as why:
        vote(platform.as_("reviewer"), request)
    assert why.details["moved"] == [moved]
    after = platform.as_("viewer").approvals.get(PROJECT, request.id)
    assert (after.state, after.grant, after.votes) == (RequestState.STALE, None, [])
    denied = [e for e in platform.as_("auditor").audit.events(object_id=str(request.id)) if e.outcome == "denied"]
    assert [entry.details for entry in denied] == [{"code": "stale_subject"}]
    assert requested(platform, environment=environment).evidence_digest != request.evidence_digest or change is new_policy


def test_a_request_without_the_evidence_that_the_policy_asks_for_is_refused(ground: Ground, policy_admin: RingiClient) -> None:
    environment = environment_name()
    strict = TWO_REVIEWERS.model_copy(update={"evidence": (TWO_REVIEWERS.evidence[0].model_copy(update={"verdicts": ("not_shown",)}),)})
    policy_admin.approvals.set_policy(PROJECT, strict, environment=environment)
    with refused("approval_evidence_missing", 409) as why:
        requested(ground.platform, environment=environment)
    assert why.codes == {"evidence.evaluation"}


def votes_at_once(platform: Platform, request: ApprovalOut, *voters: str) -> list[ApprovalOut | RingiError]:
    return at_once(platform, *[(voter, lambda c: vote(c, request)) for voter in voters])


def test_two_final_votes_at_once_make_one_grant(ground: Ground, second_reviewer: str) -> None:
    platform = ground.platform
    for _ in range(3):
        request = requested(platform)
        assert codes(votes_at_once(platform, request, "reviewer", second_reviewer)) == ["approval_request_ended", "done"]
        after = platform.as_("viewer").approvals.get(PROJECT, request.id)
        assert after.state is RequestState.APPROVED
        assert len(after.votes) == 1
        grants = platform.logged("approval.grant", request=str(request.id))
        assert len(grants) == 1


def test_two_seats_need_two_people_and_both_at_once_still_make_one_grant(
    ground: Ground, policy_admin: RingiClient, second_reviewer: str
) -> None:
    platform, environment = ground.platform, environment_name()
    policy_admin.approvals.set_policy(PROJECT, TWO_REVIEWERS, environment=environment)
    request = requested(platform, environment=environment)
    for _ in range(2):
        assert vote(platform.as_("reviewer"), request).state is RequestState.IN_REVIEW
    votes_at_once(platform, request, "reviewer", second_reviewer)
    after = platform.as_("viewer").approvals.get(PROJECT, request.id)
    assert after.state is RequestState.APPROVED
    assert {one.voter for one in after.votes} == {"reviewer", second_reviewer}
    assert after.grant is not None


def test_two_requests_at_once_open_one(ground: Ground) -> None:
    platform, environment = ground.platform, environment_name()
    asked = at_once(platform, *[("contributor", lambda c: c.approvals.request(PROJECT, ADAPTER, "v1", environment=environment))] * 2)
    assert codes(asked) == ["approval_request_open", "done"]
