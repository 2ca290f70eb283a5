"""A lifecycle on real rows: `python -m benchmarks.lifecycle_banking77 [--rows 1000]`, about eight minutes on two cores.

Told on a platform of its own by `ringi` commands: SmolLM2-135M, 1,000 rows of Banking77 (PolyAI, Casanueva et al. 2020, CC BY 4.0) with all 77 intents, a
validation part that the platform divides off and keeps, one training, a suite made of that validation part (choose among all intents), one sweep
over the base and the version, and the gate. Printed are the accuracies of both on the validation part, and the interval of their difference.
"""

import argparse
import csv
import json
import random
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.desk import open_desk
from benchmarks.gate_stories import DATA, decide
from ringi.embedded.processes import platform_status
from ringi_workers.demo.stage import DemoFailed, Stage

SEED = 0


def write_rows(target: Path, count: int) -> int:
    """`count` training rows, each intent as often as the others as far as it has rows; returns how many intents there are."""
    by_intent: dict[str, list[str]] = {}
    with (DATA / "banking77" / "train.csv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            by_intent.setdefault(row["category"], []).append(row["text"].strip())
    draw = random.Random(SEED)  # a draw, no secret
    for texts in by_intent.values():
        draw.shuffle(texts)
    longest = max(map(len, by_intent.values()))
    in_turn = [(texts[place], intent) for place in range(longest) for intent, texts in sorted(by_intent.items()) if place < len(texts)]
    rows = [
        {"prompt": f"Customer: {text}\nIntent:", "completion": said.replace("_", " "), "intent": said} for text, said in in_turn[:count]
    ]
    draw.shuffle(rows)
    target.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return len(by_intent)


def tell(stage: Stage, scratch: Path, rows: int, plan: list[str]) -> dict[str, float]:
    """The story; the figures of its last line."""
    with stage.chapter("people, base, rows"):
        open_desk(stage)
        intents = write_rows(scratch / "rows.jsonl", rows)
        stage.run("datasets", "create", "desk/rows", user="aiko")
        stage.run("datasets", "add", "desk/rows", str(scratch / "rows.jsonl"), "--validation-fraction", "0.2", user="aiko")
        stage.run("adapters", "create", "desk/router", "--base", "smollm2", user="aiko")
    began = time.monotonic()
    with stage.chapter("training"):
        stage.run("train", "desk/router", "--dataset", "rows:v1", *plan, user="aiko")
    trained_s = time.monotonic() - began
    with stage.chapter("the validation part as a suite, a sweep, the gate"):
        stage.run(
            "suites", "from-dataset", "desk/rows:v1", "--choices-from", "completion", "--name", "intents", "--no-off-task", user="aiko"
        )
        stage.run("sweep", "desk/intents", "desk/router:v1", "--include-base", user="aiko")
        told = decide(stage, "intents", "router:v1", "base")
    whole = told.document.decision.tasks[0].whole
    if whole is None or whole.baseline is None or whole.candidate is None:
        raise DemoFailed("The validation part was not measured.", next_step="See the service logs.")
    stage.note(
        f"base {whole.baseline:.3f}, router:v1 {whole.candidate:.3f} of {whole.n} validation rows, {intents} intents: {told.verdict}"
    )
    for reason in told.document.decision.reasons:
        stage.console.print(f"  {reason.says} {reason.code} {reason.text}", soft_wrap=True, markup=False)
    return {
        "base_accuracy": whole.baseline, "accuracy": whole.candidate, "validation_rows": float(whole.n), "rows": float(rows),
        "intents": float(intents), "training_s": trained_s,
    }  # fmt: skip


def main() -> int:
    """Tells it; exit status 1 where the version is not twice as often right as the base."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    asked, plan = parser.parse_known_args()
    scratch = Path(tempfile.mkdtemp(prefix="ringi-lifecycle-"))
    stage = Stage(scratch / "platform")
    stage.data_dir.mkdir(parents=True)
    began = time.monotonic()
    try:
        figures = tell(
            stage, scratch, asked.rows, plan or ["--rank", "8", "--learning-rate", "2e-3", "--epochs", "3", "--max-length", "128"]
        )
    finally:
        if platform_status(stage.data_dir).api_url:
            stage.run("down", "--data-dir", str(stage.data_dir))
        shutil.rmtree(scratch, ignore_errors=True)
    figures["seconds"] = time.monotonic() - began
    print(f"\n{datetime.now(UTC):%Y-%m-%d}\nlifecycle_banking77 {' '.join(f'{key}={value:.3f}' for key, value in figures.items())}")
    return int(figures["accuracy"] < 2 * figures["base_accuracy"])


if __name__ == "__main__":
    sys.exit(main())
