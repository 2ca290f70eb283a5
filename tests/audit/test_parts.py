"""An export of a period: it shows all of it, says what it is, and nobody can leave an entry out as lying outside."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from audit.test_withheld import OWN, Shared, described, entries_of, forged, found, framed, member, shared
from audit.votes import Votes
from ringi.audit import export
from ringi.audit.export import Part, write_bundle
from ringi.audit.models import AuditEvent
from ringi.audit.ringi_verify import SampleRule, main, verify_bundle
from ringi.kit.actor import Actor
from ringi.kit.digests import canonical_json

__all__ = ["shared"]
# Of the log of `shared`, whose own entries are the leaves 0, 3, 4, 8 and 11: the period holds 3 and 4.
SHOWN, OUTSIDE = [0, 3, 4, 8], [[11, 11]]


@pytest.fixture
def times(tmp_path: Path, shared: Shared) -> list[str]:
    """When each own entry was written."""
    return [json.loads(entry)["ts"] for index, entry in enumerate(entries_of(shared.own(tmp_path / "times.zip"))) if index in OWN]


def part_of(shared: Shared, path: Path, sessions: sessionmaker[Session], since: str | None, until: str | None) -> Path:
    with sessions() as session:
        write_bundle(
            session, path, shared.votes._records, organization_id=shared.organization, record_types=["approval_vote"],
            chosen=export.period(since, until, shared.organization),
        )  # fmt: skip
    return path


@pytest.fixture
def part(tmp_path: Path, shared: Shared, sessions: sessionmaker[Session], times: list[str]) -> Path:
    return part_of(shared, tmp_path / "part.zip", sessions, times[1], times[3])


def test_a_period_shows_its_entries_and_one_more_on_either_side_and_proves_the_whole_log(
    tmp_path: Path, shared: Shared, part: Path, times: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    report = shared.verify(part)
    assert report.problems == []
    assert [index for index, entry in enumerate(entries_of(part)) if entry] == SHOWN
    described_as = json.loads(member(part, "bundle.json"))
    assert (described_as["scope"], described_as["outside"]) == (
        {"from": times[1], "to": times[3], "adapter": None, "objects": None},
        OUTSIDE,
    )
    assert (report.size, report.withheld, report.outside, report.records) == (12, 7, 1, 4)
    assert report.root == shared.verify(shared.own(tmp_path / "own.zip")).root
    trust = tmp_path / "trust"
    trust.write_text(f"log {shared.vkey}\nquorum none\n")
    assert main([str(part), "--trust", str(trust)]) == 0
    said = capsys.readouterr().out
    assert f"PART: the time from {times[1]} to {times[3]}" in said
    assert "No entry of this organisation in that time is missing, unless" in said


@pytest.mark.parametrize(
    ("since", "until", "shown"),
    [
        (0, 1, [0, 3]),
        (None, 1, [0, 3]),
        (4, None, [8, 11]),
        (1, 1, [0, 3]),
        ("2000", "2001", [0]),
        ("2200", None, [11]),
        (None, "2200", OWN),
    ],
)
def test_a_period_at_an_edge_of_the_log_or_without_an_entry_is_proven_too(
    tmp_path: Path, shared: Shared, sessions: sessionmaker[Session], times: list[str], since: Any, until: Any, shown: list[int]
) -> None:
    def bound(of: Any) -> str | None:
        return times[of] if isinstance(of, int) else None if of is None else f"{of}-01-01T00:00:00.000000Z"

    made = part_of(shared, tmp_path / "part.zip", sessions, bound(since), bound(until))
    assert [index for index, entry in enumerate(entries_of(made)) if entry] == shown
    assert shared.verify(made).problems == []


@pytest.mark.parametrize("dropped", [0, 3, 4, 8])
def test_an_entry_of_the_period_or_at_its_edge_cannot_be_left_out_as_lying_outside(
    tmp_path: Path, shared: Shared, part: Path, dropped: int
) -> None:
    entries = entries_of(part)
    vote = json.loads(entries[dropped])["object"]["id"]
    fewer = framed(b"" if index == dropped else entry for index, entry in enumerate(entries))
    records = b"".join(line + b"\n" for line in member(part, "records.jsonl").splitlines() if vote.encode() not in line)
    outside = described(part, outside=[*([[dropped, dropped]]), *OUTSIDE])
    made = forged(part, tmp_path / "forged.zip", entries=fewer, records=records, bundle=outside)
    assert {code for code, _ in found(shared.verify(made))} == {"entry_left_out"}


def test_a_part_that_claims_to_be_whole_or_another_part_is_refused(tmp_path: Path, shared: Shared, part: Path, times: list[str]) -> None:
    path = tmp_path / "forged.zip"
    assert found(shared.verify(forged(part, path, bundle=described(part, scope=None)))) == {("description_wrong", 11)}
    scope = json.loads(member(part, "bundle.json"))["scope"]
    for changed in ({"to": None}, {"to": times[4]}, {"to": "2200-01-01T00:00:00.000000Z"}):
        assert {code for code, _ in found(shared.verify(forged(part, path, bundle=described(part, scope=scope | changed))))} == {
            "entry_left_out"
        }
    broken: list[dict[str, object]] = [
        {"from": "yesterday"},
        {"from": None, "to": None},
        {"adapter": "x"},
        {"objects": []},
        {"more": 1},
        {"from": 1},
    ]
    for bad in broken:
        assert found(shared.verify(forged(part, path, bundle=described(part, scope=scope | bad)))) == {("audit_bundle_invalid", None)}
    for ranges in ([[4, 4], [4, 4]], [[1, 1]], [[12, 12]], None):
        report = shared.verify(forged(part, path, bundle=described(part, outside=ranges)))
        assert ("audit_bundle_invalid", None) in found(report), ranges


def test_an_entry_passed_off_as_anothers_shows_by_its_record_and_against_a_fuller_export(
    tmp_path: Path, shared: Shared, part: Path
) -> None:
    """What a period cannot tell by itself: whose an absent entry is."""
    entries, whole = entries_of(part), shared.own(tmp_path / "whole.zip")
    assert shared.verify(part, against=whole).ok
    fewer, hidden = framed(b"" if index == 4 else entry for index, entry in enumerate(entries)), [[1, 2], [4, 7], [9, 10]]
    made = forged(part, tmp_path / "forged.zip", entries=fewer, bundle=described(part, withheld=hidden))
    assert {code for code, _ in found(shared.verify(made))} == {"record_without_entry"}
    vote = json.loads(entries[4])["object"]["id"]
    records = b"".join(line + b"\n" for line in member(part, "records.jsonl").splitlines() if vote.encode() not in line)
    made = forged(part, tmp_path / "forged.zip", entries=fewer, records=records, bundle=described(part, withheld=hidden))
    assert shared.verify(made).ok
    assert found(shared.verify(made, against=whole)) == {("own_entry_withheld", 4)}


def test_a_record_that_changed_after_the_period_is_left_to_a_later_export(
    tmp_path: Path, shared: Shared, sessions: sessionmaker[Session], times: list[str], seal: Callable[[], None]
) -> None:
    shared.votes.cast("reject", vote=shared.ids[1])
    seal()
    made = part_of(shared, tmp_path / "part.zip", sessions, times[1], times[3])
    report = shared.verify(made)
    assert (report.problems, report.unsealed, report.records) == ([], 1, 3)


def test_a_sample_is_not_drawn_from_a_part_and_an_export_of_the_older_format_still_verifies(
    tmp_path: Path, shared: Shared, part: Path
) -> None:
    report = verify_bundle(part, shared.vkey, rule=SampleRule("s", 3))
    assert {problem.code for problem in report.problems} == {"sample_of_part"}
    whole = shared.own(tmp_path / "whole.zip")
    document = json.loads(member(whole, "bundle.json"))
    before = {name: value for name, value in document.items() if name not in {"scope", "outside"}} | {"format": "ringi-audit-bundle/2"}
    kept = forged(whole, tmp_path / "kept.zip", bundle=canonical_json(before))
    assert shared.verify(kept).ok
    assert shared.verify(part, against=kept).ok


def test_what_belongs_to_an_adapter_names_its_things_and_none_of_them_may_be_missing(
    tmp_path: Path, shared: Shared, sessions: sessionmaker[Session], actor: Actor
) -> None:
    """At the bundle's level alone: the things are votes here, and one of them is the adapter."""
    mine = sorted(shared.ids[:3])

    def chosen(_: Session, __: int) -> Part:
        return Part({"from": None, "to": None, "adapter": mine[0], "objects": mine}, AuditEvent.object_id.in_(mine))

    def made(path: Path, votes: Votes) -> Path:
        with sessions() as session:
            write_bundle(session, path, votes._records, organization_id=shared.organization, record_types=["approval_vote"], chosen=chosen)
        return path

    bundle, path = made(tmp_path / "adapter.zip", shared.votes), tmp_path / "forged.zip"
    report = shared.verify(bundle)
    assert (report.problems, report.records, report.outside) == ([], 3, 2)
    entries, scope = entries_of(bundle), json.loads(member(bundle, "bundle.json"))["scope"]
    foreign = described(bundle, scope=scope | {"objects": sorted({*mine[:2]} | {mine[0]})})
    assert {code for code, _ in found(shared.verify(forged(bundle, path, bundle=foreign)))} == {"entry_outside_scope"}
    more = described(bundle, scope=scope | {"objects": sorted([*mine, str(actor.id)])})
    assert {code for code, _ in found(shared.verify(forged(bundle, path, bundle=more)))} == {"entry_left_out"}
    # An entry is left out, and its thing with it: against a fuller export it shows, where the thing is still named.
    fewer = framed(b"" if index == 4 else entry for index, entry in enumerate(entries))
    kept = b"".join(line + b"\n" for line in member(bundle, "records.jsonl").splitlines() if shared.ids[2].encode() not in line)
    out = described(bundle, outside=[[4, 4], [8, 8], [11, 11]])
    made_fewer = forged(bundle, path, entries=fewer, records=kept, bundle=out)
    assert {code for code, _ in found(shared.verify(made_fewer))} == {"entry_left_out"}
    assert ("entry_left_out", 4) in found(shared.verify(made_fewer, against=shared.own(tmp_path / "whole.zip")))
