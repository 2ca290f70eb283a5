"""A pilot on real rows: `python -m benchmarks.pilot_banking77 [--rows 240] [--intents 6] [--out pilot]`, about ten minutes on two cores.

One `ringi pilot` on a platform of its own: SmolLM2-135M, rows of Banking77 (PolyAI, Casanueva et al. 2020, CC BY 4.0) of a few intents; the bare base, LoRA,
DoRA and full fine-tuning, judged on the fixed validation part. The price of an hour and the figures of the return are made up, and show where they go.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.desk import open_desk
from benchmarks.lifecycle_banking77 import write_rows
from ringi.embedded.processes import platform_status
from ringi.pilots.schemas import Report
from ringi_workers.demo.stage import Stage

PRICES = {"currency": "JPY", "as_of": "2026-11-01", "source": "made up for this benchmark", "per_hour": {"cpu": 40.0}}
FIGURES = {
    "currency": "JPY", "requests_per_month": 4000, "minutes_saved": 2, "hourly_wage": 2400, "wrong_answer_cost": 120, "running_cost": 40_000,
    "one_off_cost": 600_000, "months": 12,
}  # fmt: skip


def few_intents(source: Path, target: Path, intents: int, rows: int) -> None:
    """`rows` of the first so many intents, in the order of the source."""
    read = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    kept = set(sorted({row["intent"] for row in read})[:intents])
    chosen = [row for row in read if row["intent"] in kept][:rows]
    target.write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")


def tell(stage: Stage, scratch: Path, asked: argparse.Namespace, plan: list[str]) -> Report:
    """The story: the report of its pilot."""
    with stage.chapter("people, base, rows"):
        open_desk(stage)
        write_rows(scratch / "all.jsonl", 10_000)
        few_intents(scratch / "all.jsonl", scratch / "rows.jsonl", asked.intents, asked.rows)
        stage.run("datasets", "create", "desk/rows", user="aiko")
        stage.run("datasets", "add", "desk/rows", str(scratch / "rows.jsonl"), "--validation-fraction", "0.25", user="aiko")
    (scratch / "figures.yaml").write_text(json.dumps(FIGURES), encoding="utf-8")
    with stage.chapter("the pilot"):
        out = ("--out", str(asked.out), "--roi", str(scratch / "figures.yaml"))
        stage.run("pilot", "desk/rows:v1", "--base", "smollm2", "--choices-from", "completion", *out, *plan, user="aiko")
    return Report.model_validate_json((asked.out / "pilot.json").read_text(encoding="utf-8"))


def main() -> int:
    """Tells it; exit status 1 where no arm is recommended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=240)
    parser.add_argument("--intents", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("pilot"))
    asked, plan = parser.parse_known_args()
    scratch = Path(tempfile.mkdtemp(prefix="ringi-pilot-"))
    (scratch / "prices.json").write_text(json.dumps(PRICES), encoding="utf-8")
    os.environ["RINGI_PRICE_TABLE"] = str(scratch / "prices.json")
    stage = Stage(scratch / "platform")
    stage.data_dir.mkdir(parents=True)
    began = time.monotonic()
    try:
        usual = ["--rank", "8", "--learning-rate", "2e-3", "--learning-rate-of", "full=5e-5", "--epochs", "3", "--max-length", "128"]
        report = tell(stage, scratch, asked, plan or usual)
    finally:
        if platform_status(stage.data_dir).api_url:
            stage.run("down", "--data-dir", str(stage.data_dir))
        shutil.rmtree(scratch, ignore_errors=True)
    shares = " ".join(f"{arm.name}={arm.quality.mean.value:.3f}" for arm in report.arms if arm.quality is not None)
    advice = report.recommendation
    print(
        f"\n{datetime.now(UTC):%Y-%m-%d}\npilot_banking77 {shares} recommended={advice.arm} why={advice.advice} seconds={time.monotonic() - began:.0f}"
    )
    return int(advice.arm is None)


if __name__ == "__main__":
    sys.exit(main())
