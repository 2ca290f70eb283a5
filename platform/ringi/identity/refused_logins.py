"""A credential that was refused leaves an audit event: someone showed it, so someone has it.

Nothing at all, or a text that was never a credential, leaves none. Each address has so many a minute; what goes beyond is refused like the
rest and is only counted, so that nobody fills the log by knocking.
"""

import re

from fastapi import Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction, Outcome
from ringi.db.session import platform_transaction
from ringi.identity import tokens
from ringi.identity.models import Token
from ringi.kit.actor import system_actor
from ringi.kit.errors import ShownToken, Unauthenticated
from ringi.observe import metrics
from ringi.web.rate import get_counter

PER_MINUTE = 60
# Of the platform, as tokens.py draws it; and the parameter that RFC 6750 warns of.
_TOKEN, _PARAMETER = re.compile(rb"hf_rgi[0-9A-Za-z]{49}"), re.compile(rb"(?:^|&)access_token=")
# The last one was good, and everybody's sessions run out.
_NEVER_A_CREDENTIAL = frozenset({"missing", "invalid", "step_up", "session_expired"})


class TokenInUrl(Unauthenticated):
    """A token in the request's address: addresses stand in logs, histories and referrers (RFC 6750, section 2.3)."""

    code, status = "token_in_url", 400

    def __init__(self) -> None:
        super().__init__(
            "A token stands in the address of this request, where logs and histories keep it; nothing was done.", reason="in_url"
        )
        self.next_step = "Revoke that token (ringi tokens revoke), and send the new one in the header Authorization."


def check_address(request: Request) -> None:
    """Raises TokenInUrl."""
    query: bytes = request.scope["query_string"]
    if _PARAMETER.search(query) or _TOKEN.search(query) or _TOKEN.search(request.scope["raw_path"]):
        raise TokenInUrl


def _named_in_address(request: Request, session: Session) -> ShownToken | None:
    found = _TOKEN.search(request.scope["raw_path"] + b"?" + request.scope["query_string"])
    if found is None:
        return None
    # unscoped: the platform tells the organisation whose token it is.
    row = session.execute(
        select(Token.id, Token.organization_id).where(Token.secret_hash == tokens.hashed(found[0].decode()))
    ).one_or_none()
    return ShownToken(*row) if row else None


def note(request: Request, session: Session | None, refusal: Unauthenticated) -> None:
    """Record the refusal in a transaction of its own; the request's gives its connection back first."""
    reason = refusal.details["reason"]
    if reason in _NEVER_A_CREDENTIAL:
        return
    if session is not None:
        session.rollback()
    metrics.REFUSED_LOGINS.labels(reason).inc()
    address = request.client.host if request.client else "unknown"
    if not get_counter().take(f"refused:{address}", PER_MINUTE).allowed:
        return
    # Of no organisation, or of the one whose token it was; the caller is nobody.
    with platform_transaction() as own:
        token = refusal.token or _named_in_address(request, own)
        audit.record(
            own, system_actor("authentication"), AuditAction.AUTHENTICATION_REFUSE, object_type=token.kind if token else "login",
            object_id=token.id if token else reason, organization_id=token.organization_id if token else None, outcome=Outcome.DENIED,
            details={"code": refusal.code, "reason": reason, "request": request.state.request_id},
        )  # fmt: skip
