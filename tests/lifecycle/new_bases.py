"""A chapter of the story: new revisions of the base say what they mean for every adapter made for it, and move nothing."""

from functools import partial
from pathlib import Path

from ringi.cli.client import RingiClient
from ringi.compatibility.rules import Action, Verdict
from ringi.compatibility.schemas import AssessmentOut
from ringi.identity.schemas import Role
from ringi.releases.schemas import BaseStatus
from support.base_variants import perturb, reshard
from support.running_platform import PROJECT, Platform
from support.seeds import kept_seed
from support.story import ADAPTER, BASE, PLAN, Sources, evaluated, registered_base
from support.tiny_model import make_tiny_rows
from support.waiting import until

CHANNEL = "production"
OTHER = "second-project"


def new_base_revisions_flag_every_adapter_and_move_nothing(platform: Platform, sources: Sources, tmp_path: Path, base_digest: str) -> None:
    another_project_adapts_the_same_base(platform, tmp_path)
    seed = kept_seed("RINGI_STORY_SEED")
    print(f"seed {seed}")
    contributor = platform.as_("contributor")
    r2 = registered_base(platform, perturb(sources.base, tmp_path / "r2", 0.01, seed=seed))
    assert r2.digest != base_digest
    for project, adapter, versions in ((PROJECT, ADAPTER, ("v1", "v2")), (OTHER, "faq-bot", ("v1",))):
        for version in versions:
            drifted = until(partial(_assessed, contributor, project, adapter, version), pause_s=0.1)[0]
            assert (drifted.base, drifted.assessment.verdict, drifted.assessment.action) == (
                f"{BASE}:r2",
                Verdict.DRIFTED,
                Action.REGRESSION,
            )
            assert "target_weights_changed" in {finding.code for finding in drifted.assessment.findings}
            assert "q_proj" in drifted.assessment.model_dump_json()
    (live,) = contributor.releases.channel(PROJECT, CHANNEL).live
    assert (live.base_status, live.base) == (BaseStatus.STALE_BASE, f"{BASE}:r1")
    regression = evaluated(platform, "v1", base_revision="r2", baseline="trained_on")
    assert regression.summary is not None
    assert regression.summary.regressed is not None
    assert regression.summary.scored >= 100
    registered_base(platform, reshard(sources.base, tmp_path / "r3", 3))

    def judged_on_r3() -> bool:
        return any(one.base == f"{BASE}:r3" for one in contributor.compatibility.of_version(PROJECT, ADAPTER, "v1"))

    until(judged_on_r3, pause_s=0.1)
    kept = next(one for one in contributor.compatibility.of_version(PROJECT, ADAPTER, "v1") if one.base == f"{BASE}:r3")
    assert (kept.assessment.verdict, kept.assessment.action) == (Verdict.RESERIALISED, Action.KEEP)
    (live,) = contributor.releases.channel(PROJECT, CHANNEL).live
    assert (live.base_status, live.base, live.version) == (BaseStatus.KEEP, f"{BASE}:r1", f"{PROJECT}/{ADAPTER}:v1")


def another_project_adapts_the_same_base(platform: Platform, tmp_path: Path) -> None:
    admin, contributor = platform.as_("admin").identity, platform.as_("contributor")
    admin.create_project(OTHER)
    admin.grant_role("contributor", Role.CONTRIBUTOR, project=OTHER)
    contributor.datasets.create(OTHER, "rows")
    rows = make_tiny_rows(tmp_path / "other-rows.jsonl", 60, seed=5)
    platform.succeeded(contributor.datasets.add_version(OTHER, "rows", rows).job_id)
    contributor.adapters.create(OTHER, "faq-bot", base=BASE)
    run = contributor.training.start(OTHER, "faq-bot", dataset="rows", plan=PLAN.model_copy(update={"max_steps": 20}))
    platform.succeeded(run.job_id)


def _assessed(contributor: RingiClient, project: str, adapter: str, version: str) -> list[AssessmentOut]:
    return list(contributor.compatibility.of_version(project, adapter, version))
