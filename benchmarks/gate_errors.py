"""How often the gate is wrong, beside what teams use today: `python -m benchmarks.gate_errors [RUNS]`.

Simulated pairs of measurements with a known truth, RUNS (400) of each kind, the same ones for each gate:

- ours, with its three outcomes;
- adaptergate 0.5.4 in an environment of its own, with its defaults and with its slice threshold of 0.10;
- the unpaired z of lm-evaluation-harness's comparator at 1.96, by its formula.

6 % of the items flip, as often to the better as to the worse, where nothing changed. Three shapes of data: even slices, slices of very uneven size with
a weaker model, and graded scores. A fourth, conversations of four items that flip together, is harder: a slice of 50 is but 12 witnesses.
"""

import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import peers
from ringi.gating.binary import tango
from ringi.gating.decision import LEVEL, decide
from ringi.gating.futility import Futility
from ringi.gating.schemas import Arm, Measured, Requirement, Tier, Verdict

FLIPS = 0.06
MARGIN = 0.03
PEER = """
import json, sys
from adaptergate.gating.regression_gate import GateConfig, RegressionGate
gates = [RegressionGate(GateConfig(require_calibration=False)), RegressionGate(GateConfig(require_calibration=False, slice_epsilon=0.10))]
for line in sys.stdin:
    run = json.loads(line)
    queries = [{"question_id": str(i), "slices": ["s=" + s]} for i, s in enumerate(run["slices"])]
    scores = {"old": run["old"], "new": run["new"]}
    ask = lambda adapter, query: scores[adapter][int(query["question_id"])]
    print(json.dumps([not gate.evaluate(tenant_id="t", candidate_id="new", baseline_id="old", holdout=queries, scorer=ask).accepted for gate in gates]), flush=True)
"""


class Run(NamedTuple):
    """One pair of measurements; arrays of shape [items]."""

    old: NDArray[np.float64]
    new: NDArray[np.float64]
    slices: Sequence[str]
    sources: Sequence[int]


class Shape(NamedTuple):
    """Items by slice, the share that is right, how many items share a source, and whether scores are graded."""

    slices: Sequence[str]
    right: float
    together: int = 1
    graded: bool = False


def even(items: int, slices: int, *, right: float = 0.85) -> Shape:
    """Slices of one size."""
    return Shape([f"s{number % slices}" for number in range(items)], right)


def uneven() -> Shape:
    """1,000 items: a slice of 50 and 19 whose sizes fall as 1/rank, a model that is right in 60 %."""
    sizes = (950 * (1 / np.arange(1, 20)) / (1 / np.arange(1, 20)).sum()).round().astype(int)
    names = [f"s{number}" for number, size in enumerate(sizes, 1) for _ in range(size)]
    return Shape([*["s0"] * 50, *names][:1000], 0.60)


def conversations() -> Shape:
    """1,000 items in 250 conversations of four, all of one slice of 20, that are hard together and flip together."""
    return Shape([f"s{number // 4 % 20}" for number in range(1000)], 0.80, together=4)


def graded() -> Shape:
    """1,000 items in even slices of 50, with scores between 0 and 1 that move a little each time."""
    return Shape(even(1000, 20).slices, 0.75, graded=True)


def drawn(shape: Shape, seed: int, *, hurt: str | None = None, loss: float = 0.0) -> Run:
    """A baseline, and a candidate that differs by flips alone, or loses the share `loss` of what was right in slice `hurt`."""
    draw, n = np.random.default_rng(seed), len(shape.slices)
    if shape.graded:
        before = draw.beta(8 * shape.right, 8 * (1 - shape.right), n)
        after = np.clip(before + draw.normal(0, 0.1, n), 0, 1)
        after *= 1 - loss * (np.array(shape.slices) == hurt)
        return Run(before, after, shape.slices, range(n))
    groups = -(-n // shape.together)
    old = np.repeat(draw.random(groups) < shape.right, shape.together)[:n]
    if shape.together > 1:
        old ^= draw.random(n) < 0.05  # noqa: PLR2004  # the members of a conversation are alike, not equal
    luck = np.repeat(draw.random(groups), shape.together)[:n]
    share = old.mean()
    new = np.where(old, luck >= FLIPS / 2 / share, luck < FLIPS / 2 / max(1 - share, FLIPS))
    if hurt is not None:
        new &= ~((np.array(shape.slices) == hurt) & (draw.random(n) < loss))
    return Run(old.astype(float), new.astype(float), shape.slices, [number // shape.together for number in range(n)])


def arms(run: Run) -> tuple[Arm, Arm]:
    """As the gate takes them: candidate, baseline."""
    alone = len(set(run.sources)) == len(run.sources)

    def arm(scores: NDArray[np.float64]) -> Arm:
        return {
            "task": [
                Measured(item=f"{number:05}", slices={"s": run.slices[number]}, source=None if alone else str(run.sources[number]), scores={"score": score})
                for number, score in enumerate(scores.tolist())
            ]
        }  # fmt: skip

    return arm(run.new), arm(run.old)


def requirement(margin: float = MARGIN, tier: Tier = Tier.SUPPORTING) -> Requirement:
    """The task is critical, its slices are watched; `tier` of the slices."""
    return Requirement(task="task", metric="score", margin=margin, slices={"s": tier})


def unpaired_z(run: Run) -> bool:
    """lm-evaluation-harness 0.4.13, scripts/model_comparator.py: difference over the root of the summed squared standard errors; worse."""
    error = math.hypot(*(float(scores.std(ddof=1)) / math.sqrt(len(scores)) for scores in (run.old, run.new)))
    return float(run.old.mean() - run.new.mean()) / max(error, 1e-12) > 1.96  # noqa: PLR2004  # its threshold


class Row(NamedTuple):
    """Shares of the runs."""

    ours: Counter[Verdict]
    peer: float
    peer_slices: float
    z: float
    runs: int

    def share(self, verdict: Verdict) -> float:
        """Of ours."""
        return self.ours[verdict] / self.runs


def scenario(name: str, runs: Iterator[Run], wanted: Requirement, peer: "subprocess.Popen[str]") -> Row:
    """One line of the table."""
    ours: Counter[Verdict] = Counter()
    others, z, count, began, spent = np.zeros(2), 0, 0, time.perf_counter(), 0.0
    assert peer.stdin is not None  # noqa: S101  # it was started with pipes
    assert peer.stdout is not None  # noqa: S101
    for run in runs:
        at = time.perf_counter()
        ours[decide([wanted], *arms(run)).verdict] += 1
        spent += time.perf_counter() - at
        peer.stdin.write(json.dumps({"old": run.old.tolist(), "new": run.new.tolist(), "slices": list(run.slices)}) + "\n")
        peer.stdin.flush()
        others += json.loads(peer.stdout.readline())
        z, count = z + unpaired_z(run), count + 1
    row = Row(ours, others[0] / count, others[1] / count, z / count, count)
    shares = " ".join(f"{row.share(verdict):7.1%}" for verdict in (Verdict.GO, Verdict.NO_GO, Verdict.INCONCLUSIVE))
    print(
        f"{name:58} {shares} | {row.peer:7.1%} {row.peer_slices:7.1%} | {row.z:7.1%} | {spent / count * 1e3:5.0f} ms {time.perf_counter() - began:5.0f} s",
        flush=True,
    )
    return row


def binary_table(runs: int, peer: "subprocess.Popen[str]") -> dict[str, Row]:
    """Right or wrong, nothing changed and one slice that collapses."""
    print(f"{'rejected, unless said otherwise':58} {'GO':>7} {'NO-GO':>7} {'INCONCL':>7} | {'a-gate':>7} {'+slices':>7} | {'lm-eval':>7}")
    rows = {}
    few, six = (
        Shape([*["s0"] * 10, *(f"s{1 + n % 29}" for n in range(290))], 0.85),
        Shape([*["s0"] * 10, *(f"s{1 + n % 5}" for n in range(290))], 0.85),
    )
    shapes: dict[str, Callable[[], Shape]] = {
        "even": partial(even, 1000, 20),
        "uneven": uneven,
        "graded": graded,
        "conversations": conversations,
    }
    for name, make in shapes.items():
        shape = make()
        rows[f"same {name}"] = scenario(
            f"nothing changed, 1000 items, 20 slices, {name}", (drawn(shape, seed) for seed in range(runs)), requirement(), peer
        )
        hurt = (drawn(shape, seed, hurt="s0", loss=0.6) for seed in range(runs))
        rows[f"hurt {name}"] = scenario(f"a slice of 50 of 1000 loses 60 %, {name}", hurt, requirement(), peer)
    rows["same 5"] = scenario(
        "nothing changed, 1000 items, 5 slices", (drawn(even(1000, 5), seed) for seed in range(runs)), requirement(), peer
    )
    rows["same 200"] = scenario(
        "nothing changed, 200 items, 10 slices", (drawn(even(200, 10), seed) for seed in range(runs)), requirement(0.06), peer
    )
    for name, tiny in (("30", few), ("6", six)):
        hurt = (drawn(tiny, seed, hurt="s0", loss=0.6) for seed in range(runs))
        rows[f"tiny {name}"] = scenario(f"a slice of 10 of 300 loses 60 %, {name} slices", hurt, requirement(), peer)
    return rows


def graded_row(name: str, runs: int, drop: float) -> Counter[Verdict]:
    """200 items with scores between 0 and 1, the whole moved down by `drop` where there is room."""
    found: Counter[Verdict] = Counter()
    for seed in range(runs):
        draw = np.random.default_rng(seed)
        old = draw.beta(5, 2, 200)
        run = Run(old, np.clip(old + draw.normal(-drop, 0.08, 200), 0, 1), ["s0"] * 200, range(200))
        found[decide([Requirement(task="task", metric="score", margin=0.05)], *arms(run)).verdict] += 1
    shares = " ".join(f"{found[verdict] / runs:7.1%}" for verdict in (Verdict.GO, Verdict.NO_GO, Verdict.INCONCLUSIVE))
    print(f"{name:58} {shares}", flush=True)
    return found


class Kept(NamedTuple):
    """Of adapters with a true loss: the share that is kept by the fixed test, with the early stop too, and the mean items until then."""

    kept: float
    kept_with_stop: float
    items: float


def sweep_row(runs: int, loss: float, *, flips: float, n: int = 1000, margin: float = 0.02) -> Kept:
    """Paired items one by one, looked at every 16."""
    kept = with_stop = items = 0
    for seed in range(runs):
        luck = np.random.default_rng(seed).random(n)
        differences = np.where(luck < flips / 2 + loss, -1.0, np.where(luck < flips + loss, 1.0, 0.0))
        stop, at = Futility(margin), n
        for start in range(0, n, 16):
            if stop.see(differences[start : start + 16].tolist()):
                at = min(n, start + 16)
                break
        good = tango(int((differences < 0).sum()), int((differences > 0).sum()), n, margin) < LEVEL
        kept, with_stop, items = kept + good, with_stop + (good and at == n), items + at
    row = Kept(kept / runs, with_stop / runs, items / runs)
    print(
        f"true loss {loss:5.1%}, {flips:.0%} flips, margin 2 %, {n} items: kept {row.kept:6.1%}, with early stop {row.kept_with_stop:6.1%}; {row.items:6.0f} items looked at"
    )
    return row


def exact_size(n: int, margin: float, flips: float) -> float:
    """The chance that an adapter whose loss is exactly the margin is kept, by enumeration of all outcomes: no luck of a simulation."""
    lost, won, total = flips / 2 + margin, flips / 2, 0.0

    def chance(count: int, of: int, share: float) -> float:
        logs = math.lgamma(of + 1) - math.lgamma(count + 1) - math.lgamma(of - count + 1)
        return math.exp(logs + count * math.log(share) + (of - count) * math.log1p(-share))

    for worse in range(n + 1):
        outer = chance(worse, n, lost)
        if outer > 1e-12:  # noqa: PLR2004  # what is less likely adds nothing that is printed
            inner = (
                chance(better, n - worse, won / (1 - lost)) for better in range(n - worse + 1) if tango(worse, better, n, margin) < LEVEL
            )
            total += outer * sum(inner)
    return total


def main(runs: int) -> None:
    """Print the tables and the line of figures."""
    began = time.perf_counter()
    python = peers.environment("adaptergate", "adaptergate==0.5.4") / "python"
    with subprocess.Popen([python, "-c", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
        rows = binary_table(runs, peer)
        assert peer.stdin is not None  # noqa: S101  # it was started with pipes
        peer.stdin.close()
    print(f"\n{'graded scores, 200 items, margin 5 points':58} {'GO':>7} {'NO-GO':>7} {'INCONCL':>7}")
    large, small = graded_row("mean drop 0.30", runs, 0.30), graded_row("mean drop 0.002", runs, 0.002)
    print()
    at_margin = exact_size(1000, 0.02, 0.04)
    print(f"true loss 2 %, the margin: kept {at_margin:.2%}, by enumeration")
    same, worse = sweep_row(runs * 10, 0.0, flips=0.04), sweep_row(runs * 10, 0.05, flips=0.04)
    hopeless = sweep_row(runs * 10, 0.10, flips=0.04)
    shapes = ("even", "uneven", "graded")
    figures = {
        "false_reject": max(rows[f"same {name}"].share(Verdict.NO_GO) for name in shapes), "peer_false_reject": max(rows[f"same {name}"].peer_slices for name in shapes),
        "caught_50": min(rows[f"hurt {name}"].share(Verdict.NO_GO) for name in shapes), "peer_caught_50": min(rows[f"hurt {name}"].peer for name in shapes),
        "tiny_not_passed": 1 - max(rows[f"tiny {name}"].share(Verdict.GO) for name in ("30", "6")),
        "caught_50_conversations": rows["hurt conversations"].share(Verdict.NO_GO), "go_5": rows["same 5"].share(Verdict.GO), "go_20": rows["same even"].share(Verdict.GO), "inconclusive_20": rows["same even"].share(Verdict.INCONCLUSIVE),
        "drop_30_rejected": large[Verdict.NO_GO] / runs, "drop_0002_rejected": small[Verdict.NO_GO] / runs, "kept_at_margin": at_margin,
        "kept_same": same.kept, "missed_5pt": worse.kept, "items_saved_10pt": 1 - hopeless.items / 1000,
    }  # fmt: skip
    print(
        f"\ngate_errors {' '.join(f'{name}={value:.4f}' for name, value in figures.items())} runs={runs} seconds={time.perf_counter() - began:.0f}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
