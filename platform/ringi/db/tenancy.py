"""Row-level security of every table that holds rows of organisations: the statements, for migrations (docs/decisions/0011).

Who asks              sees and writes
`ringi_app`           the rows of the organisation whose caller's token the session has shown (callers.py); none without
`ringi_platform`      everything: the relay, the sequencer, the notifier, the watcher, the workers, and the few questions of the API that are of all
the owner             everything, by a policy and not by being the owner: migrations

A superuser, and nobody else, passes by all of it.
"""

from collections.abc import Callable

APPLICATION_ROLE, PLATFORM_ROLE = "ringi_app", "ringi_platform"

# STABLE and asked for in a sub-select, so that a statement asks once, however many rows it looks at. It runs as the owner, whose policy lets it
# see the one row; `search_path` is pinned as PostgreSQL's manual says for every SECURITY DEFINER function.
TENANT_FUNCTION = """
CREATE FUNCTION ringi_tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT organization_id FROM public.tokens WHERE secret_hash = current_setting('ringi.caller', true)
$$
"""
# The same with the access tokens of an identity provider that were believed (identity/logins.py).
TENANT_FUNCTION_WITH_LOGINS = """
CREATE OR REPLACE FUNCTION ringi_tenant() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT organization_id FROM public.tokens WHERE secret_hash = current_setting('ringi.caller', true)
    UNION ALL
    SELECT organization_id FROM public.logins WHERE proof = current_setting('ringi.caller', true)
    LIMIT 1
$$
"""
# The same with the sessions of browsers (identity/sessions.py).
TENANT_FUNCTION_WITH_SESSIONS = """
CREATE OR REPLACE FUNCTION ringi_tenant() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT organization_id FROM public.tokens WHERE secret_hash = current_setting('ringi.caller', true)
    UNION ALL
    SELECT organization_id FROM public.logins WHERE proof = current_setting('ringi.caller', true)
    UNION ALL
    SELECT organization_id FROM public.browser_sessions WHERE secret_hash = current_setting('ringi.caller', true)
    LIMIT 1
$$
"""
OF_ORGANIZATION = "organization_id = (SELECT ringi_tenant())"
# The projects that the sub-select finds are those of the caller's organisation: it runs under the policy of its own table.
OF_PROJECT = "project_id = ANY (ARRAY(SELECT id FROM projects))"


def install(execute: Callable[[str], object]) -> None:
    """The function that finds the organisation; the roles must exist."""
    execute(TENANT_FUNCTION)
    execute("REVOKE ALL ON FUNCTION ringi_tenant() FROM PUBLIC")
    execute(f"GRANT EXECUTE ON FUNCTION ringi_tenant() TO {APPLICATION_ROLE}")


def remove(execute: Callable[[str], object]) -> None:
    """Undo `install`, when no policy asks it any more."""
    execute("DROP FUNCTION ringi_tenant()")


def protect(execute: Callable[[str], object], table: str, rule: str) -> None:
    """Let the application see and write only rows for which `rule` holds; run as the table's owner."""
    execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    execute(f"CREATE POLICY tenant ON {table} TO {APPLICATION_ROLE} USING ({rule})")
    execute(f"CREATE POLICY platform ON {table} TO {PLATFORM_ROLE} USING (true)")
    execute(f"CREATE POLICY owner ON {table} TO CURRENT_USER USING (true)")


def release(execute: Callable[[str], object], table: str) -> None:
    """Undo `protect`."""
    for policy in ("tenant", "platform", "owner"):
        execute(f"DROP POLICY {policy} ON {table}")
    execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
