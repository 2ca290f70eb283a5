"""Sessions of browsers: how they begin at the identity provider, what they may do, and how they end."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import uuid4

import httpx
import psycopg
import pytest
from fastapi import Response
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from ringi.cli.client import RingiClient
from ringi.identity import login_record, sessions
from ringi.identity.schemas import Role
from ringi.settings import get_settings
from ringi.web import cookies
from support.browsing import USERS, Browser, begun_logins, noted, shifted
from support.company import MAX_AGE_S, STRONG, Company, company_at, entries
from support.identity_provider import AUDIENCE, WEB_CLIENT, IdentityProvider, identity_provider
from support.refusals import refused
from support.running_platform import Platform, Processes


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with identity_provider() as running:
        yield running


@pytest.fixture(scope="module")
def company(shared_platform: Processes, provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    with company_at(shared_platform, provider, tmp_path_factory.mktemp("company")) as running:
        yield running


@pytest.fixture
def browser(company: Company) -> Iterator[Browser]:
    company.provider.sits(company.chief)
    with Browser(company) as browser:
        assert browser.log_in().status_code == 302
        yield browser


def test_a_person_logs_in_and_is_the_same_caller_as_with_a_token(company: Company, shared_platform: Processes) -> None:
    company.provider.sits(company.chief)
    with Browser(company) as browser:
        answer = browser.log_in(return_to="/docs?page=%E7%A8%9F%E8%AD%B0")
        assert (answer.status_code, answer.headers["location"]) == (302, "/docs?page=%E7%A8%9F%E8%AD%B0")
        me, state = browser.get("/api/v1/whoami").json(), browser.get("/auth/session")
        with company.admin() as chief:
            token = chief.identity.whoami()
        assert (me["id"], me["organization_permissions"], me["acr"]) == (str(token.id), token.organization_permissions, STRONG)
        assert (state.json()["user"], state.json()["issuer"]) == ("chief", company.provider.issuer)
        assert state.headers["cache-control"] == "no-store"
        entry = noted(shared_platform, "session.begin", answer)
        assert (entry["object"]["id"], entry["actor"]["auth"]["acr"]) == (state.json()["id"], STRONG)
        made = browser.change()
        assert made.status_code == 201, made.text
        auth = noted(shared_platform, "user.create", made)["actor"]["auth"]
        assert (auth["token_id"], auth["iss"], auth["amr"]) == (None, company.provider.issuer, ["pwd", "otp"])
    asked = company.provider.logins()["asked"]
    assert (asked["client_id"], asked["code_challenge_method"], asked["redirect_uri"]) == (
        WEB_CLIENT,
        "S256",
        f"{company.server}/auth/callback",
    )
    assert asked["nonce"] != asked["state"]


def test_the_cookie_is_for_this_server_alone_and_no_script_and_holds_nothing_that_is_stored(
    company: Company, shared_platform: Processes
) -> None:
    company.provider.sits(company.chief)
    with Browser(company) as browser:
        begun = browser.get("/auth/login")
        came = browser.get(httpx.get(begun.headers["location"]).headers["location"])
        for answer, name, age in ((begun, "ringi_login_", 600), (came, "ringi_session=", 12 * 3600)):
            (cookie,) = [one for one in answer.headers.get_list("set-cookie") if one.startswith(name) and "Max-Age=0" not in one]
            assert {"HttpOnly", "Path=/", "SameSite=lax", f"Max-Age={age}"} <= {part.strip() for part in cookie.split(";")[1:]}
            assert "Domain" not in cookie
        assert begun_logins(browser) == []
        assert re.fullmatch(r"rgs_[0-9A-Za-z_-]{43}", browser.secret)
        with psycopg.connect(shared_platform.urls.superuser_url.replace("+psycopg", "")) as database:
            rows = database.execute("SELECT browser_sessions::text FROM browser_sessions").fetchall()
        assert rows
        assert not [row for (row,) in rows if browser.secret in row or browser.csrf()["X-CSRF-Token"] in row]


def test_over_https_the_cookies_have_the_prefix_that_binds_them_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGI_PUBLIC_URL", "https://ringi.example.test")
    get_settings.cache_clear()
    try:
        answer = Response()
        cookies.put(answer, cookies.SESSION, "value", lasts_s=60)
        cookies.take_back(answer, cookies.SESSION)
    finally:
        get_settings.cache_clear()
    for cookie in answer.headers.getlist("set-cookie"):
        assert cookie.startswith("__Host-ringi_session=")
        assert {"HttpOnly", "Secure", "Path=/", "SameSite=lax"} <= {part.strip() for part in cookie.split(";")[1:]}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "the person says no": ({"deny": True}, "access_denied"),
    "another issuer answers": ({"iss": "https://evil.example.test"}, "issuer"),
    "an answer of no issuer": ({"iss": "nobody"}, "issuer"),
    "another nonce": ({"id_claims": {"nonce": "of-another-login"}}, "id_token_nonce"),
    "no nonce": ({"id_claims": {"nonce": None}}, "id_token_nonce"),
    "alg none": ({"id_header": {"alg": "none"}}, "id_token_algorithm"),
    "another key": ({"id_key": "own"}, "id_token_signature"),
    "another audience": ({"id_claims": {"aud": "another-client"}}, "id_token_audience"),
    "the audience of access tokens": ({"id_claims": {"aud": AUDIENCE}}, "id_token_audience"),
    "given to another client": ({"id_claims": {"aud": [WEB_CLIENT, "another"], "azp": "another"}}, "id_token_authorized_party"),
    "for several, given to nobody": ({"id_claims": {"aud": [WEB_CLIENT, "another"]}}, "id_token_authorized_party"),
    "another issuer's token": ({"id_claims": {"iss": "https://evil.example.test"}}, "id_token_issuer"),
    "over": ({"id_claims": {"exp": 1}}, "id_token_expired"),
    "without an end": ({"id_claims": {"exp": None}}, "id_token_expiry"),
    "an access token": ({"id_header": {"typ": "at+jwt"}}, "id_token_type"),
    "no subject": ({"id_claims": {"sub": None}}, "id_token_subject"),
    "a stranger": ({"id_claims": {"sub": "nobody-here"}}, "unknown_subject"),
}


@pytest.mark.parametrize("how", WRONG)
def test_what_comes_back_wrong_is_refused_begins_no_session_and_leaves_an_audit_event(
    company: Company, shared_platform: Processes, how: str
) -> None:
    person, reason = WRONG[how]
    with Browser(company) as browser:
        answer = browser.get(browser.back(**person))
        assert (answer.status_code, answer.json()["code"], answer.json()["details"]["reason"]) == (403, "login_refused", reason)
        assert "ringi_session" not in browser.cookies
        assert noted(shared_platform, "authentication.refuse", answer)["object"]["id"] == reason


def test_an_answer_counts_once_and_in_the_browser_that_began_the_login(company: Company) -> None:
    with Browser(company) as mine, Browser(company) as other:
        back = mine.back()
        # Another browser, which began none, or one of its own.
        assert other.get(back).json()["details"]["reason"] == "not_begun"
        other.back()
        assert other.get(back).json()["details"]["reason"] == "not_begun"
        assert len(begun_logins(other)) == 1, "a foreign answer ends no login"
        # Nor does a record count under the name of another one.
        (record,), (name,) = (other.cookies[one] for one in begun_logins(other)), begun_logins(mine)
        assert httpx.get(back, headers={"Cookie": f"{name}={record}"}).json()["details"]["reason"] == "state"
        kept = mine.cookies[name]
        assert mine.get(back).status_code == 302
        assert mine.get(back).json()["details"]["reason"] == "not_begun"
        # With its record kept, the provider still takes the code once.
        assert httpx.get(back, headers={"Cookie": f"{name}={kept}"}).json()["details"]["reason"] == "invalid_grant"


def test_two_tabs_log_in_each_for_itself_and_three_are_kept_at_most(company: Company) -> None:
    with Browser(company) as browser:
        first, second = browser.back(), browser.back()
        assert browser.get(second).status_code == 302
        assert browser.get(first).status_code == 302
        assert begun_logins(browser) == []
        backs = [browser.back() for _ in range(4)]
        assert len(begun_logins(browser)) == 3
        assert browser.get(backs[0]).json()["details"]["reason"] == "not_begun"
        # What is wrong with one login is no end of the others, and its own end.
        assert browser.get(backs[1].replace("code=", "code=x")).json()["details"]["reason"] == "invalid_grant"
        assert len(begun_logins(browser)) == 2
        assert browser.get(backs[1]).json()["details"]["reason"] == "not_begun"
        assert [browser.get(back).status_code for back in backs[2:]] == [302, 302]


def test_a_login_is_not_forgotten_while_the_provider_is_away(shared_platform: Processes, tmp_path: Path) -> None:
    with identity_provider() as running, company_at(shared_platform, running, tmp_path) as company, Browser(company) as browser:
        back = browser.back()
        running.stand_still()
        try:
            answer = browser.get(back)
            assert (answer.status_code, answer.json()["code"]) == (503, "identity_provider_away")
            assert len(begun_logins(browser)) == 1
        finally:
            running.go_on()


@pytest.mark.parametrize("name", ["code", "state", "iss"])
def test_an_answer_that_says_something_twice_is_none(company: Company, name: str) -> None:
    with Browser(company) as browser:
        back = browser.back()
        asked = dict(parse_qsl(urlsplit(back).query))
        for value in (asked[name], "another"):
            answer = browser.get(back + "&" + urlencode({name: value}))
            assert (answer.status_code, answer.json()["details"]["reason"]) == (403, "repeated")
        assert browser.get(back).status_code == 302


def test_bad_answers_are_problems_and_never_faults_of_ours(company: Company) -> None:
    with Browser(company) as browser:
        asked = dict(parse_qsl(urlsplit(browser.back()).query))
        for said in (
            {}, {"state": "稟議" * 500}, asked | {"code": ""}, asked | {"code": "\x00"}, asked | {"code": "x" * 5000}, {"error": "<script>", **asked},
            asked | {"iss": "\ud7ff"}, {"state": asked["state"], "error": "x" * 4000, "iss": asked["iss"]},
        ):  # fmt: skip
            browser.back()
            answer = browser.get("/auth/callback?" + urlencode(said))
            assert (answer.status_code, answer.json()["code"]) == (403, "login_refused"), answer.text
        for cookie in ("", "x", "a" * 5000, "ringi", "AAAA" * 20):
            answer = httpx.get(f"{company.server}/auth/callback", headers={"Cookie": f"{login_record.name_of('')}={cookie}"})
            assert answer.json()["details"]["reason"] == "not_begun"
        page = browser.get("/auth/callback?error=%3Cscript%3E", headers={"Accept": "text/html,*/*"})
        assert (page.status_code, page.headers["content-type"]) == (403, "text/html; charset=utf-8")
        assert "ログインできませんでした" in page.text
        assert "<script>" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    "where",
    [
        "https://evil.example.test", "//evil.example.test", "/\\evil.example.test", "\\\\evil.example.test", "/\t/evil.example.test",
        "javascript:alert(1)", "evil", "", "/\n//evil.example.test", "/auth/login", "/稟議", "/" + "x" * 2001,
    ],
)  # fmt: skip
def test_a_login_leads_to_a_page_of_this_platform_only(company: Company, where: str) -> None:
    with Browser(company) as browser:
        answer = browser.get("/auth/login", params={"return_to": where})
        assert answer.status_code in {400, 422}, answer.headers
        assert begun_logins(browser) == []


def test_a_change_by_cookie_needs_the_token_of_its_own_session(company: Company, browser: Browser, shared_platform: Processes) -> None:
    with Browser(company) as other:
        other.log_in()
        body = {"name": f"u{uuid4().hex[:8]}"}
        wrong: tuple[tuple[dict[str, str], str], ...] = (
            ({}, "csrf_token_missing"), ({"X-CSRF-Token": ""}, "csrf_token_missing"), ({"X-CSRF-Token": "0" * 64}, "csrf_token_wrong"),
            (other.csrf(), "csrf_token_wrong"), (browser.csrf() | {"Origin": "https://evil.example.test"}, "cross_site_request"),
            (browser.csrf() | {"Origin": "null"}, "cross_site_request"), (browser.csrf() | {"Sec-Fetch-Site": "cross-site"}, "cross_site_request"),
            (browser.csrf() | {"Sec-Fetch-Site": "same-site"}, "cross_site_request"),
        )  # fmt: skip
        for headers, code in wrong:
            answer = browser.post(USERS, json=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, code)
            entry = noted(shared_platform, "access.deny", answer)
            assert (entry["details"]["code"], entry["outcome"]) == (code, "denied")
        assert browser.change(Origin=company.server, **{"Sec-Fetch-Site": "same-origin"}).status_code == 201
        # Reading changes nothing, so it needs none; ending the session does.
        assert browser.get(USERS, headers={"Origin": "https://evil.example.test"}).status_code == 200
        assert browser.post("/auth/logout").json()["code"] == "csrf_token_missing"


def test_whoever_says_who_they_are_in_a_header_is_that_and_nobody_else(company: Company, browser: Browser) -> None:
    _, subject = company.person(Role.AUDITOR)
    headers = {"Authorization": f"Bearer {company.provider.token(subject)}"}
    assert browser.get("/api/v1/whoami", headers=headers).json()["name"] != "chief"
    assert browser.post(USERS, json={"name": "x"}, headers=headers).status_code == 403
    assert browser.get("/api/v1/whoami", headers={"Authorization": "Bearer nothing"}).status_code == 401
    assert browser.get("/auth/session", headers=headers).json()["code"] == "no_session"
    # The cookie's secret is no token.
    assert company.call(browser.secret).status_code == 401


def test_a_session_is_new_at_every_login_and_the_one_before_is_over(company: Company, browser: Browser, shared_platform: Processes) -> None:
    before = browser.secret
    answer = browser.log_in()
    assert browser.secret != before
    assert noted(shared_platform, "session.end", answer)["outcome"] == "ok"
    replayed = httpx.get(f"{company.server}/api/v1/whoami", cookies={"ringi_session": before})
    assert (replayed.status_code, replayed.json()["code"], replayed.json()["details"]["reason"]) == (401, "session_over", "revoked")
    assert noted(shared_platform, "authentication.refuse", replayed)["object"]["type"] == "session"
    # A secret that somebody planted before the login is none afterwards.
    with Browser(company) as victim:
        victim.cookies.set("ringi_session", planted := "rgs_" + "x" * 43, domain="127.0.0.1", path="/")
        assert victim.get("/api/v1/whoami").status_code == 401
        victim.log_in()
        assert httpx.get(f"{company.server}/api/v1/whoami", cookies={"ringi_session": planted}).status_code == 401


def test_another_persons_login_in_this_browser_ends_the_session_before_it(company: Company, shared_platform: Processes) -> None:
    there = Company(company.processes, company.provider)
    name, subject = company.person()
    company.provider.sits(company.chief)
    with Browser(company) as browser:
        browser.log_in()
        for who, where in ((subject, company), (there.chief, there)):
            before, id_ = browser.secret, browser.get("/auth/session").json()["id"]
            of = next(one["organization"] for one in entries(shared_platform, "session.begin") if one["object"]["id"] == id_)
            company.provider.sits(who)
            answer = browser.log_in()
            assert answer.status_code == 302
            replayed = httpx.get(f"{company.server}/api/v1/whoami", cookies={"ringi_session": before})
            assert replayed.json()["details"]["reason"] == "revoked"
            entry = noted(shared_platform, "session.end", answer)
            assert (entry["object"]["id"], entry["organization"], of) == (id_, company.organization, company.organization)
            # Who sat down there is none of the other organisation's business.
            assert entry["actor"]["type"] == "system"
            assert noted(shared_platform, "session.begin", answer)["organization"] == where.organization
    assert name


def test_a_session_that_has_ended_is_never_open_again(browser: Browser, shared_platform: Processes) -> None:
    secret = browser.secret
    browser.post("/auth/logout", headers=browser.csrf())
    for url in (shared_platform.urls.superuser_url, shared_platform.urls.app_url):
        for value in ("NULL", "ended_at + interval '1 day'"):
            with (
                psycopg.connect(url.replace("+psycopg", "")) as database,
                pytest.raises(psycopg.errors.RestrictViolation),
            ):
                database.execute(
                    f"UPDATE browser_sessions SET ended_at = {value} WHERE secret_hash = encode(sha256(%s::bytea), 'hex')",
                    [secret.encode()],
                )


def test_ending_anothers_session_needs_a_fresh_login_and_ending_ones_own_none(company: Company) -> None:
    _, subject = company.person()
    with Browser(company, subject) as theirs, Browser(company) as own:
        company.provider.sits(subject)
        theirs.log_in()
        company.provider.sits(company.chief)
        own.log_in()
        there, here = (one.get("/auth/session").json()["id"] for one in (theirs, own))
        stale = company.provider.token(company.chief, auth_time=int(time.time()) - MAX_AGE_S - 60)
        answer = company.call(stale, "DELETE", f"/sessions/{there}")
        assert (answer.status_code, answer.json()["code"]) == (401, "insufficient_user_authentication")
        assert theirs.get("/api/v1/whoami").status_code == 200
        assert company.call(stale, "DELETE", f"/sessions/{here}").status_code == 200
        assert company.call(company.provider.token(company.chief), "DELETE", f"/sessions/{there}").status_code == 200


def test_a_page_elsewhere_writes_no_more_denials_than_there_may_be_requests(
    shared_platform: Processes, provider: IdentityProvider, tmp_path: Path
) -> None:
    with company_at(shared_platform, provider, tmp_path, RINGI_REQUESTS_PER_MINUTE="3") as company, Browser(company) as browser:
        provider.sits(company.chief)
        browser.log_in()
        before = len(entries(shared_platform, "access.deny"))
        answers = [browser.post(USERS, json={}, headers={"Origin": "https://evil.example.test"}).status_code for _ in range(12)]
        assert answers.count(429) >= 8
        assert len(entries(shared_platform, "access.deny")) - before == answers.count(403)


@pytest.mark.parametrize(("column", "back"), [("last_seen_at", "8 hours"), ("ends_at", "12 hours")], ids=["idle", "at its end"])
def test_a_session_ends_by_its_time(browser: Browser, shared_platform: Processes, column: str, back: str) -> None:
    shifted(shared_platform, browser.secret, column, "7 hours 55 minutes" if column == "last_seen_at" else "11 hours 55 minutes")
    assert browser.get("/api/v1/whoami").status_code == 200
    # Used again, it is as if it had just been seen; its own end does not move.
    shifted(shared_platform, browser.secret, column, back if column == "last_seen_at" else "5 minutes")
    answer = browser.get("/api/v1/whoami")
    assert (answer.status_code, answer.json()["code"], answer.json()["details"]["reason"]) == (401, "session_over", "session_expired")


def test_a_logout_ends_the_session_and_says_where_the_providers_ends(
    company: Company, browser: Browser, shared_platform: Processes
) -> None:
    secret = browser.secret
    answer = browser.post("/auth/logout", headers=browser.csrf())
    assert answer.status_code == 200, answer.text
    place = urlsplit(answer.json()["end_session_url"])
    assert f"{place.scheme}://{place.netloc}{place.path}" == f"{company.provider.issuer}/logout"
    assert dict(parse_qsl(place.query)) == {"client_id": WEB_CLIENT, "post_logout_redirect_uri": f"{company.server}/"}
    assert "ringi_session" not in browser.cookies
    assert noted(shared_platform, "session.end", answer)["outcome"] == "ok"
    assert httpx.get(f"{company.server}/api/v1/whoami", cookies={"ringi_session": secret}).json()["code"] == "session_over"


def test_what_needs_a_fresh_login_gets_it_by_going_to_the_provider_again(company: Company) -> None:
    company.provider.sits(company.chief, auth_time=MAX_AGE_S + 60, acr="urn:example:password")
    with Browser(company) as browser:
        browser.log_in()
        answer = browser.change()
        assert (answer.status_code, answer.json()["code"]) == (401, "insufficient_user_authentication")
        assert answer.json()["details"] == {"reason": "step_up", "max_age": MAX_AGE_S, "acr_values": STRONG}
        company.provider.sits(company.chief, auth_time=MAX_AGE_S + 60)
        assert browser.log_in(fresh="1").status_code == 302
        asked = company.provider.logins()["asked"]
        assert (asked["prompt"], asked["max_age"], asked["acr_values"]) == ("login", "0", STRONG)
        assert browser.change().status_code == 201
        browser.log_in(fresh="1", acr="urn:example:stronger")
        assert company.provider.logins()["asked"]["acr_values"] == "urn:example:stronger"
        # A provider that takes an old login for a fresh one is not believed.
        company.provider.sits(company.chief, auth_time=MAX_AGE_S + 60, stubborn=True)
        assert browser.log_in(fresh="1").json()["details"]["reason"] == "not_fresh"


def test_a_disabled_person_is_out_at_once_and_comes_back_with_a_new_login_only(company: Company, shared_platform: Processes) -> None:
    name, subject = company.person()
    company.provider.sits(subject)
    with Browser(company, subject) as browser, company.admin() as chief:
        browser.log_in()
        chief.identity.disable_user(name)
        assert browser.get("/api/v1/whoami").json()["details"]["reason"] == "revoked"
        refusal = browser.log_in()
        assert refusal.json()["details"]["reason"] == "disabled"
        # Their own auditors are told.
        entry = noted(shared_platform, "authentication.refuse", refusal)
        assert (entry["object"]["id"], entry["organization"]) == (str(chief.identity.user(name).id), company.organization)
        chief.identity.enable_user(name)
        assert browser.get("/api/v1/whoami").status_code == 401
        assert browser.log_in().status_code == 302
        assert browser.get("/api/v1/whoami").json()["name"] == name


def test_one_sees_and_ends_ones_own_sessions_and_an_identity_admin_everybodys(company: Company, browser: Browser) -> None:
    name, subject = company.person(Role.POLICY_ADMIN)
    company.provider.sits(subject)
    with Browser(company, subject) as first, Browser(company, subject) as second, company.admin() as chief:
        first.log_in()
        second.log_in()
        mine = first.get("/api/v1/sessions").json()["items"]
        assert sorted(one["current"] for one in mine) == [False, True]
        assert {one["user"] for one in mine} == {name}
        (other,) = [one["id"] for one in mine if not one["current"]]
        admins = browser.get("/auth/session").json()["id"]
        assert first.delete(f"/api/v1/sessions/{admins}", headers=first.csrf()).status_code == 404
        assert first.delete(f"/api/v1/sessions/{other}", headers=first.csrf()).status_code == 200
        assert second.get("/api/v1/whoami").status_code == 401
        assert first.delete(f"/api/v1/sessions/{other}", headers=first.csrf()).status_code == 404
        open_ones = [one for one in chief.identity.sessions(filter=[f"user={name}"]) if one.ended_at is None]
        assert [chief.identity.end_session(one.id).user for one in open_ones] == [name]
        assert first.get("/api/v1/whoami").status_code == 401


def test_a_session_of_another_organisation_sees_nothing_of_this_one(company: Company, browser: Browser) -> None:
    there = Company(company.processes, company.provider)
    company.provider.sits(there.chief)
    with Browser(there) as foreign:
        foreign.log_in()
        assert [one["name"] for one in foreign.get(USERS).json()["items"]] == ["chief"]
        ours = browser.get("/auth/session").json()["id"]
        assert ours not in foreign.get("/api/v1/sessions").text
        assert foreign.delete(f"/api/v1/sessions/{ours}", headers=foreign.csrf()).status_code == 404
        assert browser.get("/api/v1/whoami").status_code == 200


def test_a_repeated_change_of_a_browser_gives_its_secret_to_that_browser_alone(company: Company, browser: Browser) -> None:
    def make(of: Browser) -> httpx.Response:
        return of.post("/api/v1/tokens", json={"name": "自分の"}, headers=of.csrf() | {"Idempotency-Key": "the-same"})

    first, again = make(browser), make(browser)
    assert first.json()["token"] == again.json()["token"]
    with Browser(company) as other:
        other.log_in()
        assert make(other).json()["code"] == "idempotency_other_token"


def test_a_stream_shows_what_the_session_may_see(browser: Browser) -> None:
    with browser.stream("GET", "/api/v1/jobs/events") as answer:
        assert answer.status_code == 200
        assert next(answer.iter_lines()).startswith((":", "retry"))


def test_what_has_been_over_for_a_week_is_forgotten_so_many_at_once(company: Company, browser: Browser, shared_platform: Processes) -> None:
    with Browser(company) as other:
        other.log_in()
        shifted(shared_platform, other.secret, "ends_at", "8 days")
    secret = browser.secret
    browser.post("/auth/logout", headers=browser.csrf())
    shifted(shared_platform, secret, "ended_at", "6 days 23 hours")
    with psycopg.connect(shared_platform.urls.app_url.replace("+psycopg", ""), autocommit=True) as platform:
        assert _known(platform, secret)
    shifted(shared_platform, secret, "ended_at", "2 hours")
    engine = create_engine(shared_platform.urls.app_url)
    with Session(engine) as session, session.begin():
        # The worker of the session's platform sweeps as well.
        assert sessions.purge(session, batch=1) <= 1
        sessions.purge(session)
    engine.dispose()
    with psycopg.connect(shared_platform.urls.app_url.replace("+psycopg", ""), autocommit=True) as platform:
        assert not _known(platform, secret)


def _known(platform: psycopg.Connection, secret: str) -> bool:
    found = platform.execute("SELECT 1 FROM browser_sessions WHERE secret_hash = encode(sha256(%s::bytea), 'hex')", [secret.encode()])
    return found.fetchone() is not None


def test_without_an_identity_provider_nobody_logs_in_with_a_browser(platform: Platform) -> None:
    for path in ("/auth/login", "/auth/callback?code=1&state=2"):
        answer = httpx.get(platform.server + path)
        assert (answer.status_code, answer.json()["code"]) == (409, "browser_login_not_set_up")
        assert "RINGI_OIDC_ISSUER" in answer.json()["detail"]
    assert httpx.get(platform.server + "/auth/session", cookies={"ringi_session": "rgs_" + "x" * 43}).status_code == 401
    with refused("unauthenticated", 401), RingiClient(platform.server, "rgs_" + "x" * 43) as client:
        client.identity.whoami()
