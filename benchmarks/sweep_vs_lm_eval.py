"""A sweep of adapters over one base: Ringi against lm-evaluation-harness, same items, whole processes, in one run.

Choice (the default): 40 Banking77 questions x 20 intents, SmolLM2-135M with rank-8 adapters. `--generation`: the same questions, answered
greedily in float32, so that equal answers can be asked for word by word. The peer runs once an adapter, as a user runs it
(`lm_eval --model hf --model_args pretrained=…,peft=…`), with a local task file; ours is one process for all adapters. Ours runs before and
after the peer, and the slower time counts. Accuracy of both, adapter by adapter, and how far the log-likelihoods lie apart are printed.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, get_peft_model

from benchmarks import peers
from ringi_workers.adapters.attach import load_base
from ringi_workers.demo.sources import default_cache, fetch_base_model

LM_EVAL = ("lm_eval[hf]==0.4.13", "torch==2.13.0", "transformers==5.23.0", "peft==0.21.2")
DATA = Path(__file__).parents[2] / "shared" / "data" / "banking77" / "test.csv"
NEW_TOKENS = 24
_NOWHERE = "sha256:" + "0" * 64


class Given(NamedTuple):
    """What both sides get."""

    base: Path
    adapters: dict[str, Path]
    items: list[dict[str, Any]]
    choices: list[str]
    generation: bool
    dtype: str
    batch_size: int
    peer_batch_size: int
    folder: Path


class Side(NamedTuple):
    """Seconds of whole processes (one for each adapter, or one for all), and per adapter the answers in the order of the items."""

    seconds: list[float]
    answers: dict[str, list[dict[str, Any]]]


def questions(data: Path, items: int, choices: int) -> tuple[list[dict[str, Any]], list[str]]:
    """The first questions of the first intents in the order of their names, as many of each intent as of the others."""
    by_intent: dict[str, list[str]] = {}
    with data.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            by_intent.setdefault(row["category"], []).append(row["text"].strip())
    intents = sorted(by_intent)[:choices]
    found = []
    for number in range(items):
        intent = number % len(intents)
        text = by_intent[intents[intent]][number // len(intents)]
        found.append({"id": f"banking{number:03d}", "prompt": f"Customer: {text}\nIntent:", "answer": intent})
    return found, [intent.replace("_", " ") for intent in intents]


def make_adapters(base: Path, count: int, folder: Path) -> dict[str, Path]:
    """Rank-8 adapters with an effect: A as peft begins it, B drawn from N(0, 0.02), another draw for each."""
    made = {}
    for number in range(count):
        torch.manual_seed(number)
        config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], task_type="CAUSAL_LM")
        model = get_peft_model(load_base(base, dtype=torch.float32, device=torch.device("cpu")), config)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.02)
        made[f"adapter{number}"] = folder / f"adapter{number}"
        model.save_pretrained(str(made[f"adapter{number}"]))
    return made


def run_ours(given: Given) -> Side:
    """One process: start, imports, base, all adapters."""
    answering = "generate" if given.generation else "choice"
    items = [{"id": item["id"], "prompt": item["prompt"], "answer": item["answer"]} for item in given.items]
    task = {
        "name": "banking", "answering": answering, "items": _NOWHERE, "count": len(items), "render": "raw", "delimiter": " ",
        "choices": [] if given.generation else given.choices, "scorers": [] if given.generation else [{"name": "accuracy"}],
        "decoding": {"max_new_tokens": NEW_TOKENS, "stop": ["\n"]},
    }  # fmt: skip
    plan = given.folder / "plan.json"
    adapters = {name: str(folder) for name, folder in given.adapters.items()}
    document = {"base": str(given.base), "adapters": adapters, "task": task, "items": items, "dtype": given.dtype}
    plan.write_text(json.dumps(document | {"batch_size": given.batch_size}), encoding="utf-8")
    out = given.folder / "ours.jsonl"
    seconds = _timed([sys.executable, str(Path(__file__).with_name("ringi_sweep.py")), str(plan), str(out)], given.folder / "ours.log")
    *lines, last = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    print(f"ours: {seconds:.1f} s, of which {last['loaded_s']:.1f} s the base, {lines[0]['runtime']}", file=sys.stderr, flush=True)
    return Side([seconds], {line["arm"]: line["answers"] for line in lines})


def run_peer(given: Given, binaries: Path) -> Side:
    """One process for each adapter, with a task file of its own kind."""
    tasks = given.folder / "tasks"
    tasks.mkdir(exist_ok=True)
    rows = tasks / "banking.jsonl"
    rows.write_text("".join(json.dumps(item | {"choices": given.choices}) + "\n" for item in given.items), encoding="utf-8")
    (tasks / "banking.yaml").write_text(json.dumps(_task_file(given, rows)), encoding="utf-8")
    seconds, answers = [], {}
    for name, adapter in given.adapters.items():
        out = given.folder / f"peer-{name}"
        command = [
            str(binaries / "lm_eval"), "--model", "hf", "--model_args", f"pretrained={given.base},peft={adapter},dtype={given.dtype}",
            "--tasks", "ringi_banking", "--include_path", str(tasks), "--batch_size", str(given.peer_batch_size), "--device", "cpu",
            "--output_path", str(out), "--log_samples",
        ]  # fmt: skip
        seconds.append(_timed(command, given.folder / f"peer-{name}.log"))
        print(f"lm-evaluation-harness, {name}: {seconds[-1]:.1f} s", file=sys.stderr, flush=True)
        samples = next(out.rglob("samples_*.jsonl")).read_text(encoding="utf-8").splitlines()
        by_id = {sample["doc"]["id"]: sample for sample in map(json.loads, samples)}
        answers[name] = [by_id[item["id"]] for item in given.items]
    return Side(seconds, answers)


def _task_file(given: Given, rows: Path) -> dict[str, Any]:
    """JSON is YAML."""
    common = {
        "task": "ringi_banking", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(rows)}}, "test_split": "test",
        "doc_to_text": "{{prompt}}", "metadata": {"version": 1},
    }  # fmt: skip
    if given.generation:
        settings = {"until": ["\n"], "max_gen_toks": NEW_TOKENS, "do_sample": False}
        return common | {
            "output_type": "generate_until", "doc_to_target": "{{choices[answer]}}", "generation_kwargs": settings,
            "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        }  # fmt: skip
    metric = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}
    return common | {"output_type": "multiple_choice", "doc_to_choice": "choices", "doc_to_target": "answer", "metric_list": [metric]}


def _timed(command: list[str], log: Path) -> float:
    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_DATASETS_CACHE": str(log.parent / "cache"),
    }
    begun = time.perf_counter()
    with log.open("wb") as out:
        done = subprocess.run(command, stdout=out, stderr=out, env=os.environ | offline, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{log.read_text(errors='replace')[-3000:]}")
    return time.perf_counter() - begun


def compare_choices(given: Given, ours: Side, theirs: Side) -> dict[str, float]:
    """Accuracy adapter by adapter, and the largest difference of a log-likelihood."""
    largest, same, equal = 0.0, 0, 0
    print(f"{'adapter':12} | {'accuracy, ours':14} | {'lm-eval':8} | {'same choice':11} | largest difference of a log-likelihood")
    for name in given.adapters:
        apart, agreed, right = 0.0, 0, [0.0, 0.0]
        for mine, peer in zip(ours.answers[name], theirs.answers[name], strict=True):
            peer_logprobs = [float(response[0][0] if isinstance(response[0], list) else response[0]) for response in peer["filtered_resps"]]
            apart = max(apart, *(abs(one - two) for one, two in zip(mine["logprobs"], peer_logprobs, strict=True)))
            agreed += mine["choice"] == peer_logprobs.index(max(peer_logprobs))
            right[0] += mine["scores"]["accuracy"]
            right[1] += peer["acc"]
        items = len(given.items)
        print(f"{name:12} | {right[0] / items:14.3f} | {right[1] / items:8.3f} | {agreed:4} of {items:3} | {apart:.4f}")
        largest, same, equal = max(largest, apart), same + agreed, equal + (right[0] == right[1])
    return {"same_choice": same / len(given.items) / len(given.adapters), "equal_accuracy": equal, "largest_difference": largest}


def compare_texts(given: Given, ours: Side, theirs: Side) -> dict[str, float]:
    """How many answers are the same, character by character."""
    same = 0
    for name in given.adapters:
        agreed = 0
        for item, mine, peer in zip(given.items, ours.answers[name], theirs.answers[name], strict=True):
            response = peer["filtered_resps"][0]
            text = response if isinstance(response, str) else response[0]
            agreed += text == mine["output"]
            if text != mine["output"]:
                print(f"{name} {item['id']}: {mine['output']!r} | {text!r}")
        print(f"{name:12} | {agreed} of {len(given.items)} answers are the same")
        same += agreed
    return {"same_answers": same / len(given.items) / len(given.adapters)}


def main() -> None:
    """Make the adapters, run both sides, print the table and the line of figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=int, default=8)
    parser.add_argument("--items", type=int, default=40)
    parser.add_argument("--choices", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=16, help="of ours: Ringi's own default")
    parser.add_argument("--peer-batch-size", type=int, default=1, help="the harness's own default; its users may choose a larger one")
    parser.add_argument("--dtype", help="of both sides; 'auto' (the base's own) for choice, float32 for generation")
    parser.add_argument("--generation", action="store_true", help="generated answers instead of choices")
    parser.add_argument("--data", type=Path, default=DATA, help="Banking77's test.csv (PolyAI, CC BY 4.0)")
    wanted = parser.parse_args()
    if not wanted.data.is_file():
        sys.exit(f"SKIPPED, nothing was measured: {wanted.data} is not there. Name Banking77's test.csv with --data.")
    folder = Path(tempfile.mkdtemp(prefix="ringi-sweep-benchmark-"))
    try:
        binaries = peers.environment("lm-eval", *LM_EVAL)
        base = fetch_base_model(default_cache())
        items, choices = questions(wanted.data, wanted.items, wanted.choices)
        dtype = wanted.dtype or ("float32" if wanted.generation else "auto")
        adapters = make_adapters(base, wanted.adapters, folder)
        given = Given(base, adapters, items, choices, wanted.generation, dtype, wanted.batch_size, wanted.peer_batch_size, folder)
        before = run_ours(given)
        theirs = run_peer(given, binaries)
        after = run_ours(given)
        figures = (compare_texts if given.generation else compare_choices)(given, before, theirs)
        ours_s, theirs_s = max(before.seconds[0], after.seconds[0]), sum(theirs.seconds)
        print(f"ours {before.seconds[0]:.1f} s and {after.seconds[0]:.1f} s for all adapters; lm-evaluation-harness {theirs_s:.1f} s,")
        print(f"median {statistics.median(theirs.seconds):.1f} s an adapter; the same of ours twice: {_unchanged(before, after)}")
        said = " ".join(f"{name}={value:.4g}" for name, value in figures.items())
        kind = "generation" if given.generation else "choice"
        print(
            f"sweep_vs_lm_eval {kind}_speedup={theirs_s / ours_s:.2f} {said} ours_s={ours_s:.1f} lm_eval_s={theirs_s:.1f} "
            f"adapters={len(adapters)} items={len(items)} choices={len(choices)} dtype={dtype} batch_size={given.batch_size} peer_batch_size={given.peer_batch_size}"
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unchanged(before: Side, after: Side) -> bool:
    """Whether both of our runs gave the same answers, times apart."""
    return all(
        one | {"seconds": None} == two | {"seconds": None}
        for name in before.answers
        for one, two in zip(before.answers[name], after.answers[name], strict=True)
    )


if __name__ == "__main__":
    main()
