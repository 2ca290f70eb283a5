"""From a dataset to an approval, by the program: suite, sweep, gate; and which decisions an approval can rest on."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4
from xml.etree import ElementTree as ET

import pytest

from ringi.approvals.policy import GateFact, GateRule, PolicyDocument, Seat, Stage, evidence_gaps
from ringi.cli.contexts import Profile, save_profile
from ringi.gates.schemas import DecideGate
from ringi.gating.schemas import Tier, Verdict
from ringi.identity.schemas import Role
from ringi.jobs.contracts.suites import Decoding
from ringi.kit.digests import sha256_json
from ringi.measurements.schemas import RequestSweep
from ringi.suites.schemas import AddSuiteVersion, AddTask, FromDataset
from support.copied_measurements import copied, forget
from support.refusals import refused
from support.running_platform import PROJECT
from support.shell import Shell
from support.story import ADAPTER, BASE, DATASET, Ground, approved, environment_name, published

NOW = datetime(2026, 11, 22, tzinfo=UTC)
STAGES = (Stage(name="technical", seats=(Seat(role=Role.REVIEWER),)),)
FACT = GateFact("quality", 2, newest=True, stands_for=frozenset({"base"}), verdict="GO", imported=False, decided_at=NOW - timedelta(days=1))


def gaps(rule: GateRule, *facts: GateFact) -> list[str]:
    return [gap.code for gap in evidence_gaps(PolicyDocument(stages=STAGES, evidence=(rule,)), facts, now=NOW)]


@pytest.mark.parametrize(
    ("met", "rule", "facts"),
    [
        (True, {"suite": "quality"}, [FACT]),
        (False, {"suite": "quality"}, []),
        (False, {"suite": "other"}, [FACT]),
        (False, {"suite": "quality"}, [replace(FACT, newest=False)]),
        (True, {"suite": "quality:v2"}, [replace(FACT, newest=False)]),
        (False, {"suite": "quality:v3"}, [FACT]),
        (True, {"suite": "quality", "baseline": "base"}, [FACT]),
        (False, {"suite": "quality", "baseline": "channel:production"}, [FACT]),
        (False, {"suite": "quality"}, [replace(FACT, imported=True)]),
        (True, {"suite": "quality", "allow_imported": True}, [replace(FACT, imported=True)]),
        (False, {"suite": "quality", "max_age_d": 1}, [replace(FACT, decided_at=NOW - timedelta(days=2))]),
        (False, {"suite": "quality"}, [FACT, replace(FACT, verdict="NO-GO", decided_at=NOW)]),
        (False, {"suite": "quality"}, [replace(FACT, verdict="INCONCLUSIVE")]),
        (True, {"suite": "quality"}, [replace(FACT, verdict="NO-GO", decided_at=NOW - timedelta(days=3)), FACT]),
    ],
)
def test_the_newest_decision_that_counts_decides(met: bool, rule: dict[str, object], facts: list[GateFact]) -> None:
    assert gaps(GateRule.model_validate({"type": "gate", **rule}), *facts) == ([] if met else ["evidence.gate"])


def test_a_policy_from_before_the_gate_reads_and_writes_the_same() -> None:
    old = {"stages": [{"name": "technical", "seats": [{"role": "reviewer", "people": 1}]}], "evidence": [{"verdicts": ["better"]}]}
    assert PolicyDocument.model_validate(old).model_dump(mode="json")["evidence"] == [
        {"type": "evaluation", "verdicts": ["better"], "max_age_d": 30}
    ]


@pytest.fixture
def program(ground: Ground, tmp_path: Path) -> Shell:
    for user in ("contributor", "viewer"):
        save_profile(
            tmp_path / "config.json", user, Profile(server=ground.platform.server, token=ground.platform.tokens[user]), replace=False
        )
    return Shell(tmp_path, ground.platform.server)


def test_a_suite_of_a_dataset_is_swept_and_gated_by_the_program(ground: Ground, program: Shell) -> None:
    name, mine = f"c{uuid4().hex[:8]}", ("--profile", "contributor")
    given = ("--name", name, "--answering", "likelihood", "--no-off-task", "--margin", "0.3", *mine)
    made = program.json("suites", "from-dataset", f"{PROJECT}/{DATASET}", *given)
    assert (made["reference"], made["document"]["tasks"][0]["scorers"][0]["name"]) == (f"{PROJECT}/{name}:v1", "nll")
    dataset = ground.platform.as_("viewer").datasets.version(PROJECT, DATASET)
    assert made["facts"][DATASET]["dataset"] == dataset.digest
    again = program.json("suites", "from-dataset", f"{PROJECT}/{DATASET}", *given)
    assert again["digest"] == made["digest"]
    assert program.json("suites", "advise", f"{PROJECT}/{name}", "--profile", "viewer")["advice"][0]["supported"] is True
    reference, asked = f"{PROJECT}/{ADAPTER}:v1", ("--suite", name, "--against", "base", *mine)
    done = program.run("gate", reference, *asked)
    assert (done.returncode, "[gate_measurement_missing]" in done.stderr, done.stdout) == (2, True, "")
    done = program.run("gate", reference, *asked, "--sweep", "--junit", "gate.xml", "--svg", "gate.svg")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"# GO: {reference} against {BASE}:r1")
    assert ET.parse(program.home / "gate.xml").getroot().get("name") == f"ringi gate {reference}"
    # The base is worse than what was trained on it: its likelihoods say so.
    listed = program.json("measurements", "list", PROJECT, "--filter", f"suite={name}", *mine)
    assert {one["version"] for one in listed} == {reference, None}
    by_id = {one["version"]: one["id"] for one in listed}
    done = program.run("gate", by_id[None], "--project", PROJECT, "--suite", name, "--against", reference, *mine)
    assert done.returncode == 1, done.stderr
    (gate, _) = program.json("gate", "list", PROJECT, "--filter", f"suite={name}", *mine)
    assert gate["verdict"] == "NO-GO"
    assert "NO-GO" in program.ok("gate", "report", PROJECT, gate["id"], "--format", "svg", "--profile", "viewer")
    assert len(program.json("measurements", "records", PROJECT, by_id[None], "--limit", "3", *mine)) == 3
    program.ok("suites", "show", f"{PROJECT}/{name}", *mine)
    program.ok("measurements", "show", PROJECT, by_id[reference], *mine)


def test_a_baseline_that_another_engine_measured_is_compared_with_nothing_and_measured_again_where_that_is_asked(
    ground: Ground, program: Shell
) -> None:
    name, mine = f"e{uuid4().hex[:8]}", ("--profile", "contributor")
    given = ("--name", name, "--answering", "likelihood", "--no-off-task", "--margin", "0.3", *mine)
    program.ok("suites", "from-dataset", f"{PROJECT}/{DATASET}", *given)
    reference, asked = f"{PROJECT}/{ADAPTER}:v1", ("--suite", name, "--against", "base", *mine)
    program.ok("sweep", f"{PROJECT}/{name}", reference, *mine)
    (mark,) = program.json("measurements", "list", PROJECT, "--filter", f"suite={name}", *mine)
    older = mark["runtime"] | {"engine": "1"}
    base = copied(
        ground.platform.processes, UUID(mark["id"]), version_id=None, runtime=older, runtime_digest=sha256_json(older)
    )  # fmt: skip
    try:
        # By its id the one measurement is meant, so there is nothing to measure.
        for words in ((reference, *asked), (mark["id"], "--project", PROJECT, *asked, "--sweep")):
            done = program.run("gate", *words)
            assert (done.returncode, "[gate_runtime_differs]" in done.stderr, done.stdout) == (2, True, ""), done.stderr
            assert "different engine." in done.stderr
        done = program.run("gate", reference, *asked, "--sweep")
        assert done.returncode == 0, done.stderr
        found = program.json("measurements", "list", PROJECT, "--filter", f"suite={name}", *mine)
        assert {(one["version"], one["reused_from"]) for one in found if one["id"] not in {mark["id"], str(base)}} == {
            (reference, mark["id"]), (None, None),
        }  # fmt: skip
    finally:
        forget(ground.platform.processes, [base])


def test_a_suite_is_written_in_yaml_and_its_versions_are_compared(program: Shell) -> None:
    name, mine = f"{PROJECT}/w{uuid4().hex[:8]}", ("--profile", "contributor")
    lines = [f'{{"id": "q{number}", "prompt": "{number}は?", "answer": {number % 2}, "tags": {{"site": "大阪"}}}}' for number in range(80)]
    (program.home / "items.jsonl").write_text("\n".join(lines), encoding="utf-8")
    text = "tasks:\n- {name: 道, answering: choice, choices: [yes, no], scorers: [accuracy], items_file: items.jsonl}\n"
    text += "requirements:\n- {task: 道, metric: accuracy, margin: 0.05, slices: {site: critical}, slice_margin: 0.05}\noff_task: false\n"
    (program.home / "suite.yaml").write_text(text, encoding="utf-8")
    program.ok("suites", "create", name, "--description", "道案内の品質", *mine)
    made = program.json("suites", "add", name, "suite.yaml", *mine)
    assert (made["reference"], made["items"], made["document"]["tasks"][0]["choices"]) == (f"{name}:v1", 80, ["yes", "no"])
    (program.home / "items.jsonl").write_text("\n".join(lines[1:]) + '\n{"id": "q0", "prompt": "別の道は?", "answer": 0}', encoding="utf-8")
    (program.home / "suite.yaml").write_text(text.replace("margin: 0.05,", "margin: 0.06,", 1), encoding="utf-8")
    program.ok("suites", "add", name, "suite.yaml", *mine)
    changed = program.json("suites", "diff", f"{name}:v1", f"{name}:v2", *mine)
    assert {(one["what"], one["now"]) for one in changed} == {("item q0", "changed"), ("margin", "0.06")}
    assert "other prompt" in program.ok("suites", "diff", f"{name}:v1", f"{name}:v2", *mine)
    assert program.json("suites", "diff", f"{name}:v1", f"{name}:v1", *mine) == []
    assert [one["number"] for one in program.json("suites", "versions", name, *mine)] == [2, 1]
    assert [one["id"] for one in program.json("suites", "items", f"{name}:v1", "--task", "道", "--limit", "2", *mine)] == ["q0", "q1"]
    shown = program.ok("suites", "advise", name, *mine)
    assert "site=大阪" in shown
    assert name.partition("/")[2] in program.ok("suites", "list", PROJECT, "--search", "道案内", *mine)
    safety = program.json("suites", "add", name, "--shipped", "safety", *mine)
    assert {"refusal-en", "refusal-ja"} <= {one["name"] for one in safety["document"]["tasks"]}
    program.refused("suites", "add", name, *mine, code="usage", exit_code=2)
    program.ok("tags", "set", "suite", f"{name}:v1", "用途=検証", *mine)
    (program.home / "suite.yaml").write_text(text.replace("yes, no", "yes, yes"), encoding="utf-8")
    program.refused("suites", "add", name, "suite.yaml", *mine, code="suite_choices_invalid")


def _suite(ground: Ground, name: str, margin: float) -> str:
    """From the validation split, by likelihood."""
    task = AddTask.model_validate({
        "name": "faq", "answering": "likelihood", "scorers": ["nll"], "dataset": FromDataset(version=DATASET), "decoding": Decoding(max_new_tokens=8),
    })  # fmt: skip
    wanted = {"task": "faq", "metric": "nll", "lower_is_better": True, "margin": margin, "tier": Tier.CRITICAL}
    body = AddSuiteVersion.model_validate({"tasks": [task], "requirements": [wanted], "off_task": False})
    return ground.platform.as_("contributor").suites.add_version(PROJECT, name, body).reference.partition("/")[2]


def _decided(ground: Ground, candidate: str, baseline: str, suite: str) -> Verdict:
    client = ground.platform.as_("contributor")
    swept = client.sweeps.request(
        PROJECT, RequestSweep(suite=suite, versions=[candidate, *([baseline] if ":" in baseline else [])], include_base=True)
    )
    ground.platform.succeeded(swept.job_id)
    return client.gates.decide(PROJECT, DecideGate(candidate=candidate, baseline=baseline, suite=suite)).verdict


def test_an_approval_rests_on_a_decision_about_exactly_its_version_and_suite(ground: Ground) -> None:
    platform, environment, name = ground.platform, environment_name(), f"e{uuid4().hex[:8]}"
    if "policy" not in platform.tokens:
        platform.add_user("policy", Role.POLICY_ADMIN, project=None)
    platform.as_("contributor").suites.create(PROJECT, name)
    suite = _suite(ground, name, 0.3)
    document = PolicyDocument(stages=STAGES, evidence=(GateRule(type="gate", suite=name, baseline="base"),))
    platform.as_("policy").approvals.set_policy(PROJECT, document, environment=environment)
    approvals = platform.as_("contributor").approvals

    def missing(version: str = "v1") -> str:
        with refused("approval_evidence_missing", 409) as why:
            approvals.request(PROJECT, ADAPTER, version, environment=environment)
        assert why.codes == {"evidence.gate"}
        return why.next_step

    assert f"ringi gate {PROJECT}/{ADAPTER}:v1 --suite {name} --against base --sweep" in missing()
    assert _decided(ground, f"{ADAPTER}:v1", f"{ADAPTER}:v2", suite) in set(Verdict)
    missing()
    assert _decided(ground, f"{ADAPTER}:v2", "base", suite) is Verdict.GO
    missing()
    assert _decided(ground, f"{ADAPTER}:v1", "base", suite) is Verdict.GO
    request = approvals.request(PROJECT, ADAPTER, "v1", environment=environment)
    named = [piece for piece in request.evidence if piece["type"] == "gate"]
    (decision,) = platform.as_("viewer").gates.all(PROJECT, filter=[f"suite={name}", "version=1", "asked=base"])
    assert decision.digest in {piece["digest"] for piece in named}
    approvals.withdraw(PROJECT, request.id, reason="別の版のスイートで測り直すため")
    # Another version of the suite asks other things: what was decided before is no evidence any more.
    newer = _suite(ground, name, 0.35)
    missing()
    assert _decided(ground, f"{ADAPTER}:v1", "base", newer) is Verdict.GO
    assert approvals.request(PROJECT, ADAPTER, "v1", environment=environment).state == "in_review"


def test_what_a_channel_serves_now_is_the_baseline_and_moves_with_it(ground: Ground) -> None:
    platform, environment, name = ground.platform, environment_name(), f"h{uuid4().hex[:8]}"
    platform.as_("contributor").suites.create(PROJECT, name)
    suite = _suite(ground, name, 0.3)
    platform.as_("deployer").releases.create_channel(PROJECT, environment, environment=environment)
    client = platform.as_("contributor").gates
    wanted = DecideGate(candidate=f"{ADAPTER}:v2", baseline=f"channel:{environment}", suite=suite)
    _decided(ground, f"{ADAPTER}:v2", "base", suite)
    with refused("gate_channel_serves_nothing", 409):
        client.decide(PROJECT, wanted)
    approved(platform, "v1", environment=environment)
    published(platform, "v1", channel=environment)
    with refused("gate_measurement_missing", 409) as why:
        client.decide(PROJECT, wanted)
    assert (why.details["which"], why.details["version"]) == ("baseline", f"{PROJECT}/{ADAPTER}:v1")
    _decided(ground, f"{ADAPTER}:v1", "base", suite)
    decided = client.decide(PROJECT, wanted)
    assert (decided.baseline, decided.asked) == (f"{PROJECT}/{ADAPTER}:v1", f"channel:{environment}")
    rule = GateRule(type="gate", suite=name, baseline=f"channel:{environment}")
    if "policy" not in platform.tokens:
        platform.add_user("policy", Role.POLICY_ADMIN, project=None)
    other = environment_name()
    platform.as_("policy").approvals.set_policy(PROJECT, PolicyDocument(stages=STAGES, evidence=(rule,)), environment=other)
    request = platform.as_("contributor").approvals.request(PROJECT, ADAPTER, "v2", environment=other)
    assert {one.code: one.satisfied for one in request.requirements}["evidence.gate"] is True
    # The channel moves on: what was compared with the version before it says nothing about this one.
    approved(platform, "v2", environment=environment)
    published(platform, "v2", channel=environment)
    moved = platform.as_("viewer").approvals.get(PROJECT, request.id)
    assert {one.code: one.satisfied for one in moved.requirements}["evidence.gate"] is False
