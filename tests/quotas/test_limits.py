"""Limits as clients meet them: set and shown, refused with the time to wait, and the last place given out once."""

import json
import os
import subprocess
import sys
import time
from uuid import uuid4

import httpx
import pytest

from ringi.cli.client import RingiClient
from ringi.quotas.schemas import SetQuotas
from ringi.suites.schemas import AddSuiteVersion
from support.at_once import at_once, codes
from support.refusals import refused
from support.running_platform import PROJECT, Platform
from support.tiny_model import make_tiny_rows


@pytest.fixture
def chief(platform: Platform) -> str:
    """Who may set quotas; the administrator of an organisation is one."""
    return "admin"


def test_limits_are_set_as_a_whole_shown_and_audited(platform: Platform, chief: str) -> None:
    limits = platform.as_(chief).limits
    assert limits.quotas(PROJECT).model_dump() == {
        "project": PROJECT, "requests_per_minute": None, "open_jobs": None, "jobs_per_day": None, "gpu_hours_per_month": None, "stored_bytes": None, "row_version": 0,
    }  # fmt: skip
    first = limits.set_quotas(PROJECT, SetQuotas(open_jobs=3, gpu_hours_per_month=0.5))
    assert (first.open_jobs, first.gpu_hours_per_month, first.jobs_per_day, first.row_version) == (3, 0.5, None, 1)
    second = limits.set_quotas(PROJECT, SetQuotas(jobs_per_day=7), if_match="1")
    assert (second.open_jobs, second.jobs_per_day, second.row_version) == (None, 7, 2)
    with refused("precondition_failed", 412):
        limits.set_quotas(PROJECT, SetQuotas(), if_match="1")
    assert platform.as_("viewer").limits.quotas(PROJECT) == second
    newest = platform.logged("quota.set")[0]
    assert newest.details == {
        "requests_per_minute": None, "open_jobs": None, "jobs_per_day": 7, "stored_bytes": None, "gpu_hours_per_month": None,
    }  # fmt: skip


def test_who_may_not_set_limits_cannot(platform: Platform) -> None:
    with refused("forbidden", 403):
        platform.as_("contributor").limits.set_quotas(PROJECT, SetQuotas())
    with refused("forbidden", 403):
        token = next(platform.as_("contributor").identity.tokens())
        platform.as_("contributor").identity.limit_token(token.id, 0)


@pytest.mark.parametrize(
    "body", ['{"open_jobs": -1}', '{"open_jobs": 1.5}', '{"gpu_hours_per_month": NaN}', '{"jobs": 1}', '{"stored_bytes": 1e400}']
)
def test_limits_that_make_no_sense_are_malformed(platform: Platform, chief: str, body: str) -> None:
    answer = platform.call(chief, "PUT", f"/projects/{PROJECT}/quotas", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_request")


def test_of_four_who_want_the_last_place_one_gets_it(platform: Platform, chief: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    mine = platform.as_("contributor")
    source = mine.upload(make_tiny_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", 60)).digest
    names = [f"d{number}" for number in range(5)]
    for name in names:
        mine.datasets.create(PROJECT, name)
    platform.as_(chief).limits.set_quotas(PROJECT, SetQuotas(jobs_per_day=1))

    def asked(client: RingiClient, name: str) -> object:
        return client.datasets.seal_source(PROJECT, name, source)

    results = at_once(platform, *(("contributor", lambda client, name=name: asked(client, name)) for name in names[:4]))
    assert codes(results) == ["done", *["quota_jobs_per_day"] * 3]
    used = mine.limits.usage(PROJECT).jobs_per_day
    assert (used.used, used.limit, used.remaining) == (1, 1, 0)
    key = {"Idempotency-Key": str(uuid4())}
    refusal = platform.call(
        "contributor", "POST", f"/projects/{PROJECT}/datasets/d4/versions", json={"source": source, "seed": 5}, headers=key
    )
    assert (refusal.status_code, refusal.json()["code"]) == (429, "quota_jobs_per_day")
    assert 0 < int(refusal.headers["Retry-After"]) <= 86_400
    assert '"jobs_per_day";q=1' in refusal.headers["RateLimit-Policy"]
    assert '"jobs_per_day";r=0;t=' in refusal.headers["RateLimit"]
    platform.as_(chief).limits.set_quotas(PROJECT, SetQuotas())
    # A refusal for the load is not the answer to a key: the same request goes through when there is room.
    again = platform.call(
        "contributor", "POST", f"/projects/{PROJECT}/datasets/d4/versions", json={"source": source, "seed": 5}, headers=key
    )
    assert again.status_code == 202


def test_what_is_sealed_is_what_is_stored(platform: Platform, chief: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    rows = make_tiny_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", 60)
    mine = platform.as_("contributor")
    for name in ("one", "two"):
        mine.datasets.create(PROJECT, name)
        platform.succeeded(mine.datasets.add_version(PROJECT, name, rows).job_id)
    size = rows.stat().st_size
    stored = mine.limits.usage(PROJECT).stored_bytes
    # The source once and its two parts once, although two datasets hold them.
    assert size < stored.used <= 3 * size
    platform.as_(chief).limits.set_quotas(PROJECT, SetQuotas(stored_bytes=stored.used))
    mine.datasets.create(PROJECT, "three")
    with refused("quota_stored_bytes", 429):
        mine.datasets.add_version(PROJECT, "three", rows)
    assert mine.limits.usage(PROJECT).stored_bytes.remaining == 0


def test_a_suite_is_sealed_while_there_is_room_for_its_items_and_equal_content_needs_none(platform: Platform, chief: str) -> None:
    mine = platform.as_("contributor")
    mine.suites.create(PROJECT, "quality")

    def body(word: str) -> AddSuiteVersion:
        items = [{"id": f"q{number}", "prompt": f"{word}の{number}番", "references": ["はい"]} for number in range(50)]
        task = {"name": "品質", "answering": "exact", "scorers": ["exact"], "items": items}
        return AddSuiteVersion.model_validate({"tasks": [task], "off_task": False})

    first = mine.suites.add_version(PROJECT, "quality", body("棚"))
    used = mine.limits.usage(PROJECT).stored_bytes.used
    assert used > 0
    platform.as_(chief).limits.set_quotas(PROJECT, SetQuotas(stored_bytes=used + 10))
    with refused("quota_stored_bytes", 429) as why:
        mine.suites.add_version(PROJECT, "quality", body("箱"))
    assert why.details == {"quota": "stored_bytes", "used": used, "limit": used + 10}
    assert [one.number for one in mine.suites.versions(PROJECT, "quality")] == [1]
    assert mine.limits.usage(PROJECT).stored_bytes.used == used
    # What the project holds already takes no room.
    assert mine.suites.add_version(PROJECT, "quality", body("棚")).id == first.id
    platform.as_(chief).limits.set_quotas(PROJECT, SetQuotas(stored_bytes=3 * used))
    assert mine.suites.add_version(PROJECT, "quality", body("箱")).number == 2


def test_a_token_has_its_requests_a_minute_and_every_answer_says_what_is_left(platform: Platform) -> None:
    token = next(one for one in platform.with_everybody().as_("admin").identity.tokens() if one.user == "viewer")
    limited = platform.as_("admin").identity.limit_token(token.id, 3, if_match=str(token.row_version))
    assert (limited.requests_per_minute, limited.row_version) == (3, token.row_version + 1)
    answers = [platform.call("viewer", "GET", "/whoami") for _ in range(4)]
    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    assert [one.headers["RateLimit"].partition(";t=")[0] for one in answers] == ['"token";r=2', '"token";r=1', '"token";r=0', '"token";r=0']
    assert {one.headers["RateLimit-Policy"] for one in answers} == {'"token";q=3;w=60'}
    refusal = answers[-1].json()
    assert (refusal["code"], refusal["details"]) == ("rate_limited", {"limit": 3, "window_s": 60, "of": "token"})
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 20
    assert platform.call("contributor", "GET", "/whoami").status_code == 200
    platform.as_("admin").identity.limit_token(token.id, None)
    free = platform.call("viewer", "GET", "/whoami")
    assert (free.status_code, free.headers["RateLimit-Policy"]) == (200, '"token";q=30000;w=60')
    assert platform.as_("viewer").limits.mine().requests_per_minute == 30_000
    assert [one.details for one in platform.logged("token.limit")] == [{"requests_per_minute": None}, {"requests_per_minute": 3}]


@pytest.mark.parametrize("wanted", [0, 30_001])
def test_no_organisation_gives_its_tokens_more_than_the_deployment_gives_any(platform: Platform, wanted: int) -> None:
    token = next(platform.as_("admin").identity.tokens())
    with refused("limit_too_high", 422):
        platform.as_("admin").identity.limit_token(token.id, wanted)
    assert platform.logged("token.limit") == []


def test_a_token_sees_what_it_has_used(platform: Platform) -> None:
    token = next(one for one in platform.with_everybody().as_("admin").identity.tokens() if one.user == "viewer")
    platform.as_("admin").identity.limit_token(token.id, 600)
    used = platform.as_("viewer").limits.mine()
    assert (used.token_id, used.requests_per_minute, used.remaining, used.reset_s, used.shared) == (token.id, 600, 599, 1, True)


def test_uploads_count_too_and_the_client_waits_when_the_wait_is_short(platform: Platform) -> None:
    token = next(one for one in platform.with_everybody().as_("admin").identity.tokens() if one.user == "contributor")
    platform.as_("admin").identity.limit_token(token.id, 6)
    begun = time.monotonic()
    headers = [platform.call("contributor", "POST", "/uploads", content=b"x").headers["RateLimit"] for _ in range(2)]
    assert [one.partition(";t=")[0] for one in headers] == ['"token";r=5', '"token";r=4']
    platform.as_("admin").identity.limit_token(token.id, 20)
    for _ in range(14):
        platform.as_("contributor").identity.whoami()
    assert time.monotonic() - begun > 1.9, "two at ten seconds each and fourteen at three are two seconds more than a minute"


def test_the_command_line_sets_one_limit_and_leaves_the_others(platform: Platform, chief: str) -> None:
    def ringi(*arguments: str) -> dict[str, object]:
        done = subprocess.run(
            [sys.executable, "-c", "from ringi.cli.main import run; run()", *arguments, "--json"], capture_output=True, text=True, encoding="utf-8",
            check=False, env=os.environ | {"RINGI_SERVER": platform.server, "RINGI_TOKEN": platform.tokens[chief]},
        )  # fmt: skip
        found: dict[str, object] = json.loads(done.stdout or done.stderr)
        return found

    ringi("quotas", "set", PROJECT, "--open-jobs", "4", "--gpu-hours-per-month", "1.5")
    changed = ringi("quotas", "set", PROJECT, "--open-jobs", "none", "--stored-bytes", "1000")
    assert changed == {
        "project": PROJECT, "requests_per_minute": None, "open_jobs": None, "jobs_per_day": None, "gpu_hours_per_month": 1.5, "stored_bytes": 1000, "row_version": 2,
    }  # fmt: skip
    assert ringi("quotas", "set", PROJECT, "--open-jobs", "1", "--if-match", "1")["code"] == "precondition_failed"
    assert ringi("quotas", "set", PROJECT, "--open-jobs", "many")["code"] == "bad_value"
    assert ringi("quotas", "set", PROJECT)["code"] == "usage"
    assert ringi("usage", PROJECT)["stored_bytes"] == {"used": 0, "limit": 1000, "remaining": 1000}


def test_a_pull_is_counted_like_any_request_of_its_token(platform: Platform) -> None:
    token = next(one for one in platform.with_everybody().as_("admin").identity.tokens() if one.user == "viewer")
    platform.as_("admin").identity.limit_token(token.id, 2)
    headers = {"Authorization": f"Bearer {platform.tokens['viewer']}"}
    answers = [httpx.get(f"{platform.server}/hf/live/api/whoami-v2", headers=headers) for _ in range(3)]
    assert [one.status_code for one in answers] == [200, 200, 429]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 30
    assert answers[-1].headers["RateLimit"].startswith('"token";r=0;t=')
