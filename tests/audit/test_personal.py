"""The keys of people: what cannot be read under another key, in another place, or after the key is gone."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from ringi.audit import personal, service
from ringi.audit.models import AuditEvent, AuditPayload
from ringi.audit.schemas import AuditAction
from ringi.kit.actor import Actor, system_actor
from ringi.settings import Settings, get_settings
from support.refusals import refused
from support.waiting import until

PRODUCTION = {
    "RINGI_PROFILE": "production", "RINGI_PLATFORM_DATABASE_URL": "postgresql+psycopg://ringi_platform@db/ringi", "RINGI_AUDIT_KEY_FILE": "/k",
    "RINGI_AUDIT_CHECKPOINT_DIR": "/c", "RINGI_BLOB_URL": "file:///b", "RINGI_OIDC_ISSUER": "https://login.example", "RINGI_OIDC_AUDIENCE": "ringi",
    "RINGI_PUBLIC_URL": "https://ringi.example",
}  # fmt: skip
WORDS = "承認します。応答は十分に自然です"


def wrote(session: Session, actor: Actor, words: str = WORDS) -> UUID:
    return service.record(session, actor, AuditAction.APPROVAL_VOTE, object_type="approval_vote", object_id=uuid4(), payload=words)


def written(sessions: sessionmaker[Session], actor: Actor, words: str = WORDS) -> UUID:
    with sessions.begin() as session:
        return wrote(session, actor, words)


def read(sessions: sessionmaker[Session]) -> dict[UUID, str]:
    with sessions() as session:
        ids = {row.id: row.event_id for row in session.execute(select(AuditEvent.id, AuditEvent.event_id))}
        return {ids[row]: words for row, words in personal.texts(session, ids).items()}


def erase(sessions: sessionmaker[Session], actor: Actor) -> None:
    assert actor.organization_id is not None
    with sessions.begin() as session:
        personal.destroy(session, person=actor.id, organization_id=actor.organization_id)


def forget() -> None:
    """What the process read once."""
    get_settings.cache_clear()
    personal.deployment_key.cache_clear()


@pytest.fixture
def remembered_anew() -> Iterator[None]:
    """Torn down after the scene that was set in between."""
    yield
    forget()


@pytest.fixture
def key_file(remembered_anew: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A deployment's key of the test's own."""
    del remembered_anew
    monkeypatch.setenv("RINGI_PERSONAL_KEY_FILE", str(tmp_path / "keys" / "personal.key"))
    forget()
    return tmp_path / "keys" / "personal.key"


def test_the_same_words_are_never_the_same_bytes_and_the_platforms_own_stay_plain(sessions: sessionmaker[Session], actor: Actor) -> None:
    events = [written(sessions, actor), written(sessions, actor)]
    platform = written(sessions, replace(system_actor("notifier"), organization_id=actor.organization_id), "by the platform")
    assert read(sessions) == {**dict.fromkeys(events, WORDS), platform: "by the platform"}
    with sessions() as session:
        rows = session.scalars(select(AuditPayload).order_by(AuditPayload.event_id)).all()
    assert [row.scheme for row in rows] == ["aes-256-gcm", "aes-256-gcm", "none"]
    assert len({row.content for row in rows}) == 3
    assert WORDS.encode() not in b"".join(row.content for row in rows[:2])
    assert [row.person_id for row in rows] == [actor.id, actor.id, None]


def test_one_persons_key_reads_nobody_elses_words(sessions: sessionmaker[Session], actor: Actor) -> None:
    colleague = replace(actor, id=uuid4())
    mine, theirs = written(sessions, actor), written(sessions, colleague, "別の人の言葉")
    erase(sessions, actor)
    assert read(sessions) == {theirs: "別の人の言葉"}
    assert mine not in read(sessions)
    with sessions.begin() as session, refused("person_erased", 409):
        wrote(session, actor)
    erase(sessions, actor)  # again changes nothing
    assert read(sessions) == {theirs: "別の人の言葉"}


def test_words_moved_to_another_entry_are_not_read_there(sessions: sessionmaker[Session], actor: Actor) -> None:
    written(sessions, actor)
    written(sessions, actor, "もう一つの理由です")
    with sessions.begin() as session:
        contents = session.execute(text("SELECT event_id, content FROM audit_payload ORDER BY event_id")).all()
        # The application changes no payload, so what it removes it writes again elsewhere.
        session.execute(text("DELETE FROM audit_payload"))
        for (event, _), (_, content) in zip(contents, reversed(contents), strict=True):
            session.execute(
                text("INSERT INTO audit_payload (event_id, salt, scheme, content, person_id) VALUES (:e, 'salt', 'aes-256-gcm', :c, :p)"),
                {"e": event, "c": content, "p": actor.id},
            )
    with refused("personal_key_unusable", 500):
        read(sessions)


def test_a_key_moved_to_another_person_opens_nothing(sessions: sessionmaker[Session], actor: Actor) -> None:
    colleague = replace(actor, id=uuid4())
    written(sessions, actor)
    written(sessions, colleague)
    with sessions.begin() as session:
        session.execute(
            text("UPDATE audit_person_key SET wrapped = (SELECT wrapped FROM audit_person_key WHERE person_id = :a) WHERE person_id = :b"),
            {"a": actor.id, "b": colleague.id},
        )
    with refused("personal_key_unusable", 500):
        read(sessions)


def test_an_erasure_waits_for_who_is_writing_and_then_takes_that_too(sessions: sessionmaker[Session], actor: Actor) -> None:
    written(sessions, actor)
    with sessions() as session:
        wrote(session, actor, "まだ書いている途中です")
        # thread: a second client, whose statement waits for the first one's transaction.
        eraser = threading.Thread(target=erase, args=(sessions, actor))
        eraser.start()
        with sessions() as looking:
            waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            until(lambda: looking.execute(waiting).scalar_one() > 0)
        session.commit()
    eraser.join(timeout=30)
    assert read(sessions) == {}


def test_two_first_writings_at_once_agree_on_one_key(sessions: sessionmaker[Session], actor: Actor) -> None:
    # thread: eight clients at once.
    writers = [threading.Thread(target=written, args=(sessions, actor, f"{WORDS} {number}")) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=30)
    assert sorted(read(sessions).values()) == [f"{WORDS} {number}" for number in range(8)]


def test_the_key_is_made_once_private_and_not_by_production(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = personal.deployment_key()
    assert key_file.stat().st_mode & 0o777 == 0o600
    personal.deployment_key.cache_clear()
    assert personal.deployment_key() == first
    key_file.chmod(0o644)
    forget()
    with refused("personal_key_unusable", 500):
        personal.deployment_key()
    key_file.chmod(0o600)
    key_file.write_text("ringi-personal-key-1:短い\n")
    forget()
    with refused("personal_key_unusable", 500):
        personal.deployment_key()
    key_file.unlink()
    forget()
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)
    with refused("personal_key_unusable", 500):
        personal.deployment_key()
    assert not key_file.exists()
    monkeypatch.delenv("RINGI_PERSONAL_KEY_FILE")
    with pytest.raises(ValidationError, match="needs RINGI_PERSONAL_KEY_FILE;"):
        Settings()


def test_a_deployment_with_another_key_reads_nothing_and_says_so(sessions: sessionmaker[Session], actor: Actor, key_file: Path) -> None:
    written(sessions, actor)
    key_file.unlink()
    personal.deployment_key.cache_clear()
    with refused("personal_key_unusable", 500):
        read(sessions)
