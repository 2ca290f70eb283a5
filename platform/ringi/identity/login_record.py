"""What the browser keeps of a login that it has begun: encrypted, so that it reads and changes none of it, and good for ten minutes.

It lies in a cookie of that browser alone, so an answer of the provider counts only where the login began (RFC 9700, 4.7); and nothing is
written anywhere for somebody who is nobody yet.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, ValidationError

from ringi.audit import personal
from ringi.web import sealing

LASTS_S = 600.0
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


def _key() -> str:
    return personal.derived("ringi/login-record/1").hex()
