"""Wall time to equal validation accuracy: Ringi's training loop against the twenty lines of Trainer and peft, same rows, same base, in one run.

Banking77 as "Customer: …" and "Intent: …", SmolLM2-135M, r=8 on q and v, `--epochs` passes over the rows by each side at each `--rates` learning rate, with
Trainer's and our linear decay. Both have 4 rows in an optimiser step. Ours is also run with 16, its default; with LoRA+ (B's rate 16 times A's, as its paper
has it); and at the rate that the platform itself takes for this base when a plan names none. These are choices of ours and no speed of steps, so the line says each apart. The weights of every `--every` rows are kept, outside
the time that is counted, and afterwards asked by one program over the base in bfloat16: of how many rows of test.csv is the intent, token by token, what greedy decoding would write?
A side's time to an accuracy is the seconds of its steps up to the first kept weights that have it. Compared is the best of the recipe's runs with the best of ours at the highest
accuracy that both reach, and each of the recipe's with ours of as many rows in a step: of the same rate, with LoRA+, and at the platform's own rate.
"""

import argparse
import csv
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from benchmarks import peers
from benchmarks.training_vs_peers import DATA, TRL, without_template, write_rows
from ringi_workers.adapters.attach import load_base, load_tokenizer
from ringi_workers.demo.sources import default_cache, fetch_base_model
from ringi_workers.training.data import Example, load_examples
from ringi_workers.training.packing import padded

# Rows of a step, and the ratio of LoRA+ (arXiv:2402.12354), which its experiments have at about 16.
OURS = {"4": ("4", "1"), "4plus": ("4", "16"), "4own": ("4", "1"), "16": ("16", "1")}


class Kept(NamedTuple):
    """Weights after so many seconds of steps, and the share of rows that they answer."""

    seconds: float
    rows: int
    accuracy: float


def write_unseen(source: Path, target: Path, count: int) -> None:
    """`count` rows of the test part, in an order drawn from a seed."""
    with source.open(encoding="utf-8", newline="") as lines:
        found = [
            {"prompt": f"Customer: {row['text'].strip()}", "completion": f"Intent: {row['category'].replace('_', ' ')}"}
            for row in csv.DictReader(lines)
        ]
    drawn = random.Random(1).sample(found, count)
    target.write_text("".join(json.dumps(row) + "\n" for row in drawn), encoding="utf-8")


def answered(model: torch.nn.Module, examples: list[Example], end: int | None) -> float:
    """The share of rows whose label tokens, the one that ends a text apart, are each the most likely after those before."""
    right = 0
    with torch.inference_mode():
        for start in range(0, len(examples), 32):
            rows = padded(examples[start : start + 32], 0)
            logits = model(input_ids=rows.ids, attention_mask=rows.mask, logits_to_keep=rows.keep, use_cache=False).logits
            wrong = (logits.reshape(-1, logits.shape[-1]).argmax(-1) != rows.targets) & (rows.targets != end)
            right += rows.rows - len(set(rows.owners[wrong].tolist()))
    return right / len(examples)


def run(command: list[str], folder: Path, threads: int) -> list[tuple[float, int, Path]]:
    """One side's process; what it kept: seconds, rows learnt from, weights."""
    given = {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, env=os.environ | given, check=False)
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return [(one["seconds"], one["rows"], folder / one["weights"]) for one in json.loads(done.stdout.strip().splitlines()[-1])]


class Judge:
    """The base in bfloat16, as it is served, and the rows that are asked."""

    def __init__(self, base: Path, unseen: Path) -> None:
        tokenizer = load_tokenizer(base)
        self._end = tokenizer.eos_token_id
        self._examples = sorted(load_examples(unseen, tokenizer, 128).examples, key=lambda one: len(one.input_ids))
        loaded = load_base(base, dtype=torch.bfloat16, device=torch.device("cpu"))
        config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        self._model = get_peft_model(loaded, config).eval()

    def accuracy(self, weights: Path | None) -> float:
        """Of these weights; of the base alone where there are none."""
        if weights is not None:
            tensors, named = load_file(weights), dict(self._model.named_parameters())
            with torch.no_grad():
                for name, tensor in tensors.items():
                    named[name].copy_(tensor)
        return answered(self._model, self._examples, self._end)


def first(curve: list[Kept], accuracy: float) -> float | None:
    """Seconds to the first weights with that accuracy."""
    return next((one.seconds for one in curve if one.accuracy >= accuracy), None)


def compared(curves: dict[str, list[Kept]], before: float) -> str:
    """The ratios: best against best, and of each rate the two sides with 4 rows in a step."""
    theirs = {name: curve for name, curve in curves.items() if name.startswith("recipe")}
    ours = {name: curve for name, curve in curves.items() if name not in theirs}
    said = []
    pairs = {"best": (list(theirs.values()), list(ours.values()))}
    for label in ("", "plus", "own"):
        mine = {name: name.replace("recipe", f"ours_4{label}") for name in theirs}
        pairs |= {name.removeprefix("recipe_") + label: ([theirs[name]], [ours[one]]) for name, one in mine.items() if one in ours}
    for name, sides in pairs.items():
        reached = min(max(one.accuracy for curve in side for one in curve) for side in sides)
        if reached <= before:
            said.append(f"accuracy_{name}={reached:.3f} (no better than the base: not compared)")
            continue
        times = [min(found for curve in side if (found := first(curve, reached)) is not None) for side in sides]
        said.append(
            f"over_recipe_{name}={times[0] / times[1]:.2f} accuracy_{name}={reached:.3f} recipe_s_{name}={times[0]:.1f} ours_s_{name}={times[1]:.1f}"
        )
    return " ".join(said)


def main() -> None:
    """Both sides in turn, their curves, and the line of figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", nargs="+", default=["2e-4", "1e-3"], help="learning rates, of both sides")
    parser.add_argument(
        "--ours", nargs="+", choices=list(OURS), default=list(OURS), help="ours: rows in a step, LoRA+, the platform's own rate"
    )
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--every", type=int, default=100, help="rows between weights that are kept")
    parser.add_argument("--unseen", type=int, default=200, help="rows of test.csv that are asked")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of every side")
    parser.add_argument("--data", type=Path, default=DATA, help="Banking77's train.csv (PolyAI, CC BY 4.0), beside its test.csv")
    wanted = parser.parse_args()
    if not wanted.data.is_file():
        sys.exit(f"SKIPPED, nothing was measured: {wanted.data} is not there. Name Banking77's train.csv with --data.")
    folder = Path(tempfile.mkdtemp(prefix="ringi-accuracy-benchmark-"))
    try:
        python = str(peers.environment("trl", *TRL) / "python")
        base = without_template(fetch_base_model(default_cache()), folder / "base")
        rows, unseen = folder / "rows.jsonl", folder / "unseen.jsonl"
        write_rows(wanted.data, rows, wanted.rows)
        write_unseen(wanted.data.with_name("test.csv"), unseen, wanted.unseen)
        torch.set_num_threads(wanted.threads)
        here, judge = Path(__file__).parent, Judge(base, unseen)
        before = judge.accuracy(None)
        print(f"the base alone: {before:.3f} of {wanted.unseen} rows", flush=True)
        curves = {}
        for rate in wanted.rates:
            same = [str(base), str(rows), rate, str(wanted.epochs), str(wanted.every)]
            sides = {
                f"ours_{name}_{rate}": [sys.executable, str(here / "ringi_training_curve.py"), *OURS[name], str(int(name == "4own")), *same]
                for name in wanted.ours
            }
            sides[f"recipe_{rate}"] = [python, str(here / "training_peer_curve.py"), *same]
            for name, command in sides.items():
                kept = folder / name
                kept.mkdir()
                curves[name] = [
                    Kept(seconds, seen, judge.accuracy(weights)) for seconds, seen, weights in run(command, kept, wanted.threads)
                ]
                told = ", ".join(f"{one.seconds:.0f} s {one.accuracy:.3f}" for one in curves[name])
                print(f"{name}: {told}; load {os.getloadavg()[0]:.1f}", flush=True)
        settings = f"base={before:.3f} rows={wanted.rows} epochs={wanted.epochs} unseen={wanted.unseen} threads={wanted.threads}"
        print(f"training_to_accuracy {compared(curves, before)} {settings}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
