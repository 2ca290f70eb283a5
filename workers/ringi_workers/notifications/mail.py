"""One message to the mail server of the deployment. RINGI_SMTP_URL: smtp://, smtp+starttls:// or smtps://, with user:password@ or without."""

import smtplib
import ssl
import time
from contextlib import suppress
from email.message import EmailMessage
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
_OK = 250
MAX_RESPONSE = 500  # characters kept


class MailServer(NamedTuple):
    """Where and how; `security` is the URL's scheme."""

    security: str
    host: str
    port: int
    user: str | None
    password: str | None


class Refused(Exception):  # what happened, not an error of ours
    """The server answered, and not with 250. `status_code` is its reply code, 0 when it is unknown."""

    def __init__(self, status_code: int, response: str) -> None:
        super().__init__(response)
        self.status_code, self.response = status_code, response


class Unreachable(Exception):  # what happened, not an error of ours
    """No connection, no TLS, or no answer within the time."""


def server_of(url: str) -> MailServer:
    """The server of RINGI_SMTP_URL."""
    parts = urlsplit(url)
    user, password = (unquote(text) if text is not None else None for text in (parts.username, parts.password))
    return MailServer(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme], user, password)


def send(server: MailServer, message: EmailMessage, *, sender: str, to: str, timeout_s: float) -> int:
    """Hand the message over; returns the server's reply code, 250. Raises Refused and Unreachable. TLS is never skipped where it is asked for."""
    context = ssl.create_default_context()
    try:
        smtp = _connected(server, timeout_s, context)
        try:
            if server.security == "smtp+starttls":
                smtp.starttls(context=context)
            if server.user is not None:
                smtp.login(server.user, server.password or "")
            smtp.send_message(message, from_addr=sender, to_addrs=[to])
        finally:
            # The message is accepted, or it is not: how the server says good-bye changes nothing.
            with suppress(smtplib.SMTPException, OSError):
                smtp.quit()
    except smtplib.SMTPRecipientsRefused as error:
        code, text = next(iter(error.recipients.values()))
        raise Refused(code, _text(text)) from error
    except smtplib.SMTPResponseException as error:
        raise Refused(error.smtp_code, _text(error.smtp_error)) from error
    except smtplib.SMTPNotSupportedError as error:
        raise Unreachable(f"the mail server offers no STARTTLS or login: {error}"[:MAX_RESPONSE]) from error
    except (smtplib.SMTPException, OSError) as error:
        raise Unreachable(f"{type(error).__name__}: {error}"[:MAX_RESPONSE]) from error
    return _OK


class _Hurried(smtplib.SMTP):
    """smtplib's time-out is of each reply; this one is of the whole conversation, its greeting included."""

    def __init__(self, host: str, port: int, *, timeout: float, **more: Any) -> None:
        self._ends_at = time.monotonic() + timeout
        super().__init__(host, port, timeout=timeout, **more)

    def getreply(self) -> tuple[int, bytes]:
        """The next reply, within what is left of the time."""
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError("the mail server took too long")
        if self.sock is not None:
            self.sock.settimeout(left)
        return super().getreply()


class _HurriedTls(_Hurried, smtplib.SMTP_SSL):
    """The same with TLS from the first byte."""


def _connected(server: MailServer, timeout_s: float, context: ssl.SSLContext) -> smtplib.SMTP:
    if server.security == "smtps":
        return _HurriedTls(server.host, server.port, timeout=timeout_s, context=context)
    return _Hurried(server.host, server.port, timeout=timeout_s)


def _text(reply: bytes | str) -> str:
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
    return "".join(one if one.isprintable() or one == "\n" else "\ufffd" for one in text)[:MAX_RESPONSE]
