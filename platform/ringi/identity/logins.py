"""Access tokens that were believed once, by their hash, until they end.

PostgreSQL shows a request the rows of the organisation whose caller's proof it was given (db/callers.py). The proof of a login is the hash
of its access token; that it belongs to a user, and so to an organisation, is said here, by the platform's own role: the application
cannot say it.
"""

from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ringi.db.session import platform_transaction
from ringi.identity.models import LoginProof, User

# A token may be refused for being over for this long after its end with the right reason; then it is forgotten.
KEPT_AFTER_ITS_END_S = 3600.0


def remember(proof: str, *, issuer: str, subject: str, expires_at: datetime) -> bool:
    """Note whose login this is; False when nobody here has that subject."""
    with platform_transaction() as session:
        # unscoped: there is no caller yet; the provider's signature over the subject is the right to the row of that subject.
        user = session.execute(select(User.id, User.organization_id).where(User.issuer == issuer, User.subject == subject)).one_or_none()
        if user is None:
            return False
        row = {"proof": proof, "user_id": user.id, "organization_id": user.organization_id, "expires_at": expires_at}
        session.execute(insert(LoginProof).values(row).on_conflict_do_nothing())
    return True


def purge(session: Session, *, batch: int = 1000) -> int:
    """Forget what is over, so many at once; returns how many."""
    over = LoginProof.expires_at < func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, KEPT_AFTER_ITS_END_S)
    # unscoped: housekeeping of all organisations.
    some = select(LoginProof.proof).where(over).order_by(LoginProof.expires_at).limit(batch)
    return len(session.scalars(delete(LoginProof).where(LoginProof.proof.in_(some)).returning(LoginProof.proof)).all())
