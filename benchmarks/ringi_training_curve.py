"""Ours in `benchmarks.training_to_accuracy`: the recipe of the training worker as it is, whose snapshots are kept.

`ringi_training_curve.py BATCH_SIZE LORA_PLUS OWN BASE ROWS RATE EPOCHS EVERY FOLDER` keeps the weights of every EVERY rows in FOLDER and prints one line of JSON:
of each the seconds of the steps until then, snapshots apart, and the rows. LORA_PLUS: by what B's rate is higher than A's; 1 is plain LoRA.
OWN: 1 leaves RATE aside, for what the platform takes for this base when a plan names none.
"""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from safetensors.torch import load_file, save_file

from ringi.jobs.contracts.parts import Progress
from ringi.training.schemas import TrainingPlan
from ringi_workers.base_models.fingerprint import fingerprint
from ringi_workers.training.recipe import train


class Clock:
    """A sink and a store of snapshots that adds up the seconds of the steps alone."""

    def __init__(self, folder: Path, batch: int) -> None:
        self._folder, self._batch = folder, batch
        self._begun, self._seconds = 0.0, 0.0
        self.kept: list[dict[str, object]] = []

    def report(self, progress: Progress) -> None:
        """Nothing to do."""

    def should_stop(self) -> bool:
        """Never; asked just before a step begins."""
        self._begun = time.perf_counter()
        return False

    def should_pause(self) -> bool:
        """Never."""
        return False

    def log(self, metrics: dict[str, float], step: int) -> None:  # noqa: ARG002  # the sink's form
        """Told just after a step has ended."""
        self._seconds += time.perf_counter() - self._begun

    def latest(self) -> Path | None:
        """Nothing to go on from."""
        return None

    def save(self, directory: Path, step: int) -> None:
        """Keep the adapter's weights."""
        name = f"{step}.safetensors"
        shutil.copyfile(directory / "adapter.safetensors", self._folder / name)
        self._note(step, name)

    def end(self, adapter: Path, steps: int) -> None:
        """The sealed adapter, under the names that its tensors have in the model."""
        name = f"{steps}.safetensors"
        tensors = {key.replace(".weight", ".default.weight"): tensor for key, tensor in load_file(adapter).items()}
        save_file(tensors, self._folder / name)
        self._note(steps, name)

    def _note(self, step: int, name: str) -> None:
        self.kept.append({"seconds": self._seconds, "rows": step * self._batch, "weights": name})


def main() -> None:
    """Run it."""
    batch, plus, own, base, rows = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3] == "1", Path(sys.argv[4]), Path(sys.argv[5])
    rate, epochs, every, folder = float(sys.argv[6]), int(sys.argv[7]), int(sys.argv[8]), Path(sys.argv[9])
    plan = TrainingPlan(
        rank=8, alpha=16, target_modules=["q_proj", "v_proj"], batch_size=batch, epochs=epochs, max_length=128, learning_rate=None if own else rate,
        checkpoint_every=max(1, every // batch), lora_plus_ratio=plus if plus > 1 else None,
    )  # fmt: skip
    clock = Clock(folder, batch)
    with tempfile.TemporaryDirectory() as out:
        done = train(
            plan.resolved(fingerprint(base).facts), base=base, rows=rows, out=Path(out) / "out", sink=clock, checkpoints=clock, base_name="bases/smollm2", base_commit="0" * 40
        )  # fmt: skip
        clock.end(done.directory / "adapter_model.safetensors", done.metrics.steps)
    print(json.dumps(clock.kept))


if __name__ == "__main__":
    main()
