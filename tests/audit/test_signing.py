"""The signer: its key file, and what it refuses to put its name under."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from audit.votes import Votes
from ringi.audit.note import Signer, sign_checkpoint
from ringi.audit.ringi_verify import Checkpoint, open_checkpoint
from ringi.audit.sequence import sequence_once
from ringi.audit.signing import (
    AuditKeyUnusable,
    AuditLogInconsistent,
    CheckpointFile,
    LastCheckpointUnusable,
    load_or_create_signers,
    load_signers,
    sign_head,
)


def test_a_key_is_made_once_for_its_owner_alone_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "audit.key"
    first = load_or_create_signers(path, "example.org/audit/1")
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_create_signers(path, "example.org/audit/1") == first == load_signers(path, "example.org/audit/1")
    assert [file.name for file in path.parent.iterdir()] == ["audit.key"]
    with pytest.raises(AuditKeyUnusable, match="audit/2"):
        load_or_create_signers(path, "example.org/audit/2")
    path.chmod(0o644)
    with pytest.raises(AuditKeyUnusable, match="others can read"):
        load_or_create_signers(path, "example.org/audit/1")
    path.chmod(0o600)
    path.write_text("PRIVATE+KEY+nonsense")
    with pytest.raises(AuditKeyUnusable, match="malformed"):
        load_or_create_signers(path, "example.org/audit/1")


def test_without_a_key_file_a_production_signer_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(AuditKeyUnusable):
        load_signers(tmp_path / "audit.key", "example.org/audit/1")


def test_a_grown_log_is_signed_once_for_each_size(
    sessions: sessionmaker[Session], signer: Signer, last_signed: CheckpointFile, votes: Votes, seal: Callable[[], None]
) -> None:
    for _ in range(3):
        votes.cast()
        seal()
        seal()
    with sessions() as session:
        notes = [bytes(note) for note in session.scalars(text("SELECT note FROM audit_checkpoint ORDER BY size"))]
    assert [open_checkpoint(note, signer.verifier).size for note in notes] == [1, 2, 3]
    assert last_signed.read() == notes[-1]


def test_a_crash_between_file_and_row_is_made_good_from_the_file(
    sessions: sessionmaker[Session], signer: Signer, last_signed: CheckpointFile, votes: Votes
) -> None:
    votes.cast()
    with sessions.begin() as session:
        sequence_once(session)
    with sessions() as session:
        sign_head(session, signer, last_signed)
        session.rollback()
    with sessions.begin() as session:
        assert sign_head(session, signer, last_signed) is not None
    with sessions() as session:
        assert session.scalar(text("SELECT note FROM audit_checkpoint")) == last_signed.read()


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE audit_leaf SET leaf_hash = decode(repeat('ab', 32), 'hex') WHERE leaf_index = 4",
        "UPDATE audit_node SET hash = decode(repeat('ab', 32), 'hex') WHERE level = 2 AND idx = 0",
        "DELETE FROM audit_node WHERE level = 2",
        "UPDATE audit_head SET frontier = overlay(frontier placing decode('abab', 'hex') from 1)",
        "UPDATE audit_head SET size = 1, frontier = substring(frontier from 1 for 32)",
    ],
)
def test_a_tree_that_does_not_extend_the_signed_one_is_refused_again_and_again(
    sessions: sessionmaker[Session],
    signer: Signer,
    last_signed: CheckpointFile,
    votes: Votes,
    seal: Callable[[], None],
    superuser: Callable[[str], None],
    tampering: str,
) -> None:
    for _ in range(5):
        votes.cast()
    seal()
    signed = last_signed.read()
    superuser(tampering)
    votes.cast()
    if "SET size" not in tampering:
        with sessions.begin() as session:
            sequence_once(session)
    for _ in range(3):
        with sessions() as session, pytest.raises(AuditLogInconsistent):
            sign_head(session, signer, last_signed)
    assert last_signed.read() == signed


def test_a_restored_older_backup_is_not_signed(
    sessions: sessionmaker[Session], signer: Signer, last_signed: CheckpointFile, votes: Votes, seal: Callable[[], None], tmp_path: Path
) -> None:
    votes.cast()
    seal()
    # The same signer with the memory of a longer log: what a restore of yesterday's database looks like.
    later = CheckpointFile(tmp_path / "later")
    later.store(sign_checkpoint(Checkpoint(signer.name, 9, bytes(32)), signer))
    with sessions() as session, pytest.raises(AuditLogInconsistent, match="9 were already signed"):
        sign_head(session, signer, later)


def test_a_lost_or_forged_memory_of_the_signer_is_refused(
    sessions: sessionmaker[Session], signer: Signer, last_signed: CheckpointFile, votes: Votes, seal: Callable[[], None], tmp_path: Path
) -> None:
    votes.cast()
    seal()
    votes.cast()
    with sessions() as session, pytest.raises(LastCheckpointUnusable):
        sign_head(session, signer, CheckpointFile(tmp_path / "empty"))
    last_signed.path.write_bytes(b"forged\n")
    with sessions() as session, pytest.raises(LastCheckpointUnusable):
        sign_head(session, signer, last_signed)
