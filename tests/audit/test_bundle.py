"""The export and its verification: a whole one is accepted, and whatever is done to it is found and, where possible, named."""

import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from audit.votes import Votes
from ringi.audit import service
from ringi.audit.container import BundleWriter
from ringi.audit.export import RecordRow, is_sealed, write_bundle
from ringi.audit.note import Signer
from ringi.audit.published import AuditNotSigned
from ringi.audit.ringi_verify import MEMBERS, NoteInvalid, VerifyReport, trusted_vkey, verify_bundle
from ringi.audit.schemas import AuditAction
from ringi.audit.sequence import sequence_once
from ringi.kit.actor import Actor
from support.postgres import DatabaseUrls

# An event's bytes with another outcome, still in their canonical spelling.
FORGED = "convert_to(replace(convert_from(body, 'UTF8'), '\"ok\"', '\"no\"'), 'UTF8')"


@pytest.fixture
def vkey(signer: Signer) -> str:
    return str(signer.verifier)


@pytest.fixture
def cast(votes: Votes, seal: Callable[[], None]) -> list[str]:
    """Eleven votes, one of them cast twice, sealed: twelve entries."""
    ids = [votes.cast() for _ in range(11)]
    votes.cast("reject", vote=ids[3])
    seal()
    return ids


def codes(report: VerifyReport) -> set[str]:
    return {problem.code for problem in report.problems}


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rebuild(path: Path, members: dict[str, bytes]) -> Path:
    """A well-formed container with other contents: what a forger would hand over."""
    with path.open("wb") as out:
        writer = BundleWriter(out)
        for name in MEMBERS:
            with writer.member(name) as member:
                member.write(members[name])
        writer.finish()
    return path


def split_entries(data: bytes) -> list[bytes]:
    entries, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        entries.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    return entries


def join_entries(entries: list[bytes]) -> bytes:
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def test_a_whole_export_is_accepted_and_any_unzip_can_read_it(tmp_path: Path, votes: Votes, cast: list[str], vkey: str) -> None:
    path = votes.export(tmp_path / "bundle.zip")
    report = verify_bundle(path, vkey)
    assert report.ok, report.problems
    assert (report.size, report.records, report.unsealed, report.not_included) == (12, len(cast), 0, {})
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == list(MEMBERS)


def test_without_a_checkpoint_there_is_nothing_to_export(tmp_path: Path, votes: Votes) -> None:
    votes.cast()
    with pytest.raises(AuditNotSigned):
        votes.export(tmp_path / "bundle.zip")


def test_another_logs_key_accepts_nothing(tmp_path: Path, votes: Votes, cast: list[str], signer: Signer) -> None:
    assert cast
    report = verify_bundle(votes.export(tmp_path / "bundle.zip"), str(Signer.generate(signer.name).verifier))
    assert codes(report) == {"audit_note_invalid"}


def test_a_key_comes_as_a_line_or_in_a_file(tmp_path: Path, vkey: str) -> None:
    file = tmp_path / "log.vkey"
    file.write_text(f"{vkey}\n")
    assert trusted_vkey(str(file)) == trusted_vkey(vkey) == vkey
    with pytest.raises(NoteInvalid):
        trusted_vkey(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("tampering", "code"),
    [
        ("UPDATE audit_event SET body = {forged}, leaf_hash = sha256('\\x00'::bytea || {forged}) WHERE {fifth}", "entry_changed"),
        ("DELETE FROM audit_event WHERE {fifth}", "entry_missing"),
        ("DELETE FROM audit_leaf WHERE leaf_index = 5", "entry_missing"),
        ("UPDATE audit_leaf SET leaf_hash = sha256('x') WHERE leaf_index = 5", "entry_changed"),
    ],
)
def test_an_event_edited_by_a_superuser_is_named(  # fixtures
    tmp_path: Path, votes: Votes, cast: list[str], vkey: str, superuser: Callable[[str], None], tampering: str, code: str
) -> None:
    superuser(tampering.format(forged=FORGED, fifth="id = (SELECT event_id FROM audit_leaf WHERE leaf_index = 5)"))
    report = verify_bundle(votes.export(tmp_path / "bundle.zip"), vkey)
    named = [problem for problem in report.problems if problem.code == code]
    assert [problem.index for problem in named] == [5]
    if code == "entry_changed":
        assert (named[0].action, named[0].object) == ("approval.vote", f"approval_vote {cast[5]}")


def test_an_event_edited_with_both_its_hashes_is_named_within_its_pair(
    tmp_path: Path, votes: Votes, cast: list[str], vkey: str, superuser: Callable[[str], None]
) -> None:
    assert cast
    superuser(
        f"WITH forged AS (UPDATE audit_event SET body = {FORGED}, leaf_hash = sha256('\\x00'::bytea || {FORGED}) "
        "WHERE id = (SELECT event_id FROM audit_leaf WHERE leaf_index = 5) RETURNING leaf_hash) "
        "UPDATE audit_leaf SET leaf_hash = forged.leaf_hash FROM forged WHERE leaf_index = 5"
    )
    report = verify_bundle(votes.export(tmp_path / "bundle.zip"), vkey)
    assert [(problem.code, problem.index) for problem in report.problems] == [("subtree_changed", 4), ("subtree_changed", 5)]


def test_a_log_rewritten_as_a_whole_fails_the_signature_and_the_older_export_names_the_entry(  # fixtures
    tmp_path: Path, votes: Votes, cast: list[str], vkey: str, superuser: Callable[[str], None], sessions: sessionmaker[Session]
) -> None:
    assert cast
    older = votes.export(tmp_path / "older.zip")
    superuser(
        f"UPDATE audit_event SET body = {FORGED}, leaf_hash = sha256('\\x00'::bytea || {FORGED}) "
        "WHERE id = (SELECT event_id FROM audit_leaf WHERE leaf_index = 7); INSERT INTO audit_pending SELECT id FROM audit_event; "
        "DELETE FROM audit_leaf; DELETE FROM audit_node; UPDATE audit_head SET size = 0, frontier = ''"
    )
    with sessions.begin() as session:
        assert sequence_once(session) == 12
    rewritten = votes.export(tmp_path / "rewritten.zip")
    alone = verify_bundle(rewritten, vkey)
    assert codes(alone) == {"root_not_signed"}
    assert "rewritten as a whole" in alone.problems[0].message
    named = [problem for problem in verify_bundle(rewritten, vkey, against=older).problems if problem.code == "differs_from_older"]
    assert [problem.index for problem in named] == [7]


def test_a_longer_export_agrees_with_an_older_one_and_a_shorter_one_does_not(
    tmp_path: Path, votes: Votes, cast: list[str], vkey: str, seal: Callable[[], None]
) -> None:
    assert cast
    older = votes.export(tmp_path / "older.zip")
    votes.cast()
    seal()
    newer = votes.export(tmp_path / "newer.zip")
    assert verify_bundle(newer, vkey, against=older).ok
    assert codes(verify_bundle(older, vkey, against=newer)) == {"log_shortened"}


def test_an_edited_a_removed_an_added_and_an_outdated_record_are_named(tmp_path: Path, votes: Votes, cast: list[str], vkey: str) -> None:
    def found(code: str) -> list[tuple[int | None, str | None]]:
        report = verify_bundle(votes.export(tmp_path / "bundle.zip"), vkey)
        assert not report.ok
        return [(problem.index, problem.object) for problem in report.problems if problem.code == code]

    whole = {key: dict(row) for key, row in votes.rows.items()}
    votes.rows[cast[2]]["decision"] = "reject"
    assert found("record_changed") == [(2, f"approval_vote {cast[2]}")]
    votes.rows = {key: dict(row) for key, row in whole.items()}
    # Its first vote, which entry 3 recorded truly and entry 11 replaced.
    votes.rows[cast[3]]["decision"] = "approve"
    assert found("record_changed") == [(11, f"approval_vote {cast[3]}")]
    votes.rows = {key: row for key, row in whole.items() if key != cast[4]}
    assert found("record_missing") == [(4, f"approval_vote {cast[4]}")]
    votes.rows = {}
    assert len(found("record_missing")) == len(cast)
    votes.rows = {**whole, str(uuid4()): whole[cast[0]]}
    assert len(found("record_without_entry")) == 1


def test_a_record_newer_than_the_checkpoint_is_left_to_the_next_export_and_said_so(
    tmp_path: Path, votes: Votes, cast: list[str], vkey: str, seal: Callable[[], None], sessions: sessionmaker[Session]
) -> None:
    with sessions() as session:
        assert is_sealed(session)
    votes.cast("reject", vote=cast[0])
    votes.cast()
    with sessions() as session:
        assert not is_sealed(session)
    report = verify_bundle(votes.export(tmp_path / "bundle.zip"), vkey)
    assert (report.ok, report.unsealed, report.records) == (True, 1, len(cast) - 1)
    seal()
    report = verify_bundle(votes.export(tmp_path / "bundle.zip"), vkey)
    assert (report.ok, report.unsealed, report.records) == (True, 0, len(cast) + 1)


def test_objects_whose_records_are_not_brought_are_counted(
    tmp_path: Path, votes: Votes, cast: list[str], vkey: str, sessions: sessionmaker[Session], actor: Actor, seal: Callable[[], None]
) -> None:
    assert cast
    with sessions.begin() as session:
        service.record(session, actor, AuditAction.CHANNEL_CREATE, object_type="channel", object_id="c", record={"name": "production"})
    seal()
    assert verify_bundle(votes.export(tmp_path / "bundle.zip"), vkey).not_included == {"channel": 1}


def test_moved_repeated_dropped_and_added_entries_are_found(tmp_path: Path, votes: Votes, cast: list[str], vkey: str) -> None:
    assert cast
    members = members_of(votes.export(tmp_path / "bundle.zip"))
    entries = split_entries(members["entries.bin"])

    def found(changed: list[bytes]) -> set[str]:
        return codes(verify_bundle(rebuild(tmp_path / "forged.zip", members | {"entries.bin": join_entries(changed)}), vkey))

    assert found(entries) == set()
    assert "entry_out_of_place" in found([*entries[:2], entries[3], entries[2], *entries[4:]])
    assert "entry_out_of_place" in found([*entries[:3], entries[2], *entries[4:]])
    assert {"entry_out_of_place", "entry_missing"} <= found(entries[:4] + entries[5:])
    assert "entry_missing" in found(entries[:-1])
    assert found([*entries, entries[0]]) == {"audit_bundle_invalid"}
    assert found([]) >= {"entry_missing"}


def test_no_changed_byte_of_any_member_is_accepted_even_in_a_well_formed_container(
    tmp_path: Path, votes: Votes, seal: Callable[[], None], vkey: str, seed: int, request: pytest.FixtureRequest
) -> None:
    """Every byte of every member (every fifth in `make test`) with one drawn other value; the container around it is made anew."""
    choose = random.Random(seed)  # test data, not a secret
    step = 1 if request.node.get_closest_marker("proof") else 5
    ids = [votes.cast() for _ in range(3)]
    seal()
    votes.cast("reject", vote=ids[0])
    members = members_of(votes.export(tmp_path / "bundle.zip"))
    assert b'"unsealed":[{' in members["bundle.json"]
    for name, data in members.items():
        for at in range(choose.randrange(step) if len(data) > step else 0, len(data), step):
            forged = data[:at] + bytes([data[at] ^ choose.randrange(1, 256)]) + data[at + 1 :]
            report = verify_bundle(rebuild(tmp_path / "forged.zip", members | {name: forged}), vkey)
            assert not report.ok, (name, at, forged[at])


def test_no_changed_cut_or_added_byte_of_the_file_is_accepted(
    tmp_path: Path, votes: Votes, seal: Callable[[], None], vkey: str, seed: int
) -> None:
    choose = random.Random(seed)  # test data, not a secret
    votes.cast()
    votes.cast()
    seal()
    whole = votes.export(tmp_path / "bundle.zip").read_bytes()
    forged = tmp_path / "forged.zip"
    for at in range(len(whole)):
        forged.write_bytes(whole[:at] + bytes([whole[at] ^ choose.randrange(1, 256)]) + whole[at + 1 :])
        assert not verify_bundle(forged, vkey).ok, at
    for cut in [*range(0, len(whole), 37), len(whole) - 1]:
        forged.write_bytes(whole[:cut])
        assert not verify_bundle(forged, vkey).ok, cut
    for changed in (whole + b"\x00", b"\x00" + whole, whole + whole):
        forged.write_bytes(changed)
        assert not verify_bundle(forged, vkey).ok


def test_the_export_is_one_snapshot_of_entries_and_records(
    tmp_path: Path, votes: Votes, cast: list[str], vkey: str, urls: DatabaseUrls
) -> None:
    assert cast
    engine = create_engine(urls.app_url)
    with sessionmaker(engine)() as session:

        def late(reading: Session) -> list[RecordRow]:
            votes.cast()
            assert reading.scalar(text("SELECT count(*) FROM audit_event")) == 12
            return []

        summary = write_bundle(session, tmp_path / "bundle.zip", late, organization_id=None, record_types=[], vkey=vkey)
    engine.dispose()
    assert summary.size == 12
    assert verify_bundle(tmp_path / "bundle.zip", vkey).ok
