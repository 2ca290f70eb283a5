"""What an event must be to be written, as one row-level security policy of its table; for migrations, after `ddl.py` (docs/decisions/0023).

The rules were three triggers and two checks before. PostgreSQL prepares the expressions of those anew, the checks in each statement and the
triggers in each transaction, which was most of what an event costs; a policy's expression is a part of the prepared statement. A rule that does not
hold calls the function that refuses, so that a writer gets the SQLSTATE and the reason as from a trigger. As any policy it does not bind a superuser.
"""

from collections.abc import Callable

from ringi.audit import ddl
from ringi.audit.ddl import LET_THROUGH, OTHER_ORIGIN_STATE, READ_ONLY_STATE
from ringi.audit.schemas import MAX_ENTRY_BYTES

# The code of the stop that is open, and the name of the log that grows; the first log has its name from its first checkpoint.
STOPPED = "SELECT code FROM audit_stop WHERE ended_at IS NULL ORDER BY id LIMIT 1"
ORIGIN = """SELECT coalesce(
    (SELECT origin FROM audit_origin ORDER BY generation DESC LIMIT 1),
    (SELECT split_part(convert_from(note, 'UTF8'), chr(10), 1) FROM audit_checkpoint ORDER BY generation DESC, size DESC LIMIT 1))"""
OLD_SNAPSHOT = (
    "an audit event is written READ COMMITTED: an older snapshot shows neither that its log has ended nor that the platform is read-only"
)
# VOLATILE, which it is by itself, so that no planner asks it beforehand. It finds what to tell by itself: every sub-select of the policy is made ready
# with each event, whether its case is reached or not.
REFUSE_FUNCTION = f"""
CREATE FUNCTION ringi_audit_refuse_event(rule text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    told text;
BEGIN
    IF rule = 'read_only' THEN
        told := coalesce(({STOPPED}), 'ended meanwhile');
        RAISE EXCEPTION USING ERRCODE = '{READ_ONLY_STATE}', MESSAGE = 'the platform is read-only: ' || told, DETAIL = told;
    ELSIF rule = 'origin' THEN
        told := coalesce(({ORIGIN}), 'unknown');
        RAISE EXCEPTION USING ERRCODE = '{OTHER_ORIGIN_STATE}', MESSAGE = 'the log of this database is ' || told, DETAIL = told;
    ELSIF rule = 'snapshot' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_transaction_state', MESSAGE = '{OLD_SNAPSHOT}';
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = 'the audit event breaks the rule ' || rule;
END
$$
"""  # of constants of this file
# Asked once a statement, however many events it writes. EXCLUSIVE locks of `audit_event` (succession/opening.py) end before a statement takes its
# snapshot, so a writer that waited for one sees what it changed.
ROW_RULES = {
    "snapshot": "current_setting('transaction_isolation') IN ('repeatable read', 'serializable')",
    "body_fits_an_entry": f"octet_length(body) NOT BETWEEN 1 AND {MAX_ENTRY_BYTES}",
    "leaf_hash_is_of_body": r"leaf_hash IS DISTINCT FROM sha256('\x00'::bytea || body)",
}
_RULES = ROW_RULES | {
    # Whether anything is stopped is asked before what it lets through: it hardly ever is.
    "read_only": f"({STOPPED}) IS NOT NULL AND outcome = 'ok' AND action !~ '{LET_THROUGH}'",
    # An event names its log in its bytes, so a process with another RINGI_AUDIT_ORIGIN than the database's writes nothing.
    "origin": f"position((SELECT convert_to('\"origin\":' || CAST(to_json(({ORIGIN})) AS text), 'UTF8')) IN body) = 0",
}
_CASES = " ".join(f"WHEN {broken} THEN ringi_audit_refuse_event('{rule}')" for rule, broken in _RULES.items())
POLICY = f"CREATE POLICY entry ON audit_event AS RESTRICTIVE FOR INSERT WITH CHECK (CASE {_CASES} ELSE true END)"
_CHECKS = {
    "ck_audit_event_leaf_hash_is_of_body": r"leaf_hash = sha256('\x00'::bytea || body)",
    "ck_audit_event_body_fits_an_entry": f"octet_length(body) BETWEEN 1 AND {MAX_ENTRY_BYTES}",
}
_TRIGGERS = {"read_only": "ROW", "origin": "ROW", "snapshot": f"STATEMENT {ddl.OWN_SNAPSHOT}"}


def install(execute: Callable[[str], object]) -> None:
    """After `ddl.install_by_statement`, and after `tenancy.protect`, which turned policies on: the same refusals for less."""
    execute(REFUSE_FUNCTION)
    execute(POLICY)
    for trigger in _TRIGGERS:
        execute(f"DROP TRIGGER audit_event_{trigger} ON audit_event")
        execute(f"DROP FUNCTION ringi_audit_{trigger}()")
    for check in _CHECKS:
        execute(f"ALTER TABLE audit_event DROP CONSTRAINT IF EXISTS {check}")


def remove(execute: Callable[[str], object]) -> None:
    """Undo `install`."""
    for check, rule in _CHECKS.items():
        execute(f"ALTER TABLE audit_event ADD CONSTRAINT {check} CHECK ({rule})")
    for function in (ddl.READ_ONLY_FUNCTION, ddl.ORIGIN_IN_ONE_QUESTION, ddl.SNAPSHOT_FUNCTION):
        execute(function)
    for trigger, each in _TRIGGERS.items():
        execute(
            f"CREATE TRIGGER audit_event_{trigger} BEFORE INSERT ON audit_event FOR EACH {each} EXECUTE FUNCTION ringi_audit_{trigger}()"
        )
        execute(f"ALTER TABLE audit_event ENABLE ALWAYS TRIGGER audit_event_{trigger}")
    execute("DROP POLICY entry ON audit_event")
    execute("DROP FUNCTION ringi_audit_refuse_event(text)")
