"""An export for one organisation: it holds no byte of another's entries, proves the whole log, and nobody can move the line between them."""

import json
import random
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy.orm import Session, sessionmaker

from audit.votes import Votes
from ringi.audit import service
from ringi.audit.container import BundleWriter
from ringi.audit.note import Signer
from ringi.audit.ringi_verify import MEMBERS, VerifyReport, verify_bundle
from ringi.audit.schemas import AuditAction
from ringi.kit.actor import Actor, system_actor
from ringi.kit.digests import canonical_json

MARKER = "channel-of-the-others"
# Of twelve entries; entry 5 belongs to no organisation, the rest to another one.
OWN = [0, 3, 4, 8, 11]
WITHHELD = [[1, 2], [5, 7], [9, 10]]


@dataclass
class Shared:
    """A log of two organisations, seen by the one whose `votes` these are."""

    votes: Votes
    others: Votes
    organization: UUID
    vkey: str
    ids: list[str]

    def own(self, path: Path) -> Path:
        return self.votes.export(path, organization_id=self.organization)

    def whole(self, path: Path) -> Path:
        own = self.votes.rows
        self.votes.rows = own | self.others.rows
        self.votes.export(path)
        self.votes.rows = own
        return path

    def verify(self, path: Path, *, against: Path | None = None) -> VerifyReport:
        return verify_bundle(path, self.vkey, against=against)


@pytest.fixture
def shared(sessions: sessionmaker[Session], actor: Actor, votes: Votes, seal: Callable[[], None], signer: Signer) -> Shared:
    assert actor.organization_id is not None
    stranger = replace(actor, id=uuid4(), organization_id=uuid4())
    others = Votes(sessions, stranger)
    ids = []
    for index in range(12):
        if index in OWN:
            ids.append(votes.cast())
        elif index % 2:
            with sessions.begin() as session:
                writer = system_actor("setup") if index == 5 else stranger
                service.record(
                    session, writer, AuditAction.CHANNEL_CREATE, object_type="channel", object_id=MARKER, record={"name": MARKER}
                )
        else:
            others.cast()
    seal()
    return Shared(votes, others, actor.organization_id, str(signer.verifier), ids)


def forged(source: Path, path: Path, **changed: bytes) -> Path:
    """The bundle with other members, named without their suffix, in a well-formed container."""
    with zipfile.ZipFile(source) as archive, path.open("wb") as out:
        writer = BundleWriter(out)
        for name in MEMBERS:
            with writer.member(name) as stream:
                stream.write(changed.get(name.partition(".")[0], archive.read(name)))
        writer.finish()
    return path


def member(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def described(path: Path, **changed: object) -> bytes:
    return canonical_json(json.loads(member(path, "bundle.json")) | changed)


def entries_of(path: Path) -> list[bytes]:
    data, entries = member(path, "entries.bin"), []
    while data:
        end = 2 + int.from_bytes(data[:2], "big")
        entries.append(data[2:end])
        data = data[end:]
    return entries


def framed(entries: Iterable[bytes]) -> bytes:
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def found(report: VerifyReport) -> set[tuple[str, int | None]]:
    return {(problem.code, problem.index) for problem in report.problems}


def test_an_organisations_export_verifies_to_the_root_of_the_whole_log_without_a_byte_of_others(tmp_path: Path, shared: Shared) -> None:
    whole, own = shared.whole(tmp_path / "whole.zip"), shared.own(tmp_path / "own.zip")
    report, all_of_it = shared.verify(own), shared.verify(whole)
    assert (report.problems, all_of_it.problems) == ([], [])
    assert (report.size, report.withheld, report.records, report.not_included) == (12, 7, len(OWN), {})
    assert (all_of_it.size, all_of_it.withheld, all_of_it.root) == (12, 0, report.root)
    assert json.loads(member(own, "bundle.json"))["withheld"] == WITHHELD
    foreign = [entry for index, entry in enumerate(entries_of(whole)) if index not in OWN]
    secret = [MARKER.encode(), *(vote.encode() for vote in shared.others.rows), *(json.loads(entry)["id"].encode() for entry in foreign)]
    assert len(secret) == 1 + 3 + 7
    assert all(text in whole.read_bytes() for text in [*foreign, *secret])
    assert not any(text in own.read_bytes() for text in [*foreign, *secret])


def test_an_undeclared_hole_and_a_declared_entry_that_is_there_are_named(tmp_path: Path, shared: Shared) -> None:
    own, path = shared.own(tmp_path / "own.zip"), tmp_path / "forged.zip"
    entries = entries_of(own)
    holed = forged(own, path, entries=framed([*entries[:4], b"", *entries[5:]]))
    assert ("entry_missing", 4) in found(shared.verify(holed))
    foreign = entries_of(shared.whole(tmp_path / "whole.zip"))[6]
    leaking = forged(own, path, entries=framed([*entries[:6], foreign, *entries[7:]]))
    assert ("entry_not_withheld", 6) in found(shared.verify(leaking))
    fewer = forged(own, path, bundle=described(own, withheld=[[1, 2], [5, 6], [9, 10]]))
    assert found(shared.verify(fewer)) == {("entry_missing", 7)}
    more = forged(own, path, bundle=described(own, withheld=[[1, 2], [4, 7], [9, 10]]))
    assert found(shared.verify(more)) == {("entry_not_withheld", 4)}


def test_a_whole_export_withholds_nothing_and_an_organisations_shows_nobody_elses(tmp_path: Path, shared: Shared) -> None:
    own, path = shared.own(tmp_path / "own.zip"), tmp_path / "forged.zip"
    assert found(shared.verify(forged(own, path, bundle=described(own, organization=None)))) == {("description_wrong", 1)}
    renamed = forged(own, path, bundle=described(own, organization=str(uuid4())))
    assert found(shared.verify(renamed)) == {("entry_of_other_organization", index) for index in OWN}
    whole = shared.whole(tmp_path / "whole.zip")
    leaking = forged(whole, path, bundle=described(whole, organization=str(shared.organization)))
    assert found(shared.verify(leaking)) == {("entry_of_other_organization", index) for index in range(12) if index not in OWN}


@pytest.mark.parametrize(
    "ranges",
    [
        [[5, 7], [1, 2], [9, 10]],
        [[1, 1], [2, 2], [5, 7], [9, 10]],
        [[1, 2], [2, 2], [5, 7], [9, 10]],
        [[1, 2], [5, 7], [10, 9]],
        [[1, 2], [5, 7], [9, 12]],
        [[-1, 2], [5, 7], [9, 10]],
        [[True, 2], [5, 7], [9, 10]],
        [[1, 2, 2], [5, 7], [9, 10]],
        [1, 2, 5, 6, 7, 9, 10],
        {"1": 2},
        None,
    ],
)
def test_the_withheld_ranges_have_one_spelling(tmp_path: Path, shared: Shared, ranges: object) -> None:
    own = shared.own(tmp_path / "own.zip")
    report = shared.verify(forged(own, tmp_path / "forged.zip", bundle=described(own, withheld=ranges)))
    assert found(report) == {("audit_bundle_invalid", None)}


def test_no_changed_byte_of_the_description_or_of_a_stored_hash_is_accepted(tmp_path: Path, shared: Shared, seed: int) -> None:
    choose = random.Random(seed)  # test data, not a secret
    own = shared.own(tmp_path / "own.zip")
    for name in ("bundle.json", "leaves.bin", "nodes.bin"):
        data = member(own, name)
        for at in range(len(data)):
            changed = data[:at] + bytes([data[at] ^ choose.randrange(1, 256)]) + data[at + 1 :]
            report = shared.verify(forged(own, tmp_path / "forged.zip", **{name.partition(".")[0]: changed}))
            assert not report.ok, (name, at, changed[at])


def test_an_edited_own_entry_and_a_lost_entry_of_anybody_are_still_named(
    tmp_path: Path, shared: Shared, superuser: Callable[[str], None]
) -> None:
    forgery = "convert_to(replace(convert_from(body, 'UTF8'), '\"ok\"', '\"no\"'), 'UTF8')"
    event = "id = (SELECT event_id FROM audit_leaf WHERE leaf_index = {})"
    superuser(f"UPDATE audit_event SET body = {forgery}, leaf_hash = sha256('\\x00'::bytea || {forgery}) WHERE {event.format(4)}")
    report = shared.verify(shared.own(tmp_path / "edited.zip"))
    assert [(problem.code, problem.object) for problem in report.problems] == [("entry_changed", f"approval_vote {shared.ids[2]}")]
    # Whose a deleted event was cannot be known, so it is not excused as another's.
    superuser(f"DELETE FROM audit_event WHERE {event.format(6)}")
    assert ("entry_missing", 6) in found(shared.verify(shared.own(tmp_path / "lost.zip")))


def test_an_own_entry_passed_off_as_anothers_shows_by_its_record_and_against_an_older_export(
    tmp_path: Path, shared: Shared, superuser: Callable[[str], None]
) -> None:
    older, whole = shared.own(tmp_path / "older.zip"), shared.whole(tmp_path / "whole.zip")
    assert shared.verify(older, against=older).ok
    assert shared.verify(older, against=whole).ok
    superuser(
        "UPDATE audit_event SET organization_id = gen_random_uuid() WHERE id = (SELECT event_id FROM audit_leaf WHERE leaf_index = 4)"
    )
    assert {problem.code for problem in shared.verify(shared.own(tmp_path / "hidden.zip")).problems} == {"record_without_entry"}
    del shared.votes.rows[shared.ids[2]]
    hidden = shared.own(tmp_path / "hidden.zip")
    assert (shared.verify(hidden).ok, shared.verify(hidden).withheld) == (True, 8)
    assert found(shared.verify(hidden, against=older)) == {("own_entry_withheld", 4)}
    assert found(shared.verify(hidden, against=whole)) == {("own_entry_withheld", 4)}


def test_a_withheld_entry_with_another_hash_than_in_an_older_export_is_named(
    tmp_path: Path, shared: Shared, superuser: Callable[[str], None]
) -> None:
    older = shared.own(tmp_path / "older.zip")
    superuser("UPDATE audit_leaf SET leaf_hash = sha256('x') WHERE leaf_index = 6")
    report = shared.verify(shared.own(tmp_path / "newer.zip"), against=older)
    assert ("differs_from_older", 6) in found(report)
    assert ("subtree_changed", 6) in found(report)
