"""The log's key is replaced so that, wherever it is cut off, no key signs of which the log does not know, and the same command ends it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.test_anchoring import ORIGIN, Anchored
from ringi.audit.note import Signer
from ringi.audit.operating import being_added, finish_rotation, rotate_key
from ringi.audit.sequence import sequence_once
from ringi.audit.signing import CheckpointFile, load_signers, sign_head, store_signers
from ringi.db.session import get_engine, get_sessionmaker
from ringi.settings import get_settings


class Rotation:
    """A log that is signed here, and its operator."""

    def __init__(self, one: Anchored) -> None:
        self.one = one
        self.path = one.folder / "keys" / "audit.key"
        self.aside = being_added(self.path)
        one.sequencer.environment.pop("RINGI_WITNESSES")

    def seal(self) -> None:
        """What the sequencer does, here: all keys of the file sign."""
        with self.one.sessions.begin() as session:
            sequence_once(session)
        newest, *older = load_signers(self.path, ORIGIN)
        with self.one.sessions.begin() as session:
            sign_head(session, newest, CheckpointFile(self.one.folder / "checkpoints"), also=older)

    def keys(self) -> list[str]:
        return [one.verifier.id.hex() for one in load_signers(self.path, ORIGIN)]

    def told(self) -> list[tuple[str, str, int | None]]:
        """What the log says of its keys, oldest first."""
        query = "SELECT json_agg(convert_from(body, 'UTF8')::json ORDER BY id) FROM audit_event WHERE action LIKE 'log.key.%'"
        found = self.one.scalar(query) or []
        assert isinstance(found, list)
        return [(one["action"], one["details"]["key_id"], one["details"].get("last_size")) for one in found]

    def run(self, *, finish: bool = False) -> list[str]:
        done = finish_rotation(get_settings()) if finish else rotate_key(get_settings())
        found: list[str] = done["trust"]
        return found

    def refused(self, *arguments: str) -> str:
        """The code of the one document that the operator's program refuses with."""
        done = self.one.operate("rotate-key", *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        return str(json.loads(line)["code"])

    def fails_at_its_commit(self, *arguments: str) -> str:
        self.one.superuser(
            "CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'このコミットは通らない'; END $$",
            "CREATE CONSTRAINT TRIGGER never AFTER INSERT ON audit_event DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION never()",
            "ALTER TABLE audit_event ENABLE ALWAYS TRIGGER never",
        )
        code = self.refused(*arguments)
        self.one.superuser("DROP TRIGGER never ON audit_event", "DROP FUNCTION never")
        return code


@pytest.fixture
def rotation(anchored: Anchored, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rotation]:
    """This process is where the key lies."""
    caches = (get_settings, get_engine, get_sessionmaker)
    for name, value in {"DATABASE_URL": anchored.urls.app_url, "DATA_DIR": str(anchored.folder)}.items():
        monkeypatch.setenv(f"RINGI_{name}", value)
    for cached in caches:
        cached.cache_clear()
    made = Rotation(anchored)
    anchored.votes.cast("賛成")
    made.seal()
    yield made
    get_engine().dispose()
    for cached in caches:
        cached.cache_clear()


def of(line: str) -> str:
    """The id of a trust file's key."""
    return line.split("+")[1]


def test_a_key_whose_entry_was_not_committed_signs_nothing_and_the_same_command_adds_it(rotation: Rotation) -> None:
    (old,) = rotation.keys()
    assert rotation.fails_at_its_commit() == "database_refused"
    assert (rotation.keys(), rotation.told()) == ([old], [])
    drawn = Signer.parse(rotation.aside.read_text().strip()).verifier.id.hex()
    assert rotation.aside.stat().st_mode & 0o777 == 0o600
    lines = rotation.run()
    assert [of(line) for line in lines] == [old, drawn]
    assert (rotation.keys(), rotation.told()) == ([drawn, old], [("log.key.added", drawn, None)])
    assert not rotation.aside.exists()
    assert rotation.refused() == "audit_key_rotation"


@pytest.mark.parametrize("replaced", [False, True], ids=["before_the_file", "behind_the_file"])
def test_an_addition_that_was_cut_off_behind_its_entry_is_ended_with_the_same_key_and_told_once(
    rotation: Rotation, *, replaced: bool
) -> None:
    before = rotation.path.read_bytes()
    lines = rotation.run()
    # As it lies there when the machine stops: the entry is committed, the new key still beside the file.
    new, old = load_signers(rotation.path, ORIGIN)
    store_signers(rotation.aside, [new])
    if not replaced:
        rotation.path.write_bytes(before)
    assert rotation.run() == lines
    assert rotation.keys() == [new.verifier.id.hex(), old.verifier.id.hex()]
    assert len(rotation.told()) == 1
    assert not rotation.aside.exists()


def test_a_retirement_that_was_not_committed_retires_nothing_and_the_same_command_does(rotation: Rotation) -> None:
    (old,) = rotation.keys()
    rotation.run()
    rotation.seal()
    both = rotation.keys()
    assert rotation.fails_at_its_commit("--finish") == "database_refused"
    assert (rotation.keys(), len(rotation.told())) == (both, 1)
    lines = rotation.run(finish=True)
    assert (of(lines[0]), lines[1], of(lines[2])) == (old, "#sizes 0-2", both[0])
    assert (rotation.keys(), rotation.told()[1:]) == (both[:1], [("log.key.retired", old, 2)])


def test_a_retirement_that_was_cut_off_behind_its_entry_is_ended_and_tells_how_far_the_old_key_signed(rotation: Rotation) -> None:
    (old,) = rotation.keys()
    rotation.run()
    rotation.seal()
    both = rotation.path.read_bytes()
    rotation.run(finish=True)
    new = rotation.keys()
    rotation.path.write_bytes(both)
    # Nothing was signed since: the same words once more.
    assert rotation.run(finish=True)[1] == "#sizes 0-2"
    assert rotation.told()[1:] == [("log.key.retired", old, 2)]
    rotation.path.write_bytes(both)
    # Both signed on until the command came again: the newest entry has the size that counts.
    rotation.seal()
    lines = rotation.run(finish=True)
    assert (lines[1], rotation.keys()) == ("#sizes 0-3", new)
    assert rotation.told()[1:] == [("log.key.retired", old, 2), ("log.key.retired", old, 3)]
    # And the next replacement draws a key of its own.
    rotation.seal()
    assert of(rotation.run()[1]) not in {old, *new}
    assert Path(rotation.path).stat().st_mode & 0o777 == 0o600
