"""An OpenID Connect provider of the tests, a process of its own: `python identity_provider.py PORT`.

It publishes its discovery document and its keys, logs people in (provider_logins.py), and signs what it is asked to sign, also what no honest
provider would. `POST /rotate` replaces its key; `POST /sign` takes {"header": {...}, "claims": {...}, "key": "published" or "own"};
`POST /person` says who sits in front of it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import httpx
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from support.hub_client import free_port
from support.provider_logins import AUDIENCE, CLI_CLIENT, PERSON, WEB_CLIENT, WEB_SECRET, Logins, Said
from support.waiting import until

__all__ = ["AUDIENCE", "CLI_CLIENT", "WEB_CLIENT", "WEB_SECRET", "IdentityProvider", "identity_provider"]
TESTS = Path(__file__).parents[1]
FORMS = {"/token", "/device", "/revoke"}


class _Provider(ThreadingHTTPServer):
    """Its state: the key of the day, one that it never publishes, and how often its keys were read."""

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Answers)
        self.issuer, self.published = f"http://127.0.0.1:{port}", ECKey.generate_key("P-256", {"kid": "first"})
        self.own, self.reads = ECKey.generate_key("P-256", {"kid": "first"}), 0
        self.logins = Logins(self.issuer, lambda name: self.published if name == "published" else self.own)


class _Answers(BaseHTTPRequestHandler):
    server: _Provider

    def do_GET(self) -> None:  # the library's name
        if self.path == "/.well-known/openid-configuration":
            self._json({"issuer": self.server.issuer, "jwks_uri": f"{self.server.issuer}/keys", **self.server.logins.metadata()})
        elif self.path == "/keys":
            self.server.reads += 1
            self._json(KeySet([self.server.published]).as_dict(private=False))
        elif self.path == "/reads":
            self._json({"reads": self.server.reads})
        elif self.path == "/logins":
            logins = self.server.logins
            self._json({"asked": logins.asked, "refreshed": logins.refreshed, "ended": len(logins.ended)})
        elif self.path.startswith("/authorize?"):
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", self.server.logins.authorize(dict(parse_qsl(urlsplit(self.path).query))))
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:  # the library's name
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path in FORMS:
            self._form(dict(parse_qsl(sent.decode())))
            return
        asked = json.loads(sent)
        if self.path == "/person":
            self.server.logins.person = PERSON | asked
            self._json({})
        elif self.path == "/rotate":
            self.server.published = ECKey.generate_key("P-256", {"kid": asked["kid"]})
            self._json({})
        else:
            key = self.server.published if asked["key"] == "published" else self.server.own
            header = {"alg": "ES256", "typ": "at+jwt", "kid": key.kid} | asked["header"]
            self._json({"token": jwt.encode(header, asked["claims"], key)})

    def _form(self, form: dict[str, str]) -> None:
        logins = self.server.logins
        try:
            match self.path:
                case "/token":
                    self._json(logins.token(form, self.headers.get("Authorization")))
                case "/device":
                    self._json(logins.device(form))
                case _:
                    self._json(logins.revoke(form))
        except Said as error:
            self._json({"error": str(error), "error_description": "理由は error のとおり"}, HTTPStatus.BAD_REQUEST)

    def _json(self, document: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:  # the library writes every request to standard error
        return


@dataclass(frozen=True)
class IdentityProvider:
    """A running provider as a test asks it."""

    issuer: str
    pid: int

    def stand_still(self) -> None:
        """Answer nobody until `go_on`."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer again, also whoever asked meanwhile."""
        os.kill(self.pid, signal.SIGCONT)

    def token(self, subject: str, *, header: dict[str, Any] | None = None, key: str = "published", **claims: Any) -> str:
        """An access token of a login a minute ago; a claim of None is left out."""
        now = int(time.time())
        said = {
            "iss": self.issuer, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 300, "auth_time": now - 60, "jti": str(uuid4()),
            "acr": "urn:example:two-factors", "amr": ["pwd", "otp"],
        } | claims  # fmt: skip
        kept = {name: value for name, value in said.items() if value is not None}
        asked = {"header": header or {}, "claims": kept, "key": key}
        return str(httpx.post(f"{self.issuer}/sign", json=asked).raise_for_status().json()["token"])

    def sits(self, subject: str, **person: Any) -> None:
        """From now on `subject` sits in front of it, and it does wrong what is said."""
        httpx.post(f"{self.issuer}/person", json={"subject": subject, **person}).raise_for_status()

    def logins(self) -> dict[str, Any]:
        """What was asked last, how often it renewed, and how many logins were ended."""
        return dict(httpx.get(f"{self.issuer}/logins").json())

    def rotate(self, kid: str) -> None:
        """Publish another key in the place of the present one."""
        httpx.post(f"{self.issuer}/rotate", json={"kid": kid}).raise_for_status()

    def reads(self) -> int:
        """How often its keys were read."""
        return int(httpx.get(f"{self.issuer}/reads").json()["reads"])


@contextmanager
def identity_provider() -> Iterator[IdentityProvider]:
    """Start one, and end it."""
    port = free_port()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))}
    process = subprocess.Popen([sys.executable, "-m", "support.identity_provider", str(port)], env=environment)
    provider = IdentityProvider(f"http://127.0.0.1:{port}", process.pid)

    def ready() -> bool:
        assert process.poll() is None
        try:
            return httpx.get(f"{provider.issuer}/.well-known/openid-configuration").is_success
        except httpx.TransportError:
            return False

    try:
        until(ready)
        yield provider
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    _Provider(int(sys.argv[1])).serve_forever()
