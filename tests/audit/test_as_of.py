"""What was approved and live at a time, with the entries that prove each sentence; and the export of an adapter or a period, over HTTP."""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from audit.scene import ADAPTER, Scene, set_up
from audit.test_withheld import described, entries_of, forged, found, framed, member
from ringi.adapters.schemas import VersionState
from ringi.api.as_of_schemas import LiveThenOut
from ringi.approvals.schemas import VoteDecision
from ringi.audit.export import is_sealed
from ringi.audit.ringi_verify import verify_bundle, verify_proof
from ringi.audit.sampling import written
from support.refusals import refused
from support.running_platform import PROJECT, Platform, Processes, new_organization
from support.shell import Shell
from support.waiting import until


@dataclass
class History:
    """One adapter's life with the moments between its steps, another adapter beside it, and the log sealed behind both."""

    scene: Scene
    moments: dict[str, datetime]
    key: str

    @property
    def platform(self) -> Platform:
        return self.scene.platform

    def live(self, moment: str, **only: str) -> list[LiveThenOut]:
        return list(self.platform.as_("auditor").audit.live_then(self.moments[moment].isoformat(), PROJECT, **only))

    def export(self, path: Path, **part: str) -> Path:
        with path.open("wb") as out:
            self.platform.as_("auditor").audit.export(out, **part)
        return path


@pytest.fixture(scope="module")
def history(shared_platform: Processes) -> Iterator[History]:
    with new_organization(shared_platform) as platform:
        scene, moments = set_up(platform), {}

        def passed(name: str) -> None:
            moments[name] = datetime.now(UTC)

        try:
            scene.sealed(2)
            other = scene.adapter_named("other")
            scene.sealed(1, adapter=other)
            passed("prepared")
            rejected = platform.as_("contributor").approvals.request(PROJECT, ADAPTER, "v2", environment="staging")
            platform.as_("reviewer").approvals.vote(PROJECT, rejected, decision=VoteDecision.REJECT, reason="評価の件数がまだ足りないため")
            scene.approved("v1")
            passed("approved")
            scene.live("v2")
            passed("second live")
            scene.live("v1", adapter=other)
            platform.as_("incident_commander").adapters.advance(
                PROJECT, ADAPTER, "v2", to=VersionState.REVOKED, reason="漏えいの疑いがあるため停止する"
            )
            passed("revoked")
            engine = create_engine(shared_platform.urls.app_url)
            with Session(engine) as session:
                until(lambda: is_sealed(session))
            engine.dispose()
            yield History(scene, moments, platform.as_("auditor").audit.key().vkey)
        finally:
            scene.close()


def test_it_says_what_was_live_and_approved_then_and_not_what_is_now(history: History) -> None:
    assert history.live("prepared") == history.live("approved") == []
    approved = list(history.platform.as_("auditor").audit.approved_then(history.moments["approved"].isoformat(), PROJECT))
    assert [(one.version.reference, one.environment, one.in_force) for one in approved] == [(f"{PROJECT}/{ADAPTER}:v1", "production", True)]
    (one,) = history.live("second live")
    assert (one.channel, one.version, one.released_by, one.action) == ("production", f"{PROJECT}/{ADAPTER}:v2", "deployer", "publish")
    approval = one.approval
    assert (approval.requester, approval.environment, approval.policy) == ("contributor", "production", "any:1")
    (vote,) = approval.votes
    assert (vote.voter, vote.role, vote.decision, vote.reason) == ("reviewer", "reviewer", "approve", "品質が十分に改善したため承認する")
    assert [(piece.type, piece.producer) for piece in approval.evidence] == [("evaluation", "admin")]
    assert approval.version.state == "sealed"
    later = {item.version: item.approval.version.state for item in history.live("revoked")}
    assert later == {f"{PROJECT}/{ADAPTER}:v2": "revoked", f"{PROJECT}/other:v1": "sealed"}
    assert [item.adapter for item in history.live("revoked", adapter="other")] == [f"{PROJECT}/other"]
    assert len(history.live("revoked", channel="production")) == 2


def test_every_sentence_names_an_entry_that_can_be_proven(history: History) -> None:
    for one in history.live("revoked"):
        approval = one.approval
        said = [one.said, approval.said, approval.requested, approval.policy_said, approval.version.sealed]
        said += [vote.said for vote in approval.votes] + [piece.said for piece in approval.evidence]
        for sentence in said:
            assert sentence is not None
            assert (sentence.agrees, sentence.at <= history.moments["revoked"]) == (True, True)
            proven = verify_proof(history.platform.as_("auditor").audit.proof(sentence.event_id).encode(), history.key)
            assert (proven.leaf, json.loads(proven.entry)["action"]) == (sentence.index, sentence.action)


def test_a_row_that_somebody_edited_no_longer_agrees_with_its_entry(history: History) -> None:
    engine = create_engine(history.platform.processes.urls.superuser_url)
    (grant,) = {one.approval.grant_id for one in history.live("second live")}

    def edit(seconds: int) -> None:
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE approval_grants DISABLE TRIGGER ALL"))
            connection.execute(
                text("UPDATE approval_grants SET expires_at = expires_at + make_interval(secs => :s) WHERE id = :id"),
                {"s": seconds, "id": grant},
            )
            connection.execute(text("ALTER TABLE approval_grants ENABLE TRIGGER ALL"))

    edit(3600)
    try:
        (one,) = history.live("second live")
    finally:
        edit(-3600)
        engine.dispose()
    assert one.approval.said is not None
    assert (one.approval.said.agrees, one.said.agrees) == (False, True)


def test_a_time_before_the_log_and_one_to_come_are_refused(history: History) -> None:
    auditor = history.platform.as_("auditor").audit
    with refused("as_of_before_log", 422):
        list(auditor.live_then("2020-01-01", PROJECT))
    for time in ((datetime.now(UTC) + timedelta(seconds=30)).isoformat(), "2999-01-01", "yesterday", "昨日"):
        with refused("bad_as_of", 422):
            list(auditor.approved_then(time, PROJECT))
    now = history.moments["revoked"].isoformat()
    for wrong in ({"adapter": "無い"}, {"channel": "none"}):
        with refused("not_found", 404):
            list(auditor.live_then(now, PROJECT, **wrong))
    with refused("not_found", 404):
        list(auditor.live_then(now, "elsewhere"))
    with refused("forbidden", 403):
        list(history.platform.as_("contributor").audit.live_then(now, PROJECT))


def test_the_answer_comes_in_pages(history: History) -> None:
    query = {"time": history.moments["revoked"].isoformat(), "project": PROJECT, "limit": "1"}
    seen: list[str] = []
    for _ in range(2):
        page = history.platform.call("auditor", "GET", "/audit/as-of", params=query).json()
        seen += [one["version"] for one in page["items"]]
        query["cursor"] = page["next_cursor"]
    assert (sorted(seen), page["next_cursor"]) == ([f"{PROJECT}/{ADAPTER}:v2", f"{PROJECT}/other:v1"], None)


def test_the_command_line_tells_it_and_exports_an_adapter(history: History, tmp_path: Path) -> None:
    shell, token = Shell(tmp_path, history.platform.server), history.platform.tokens["auditor"]
    told = {"RINGI_SERVER": history.platform.server, "RINGI_TOKEN": token, "COLUMNS": "400"}
    asked = ("audit", "as-of", history.moments["second live"].isoformat(), "--project", PROJECT)
    shown = shell.ok(*asked, **told)
    assert f"{PROJECT}/{ADAPTER}:v2" in shown
    assert "reviewer (reviewer): approve, 品質が十分に改善したため承認する [entry " in shown
    assert f"{PROJECT}/{ADAPTER}:v1" in shell.ok(*asked, "--approved", **told)
    shell.ok("audit", "export", str(tmp_path / "bot.zip"), "--adapter", f"{PROJECT}/{ADAPTER}", **told)
    assert "shows only" in shell.ok("audit", "verify", str(tmp_path / "bot.zip"), "--key", history.key, **told)


def test_an_adapters_export_holds_its_life_and_nothing_of_the_others(history: History, tmp_path: Path) -> None:
    bundle = history.export(tmp_path / "bot.zip", project=PROJECT, adapter=ADAPTER)
    report = verify_bundle(bundle, history.key)
    assert report.problems == []
    assert report.outside > 10
    actions = {json.loads(entry)["action"] for entry in entries_of(bundle) if entry}
    assert {"adapter.create", "adapter.version.seal", "adapter.version.revoke", "evaluation.complete", "base_model.revision.seal",
            "approval.request", "approval.vote", "approval.refuse", "approval.grant", "policy.create", "release.publish"} <= actions  # fmt: skip
    assert not actions & {"user.create", "membership.grant", "token.issue"}
    records = [json.loads(line) for line in member(bundle, "records.jsonl").splitlines()]
    assert {one["type"] for one in records} == {
        "adapter_version",
        "approval_grant",
        "approval_policy",
        "approval_vote",
        "evaluation",
        "release",
    }
    other = next(one for one in history.live("revoked") if one.adapter.endswith("/other"))
    with zipfile.ZipFile(bundle) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert str(other.approval.grant_id).encode() not in content
    assert "評価の件数がまだ足りないため".encode() in content


def test_what_an_adapters_export_refers_to_cannot_be_left_out_and_nothing_else_shows_but_against_the_whole(
    history: History, tmp_path: Path
) -> None:
    whole, path = history.export(tmp_path / "all.zip"), tmp_path / "forged.zip"
    bundle = history.export(tmp_path / "bot.zip", project=PROJECT, adapter=ADAPTER)
    assert verify_bundle(bundle, history.key, against=whole).problems == []
    entries, description = entries_of(bundle), json.loads(member(bundle, "bundle.json"))

    def without(action: str, *, only: bool = False) -> Path:
        """The bundle without the first thing that has such an entry; with `only`, without that entry alone."""
        gone = next(index for index, entry in enumerate(entries) if entry and json.loads(entry)["action"] == action)
        name = json.loads(entries[gone])["object"]["id"]
        scope = description["scope"] | {"objects": [one for one in description["scope"]["objects"] if one != name]}
        lines = [line + b"\n" for line in member(bundle, "records.jsonl").splitlines() if json.loads(line)["id"] != name]
        leaves = {leaf for first, last in description["outside"] for leaf in range(first, last + 1)}
        if only:
            leaves.add(gone)
            scope, lines = description["scope"], [member(bundle, "records.jsonl")]
        else:
            leaves |= {index for index, entry in enumerate(entries) if entry and json.loads(entry)["object"]["id"] == name}
        kept = framed(b"" if index in leaves else entry for index, entry in enumerate(entries))
        ranges: list[list[int]] = []
        for leaf in sorted(leaves):
            if ranges and ranges[-1][1] == leaf - 1:
                ranges[-1][1] = leaf
            else:
                ranges.append([leaf, leaf])
        changed = described(bundle, scope=scope, outside=ranges)
        return forged(bundle, path, entries=kept, records=b"".join(lines), bundle=changed)

    for action in ("approval.request", "adapter.version.seal"):
        assert {code for code, _ in found(verify_bundle(without(action), history.key))} == {"entry_left_out"}, action
    # Nothing refers to the second vote on a request, but the entry that ends it counts the votes.
    assert {code for code, _ in found(verify_bundle(without("approval.vote"), history.key))} == {"entry_left_out"}
    # What nothing refers to can be missing: this an adapter's export does not show by itself, and the page on the log says so.
    hidden = without("approval.refuse", only=True)
    assert verify_bundle(hidden, history.key).ok
    assert {code for code, _ in found(verify_bundle(hidden, history.key, against=whole))} == {"entry_left_out"}


def test_a_periods_export_over_http_is_what_was_asked_for(history: History, tmp_path: Path) -> None:
    since, to = history.moments["prepared"].isoformat(), history.moments["approved"].isoformat()
    whole = history.export(tmp_path / "all.zip")
    bundle = history.export(tmp_path / "period.zip", since=since, until=to)
    assert verify_bundle(bundle, history.key, against=whole).problems == []
    inside = [json.loads(entry) for entry in entries_of(bundle) if entry][1:-1]
    assert {"approval.request", "approval.vote", "approval.refuse", "approval.grant"} <= {event["action"] for event in inside}
    assert "release.publish" not in {event["action"] for event in inside}
    for query, code in (("from=yesterday", "bad_time"), ("from=2026-02-01&to=2026-01-01", "audit_export_part"), ("adapter=bot", "audit_export_part"),
                        (f"project={PROJECT}&adapter=bot&from=2026-01-01", "audit_export_part")):  # fmt: skip
        answer = history.platform.call("auditor", "POST", f"/audit/export?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, code), query
    told = [one.details for one in history.platform.logged("audit.export")]
    assert {"from": written(history.moments["prepared"]), "to": written(history.moments["approved"])} in told
