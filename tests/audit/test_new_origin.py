"""A log that lost entries ends where the database still holds it, and another one follows it, approved by two administrators."""

import json
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from audit.new_origin import FIRST, NEXT, REASON, Lost, codes
from ringi.audit.generations import AuditOriginDiffers, logs
from ringi.audit.published import newest_signed
from ringi.audit.reading import proof_file
from ringi.audit.ringi_verify import parse_policy, verify_proof
from ringi.identity.schemas import Role
from support.waiting import until


def opened_by_hand(lost: Lost) -> dict[str, object]:
    """As people type it: the statement, two approvals, the opening."""
    done = lost.run("propose-origin", str(lost.statement), "--reason", REASON)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    lost.trust_in(said["old_key"], said["last_size"], said["new_key"])
    words = []
    for name, key in lost.keys.items():
        words += ["--approve", str(lost.folder / name)]
        approved = lost.run("approve-origin", str(lost.statement), "--key", str(key), "--save", str(lost.folder / name))
        assert approved.returncode == 0, approved.stderr
    done = lost.run("open-origin", str(lost.statement), *words, "--trust", str(lost.trust))
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def ask_the_witness(lost: Lost) -> None:
    """From the sequencer's next start on; the witness must be told of the new log."""
    one = lost.anchored
    keys = [line for line in lost.trust.read_text().splitlines() if line.startswith("log ")]
    one.witness.know(*(key.removeprefix("log ") for key in keys))
    one.witness.start()
    one.policy.write_text("\n".join([*keys, f"witness 監査 {one.witness.vkey} {one.witness.url}", "quorum 監査", ""]))
    one.sequencer.environment["RINGI_WITNESSES"] = str(one.policy)


def test_after_a_restore_two_administrators_open_the_next_log_and_both_logs_verify(lost: Lost) -> None:
    one = lost.anchored
    lost.lose_under_a_running_sequencer()
    until(lambda: one.scalar("SELECT count(*) FROM audit_pending") == 0)
    one.sequencer.kill()
    # The stop, and the revocation: neither was ever signed.
    unsigned = one.size() - lost.kept
    assert unsigned >= 2
    opened = opened_by_hand(lost)
    said = json.loads(lost.statement.read_text().splitlines()[1])
    assert (said["held_size"], said["last_size"], said["lost"]) == (lost.kept, lost.signed, 2)
    assert (opened["carried"], opened["origin"]) == (unsigned, NEXT)
    assert one.stopped() is None
    # Processes with the old name write nothing and sign nothing.
    with pytest.raises(AuditOriginDiffers):
        one.votes.cast("賛成")
    one.votes.rows.popitem()
    lost.rename(NEXT)
    ask_the_witness(lost)
    one.sequencer.start()
    changed = next(iter(one.votes.rows))
    one.votes.cast("反対", vote=changed)
    one.votes.cast("賛成")
    until(one.sealed)
    until(lambda: one.scalar(f"SELECT count(*) FROM audit_cosignature WHERE origin = '{NEXT}'") != 0)
    until(lambda: any((one.anchors / NEXT.replace("/", "_")).glob("*.checkpoint")))
    new = lost.export("new")
    report = lost.verify(new)
    assert report.ok, report.problems
    assert (report.origin, report.size, report.records) == (NEXT, 3 + unsigned, 2)
    assert report.opened is not None
    assert (report.opened.lost, report.opened.carried, report.opened.reason) == (2, unsigned, REASON)
    assert len(report.opened.administrators) == 2
    # Each row is proven by the log that its last change stands in.
    ended = lost.export("ended", origin=FIRST)
    before = lost.verify(ended)
    assert before.ok, before.problems
    assert (before.origin, before.size, before.records, before.unsealed) == (FIRST, lost.kept, 2, 1)
    assert lost.verify(new, against=ended).ok
    # An export from before the loss agrees too: nothing more was lost than leaf 0 says.
    assert lost.verify(new, against=lost.before).ok
    old_event = lost.event_of(1, "leaf_index = 0")
    assert lost.event_of(2, f"object_id = '{lost.revoked}'")
    with one.sessions() as session:
        assert [found.origin for found in logs(session)] == [FIRST, NEXT]
        assert newest_signed(session, 1).checkpoint.size == lost.kept
        proven = verify_proof(proof_file(session, old_event, one.actor.organization_id), parse_policy(lost.trust.read_bytes()))
        assert proven.trusted.checkpoint.origin == FIRST
    with pytest.raises(DBAPIError, match="closed"), one.sessions.begin() as session:
        session.execute(text("INSERT INTO audit_node (level, idx, hash, generation) VALUES (9, 9, sha256('x'), 1)"))


def test_what_is_not_approved_as_it_must_be_opens_nothing(lost: Lost) -> None:
    lost.lose()
    assert lost.propose() == ""
    kenji, yuki = lost.approvals()
    assert lost.refused(kenji) == "audit_approvals_missing"
    assert lost.refused(kenji, kenji) == "audit_approvals_missing"
    stranger = lost.administrator("stranger", Role.VIEWER)
    approval = lost.approval("stranger", key=stranger)
    assert lost.refused(kenji, approval) == "audit_approval_invalid"
    trusted = lost.trust.read_text()
    lost.trust.write_text(f"#admin {lost.vkey(stranger)}\n{trusted}")
    assert lost.refused(kenji, approval) == "audit_not_administrator"
    statement = lost.statement.read_text()
    lost.statement.write_text(statement.replace(REASON, "別の理由"))
    assert lost.refused(kenji, yuki) == "audit_approval_invalid"
    lost.statement.write_text(statement)
    assert lost.refused(kenji.decode().replace(REASON, "別の理由").encode(), yuki) == "audit_approval_invalid"


def test_a_statement_is_for_one_state_of_the_database_and_for_one_time(lost: Lost) -> None:
    one = lost.anchored
    lost.lose()
    assert lost.propose() == ""
    statement = lost.statement.read_text()
    # Approved by both, and about another database.
    lost.statement.write_text(
        statement.replace(f'"held_size":{lost.kept}', '"held_size":2').replace('"lost":2', f'"lost":{lost.signed - 2}')
    )
    assert lost.refused(*lost.approvals()) == "audit_statement_outdated"
    lost.statement.write_text(statement)
    approvals = lost.approvals()
    one.superuser("UPDATE audit_stop SET ended_at = now()")
    assert lost.refused(*approvals) == "audit_not_stopped"
    one.superuser("UPDATE audit_stop SET ended_at = NULL")
    assert lost.open(approvals) is not None
    assert lost.refused(*approvals) == "audit_origin_opened"


def test_an_auditor_who_knows_no_administrators_believes_no_opening_and_an_organisation_sees_it_too(lost: Lost) -> None:
    one = lost.anchored
    lost.lose()
    lost.succeed(NEXT)
    one.votes.cast("賛成")
    lost.seal()
    new = lost.export("new")
    trusted = lost.trust.read_text()
    lost.trust.write_text("".join(f"{line}\n" for line in trusted.splitlines() if "#admin" not in line))
    assert "opening_invalid" in codes(lost.verify(new))
    lost.trust.write_text(trusted)
    assert lost.verify(new).ok
    # One organisation's export shows leaf 0 too.
    report = lost.verify(lost.export("part", organization_id=one.actor.organization_id))
    assert report.ok, report.problems
    assert report.opened is not None


def test_a_key_that_others_can_read_approves_nothing(lost: Lost) -> None:
    lost.lose()
    assert lost.propose() == ""
    lost.keys["kenji"].chmod(0o644)
    done = lost.run("approve-origin", str(lost.statement), "--key", str(lost.keys["kenji"]), "--save", str(lost.folder / "approval"))
    assert (done.returncode, "others can read it" in done.stderr, "ringi audit admin-key" in done.stderr) == (2, True, True), done.stderr
    assert not Path(lost.folder / "approval").exists()
