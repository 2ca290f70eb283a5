"""A person is erased: their text is nowhere any more, and everything that was signed still verifies."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from uuid import UUID, uuid4
from zipfile import ZipFile

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import make_url

from lifecycle.edited_rows import export
from ringi.adapters.schemas import VersionState
from ringi.approvals.schemas import ApprovalOut, VoteDecision
from ringi.audit.ringi_verify import verify_bundle
from ringi.cli.client import RingiClient
from ringi.events.schemas import CreateSubscription
from ringi.identity.schemas import Role
from ringi.storage.blobs import store_at
from support.own_api import store_url
from support.refusals import refused
from support.running_platform import PROJECT, Platform
from support.story import ADAPTER, BASE, Ground, environment_name, registered, signed
from support.waiting import until

NAME, DISPLAY_NAME = "kenji-yamada", "山田健二"
VOTED = "健二の所見：応答の品質は十分であり、承認する"
RELEASED = "健二の判断：繁忙期の前に本番へ出す"
MOVED = "健二の連絡：次の版に置き換えるため非推奨とする"
OTHERS = "美緒の所見：私も読んで承認する。健全である"
WHY = "退職者からの削除請求、受付番号４５６"


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True)


def found_in(url: str, sought: str) -> set[str]:
    """The columns of the whole database, whatever their types, in which a text stands in plain form."""
    columns = (
        "SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)"
        " WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
    )
    found = set()
    with connect(url) as database:
        for table, column in database.execute(columns).fetchall():
            names = (sql.Identifier(table), sql.Identifier(column))
            # A bytea is shown in hex, whatever it holds.
            query = sql.SQL("SELECT 1 FROM {0} WHERE position(%s IN {1}::text) > 0 OR position(%s IN {1}::text) > 0 LIMIT 1").format(*names)
            if database.execute(query, (sought, sought.encode().hex())).fetchone():
                found.add(f"{table}.{column}")
    return found


def logged(platform: Platform, event_id: UUID) -> None:
    """Wait until an entry is under a signed checkpoint."""

    def look() -> bool:
        response = platform.call("auditor", "GET", f"/audit/events/{event_id}/proof")
        return response.status_code == 200

    until(look, pause_s=0.1)


def voted(platform: Platform, user: str, reason: str) -> ApprovalOut:
    request = platform.as_("contributor").approvals.request(
        PROJECT, ADAPTER, "v2", environment=environment_name(), note="確認をお願いします"
    )
    body = {
        "decision": VoteDecision.APPROVE.value, "reason": reason, "manifest_digest": request.manifest_digest,
        "policy_digest": request.policy_digest, "evidence_digest": request.evidence_digest,
    }  # fmt: skip
    path = f"/projects/{PROJECT}/approvals/{request.id}/votes"
    answer = platform.call(user, "POST", path, json=body, headers={"Idempotency-Key": uuid4().hex})
    assert answer.status_code == 201, answer.text
    return request


def made_with_a_key(platform: Platform) -> httpx.Response:
    """The user, made by a request that may be repeated."""
    key = {"Idempotency-Key": f"made-in-{platform.organization}"}
    return platform.call("admin", "POST", "/users", json={"name": NAME, "display_name": DISPLAY_NAME}, headers=key)


def records_of(bundle: Path) -> dict[str, dict[str, str | None]]:
    lines = ZipFile(bundle).read("records.jsonl").splitlines()
    return {one["id"]: one["record"] for one in map(json.loads, lines) if one["type"] == "approval_vote"}


def a_version_to_move(platform: Platform, folder: Path) -> str:
    """A version of an adapter that no other test uses."""
    store, adapters, name = store_at(store_url(platform)), platform.as_("contributor").adapters, f"spare-{uuid4().hex[:6]}"
    folder.mkdir()
    for file in adapters.version(PROJECT, ADAPTER, "v1").files:
        (folder / file.path).write_bytes(b"".join(store.open(file.digest)))
    adapters.create(PROJECT, name, base=BASE)
    registered(platform, folder, name)
    return name


@pytest.fixture
def two_voters(ground: Ground) -> Platform:
    platform, admin = ground.platform, ground.platform.as_("admin").identity
    assert made_with_a_key(platform).status_code == 201
    for role in (Role.REVIEWER, Role.DEPLOYER):
        admin.grant_role(NAME, role, project=PROJECT)
    platform.tokens[NAME] = admin.issue_token(NAME, name="健二の端末").token
    platform.add_user("mio", Role.REVIEWER)
    return platform


def test_an_erased_person_is_nowhere_in_the_database_and_every_proof_holds(two_voters: Platform, tmp_path: Path) -> None:
    platform, url = two_voters, two_voters.processes.urls.superuser_url
    admin, key = platform.as_("admin").identity, platform.as_("auditor").audit.key().vkey
    # They vote, release and deprecate; a colleague votes too.
    request, others = voted(platform, NAME, VOTED), voted(platform, "mio", OTHERS)
    channel = f"c-{uuid4().hex[:8]}"
    releases = platform.as_(NAME).releases
    releases.create_channel(PROJECT, channel, environment=request.environment)
    signed(platform, "v2", channel=channel)
    released = releases.publish(PROJECT, ADAPTER, version="v2", channel=channel, reason=RELEASED)
    spare, subscriptions = a_version_to_move(platform, tmp_path / "spare"), platform.as_(NAME).subscriptions
    platform.as_(NAME).adapters.advance(PROJECT, spare, "v1", to=VersionState.DEPRECATED, reason=MOVED)
    subscriptions.create(PROJECT, CreateSubscription(name=spare, url="https://93.184.215.14/hook", event_types=["release.*"]))
    subscriptions.disable(PROJECT, spare)
    entries = {one.action: one for one in platform.as_("auditor").audit.events(user=NAME)}
    assert (entries["approval.vote"].text, entries["release.publish"].text) == (VOTED, RELEASED)
    old = export(platform, tmp_path / "old.zip")
    assert verify_bundle(old, key).ok
    vote = platform.as_("auditor").approvals.get(PROJECT, request.id).votes[0]
    assert records_of(old)[str(vote.id)]["reason"] == VOTED
    # Encrypted where the log keeps it, plain in the rows that people read and in the answers that are kept for a day.
    kept = "idempotency_keys.body"
    assert found_in(url, VOTED) == {"approval_votes.reason", kept}
    assert found_in(url, RELEASED) == {"events.data", "releases.reason", kept}
    assert found_in(url, MOVED) == {"events.data", "adapter_versions.state_reason", kept}
    assert found_in(url, NAME) == {"events.data", "subscriptions.disabled_reason", "users.name", kept}

    # By a token that may do nothing else: it cannot see the votes, which are noted all the same.
    with RingiClient(platform.server, admin.issue_token("admin", scopes=["identity:manage"]).token) as eraser:
        erased = eraser.identity.erase_user(NAME, WHY)

    assert (erased.display_name, erased.subject, erased.disabled_at is None, erased.erased_at is None) == ("", None, False, False)
    assert erased.name.startswith("erased-")
    for text in (VOTED, RELEASED, MOVED, NAME, DISPLAY_NAME, "健二の端末"):
        assert found_in(url, text) == set(), text
    # Another person's text is as it was, and still readable.
    assert "approval_votes.reason" in found_in(url, OTHERS)
    assert {one.text for one in platform.as_("auditor").audit.events(user="mio")} >= {OTHERS}
    # What they decided stays, under the pseudonym and without words.
    after = platform.as_("auditor").approvals.get(PROJECT, request.id)
    assert [(one.voter, one.decision, one.reason) for one in after.votes] == [(erased.name, VoteDecision.APPROVE, "")]
    shown = next(one for one in platform.as_("viewer").releases.history(PROJECT, ADAPTER, channel=channel) if one.id == released.id)
    assert (shown.released_by, shown.reason) == (erased.name, "")
    theirs = {one.action: one for one in platform.as_("auditor").audit.events(user=erased.name)}
    assert [(theirs[name].text, theirs[name].text_erased) for name in ("approval.vote", "release.publish")] == [(None, True)] * 2
    # The log, its export, and what was exported before.
    last = next(iter(platform.as_("auditor").audit.events(action="payload.erased")))
    logged(platform, last.event_id)
    new = export(platform, tmp_path / "new.zip")
    for report in (verify_bundle(new, key), verify_bundle(new, key, against=old), verify_bundle(old, key)):
        assert report.ok, report.problems
    assert [verify_bundle(one, key).erased for one in (old, new)] == [0, 1]
    record = records_of(new)[str(vote.id)]
    assert (record["reason"], record["salt"], record["decision"]) == (None, None, "approve")
    other = platform.as_("auditor").approvals.get(PROJECT, others.id).votes[0]
    assert records_of(new)[str(other.id)] == records_of(old)[str(other.id)]
    proof = platform.call("auditor", "GET", f"/audit/events/{entries['approval.vote'].event_id}/proof")
    assert proof.status_code == 200
    told_without_words(platform, request, erased.name, entries["approval.vote"].event_id, at=entries["release.publish"].ts)
    every_way_in_is_shut(platform, erased.name)


def told_without_words(platform: Platform, request: ApprovalOut, voter: str, entry: UUID, *, at: datetime) -> None:
    """What was approved then is still told, by whom, and proven by the entry; why is not, and so the row cannot be compared."""
    approved = list(platform.as_("auditor").audit.approved_then(at.isoformat(), PROJECT))
    (ballot,) = next(one for one in approved if one.environment == request.environment).votes
    assert (ballot.voter, ballot.reason) == (voter, None)
    assert ballot.said is not None
    assert (ballot.said.event_id, ballot.said.agrees) == (entry, None)


def every_way_in_is_shut(platform: Platform, pseudonym: str) -> None:
    admin = platform.as_("admin").identity
    assert platform.call(NAME, "GET", "/whoami").status_code == 401
    repeated = made_with_a_key(platform)
    assert (repeated.status_code, repeated.json()["code"]) == (410, "idempotency_answer_erased")
    refusals: list[tuple[str, Callable[[], object]]] = [
        ("user_erased", lambda: admin.erase_user(pseudonym, WHY)),
        # As the log names the person: who repeats an erasure after a restore has nothing else.
        ("user_erased", lambda: admin.erase_user(str(platform.as_("admin").identity.user(pseudonym).id), WHY)),
        ("user_disabled", lambda: admin.disable_user(pseudonym)),
        ("not_found", lambda: admin.erase_user(NAME, WHY)),
        ("erasing_oneself", lambda: admin.erase_user("admin", WHY)),
        ("user_erased", lambda: admin.enable_user(pseudonym)),
        ("user_erased", lambda: admin.issue_token(pseudonym)),
        ("user_erased", lambda: admin.grant_role(pseudonym, Role.VIEWER, project=PROJECT)),
    ]
    for code, act in refusals:
        with refused(code):
            act()


def test_only_who_hands_out_identities_erases_and_gives_a_reason(ground: Ground) -> None:
    ground.platform.as_("admin").identity.create_user("hana", display_name="花")
    for user in ("viewer", "reviewer", "auditor"):
        assert ground.platform.call(user, "POST", "/users/hana/erase", json={"reason": WHY}).status_code == 403
    assert ground.platform.call("admin", "POST", "/users/hana/erase", json={"reason": "短い"}).status_code == 422
    assert ground.platform.as_("admin").identity.user("hana").display_name == "花"


def test_the_application_blanks_nobody_who_is_not_erased(ground: Ground) -> None:
    person = ground.platform.as_("admin").identity.create_user("umi", display_name="海")
    with connect(ground.platform.processes.urls.tenant_url) as application:
        for statement in ("SELECT ringi_erase_person(%s, 'x')", "UPDATE approval_votes SET reason = '' WHERE voter_id = %s"):
            with pytest.raises(InsufficientPrivilege):
                application.execute(statement, (person.id,))
