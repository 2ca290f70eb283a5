"""A session of a browser that has ended stays so: the application may say that one is over, and not that it is open again.

Revision: 0025
Revises: 0024
"""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_FUNCTION = """
CREATE FUNCTION ringi_session_stays_over() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'restrict_violation', MESSAGE = 'a session that has ended stays ended, and ended when it did';
END
$$
"""
_TRIGGER = """
CREATE TRIGGER browser_sessions_stay_over BEFORE UPDATE ON browser_sessions FOR EACH ROW
WHEN (OLD.ended_at IS NOT NULL AND NEW.ended_at IS DISTINCT FROM OLD.ended_at) EXECUTE FUNCTION ringi_session_stays_over()
"""


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(_FUNCTION)
    op.execute(_TRIGGER)


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TRIGGER browser_sessions_stay_over ON browser_sessions")
    op.execute("DROP FUNCTION ringi_session_stays_over()")
