"""The forecast of memory and time against real training runs on this machine's CPU (goal: memory within 15 %, time within 25 % once calibrated).

SmolLM2-135M, the platform's own training loop, each run a process of its own so that one's memory is not the next one's. Memory: the largest
resident size of that process, sampled every 20 ms, against all terms; and how much of it the process had before. Two constants of the forecast, what a process takes and what its heap takes more than
is kept, were set by the runs here but the last two.
Time: the loop's seconds; forecast from what the first four runs say, with small steps and with larger ones, over two and over all matrices, which are not
counted, so the others are forecasts of other workloads. On a
machine that others use too, `--clock cpu` counts the seconds that the process computed; with one thread that is what it would take alone.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import torch

from ringi.base_models.fingerprint_config import parse_config
from ringi.jobs.contracts.methods import Method, Quantisation
from ringi.jobs.contracts.parts import Progress
from ringi.jobs.contracts.training import LoraSpec, TrainMetrics
from ringi.preflight.calibration import Sample, rate_of, sample_of
from ringi.preflight.compute import flops_of
from ringi.preflight.memory import memory_of
from ringi.preflight.schemas import Gpu, Precision, Workload
from ringi.preflight.shapes import Shape, shape_of
from ringi.training.schemas import TrainingPlan
from ringi.training.workload import workload_of
from ringi_workers.adapters.attach import base_dtype, load_tokenizer
from ringi_workers.demo.sources import default_cache, fetch_base_model
from ringi_workers.training import recipe
from ringi_workers.training.data import IGNORED, collate, epoch_batches, load_examples

MIB = 2**20
MEMORY_GOAL, TIME_GOAL = 0.15, 0.25
_WORDS = [
    "the",
    "claim",
    "was",
    "paid",
    "after",
    "the",
    "second",
    "letter",
    "because",
    "a",
    "document",
    "about",
    "the",
    "address",
    "of",
    "the",
    "customer",
    "had",
    "been",
    "missing",
]
_DEVICE = "this CPU"


@dataclass(frozen=True)
class Case:
    """One run: words of the question and of the answer, rows, and the plan's fields. Without a rank every weight is trained."""

    name: str
    question: int
    answer: int
    rank: int | None
    targets: tuple[str, ...]
    batch_size: int
    rows: int
    max_length: int = 512

    def spec(self) -> LoraSpec:
        """One pass over the rows."""
        form = {"method": Method.FULL} if self.rank is None else {"rank": self.rank, "target_modules": list(self.targets)}
        return TrainingPlan.model_validate(
            form | {"batch_size": self.batch_size, "epochs": 1, "max_length": self.max_length, "checkpoint_every": 10_000}
        ).resolved()


_TWO = ("q_proj", "v_proj")
_ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# The first four calibrate.
CALIBRATE = 4
CASES = (
    Case("two short rows, all linear", 20, 8, 16, _ALL, 2, 50),
    Case("short rows, all linear", 20, 8, 16, _ALL, 8, 64),
    Case("two short rows, q and v", 20, 8, 8, _TWO, 2, 60),
    Case("short rows, q and v", 20, 8, 8, _TWO, 8, 80),
    Case("short rows, q and v, 16 rows", 20, 8, 8, _TWO, 16, 128),
    Case("longer rows, q and v, r=8", 150, 20, 8, _TWO, 4, 40),
    Case("longer rows, all linear", 150, 20, 16, _ALL, 4, 40),
    Case("long rows, all linear", 350, 40, 16, _ALL, 2, 20),
    Case("batch of 2, q and v", 60, 10, 8, _TWO, 2, 30),
    Case("every weight, batch of 4", 60, 10, None, (), 4, 40),
    Case("middling rows, attention", 100, 12, 32, ("q_proj", "k_proj", "v_proj", "o_proj"), 6, 30),
    Case("long answers, gates", 60, 40, 4, ("gate_proj", "up_proj"), 8, 40),
)


@dataclass(frozen=True)
class Measured:
    """What one process found. `peak` and `before`: resident bytes at most, and before the base was loaded. `longest` and `positions`: of its largest batch."""

    peak: int
    before: int
    metrics: TrainMetrics
    dtype: str
    longest: int
    positions: int
    labels: float


class Clock:
    """Follows a run to note when each step ended: by the wall, and in seconds of this process's computing."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def report(self, progress: Progress) -> None:
        """Drop it."""

    def log(self, metrics: dict[str, float], step: int) -> None:  # noqa: ARG002  # the sink's form
        """Note the time."""
        self.wall.append(time.monotonic())
        self.cpu.append(time.process_time())

    def seconds(self, clock: str) -> float:
        """Of the loop. The first step warms up, so it counts as much as the others do on average."""
        marks = self.cpu if clock == "cpu" else self.wall
        return (marks[-1] - marks[0]) * len(marks) / (len(marks) - 1)

    def should_stop(self) -> bool:
        """Never."""
        return False

    def should_pause(self) -> bool:
        """Never."""
        return False


@contextmanager
def peak_of_this_process() -> Iterator[list[int]]:
    """The largest resident size while the block runs, in bytes."""
    process, peak, over = psutil.Process(), [0], threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            peak[0] = max(peak[0], process.memory_info().rss)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def write_rows(case: Case, path: Path) -> Path:
    """Rows of about so many words, no two alike."""
    with path.open("w", encoding="utf-8") as out:
        for number in range(case.rows):
            words = [_WORDS[(number * 7 + at * 3) % len(_WORDS)] for at in range(case.question + case.answer)]
            row = {"prompt": f"{number}: " + " ".join(words[: case.question]), "completion": " ".join(words[case.question :])}
            out.write(json.dumps(row) + "\n")
    return path


def run_here(case: Case, base: Path, *, clock: str) -> Measured:
    """The run, in this process."""
    with tempfile.TemporaryDirectory(prefix="ringi-estimate-benchmark-") as name:
        folder = Path(name)
        rows, spec = write_rows(case, folder / "rows.jsonl"), case.spec()
        examples = load_examples(rows, load_tokenizer(base), spec.max_length).examples
        batches = [
            collate([examples[at] for at in batch], 0)
            for batch in epoch_batches(examples, batch_size=spec.batch_size, seed=spec.seed, epoch=0)
        ]
        largest = max(batches, key=lambda one: one.ids.numel())
        columns = int((largest.labels[:, 1:] != IGNORED).any(dim=0).sum())
        before, steps = psutil.Process().memory_info().rss, Clock()
        with peak_of_this_process() as peak:
            done = recipe.train(
                spec, base=base, rows=rows, out=folder / "out", sink=steps, checkpoints=None, base_name="b", base_commit="0" * 40
            )  # fmt: skip
    labels = statistics.fmean(len(one.input_ids) - one.labels_from for one in examples)
    seconds, tokens = steps.seconds(clock), sum(len(one.input_ids) for one in examples)
    metrics = done.metrics.model_copy(update={"seconds": seconds, "tokens_per_s": tokens / seconds})
    return Measured(
        peak[0], before, metrics, str(base_dtype(base, torch.device("cpu"))), int(largest.ids.shape[1]), columns * len(largest.ids), labels
    )  # fmt: skip


def run_apart(case: Case, base: Path, *, threads: int, clock: str) -> Measured:
    """The run in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.estimate_vs_runs", "--one", case.name, "--base", str(base), "--threads", str(threads)]
    command += ["--clock", clock]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return Measured(**found | {"metrics": TrainMetrics.model_validate(found["metrics"])})


def workload(case: Case, run: Measured) -> Workload:
    """The case as the forecast is asked for: with the longest batch and the label positions that the tokenizer counted."""
    seen = run.metrics.rows
    tokens = (run.metrics.tokens_per_s or 0.0) * run.metrics.seconds / seen
    measured = {
        "max_length": max(8, run.longest), "precision": Precision.BF16 if "bfloat16" in run.dtype else Precision.FP32, "rows": case.rows,
        "logit_positions": run.positions, "label_tokens_per_row": run.labels, "tokens_per_row": tokens,
    }  # fmt: skip
    return workload_of(case.spec()).model_copy(update=measured)


def forecast_seconds(shape: Shape, work: Workload, samples: Sequence[Sample]) -> float | None:
    """Of the training loop, from the calibrated rate."""
    flops = flops_of(shape, work)
    if flops is None:
        return None
    rate = rate_of(samples, kind=Gpu.CPU, device_name=_DEVICE, base="b", quantisation=Quantisation.NONE, step=flops.step)
    return None if rate is None else flops.run / rate.typical


def compare(shape: Shape, cases: Sequence[Case], base: Path, *, threads: int, clock: str) -> tuple[list[float], list[float]]:
    """Run every case, print forecast against measured, and return the relative errors of memory and time."""
    print(
        f"{'run':28} | {'memory forecast':>15} | {'measured':>9} | {'before':>8} | error | {'time forecast':>13} | {'measured':>8} | error"
    )
    samples: list[Sample] = []
    memory_errors, time_errors = [], []
    for number, case in enumerate(cases):
        run = run_apart(case, base, threads=threads, clock=clock)
        work = workload(case, run)
        forecast = memory_of(shape, work, device=Gpu.CPU).total
        memory_errors.append(forecast / run.peak - 1)
        seconds = forecast_seconds(shape, work, samples) if number >= CALIBRATE else None
        told, error = "calibrates", ""
        if seconds is not None:
            time_errors.append(seconds / run.metrics.seconds - 1)
            told, error = f"{seconds:.1f} s", f"{time_errors[-1]:+.0%}"
        else:
            one = sample_of(shape, case.spec(), run.metrics, device_name=_DEVICE, base="b", rows="r")
            samples += [one] if one is not None else []
        sizes = f"{forecast / MIB:11.0f} MiB | {run.peak / MIB:5.0f} MiB | {run.before / MIB:4.0f} MiB | {memory_errors[-1]:+5.0%}"
        print(f"{case.name:28} | {sizes} | {told:>13} | {run.metrics.seconds:6.1f} s | {error}", flush=True)
    return memory_errors, time_errors


def main() -> None:
    """Print the table, and one line of figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="of torch; one disturbs others least")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--base", type=Path, help="a Hugging Face folder; SmolLM2-135M unless given")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--cases", type=int, default=len(CASES), help="only the first so many")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    base = asked.base or fetch_base_model(default_cache())
    if asked.one:
        case = next(one for one in CASES if one.name == asked.one)
        found = asdict(run_here(case, base, clock=asked.clock))
        print(json.dumps(found | {"metrics": found["metrics"].model_dump()}))
        return
    begun = time.monotonic()
    shape = shape_of(parse_config((base / "config.json").read_bytes()))
    memory, seconds = compare(shape, CASES[: asked.cases], base, threads=asked.threads, clock=asked.clock)
    worst_memory, worst_time = max(memory, key=abs), max(seconds, key=abs, default=float("nan"))
    inside = (sum(abs(one) <= goal for one in errors) for errors, goal in ((memory, MEMORY_GOAL), (seconds, TIME_GOAL)))
    counts = " and ".join(f"{good} of {len(errors)}" for good, errors in zip(inside, (memory, seconds), strict=True))
    print(
        f"estimate_vs_runs: worst error of memory {worst_memory:+.0%} (goal 15 %), of time {worst_time:+.0%} (goal 25 %); inside the goals: {counts}; "
        f"{asked.threads} threads, {asked.clock} clock, {time.monotonic() - begun:.0f} s"
    )


if __name__ == "__main__":
    main()
