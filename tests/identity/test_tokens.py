"""Tokens: their form, what is stored of them, and when they stop to work."""

import re

import psycopg
import pytest

from ringi.cli.client import RingiClient
from ringi.identity import tokens
from support.refusals import refused
from support.running_platform import PROJECT, SETUP_KEY, Platform


def superuser(platform: Platform) -> psycopg.Connection:
    return psycopg.connect(platform.processes.urls.superuser_url.replace("postgresql+psycopg", "postgresql"), autocommit=True)


def test_a_token_has_the_form_that_hub_clients_accept_and_a_checksum() -> None:
    drawn = {tokens.draw() for _ in range(50)}
    assert len(drawn) == 50
    for token in drawn:
        assert re.fullmatch(r"hf_rgi[0-9A-Za-z]{49}", token)
        assert tokens.well_formed(token)
        at = 20
        other = "A" if token[at] != "A" else "B"
        assert not tokens.well_formed(token[:at] + other + token[at + 1 :])
        assert not tokens.well_formed(token[:-1])
        assert not tokens.well_formed(token + "A")


def test_the_secret_is_nowhere_in_the_database(platform: Platform) -> None:
    secret = platform.as_("admin").identity.issue_token("viewer", name="looked for").token
    found = []
    with superuser(platform) as database:
        tables = database.execute("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert len(tables) > 20
        for (table,) in tables:
            # A row as text holds every column, bytes in hex.
            query = f"SELECT count(*) FROM {table} AS t WHERE t::text LIKE %s OR t::text LIKE %s"
            counted = database.execute(query, [f"%{secret[10:]}%", f"%{secret[10:].encode().hex()}%"]).fetchone()
            found += [table] if counted and counted[0] else []
        hashed = database.execute("SELECT count(*) FROM tokens WHERE secret_hash = %s", [tokens.hashed(secret)]).fetchone()
    assert (found, hashed) == ([], (1,))


def test_the_secret_is_in_no_answer_but_the_first_and_in_no_log(platform: Platform) -> None:
    issued = platform.as_("admin").identity.issue_token("viewer", name="once")
    listed = platform.call("admin", "GET", "/tokens?limit=200").text
    assert str(issued.details.id) in listed
    assert issued.token not in listed
    assert "secret" not in listed
    assert issued.token not in platform.call("auditor", "GET", "/audit/events?limit=200").text
    assert issued.token not in platform.processes.log_of("api")


@pytest.mark.parametrize("token", ["hf_rgi", "Bearer", "hf_" + "a" * 34, "x" * 5000, "hf_rgi" + "0" * 49, "hf_rgi\u00e9"])
def test_what_is_no_token_is_refused(platform: Platform, token: str) -> None:
    answer = platform.call(None, "GET", "/whoami", headers={"Authorization": f"Bearer {token}".encode()})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_well_formed_token_that_was_never_issued_is_invalid(platform: Platform) -> None:
    platform.tokens["nobody"] = tokens.draw()
    answer = platform.call("nobody", "GET", "/whoami")
    assert (answer.status_code, answer.json()["details"]["reason"]) == (401, "invalid")


def test_an_expired_token_says_so_and_changes_nothing(platform: Platform) -> None:
    issued = platform.as_("admin").identity.issue_token("contributor", days=1)
    platform.tokens["late"] = issued.token
    assert platform.as_("late").identity.whoami().name == "contributor"
    with superuser(platform) as database:
        database.execute("UPDATE tokens SET expires_at = clock_timestamp() - interval '1 second' WHERE id = %s", [issued.details.id])
    with refused("unauthenticated", 401) as why:
        platform.as_("late").datasets.create(PROJECT, "too-late")
    assert (why.details["reason"], "expired" in why.message) == ("expired", True)
    answer = platform.call("late", "POST", "/uploads", content=b"too late")
    assert (answer.status_code, answer.json()["details"]["reason"]) == (401, "expired")
    with refused("not_found", 404):
        platform.as_("contributor").datasets.get(PROJECT, "too-late")


def test_a_revoked_token_stops_at_once_and_only_its_owner_or_an_admin_revokes_it(platform: Platform) -> None:
    issued = platform.as_("admin").identity.issue_token("viewer")
    platform.tokens["second"] = issued.token
    assert platform.as_("second").identity.whoami().name == "viewer"
    with refused("not_found", 404):
        platform.as_("contributor").identity.revoke_token(issued.details.id)
    assert platform.as_("viewer").identity.revoke_token(issued.details.id).revoked_at is not None
    with refused("unauthenticated", 401) as why:
        platform.as_("second").identity.whoami()
    assert why.details["reason"] == "revoked"
    with refused("token_revoked", 409):
        platform.as_("admin").identity.revoke_token(issued.details.id)
    with refused("not_found", 404):
        platform.as_("contributor").identity.revoke_token(issued.details.id)


def test_scopes_narrow_what_the_roles_allow_and_never_widen_it(platform: Platform) -> None:
    admin = platform.as_("admin").identity
    platform.tokens["narrow"] = admin.issue_token("contributor", scopes=["project:read", "policy:write"]).token
    assert [one.name for one in platform.as_("narrow").identity.projects()] == [PROJECT]
    with refused("forbidden", 403):
        platform.as_("narrow").datasets.create(PROJECT, "not-in-scope")
    assert platform.as_("narrow").identity.whoami().projects == {PROJECT: ["project:read"]}
    with refused("unknown_scope", 400):
        admin.issue_token("contributor", scopes=["every:thing"])


def test_the_scope_of_pulling_includes_the_reads_that_a_pull_needs_and_no_more(platform: Platform) -> None:
    platform.tokens["puller"] = platform.as_("admin").identity.issue_token("contributor", scopes=["release:pull"]).token
    assert platform.as_("puller").identity.whoami().projects == {PROJECT: ["organization:read", "project:read", "release:pull"]}
    with refused("forbidden", 403):
        platform.as_("puller").datasets.create(PROJECT, "not-by-pulling")


def test_a_narrowed_token_issues_none_that_allows_more_than_itself(platform: Platform) -> None:
    admin = platform.as_("admin").identity
    platform.tokens["narrow"] = admin.issue_token("admin", scopes=["identity:manage", "project:read"]).token
    platform.tokens["bound"] = admin.issue_token("admin", environment="staging").token
    narrow, bound = platform.as_("narrow").identity, platform.as_("bound").identity
    for scopes in (None, ["project:read", "base_model:register"]):
        with refused("wider_token", 403):
            narrow.issue_token("admin", scopes=scopes)
    for environment in (None, "production"):
        with refused("wider_token", 403):
            bound.issue_token("admin", environment=environment)
    assert narrow.issue_token("admin", scopes=["project:read"]).details.scopes == ["project:read"]
    assert bound.issue_token("admin", environment="staging").details.environment == "staging"


def test_a_narrowed_token_lists_and_revokes_itself_alone(platform: Platform) -> None:
    admin = platform.as_("admin").identity
    issued = admin.issue_token("admin", scopes=["identity:manage", "identity:read"])
    other = admin.issue_token("admin")
    platform.tokens["narrow"] = issued.token
    narrow = platform.as_("narrow").identity
    assert [one.id for one in narrow.tokens()] == [issued.details.id]
    with refused("not_found", 404):
        narrow.revoke_token(other.details.id)
    assert narrow.revoke_token(issued.details.id).revoked_at is not None
    assert admin.revoke_token(other.details.id).revoked_at is not None


def test_only_an_identity_admin_issues_tokens(platform: Platform) -> None:
    for user in ("contributor", "reviewer", "auditor"):
        with refused("forbidden", 403):
            platform.as_(user).identity.issue_token("viewer")


def test_the_setup_key_makes_organisations_and_nothing_else(platform: Platform) -> None:
    with refused("unauthenticated", 401), RingiClient(platform.server, platform.tokens["admin"]) as client:
        client.identity.create_organization("another", admin="admin")
    with refused("unauthenticated", 401), RingiClient(platform.server, SETUP_KEY) as client:
        client.identity.whoami()
    with refused("name_taken", 409), RingiClient(platform.server, SETUP_KEY) as client:
        client.identity.create_organization(platform.organization, admin="admin")


@pytest.mark.parametrize("where", ["/whoami?token={}", "/projects?filter=name%3D{}", "/users/{}"])
def test_a_token_in_an_address_is_refused_and_told_to_the_auditors(platform: Platform, where: str) -> None:
    admin, secret = platform.as_("admin").identity, platform.tokens["viewer"]
    token = next(one for one in admin.tokens() if one.user == "viewer")
    answer = platform.call("admin", "GET", where.format(secret))
    assert (answer.status_code, answer.json()["code"]) == (400, "token_in_url")
    assert secret not in answer.text
    (noted,) = platform.logged("authentication.refuse", reason="in_url")
    assert (noted.object_id, noted.outcome) == (str(token.id), "denied")


def test_the_parameter_access_token_is_refused(platform: Platform) -> None:
    assert platform.call("viewer", "GET", "/whoami?access_token=anything").json()["code"] == "token_in_url"
