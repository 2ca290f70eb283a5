"""What the job log needs beyond its model: every change of a job writes its own entry, and every entry gets its place at the commit.

Called by the migration: `install(op.execute)`, `remove(op.execute)`. Two triggers, because both must hold for whoever changes a job:

`job_changed` writes an entry when a job is created, changes its state, is asked to stop, or reports progress. Of progress only the
newest entry of a job stays: it is a sample, not a history.

`job_log_place` is a deferred constraint trigger, so it runs inside the commit. It takes one lock, then the next place. The lock is held
until the commit is visible, so places become visible in their own order and a reader who has seen place n never misses one below it; a
plain sequence would not give that. All commits that write the log queue here for a moment, as NOTIFY makes them do anyway (decision 0007).
"""

from collections.abc import Callable

CHANNEL = "ringi_job_log"
POSITIONS = "job_log_position"

CHANGED_FUNCTION = """
CREATE OR REPLACE FUNCTION ringi_job_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' OR NEW.state <> OLD.state OR NEW.attempt <> OLD.attempt
        OR (NEW.cancel_requested_at IS NOT NULL AND OLD.cancel_requested_at IS NULL)
    THEN
        INSERT INTO job_log (job_id, organization_id, project_id, attempt, kind, data)
        VALUES (NEW.id, NEW.organization_id, NEW.project_id, NEW.attempt, 'state', jsonb_build_object(
            'kind', NEW.kind, 'subject', NEW.subject, 'state', NEW.state, 'attempt', NEW.attempt, 'max_attempts', NEW.max_attempts,
            'cancel_requested', NEW.cancel_requested_at IS NOT NULL, 'lease_owner', NEW.lease_owner, 'produced', NEW.produced,
            'error', NEW.error));
    ELSIF NEW.progress IS NOT NULL AND NEW.progress IS DISTINCT FROM OLD.progress THEN
        DELETE FROM job_log WHERE job_id = NEW.id AND kind = 'progress';
        INSERT INTO job_log (job_id, organization_id, project_id, attempt, kind, data)
        VALUES (NEW.id, NEW.organization_id, NEW.project_id, NEW.attempt, 'progress', NEW.progress);
    END IF;
    RETURN NULL;
END
$$
"""

# The lock's number is any that nothing else in this database takes.
PLACE_FUNCTION = """
CREATE OR REPLACE FUNCTION ringi_job_log_place() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7034182255);
    UPDATE job_log SET position = nextval('job_log_position') WHERE id = NEW.id;
    PERFORM pg_notify('ringi_job_log', '');
    RETURN NULL;
END
$$
"""


def install(execute: Callable[[str], object], *, role: str) -> None:
    """Run the statements one by one as the tables' owner. `role` is the application's."""
    execute(f"CREATE SEQUENCE {POSITIONS} AS bigint")
    execute(CHANGED_FUNCTION)
    execute(PLACE_FUNCTION)
    execute("CREATE TRIGGER job_changed AFTER INSERT OR UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION ringi_job_changed()")
    execute(
        "CREATE CONSTRAINT TRIGGER job_log_place AFTER INSERT ON job_log DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION ringi_job_log_place()"
    )
    execute(f"REVOKE ALL ON job_log FROM PUBLIC, {role}")
    # Places are given once and lines are never rewritten: only the place may be filled in.
    execute(f"GRANT SELECT, INSERT, DELETE, UPDATE (position) ON job_log TO {role}")
    execute(f"GRANT USAGE, SELECT ON SEQUENCE {POSITIONS}, job_log_id_seq TO {role}")


def remove(execute: Callable[[str], object]) -> None:
    """Undo `install`; the table itself is the migration's."""
    execute("DROP TRIGGER IF EXISTS job_changed ON jobs")
    execute("DROP TRIGGER IF EXISTS job_log_place ON job_log")
    execute("DROP FUNCTION IF EXISTS ringi_job_changed()")
    execute("DROP FUNCTION IF EXISTS ringi_job_log_place()")
    execute(f"DROP SEQUENCE IF EXISTS {POSITIONS}")
