"""The one way past the rights that keep votes, releases and events as they were written: a function that blanks one erased person's text.

It runs as the owner of the tables. The application may call it and gains nothing else by that: it blanks fixed columns, of a person of the
caller's own organisation, who is marked as erased and disabled for ever. Tables with a `row_version` count the change by their triggers.
"""

from collections.abc import Callable

from ringi.db.tenancy import APPLICATION_ROLE

ERASE_FUNCTION = """
CREATE FUNCTION ringi_erase_person(person uuid, pseudonym text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    organization uuid;
    old_name text;
    told uuid[];
    removed integer;
BEGIN
    SELECT organization_id, name INTO organization, old_name FROM users
        WHERE id = person AND erased_at IS NOT NULL AND disabled_at IS NOT NULL AND organization_id = ringi_tenant() FOR UPDATE;
    IF organization IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'only an erased person of the own organisation has text to blank';
    END IF;

    -- What the person's reasons were told with: releases by their id, moves of a version by who made them, receivers by the name.
    SELECT array_agg(id) INTO told FROM (
        SELECT e.id FROM events e JOIN releases r ON r.id::text = e.data->>'release_id'
            WHERE e.organization_id = organization AND r.released_by = person
        UNION
        SELECT e.id FROM events e JOIN audit_event a ON a.object_id = e.data->>'version_id' AND a.action || 'd' = e.type
            WHERE e.organization_id = organization AND a.actor_id = person::text AND a.object_type = 'adapter_version' AND a.outcome = 'ok'
        UNION
        SELECT e.id FROM events e
            WHERE e.organization_id = organization AND e.type = 'subscription.disabled' AND e.data->>'reason' = 'by ' || old_name) AS found;
    -- A receiver may have answered with what it was sent.
    UPDATE delivery_attempts SET response = NULL WHERE response IS NOT NULL AND delivery_id IN (
        SELECT id FROM deliveries WHERE event_id = ANY (told));
    UPDATE events SET data = data || '{"reason": ""}'::jsonb WHERE id = ANY (told);

    UPDATE approval_votes SET reason = '', salt = ''::bytea WHERE voter_id = person;
    UPDATE approval_requests SET note = '' WHERE requester_id = person AND note <> '';
    UPDATE releases SET reason = '' WHERE released_by = person;
    UPDATE adapter_versions v SET state_reason = ''
        WHERE v.state_reason <> '' AND v.id::text IN (
            SELECT object_id FROM audit_event WHERE actor_id = person::text AND object_type = 'adapter_version')
        AND person::text = (
            SELECT a.actor_id FROM audit_event a
            WHERE a.object_type = 'adapter_version' AND a.object_id = v.id::text AND a.outcome = 'ok' AND a.action IN (
                'adapter.version.deprecate', 'adapter.version.retire', 'adapter.version.revoke')
            ORDER BY a.id DESC LIMIT 1);
    UPDATE workers w SET reason = ''
        WHERE w.reason <> '' AND person::text = (
            SELECT a.actor_id FROM audit_event a WHERE a.object_type = 'worker' AND a.object_id = w.id::text AND a.outcome = 'ok'
            ORDER BY a.id DESC LIMIT 1);
    UPDATE subscriptions SET disabled_reason = '' WHERE disabled_reason = 'by ' || old_name
        AND project_id IN (SELECT id FROM projects WHERE organization_id = organization);
    UPDATE tokens SET name = '' WHERE user_id = person;
    DELETE FROM logins WHERE user_id = person;
    -- With the text goes its salt: what is left in the log is an HMAC under a key that nobody has.
    DELETE FROM audit_payload p USING audit_event a WHERE a.id = p.event_id
        AND (p.person_id = person OR (p.person_id IS NULL AND a.actor_id = person::text));
    GET DIAGNOSTICS removed = ROW_COUNT;
    UPDATE users SET name = pseudonym, display_name = '', issuer = NULL, subject = NULL WHERE id = person;
    RETURN removed;
END
$$
"""


def install(execute: Callable[[str], object]) -> None:
    """Run as the owner of the tables."""
    execute(ERASE_FUNCTION)
    execute("REVOKE ALL ON FUNCTION ringi_erase_person(uuid, text) FROM PUBLIC")
    execute(f"GRANT EXECUTE ON FUNCTION ringi_erase_person(uuid, text) TO {APPLICATION_ROLE}")


def remove(execute: Callable[[str], object]) -> None:
    """Undo `install`."""
    execute("DROP FUNCTION ringi_erase_person(uuid, text)")
