"""People who log in at the company's identity provider: whom the platform believes, for what, and what it writes down."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from pydantic import ValidationError

from ringi.cli.client import RingiClient
from ringi.identity.access_tokens import believed
from ringi.identity.provider import Provider
from ringi.identity.schemas import Role, UserKind
from ringi.settings import Settings
from support.company import MAX_AGE_S, Company, company_at, entries
from support.identity_provider import AUDIENCE, WEB_CLIENT, IdentityProvider, identity_provider
from support.refusals import refused
from support.running_platform import SETUP_KEY, Processes
from support.waiting import until


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with identity_provider() as running:
        yield running


@pytest.fixture(scope="module")
def company(shared_platform: Processes, provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    with company_at(shared_platform, provider, tmp_path_factory.mktemp("company")) as running:
        yield running


def test_a_person_works_with_the_providers_access_token_and_the_log_says_how_they_logged_in(
    company: Company, shared_platform: Processes
) -> None:
    me = company.call(company.provider.token(company.chief)).json()
    assert (me["name"], me["issuer"], me["acr"]) == ("chief", company.provider.issuer, "urn:example:two-factors")
    with company.admin() as chief:
        made = chief.identity.create_user(f"user-{uuid4().hex[:6]}", display_name="山田 花子")
    (entry,) = [one for one in entries(shared_platform, "user.create") if one["object"]["id"] == str(made.id)]
    auth = entry["actor"]["auth"]
    assert (auth["token_id"], auth["iss"], auth["acr"], auth["amr"]) == (None, company.provider.issuer, me["acr"], ["pwd", "otp"])
    assert auth["auth_time"].startswith(me["logged_in_at"][:16])


def _unsigned(company: Company) -> str:
    def part(document: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()

    claims = {"iss": company.provider.issuer, "aud": AUDIENCE, "sub": company.chief, "exp": int(time.time()) + 300}
    return f"{part({'alg': 'none', 'typ': 'at+jwt'})}.{part(claims)}."


def _signed_with_the_public_key(company: Company) -> str:
    """HMAC with what everybody can read (RFC 8725, 2.1)."""
    public = httpx.get(f"{company.provider.issuer}/keys").text
    claims = {"iss": company.provider.issuer, "aud": AUDIENCE, "sub": company.chief, "exp": int(time.time()) + 300}
    return jwt.encode({"alg": "HS256", "kid": "first"}, claims, OctKey.import_key(public), algorithms=["HS256"])


def _spoilt(company: Company, how: str) -> str:
    now, make = int(time.time()), company.provider.token
    if how == "alg none":
        return _unsigned(company)
    if how == "hmac with the public key":
        return _signed_with_the_public_key(company)
    return {
        "signed by another key": lambda: make(company.chief, key="own"),
        "wrong audience": lambda: make(company.chief, aud="https://another.example.test"),
        "no audience": lambda: make(company.chief, aud=None),
        "wrong issuer": lambda: make(company.chief, iss="https://evil.example.test"),
        "expired": lambda: make(company.chief, exp=now - 120),
        "without an end": lambda: make(company.chief, exp=None),
        "not yet": lambda: make(company.chief, nbf=now + 600),
        "unknown kid": lambda: make(company.chief, header={"kid": "nobody's"}),
        "a place of keys of its own": lambda: make(company.chief, key="own", header={"kid": "evil", "jku": "http://127.0.0.1:9/keys"}),
        "another type": lambda: make(company.chief, header={"typ": "logout+jwt"}),
        "no subject": lambda: make("", sub=None),
        "a stranger": lambda: make("nobody-here"),
        "a login to come": lambda: make(company.chief, auth_time=now + 600),
        "Keycloak's ID token": lambda: make(company.chief, header={"typ": "JWT"}, typ="ID"),
        "a time that is none": lambda: make(company.chief, exp="soon"),
    }[how]()


REFUSED = {
    "alg none": "algorithm", "hmac with the public key": "algorithm", "signed by another key": "signature", "wrong audience": "audience",
    "no audience": "audience", "wrong issuer": "issuer", "expired": "expired", "without an end": "expiry", "not yet": "not_yet",
    "unknown kid": "unknown_key", "a place of keys of its own": "unknown_key", "another type": "type", "no subject": "subject",
    "a stranger": "unknown_subject", "a time that is none": "malformed",
    "a login to come": "not_yet", "Keycloak's ID token": "id_token",
}  # fmt: skip


@pytest.mark.parametrize("how", REFUSED)
def test_a_spoilt_token_is_refused_with_its_reason_and_leaves_an_audit_event(
    company: Company, shared_platform: Processes, how: str
) -> None:
    answer = company.call(_spoilt(company, how))
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["details"]["reason"]) == (401, "access_token_refused", REFUSED[how])
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    (noted,) = [one for one in entries(shared_platform, "authentication.refuse") if one["details"]["request"] == problem["request_id"]]
    assert (noted["outcome"], noted["object"]["id"], noted["details"]["code"]) == ("denied", REFUSED[how], problem["code"])


def test_a_revoked_token_that_someone_shows_is_told_to_the_auditors_of_its_organisation(company: Company) -> None:
    _, auditor = company.person(Role.AUDITOR)
    with company.admin() as chief:
        chief.identity.create_user("robot", kind=UserKind.SERVICE)
        issued = chief.identity.issue_token("robot")
        chief.identity.revoke_token(issued.details.id)
    assert company.call(issued.token).json()["details"]["reason"] == "revoked"
    with RingiClient(company.server, company.provider.token(auditor)) as client:
        (noted,) = client.audit.events(action="authentication.refuse")
    assert (noted.object_id, noted.outcome) == (str(issued.details.id), "denied")


def test_invented_names_of_keys_cost_the_provider_nothing(company: Company) -> None:
    provider = company.provider
    before = provider.reads()
    for _ in range(5):
        assert company.call(provider.token(company.chief, header={"kid": uuid4().hex})).status_code == 401
    assert provider.reads() - before <= 1


def test_a_new_key_is_found_and_what_was_published_last_counts_while_the_provider_is_away() -> None:
    with identity_provider() as running:
        provider = Provider(running.issuer, AUDIENCE, looked_for_every_s=0.0)
        assert provider.key("first") is not None
        running.rotate("second")
        assert believed(provider, running.token("someone")).subject == "someone"
        assert provider.key("first") is None, "it is published no more"
        begun = running.token("someone")
    assert provider.key("third") is None
    assert believed(provider, begun).subject == "someone"
    with refused("identity_provider_away", 503):
        Provider(running.issuer, AUDIENCE).key("first")


def test_while_the_keys_are_being_read_an_unknown_one_is_asked_for_again_later_and_a_known_one_counts() -> None:
    with identity_provider() as running, slow_in_front_of(running) as slow:
        provider = Provider(slow.issuer, AUDIENCE, looked_for_every_s=0.0)
        slow.free.set()
        assert provider.key("first") is not None
        running.rotate("second")
        slow.free.clear()
        # thread: the one who reads while the others ask.
        with ThreadPoolExecutor(1) as one:
            reading = one.submit(provider.key, "second")
            until(slow.asked.is_set)
            try:
                for _ in range(3):
                    with refused("identity_provider_away", 503):
                        provider.key("second")
                    assert provider.key("first") is not None
            finally:
                slow.free.set()
            assert reading.result(60) is not None
        assert provider.key("second") is not None
        assert provider.key("third") is None


@dataclass
class Slow:
    """Gives what another provider says under a name of its own, when `free` is set; `asked` is set while somebody waits for it."""

    issuer: str
    free: threading.Event
    asked: threading.Event


@contextmanager
def slow_in_front_of(running: IdentityProvider) -> Iterator[Slow]:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            if not slow.free.is_set():
                slow.asked.set()
                slow.free.wait(60)
                slow.asked.clear()
            body = httpx.get(running.issuer + self.path).text.replace(running.issuer, slow.issuer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:  # the library writes every request to standard error
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        slow = Slow(f"http://127.0.0.1:{server.server_port}", threading.Event(), threading.Event())
        # thread: a server beside the test.
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield slow
        finally:
            slow.free.set()
            server.shutdown()


def test_an_id_token_is_no_access_token_also_where_the_audience_is_a_client_of_ours(provider: IdentityProvider) -> None:
    """Signed by the same keys, for the same audience: only what it says tells them apart."""
    apart = Provider(provider.issuer, AUDIENCE, frozenset({WEB_CLIENT}))
    one = Provider(provider.issuer, WEB_CLIENT, frozenset({WEB_CLIENT}))

    def made(**claims: Any) -> str:
        return provider.token("someone", header={"typ": "JWT"}, aud=WEB_CLIENT, **claims)

    for claims in (
        {}, {"nonce": "n"}, {"at_hash": "h", "scp": "use"}, {"c_hash": "h", "scp": "use"}, {"nonce": "n", "scope": "use"}, {"azp": WEB_CLIENT},
        {"scp": ""}, {"typ": "ID", "scope": "use"},
    ):  # fmt: skip
        with refused("access_token_refused", 401) as why:
            believed(one, made(**claims))
        assert why.details["reason"] == "id_token"
    for claims in ({"scp": "use"}, {"scope": "use", "typ": "Bearer"}, {"client_id": "another"}):
        assert believed(one, made(**claims)).subject == "someone"
    # By its type it is none.
    assert believed(one, provider.token("someone", aud=WEB_CLIENT)).subject == "someone"
    assert believed(apart, provider.token("someone", header={"typ": "JWT"})).subject == "someone"


def test_production_does_not_start_where_a_terminals_id_token_would_be_for_the_api() -> None:
    told: dict[str, Any] = {"oidc_issuer": "https://login.example.test", "oidc_audience": "ringi", "oidc_cli_client_id": "ringi"}
    assert Settings(**told).id_tokens_are_for_the_api
    for client, needed in (("ringi", True), ("ringi-terminals", False)):
        with pytest.raises(ValidationError) as refusal:
            Settings(**told | {"oidc_cli_client_id": client}, profile="production")
        assert ("another RINGI_OIDC_AUDIENCE than RINGI_OIDC_CLI_CLIENT_ID" in str(refusal.value)) is needed


def test_votes_roles_and_policies_need_a_fresh_login_of_the_wanted_strength(company: Company) -> None:
    wanted = {"name": f"user-{uuid4().hex[:6]}"}
    stale = company.provider.token(company.chief, auth_time=int(time.time()) - MAX_AGE_S - 60)
    weak = company.provider.token(company.chief, acr="urn:example:password")
    silent = company.provider.token(company.chief, auth_time=None)
    for token in (stale, weak, silent, company.first_token):
        answer = company.call(token, "POST", "/users", json=wanted)
        assert (answer.status_code, answer.json()["code"]) == (401, "insufficient_user_authentication"), answer.text
        challenge = answer.headers["WWW-Authenticate"]
        assert 'error="insufficient_user_authentication"' in challenge
        assert f'max_age="{MAX_AGE_S}"' in challenge
        assert 'acr_values="urn:example:two-factors"' in challenge
    # Reading needs no fresh login.
    assert company.call(stale, path="/users").status_code == 200
    assert company.call(company.provider.token(company.chief), "POST", "/users", json=wanted).status_code == 201


def test_nobody_makes_a_token_that_acts_as_another_person_and_no_token_makes_one(company: Company) -> None:
    name, subject = company.person()
    with company.admin() as chief, refused("token_for_another", 403):
        chief.identity.issue_token(name)
    with RingiClient(company.server, company.provider.token(subject)) as person:
        mine = person.identity.issue_own_token(days=1, scopes=["project:read"])
    assert company.call(mine.token).json()["name"] == name
    with RingiClient(company.server, mine.token) as robot, refused("own_token_needs_login", 403):
        robot.identity.issue_own_token()


def test_a_link_and_a_token_of_ones_own_leave_an_event(company: Company, shared_platform: Processes) -> None:
    """The two changes that need an identity provider; every other one is made in tests/audit/test_every_route.py."""
    with company.admin() as chief:
        linked = chief.identity.create_user(f"user-{uuid4().hex[:6]}", display_name="鈴木")
    name, subject = linked.name, f"subject-of-{linked.name}"
    asked = (
        (company.provider.token(company.chief), "PUT", f"/users/{name}/subject", {"subject": subject}, "user.link"),
        (company.provider.token(subject), "POST", "/tokens", {"name": "自分の"}, "token.issue"),
    )
    for token, method, path, body, action in asked:
        answer = company.call(token, method, path, json=body)
        assert answer.is_success, answer.text
        (entry,) = [one for one in entries(shared_platform, action) if one["request_id"] == answer.headers["X-Request-Id"]]
        assert entry["outcome"] == "ok"


def test_a_person_is_said_once_and_is_one_user_of_the_whole_deployment(company: Company) -> None:
    name, subject = company.person()
    with company.admin() as chief:
        with refused("subject_set", 409):
            chief.identity.link_user(name, "another")
        chief.identity.create_user("second-seat")
        with refused("issuer_differs", 400):
            chief.identity.link_user("second-seat", "another", issuer="https://elsewhere.example")
        with refused("subject_in_use", 409):
            chief.identity.link_user("second-seat", subject)
        chief.identity.create_user("machine", kind=UserKind.SERVICE)
        with refused("not_a_person", 409):
            chief.identity.link_user("machine", "of-a-machine")
        assert chief.identity.link_user("second-seat", f"{subject}-2").subject == f"{subject}-2"
    assert company.call(company.provider.token(f"{subject}-2")).json()["name"] == "second-seat"


def test_a_disabled_user_is_out_at_once_with_every_token_and_login(company: Company) -> None:
    name, subject = company.person()
    token = company.provider.token(subject)
    with RingiClient(company.server, token) as person:
        own = person.identity.issue_own_token(days=1)
    with company.admin() as chief:
        with refused("disabling_oneself", 409):
            chief.identity.disable_user("chief")
        assert chief.identity.disable_user(name).disabled_at is not None
        with refused("user_disabled", 409):
            chief.identity.disable_user(name)
        for secret in (token, own.token):
            assert company.call(secret).json()["details"]["reason"] == "disabled"
        chief.identity.enable_user(name)
        with refused("user_enabled", 409):
            chief.identity.enable_user(name)
    assert company.call(token).status_code == 200


def test_an_erased_person_does_not_come_back_as_a_second_one(company: Company) -> None:
    name, subject = company.person(Role.POLICY_ADMIN)
    token = company.provider.token(subject)
    assert company.call(token).status_code == 200
    with company.admin() as chief:
        erased = chief.identity.erase_user(name, "退職者からの削除の請求")
        assert (erased.subject, erased.display_name) == (None, "")
        # Their login is nobody's, and their subject is not given to anybody else: two seats would be filled by one person.
        assert company.call(token).json()["details"]["reason"] == "unknown_subject"
        with refused("subject_in_use", 409):
            chief.identity.create_user("again", subject=subject)
        with refused("user_erased", 409):
            chief.identity.link_user(erased.name, f"{subject}-2")
        assert chief.identity.create_user("somebody-else", subject=f"{subject}-3").subject == f"{subject}-3"


def test_an_organisation_whose_administrator_could_not_log_in_is_not_made(company: Company) -> None:
    with refused("subject_needed", 400), RingiClient(company.server, SETUP_KEY) as operator:
        operator.identity.create_organization("nobody-there", admin="admin")
