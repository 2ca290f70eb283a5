"""A run that is killed and goes on has, to the last bit, the losses of a run that was not: packed, in several passes, with early stopping."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ringi.jobs.contracts.training import LoraSpec, Packing, Schedule
from ringi.kit.digests import sha256_file
from ringi_workers.training.refusals import TrainingCancelled
from support.recipes import SPEC, Follower, run
from support.seeds import kept_seed
from support.tiny_model import make_tiny_base, make_tiny_rows

SEED = "RINGI_RESUME_SEED"
STEPS = 60
RESUMED = LoraSpec.model_validate(
    SPEC.model_dump()
    | {
        "packing": Packing.ON, "pack_length": 256, "micro_batch_size": 3, "schedule": Schedule.COSINE, "max_steps": STEPS, "epochs": 4,
        "early_stopping_patience": 2, "evaluate_every": 7, "checkpoint_every": 5,
    }
)  # fmt: skip

# A process that says every step's losses, exact to the last bit, before it goes on.
_CHILD = """
import json, sys
from pathlib import Path
from ringi.jobs.contracts.training import LoraSpec
from support.recipes import Follower, run
class Telling(Follower):
    def log(self, metrics, step):
        super().log(metrics, step)
        print(json.dumps([step, metrics["loss"].hex(), metrics["validation_loss"].hex() if "validation_loss" in metrics else None]), flush=True)
base, rows, unseen, out, folder = map(Path, sys.argv[2:])
run(base, rows, out, spec=LoraSpec.model_validate_json(sys.argv[1]), sink=Telling(), folder=folder, validation=unseen)
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", 130)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_rows(tmp_path_factory.mktemp("rows") / "unseen.jsonl", 20, seed=99)


@pytest.mark.parametrize("patience", [None, 1, 50], ids=["none", "stops", "goes on"])
def test_a_run_cut_at_drawn_steps_has_the_losses_of_the_uncut_one(
    base: Path, rows: Path, unseen: Path, tmp_path: Path, patience: int | None
) -> None:
    draw = random.Random(kept_seed(SEED))
    # A rate at which the validation loss rises again.
    spec = RESUMED.model_copy(update={"early_stopping_patience": patience, "learning_rate": 8e-2})
    sink = Follower()
    validation = unseen if patience else None
    whole = run(base, rows, tmp_path / "whole", spec=spec, sink=sink, validation=validation)
    folder = tmp_path / "checkpoints"
    seen: dict[int, tuple[float, float | None]] = {}
    for cut in sorted(draw.sample(range(1, whole.metrics.steps), 3)):
        follower = Follower(stop_at=cut)
        with pytest.raises(TrainingCancelled):
            run(base, rows, tmp_path / "cut", spec=spec, sink=follower, folder=folder, validation=validation)
        seen |= follower.losses()
        torch.rand(100)  # another process would have another random state
    last = Follower()
    resumed = run(base, rows, tmp_path / "resumed", spec=spec, sink=last, folder=folder, validation=validation)
    assert seen | last.losses() == sink.losses()
    for field in ("steps", "curve", "validation_loss", "best_step", "stopped_early", "first_loss", "final_loss", "label_tokens"):
        assert getattr(resumed.metrics, field) == getattr(whole.metrics, field)
    weights = "adapter_model.safetensors"
    assert sha256_file(resumed.directory / weights) == sha256_file(whole.directory / weights)
    assert whole.metrics.stopped_early == (patience == 1)


def test_a_process_killed_at_drawn_steps_goes_on_with_the_same_losses(base: Path, rows: Path, unseen: Path, tmp_path: Path) -> None:
    seed = kept_seed(SEED)
    draw = random.Random(seed)
    uncut = Follower()
    # The same number of threads as the children: another number adds in another order.
    threads = torch.get_num_threads()
    whole = run(base, rows, tmp_path / "whole", spec=RESUMED, sink=uncut, validation=unseen)
    wanted = {step: (loss.hex(), None if other is None else other.hex()) for step, (loss, other) in uncut.losses().items()}
    folder = tmp_path / "checkpoints"
    command = [sys.executable, "-c", _CHILD, RESUMED.model_dump_json(), *map(str, (base, rows, unseen, tmp_path / "out", folder))]
    # `support` is here; the packages are installed.
    found = {"PYTHONPATH": str(Path(__file__).parents[1])}
    seen: dict[int, tuple[str, str | None]] = {}
    kills = sorted(draw.sample(range(1, whole.metrics.steps), 2))
    for kill in [*kills, None]:
        child = subprocess.Popen(command, env={**os.environ, **found, "OMP_NUM_THREADS": str(threads)}, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        with child.stdout:
            for line in child.stdout:
                step, *losses = json.loads(line)
                assert seen.get(step, tuple(losses)) == tuple(losses), "a step that was done twice"
                seen[step] = (losses[0], losses[1])
                if step == kill:
                    child.send_signal(signal.SIGKILL)
        assert child.wait() == (-signal.SIGKILL if kill else 0)
    print(f"seed {seed}: killed at {kills} of {whole.metrics.steps}")
    assert seen == wanted
    weights = "adapter_model.safetensors"
    assert sha256_file(tmp_path / "out" / weights) == sha256_file(whole.directory / weights)
