"""`Idempotency-Key`: one execution per key, and the same answer for 24 hours (docs/safe-writes.md).

After Stripe's manner and draft-ietf-httpapi-idempotency-key-header-07. The key's row is written with the answer in the transaction of the
change: either both are there or neither is, whatever is killed when. While a request runs it holds an advisory lock on its key, which
PostgreSQL drops with the connection, so a killed process leaves no key behind that is "in flight" for ever.
"""

import hashlib
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fastapi import Request, Response
from sqlalchemy import LargeBinary, Row, cast, delete, func, select, true, tuple_, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Session

from ringi.kit.actor import Actor
from ringi.kit.errors import Conflict, InvalidInput, RingiError
from ringi.web import cookies, sealing
from ringi.web.models import KeptAnswer

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
KEPT_FOR = timedelta(hours=24)
IN_FLIGHT_RETRY_S = 1
# Visible ASCII, as in Stripe; the draft's form is a quoted string, whose quotes are taken off.
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_KEPT_HEADERS = ("content-type", "location", "content-language")


class InvalidKey(InvalidInput):
    """The header holds nothing that could be a key."""

    code = "idempotency_key_invalid"

    def __init__(self) -> None:
        super().__init__(
            f"The header {HEADER} must hold 1 to 255 visible ASCII characters.", next_step="Send a fresh UUID for every new request."
        )


class KeyReused(RingiError):
    """The key belongs to another request of the same caller."""

    code, status = "idempotency_key_reused", 422

    def __init__(self) -> None:
        super().__init__(
            f"This {HEADER} was used for a request with another method, path, query or body; nothing was done.",
            next_step="Send a new key with a new request; repeat a request only as it was.",
        )


class KeyInFlight(Conflict):
    """A request with this key is being executed at this moment."""

    code, retryable = "idempotency_key_in_flight", True
    retry_after_s = IN_FLIGHT_RETRY_S

    def __init__(self) -> None:
        super().__init__(
            f"A request with this {HEADER} is being executed at this moment; this one was not.",
            next_step="Send it again in a moment, with the same key: it gets the answer of the first one.",
        )


class SealedForAnotherToken(Conflict):
    """The kept answer holds a secret and opens only with the token that asked for it."""

    code = "idempotency_other_token"

    def __init__(self) -> None:
        super().__init__(
            "The answer to this key holds a secret and is kept encrypted under the token that asked for it; yours is another one.",
            next_step="Repeat it with that token, or revoke what was made and make it again with a new key.",
        )


class AnswerErased(RingiError):
    """The kept answer held text of a person who was erased since."""

    code, status = "idempotency_answer_erased", 410

    def __init__(self) -> None:
        super().__init__(
            "This request was executed, and its answer was erased with the person whose text it held.",
            next_step="Read what it changed; do not send it again.",
        )


@dataclass(frozen=True)
class Attempt:
    """One request with a key. `secret`: its answer holds one."""

    key: str
    fingerprint: str
    bearer: str
    secret: bool


def key_of(request: Request) -> str | None:
    """The header's key. Raises InvalidKey."""
    given = request.headers.get(HEADER)
    if given is None:
        return None
    key = given[1:-1] if len(given) > 1 and given[0] == given[-1] == '"' else given
    if not _KEY.fullmatch(key):
        raise InvalidKey
    return key


async def attempt_of(request: Request, *, secret: bool) -> Attempt | None:
    """What the request says about itself; None without the header. Raises InvalidKey."""
    key = key_of(request)
    if key is None:
        return None
    running = hashlib.sha256()
    for part in (request.method.encode(), request.url.path.encode(), request.scope["query_string"], await request.body()):
        # Lengths first, so that no two requests run together into the same bytes.
        running.update(len(part).to_bytes(8, "big") + part)
    bearer = cookies.session_secret(request) or request.headers.get("authorization", "").partition(" ")[2]
    return Attempt(key, "sha256:" + running.hexdigest(), bearer, secret)


def _lock_of(actor: Actor, key: str) -> int:
    return int.from_bytes(hashlib.sha256(f"idempotency:{actor.id}:{key}".encode()).digest()[:8], "big", signed=True)


def _fresh() -> Any:
    return KeptAnswer.created_at > func.clock_timestamp() - KEPT_FOR


def begin(session: Session, actor: Actor, attempt: Attempt) -> Response | None:
    """Take the key for this transaction: None when it is new, the kept answer when it is known. Raises KeyReused, KeyInFlight."""
    lock = select(func.pg_try_advisory_xact_lock(_lock_of(actor, attempt.key)).label("free")).cte("lock")
    columns = (KeptAnswer.fingerprint, KeptAnswer.status, KeptAnswer.headers, KeptAnswer.body, KeptAnswer.sealed)
    mine = tuple_(KeptAnswer.user_id, KeptAnswer.key) == (actor.id, attempt.key)
    known = select(*columns).where(mine, _fresh()).subquery("known")
    # One round trip. The snapshot is older than the lock, so a first request that ends in between is not seen here: `keep` then finds its row.
    found = session.execute(select(lock.c.free, known).outerjoin_from(lock, known, true())).one()
    if found.fingerprint is not None:
        return _replay(found, attempt)
    if not found.free:
        raise KeyInFlight
    return None


def _replay(found: Row[Any], attempt: Attempt) -> Response:
    if found.fingerprint != attempt.fingerprint:
        raise KeyReused
    body = found.body
    if found.status == AnswerErased.status and not body:
        raise AnswerErased
    if found.sealed:
        try:
            body = sealing.unseal(body, bearer=attempt.bearer, about=attempt.fingerprint)
        except sealing.WrongBearer:
            raise SealedForAnotherToken from None
    return Response(body, status_code=found.status, headers={**found.headers, REPLAYED: "true"})


def keep(session: Session, actor: Actor, attempt: Attempt, answer: Response) -> None:
    """Write the answer beside the change; raises KeyInFlight, which undoes the change, when another request answered this key meanwhile."""
    body = bytes(answer.body)
    row = {
        "organization_id": actor.organization_id, "fingerprint": attempt.fingerprint, "status": answer.status_code,
        "headers": {name: answer.headers[name] for name in _KEPT_HEADERS if name in answer.headers}, "sealed": attempt.secret,
        "body": sealing.seal(body, bearer=attempt.bearer, about=attempt.fingerprint) if attempt.secret else body,
    }  # fmt: skip
    written = (
        insert(KeptAnswer)
        .values(user_id=actor.id, key=attempt.key, **row)
        .on_conflict_do_update(
            # A row older than its day that housekeeping has not removed yet.
            index_elements=[KeptAnswer.user_id, KeptAnswer.key], set_={**row, "created_at": func.clock_timestamp()}, where=~_fresh(),
        )
        .returning(KeptAnswer.status)
    )  # fmt: skip
    if session.scalar(written) is None:
        raise KeyInFlight


def erase(session: Session, texts: Collection[str]) -> int:
    """Blank the answers in sight that hold one of `texts` as a JSON string; returns how many. Their keys stay, so nothing is executed twice.

    Answers that hold a secret are encrypted under their token and are left to their 24 hours.
    """
    sought = func.unnest(cast([json.dumps(text, ensure_ascii=False).encode() for text in texts], ARRAY(LargeBinary))).column_valued(
        "sought"
    )
    held = select(sought).where(func.position(sought.op("IN")(KeptAnswer.body)) > 0).exists()
    blanked = update(KeptAnswer).where(~KeptAnswer.sealed, held).values(status=AnswerErased.status, headers={}, body=b"")
    return len(session.scalars(blanked.returning(KeptAnswer.status).execution_options(synchronize_session=False)).all())


def purge(session: Session, *, batch: int = 1000) -> int:
    """Remove answers that are older than a day; returns how many."""
    old = select(KeptAnswer.user_id, KeptAnswer.key).where(~_fresh()).order_by(KeptAnswer.created_at).limit(batch)
    place = tuple_(KeptAnswer.user_id, KeptAnswer.key)
    return len(session.scalars(delete(KeptAnswer).where(place.in_(old)).returning(KeptAnswer.status)).all())
