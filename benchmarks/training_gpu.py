"""Training on one GPU: a 7B-shaped base with random weights and 10,000 FAQ rows, LoRA r=8 on q and v, beside TRL; and a 70B-shaped one in 4 bits.

Printed are real tokens per second of the loop after two steps, model FLOPs utilisation (the FLOPs of those tokens by the base's shape, over the peak of the
card), and the minutes that three epochs take at that speed, beside the usual "1 hour on an A100". Weights and words are random: speed does not
ask what they mean. Without a GPU it says SKIPPED; `--tiny-on-cpu` runs all of it over a tiny base, which shows that it runs and nothing else.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from benchmarks import peers
from benchmarks.estimate_usual_cases import SHAPES
from benchmarks.ringi_training import WARM_STEPS, Clock
from benchmarks.training_vs_peers import TRL
from ringi.jobs.contracts.methods import Quantisation
from ringi.preflight.compute import flops_per_token
from ringi.preflight.devices import DEVICES, kind_of
from ringi.preflight.memory import memory_of
from ringi.preflight.schemas import Workload
from ringi.preflight.shapes import shape_of
from ringi.training.schemas import TrainingPlan
from ringi_workers.adapters.attach import load_tokenizer
from ringi_workers.training.data import load_examples
from ringi_workers.training.plan import Plan
from ringi_workers.training.recipe import train
from ringi_workers.training.refusals import TrainingCancelled

GIB = 2**30
EPOCHS, BATCH, MAX_LENGTH, PACK = 3, 16, 512, 4096
USUAL_MINUTES = 60.0
TARGETS = ["q_proj", "v_proj"]
# Words of a question and of an answer, drawn evenly: 60 each on average, as the table of docs/preflight.md assumes.
FEWEST_WORDS, MOST_WORDS = 20, 100
_SHARD_BYTES = 4 * GIB
TINY: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 512,
    "max_position_embeddings": 1024,
}  # fmt: skip


class Lengths(NamedTuple):
    """Means of the rows, in tokens, and how many rows."""

    rows: int
    tokens: float
    labels: float


class Reached(NamedTuple):
    """What a side reached. `share`: model FLOPs utilisation, None where the peak of the device is not known. `minutes`: of all epochs at this speed."""

    tokens_per_s: float
    share: float | None
    minutes: float
    peak_bytes: int | None


def write_base(config: Mapping[str, Any], folder: Path, device: torch.device) -> Path:
    """A Hugging Face folder with random bf16 weights of this shape, a shard at a time, and a tokenizer whose words are one token each."""
    torch.manual_seed(0)
    settings = AutoConfig.for_model(**config)
    settings.dtype = torch.bfloat16
    with torch.device("meta"):
        names = {name: tensor.shape for name, tensor in AutoModelForCausalLM.from_config(settings).state_dict().items()}
    settings.save_pretrained(folder)
    placed: dict[str, str] = {}
    for number, shard in enumerate(_shards(names, device), start=1):
        file = f"model-{number:05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        placed |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": sum(2 * shape.numel() for shape in names.values())}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    words = {"<pad>": 0, "<eos>": 1, "<unk>": 2} | {f"w{number}": number for number in range(3, settings.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))  # noqa: S106  # a token of text
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>").save_pretrained(folder)  # noqa: S106  # a special token, no password
    return folder


def _shards(names: Mapping[str, torch.Size], device: torch.device) -> Iterator[dict[str, torch.Tensor]]:
    shard: dict[str, torch.Tensor] = {}
    size = 0
    for name, shape in names.items():
        # Norms are ones, as in a model that is not trained yet.
        drawn = torch.ones(shape) if len(shape) == 1 else torch.empty(shape, device=device).normal_(std=0.02)
        shard[name] = drawn.to(torch.bfloat16).cpu()
        size += shard[name].nbytes
        if size >= _SHARD_BYTES:
            yield shard
            shard, size = {}, 0
    yield shard


def write_rows(path: Path, count: int, vocabulary: int) -> Path:
    """Questions and answers of random words."""
    draw = random.Random(0)

    def text() -> str:
        return " ".join(f"w{draw.randrange(3, vocabulary)}" for _ in range(draw.randint(FEWEST_WORDS, MOST_WORDS)))

    path.write_text("".join(json.dumps({"prompt": text(), "completion": text()}) + "\n" for _ in range(count)), encoding="utf-8")
    return path


def lengths_of(base: Path, rows: Path) -> Lengths:
    """Counted as the worker counts them."""
    found = load_examples(rows, load_tokenizer(base), MAX_LENGTH).examples
    return Lengths(
        len(found),
        sum(len(one.input_ids) for one in found) / len(found),
        sum(len(one.input_ids) - one.labels_from for one in found) / len(found),
    )


def workload(quantisation: Quantisation, lengths: Lengths) -> Workload:
    """What is measured, as the preflight knows it. In 4 bits activations are computed twice, as who has little memory does."""
    return Workload(
        rank=8, target_modules=TARGETS, batch_size=BATCH, max_length=MAX_LENGTH, quantisation=quantisation, checkpointing=quantisation is not Quantisation.NONE,
        rows=lengths.rows, tokens_per_row=lengths.tokens, label_tokens_per_row=lengths.labels, epochs=EPOCHS,
    )  # fmt: skip


def reached(config: Mapping[str, Any], work: Workload, lengths: Lengths, said: Mapping[str, Any], *, device_name: str) -> Reached:
    """From what a side said of itself."""
    speed = said["tokens"] / said["seconds"]
    # As is usual for this figure, what gradient checkpointing computes again is not counted.
    counted = work.model_copy(update={"checkpointing": False})
    each = flops_per_token(shape_of(config), counted, tokens_per_row=lengths.tokens, label_tokens_per_row=lengths.labels)
    kind = kind_of("cuda", device_name)
    peak = DEVICES[kind].peak if kind is not None else None
    minutes = lengths.rows * lengths.tokens * EPOCHS / speed / 60
    return Reached(speed, None if peak is None else speed * each / peak, minutes, said.get("peak_bytes"))


def table(found: Mapping[str, Reached]) -> str:
    """Markdown."""
    head = ["| side | tokens/s | MFU | minutes | of an hour | peak memory |", "|---|---|---|---|---|---|"]
    lines = []
    for side, one in found.items():
        share = "not measured" if one.share is None else f"{100 * one.share:.1f} %"
        memory = "not measured" if one.peak_bytes is None else f"{one.peak_bytes / GIB:.1f} GiB"
        lines.append(f"| {side} | {one.tokens_per_s:,.0f} | {share} | {one.minutes:.1f} | {one.minutes / USUAL_MINUTES:.2f} | {memory} |")
    return "\n".join(head + lines)


def ours(base: Path, rows: Path, seconds: float, quantisation: Quantisation) -> dict[str, float]:
    """The worker's recipe in this process until its time is over: real tokens and seconds of the steps after the first two."""
    packed = quantisation is Quantisation.NONE
    plan = TrainingPlan(
        rank=8, alpha=16, target_modules=TARGETS, batch_size=BATCH, epochs=1000, max_length=MAX_LENGTH, pack_length=PACK, checkpoint_every=10**6,
        quantisation=quantisation, gradient_checkpointing=not packed,
    )  # fmt: skip
    spec, clock = plan.resolved(), Clock(seconds)
    with tempfile.TemporaryDirectory() as folder:
        try:
            train(
                spec, base=base, rows=rows, out=Path(folder), sink=clock, checkpoints=None, base_name="bases/random", base_commit="0" * 40
            )
        except TrainingCancelled:
            # Its time was over, as asked for.
            steps = len(clock.ended) - WARM_STEPS
    examples = load_examples(rows, load_tokenizer(base), spec.max_length).examples
    batches = [indices for step, indices in Plan(spec, examples).batches(after=WARM_STEPS) if step <= WARM_STEPS + steps]
    found: dict[str, float] = {
        "tokens": sum(len(examples[index].input_ids) for indices in batches for index in indices),
        "seconds": clock.ended[-1] - clock.ended[WARM_STEPS - 1], "steps": steps,
    }  # fmt: skip
    return found | ({"peak_bytes": torch.cuda.max_memory_allocated()} if torch.cuda.is_available() else {})


def in_process(side: str, command: list[str]) -> dict[str, Any]:
    """A side in a process of its own, so that the memory of the GPU is its own: what its last line says."""
    begun = time.monotonic()
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | offline, check=False)
    if done.returncode:
        raise RuntimeError(f"{side} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    said: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"{side}: {said['steps']} steps in {said['seconds']:.1f} s, {time.monotonic() - begun:.0f} s with loading", flush=True)
    return said


def why_not(config: Mapping[str, Any], work: Workload, folder: Path, card_bytes: int) -> str | None:
    """Why the large base cannot be tried on this machine, or None."""
    shape, forecast = shape_of(config), memory_of(shape_of(config), work)
    if forecast.total > card_bytes:
        return f"the forecast is {forecast.total / GIB:.1f} GiB, and the card has {card_bytes / GIB:.1f} GiB"
    free, needed = shutil.disk_usage(folder).free, int(1.05 * 2 * shape.parameters)
    return f"its files take {needed / GIB:.0f} GiB, and {free / GIB:.0f} GiB are free" if free < needed else None


def measure(wanted: argparse.Namespace, folder: Path) -> dict[str, Reached]:
    """Every side in turn."""
    tiny, config = wanted.tiny_on_cpu, TINY if wanted.tiny_on_cpu else SHAPES["7B"]
    device, size = torch.device("cpu" if tiny else "cuda"), "tiny" if tiny else "7B"
    name = "" if tiny else torch.cuda.get_device_name(device)
    base = write_base(config, folder / "base", device)
    rows = write_rows(folder / "rows.jsonl", wanted.rows, config["vocab_size"])
    lengths = lengths_of(base, rows)
    torch.cuda.empty_cache()

    def mine(folder: Path, quantisation: Quantisation) -> list[str]:
        return [
            sys.executable,
            "-m",
            "benchmarks.training_gpu",
            "--side",
            quantisation,
            str(folder),
            str(rows),
            "--seconds",
            str(wanted.seconds),
        ]

    work, found = workload(Quantisation.NONE, lengths), dict[str, Reached]()
    found[f"ringi, {size}"] = reached(config, work, lengths, in_process("ringi", mine(base, Quantisation.NONE)), device_name=name)
    if not wanted.no_peer:
        python = str(peers.environment("trl", *TRL) / "python")
        peer = [python, str(Path(__file__).parent / "training_peer.py"), "trl_packed", str(base), str(rows), str(wanted.seconds)]
        found[f"TRL, packed, {size}"] = reached(
            config, work, lengths, in_process("TRL", [*peer, str(round(BATCH * lengths.tokens))]), device_name=name
        )
    shutil.rmtree(base)
    large, squeezed = TINY if tiny else SHAPES["70B"], workload(Quantisation.NF4, lengths)
    card = 80 * GIB if tiny else torch.cuda.get_device_properties(device).total_memory
    if reason := why_not(large, squeezed, folder, card):
        print(f"70B in 4 bits: SKIPPED, nothing was measured: {reason}")
        return found
    base = write_base(large, folder / "large", device)
    torch.cuda.empty_cache()
    said = in_process("ringi, 4 bits", mine(base, Quantisation.NF4))
    return found | {f"ringi, {'tiny' if tiny else '70B'} in 4 bits": reached(large, squeezed, lengths, said, device_name=name)}


def main(arguments: Sequence[str] | None = None) -> None:
    """One side, or all of them with table and line of figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="of every side's loop, after two steps")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--no-peer", action="store_true", help="leave TRL out")
    parser.add_argument("--tiny-on-cpu", action="store_true", help="a tiny base on a CPU: shows that this program runs, and no speed")
    parser.add_argument("--side", nargs=3, metavar=("QUANTISATION", "BASE", "ROWS"), help=argparse.SUPPRESS)
    wanted = parser.parse_args(arguments)
    if wanted.side:
        quantisation, base, rows = wanted.side
        print(json.dumps(ours(Path(base), Path(rows), wanted.seconds, Quantisation(quantisation))))
        return
    if not wanted.tiny_on_cpu and not torch.cuda.is_available():
        sys.exit("SKIPPED, nothing was measured: torch sees no CUDA device here.")
    with tempfile.TemporaryDirectory(prefix="ringi-gpu-benchmark-") as folder:
        found = measure(wanted, Path(folder))
    device = "cpu, tiny: no measurement" if wanted.tiny_on_cpu else torch.cuda.get_device_name()
    print(f"{device}\n{table(found)}")
    figures = " ".join(f"{side.replace(', ', '_').replace(' ', '_')}={one.tokens_per_s:.0f}" for side, one in found.items())
    print(f"training_gpu {figures} rows={wanted.rows} seconds={wanted.seconds:g}")


if __name__ == "__main__":
    main()
