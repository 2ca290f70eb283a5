"""A superuser of the database against the log: whatever is edited, deleted, swapped, cut or restored is found, and named by a code."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from audit.votes import Votes
from ringi.api.live_records import RECORD_TYPES, everyones_records
from ringi.audit.anchor_folder import AnchorFolder
from ringi.audit.checking import Finding, Known, compare, compare_records, replay
from ringi.audit.copies import changed_columns
from ringi.audit.ddl import APPEND_ONLY_TABLES
from ringi.audit.note import Signer
from ringi.audit.published import AuditNotSigned, newest_signed
from ringi.audit.ringi_verify import Frontier, leaf_hash, verify_bundle
from ringi.audit.sequence import sequence_once
from ringi.audit.signing import CheckpointFile, sign_head
from support.postgres import DatabaseUrls
from support.story import Ground, approved, environment_name

TABLES = ("audit_pending", "audit_payload", "audit_leaf", "audit_node", "audit_checkpoint", "audit_event")
Attack = Callable[[], None]


class Watched:
    """A sealed log of votes, what was anchored of it, and who looks."""

    def __init__(
        self, sessions: sessionmaker[Session], votes: Votes, seal: Attack, signer: Signer, last_signed: CheckpointFile, folder: Path
    ) -> None:
        self.sessions, self.votes, self.seal, self.signer, self.last_signed = sessions, votes, seal, signer, last_signed
        self.folder, self.anchors = folder, AnchorFolder(folder / "anchors", signer.name)
        (folder / "anchors").mkdir()

    def grow(self, count: int) -> None:
        for _ in range(count):
            self.votes.cast("賛成")
        self.seal()

    def anchor(self) -> None:
        with self.sessions() as session:
            self.anchors.keep(newest_signed(session).note)

    def known(self) -> list[Known]:
        last = self.last_signed.load(self.signer.verifier)
        assert last is not None
        return [Known(last, "the signer's own file"), *self.anchors.newest([self.signer.verifier])]

    def quick(self) -> str | None:
        with self.sessions() as session:
            return code_of(compare(session, self.known()))

    def full(self) -> str | None:
        with self.sessions() as session:
            return code_of(replay(session, self.known()))

    def verified(self, *, against: Path | None = None) -> set[str]:
        """The codes of ringi-verify over an export made now."""
        path = self.votes.export(self.folder / "export.zip")
        return {problem.code for problem in verify_bundle(path, str(self.signer.verifier), against=against).problems}

    def bodies(self) -> list[bytes]:
        with self.sessions() as session:
            query = text("SELECT e.body FROM audit_leaf l JOIN audit_event e ON e.id = l.event_id ORDER BY l.leaf_index")
            return [bytes(body) for body in session.scalars(query)]


def code_of(finding: Finding | None) -> str | None:
    return finding.code if finding is not None else None


@pytest.fixture
def log(
    sessions: sessionmaker[Session], votes: Votes, seal: Attack, signer: Signer, last_signed: CheckpointFile, tmp_path: Path
) -> Watched:
    watched = Watched(sessions, votes, seal, signer, last_signed, tmp_path)
    watched.grow(11)
    watched.anchor()
    assert (watched.quick(), watched.full(), watched.verified()) == (None, None, set())
    return watched


def edit_body(superuser: Callable[[str], None], leaf: int) -> None:
    superuser(
        "WITH changed AS (SELECT e.id, convert_to(replace(convert_from(e.body, 'UTF8'), '\"ok\"', '\"denied\"'), 'UTF8') AS body "
        f"FROM audit_event e JOIN audit_leaf l ON l.event_id = e.id WHERE l.leaf_index = {leaf}) "
        "UPDATE audit_event e SET body = c.body, leaf_hash = sha256('\\x00'::bytea || c.body) FROM changed c WHERE e.id = c.id"
    )


def rebuild(superuser: Callable[[str], None], log: Watched) -> None:
    """Make leaves, nodes and head agree with the bodies again, as a careful forger would."""
    frontier = Frontier()
    statements = ["DELETE FROM audit_node"]
    for place, body in enumerate(log.bodies()):
        statements.append(f"UPDATE audit_leaf SET leaf_hash = '\\x{leaf_hash(body).hex()}' WHERE leaf_index = {place}")
        statements += [
            f"INSERT INTO audit_node VALUES ({node.level}, {node.place}, '\\x{node.hash.hex()}')"
            for node in frontier.append(leaf_hash(body))
        ]
    statements.append(f"UPDATE audit_head SET size = {frontier.size}, frontier = '\\x{frontier.to_bytes().hex()}'")
    for statement in statements:
        superuser(statement)


def test_an_edited_entry_is_named(log: Watched, superuser: Callable[[str], None]) -> None:
    edit_body(superuser, 4)
    assert log.full() == "entry_changed"
    assert "entry_changed" in log.verified()


def test_an_edited_entry_whose_leaf_was_edited_too_is_found(log: Watched, superuser: Callable[[str], None]) -> None:
    edit_body(superuser, 4)
    superuser("UPDATE audit_leaf l SET leaf_hash = e.leaf_hash FROM audit_event e WHERE e.id = l.event_id")
    assert log.full() == "subtree_changed"
    assert "subtree_changed" in log.verified()


def test_a_whole_tree_that_was_rebuilt_over_an_edited_entry_is_not_the_signed_one(log: Watched, superuser: Callable[[str], None]) -> None:
    edit_body(superuser, 4)
    rebuild(superuser, log)
    assert log.quick() == log.full() == "root_not_signed"
    assert "root_not_signed" in log.verified()


@pytest.mark.parametrize(
    ("change", "columns"),
    [
        ("actor_id = gen_random_uuid()", ("actor_id",)),
        # The same digits, two thousand years and more before.
        ("ts = (to_char(ts AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00 BC')::timestamptz", ("ts",)),
        ("action = 'approval.withdraw', ts = ts - interval '1 year'", ("ts", "action")),
        ("organization_id = gen_random_uuid()", ("organization_id",)),
        ("object_id = 'another', after_digest = NULL", ("object_id", "after_digest")),
        ("event_id = gen_random_uuid()", ("event_id",)),
        ("outcome = 'denied', actor_type = 'system', object_type = 'user'", ("outcome", "actor_type", "object_type")),
    ],
)
def test_edited_search_columns_of_an_entry_are_named(
    log: Watched, superuser: Callable[[str], None], change: str, columns: tuple[str, ...]
) -> None:
    """No hash covers them, so every proof holds; what is looked up by them is not what happened."""
    with log.sessions() as session:
        assert list(changed_columns(session)) == []
    superuser(f"UPDATE audit_event e SET {change} FROM audit_leaf l WHERE l.event_id = e.id AND l.leaf_index = 4")
    assert log.full() is None
    with log.sessions() as session:
        (found,) = changed_columns(session)
    assert (found.leaf, found.columns) == (4, columns)


@pytest.mark.parametrize("body", [b"[]", b"null", b"\xff\xfe", b'{"actor": 1}'])
def test_bytes_that_cannot_be_read_hide_no_other_entry(log: Watched, superuser: Callable[[str], None], body: bytes) -> None:
    superuser(f"UPDATE audit_event e SET body = '\\x{body.hex()}' FROM audit_leaf l WHERE l.event_id = e.id AND l.leaf_index = 4")
    superuser("UPDATE audit_event e SET actor_id = 'x' FROM audit_leaf l WHERE l.event_id = e.id AND l.leaf_index = 6")
    with log.sessions() as session:
        assert [(one.leaf, one.columns) for one in changed_columns(session)] == [(4, ()), (6, ("actor_id",))]


@pytest.mark.parametrize("with_leaf", [False, True], ids=["event", "event_and_leaf"])
def test_a_deleted_entry_is_named(log: Watched, superuser: Callable[[str], None], *, with_leaf: bool) -> None:
    superuser("ALTER TABLE audit_payload DROP CONSTRAINT fk_audit_payload_event_id")
    superuser("DELETE FROM audit_event e USING audit_leaf l WHERE l.event_id = e.id AND l.leaf_index = 6")
    if with_leaf:
        superuser("DELETE FROM audit_leaf WHERE leaf_index = 6")
    assert log.full() == "entry_missing"
    assert "entry_missing" in log.verified()


def test_two_swapped_entries_are_found(log: Watched, superuser: Callable[[str], None]) -> None:
    pair = "(SELECT event_id, leaf_hash, 7 - leaf_index AS place FROM audit_leaf WHERE leaf_index IN (3, 4))"
    superuser(
        "ALTER TABLE audit_leaf DROP CONSTRAINT uq_audit_leaf_event_id; "
        f"UPDATE audit_leaf l SET event_id = p.event_id FROM {pair} p WHERE p.place = l.leaf_index"
    )
    assert log.full() == "entry_out_of_place"
    assert "entry_out_of_place" in log.verified()
    superuser("UPDATE audit_leaf l SET leaf_hash = e.leaf_hash FROM audit_event e WHERE e.id = l.event_id")
    assert log.full() == "subtree_changed"
    assert "subtree_changed" in log.verified()
    rebuild(superuser, log)
    assert log.quick() == "root_not_signed"


def test_a_truncated_log_is_shorter_than_what_was_signed(log: Watched, superuser: Callable[[str], None]) -> None:
    older = log.votes.export(log.folder / "older.zip")
    superuser(f"TRUNCATE {', '.join(TABLES)}")
    assert log.quick() == "entry_missing"
    superuser("UPDATE audit_head SET size = 0, frontier = ''")
    assert log.quick() == log.full() == "log_shortened"
    with pytest.raises(AuditNotSigned):
        log.verified()
    # The forger lets a new log grow, with a key of the log: a file with the last word of the old one must be gone for that.
    log.last_signed.path.unlink()
    log.grow(3)
    assert log.quick() == "log_shortened"
    assert "log_shortened" in log.verified(against=older)


def test_the_tail_that_was_cut_off_is_missed(log: Watched, superuser: Callable[[str], None]) -> None:
    superuser("DELETE FROM audit_leaf WHERE leaf_index >= 9")
    assert log.quick() == "entry_missing"
    assert log.full() == "log_shortened"
    assert "entry_missing" in log.verified()


@pytest.fixture
def yesterday(log: Watched, superuser: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Take a backup of the log now; what comes is its restore."""
    tables = (*TABLES, "audit_head")
    superuser("CREATE SCHEMA backup")
    for table in tables:
        superuser(f"CREATE TABLE backup.{table} AS TABLE {table}")

    def restore() -> None:
        superuser(f"TRUNCATE {', '.join(tables)}")
        for table in ("audit_event", *(one for one in tables if one != "audit_event")):
            superuser(f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM backup.{table}")

    yield restore
    superuser("DROP SCHEMA backup CASCADE")


@pytest.mark.parametrize("file_too", [False, True], ids=["rows", "rows_and_last_signed"])
def test_yesterdays_backup_is_shorter_than_what_was_anchored_and_never_fits_again(
    log: Watched, yesterday: Callable[[], None], *, file_too: bool
) -> None:
    older = log.last_signed.path.read_bytes()
    log.grow(5)
    log.anchor()
    newer = log.votes.export(log.folder / "newer.zip")
    yesterday()
    if file_too:
        log.last_signed.path.write_bytes(older)
    assert log.quick() == log.full() == "log_shortened"
    assert "log_shortened" in log.verified(against=newer)
    if file_too:
        # The signer knows no better, so the log grows past what was anchored: another tree.
        log.grow(8)
        assert log.quick() == log.full() == "root_not_signed"
        assert {"differs_from_older", "split_view"} & log.verified(against=newer)


def test_an_anchor_that_was_cut_off_half_way_does_not_hide_the_one_before(log: Watched, yesterday: Callable[[], None]) -> None:
    log.grow(2)
    log.anchor()
    torn = log.anchors.folder / f"{99:019}-{'0' * 16}.checkpoint"
    torn.write_bytes(b"ringi")
    assert [path.stat().st_mode & 0o777 for path in log.anchors.folder.iterdir() if path != torn] == [0o444, 0o444]
    log.last_signed.path.write_bytes(min(log.anchors.folder.iterdir()).read_bytes())
    yesterday()
    assert log.quick() == "log_shortened"


@pytest.mark.proof
def test_how_long_a_comparison_of_a_large_log_takes(
    urls: DatabaseUrls, sessions: sessionmaker[Session], signer: Signer, last_signed: CheckpointFile
) -> None:
    count = int(os.environ.get("RINGI_AUDIT_ENTRIES", "200000"))
    filled = (
        "WITH made AS (SELECT convert_to(repeat('x', 700) || number, 'UTF8') AS body FROM generate_series(1, :count) number), "
        "kept AS (INSERT INTO audit_event (event_id, body, leaf_hash, ts, action, outcome, actor_type, actor_id, object_type, object_id) "
        "SELECT gen_random_uuid(), body, sha256('\\x00'::bytea || body), now(), 'upload.store', 'ok', 'system', 'x', 'upload', 'x' FROM made "
        "RETURNING id) INSERT INTO audit_pending SELECT id FROM kept"
    )
    with sessions.begin() as session:
        session.execute(text(filled), {"count": count})
    taken = 1
    while taken:
        with sessions.begin() as session:
            taken = sequence_once(session)
    with sessions.begin() as session:
        signed = sign_head(session, signer, last_signed)
    assert signed is not None
    for look in (compare, replay):
        with sessions() as session:
            begun = time.monotonic()
            assert look(session, [Known(signed, "here")]) is None
            print(f"{look.__name__} of {count} entries: {time.monotonic() - begun:.3f} s")


def test_the_guards_name_every_table_of_the_log() -> None:
    assert set(TABLES) >= set(APPEND_ONLY_TABLES)


class Rows:
    """The state rows of the shared platform, as a superuser edits them."""

    def __init__(self, ground: Ground) -> None:
        self.urls = ground.platform.processes.urls

    def findings(self) -> set[tuple[str, str]]:
        engine = create_engine(self.urls.app_url, connect_args={"options": "-c timezone=UTC"})
        try:
            with Session(engine) as session:
                found = list(compare_records(session, everyones_records(session), RECORD_TYPES))
        finally:
            engine.dispose()
        return {(one.code, one.message.split(" of ")[1].split(" is")[0].split(" has")[0].split(",")[0]) for one in found}

    def run(self, statement: str) -> None:
        with psycopg.connect(self.urls.superuser_url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute(statement.encode())


def test_edited_votes_and_grants_are_named_by_their_rows(ground: Ground) -> None:
    platform, rows = ground.platform, Rows(ground)
    request = approved(platform, "v1", environment=environment_name())
    vote = request.votes[0].id
    before = rows.findings()
    rows.run(f"UPDATE approval_votes SET decision = 'reject' WHERE id = '{vote}'")
    assert rows.findings() - before == {("record_changed", f"approval_vote {vote}")}
    rows.run(f"UPDATE approval_votes SET decision = 'approve' WHERE id = '{vote}'")
    with psycopg.connect(rows.urls.superuser_url.replace("+psycopg", "")) as connection:
        (grant,) = connection.execute("SELECT id FROM approval_grants WHERE request_id = %s", [request.id]).fetchone() or (None,)
    rows.run(f"UPDATE approval_grants SET expires_at = expires_at + interval '1 year' WHERE id = '{grant}'")
    assert rows.findings() - before == {("record_changed", f"approval_grant {grant}")}
    rows.run(f"UPDATE approval_grants SET expires_at = expires_at - interval '1 year' WHERE id = '{grant}'")
    rows.run(f"CREATE TABLE kept AS SELECT * FROM approval_votes WHERE id = '{vote}'; DELETE FROM approval_votes WHERE id = '{vote}'")
    assert rows.findings() - before == {("record_missing", f"approval_vote {vote}")}
    rows.run("INSERT INTO approval_votes SELECT * FROM kept; DROP TABLE kept")
    assert rows.findings() == before
