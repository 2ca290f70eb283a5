"""What must not stand in a log: tokens, passwords in addresses, credentials of a header, private keys, and this deployment's own secrets."""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from ringi.settings import Settings

HIDDEN = "[hidden]"
# identity/tokens.py says how a token looks; a part of one is hidden too.
_TOKEN = re.compile(r"hf_[0-9A-Za-z]{6,}")
_CREDENTIALS = re.compile(r"\b(bearer|basic)\s+[0-9A-Za-z._~+/=-]{6,}", re.IGNORECASE)
_PASSWORD_IN_URL = re.compile(r"(://[^\s:/@]*:)[^\s/@]+@")
_PRIVATE_KEY = re.compile(r"(PRIVATE\+KEY\+\S+|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z))", re.DOTALL)
# Every pattern above needs one of these: most lines are done after a look for them.
_MARKS = ("hf_", "bearer", "basic", "://", "private")
# Shorter ones would hide ordinary words.
_SHORTEST_SECRET = 6


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` with everything hidden that has the form of a secret, and each of `secrets` wherever it stands."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    lowered = text.lower()
    if not any(mark in lowered for mark in _MARKS):
        return text
    text = _TOKEN.sub(HIDDEN, text)
    text = _CREDENTIALS.sub(rf"\1 {HIDDEN}", text)
    text = _PASSWORD_IN_URL.sub(rf"\1{HIDDEN}@", text)
    return _PRIVATE_KEY.sub(HIDDEN, text)


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """The secrets that this process was told."""
    urls = (settings.database_url, settings.owner_database_url, settings.broker_url, settings.mlflow_tracking_uri)
    told = [settings.setup_key, settings.metrics_token, *(urlsplit(url).password for url in urls if url)]
    return tuple(secret for secret in told if secret and len(secret) >= _SHORTEST_SECRET)
