"""The sequencer as its own process, under writers, kills and a database that goes away."""

import random
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from audit.sequencer_process import SequencerProcess
from audit.votes import Votes
from ringi.audit import service
from ringi.audit.export import is_sealed
from ringi.audit.ringi_verify import Checkpoint, leaf_hash, open_checkpoint, root_of, verify_bundle
from ringi.audit.schemas import AuditAction, Event
from ringi.audit.signing import load_signers
from ringi.kit.actor import Actor, ActorKind
from ringi.settings import get_settings
from support.postgres import DatabaseUrls
from support.waiting import until

WRITERS, KILLS = 8, 3


class ChangedMind(Exception):
    """Rolls a transaction back."""


@pytest.fixture
def sequencer(urls: DatabaseUrls, tmp_path: Path) -> Iterator[SequencerProcess]:
    process = SequencerProcess(urls, tmp_path)
    yield process
    with suppress(AssertionError, ProcessLookupError):
        process.end(signal.SIGKILL)


def sealed(sessions: sessionmaker[Session]) -> Callable[[], bool]:
    def look() -> bool:
        with sessions() as session:
            return is_sealed(session)

    return look


def placed(sessions: sessionmaker[Session]) -> object:
    with sessions() as session:
        return session.scalar(text("SELECT size FROM audit_head"))


def write(sessions: sessionmaker[Session], actor: Actor, seed: int, enough: threading.Event) -> int:
    """Numbered transactions of one writer until `enough`, a tenth rolled back; returns how many were kept."""
    choose, kept = random.Random(seed), 0  # test data, not a secret
    while not enough.is_set():
        with suppress(ChangedMind), sessions.begin() as session:
            service.record(session, actor, AuditAction.UPLOAD_STORE, object_type="upload", object_id=uuid4(), details={"number": kept})
            if choose.random() < 0.1:
                raise ChangedMind
            session.commit()
            kept += 1
    return kept


def test_eight_writers_and_a_sequencer_killed_at_random_leave_no_gap_and_keep_each_writers_order(
    sessions: sessionmaker[Session], sequencer: SequencerProcess, bodies: Callable[[], list[bytes]], seed: int
) -> None:
    choose, pause = random.Random(seed), threading.Event()  # test data, not a secret
    actors = [Actor(kind=ActorKind.SERVICE, id=uuid4(), name=f"writer {number}") for number in range(WRITERS)]
    # thread: eight database clients at once; the sequencer itself is a process.
    with ThreadPoolExecutor(WRITERS) as pool:
        enough = threading.Event()
        sequencer.start()
        written = [pool.submit(write, sessions, actor, seed + number, enough) for number, actor in enumerate(actors)]
        try:
            for kill in range(KILLS):
                until(lambda count=kill + 1: sequencer.starts() == count)  # type: ignore[misc]  # binds the loop's value
                pause.wait(choose.uniform(0.0, 0.6))
                sequencer.end(signal.SIGKILL)
                sequencer.start()
        finally:
            enough.set()
        kept = [writer.result() for writer in written]
    until(sealed(sessions))
    print(f"{sum(kept)} events of {WRITERS} writers, {KILLS} kills")
    events = [Event.model_validate_json(body) for body in bodies()]
    for actor, count in zip(actors, kept, strict=True):
        assert [event.details for event in events if event.actor.id == str(actor.id)] == [{"number": number} for number in range(count)]
    with sessions() as session:
        assert session.scalars(text("SELECT leaf_index FROM audit_leaf ORDER BY 1")).all() == list(range(sum(kept)))
        assert session.scalar(text("SELECT count(*) FROM audit_event")) == sum(kept)
    until(lambda: sequencer.starts() == KILLS + 1)
    assert sequencer.checkpoint() == Checkpoint(get_settings().audit_origin, sum(kept), root_of(map(leaf_hash, bodies())))
    assert sequencer.end(signal.SIGTERM) == 0


def test_an_event_is_signed_within_a_second_of_its_commit_and_the_export_verifies(
    sessions: sessionmaker[Session], sequencer: SequencerProcess, votes: Votes, tmp_path: Path
) -> None:
    sequencer.start()
    votes.cast()
    until(sealed(sessions))
    votes.cast()
    until(sealed(sessions))
    report = verify_bundle(votes.export(tmp_path / "bundle.zip"), sequencer.vkey())
    assert report.ok
    assert report.size == 2
    with sessions() as session:
        note = session.scalar(text("SELECT note FROM audit_checkpoint ORDER BY size DESC LIMIT 1"))
        lag = session.scalar(
            text(
                "SELECT extract(epoch FROM c.created_at - e.ts) FROM audit_checkpoint c, audit_event e "
                "ORDER BY c.size DESC, e.id DESC LIMIT 1"
            )
        )
    assert open_checkpoint(note, load_signers(tmp_path / "keys" / "audit.key", get_settings().audit_origin)[0].verifier).size == 2
    print(f"commit to checkpoint {lag:.3f} s")


def test_a_database_that_goes_away_is_reported_once_and_waited_for(
    urls: DatabaseUrls, sessions: sessionmaker[Session], sequencer: SequencerProcess, votes: Votes
) -> None:
    sequencer.start()
    votes.cast()
    until(sealed(sessions))
    engine = create_engine(urls.superuser_url.replace(urls.name, "postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {urls.name} ALLOW_CONNECTIONS false"))
        connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{urls.name}'"))
        until(lambda: "database_unavailable" in sequencer.log.read_text())
        connection.execute(text(f"ALTER DATABASE {urls.name} ALLOW_CONNECTIONS true"))
    engine.dispose()
    sessions.kw["bind"].dispose()
    votes.cast()
    until(sealed(sessions))
    assert sequencer.log.read_text().count("database_unavailable: ") == 1
    assert sequencer.end(signal.SIGTERM) == 0


def test_a_refused_signature_is_logged_and_sequencing_goes_on(
    sessions: sessionmaker[Session], sequencer: SequencerProcess, votes: Votes, superuser: Callable[[str], None]
) -> None:
    sequencer.start()
    for _ in range(3):
        votes.cast()
    until(sealed(sessions))
    signed = sequencer.checkpoint()
    superuser("UPDATE audit_leaf SET leaf_hash = sha256('x') WHERE leaf_index = 2")
    votes.cast()
    until(lambda: "audit_log_inconsistent" in sequencer.log.read_text())
    with sessions() as session:
        assert session.scalar(text("SELECT count(*) FROM audit_leaf")) == 4
    assert sequencer.checkpoint() == signed
    assert sequencer.end(signal.SIGTERM) == 0


def test_a_last_word_that_cannot_be_written_is_said_as_that_and_signing_goes_on_once_it_can(
    sequencer: SequencerProcess, votes: Votes, sessions: sessionmaker[Session]
) -> None:
    folder = sequencer.data_dir / "checkpoints"
    # Nobody can make a file there, whatever rights this user has.
    folder.symlink_to("/proc")
    votes.cast()
    sequencer.start()
    until(lambda: "audit_last_checkpoint_not_written: " in sequencer.log.read_text())
    assert "database_unavailable" not in sequencer.log.read_text()
    # Entries get their places meanwhile, and no signature.
    votes.cast()
    until(lambda: placed(sessions) == 2)
    with sessions() as session:
        assert session.scalar(text("SELECT count(*) FROM audit_checkpoint")) == 0
    folder.unlink()
    votes.cast()
    until(sealed(sessions))
    assert sequencer.checkpoint().size == 3
    until(lambda: "recovered from audit_last_checkpoint_not_written" in sequencer.log.read_text())
