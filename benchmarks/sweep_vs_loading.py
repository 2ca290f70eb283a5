"""A sweep of adapters over one loaded base: against the same engine started once for each adapter, whole processes, in one run (goal G9).

Choice: Banking77 questions x 20 intents, SmolLM2-135M with rank-8 adapters, as in `sweep_vs_lm_eval`. Both sides are the same program with the same
plan; one gets all adapters, the other is started again for each. The sweep runs before and after, and the slower time counts. What the
ratio can be follows from the work: with many items an adapter's own answering outweighs the start and the load that a sweep saves, so
both are printed. The answers are compared, and how often the base was read is counted by the engine itself.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.sweep_vs_lm_eval import DATA, Given, Side, make_adapters, questions, run_ours
from ringi_workers.demo.sources import default_cache, fetch_base_model


class Run(NamedTuple):
    """What a process took and answered, how often it read the base, and how long reading took."""

    side: Side
    loads: int
    loaded_s: float


class Compared(NamedTuple):
    """Shares of the questions, and nats."""

    same_choice: float
    same_accuracy: int
    largest_difference: float


def run(given: Given) -> Run:
    """One process, from its start to its end."""
    side = run_ours(given)
    last = json.loads((given.folder / "ours.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    return Run(side, last["loads"], last["loaded_s"])


def compare(given: Given, swept: Side, alone: dict[str, Run]) -> Compared:
    """The answers adapter by adapter, as a table."""
    largest, same, equal = 0.0, 0, 0
    print(f"{'adapter':12} | {'accuracy, sweep':15} | {'alone':6} | {'same choice':11} | seconds alone")
    for name in given.adapters:
        agreed, right = 0, [0.0, 0.0]
        for mine, other in zip(swept.answers[name], alone[name].side.answers[name], strict=True):
            largest = max(largest, *(abs(one - two) for one, two in zip(mine["logprobs"], other["logprobs"], strict=True)))
            agreed += mine["choice"] == other["choice"]
            right = [right[0] + mine["scores"]["accuracy"], right[1] + other["scores"]["accuracy"]]
        items = len(given.items)
        seconds = alone[name].side.seconds[0]
        print(f"{name:12} | {right[0] / items:15.3f} | {right[1] / items:6.3f} | {agreed:4} of {items:3} | {seconds:.1f}")
        same, equal = same + agreed, equal + (right[0] == right[1])
    return Compared(same / len(given.items) / len(given.adapters), equal, largest)


def main() -> None:
    """Make the adapters, run both sides, print the table and the line of figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=int, default=20)
    parser.add_argument("--items", type=int, default=10)
    parser.add_argument("--choices", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--dtype", default="auto", help="'auto' is the base's own")
    parser.add_argument("--data", type=Path, default=DATA, help="Banking77's test.csv (PolyAI, CC BY 4.0)")
    wanted = parser.parse_args()
    if not wanted.data.is_file():
        sys.exit(f"SKIPPED, nothing was measured: {wanted.data} is not there. Name Banking77's test.csv with --data.")
    folder = Path(tempfile.mkdtemp(prefix="ringi-loading-benchmark-"))
    try:
        base = fetch_base_model(default_cache())
        items, choices = questions(wanted.data, wanted.items, wanted.choices)
        adapters = make_adapters(base, wanted.adapters, folder)
        given = Given(
            base,
            adapters,
            items,
            choices,
            generation=False,
            dtype=wanted.dtype,
            batch_size=wanted.batch_size,
            peer_batch_size=0,
            folder=folder,
        )
        before = run(given)
        alone = {name: run(given._replace(adapters={name: adapter})) for name, adapter in adapters.items()}
        after = run(given)
        found = compare(given, before.side, alone)
        sweep_s = max(before.side.seconds[0], after.side.seconds[0])
        alone_s = sum(one.side.seconds[0] for one in alone.values())
        loads = max(before.loads, after.loads)
        print(f"one sweep {before.side.seconds[0]:.1f} s and {after.side.seconds[0]:.1f} s; a process each {alone_s:.1f} s together,")
        each = statistics.median(one.side.seconds[0] for one in alone.values())
        load_s = statistics.median(one.loaded_s for one in alone.values())
        more_s = (sweep_s - each) / max(1, len(adapters) - 1)
        print(f"median {each:.1f} s, of which {load_s:.1f} s reading the base; one adapter more costs the sweep about {more_s:.2f} s")
        print(
            f"sweep_vs_loading ratio={alone_s / sweep_s:.2f} loads={loads} loads_alone={sum(one.loads for one in alone.values())} "
            f"same_choice={found.same_choice:.4g} equal_accuracy={found.same_accuracy} largest_difference={found.largest_difference:.4g} "
            f"sweep_s={sweep_s:.1f} alone_s={alone_s:.1f} adapters={len(adapters)} items={len(items)} choices={len(choices)} "
            f"dtype={wanted.dtype} batch_size={wanted.batch_size}"
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
