"""The JSON documents of identity's rows whose digests stand in the audit log: whoever replays the log knows what each row must be."""

from typing import Any

from ringi.identity.models import Membership, Token


def _time(at: Any) -> str | None:
    return None if at is None else f"{at:%Y-%m-%dT%H:%M:%S.%fZ}"


def membership_record(membership: Membership) -> dict[str, Any]:
    """A role of a user, and whether it was ended; times are RFC 3339 in UTC with microseconds."""
    return {
        "id": str(membership.id), "organization": str(membership.organization_id), "user": str(membership.user_id),
        "project": str(membership.project_id) if membership.project_id else None, "role": str(membership.role),
        "granted_by": str(membership.granted_by), "expires_at": _time(membership.expires_at), "revoked": membership.revoked_at is not None,
    }  # fmt: skip


def token_record(token: Token) -> dict[str, Any]:
    """A token: whose it is, what it allows, and the hash of its secret, so that nobody puts a secret of their own in its place."""
    return {
        "id": str(token.id), "organization": str(token.organization_id), "user": str(token.user_id), "secret_hash": token.secret_hash,
        "scopes": token.scopes, "environment": token.environment, "networks": token.networks, "expires_at": _time(token.expires_at),
        "requests_per_minute": token.requests_per_minute, "revoked": token.revoked_at is not None,
    }  # fmt: skip
