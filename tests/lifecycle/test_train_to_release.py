"""One adapter, end to end, as the README tells it: eleven steps by separate users over real processes, with a model built in code."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lifecycle.edited_rows import an_export_verifies_offline_until_someone_edits
from lifecycle.new_bases import new_base_revisions_flag_every_adapter_and_move_nothing
from ringi.approvals.schemas import RequestState, VoteDecision
from ringi.evaluation.verdict import Verdict as Judgement
from ringi.identity.schemas import Role
from ringi.jobs.schemas import JobState
from ringi.kit.digests import sha256_file
from ringi_workers.demo.broken_adapters import wrong_prefix_adapter, zero_b_adapter
from support.hub_client import HubClient
from support.refusals import refused
from support.running_platform import MONITOR_TOKEN, PROJECT, Platform
from support.story import ADAPTER, BASE, PLAN, Sources, approved, evaluated, published, registered, registered_base, sealed_dataset
from support.waiting import until

pytestmark = pytest.mark.long

CHANNEL = "production"


def run_elsewhere(platform: Platform, home: Path, user: str, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A program of another team: it has the hub's address and a token, and no settings of the platform."""
    client = HubClient(home, f"{platform.server}/hf/{CHANNEL}", platform.tokens[user])
    environment = {key: value for key, value in client.environment.items() if not key.startswith("RINGI_")} | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=home.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_one_adapter_is_trained_judged_approved_released_pulled_flagged_and_audited(
    platform: Platform, sources: Sources, tmp_path: Path
) -> None:
    base_digest = a_base_model_and_a_dataset_are_sealed(platform, sources)
    a_run_reports_its_progress_and_seals_a_version(platform)
    an_adapter_trained_elsewhere_is_registered(platform, sources, tmp_path)
    adapters_without_effect_are_refused(platform, tmp_path)
    the_adapter_beats_its_base_on_unseen_items(platform)
    a_second_pair_of_eyes_approves(platform)
    releases_and_a_rollback_move_the_channel(platform)
    real_clients_pull_what_was_approved(platform, tmp_path)
    new_base_revisions_flag_every_adapter_and_move_nothing(platform, sources, tmp_path, base_digest)
    the_trail_says_who_did_what(platform)
    the_monitor_finds_what_the_log_says(platform, tmp_path)
    an_export_verifies_offline_until_someone_edits(platform, tmp_path)


def a_base_model_and_a_dataset_are_sealed(platform: Platform, sources: Sources) -> str:
    r1 = registered_base(platform, sources.base)
    assert r1.state == "sealed"
    assert (r1.fingerprint.F1 or "").startswith("blake3:")
    assert (r1.fingerprint.F2 or "").startswith("blake3:")
    assert r1.fingerprint.not_measured == ["F3", "F4", "F5", "F6", "F7", "F8"]
    assert "bfp1" not in r1.model_dump_json()
    first = sealed_dataset(platform, sources.rows)
    assert (first.report.rows, first.report.duplicate_rows, first.report.empty_rows) == (900, 0, 0)
    assert first.report.validation_rows >= 100
    again = platform.as_("contributor").datasets.add_version(PROJECT, "faq", sources.rows)
    assert (again.job_id, again.version) == (None, first)
    return r1.digest


def a_run_reports_its_progress_and_seals_a_version(platform: Platform) -> None:
    contributor = platform.as_("contributor")
    contributor.adapters.create(PROJECT, ADAPTER, base=BASE)
    run = contributor.training.start(PROJECT, ADAPTER, dataset="faq:v1", plan=PLAN.model_copy(update={"max_steps": 200}))
    seen: list[Any] = []

    def ended() -> bool:
        job = contributor.jobs.get(run.job_id)
        if job.progress and job.progress.step:
            seen.append(job.progress)
        return job.state not in {JobState.QUEUED, JobState.RUNNING}

    until(ended, timeout_s=120)
    platform.succeeded(run.job_id)
    assert any(one.loss and one.tokens_per_s and one.eta_s is not None and one.total == 200 for one in seen), seen
    done = contributor.training.get(PROJECT, ADAPTER, run.id)
    assert done.version == f"{PROJECT}/{ADAPTER}:v1"
    assert done.metrics is not None
    assert done.metrics.first_loss is not None
    assert done.metrics.final_loss is not None
    assert done.metrics.final_loss < done.metrics.first_loss
    version = contributor.adapters.version(PROJECT, ADAPTER, "v1")
    assert version.effect.change is not None
    assert version.effect.noise is not None
    assert version.effect.change > 10 * version.effect.noise
    assert {file.path for file in version.files} == {"adapter_config.json", "adapter_model.safetensors"}
    by_digest = contributor.adapters.version(PROJECT, ADAPTER, version.manifest_digest)
    assert by_digest == version


def an_adapter_trained_elsewhere_is_registered(platform: Platform, sources: Sources, tmp_path: Path) -> None:
    platform.as_("deployer").releases.create_channel(PROJECT, CHANNEL, environment="production")
    commit = platform.as_("contributor").bases.revision(BASE, "r1").commit
    folder = tmp_path / "elsewhere"
    run_elsewhere(
        platform,
        tmp_path / "their-home",
        "contributor",
        "ringi_workers.demo.elsewhere",
        f"bases/{BASE}",
        commit,
        str(sources.rows),
        str(folder),
        "20",
    )
    version = registered(platform, folder)
    assert (version.reference, version.source) == (f"{PROJECT}/{ADAPTER}:v2", "registered")
    assert registered(platform, folder) == version
    assert len(list(platform.as_("contributor").adapters.versions(PROJECT, ADAPTER))) == 2


def adapters_without_effect_are_refused(platform: Platform, tmp_path: Path) -> None:
    good, adapters = tmp_path / "elsewhere", platform.as_("contributor").adapters
    expected = {
        zero_b_adapter(good, tmp_path / "zero-b"): {"adapter_no_effect"},
        wrong_prefix_adapter(good, tmp_path / "prefix"): {"adapter_tensors_unmatched", "adapter_tensors_unfilled", "adapter_no_effect"},
    }
    for folder, codes in expected.items():
        job = platform.ended(adapters.register(PROJECT, ADAPTER, folder).job_id)
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert job.error.code == "adapter_refused"
        assert {reason["code"] for reason in job.error.details["reasons"]} == codes
    assert len(list(adapters.versions(PROJECT, ADAPTER))) == 2


def the_adapter_beats_its_base_on_unseen_items(platform: Platform) -> None:
    for version in ("v1", "v2"):
        evaluation = evaluated(platform, version)
        summary = evaluation.summary
        assert summary is not None
        assert summary.scored == summary.n >= 100
        assert summary.verdict is Judgement.BETTER
        assert summary.improvement_interval is not None
        assert summary.improvement_interval.low > 0
    records = list(platform.as_("contributor").evaluations.records(PROJECT, ADAPTER, "v1", platform_evaluation(platform)))
    report = platform.as_("contributor").datasets.version(PROJECT, "faq").report
    assert len(records) == report.validation_rows
    assert all(record.candidate.nll is not None and record.baseline.nll is not None for record in records)
    records_come_in_pages_by_cursor(platform, [record.item for record in records])


def records_come_in_pages_by_cursor(platform: Platform, whole: list[str]) -> None:
    path = f"/projects/{PROJECT}/adapters/{ADAPTER}/versions/%s/evaluations/%s/records"
    first, items, cursor = path % ("v1", platform_evaluation(platform)), list[str](), None
    while True:
        page = platform.call("contributor", "GET", first, params={"limit": 43} | ({"cursor": cursor} if cursor else {})).json()
        items += [record["item"] for record in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = page["next_cursor"]
    assert items == whole
    other = next(platform.as_("contributor").evaluations.all(PROJECT, ADAPTER, "v2")).id
    foreign = platform.call("contributor", "GET", path % ("v2", other), params={"cursor": cursor})
    assert (foreign.status_code, foreign.json()["code"]) == (422, "invalid_cursor")


def platform_evaluation(platform: Platform) -> Any:
    return next(platform.as_("contributor").evaluations.all(PROJECT, ADAPTER, "v1")).id


def a_second_pair_of_eyes_approves(platform: Platform) -> None:
    contributor = platform.as_("contributor")
    with refused("release_refused", 409) as why:
        platform.as_("deployer").releases.publish(PROJECT, ADAPTER, version="v1", channel=CHANNEL, reason="before anyone approved it")
    assert why.codes == {"release_gate_approved", "release_gate_unexpired", "release_gate_logged"}
    request = contributor.approvals.request(PROJECT, ADAPTER, "v1", note="初回リリースの稟議")
    # The requester may hold the reviewer's role: it is not the missing role that stops the vote.
    platform.as_("admin").identity.grant_role("contributor", Role.REVIEWER, project=PROJECT)
    with refused("self_approval", 403):
        contributor.approvals.vote(PROJECT, request, decision=VoteDecision.APPROVE, reason="I made it, so it is good")
    decided = platform.as_("reviewer").approvals.vote(
        PROJECT, request, decision=VoteDecision.APPROVE, reason="品質が十分に改善したため承認する"
    )
    assert decided.state is RequestState.APPROVED
    grant, version = decided.grant, contributor.adapters.version(PROJECT, ADAPTER, "v1")
    revision = contributor.bases.revision(BASE, "r1")
    assert grant is not None
    assert grant.manifest_digest == version.manifest_digest
    assert grant.base_parts == {"F1": revision.fingerprint.F1, "F2": revision.fingerprint.F2}
    assert grant.environment == "production"
    evaluation = contributor.evaluations.get(PROJECT, ADAPTER, "v1", platform_evaluation(platform))
    assert grant.evidence == [evaluation.evidence_digest]


def releases_and_a_rollback_move_the_channel(platform: Platform) -> None:
    releases = platform.as_("deployer").releases
    assert published(platform, "v1").sequence == 1
    with refused("release_refused", 409) as why:
        releases.publish(PROJECT, ADAPTER, version="v2", channel=CHANNEL, reason="nobody approved this one")
    assert "release_gate_approved" in why.codes
    assert [live.version for live in releases.channel(PROJECT, CHANNEL).live] == [f"{PROJECT}/{ADAPTER}:v1"]
    approved(platform, "v2")
    second = published(platform, "v2")
    assert (second.sequence, second.previous) == (2, f"{PROJECT}/{ADAPTER}:v1")
    back = releases.roll_back(PROJECT, ADAPTER, channel=CHANNEL, reason="v2 answers too shortly")
    assert (back.sequence, back.action, back.version, back.previous) == (
        3,
        "roll_back",
        f"{PROJECT}/{ADAPTER}:v1",
        f"{PROJECT}/{ADAPTER}:v2",
    )
    assert platform.as_("viewer").adapters.version(PROJECT, ADAPTER, CHANNEL).number == 1
    assert [one.sequence for one in releases.history(PROJECT, ADAPTER, channel=CHANNEL)] == [3, 2, 1]


def real_clients_pull_what_was_approved(platform: Platform, tmp_path: Path) -> None:
    repository, home = f"{PROJECT}/{ADAPTER}", tmp_path / "serving-team"
    arguments = ("ringi_workers.demo.pull", repository, "main", "What is on shelf 7?")
    pulled = json.loads(run_elsewhere(platform, home, "viewer", *arguments).stdout.splitlines()[-1])
    version = platform.as_("viewer").adapters.version(PROJECT, ADAPTER, CHANNEL)
    digests = {file.path: file.digest for file in version.files}
    assert {path: pulled["files"][path] for path in digests} == digests
    assert pulled["answer"].strip()
    answers = HubClient(home, f"{platform.server}/hf/{CHANNEL}", platform.tokens["viewer"]).run(
        tag=f"snapshot_download('{repository}', revision='v1')", unknown=f"snapshot_download('{repository}', revision='v9')"
    )
    assert {name: sha256_file(Path(answers["tag"].value) / name) for name in digests} == digests
    assert answers["unknown"].error == "RevisionNotFoundError"


def the_monitor_finds_what_the_log_says(platform: Platform, tmp_path: Path) -> None:
    url = platform.processes.urls.superuser_url
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        (organization,) = connection.execute("SELECT id FROM organizations WHERE name = %s", [platform.organization]).fetchone() or ("",)
    trust = tmp_path / "trust"
    trust.write_text(f"log {platform.as_('auditor').audit.key().vkey}\nquorum none\n")
    command = [
        sys.executable,
        "-m",
        "ringi.monitor",
        "--server",
        platform.server,
        "--trust",
        str(trust),
        "--state",
        str(tmp_path / "monitor"),
    ]
    told = os.environ | {"RINGI_MONITOR_TOKEN": MONITOR_TOKEN, "RINGI_MONITOR_DATABASE_URL": url}
    done = subprocess.run([*command, "--organization", str(organization)], env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def the_trail_says_who_did_what(platform: Platform) -> None:
    trail = list(platform.as_("auditor").audit.trail(PROJECT, ADAPTER))[::-1]
    version = platform.as_("auditor").adapters.version(PROJECT, ADAPTER, "v1")
    told = [
        ("contributor", "adapter.create", "ok"),
        ("contributor", "training.run.start", "ok"),
        ("worker", "adapter.version.seal", "ok"),
        ("worker", "training.run.complete", "ok"),
        ("worker", "adapter.version.refuse", "ok"),
        ("contributor", "evaluation.request", "ok"),
        ("worker", "evaluation.complete", "ok"),
        ("deployer", "release.refuse", "denied"),
        ("contributor", "approval.request", "ok"),
        ("contributor", "approval.vote", "denied"),
        ("reviewer", "approval.vote", "ok"),
        ("reviewer", "approval.grant", "ok"),
        ("deployer", "release.publish", "ok"),
        ("deployer", "release.roll_back", "ok"),
        ("worker", "compatibility.assess", "ok"),
    ]
    rest = iter([(entry.actor, entry.action, entry.outcome) for entry in trail])
    assert [step for step in told if step not in rest] == [], [(e.actor, e.action, e.outcome) for e in trail]
    assert all(entry.ts for entry in trail)
    published_first = next(entry for entry in trail if entry.action == "release.publish")
    assert published_first.digest == version.manifest_digest
    # The earliest entries are long sequenced; each has its place in the log.
    assert all(isinstance(entry.index, int) for entry in trail[:10])
