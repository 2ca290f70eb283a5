"""Ours in `benchmarks.training_vs_peers`: the recipe of the training worker as it is, in a process of its own.

`ringi_training.py BATCH_SIZE BASE ROWS SECONDS` prints one line of JSON: real tokens and seconds of the loop's steps after the first two.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from ringi.jobs.contracts.parts import Progress
from ringi.training.schemas import TrainingPlan
from ringi_workers.adapters.attach import load_tokenizer
from ringi_workers.training.data import load_examples
from ringi_workers.training.plan import Plan
from ringi_workers.training.recipe import train
from ringi_workers.training.refusals import TrainingCancelled

WARM_STEPS = 2


class Clock:
    """A sink that notes when each step ended, and asks for the end when its time is over."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.ended: list[float] = []
        self.cpu: list[float] = []
        self.losses: dict[int, float] = {}

    def report(self, progress: Progress) -> None:
        """Nothing to do."""

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.ended.append(time.perf_counter())
        self.cpu.append(time.process_time())
        self.losses[step] = metrics["loss"]

    def should_stop(self) -> bool:
        return len(self.ended) > WARM_STEPS and self.ended[-1] - self.ended[WARM_STEPS - 1] >= self._seconds

    def should_pause(self) -> bool:
        """Never."""
        return False


def main() -> None:
    """Run until the time is over."""
    batch, base, rows, seconds = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])
    plan = TrainingPlan(
        rank=8, alpha=16, target_modules=["q_proj", "v_proj"], batch_size=batch, epochs=100, max_length=2048, checkpoint_every=10**6
    )
    spec, clock = plan.resolved(), Clock(seconds)
    with tempfile.TemporaryDirectory() as folder:
        try:
            train(
                spec, base=base, rows=rows, out=Path(folder), sink=clock, checkpoints=None, base_name="bases/smollm2", base_commit="0" * 40
            )
        except TrainingCancelled:
            # Its time was over, as asked for.
            steps = len(clock.ended) - WARM_STEPS
    examples = load_examples(rows, load_tokenizer(base), spec.max_length).examples
    batches = [indices for step, indices in Plan(spec, examples).batches(after=WARM_STEPS) if step <= WARM_STEPS + steps]
    tokens = sum(len(examples[index].input_ids) for indices in batches for index in indices)
    seconds, cpu = (times[-1] - times[WARM_STEPS - 1] for times in (clock.ended, clock.cpu))
    print(json.dumps({"tokens": tokens, "seconds": seconds, "cpu_seconds": cpu, "steps": steps}))


if __name__ == "__main__":
    main()
