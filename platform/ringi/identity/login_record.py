"""What the browser keeps of a login that it has begun: encrypted, so that it reads and changes none of it, and good for ten minutes.

It lies in a cookie of that browser alone, so an answer of the provider counts only where the login began (RFC 9700, 4.7); and nothing is
written anywhere for somebody who is nobody yet.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from datetime import datetime, timedelta
from hashlib import sha256

from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError

from ringi.audit import personal
from ringi.web import cookies, sealing

LASTS_S = 600.0
# Logins that one browser may have begun, in tabs of its own.
MOST = 3
_ABOUT = "ringi login record 1"


class LoginRecord(BaseModel):
    """One login that was begun, and where it leads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: str
    nonce: str
    verifier: str
    return_to: str
    # Whether the provider was asked to prove the person anew.
    fresh: bool
    begun_at: datetime

    def sealed(self) -> str:
        """As the cookie holds it."""
        return urlsafe_b64encode(sealing.seal(self.model_dump_json().encode(), bearer=_key(), about=_ABOUT)).decode()


def opened(cookie: str | None, now: datetime) -> LoginRecord | None:
    """The login that this browser began less than ten minutes ago; None where there is none."""
    try:
        record = LoginRecord.model_validate_json(sealing.unseal(urlsafe_b64decode(cookie or ""), bearer=_key(), about=_ABOUT))
    except (sealing.WrongBearer, ValidationError, NotBase64, ValueError):
        return None
    return record if now - record.begun_at < timedelta(seconds=LASTS_S) else None


def name_of(state: str) -> str:
    """The cookie of the login with this state: each tab has a login of its own."""
    return f"{cookies.LOGIN}_{sha256(state.encode()).hexdigest()[:16]}"


def superfluous(request: Request, now: datetime) -> list[str]:
    """The cookies to take back before another login begins: those that are over, and the oldest beyond MOST."""
    records = {name: opened(cookies.read(request, name), now) for name in cookies.names(request, cookies.LOGIN + "_")}
    kept = sorted((record.begun_at, name) for name, record in records.items() if record is not None)[-(MOST - 1) :]
    return sorted(set(records) - {name for _, name in kept})


def _key() -> str:
    return personal.derived("ringi/login-record/1").hex()
