"""Training a LoRA on short rows: Ringi against the twenty lines of Trainer and peft, and against TRL, same rows, same base, in one run.

Banking77 as "Customer: …" and "Intent: …" (about 24 tokens a row), SmolLM2-135M, r=8 on q and v. Compared are sides with as many rows in an
optimiser step: 4 with the recipe (batch 1, accumulation 4, float32), 16 with `Trainer` (batch 16, float32) and TRL's SFTTrainer (bf16, batch 16
and a pack of 16 rows' tokens). What counts is real tokens per second of the loop, padding not, after two steps. Trainer learns every token, as
its recipe does; TRL and Ringi the completion. On a machine that others use too, tokens per second of CPU time with `--threads 1` say more than
those per second. Ours runs before and after the peers, and the slower time counts. `--reference` adds how far
Ringi's losses on the packed rows lie from those of each row alone in float32. `--long` asks the intent of the last of 34 customers (about 580 tokens a row), and compares
with TRL alone, 4 rows in a step on both sides.
"""

import argparse
import csv
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks import peers
from ringi_workers.adapters.attach import load_base, load_tokenizer
from ringi_workers.demo.sources import default_cache, fetch_base_model
from ringi_workers.training.data import load_examples
from ringi_workers.training.packing import packed, padded, row_losses, separation

TRL = ("trl==1.16.0", "torch==2.13.0", "transformers==5.23.0", "peft==0.21.2", "accelerate==1.15.0", "datasets==5.2.0")
DATA = Path(__file__).parents[2] / "shared" / "data" / "banking77" / "train.csv"
# Rows of an optimiser step, and whose peer it is.
OURS = {"ours_4": 4, "ours_16": 16}
PEERS = {"recipe": "ours_4", "trainer16": "ours_16", "trl": "ours_16", "trl_packed": "ours_16"}
LONG_PEERS = {"trl_4": "ours_4"}
LONG = 34


class Speed(NamedTuple):
    """Of one side: real tokens per second of the loop, and per second of CPU time, over so many steps."""

    tokens_per_s: float
    tokens_per_cpu_s: float
    steps: int
    seconds: float


def write_rows(data: Path, target: Path, count: int, *, customers: int = 1) -> None:
    """`count` rows in an order drawn from a seed: the file is sorted by intent. Of several customers in a prompt the last one's intent is meant."""
    with data.open(encoding="utf-8", newline="") as lines:
        found = [
            {"prompt": f"Customer: {row['text'].strip()}", "completion": f"Intent: {row['category'].replace('_', ' ')}"}
            for row in csv.DictReader(lines)
        ]
    drawn = random.Random(0).sample(found, count * customers)
    drawn = [
        row | {"prompt": "\n".join(one["prompt"] for one in drawn[at * customers :][:customers])}
        for at, row in enumerate(drawn[customers - 1 :: customers])
    ]
    target.write_text("".join(json.dumps(row) + "\n" for row in drawn), encoding="utf-8")


def without_template(base: Path, target: Path) -> Path:
    """The same base as a text model: no chat template, so that all sides see the same text."""
    shutil.copytree(base, target)
    (target / "chat_template.jinja").unlink(missing_ok=True)
    settings = target / "tokenizer_config.json"
    document = json.loads(settings.read_text(encoding="utf-8"))
    document.pop("chat_template", None)
    settings.write_text(json.dumps(document), encoding="utf-8")
    return target


def run(side: str, command: list[str], folder: Path, threads: int) -> Speed:
    """One process, to its line of figures."""
    given = {
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_DATASETS_CACHE": str(folder / "cache"),
    }
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | given, check=False)
    if done.returncode:
        raise RuntimeError(f"{side} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    said = json.loads(done.stdout.strip().splitlines()[-1])
    speed = Speed(said["tokens"] / said["seconds"], said["tokens"] / said["cpu_seconds"], said["steps"], said["seconds"])
    each = f"{speed.tokens_per_s:7.1f} tokens/s, {speed.tokens_per_cpu_s:7.1f} per CPU second"
    print(f"{side:10} {each}, {speed.steps} steps in {speed.seconds:.1f} s, load {os.getloadavg()[0]:.1f}", flush=True)
    return speed


def tokens_of_a_step(base: Path, rows: Path, batch: int) -> int:
    """What `batch` rows of these have on average."""
    lengths = [len(example.input_ids) for example in load_examples(rows, load_tokenizer(base), 2048).examples]
    print(f"{len(lengths)} rows of {statistics.fmean(lengths):.1f} tokens on average, {max(lengths)} at most")
    return round(batch * statistics.fmean(lengths))


def reference(base: Path, rows: Path) -> dict[str, float]:
    """The largest relative difference of a packed row's loss from that of the row alone in float32, over 16 rows."""
    examples = load_examples(rows, load_tokenizer(base), 128).examples[:16]
    cpu, found = torch.device("cpu"), {}
    model = load_base(base, dtype=torch.float32, device=cpu)
    with torch.inference_mode():
        alone = torch.cat([row_losses(model, padded([row], 0)) for row in examples])
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            model = load_base(base, dtype=dtype, device=cpu)
            by_rows = separation(model, examples, most_tokens=1024).by_rows
            found[f"loss_{name}"] = float((row_losses(model, packed(examples, by_rows=by_rows)) / alone - 1).abs().max())
    return found


def compared(before: dict[str, Speed], theirs: dict[str, Speed], after: dict[str, Speed]) -> str:
    """The ratios, by the slower of our two times, in seconds and in CPU seconds; and the speeds themselves."""
    ours = {side: min(before[side].tokens_per_s, after[side].tokens_per_s) for side in before}
    ours_cpu = {side: min(before[side].tokens_per_cpu_s, after[side].tokens_per_cpu_s) for side in before}
    peer_of = PEERS | LONG_PEERS
    said = [f"over_{side}={ours[peer_of[side]] / speed.tokens_per_s:.2f}" for side, speed in theirs.items()]
    said += [f"cpu_over_{side}={ours_cpu[peer_of[side]] / speed.tokens_per_cpu_s:.2f}" for side, speed in theirs.items()]
    said += [f"{side}={speed:.1f}" for side, speed in (ours | {side: speed.tokens_per_s for side, speed in theirs.items()}).items()]
    return " ".join(said)


def main() -> None:
    """Both sides in turn, the table, and the line of figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30, help="of every side's loop, after two steps")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of every side")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--long", action="store_true", help="long rows, against TRL")
    parser.add_argument("--reference", action="store_true", help="add the differences of the losses")
    parser.add_argument("--data", type=Path, default=DATA, help="Banking77's train.csv (PolyAI, CC BY 4.0)")
    wanted = parser.parse_args()
    if not wanted.data.is_file():
        sys.exit(f"SKIPPED, nothing was measured: {wanted.data} is not there. Name Banking77's train.csv with --data.")
    folder = Path(tempfile.mkdtemp(prefix="ringi-training-benchmark-"))
    try:
        python = str(peers.environment("trl", *TRL) / "python")
        base = without_template(fetch_base_model(default_cache()), folder / "base")
        rows = folder / "rows.jsonl"
        write_rows(wanted.data, rows, 200 if wanted.long else wanted.rows, customers=LONG if wanted.long else 1)
        here, same = Path(__file__).parent, [str(base), str(rows), str(wanted.seconds)]
        pack = str(tokens_of_a_step(base, rows, 16))
        mine = {
            side: [sys.executable, str(here / "ringi_training.py"), str(batch), *same]
            for side, batch in OURS.items()
            if side == "ours_4" or not wanted.long
        }
        before = {side: run(side, command, folder, wanted.threads) for side, command in mine.items()}
        theirs = {
            side: run(side, [python, str(here / "training_peer.py"), side, *same, pack], folder, wanted.threads)
            for side in (LONG_PEERS if wanted.long else wanted.peers)
        }
        after = {side: run(side, command, folder, wanted.threads) for side, command in mine.items()}
        said = compared(before, theirs, after)
        differences = reference(base, rows) if wanted.reference else {}
        said += "".join(f" {name}={value:.2g}" for name, value in differences.items())
        print(f"training_vs_peers {said} long={wanted.long} rows={wanted.rows} threads={wanted.threads} seconds={wanted.seconds:g}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
