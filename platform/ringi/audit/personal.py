"""Text that people write, encrypted under a data key of each person, so that destroying one key erases one person (governance B6).

A data key is 32 random bytes, wrapped under the deployment's key (`RINGI_PERSONAL_KEY_FILE`), which no database and no backup of it
holds. AES-256-GCM (NIST SP 800-38D) with a random nonce of 12 bytes in front; what the bytes belong to is authenticated with them.
"""

import hmac
import secrets
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from typing import NamedTuple
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import ARRAY, BigInteger, any_, cast, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ringi.audit.durable import write_durably
from ringi.audit.models import AuditPayload, AuditPersonKey
from ringi.kit.actor import Actor, ActorKind
from ringi.kit.errors import Conflict, RingiError
from ringi.settings import get_settings

PLAIN, ENCRYPTED = "none", "aes-256-gcm"
KEY_BYTES, NONCE_BYTES = 32, 12
_PREFIX = "ringi-personal-key-1:"


class PersonalKeyUnusable(RingiError):
    """The deployment's key for personal text is missing, readable by others, malformed, or not the one that wrapped what is stored."""

    code, status = "personal_key_unusable", 500

    def __init__(self, what: str, next_step: str = "Put the right key file in its place: RINGI_PERSONAL_KEY_FILE.") -> None:
        super().__init__(f"The key for personal text cannot be used: {what}.", next_step=next_step)


class PersonErased(Conflict):
    """The person's key was destroyed, so nothing is written in their name any more."""

    code = "person_erased"

    def __init__(self) -> None:
        super().__init__("This person was erased.", next_step="There is nothing to do; nothing is written in their name any more.")


class Sealed(NamedTuple):
    """What an `audit_payload` row holds of a text."""

    scheme: str
    content: bytes
    person_id: UUID | None


@cache
def deployment_key() -> bytes:
    """The 32 bytes of the key file; the embedded profile makes it at the first start. Raises PersonalKeyUnusable."""
    path = get_settings().personal_key_path
    if get_settings().profile == "embedded" and not path.exists():
        # Two processes that start at once agree on one key.
        drawn = f"{_PREFIX}{b64encode(secrets.token_bytes(KEY_BYTES)).decode()}\n"
        with suppress(FileExistsError):
            write_durably(path, drawn.encode(), mode=0o600, replace=False)
    try:
        mode, text = path.stat().st_mode & 0o777, path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise PersonalKeyUnusable(f"it cannot be read ({error})") from error
    if mode & 0o077:
        raise PersonalKeyUnusable(f"its mode is {mode:o}, so others can read it", "Set it to 600, and consider who may have read it.")
    try:
        key = b64decode(text.removesuffix("\n").removeprefix(_PREFIX), validate=True)
    except NotBase64 as error:
        raise PersonalKeyUnusable("it is malformed") from error
    if not text.startswith(_PREFIX) or len(key) != KEY_BYTES:
        raise PersonalKeyUnusable("it is malformed")
    return key


def derived(purpose: str) -> bytes:
    """A key of 32 bytes for one purpose, from the deployment's."""
    return hmac.digest(deployment_key(), purpose.encode(), "sha256")


def subject_seal(issuer: str, subject: str) -> str:
    """HMAC-SHA-256, in hex, of who a person is at an identity provider: tells a person that comes back without saying who it was."""
    return hmac.digest(derived("ringi/subject-seal/1"), f"{issuer}\n{subject}".encode(), "sha256").hex()


def _encrypt(key: bytes, text: bytes, about: str) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, text, about.encode())


def _decrypt(key: bytes, data: bytes, about: str) -> bytes:
    try:
        return AESGCM(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], about.encode())
    except InvalidTag as error:
        raise PersonalKeyUnusable(f"it does not open {about}") from error


def _about_key(person: UUID) -> str:
    return f"ringi/person-key/1 {person}"


def _about_text(event_id: UUID) -> str:
    return f"ringi/payload/1 {event_id}"


def _unwrap(person: UUID, wrapped: bytes) -> bytes:
    return _decrypt(derived("ringi/person-key-wrap/1"), wrapped, _about_key(person))


def _key_to_write(session: Session, person: UUID, organization_id: UUID) -> bytes:
    """The person's key, made when there is none. It is held as it is until the transaction ends: an erasure at the same moment waits."""
    # unscoped: the caller's own key.
    held = select(AuditPersonKey.wrapped).where(AuditPersonKey.person_id == person).with_for_update(read=True)
    row = session.execute(held).one_or_none()
    if row is None:
        wrapped = _encrypt(derived("ringi/person-key-wrap/1"), secrets.token_bytes(KEY_BYTES), _about_key(person))
        new = insert(AuditPersonKey).values(person_id=person, organization_id=organization_id, wrapped=wrapped)
        session.execute(new.on_conflict_do_nothing())
        row = session.execute(held).one()
    if row.wrapped is None:
        raise PersonErased
    return _unwrap(person, row.wrapped)


def seal(session: Session, actor: Actor, event_id: UUID, text: str) -> Sealed:
    """A text that `actor` wrote, for the payload of an event. The platform's own texts are nobody's. Raises PersonErased."""
    if actor.kind is ActorKind.SYSTEM or actor.organization_id is None:
        return Sealed(PLAIN, text.encode(), None)
    key = _key_to_write(session, actor.id, actor.organization_id)
    return Sealed(ENCRYPTED, _encrypt(key, text.encode(), _about_text(event_id)), actor.id)


def texts(session: Session, events: Mapping[int, UUID]) -> dict[int, str]:
    """The texts that are still there, of events whose row numbers and ids are given; an erased one is missing."""
    # unscoped: of entries that the caller may read.
    rows = session.scalars(select(AuditPayload).where(AuditPayload.event_id == any_(cast(list(events), ARRAY(BigInteger))))).all()
    keys = _keys_of(session, {row.person_id for row in rows if row.person_id is not None})
    found = {}
    for row in rows:
        if row.scheme == PLAIN:
            found[row.event_id] = row.content.decode()
        elif row.person_id in keys:
            found[row.event_id] = _decrypt(keys[row.person_id], row.content, _about_text(events[row.event_id])).decode()
    return found


def _keys_of(session: Session, people: Iterable[UUID]) -> dict[UUID, bytes]:
    # unscoped: as above.
    rows = session.scalars(select(AuditPersonKey).where(AuditPersonKey.person_id.in_(people)))
    return {row.person_id: _unwrap(row.person_id, row.wrapped) for row in rows if row.wrapped is not None}


def destroy(session: Session, *, person: UUID, organization_id: UUID) -> None:
    """Destroy a person's key, after whoever is writing under it; what is encrypted under it cannot be read from the commit on."""
    empty = insert(AuditPersonKey).values(person_id=person, organization_id=organization_id, destroyed_at=func.clock_timestamp())
    session.execute(empty.on_conflict_do_nothing())
    session.execute(
        update(AuditPersonKey)
        .where(AuditPersonKey.person_id == person, AuditPersonKey.wrapped.is_not(None))
        .values(wrapped=None, destroyed_at=func.clock_timestamp())
    )
