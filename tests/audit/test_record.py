"""Writing events: what is stored, what is refused, and who may touch it afterwards."""

import hashlib
import hmac
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
import rfc8785
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from ringi.audit import ddl, entry_policy, guard, personal, service
from ringi.audit.models import AuditEvent
from ringi.audit.read_only import AuditReadOnly
from ringi.audit.schemas import AuditAction, Outcome
from ringi.audit.sequence import sequence_once
from ringi.kit.actor import Actor, system_actor
from ringi.kit.digests import sha256_json
from ringi.settings import get_settings
from support.postgres import DatabaseUrls
from support.waiting import until


def counts(sessions: sessionmaker[Session]) -> dict[str, int]:
    tables = ("audit_event", "audit_pending", "audit_payload", "audit_leaf", "audit_node")
    with sessions() as session:
        return {table: session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in tables}


def test_an_event_holds_exactly_the_canonical_bytes_and_no_name(sessions: sessionmaker[Session], actor: Actor) -> None:
    document, project, subject = {"decision": "approve", "é": [1, None]}, uuid4(), uuid4()
    with sessions.begin() as session:
        event_id = service.record(
            session,
            actor,
            AuditAction.APPROVAL_VOTE,
            object_type="approval_vote",
            object_id=subject,
            project_id=project,
            record=document,
            details={"stage": 1, "final": True, "environment": "production", "expires": None},
            payload="It answers in Japanese.",
        )
    with sessions() as session:
        row = session.query(AuditEvent).one()
        salt, scheme, content = session.execute(text("SELECT salt, scheme, content FROM audit_payload")).one()
    event = json.loads(row.body)
    assert row.body == rfc8785.dumps(event)
    assert row.leaf_hash == hashlib.sha256(b"\x00" + row.body).digest()
    assert (row.event_id, UUID(event["id"]), event["origin"]) == (event_id, event_id, get_settings().audit_origin)
    assert event["after"] == sha256_json(document) == row.after_digest
    auth = {"token_id": str(actor.token_id), "iss": None, "acr": None, "amr": None, "auth_time": None}
    assert event["actor"] == {"type": "user", "id": str(actor.id), "on_behalf_of": None, "auth": auth}
    assert (event["project"], event["organization"]) == (str(project), str(actor.organization_id))
    with sessions() as session:
        read = personal.texts(session, {row.id: row.event_id})[row.id]
    assert read == "It answers in Japanese."
    assert event["payload_commit"] == "hmac-sha256:" + hmac.digest(salt, read.encode(), "sha256").hex()
    assert (scheme, read.encode() in content) == ("aes-256-gcm", False)
    assert actor.name.encode() not in row.body
    assert b"Japanese" not in row.body
    assert service.read_event(row).model_dump(mode="json") == event


def test_a_rollback_leaves_nothing(sessions: sessionmaker[Session], actor: Actor) -> None:
    with sessions() as session:
        service.record(session, actor, AuditAction.PROJECT_CREATE, object_type="project", object_id=uuid4(), payload="x")
        session.rollback()
    assert set(counts(sessions).values()) == {0}


def test_a_denied_request_is_kept_although_its_own_transaction_is_rolled_back(sessions: sessionmaker[Session], actor: Actor) -> None:
    with sessions() as session:
        service.record(session, actor, AuditAction.APPROVAL_VOTE, object_type="approval_vote", object_id=uuid4())
        details = {"rule": "no_role"}
        service.record_denied(sessions, actor, AuditAction.ACCESS_DENY, object_type="project", object_id=uuid4(), details=details)
        session.rollback()
    with sessions() as session:
        event = service.read_event(session.query(AuditEvent).one())
    assert (event.outcome, event.action, event.details) == (Outcome.DENIED, AuditAction.ACCESS_DENY, {"rule": "no_role"})


def test_a_part_of_the_platform_is_named_and_not_numbered(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        service.record(session, system_actor("worker"), AuditAction.TRAINING_RUN_COMPLETE, object_type="training_run", object_id=uuid4())
    with sessions() as session:
        event = service.read_event(session.query(AuditEvent).one())
    assert (event.actor.type, event.actor.id, event.actor.auth) == ("system", "worker", None)


@pytest.mark.parametrize(
    "details",
    [{"loss": 0.5}, {"big": 2**53}, {"text": "line\nbreak"}, {"text": "x" * 257}, {"Bad Name": 1}, {"nested": {"a": 1}}, {"nul": "\x00"}],
)
def test_details_that_cannot_stand_for_ever_are_refused(sessions: sessionmaker[Session], actor: Actor, details: dict[str, int]) -> None:
    with sessions() as session, pytest.raises(service.AuditEntryInvalid):
        service.record(session, actor, AuditAction.PROJECT_CREATE, object_type="project", object_id="p", details=details)
    assert counts(sessions)["audit_event"] == 0


def test_an_entry_beyond_sixteen_bits_is_refused_with_its_size(sessions: sessionmaker[Session], actor: Actor) -> None:
    details = {f"key_{number}": "é" * 256 for number in range(200)}
    with sessions() as session, pytest.raises(service.AuditEntryTooLarge) as refused:
        service.record(session, actor, AuditAction.PROJECT_CREATE, object_type="project", object_id="p", details=details)
    assert refused.value.details["limit"] == 65_535


@pytest.mark.parametrize("table", ddl.APPEND_ONLY_TABLES)
def test_neither_application_nor_owner_nor_superuser_changes_an_audit_row_in_passing(
    urls: DatabaseUrls, sessions: sessionmaker[Session], actor: Actor, seal: Callable[[], None], table: str
) -> None:
    with sessions.begin() as session:
        for _ in range(2):
            service.record(session, actor, AuditAction.PROJECT_CREATE, object_type="project", object_id="p")
    seal()
    column = {"audit_event": "action", "audit_leaf": "leaf_hash", "audit_node": "hash", "audit_checkpoint": "note"}[table]
    for url, refusal in ((urls.app_url, "permission denied"), (urls.owner_url, "append-only"), (urls.superuser_url, "append-only")):
        engine = create_engine(url)
        for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
            with pytest.raises(DBAPIError, match=refusal), engine.begin() as connection:
                connection.execute(text(statement))
        engine.dispose()
    engine = create_engine(urls.superuser_url, connect_args={"options": "-c session_replication_role=replica"})
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(text(f"DELETE FROM {table}"))
    engine.dispose()


def test_a_leaf_hash_that_is_not_of_the_body_cannot_be_stored(sessions: sessionmaker[Session], actor: Actor) -> None:
    with sessions.begin() as session:
        service.record(session, actor, AuditAction.PROJECT_CREATE, object_type="project", object_id="p")
    columns = "event_id, body, leaf_hash, ts, action, outcome, actor_type, actor_id, object_type, object_id"
    forged = columns.replace("event_id", "gen_random_uuid()").replace("body", "body || 'x'::bytea")
    with sessions() as session, pytest.raises(DBAPIError, match="leaf_hash_is_of_body"):
        session.execute(text(f"INSERT INTO audit_event ({columns}) SELECT {forged} FROM audit_event"))


def test_nobody_puts_a_table_of_their_own_before_those_that_the_triggers_read(sessions: sessionmaker[Session]) -> None:
    with sessions() as session, pytest.raises(DBAPIError, match="permission denied to create temporary tables"):
        session.execute(text("CREATE TEMPORARY TABLE audit_origin AS SELECT 9::smallint AS generation, 'elsewhere' AS origin"))


def test_removing_the_triggers_and_installing_them_again_works(urls: DatabaseUrls) -> None:
    engine = create_engine(urls.owner_url)
    with engine.begin() as connection:
        removed = (
            guard.remove,
            entry_policy.remove,
            ddl.remove_by_statement,
            ddl.remove_snapshot,
            ddl.remove_origins,
            ddl.remove_anchoring,
            ddl.remove,
        )
        added = (
            ddl.install,
            ddl.install_anchoring,
            ddl.install_origins,
            ddl.install_snapshot,
            ddl.install_by_statement,
            entry_policy.install,
            guard.install,
        )
        for step in (*removed, *added):
            step(lambda statement: connection.execute(text(statement)))
    with engine.begin() as connection:
        assert connection.execute(text("SELECT size FROM audit_head")).scalar_one() == 0
    engine.dispose()


def test_without_the_row_that_events_are_compared_with_none_is_written(
    urls: DatabaseUrls, sessions: sessionmaker[Session], actor: Actor
) -> None:
    superuser = create_engine(urls.superuser_url)
    with pytest.raises(DBAPIError, match="append-only"), superuser.begin() as connection:
        connection.execute(text("DELETE FROM audit_guard"))
    with superuser.begin() as connection:
        connection.execute(text("ALTER TABLE audit_guard DISABLE TRIGGER audit_guard_no_delete"))
        connection.execute(text("DELETE FROM audit_guard"))
    superuser.dispose()
    with pytest.raises(DBAPIError, match="gone from audit_guard"), sessions.begin() as session:
        service.record(session, actor, AuditAction.PROJECT_CREATE, object_type="project", object_id="p")
    assert counts(sessions)["audit_event"] == 0


def test_a_stop_that_begins_while_another_ends_is_not_lost(urls: DatabaseUrls, sessions: sessionmaker[Session], actor: Actor) -> None:
    superuser = create_engine(urls.superuser_url)
    stop = "INSERT INTO audit_stop (origin, code, message) VALUES (:origin, 'log_shortened', '項目が欠けている')"
    with superuser.begin() as connection:
        connection.execute(text(stop), {"origin": "一"})

    def end_the_first() -> None:
        with superuser.begin() as connection:
            connection.execute(text("UPDATE audit_stop SET ended_at = now() WHERE origin = '一'"))

    with ThreadPoolExecutor(1) as other, superuser.connect() as connection:  # thread: two transactions at once
        connection.execute(text(stop), {"origin": "二"})
        ending = other.submit(end_the_first)
        with superuser.connect().execution_options(isolation_level="AUTOCOMMIT") as looking:
            waits = text(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%ended_at%' AND datname = current_database()"
            )
            until(lambda: looking.execute(waits).scalar_one() == 1)
        connection.commit()
        ending.result(timeout=10)
    superuser.dispose()
    with pytest.raises(AuditReadOnly), sessions.begin() as session:
        service.record(session, actor, AuditAction.PROJECT_CREATE, object_type="project", object_id="p")


def test_a_second_sequencer_leaves_the_work_to_the_first(sessions: sessionmaker[Session], actor: Actor) -> None:
    with sessions.begin() as session:
        service.record(session, actor, AuditAction.PROJECT_CREATE, object_type="project", object_id="p")
    with sessions.begin() as first:
        assert sequence_once(first) == 1
        with sessions.begin() as second:
            assert sequence_once(second) == 0
    assert counts(sessions) == {"audit_event": 1, "audit_pending": 0, "audit_payload": 0, "audit_leaf": 1, "audit_node": 0}
