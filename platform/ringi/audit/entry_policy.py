"""What an event must be to be written, as one row-level security policy of its table; for migrations, after `ddl.py` (docs/decisions/0023).

The rules were three triggers and two checks before. PostgreSQL prepares the expressions of those anew, the checks in each statement and the
triggers in each transaction, which was most of what an event costs; a policy's expression is a part of the prepared statement. A rule that does not
hold calls the function that refuses, so that a writer gets the SQLSTATE and the reason as from a trigger. As any policy it does not bind a superuser.
"""

from collections.abc import Callable

from ringi.audit import ddl
from ringi.audit.ddl import LET_THROUGH, OTHER_ORIGIN_STATE, READ_ONLY_STATE
from ringi.audit.schemas import MAX_ENTRY_BYTES

# VOLATILE, which it is by itself, so that no planner asks it beforehand.
REFUSE_FUNCTION = """
CREATE FUNCTION ringi_audit_refuse_event(state text, message text, detail text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = state, MESSAGE = message, DETAIL = coalesce(detail, '');
END
$$
"""
# Sub-selects of their own are asked once a statement, however many events it writes. EXCLUSIVE locks of `audit_event` (succession/opening.py) end before a
# statement takes its snapshot, so a writer that waited for one sees what it changed.
_STOPPED = "(SELECT code FROM audit_stop WHERE ended_at IS NULL ORDER BY id LIMIT 1)"
_ORIGIN = """(SELECT coalesce(
    (SELECT origin FROM audit_origin ORDER BY generation DESC LIMIT 1),
    (SELECT split_part(convert_from(note, 'UTF8'), chr(10), 1) FROM audit_checkpoint ORDER BY generation DESC, size DESC LIMIT 1)))"""
_OLD_SNAPSHOT = (
    "an audit event is written READ COMMITTED: an older snapshot shows neither that its log has ended nor that the platform is read-only"
)
_RULES = {
    "current_setting('transaction_isolation') IN ('repeatable read', 'serializable')": f"'25000', '{_OLD_SNAPSHOT}', NULL",
    f"octet_length(body) NOT BETWEEN 1 AND {MAX_ENTRY_BYTES}": f"'23514', 'body_fits_an_entry: an entry has 1 to {MAX_ENTRY_BYTES} bytes', NULL",
    r"leaf_hash IS DISTINCT FROM sha256('\x00'::bytea || body)": "'23514', 'leaf_hash_is_of_body: another hash than that of the body', NULL",
    # Whether anything is stopped is asked before what it lets through: it hardly ever is.
    f"{_STOPPED} IS NOT NULL AND outcome = 'ok' AND action !~ '{LET_THROUGH}'": (
        f"'{READ_ONLY_STATE}', 'the platform is read-only: ' || {_STOPPED}, {_STOPPED}"
    ),
    # An event names its log in its bytes, so a process with another RINGI_AUDIT_ORIGIN than the database's writes nothing.
    f"position((SELECT convert_to('\"origin\":' || CAST(to_json({_ORIGIN}) AS text), 'UTF8')) IN body) = 0": (
        f"'{OTHER_ORIGIN_STATE}', 'the log of this database is ' || {_ORIGIN}, {_ORIGIN}"
    ),
}
_CASES = " ".join(f"WHEN {broken} THEN ringi_audit_refuse_event({refusal})" for broken, refusal in _RULES.items())
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
    execute("DROP FUNCTION ringi_audit_refuse_event(text, text, text)")
