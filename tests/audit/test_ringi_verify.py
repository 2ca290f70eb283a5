"""ringi-verify as an auditor runs it: one copied file in an empty folder, an export, a trust file, an exit code, and lines that name the entry."""

import ast
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from audit.test_bundle import join_entries, members_of, rebuild, split_entries
from audit.votes import Votes
from ringi.audit import ringi_verify
from ringi.audit.merkle import inclusion_proof
from ringi.audit.note import Signer, cosign, sign_checkpoint
from ringi.audit.reading import proof_file
from ringi.audit.ringi_verify import COSIGNATURE, Checkpoint, Frontier, SampleRule, draw, leaf_hash, root_of, verify_bundle
from ringi.audit.tiles import write_proof
from ringi.kit.actor import Actor

AT = 1_763_820_000


class Desk:
    """An auditor's folder: the copied program, a bundle of twelve votes and a trust file."""

    def __init__(self, folder: Path, bundle: Path, signer: Signer) -> None:
        self.folder, self.bundle, self.signer = folder, bundle, signer
        shutil.copy(ringi_verify.__file__, folder / "verifier.py")
        self.trust("quorum none")

    def trust(self, *lines: str) -> None:
        (self.folder / "trust").write_text("\n".join([f"log {self.signer.verifier}", *lines, ""]), encoding="utf-8")

    def run(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-I", "verifier.py", *map(str, arguments), "--trust", "trust"]
        return subprocess.run(
            command, cwd=self.folder, env={"PATH": "", "PYTHONUTF8": "1"}, capture_output=True, text=True, timeout=60, check=False
        )

    def forged(self, **changed: bytes) -> Path:
        members = members_of(self.bundle)
        return rebuild(self.folder / "forged.zip", {name: changed.get(name.partition(".")[0], data) for name, data in members.items()})


@pytest.fixture
def desk(tmp_path: Path, votes: Votes, seal: Callable[[], None], signer: Signer) -> Desk:
    for _ in range(12):
        votes.cast()
    seal()
    return Desk(tmp_path, votes.export(tmp_path / "bundle.zip"), signer)


def test_it_needs_the_standard_library_and_cryptography_alone() -> None:
    tree = ast.parse(Path(ringi_verify.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} - sys.stdlib_module_names == {"cryptography"}


def test_a_whole_export_is_verified_by_the_copied_file(desk: Desk) -> None:
    done = desk.run("bundle.zip")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("VERIFIED: every byte was checked; 12 records")
    said = json.loads(desk.run("bundle.zip", "--json").stdout)
    assert (said["ok"], said["size"], said["signers"], said["problems"]) == (True, 12, [str(desk.signer.verifier)], [])


def test_what_was_done_to_a_bundle_is_named_with_a_stable_code_and_the_entry(desk: Desk) -> None:
    members = members_of(desk.bundle)
    entries, note = split_entries(members["entries.bin"]), members["checkpoint"].decode()
    record = members["records.jsonl"].split(b"\n")[0]
    repeated = members["records.jsonl"].replace(record, record.replace(b'"type":', b'"type":"approval_vote","type":', 1))
    cases: list[tuple[dict[str, bytes], str]] = [
        ({"entries": join_entries([*entries[:5], entries[5].replace(b'"ok"', b'"no"'), *entries[6:]])}, "entry 5: entry_changed"),
        ({"entries": join_entries([*entries[:2], entries[3], entries[2], *entries[4:]])}, "entry 2: entry_out_of_place"),
        ({"entries": join_entries([*entries[:7], *entries[8:]])}, "entry 7: entry_out_of_place"),
        ({"entries": join_entries([*entries[:3], entries[2], *entries[4:]])}, "entry 3: entry_out_of_place"),
        ({"entries": join_entries([*entries, entries[0]])}, "the bundle: audit_bundle_invalid"),
        ({"entries": join_entries(entries[:-1])}, "entry 11: entry_missing"),
        ({"entries": members["entries.bin"][:-1]}, "the bundle: audit_bundle_invalid"),
        ({"checkpoint": note.replace("\n", "\r\n").encode()}, "the bundle: audit_note_invalid"),
        ({"checkpoint": note.replace("\u2014", "-").encode()}, "the bundle: audit_note_invalid"),
        ({"bundle": members["bundle.json"].replace(b'"size":12', b'"size":12,"size":12')}, "the bundle: audit_bundle_invalid"),
        ({"records": repeated}, "the bundle: audit_bundle_invalid"),
    ]
    for changed, said in cases:
        desk.forged(**changed)
        done = desk.run("forged.zip")
        assert (done.returncode, said in done.stdout, "NOT VERIFIED" in done.stdout) == (1, True, True), (said, done.stdout, done.stderr)


def test_duplicate_keys_in_an_entry_that_the_log_itself_signed_are_refused(desk: Desk) -> None:
    """The operator holds the key and can sign anything; two readings of one event are refused all the same."""
    members = members_of(desk.bundle)
    entries = split_entries(members["entries.bin"])
    entries[4] = entries[4].replace(b'"outcome":"ok"', b'"outcome":"ok","outcome":"ok"')
    leaves = [leaf_hash(entry) for entry in entries]
    frontier = Frontier()
    nodes = b"".join(node.hash for leaf in leaves for node in frontier.append(leaf))
    note = sign_checkpoint(Checkpoint(desk.signer.name, len(leaves), root_of(leaves)), desk.signer)
    desk.forged(entries=join_entries(entries), leaves=b"".join(leaves), nodes=nodes, checkpoint=note)
    done = desk.run("forged.zip")
    assert (done.returncode, "entry 4: entry_malformed" in done.stdout) == (1, True), done.stdout


def test_a_split_view_shows_against_the_checkpoint_that_an_auditor_kept(desk: Desk) -> None:
    members = members_of(desk.bundle)
    leaves = [members["leaves.bin"][at : at + 32] for at in range(0, 12 * 32, 32)]
    kept, other = desk.folder / "kept", [*leaves[:3], leaf_hash(b"another history"), *leaves[4:8]]
    for view, code, said in ((leaves[:8], 0, "VERIFIED"), (other, 1, "the bundle: split_view")):
        kept.write_bytes(sign_checkpoint(Checkpoint(desk.signer.name, 8, root_of(view)), desk.signer))
        done = desk.run("bundle.zip", "--against", "kept")
        assert (done.returncode, said in done.stdout) == (code, True), done.stdout
    kept.write_bytes(sign_checkpoint(Checkpoint(desk.signer.name, 13, bytes(32)), desk.signer))
    assert "entry 12: log_shortened" in desk.run("bundle.zip", "--against", "kept").stdout
    kept.write_bytes(kept.read_bytes().replace(b"\n13\n", b"\n12\n"))
    assert "older_checkpoint_invalid" in desk.run("bundle.zip", "--against", "kept").stdout


def test_a_quorum_of_witnesses_is_asked_for(desk: Desk) -> None:
    witnesses = [Signer.generate(f"witness.example/{number}", kind=COSIGNATURE) for number in range(3)]
    lines = [f"witness W{number} {one.verifier}" for number, one in enumerate(witnesses)]
    desk.trust(*lines, "group two 2 W0 W1 W2", "quorum two")
    note = members_of(desk.bundle)["checkpoint"]
    for seen, code in (([0], 1), ([0, 2], 0)):
        desk.forged(checkpoint=note + b"".join(cosign(note, witnesses[number], at=AT) for number in seen))
        done = desk.run("forged.zip")
        assert (done.returncode, "audit_quorum_missing" in done.stdout) == (code, bool(code)), done.stdout


def test_one_entry_is_proven_by_its_file_and_by_no_other(desk: Desk, sessions: sessionmaker[Session], actor: Actor, votes: Votes) -> None:
    with sessions() as session:
        event = json.loads(split_entries(members_of(desk.bundle)["entries.bin"])[9])["id"]
        whole = proof_file(session, event, actor.organization_id)
    proof = desk.folder / "one.tlog-proof"
    proof.write_bytes(whole)
    done = desk.run("--proof", "one.tlog-proof")
    assert (done.returncode, "VERIFIED: entry 9 of 12" in done.stdout) == (0, True), done.stdout
    # A moved index, another log's note, a cut path, an entry beside it.
    for forged in (
        whole.replace(b"index 9", b"index 8"),
        whole.replace(b"\n12\n", b"\n13\n"),
        whole.replace(b"=\n\n", b"=\n\n\n", 1),
        whole[:-10],
    ):
        proof.write_bytes(forged)
        done = desk.run("--proof", "one.tlog-proof")
        assert (done.returncode, "audit_" in done.stdout) == (1, True), done.stdout
    proof.write_bytes(whole)
    (desk.folder / "entry").write_bytes(b"something else")
    assert "audit_proof_invalid" in desk.run("--proof", "one.tlog-proof", "--entry", "entry").stdout


def test_no_changed_byte_of_a_proof_is_accepted(desk: Desk, seed: int) -> None:
    choose, members = random.Random(seed), members_of(desk.bundle)  # test data, not a secret
    entry, leaves = split_entries(members["entries.bin"])[5], members["leaves.bin"]
    stored = {(0, at): leaves[32 * at : 32 * at + 32] for at in range(12)}
    frontier = Frontier()
    for at in range(12):
        stored |= {(node.level, node.place): node.hash for node in frontier.append(stored[0, at])}
    path = inclusion_proof(5, 12, lambda level, place: stored[level, place])
    whole, vkey = write_proof(5, path, members["checkpoint"], extra=entry), str(desk.signer.verifier)
    assert ringi_verify.verify_proof(whole, vkey).leaf == 5
    for at in range(len(whole)):
        forged = whole[:at] + bytes([whole[at] ^ choose.randrange(1, 256)]) + whole[at + 1 :]
        with pytest.raises(ringi_verify.Refused):
            ringi_verify.verify_proof(forged, vkey)


def test_a_sample_is_drawn_again_from_the_bundle(desk: Desk) -> None:
    done = desk.run("bundle.zip", "--sample", 4, "--seed", "種", "--action", "approval.vote")
    report = verify_bundle(desk.bundle, str(desk.signer.verifier), rule=SampleRule("種", 4, "approval.vote"))
    assert report.sample is not None
    assert report.sample == draw("種", bytes.fromhex(str(report.root)), range(12), 4)
    assert f"4 of 12, leaves 0 to 11: {' '.join(map(str, report.sample.leaves))}" in done.stdout
    assert "0 of 0" in desk.run("bundle.zip", "--sample", 4, "--action", "token.issue").stdout
    assert "0 of 0" in desk.run("bundle.zip", "--sample", 4, "--to", "2020-01-01T00:00:00.000000Z").stdout


def test_wrong_usage_and_an_unusable_trust_file_have_an_exit_code_of_their_own(desk: Desk) -> None:
    for arguments in ((), ("none.zip",), ("bundle.zip", "--proof", "bundle.zip"), ("bundle.zip", "--sample", 3, "--from", "yesterday")):
        assert desk.run(*arguments).returncode == 2, arguments
    desk.trust("quorum nobody")
    done = desk.run("bundle.zip")
    assert (done.returncode, "trust file is unusable" in done.stderr) == (2, True)
