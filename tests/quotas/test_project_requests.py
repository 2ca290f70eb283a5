"""Requests a minute of a project: everybody's together, beside the limit of each token."""

import re
import time

from ringi.quotas.schemas import SetQuotas
from support.refusals import refused
from support.running_platform import PROJECT, Platform

PATH = f"/projects/{PROJECT}"


def test_a_project_has_its_requests_whoever_sends_them(platform: Platform) -> None:
    limits = platform.as_("admin").limits
    limits.set_quotas(PROJECT, SetQuotas(requests_per_minute=4))
    answers = [platform.call(user, "GET", PATH) for user in ("viewer", "contributor", "viewer", "contributor", "reviewer")]
    assert [one.status_code for one in answers] == [200] * 4 + [429]
    last = answers[-1]
    assert last.json()["code"] == "rate_limited"
    assert last.json()["details"]["of"] == "project"
    assert 1 <= int(last.headers["Retry-After"]) <= 16
    assert [re.findall(r'"project";r=(\d+)', one.headers["RateLimit"]) for one in answers] == [["3"], ["2"], ["1"], ["0"], ["0"]]
    assert all(one.headers["RateLimit-Policy"].startswith('"token";q=') for one in answers), "the token's own limit is told too"
    assert platform.call("viewer", "GET", "/whoami").status_code == 200, "what is not of the project is not counted for it"


def test_the_client_waits_for_the_project_too_and_its_limit_can_be_lifted(platform: Platform) -> None:
    limits = platform.as_("admin").limits
    limits.set_quotas(PROJECT, SetQuotas(requests_per_minute=30))
    begun = time.monotonic()
    for _ in range(32):
        platform.as_("viewer").identity.project(PROJECT)
    assert time.monotonic() - begun > 2, "two more than a minute's thirty: a place comes back every two seconds"
    limits.set_quotas(PROJECT, SetQuotas(requests_per_minute=None))
    answer = platform.call("viewer", "GET", PATH)
    assert "project" not in answer.headers["RateLimit"]


def test_usage_says_what_is_left_and_nothing_where_nobody_counts(platform: Platform) -> None:
    unlimited = platform.as_("viewer").limits.usage(PROJECT).requests_per_minute
    assert (unlimited.limit, unlimited.remaining, unlimited.reset_s) == (None, None, None)
    platform.as_("admin").limits.set_quotas(PROJECT, SetQuotas(requests_per_minute=10))
    left = platform.as_("viewer").limits.usage(PROJECT).requests_per_minute
    assert (left.limit, left.remaining) == (10, 9)
    assert 1 <= (left.reset_s or 0) <= 6


def test_a_project_that_answers_nothing_cannot_be_asked_for(platform: Platform) -> None:
    answer = platform.call("admin", "PUT", f"{PATH}/quotas", json={"requests_per_minute": 0})
    assert answer.status_code == 422
    with refused("forbidden", 403):
        platform.as_("contributor").limits.set_quotas(PROJECT, SetQuotas(requests_per_minute=5))
