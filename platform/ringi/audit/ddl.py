"""What the audit tables need beyond their models: triggers that refuse any change, rights, and the first head row.

Called by the migration after the tables exist and after any blanket GRANT, and by tests on a scratch database:
`install(op.execute)`, `remove(op.execute)`. Statements hold no bind parameters and no percent signs.

The triggers are ENABLE ALWAYS, so that `session_replication_role = replica` does not pass them: whoever wants to change a row must
first disable them by name. They stop the application and mistakes, not a superuser; the signed checkpoints do that (governance B3.6).
The sequencer works under the application role too: INSERT on leaf, node and checkpoint, UPDATE on the head, DELETE on the queue.
"""

from collections.abc import Callable

APPEND_ONLY_TABLES = ("audit_event", "audit_leaf", "audit_node", "audit_checkpoint")
APPLICATION_ROLE = "ringi_app"
# What the application role may do; everything else on these tables is revoked.
RIGHTS = {
    "audit_event": "SELECT, INSERT",
    "audit_leaf": "SELECT, INSERT",
    "audit_node": "SELECT, INSERT",
    "audit_checkpoint": "SELECT, INSERT",
    "audit_payload": "SELECT, INSERT, DELETE",
    "audit_pending": "SELECT, INSERT, DELETE",
    "audit_head": "SELECT, UPDATE",
}

REFUSE_FUNCTION = """
CREATE OR REPLACE FUNCTION ringi_audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'restrict_violation',
        MESSAGE = 'table ' || TG_TABLE_NAME || ' is append-only: ' || TG_OP || ' is refused';
END
$$
"""

FIRST_HEAD = "INSERT INTO audit_head (id, size, frontier) VALUES (1, 0, ''::bytea) ON CONFLICT DO NOTHING"


# Cosignatures and the read-only mode, which came with revision 0018. Rows of both are added by the platform's own role alone.
ANCHORING_APPEND_ONLY, STOPS = "audit_cosignature", "audit_stop"
PLATFORM_ROLE = "ringi_platform"
# What `audit_stop` lets through all the same, by an action's last word: whoever stops something must not be stopped (governance A3.11), and what
# was read, refused (also by its outcome) or failed changes nothing. No action is a hold yet. `log.` is the log's own life: stopping it, its keys,
# and going on. `session.` is a browser's login and logout: whoever looks, or stops something, must come in (since revision 0022).
LET_THROUGH = r"^(log|session)\.|\.(revoke|hold|disable|cordon|cancel|deny|refuse|fail|download|export)$"
# SQLSTATE of the refusal; class RG is nobody's.
READ_ONLY_STATE = "RG001"
READ_ONLY_FUNCTION = f"""
CREATE OR REPLACE FUNCTION ringi_audit_read_only() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    why text;
BEGIN
    IF NEW.outcome = 'ok' AND NEW.action !~ '{LET_THROUGH}' THEN
        SELECT code INTO why FROM audit_stop WHERE ended_at IS NULL ORDER BY id LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION USING ERRCODE = '{READ_ONLY_STATE}', MESSAGE = 'the platform is read-only: ' || why, DETAIL = why;
        END IF;
    END IF;
    RETURN NEW;
END
$$
"""  # noqa: S608  # of constants of this file
# As it was before revision 0022.
READ_ONLY_FUNCTION_WITHOUT_SESSIONS = READ_ONLY_FUNCTION.replace("^(log|session)", "^log")


def _triggers(table: str) -> list[str]:
    guarded = "UPDATE OR DELETE" if table in (*APPEND_ONLY_TABLES, ANCHORING_APPEND_ONLY, ORIGINS) else "DELETE"
    return [
        f"CREATE TRIGGER {table}_no_change BEFORE {guarded} ON {table} FOR EACH ROW EXECUTE FUNCTION ringi_audit_refuse()",
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION ringi_audit_refuse()",
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_no_change",
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_no_truncate",
    ]


def _rights(table: str, role: str) -> str:
    return f"REVOKE ALL ON {table} FROM PUBLIC, {role}; GRANT {RIGHTS[table]} ON {table} TO {role}"


def install(execute: Callable[[str], object], *, role: str = APPLICATION_ROLE) -> None:
    """Run the statements one by one as the tables' owner. `role` must exist."""
    execute(REFUSE_FUNCTION)
    for table in (*APPEND_ONLY_TABLES, "audit_head"):
        for statement in _triggers(table):
            execute(statement)
    for table in RIGHTS:
        for statement in _rights(table, role).split("; "):
            execute(statement)
    execute(FIRST_HEAD)


def remove(execute: Callable[[str], object]) -> None:
    """Undo `install`, so that a downgrade can drop the tables."""
    for table in (*APPEND_ONLY_TABLES, "audit_head"):
        execute(f"DROP TRIGGER IF EXISTS {table}_no_change ON {table}")
        execute(f"DROP TRIGGER IF EXISTS {table}_no_truncate ON {table}")
    execute("DROP FUNCTION IF EXISTS ringi_audit_refuse()")


def install_anchoring(execute: Callable[[str], object], *, role: str = APPLICATION_ROLE, platform_role: str = PLATFORM_ROLE) -> None:
    """The same for cosignatures and stops, after `install`, with the trigger that makes an open stop the read-only mode."""
    for table in (ANCHORING_APPEND_ONLY, STOPS):
        for statement in _triggers(table):
            execute(statement)
        execute(f"REVOKE ALL ON {table} FROM PUBLIC, {role}")
        execute(f"GRANT SELECT ON {table} TO {role}")
        execute(f"GRANT INSERT ON {table} TO {platform_role}")
    execute(READ_ONLY_FUNCTION)
    execute("CREATE TRIGGER audit_event_read_only BEFORE INSERT ON audit_event FOR EACH ROW EXECUTE FUNCTION ringi_audit_read_only()")
    execute("ALTER TABLE audit_event ENABLE ALWAYS TRIGGER audit_event_read_only")


def remove_anchoring(execute: Callable[[str], object]) -> None:
    """Undo `install_anchoring`, so that a downgrade can drop the tables."""
    execute("DROP TRIGGER IF EXISTS audit_event_read_only ON audit_event")
    execute("DROP FUNCTION IF EXISTS ringi_audit_read_only()")
    for table in (ANCHORING_APPEND_ONLY, STOPS):
        execute(f"DROP TRIGGER IF EXISTS {table}_no_change ON {table}")
        execute(f"DROP TRIGGER IF EXISTS {table}_no_truncate ON {table}")


# Several logs in one database, which came with revision 0021.
ORIGINS, GENERATIONS = "audit_origin", ("audit_leaf", "audit_node", "audit_checkpoint")
# SQLSTATE of what is written for another log than the one that grows.
OTHER_ORIGIN_STATE = "RG002"
GROWING_FUNCTION = """
CREATE OR REPLACE FUNCTION ringi_audit_growing() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.generation IS DISTINCT FROM (SELECT generation FROM audit_head WHERE id = 1) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'restrict_violation',
            MESSAGE = 'log ' || NEW.generation || ' is closed: nothing is added to ' || TG_TABLE_NAME;
    END IF;
    RETURN NEW;
END
$$
"""
# An event names its log in its bytes, so a process with another RINGI_AUDIT_ORIGIN than the database's writes nothing. The first log has its name from
# its first checkpoint.
ORIGIN_FUNCTION = f"""
CREATE OR REPLACE FUNCTION ringi_audit_origin() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    expected text;
BEGIN
    SELECT origin INTO expected FROM audit_origin ORDER BY generation DESC LIMIT 1;
    IF NOT FOUND THEN
        SELECT split_part(convert_from(note, 'UTF8'), chr(10), 1) INTO expected FROM audit_checkpoint ORDER BY generation DESC, size DESC LIMIT 1;
    END IF;
    IF expected IS NOT NULL AND position(convert_to('"origin":' || CAST(to_json(expected) AS text), 'UTF8') IN NEW.body) = 0 THEN
        RAISE EXCEPTION USING ERRCODE = '{OTHER_ORIGIN_STATE}', MESSAGE = 'the log of this database is ' || expected, DETAIL = expected;
    END IF;
    RETURN NEW;
END
$$
"""  # noqa: S608  # of constants of this file


def install_origins(execute: Callable[[str], object], *, role: str = APPLICATION_ROLE) -> None:
    """After `install_anchoring`: a log that has ended cannot grow again, and every event is written for the one that grows."""
    for statement in _triggers(ORIGINS):
        execute(statement)
    execute(f"REVOKE ALL ON {ORIGINS} FROM PUBLIC, {role}")
    execute(f"GRANT SELECT ON {ORIGINS} TO {role}")
    execute(f"REVOKE UPDATE ON audit_head FROM {role}")
    execute(f"GRANT UPDATE (size, frontier) ON audit_head TO {role}")
    execute(GROWING_FUNCTION)
    execute(ORIGIN_FUNCTION)
    for table in GENERATIONS:
        execute(f"CREATE TRIGGER {table}_growing BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION ringi_audit_growing()")
        execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_growing")
    execute("CREATE TRIGGER audit_event_origin BEFORE INSERT ON audit_event FOR EACH ROW EXECUTE FUNCTION ringi_audit_origin()")
    execute("ALTER TABLE audit_event ENABLE ALWAYS TRIGGER audit_event_origin")


def remove_origins(execute: Callable[[str], object], *, role: str = APPLICATION_ROLE) -> None:
    """Undo `install_origins`."""
    for table in GENERATIONS:
        execute(f"DROP TRIGGER IF EXISTS {table}_growing ON {table}")
    execute("DROP TRIGGER IF EXISTS audit_event_origin ON audit_event")
    execute("DROP FUNCTION IF EXISTS ringi_audit_growing()")
    execute("DROP FUNCTION IF EXISTS ringi_audit_origin()")
    execute(f"GRANT UPDATE ON audit_head TO {role}")
    for suffix in ("change", "truncate"):
        execute(f"DROP TRIGGER IF EXISTS {ORIGINS}_no_{suffix} ON {ORIGINS}")


# What the triggers above look at is the state of now only in a transaction without a snapshot of its own; revision 0023.
SNAPSHOT_FUNCTION = """
CREATE OR REPLACE FUNCTION ringi_audit_snapshot() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'invalid_transaction_state',
            MESSAGE = 'an audit event is written READ COMMITTED: an older snapshot shows neither that its log has ended nor that the platform is read-only';
    END IF;
    RETURN NULL;
END
$$
"""


def install_snapshot(execute: Callable[[str], object]) -> None:
    """After `install_origins`: no event is written by a transaction that still sees the log that has ended."""
    execute(SNAPSHOT_FUNCTION)
    execute("CREATE TRIGGER audit_event_snapshot BEFORE INSERT ON audit_event FOR EACH STATEMENT EXECUTE FUNCTION ringi_audit_snapshot()")
    execute("ALTER TABLE audit_event ENABLE ALWAYS TRIGGER audit_event_snapshot")


def remove_snapshot(execute: Callable[[str], object]) -> None:
    """Undo `install_snapshot`."""
    execute("DROP TRIGGER IF EXISTS audit_event_snapshot ON audit_event")
    execute("DROP FUNCTION IF EXISTS ringi_audit_snapshot()")


# The same rules, looked at once a statement instead of once a row or once a trigger; revision 0026. A sequencer's batch of 5,000 events is two statements, and
# called the function above 10,000 times. (Whoever may create a subscription of logical replication gets past triggers of statements; that takes a superuser, or
# the right that only one grants.)
GROWING_BATCH_FUNCTION = """
CREATE OR REPLACE FUNCTION ringi_audit_growing_batch() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    closed smallint;
BEGIN
    SELECT generation INTO closed FROM added
    WHERE generation IS DISTINCT FROM (SELECT generation FROM audit_head WHERE id = 1) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'restrict_violation',
            MESSAGE = 'log ' || closed || ' is closed: nothing is added to ' || TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$$
"""
OWN_SNAPSHOT = "WHEN (current_setting('transaction_isolation') IN ('repeatable read', 'serializable'))"
ORIGIN_IN_ONE_QUESTION = ORIGIN_FUNCTION.replace(
    """SELECT origin INTO expected FROM audit_origin ORDER BY generation DESC LIMIT 1;
    IF NOT FOUND THEN
        SELECT split_part(convert_from(note, 'UTF8'), chr(10), 1) INTO expected FROM audit_checkpoint ORDER BY generation DESC, size DESC LIMIT 1;
    END IF;""",
    """SELECT coalesce(
        (SELECT origin FROM audit_origin ORDER BY generation DESC LIMIT 1),
        (SELECT split_part(convert_from(note, 'UTF8'), chr(10), 1) FROM audit_checkpoint ORDER BY generation DESC, size DESC LIMIT 1)
    ) INTO expected;""",
)


def install_by_statement(execute: Callable[[str], object]) -> None:
    """After `install_snapshot`: the same refusals for less."""
    execute(GROWING_BATCH_FUNCTION)
    for table in GENERATIONS:
        execute(f"DROP TRIGGER {table}_growing ON {table}")
        execute(
            f"CREATE TRIGGER {table}_growing AFTER INSERT ON {table} REFERENCING NEW TABLE AS added FOR EACH STATEMENT"
            " EXECUTE FUNCTION ringi_audit_growing_batch()"
        )
        execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_growing")
    _replace_snapshot_trigger(execute, OWN_SNAPSHOT)
    execute(ORIGIN_IN_ONE_QUESTION)


def remove_by_statement(execute: Callable[[str], object]) -> None:
    """Undo `install_by_statement`."""
    for table in GENERATIONS:
        execute(f"DROP TRIGGER {table}_growing ON {table}")
        execute(f"CREATE TRIGGER {table}_growing BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION ringi_audit_growing()")
        execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_growing")
    execute("DROP FUNCTION ringi_audit_growing_batch()")
    _replace_snapshot_trigger(execute, "")
    execute(ORIGIN_FUNCTION)


def _replace_snapshot_trigger(execute: Callable[[str], object], when: str) -> None:
    execute("DROP TRIGGER audit_event_snapshot ON audit_event")
    execute(
        f"CREATE TRIGGER audit_event_snapshot BEFORE INSERT ON audit_event FOR EACH STATEMENT {when} EXECUTE FUNCTION ringi_audit_snapshot()"
    )
    execute("ALTER TABLE audit_event ENABLE ALWAYS TRIGGER audit_event_snapshot")
