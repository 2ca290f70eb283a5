"""The one row that every event is compared with: the log that grows, and whether anything is stopped; for migrations, after `entry_policy.py`.

The policy of `audit_event` asked three tables for it, and each question of a policy is made ready with every event: 40 of an event's 110 microseconds of
the server's time, 23 with one row of one table (docs/decisions/0023). Nobody writes the row but the triggers of those tables.
"""

from collections.abc import Callable

from ringi.audit.ddl import APPLICATION_ROLE as APPLICATION
from ringi.audit.ddl import LET_THROUGH, OTHER_ORIGIN_STATE, PLATFORM_ROLE, READ_ONLY_STATE
from ringi.audit.entry_policy import OLD_SNAPSHOT, ORIGIN, POLICY, REFUSE_FUNCTION, ROW_RULES, STOPPED

SOURCES = ("audit_stop", "audit_origin", "audit_checkpoint")
# How the name of its log stands in an entry's bytes.
_GROWING = f"(SELECT convert_to('\"origin\":' || CAST(to_json(({ORIGIN})) AS text), 'UTF8'))"
# The row is locked in a statement of its own, so that the next one sees what the transaction that held it before has committed.
GUARD_FUNCTION = f"""
CREATE FUNCTION ringi_audit_guard() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM 1 FROM audit_guard FOR UPDATE;
    UPDATE audit_guard SET stopped = told.stopped, growing = told.growing
        FROM (SELECT ({STOPPED}) IS NOT NULL AS stopped, {_GROWING} AS growing) told
        WHERE (audit_guard.stopped, audit_guard.growing) IS DISTINCT FROM (told.stopped, told.growing);
    RETURN NULL;
END
$$
"""  # noqa: S608  # of constants
FIRST_ROW = f"INSERT INTO audit_guard (id, stopped, growing) SELECT 1, ({STOPPED}) IS NOT NULL, {_GROWING} ON CONFLICT DO NOTHING"
# VOLATILE, which it is by itself, so that no planner asks it beforehand. A stop that ended meanwhile leaves the origin as the reason.
REFUSE_BY_GUARD_FUNCTION = f"""
CREATE OR REPLACE FUNCTION ringi_audit_refuse_event(rule text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    told text;
BEGIN
    IF rule = 'snapshot' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_transaction_state', MESSAGE = '{OLD_SNAPSHOT}';
    ELSIF rule NOT IN ('read_only', 'origin') THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = 'the audit event breaks the rule ' || rule;
    ELSIF NOT EXISTS (SELECT FROM audit_guard) THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = 'the row that audit events are compared with is gone from audit_guard';
    END IF;
    told := ({STOPPED});
    IF rule = 'read_only' AND told IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '{READ_ONLY_STATE}', MESSAGE = 'the platform is read-only: ' || told, DETAIL = told;
    END IF;
    told := coalesce(({ORIGIN}), 'unknown');
    RAISE EXCEPTION USING ERRCODE = '{OTHER_ORIGIN_STATE}', MESSAGE = 'the log of this database is ' || told, DETAIL = told;
END
$$
"""  # noqa: S608  # of constants
_CHANGES = f"outcome = 'ok' AND action !~ '{LET_THROUGH}'"
# Without the row nothing is written; without a log yet (`growing` is null) everything is.
_GUARDED = f"(SELECT stopped AND {_CHANGES} OR coalesce(position(growing IN body) = 0, false) FROM audit_guard) IS NOT FALSE"  # noqa: S608  # of constants
_CASES = " ".join(f"WHEN {broken} THEN ringi_audit_refuse_event('{rule}')" for rule, broken in ROW_RULES.items())
_POLICY = (
    f"CREATE POLICY entry ON audit_event AS RESTRICTIVE FOR INSERT WITH CHECK (CASE {_CASES} WHEN {_GUARDED}"
    f" THEN ringi_audit_refuse_event(CASE WHEN {_CHANGES} THEN 'read_only' ELSE 'origin' END) ELSE true END)"
)


def install(execute: Callable[[str], object]) -> None:
    """After the table exists, as its owner: the row, who keeps it, and the policy that looks at it."""
    execute(f"REVOKE ALL ON audit_guard FROM PUBLIC, {APPLICATION}, {PLATFORM_ROLE}")
    execute(f"GRANT SELECT ON audit_guard TO {APPLICATION}, {PLATFORM_ROLE}")
    execute(GUARD_FUNCTION)
    for table in SOURCES:
        execute(
            f"CREATE TRIGGER {table}_guard AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} FOR EACH STATEMENT"
            " EXECUTE FUNCTION ringi_audit_guard()"
        )
        execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_guard")
    # Behind the triggers, whose locks let nobody write meanwhile: a stop that was on its way is seen.
    execute(FIRST_ROW)
    for event, each in (("DELETE", "row"), ("TRUNCATE", "statement")):
        name = f"audit_guard_no_{event.lower()}"
        execute(f"CREATE TRIGGER {name} BEFORE {event} ON audit_guard FOR EACH {each} EXECUTE FUNCTION ringi_audit_refuse()")
        execute(f"ALTER TABLE audit_guard ENABLE ALWAYS TRIGGER {name}")
    execute("DROP POLICY entry ON audit_event")
    execute(REFUSE_BY_GUARD_FUNCTION)
    execute(_POLICY)


def remove(execute: Callable[[str], object]) -> None:
    """Undo `install`, so that a downgrade can drop the table."""
    execute("DROP POLICY entry ON audit_event")
    execute(REFUSE_FUNCTION.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    execute(POLICY)
    for table in SOURCES:
        execute(f"DROP TRIGGER {table}_guard ON {table}")
    for event in ("delete", "truncate"):
        execute(f"DROP TRIGGER audit_guard_no_{event} ON audit_guard")
    execute("DROP FUNCTION ringi_audit_guard()")
