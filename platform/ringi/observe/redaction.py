"""What must not be written down, in no log and no error: tokens, passwords in addresses, credentials of a header, keys, and this
deployment's own secrets.
"""

import re
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from ringi.settings import Settings

HIDDEN = "[hidden]"
_PATTERNS = (
    # This platform's tokens (identity/tokens.py says how they look; a part of one is hidden too), and those of the Hugging Face Hub.
    (re.compile(r"\bhf_(?:rgi[0-9A-Za-z]{3,}|[0-9A-Za-z]{20,})"), HIDDEN),
    # Sessions of browsers (identity/sessions.py).
    (re.compile(r"\brgs_[0-9A-Za-z_-]{6,}"), HIDDEN),
    # Secrets of webhooks (Standard Webhooks).
    (re.compile(r"\bwhsec_[0-9A-Za-z+/=_-]{6,}"), HIDDEN),
    # RFC 6750 and RFC 7617 credentials.
    (re.compile(r"\b(bearer|basic)\s+[0-9A-Za-z._~+/=-]{6,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    # Passwords in URLs (RFC 3986 userinfo).
    (re.compile(r"(://[^\s:/@]*:)[^\s/@]+@"), rf"\1{HIDDEN}@"),
    (re.compile(r"PRIVATE\+KEY\+\S+|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
    # Access keys of S3, and what looks like an assignment of a secret.
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), HIDDEN),
    (
        re.compile(
            r"(?<![a-z])((?:password|passwd|secret|api[_-]?key|access[_-]?key|private[_-]?key|auth[_-]?token)[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&]{4,}",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
)
# Every pattern above needs one of these: most lines are done after a look for them.
_MARKS = ("hf_", "rgs_", "whsec_", "bearer", "basic", "://", "private", "akia", "asia", "passw", "secret", "key", "token")
# Shorter ones would hide ordinary words.
_SHORTEST_SECRET = 6


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` with everything hidden that has the form of a secret, and each of `secrets` wherever it stands."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    lowered = text.lower()
    if not any(mark in lowered for mark in _MARKS):
        return text
    for pattern, shown in _PATTERNS:
        text = pattern.sub(shown, text)
    return text


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """The secrets that this process was told."""
    urls = (
        settings.database_url, settings.platform_database_url, settings.owner_database_url, settings.broker_url, settings.rate_limit_url, settings.blob_url,
        settings.mlflow_tracking_uri, settings.smtp_url,
    )  # fmt: skip
    passwords = [urlsplit(url).password for url in urls if url]
    # As they stand in the URL, and as a server would repeat them.
    told = [
        settings.setup_key,
        settings.metrics_token,
        settings.oidc_client_secret,
        *settings.judge_keys.values(),
        *passwords,
        *(unquote(one) for one in passwords if one),
    ]
    return tuple(dict.fromkeys(secret for secret in told if secret and len(secret) >= _SHORTEST_SECRET))
