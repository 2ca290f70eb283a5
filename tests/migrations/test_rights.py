"""What the application role cannot do, whatever a request talks it into: the database itself refuses."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors, sql
from sqlalchemy import make_url

from all_models import metadata
from support.postgres import DatabaseUrls

SEALED = (
    "approval_grants", "approval_policies", "approval_votes", "audit_checkpoint", "audit_cosignature", "audit_event", "audit_guard", "audit_leaf", "audit_node", "audit_origin", "audit_payload", "audit_stop",
    "base_comparisons", "blobs", "compatibility_assessments", "dataset_versions", "delivery_attempts", "events", "gate_decisions", "project_bytes", "releases", "suite_versions", "upload_parts", "uploads", "version_origins",
)  # fmt: skip
# Delivered messages, placed events, the erasure of personal text (governance B6), answers kept for a day, and tags, whose every change the audit log keeps.
MAY_DELETE = {
    "process_signs",
    "blobs",
    "upload_parts",
    "uploads",
    "job_log",
    "workers",
    "outbox",
    "audit_pending",
    "audit_payload",
    "idempotency_keys",
    "tags",
}
VERSION_MAY_CHANGE = {"state", "state_reason"}


@pytest.fixture
def application(database: DatabaseUrls) -> Iterator[psycopg.Connection]:
    """A connection as the application, which has shown nobody."""
    with connect(database.tenant_url) as connection:
        yield connection


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True)


def update_of(table: str, column: str) -> sql.Composed:
    """A statement that changes nothing, and needs the right to change everything."""
    name = sql.Identifier(column)
    return sql.SQL("UPDATE {} SET {} = {}").format(sql.Identifier(table), name, name)


def test_sealed_tables_cannot_be_updated_in_any_column(application: psycopg.Connection) -> None:
    for table in SEALED:
        for column in metadata.tables[table].columns:
            if column.identity is not None:
                continue  # refused to everyone, before rights are looked at
            with pytest.raises(errors.InsufficientPrivilege):
                application.execute(update_of(table, column.name))


def test_nothing_can_be_deleted_but_queues_and_erasable_text(application: psycopg.Connection) -> None:
    for table in metadata.tables:
        statement = sql.SQL("DELETE FROM {}").format(sql.Identifier(table))
        if table in MAY_DELETE:
            application.execute(statement)
        else:
            with pytest.raises(errors.InsufficientPrivilege):
                application.execute(statement)


def test_no_table_can_be_emptied_at_once(application: psycopg.Connection) -> None:
    for table in metadata.tables:
        with pytest.raises(errors.InsufficientPrivilege):
            application.execute(sql.SQL("TRUNCATE {} CASCADE").format(sql.Identifier(table)))


def test_an_adapter_version_changes_in_its_state_alone(application: psycopg.Connection) -> None:
    for column in metadata.tables["adapter_versions"].columns:
        if column.name in VERSION_MAY_CHANGE:
            application.execute(update_of("adapter_versions", column.name))
        else:
            with pytest.raises(errors.InsufficientPrivilege):
                application.execute(update_of("adapter_versions", column.name))


def test_a_measurement_is_filled_in_once(database: DatabaseUrls) -> None:
    columns = "id, project_id, suite_version_id, base_revision_id, requested_by, place, again, state"
    with connect(database.superuser_url) as superuser:
        superuser.execute("SET session_replication_role = replica")
        for state in ("pending", "measured"):
            values = (*(uuid4() for _ in range(5)), state)
            superuser.execute(f"INSERT INTO measurements ({columns}) VALUES (%s, %s, %s, %s, %s, 0, false, %s)", values)  # names
    with connect(database.app_url) as platform:
        filled = platform.execute("UPDATE measurements SET evidence_digest = 'sha256:1', state = 'measured' WHERE state = 'pending'")
        assert filled.rowcount == 1
        with pytest.raises(errors.RestrictViolation):
            platform.execute("UPDATE measurements SET evidence_digest = 'sha256:2'")


def test_every_table_can_be_read_and_all_but_the_logs_head_logins_and_the_revision_can_be_added_to(application: psycopg.Connection) -> None:
    for table in metadata.tables:
        application.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(sql.Identifier(table)))
        (may_insert,) = application.execute("SELECT has_table_privilege(%s, 'INSERT')", (table,)).fetchone() or (None,)
        # Whose login an access token or a session is, what a witness said and that the platform stops: only the platform's own role says that.
        assert may_insert is (
            table not in {"audit_head", "audit_guard", "logins", "browser_sessions", "audit_cosignature", "audit_stop", "audit_origin"}
        )
    with pytest.raises(errors.InsufficientPrivilege):
        application.execute("UPDATE alembic_version SET version_num = version_num")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id integer)",
        "CREATE TEMPORARY TABLE mine (id integer)",
        "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA mine",
        "ALTER TABLE adapters ADD COLUMN mine integer",
        "ALTER TABLE audit_event DISABLE TRIGGER ALL",
        "DROP TRIGGER audit_event_no_change ON audit_event",
        "DROP TABLE outbox",
        "SET ROLE ringi_owner",
        "SET ROLE ringi_platform",
        "ALTER TABLE adapters DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE adapters NO FORCE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON adapters USING (true)",
        "DROP POLICY tenant ON adapters",
        "ALTER POLICY tenant ON adapters USING (true)",
        "SET session_replication_role = replica",
        "COPY audit_event TO PROGRAM 'cat'",
    ],
)
def test_the_application_cannot_change_the_shape_of_the_database(application: psycopg.Connection, statement: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        application.execute(statement)


def test_the_application_cannot_give_itself_a_right(application: psycopg.Connection) -> None:
    application.execute("GRANT UPDATE ON releases TO ringi_app")  # PostgreSQL warns, and grants nothing
    assert application.execute("SELECT has_table_privilege('releases', 'UPDATE')").fetchone() == (False,)


@pytest.mark.parametrize(("url", "groups"), [("tenant_url", []), ("app_url", ["ringi_app"])])
def test_the_application_and_the_platform_are_ordinary_roles(database: DatabaseUrls, url: str, groups: list[str]) -> None:
    with connect(getattr(database, url)) as role:
        found = role.execute(
            "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        assert found == (False, False, False, False, False)
        owned = role.execute("SELECT count(*) FROM pg_class WHERE relowner = current_user::regrole").fetchone()
        assert owned == (0,)
        member = role.execute("SELECT roleid::regrole::text FROM pg_auth_members WHERE member = current_user::regrole AND NOT admin_option")
        assert [name for (name,) in member] == groups


@pytest.mark.parametrize("statement", ["UPDATE audit_event SET outcome = 'ok'", "DELETE FROM audit_event", "TRUNCATE audit_event CASCADE"])
def test_even_the_owner_does_not_change_an_audit_row_by_mistake(database: DatabaseUrls, statement: str) -> None:
    with connect(database.app_url) as application:
        application.execute(
            "INSERT INTO audit_event (event_id, body, leaf_hash, ts, action, outcome, actor_type, actor_id, object_type, object_id)"
            " VALUES (%s, 'body', sha256('\\x00'::bytea || 'body'), now(), 'release.publish', 'denied', 'user', 'ada', 'release', 'r')",
            (uuid4(),),
        )
    with connect(database.owner_url) as owner:
        with pytest.raises(errors.RestrictViolation):
            owner.execute(statement)
        assert owner.execute("SELECT outcome FROM audit_event").fetchall() == [("denied",)]


def test_an_audit_row_whose_hash_is_not_of_its_body_is_not_taken(database: DatabaseUrls) -> None:
    with connect(database.app_url) as platform, pytest.raises(errors.CheckViolation):
        platform.execute(
            "INSERT INTO audit_event (event_id, body, leaf_hash, ts, action, outcome, actor_type, actor_id, object_type, object_id)"
            " VALUES (%s, 'body', sha256('other'), now(), 'release.publish', 'ok', 'user', 'ada', 'release', 'r')",
            (uuid4(),),
        )
