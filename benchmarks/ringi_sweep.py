"""Ringi's side of the sweep benchmark: one process that loads the base once and answers the plan with every adapter.

`python benchmarks/ringi_sweep.py PLAN.json RESULTS.jsonl`; the plan has base, adapters, task, items, dtype and batch_size.
"""

import gc
import json
import sys
import time
from pathlib import Path

# As a worker starts (`ringi_workers.app.load_tasks`).
gc.disable()

import torch  # noqa: E402

from ringi.jobs.contracts.parts import Progress  # noqa: E402
from ringi.jobs.contracts.suites import Item, Task  # noqa: E402
from ringi_workers.evaluation.swapping import SwappableBase  # noqa: E402
from ringi_workers.evaluation.sweep import NotMeasured, sweep  # noqa: E402

gc.freeze()
gc.enable()


class _Silent:
    def report(self, progress: Progress) -> None:
        """Nobody looks."""

    def should_stop(self) -> bool:
        return False


def main() -> None:
    """Answer the plan; one JSON line an adapter, and a last one with the seconds from the first line of this function."""
    begun = time.perf_counter()
    plan = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    dtype = None if plan["dtype"] == "auto" else getattr(torch, plan["dtype"])
    base = SwappableBase(Path(plan["base"]), dtype=dtype)
    loaded_s = time.perf_counter() - begun
    arms = {name: Path(folder) for name, folder in plan["adapters"].items()}
    task, items = Task.model_validate(plan["task"]), [Item.model_validate(item) for item in plan["items"]]
    with Path(sys.argv[2]).open("w", encoding="utf-8") as out:
        for result in sweep(base, arms, [(task, items)], sink=_Silent(), batch_size=plan["batch_size"]):
            if isinstance(result, NotMeasured):
                raise RuntimeError(f"{result.arm}: {result.code}: {result.message}")  # noqa: TRY004 - no matter of types
            answers = [answer.model_dump(mode="json") for answer in result.answers]
            operations = result.operations.model_dump(mode="json")
            out.write(json.dumps({"arm": result.arm, "answers": answers, "operations": operations, "runtime": result.runtime}) + "\n")
        out.write(json.dumps({"loaded_s": loaded_s, "total_s": time.perf_counter() - begun, "loads": base.loads}) + "\n")


if __name__ == "__main__":
    main()
