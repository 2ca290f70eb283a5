"""The company's identity provider: its discovery document and its published keys (OpenID Connect Discovery 1.0, RFC 7517).

Only the issuer that the operator configured is ever asked; no header of a token (`jku`, `x5u`, `jwk`) names a place or a key (RFC 8725
3.10). Keys are kept for five minutes; a key that is not among them is looked for anew at most twice a minute, so that tokens with invented
key names cost the provider nothing. While the provider does not answer, the keys that it published last go on to count for an hour.
"""

import logging
import threading
import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import Key, KeySet

from ringi.kit.errors import RingiError
from ringi.oidc import discovery
from ringi.oidc.discovery import Endpoints
from ringi.settings import get_settings

KEPT_S, KEPT_ALONE_S, LOOKED_FOR_EVERY_S = 300.0, 3600.0, 30.0
log = logging.getLogger("ringi.identity")


class IdentityProviderAway(RingiError):
    """The keys of the identity provider are not to be had, so no login can be checked."""

    code, status, retryable = "identity_provider_away", 503, True
    retry_after_s = 5

    def __init__(self, what: str) -> None:
        super().__init__(
            f"The identity provider's keys are not to be had: {what}.",
            next_step="Try again in a moment; if it stays, check RINGI_OIDC_ISSUER and the provider.",
        )


@dataclass
class Provider:
    """One issuer as this process knows it."""

    issuer: str
    audience: str
    # Ours at this provider: an ID token has one of them as its audience.
    client_ids: frozenset[str] = frozenset()
    looked_for_every_s: float = LOOKED_FOR_EVERY_S
    _keys: dict[str, Key] = field(default_factory=dict)
    # Its discovery document, read together with the keys.
    _said: dict[str, Any] | None = None
    # Monotonic seconds; None before the first time.
    _read_at: float | None = None
    _asked_at: float | None = None
    _one_asks: threading.Lock = field(default_factory=threading.Lock)

    def key(self, kid: str) -> Key | None:
        """The published key of that name; None when the provider has none.

        Raises IdentityProviderAway before the keys were ever read, and for an unknown one while somebody else is reading them: nobody knows yet, and
        whoever waited would hold a thread and a connection of the database for as long as the provider likes.
        """
        asking = self._must_ask(kid) and not self._asked_if_nobody_does(kid)
        # Before the keys are looked at: they are there when the lock is free again.
        asking = asking or self._one_asks.locked()
        found = self._keys.get(kid)
        if found is None and (asking or self._read_at is None):
            raise IdentityProviderAway("they are being read at this moment")
        return found

    def endpoints(self) -> Endpoints:
        """Where people log in. Raises IdentityProviderAway, also where the provider's document is none."""
        if self._must_ask(None):
            with self._one_asks:
                if self._must_ask(None):
                    self._ask()
        if self._said is None:
            raise IdentityProviderAway("it was not read yet")
        try:
            return discovery.endpoints_of(self._said)
        except ValueError as error:
            raise IdentityProviderAway(str(error)) from error

    def _asked_if_nobody_does(self, kid: str) -> bool:
        if not self._one_asks.acquire(blocking=False):
            return False
        try:
            if self._must_ask(kid):
                self._ask()
        finally:
            self._one_asks.release()
        return True

    def _must_ask(self, kid: str | None) -> bool:
        """Whether to read anew, for a key or (None) for the document."""
        now = time.monotonic()
        if self._asked_at is not None and now - self._asked_at < self.looked_for_every_s:
            return False
        unknown = self._said is None if kid is None else kid not in self._keys
        return unknown or self._read_at is None or now - self._read_at > KEPT_S

    def _ask(self) -> None:
        self._asked_at = time.monotonic()
        try:
            self._keys = self._published()
            self._read_at = self._asked_at
        except (httpx.HTTPError, httpx.InvalidURL, JoseError, ValueError, KeyError, TypeError) as error:
            what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            log.warning("the identity provider %s does not give its keys: %s", self.issuer, what)
            if self._read_at is None:
                # The next request asks again: nobody could log in before.
                self._asked_at = None
                raise IdentityProviderAway(what) from error
            if time.monotonic() - self._read_at > KEPT_ALONE_S:
                self._keys, self._read_at, self._asked_at = {}, None, None
                raise IdentityProviderAway(what) from error

    def _published(self) -> dict[str, Key]:
        with discovery.client() as http:
            self._said = found = discovery.discovered(http, self.issuer)
            place = discovery.place_of(found, "jwks_uri")
            if place is None:
                raise ValueError("it names no jwks_uri")
            keys = KeySet.import_key_set(discovery.document(http, place)).keys  # type: ignore[arg-type]  # as read
            return {key.kid: key for key in keys if key.kid}


@cache
def get_provider() -> Provider | None:
    """The configured provider; None where people are local users."""
    settings = get_settings()
    if settings.oidc_issuer is None or settings.oidc_audience is None:
        return None
    clients = frozenset(filter(None, (settings.oidc_client_id, settings.oidc_cli_client_id)))
    return Provider(settings.oidc_issuer, settings.oidc_audience, clients)
