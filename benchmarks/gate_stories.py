"""Two real stories of the gate: `python -m benchmarks.gate_stories [banking77|jcommonsenseqa ...]`.

Each is told on a platform of its own, by `ringi` commands: a base (SmolLM2-135M), an adapter trained on good rows, and one that is trained in the same way on rows of which
one slice was destroyed, as a mislabelled delivery of one site would be. A sweep measures all three with one suite; the gate then compares the good one with the bare
base, and the damaged one with the good one, whose slice it must name.

- banking77 (PolyAI, Casanueva et al. 2020, CC BY 4.0): twelve intents of four areas, chosen and written; destroyed: the area `cash`, whose intents have changed places.
- jcommonsenseqa (JGLUE v1.3, CC BY-SA 4.0): a choice of five, in Japanese; destroyed: the questions for a name, which have another question's answer.
"""

import argparse
import csv
import json
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from benchmarks.desk import open_desk
from ringi.embedded.processes import platform_status
from ringi.gates.schemas import GateOut
from ringi.gating.schemas import Verdict
from ringi_workers.demo.stage import DemoFailed, Stage

DATA = Path(__file__).parents[2] / "shared" / "data"
AREAS = {
    "card": ("card_arrival", "card_not_working", "lost_or_stolen_card"),
    "cash": ("cash_withdrawal_charge", "pending_cash_withdrawal", "wrong_amount_of_cash_received"),
    "top-up": ("top_up_failed", "top_up_limits", "automatic_top_up"),
    "transfer": ("cancel_transfer", "failed_transfer", "transfer_timing"),
}
_NAMES, _PLACES = ("という", "と言う", "と呼", "名前"), ("どこ", "場所", "何処")


class Story(NamedTuple):
    """Rows for training, the same with a slice destroyed, and what is asked of everybody."""

    slice: str
    rows: list[dict[str, str]]
    damaged: list[dict[str, str]]
    tasks: list[dict[str, Any]]
    requirements: list[dict[str, Any]]
    items: list[dict[str, Any]]
    plan: tuple[str, ...]


def banking77(rows: int) -> Story:
    """Intent routing, by choice and in words."""
    area_of = {intent: area for area, intents in AREAS.items() for intent in intents}
    moved = dict(zip(AREAS["cash"], (*AREAS["cash"][1:], AREAS["cash"][0]), strict=True))

    def read(name: str) -> Iterator[tuple[str, str]]:
        with (DATA / "banking77" / name).open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                if row["category"] in area_of:
                    yield row["text"].strip(), row["category"]

    def row(text: str, intent: str, said: str) -> dict[str, str]:
        return {"prompt": f"Customer: {text}\nIntent:", "completion": said.replace("_", " "), "area": area_of[intent]}

    train = list(read("train.csv"))
    random.Random(0).shuffle(train)  # an order, no secret
    choices = [intent.replace("_", " ") for intent in area_of]
    items = [
        {**row(text, intent, intent), "id": f"q{number:04d}", "intent": intent.replace("_", " ")}
        for number, (text, intent) in enumerate(read("test.csv"))
    ]
    slices = {"area": "supporting"}
    return Story(
        "area=cash",
        [row(text, intent, intent) for text, intent in train[:rows]],
        [row(text, intent, moved.get(intent, intent)) for text, intent in train[:rows]],
        [
            {"name": "choose", "answering": "choice", "choices": choices, "scorers": ["accuracy"]},
            {"name": "write", "answering": "generate", "scorers": ["normalised_match"], "decoding": {"max_new_tokens": 12}},
        ],
        [
            {"task": "choose", "metric": "accuracy", "tier": "critical", "margin": 0.03, "slices": slices, "slice_margin": 0.05},
            {"task": "write", "metric": "normalised_match", "tier": "supporting", "margin": 0.03, "slices": slices, "slice_margin": 0.05},
        ],
        [
            {
                "id": one["id"], "prompt": one["prompt"], "answer": choices.index(one["intent"]), "references": [one["intent"]], "tags": {"area": one["area"]}
            }
            for one in items
        ],
        ("--learning-rate", "2e-3", "--epochs", "1", "--max-length", "128"),
    )  # fmt: skip


def jcommonsenseqa(rows: int) -> Story:
    """Common sense in Japanese: which of five, and how likely the right one is."""

    def read(name: str) -> list[dict[str, Any]]:
        lines = (DATA / "jcommonsenseqa" / name).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line]

    def kind(question: str) -> str:
        return next((name for name, marks in {"場所": _PLACES, "名前": _NAMES}.items() if any(mark in question for mark in marks)), "もの")

    def row(one: dict[str, Any], said: str) -> dict[str, str]:
        return {"prompt": f"問題: {one['question']}", "completion": said, "kind": kind(one["question"])}

    train = read("train.jsonl")
    random.Random(0).shuffle(train)  # an order, no secret
    # The questions for a name first, so that the slice is learnt at all: they are one in six.
    train.sort(key=lambda one: kind(one["question"]) != "名前")
    train = random.Random(1).sample(train[: rows + rows // 2], rows)  # a draw, no secret
    right = {one["q_id"]: one[f"choice{one['label']}"] for one in train}
    of_names = [one["q_id"] for one in train if kind(one["question"]) == "名前"]
    others = right | {key: right[other] for key, other in zip(of_names, [*of_names[1:], *of_names[:1]], strict=True)}
    slices = {"kind": "supporting"}
    return Story(
        "kind=名前",
        [row(one, right[one["q_id"]]) for one in train],
        [row(one, others[one["q_id"]]) for one in train],
        [
            {"name": "choose", "answering": "choice", "scorers": ["accuracy", {"name": "accuracy_chars", "label": "acc_norm"}]},
            {"name": "right answer", "answering": "likelihood", "scorers": ["nll"]},
        ],
        [
            {"task": "choose", "metric": "accuracy", "tier": "critical", "margin": 0.03, "slices": slices, "slice_margin": 0.05},
            {
                "task": "right answer", "metric": "nll", "lower_is_better": True, "tier": "supporting", "margin": 0.05, "slices": slices, "slice_margin": 0.1
            },
        ],
        [
            {
                "id": str(one["q_id"]), "prompt": f"問題: {one['question']}", "choices": [one[f"choice{place}"] for place in range(5)], "answer": one["label"],
                "references": [one[f"choice{one['label']}"]], "tags": {"kind": kind(one["question"])},
            }
            for one in read("valid.jsonl")
        ],
        ("--learning-rate", "2e-3", "--epochs", "1", "--max-length", "128"),
    )  # fmt: skip


# `ringi gate` ends so where it has no verdict.
_ERROR = 2
STORIES = {"banking77": (banking77, 480), "jcommonsenseqa": (jcommonsenseqa, 800)}


def tell(name: str, story: Story, stage: Stage, scratch: Path) -> dict[str, float]:
    """One story; the figures of its last line."""
    with stage.chapter(f"{name}: a suite, a base and two adapters"):
        open_desk(stage)
        stage.run("datasets", "create", "desk/rows", user="aiko")
        stage.run("adapters", "create", "desk/bot", "--base", "smollm2", user="aiko")
        suite = {"tasks": [_with_items(task, story.items, scratch) for task in story.tasks], "requirements": story.requirements}
        (scratch / "suite.yaml").write_text(json.dumps(suite, ensure_ascii=False), encoding="utf-8")
        stage.run("suites", "create", f"desk/{name}", user="aiko")
        stage.run("suites", "add", f"desk/{name}", str(scratch / "suite.yaml"), user="aiko")
        for number, rows in enumerate((story.rows, story.damaged), start=1):
            (scratch / "rows.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
            stage.run("datasets", "add", "desk/rows", str(scratch / "rows.jsonl"), "--validation-fraction", "0.02", user="aiko")
            train = ("train", "desk/bot", "--dataset", f"rows:v{number}", "--rank", "8", "--batch-size", "16", *story.plan)
            stage.run(*train, user="aiko")
            stage.note(f"v{number} trained on {len(rows)} rows")
    with stage.chapter(f"{name}: one sweep"):
        stage.run("sweep", f"desk/{name}", "desk/bot:v1", "desk/bot:v2", "--include-base", user="aiko")
    with stage.chapter(f"{name}: the gate"):
        good = decide(stage, name, "bot:v1", "base")
        damaged = decide(stage, name, "bot:v2", "bot:v1")
        return _told(stage, name, story, good, damaged)


def _with_items(task: dict[str, Any], items: list[dict[str, Any]], scratch: Path) -> dict[str, Any]:
    """The task with its items in a file beside the suite: choices are for the task that asks for one."""
    unasked = set() if task["answering"] == "choice" else {"choices", "answer"}
    lines = [json.dumps({key: value for key, value in item.items() if key not in unasked}, ensure_ascii=False) + "\n" for item in items]
    (scratch / f"{task['answering']}.jsonl").write_text("".join(lines), encoding="utf-8")
    return task | {"items_file": f"{task['answering']}.jsonl"}


def decide(stage: Stage, suite: str, candidate: str, against: str) -> GateOut:
    """What `ringi gate` says; its exit code is the verdict, and 2 an error."""
    command = ("gate", f"desk/{candidate}", "--suite", suite, "--against", against)
    stage.console.print(f"[bold cyan]$[/] ringi --profile aiko {shlex.join(command)}", soft_wrap=True)
    typed = [str(Path(sys.executable).with_name("ringi")), "--profile", "aiko", *command, "--json"]
    done = subprocess.run(typed, env=stage.environment, capture_output=True, text=True, check=False)
    if done.returncode == _ERROR:
        raise DemoFailed(f"The gate gave no verdict: {done.stderr}", next_step="See the service logs.")
    return GateOut.model_validate_json(done.stdout)


def _told(stage: Stage, name: str, story: Story, good: GateOut, damaged: GateOut) -> dict[str, float]:
    """The table of means, the verdicts, and whether the slice was named, and no other."""
    table = Table("task", "metric", "slice", "items", "base", "good", "damaged", title=f"{name}: means")
    figures: dict[str, float] = {}
    for ours, theirs in zip(good.document.decision.tasks, damaged.document.decision.tasks, strict=True):
        for one, other in zip((ours.whole, *ours.slices), (theirs.whole, *theirs.slices), strict=True):
            if one is None or other is None or one.candidate is None or one.baseline is None or other.candidate is None:
                continue
            means = {"base": one.baseline, "good": one.candidate, "damaged": other.candidate}
            table.add_row(ours.task, ours.metric, one.slice or "all", str(one.n), *(f"{mean:.3f}" for mean in means.values()))
            if one.slice in (None, story.slice):
                key = f"{ours.metric}{'' if one.slice is None else '_slice'}"
                figures |= {f"{key}_{arm}": mean for arm, mean in means.items()}
    stage.console.print(table)
    for what, decision in (("good against base", good), ("damaged against good", damaged)):
        stage.note(f"{what}: {decision.verdict}")
        for reason in decision.document.decision.reasons:
            stage.console.print(f"  {reason.says} {reason.code} {reason.text}", soft_wrap=True, markup=False)
    named = {
        one.slice for task in damaged.document.decision.tasks for one in task.slices if one.verdict is Verdict.NO_GO
    }  # fmt: skip
    stage.note(f"slices that the gate names in the damaged one: {sorted(filter(None, named))}; destroyed: {story.slice}")
    return figures | {
        "good_go": float(good.verdict is Verdict.GO),
        "damaged_no_go": float(damaged.verdict is Verdict.NO_GO),
        "slice_named": float(story.slice in named),
        "others_named": float(len(named - {story.slice})),
    }


def main() -> int:
    """Tells them; exit status 1 where the gate did not say GO to the good one, or did not name the slice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stories", nargs="*", default=list(STORIES), help="banking77, jcommonsenseqa; both unless given")
    parser.add_argument("--rows", type=int, help="rows to train on; 480 and 800 unless given")
    parser.add_argument("--keep", type=Path, help="keep the platforms' folders here")
    asked = parser.parse_args()
    figures: dict[str, float] = {}
    for name in asked.stories:
        make, rows = STORIES[name]
        scratch = Path(tempfile.mkdtemp(prefix="ringi-story-"))
        stage = Stage((asked.keep or scratch) / name)
        stage.data_dir.mkdir(parents=True)
        began = time.monotonic()
        try:
            told = tell(name, make(asked.rows or rows), stage, scratch)
        finally:
            if platform_status(stage.data_dir).api_url:
                stage.run("down", "--data-dir", str(stage.data_dir))
            shutil.rmtree(scratch, ignore_errors=True)
        figures |= {f"{name}_{key}": value for key, value in (told | {"seconds": time.monotonic() - began}).items()}
    print(f"\n{datetime.now(UTC):%Y-%m-%d}\ngate_stories {' '.join(f'{key}={value:.3f}' for key, value in figures.items())}")
    return int(any(figures[f"{name}_{what}"] == 0 for name in asked.stories for what in ("good_go", "damaged_no_go", "slice_named")))


if __name__ == "__main__":
    sys.exit(main())
