"""A credential that was refused leaves an audit event: someone showed it, so someone has it.

Nothing at all, or a text that was never a credential, leaves none. Each address has so many a minute; what goes beyond is refused like the
rest and is only counted, so that nobody fills the log by knocking.
"""

from fastapi import Request
from sqlalchemy.orm import Session

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction, Outcome
from ringi.db.session import platform_transaction
from ringi.identity.models import Token
from ringi.kit.actor import system_actor
from ringi.kit.errors import Unauthenticated
from ringi.observe import metrics
from ringi.web.rate import get_counter

PER_MINUTE = 60
_NEVER_A_CREDENTIAL = frozenset({"missing", "invalid", "step_up"})


class TokenEnded(Unauthenticated):
    """A token of this platform that was revoked or has expired."""

    def __init__(self, message: str, *, reason: str, token: Token) -> None:
        super().__init__(message, reason=reason)
        self.token_id, self.organization_id = token.id, token.organization_id


def note(request: Request, session: Session, refusal: Unauthenticated) -> None:
    """Record the refusal in a transaction of its own; the request's gives its connection back first."""
    reason = refusal.details["reason"]
    if reason in _NEVER_A_CREDENTIAL:
        return
    session.rollback()
    metrics.REFUSED_LOGINS.labels(reason).inc()
    address = request.client.host if request.client else "unknown"
    if not get_counter().take(f"refused:{address}", PER_MINUTE).allowed:
        return
    ended = refusal if isinstance(refusal, TokenEnded) else None
    # Of no organisation, or of the one whose token it was; the caller is nobody.
    with platform_transaction() as own:
        audit.record(
            own, system_actor("authentication"), AuditAction.AUTHENTICATION_REFUSE, object_type="token" if ended else "login",
            object_id=ended.token_id if ended else reason, organization_id=ended.organization_id if ended else None, outcome=Outcome.DENIED,
            details={"code": refusal.code, "reason": reason, "request": request.state.request_id},
        )  # fmt: skip
