"""Logins at the identity provider of the tests: authorization codes with PKCE, refresh tokens that rotate, the device grant, revocation.

It is strict where an honest provider is: a code is good once, for its client, its redirect address and its verifier; a refresh token is good once,
and one that comes twice ends its whole login (RFC 9700, 4.14.2). `person` is who sits in front of it, and what it does wrong when told to.
"""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from joserfc import jwt

CLI_CLIENT, WEB_CLIENT, WEB_SECRET = "ringi-cli", "ringi-web", "secret-of-the-web-client"
AUDIENCE = "https://ringi.example.test/api"
PERSON: dict[str, Any] = {
    "subject": "nobody", "auth_time": 60, "acr": "urn:example:two-factors", "lasts_s": 300,
    # What it does wrong, or is told to say.
    "deny": False, "iss": None, "code": None, "stubborn": False, "id_claims": {}, "id_header": {}, "id_key": "published", "device": [], "device_lasts_s": 60,
}  # fmt: skip


class Said(Exception):
    """An error of RFC 6749, 5.2."""


@dataclass
class Logins:
    """The provider's memory. `key_of` gives a key by name, as the process signs with it."""

    issuer: str
    key_of: Callable[[str], Any]
    person: dict[str, Any] = field(default_factory=lambda: dict(PERSON))
    codes: dict[str, dict[str, Any]] = field(default_factory=dict)
    devices: dict[str, dict[str, Any]] = field(default_factory=dict)
    # By refresh token: whose login it belongs to. A used one stays, marked.
    refresh: dict[str, dict[str, Any]] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    asked: dict[str, str] = field(default_factory=dict)
    refreshed: int = 0

    def metadata(self) -> dict[str, Any]:
        return {
            "authorization_endpoint": f"{self.issuer}/authorize", "token_endpoint": f"{self.issuer}/token",
            "device_authorization_endpoint": f"{self.issuer}/device", "revocation_endpoint": f"{self.issuer}/revoke",
            "end_session_endpoint": f"{self.issuer}/logout", "authorization_response_iss_parameter_supported": True,
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "none"],
        }  # fmt: skip

    def authorize(self, asked: dict[str, str]) -> str:
        """Where the browser is sent; the person has agreed already."""
        self.asked, person = asked, self.person
        assert asked["response_type"] == "code"
        assert asked["client_id"] in {CLI_CLIENT, WEB_CLIENT}
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        assert asked["redirect_uri"].startswith("http://127.0.0.1:")
        said = {"state": asked["state"], "iss": person["iss"] or self.issuer}
        if person["iss"] == "nobody":
            del said["iss"]
        if person["deny"]:
            return asked["redirect_uri"] + "?" + urlencode({"error": "access_denied", "error_description": "the person said 否"} | said)
        anew = asked.get("prompt") == "login" or asked.get("max_age") == "0"
        code = person["code"] or secrets.token_urlsafe(16)
        self.codes[code] = {**asked, "person": dict(person), "auth_time": self._auth_time(anew)}
        return asked["redirect_uri"] + "?" + urlencode({"code": code} | said)

    def _auth_time(self, anew: bool) -> int:
        return int(time.time()) - (0 if anew and not self.person["stubborn"] else self.person["auth_time"])

    def token(self, form: dict[str, str], authorization: str | None) -> dict[str, Any]:
        client = self._client(form, authorization)
        match form.get("grant_type"):
            case "authorization_code":
                return self._by_code(form, client)
            case "refresh_token":
                return self._by_refresh(form, client)
            case "urn:ietf:params:oauth:grant-type:device_code":
                return self._by_device(form)
        raise Said("unsupported_grant_type")

    def _client(self, form: dict[str, str], authorization: str | None) -> str:
        if authorization is None and form.get("client_id") == CLI_CLIENT:
            return CLI_CLIENT
        basic = "Basic " + base64.b64encode(f"{WEB_CLIENT}:{WEB_SECRET}".encode()).decode()
        if authorization == basic:
            return WEB_CLIENT
        raise Said("invalid_client")

    def _by_code(self, form: dict[str, str], client: str) -> dict[str, Any]:
        known = self.codes.pop(form["code"], None)
        if known is None or known["client_id"] != client or known["redirect_uri"] != form.get("redirect_uri"):
            raise Said("invalid_grant")
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != known["code_challenge"]:
            raise Said("invalid_grant")
        return self._tokens(client, known["person"], known["auth_time"], nonce=known.get("nonce"), login=uuid4().hex)

    def _by_refresh(self, form: dict[str, str], client: str) -> dict[str, Any]:
        known = self.refresh.get(form["refresh_token"])
        if known is None or known["client"] != client or known["login"] in self.ended:
            raise Said("invalid_grant")
        if known["used"]:
            self.ended.append(known["login"])
            raise Said("invalid_grant")
        known["used"] = True
        self.refreshed += 1
        return self._tokens(client, known["person"] | {"lasts_s": self.person["lasts_s"]}, known["auth_time"], login=known["login"])

    def device(self, form: dict[str, str]) -> dict[str, Any]:
        assert form["client_id"] == CLI_CLIENT
        code = secrets.token_urlsafe(16)
        self.asked, self.devices[code] = form, {"answers": list(self.person["device"])}
        return {
            "device_code": code, "user_code": "WDJB-MJHT", "verification_uri": f"{self.issuer}/enter",
            "expires_in": self.person["device_lasts_s"], "interval": 0.05,
            "verification_uri_complete": f"{self.issuer}/enter?user_code=WDJB-MJHT",
        }  # fmt: skip

    def _by_device(self, form: dict[str, str]) -> dict[str, Any]:
        answers = self.devices[form["device_code"]]["answers"]
        if answers:
            raise Said(answers.pop(0))
        del self.devices[form["device_code"]]
        return self._tokens(CLI_CLIENT, self.person, self._auth_time(anew=True), login=uuid4().hex)

    def revoke(self, form: dict[str, str]) -> dict[str, Any]:
        known = self.refresh.get(form["token"])
        if known is not None:
            self.ended.append(known["login"])
        return {}

    def _tokens(self, client: str, person: dict[str, Any], auth_time: int, *, login: str, nonce: str | None = None) -> dict[str, Any]:
        now, refresh = int(time.time()), secrets.token_urlsafe(24)
        of_login = {
            "iss": self.issuer,
            "sub": person["subject"],
            "iat": now,
            "auth_time": auth_time,
            "acr": person["acr"],
            "amr": ["pwd", "otp"],
        }
        access = of_login | {"aud": AUDIENCE, "exp": now + person["lasts_s"], "jti": uuid4().hex}
        identity = of_login | {"aud": client, "exp": now + 300, "nonce": nonce} | person["id_claims"]
        self.refresh[refresh] = {"client": client, "login": login, "person": person, "auth_time": auth_time, "used": False}
        return {
            "access_token": self._signed(access, {"typ": "at+jwt"}), "token_type": "Bearer", "expires_in": person["lasts_s"],
            "id_token": self._signed(identity, {"typ": "JWT"} | person["id_header"], person["id_key"]), "refresh_token": refresh,
        }  # fmt: skip

    def _signed(self, claims: dict[str, Any], header: dict[str, Any], key_name: str = "published") -> str:
        kept = {name: value for name, value in claims.items() if value is not None}
        if header.get("alg") == "none":
            parts = (json.dumps(one).encode() for one in (header, kept))
            return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."
        key = self.key_of(key_name)
        return jwt.encode({"alg": "ES256", "kid": key.kid} | header, kept, key)
