"""The first half of the story: people, base model, data, training, effect proof, an adapter from elsewhere, evaluation."""

import json
from pathlib import Path
from typing import Any

from ringi_workers.demo.broken_adapters import wrong_prefix_adapter, zero_b_adapter
from ringi_workers.demo.stage import DemoFailed, Stage

PROJECT, ADAPTER, BASE, DATASET = "support", "support/chat", "smollm2", "support/chat"
PEOPLE = {
    "aiko": ("contributor", "reviewer"),
    "ken": ("reviewer",),
    "dana": ("deployer",),
    "iris": ("incident_commander",),
}
# What fits two cores in the time that the demo has; `ringi train --help` lists the ordinary defaults.
PLAN = (
    "--rank", "8", "--alpha", "16", "--target-module", "q_proj", "--target-module", "v_proj", "--learning-rate", "1e-3", "--epochs", "1", "--max-steps", "30",
    "--batch-size", "8", "--max-length", "96", "--checkpoint-every", "20",
)  # fmt: skip
ELSEWHERE_STEPS = 8
VALIDATION_FRACTION = "0.08"


def people(stage: Stage) -> None:
    """1. An organisation, a project, and everybody with a token of their own."""
    stage.run(
        "setup", "sakura", "--admin", "mio", "--display-name", "株式会社さくら", "--data-dir", str(stage.data_dir), "--save-as", "mio",
    )  # fmt: skip
    stage.run("projects", "create", PROJECT, "--display-name", "問い合わせ窓口", user="mio")
    for name, roles in PEOPLE.items():
        stage.run("users", "create", name, user="mio")
        for role in roles:
            stage.run("roles", "grant", name, role, "--project", PROJECT, user="mio")
        stage.run("tokens", "issue", name, "--save-as", name, user="mio")
    stage.run("users", "create", "otto", user="mio")
    stage.run("roles", "grant", "otto", "auditor", user="mio")
    stage.run("tokens", "issue", "otto", "--save-as", "otto", user="mio")
    stage.run("channels", "create", PROJECT, "production", "--environment", "production", user="dana")
    stage.note("organisation, project, a channel, and six people with roles and tokens of their own")


def base_model(stage: Stage, folder: Path) -> None:
    """2. The base model's revision 1: files by digest, config and tokenizer parsed, F1 and F2 computed."""
    stage.run("bases", "create", BASE, "--description", "SmolLM2-135M-Instruct, de-quantised from Q4_1", user="mio")
    stage.run("bases", "register", BASE, str(folder), "--note", "first", user="mio")
    revision = stage.read("bases", "show", f"{BASE}:r1", user="mio")
    facts = revision["facts"]
    stage.note(
        f"{BASE}:r1 sealed: {facts['parameters'] / 1e6:.0f} M parameters, F1 {revision['fingerprint']['F1'][:19]}…, no bfp1 id before all parts exist"
    )


def dataset(stage: Stage, rows: Path) -> None:
    """3. Real questions and answers, validated, split and sealed; the same bytes again give the same version."""
    stage.run("datasets", "create", DATASET, "--description", "chatterbot-corpus, 英語と日本語", user="aiko")
    stage.run("datasets", "add", DATASET, str(rows), "--validation-fraction", VALIDATION_FRACTION, user="aiko")
    version = stage.read("datasets", "show", f"{DATASET}:v1", user="aiko")
    report = version["report"]
    support = report["categories"]["english:tech_support"]
    stage.note(
        f"{report['rows']} rows, {report['unique_pairs']} unique pairs, {report['validation_rows']} for validation; tech_support: "
        f"{support['rows']} rows are {support['unique']} pairs, {support['validation']} of them in validation"
    )
    if report["validation_rows"] < 100 or support["validation"] != 0:  # noqa: PLR2004  # what the story promises
        raise DemoFailed("The validation split is not what it must be.", next_step="Compare docs and report.")
    again = stage.read("datasets", "add", DATASET, str(rows), "--validation-fraction", VALIDATION_FRACTION, user="aiko")
    if _number(again) != 1:
        raise DemoFailed("Uploading the same bytes made another version.", next_step="This must never happen; report it.")
    stage.note("uploading the same bytes again gave the same version")


def training(stage: Stage) -> None:
    """4. A LoRA run with live progress; the version is sealed after its effect proof."""
    stage.run("adapters", "create", ADAPTER, "--base", BASE, "--description", "雑談と一般知識", user="aiko")
    stage.run("train", ADAPTER, "--dataset", "chat:v1", "--base-revision", "r1", *PLAN, user="aiko")
    version = stage.read("adapters", "show", f"{ADAPTER}:v1", user="aiko")
    effect = version["effect"]
    stage.note(
        f"v1 sealed: changes the logits by {effect['change']:.2f}, the base's own noise is {effect['noise']:.1e} ({effect['prompts']} probe prompts)"
    )


def elsewhere(stage: Stage, server: str, rows: Path, scratch: Path) -> None:
    """5. A PEFT folder that another team trained; a silent one and a mislabelled one are refused."""
    base = stage.read("bases", "show", f"{BASE}:r1", user="aiko")
    pulled = pull_environment(stage, server, "aiko", scratch)
    stage.say("another team pulls the base from the hub and trains with plain peft")
    folder = scratch / "elsewhere"
    stage.python(
        "ringi_workers.demo.elsewhere", f"bases/{BASE}", base["commit"], str(rows), str(folder), str(ELSEWHERE_STEPS), environment=pulled
    )
    stage.run("adapters", "register", ADAPTER, str(folder), "--base-revision", "r1", user="aiko")
    stage.note("v2 sealed: trained elsewhere, same checks, same sealing")
    zero_b_adapter(folder, scratch / "zero-b")
    stage.refused("adapters", "register", ADAPTER, str(scratch / "zero-b"), "--base-revision", "r1", user="aiko", code="adapter_no_effect")
    stage.note("refused: an adapter whose B is zero (adapter_no_effect)")
    wrong_prefix_adapter(folder, scratch / "wrong-prefix")
    stage.refused(
        "adapters",
        "register",
        ADAPTER,
        str(scratch / "wrong-prefix"),
        "--base-revision",
        "r1",
        user="aiko",
        code="adapter_tensors_unmatched",
    )
    stage.note("refused: an adapter whose keys match nothing (adapter_tensors_unmatched)")


def evaluation(stage: Stage, version: str) -> dict[str, Any]:
    """6. Version against base on the same unseen items."""
    stage.run("evaluate", f"{ADAPTER}:{version}", "--dataset", "chat:v1", "--max-new-tokens", "8", "--batch-size", "64", user="aiko")
    summary: dict[str, Any] = newest_summary(stage, version)
    stage.note(f"{version} against the bare base: {in_words(summary)}")
    if summary["verdict"] != "better":
        raise DemoFailed(f"{version} is not better than its base.", next_step="Look at the evaluation's records.")
    return summary


def newest_summary(stage: Stage, version: str) -> dict[str, Any]:
    """Summary of the version's newest evaluation."""
    found = stage.read("evaluations", "list", f"{ADAPTER}:{version}", user="aiko")
    newest: dict[str, Any] = (found["items"] if isinstance(found, dict) else found)[0]["summary"]
    return newest


def in_words(summary: dict[str, Any]) -> str:
    """Improvement per reference token with its paired interval."""
    interval = summary["improvement_interval"]
    return (
        f"{summary['verdict']}, {summary['improvement']:+.3f} nats per token, 95 % interval {interval['low']:+.3f} to {interval['high']:+.3f}, "
        f"{summary['scored']} of {summary['n']} items scored, match {summary['candidate_match_rate']:.1%} against {summary['baseline_match_rate']:.1%}"
    )


def pull_environment(stage: Stage, server: str, user: str, scratch: Path) -> dict[str, str]:
    """What a user's hub clients need to pull from the channel `production`."""
    profiles = json.loads(Path(stage.environment["RINGI_CONFIG"]).read_text(encoding="utf-8"))
    return {
        "HF_ENDPOINT": f"{server}/hf/production",
        "HF_TOKEN": profiles["profiles"][user]["token"],
        "HF_HOME": str(scratch / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def _number(accepted: dict[str, Any]) -> int:
    version = accepted.get("version") or accepted
    return int(version["number"])
