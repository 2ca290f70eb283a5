"""Stopping early: an order that depends on nothing, whole sources, looks that are never past an open item, and few wrong stops."""

import random
from collections.abc import Mapping

import numpy as np
import pytest

from ringi.gating.futility import Futility
from ringi.gating.schemas import Requirement, Tier, Verdict
from ringi.gating.stopping import Seen, Watch, decided, drawn, told, watched_of
from ringi.jobs.contracts.suites import Answering, ScorerSpec, Task
from ringi.jobs.contracts.sweeps import StopRule, Watched
from ringi.kit.ids import uuid7

DIGEST = "sha256:" + "0" * 64
RULE = StopRule(baseline=uuid7(), name="support/bot:v1", records=DIGEST, runtime=DIGEST, seed="sha256:1", watched=())


def watched(**changes: object) -> Watched:
    told_of = {"task": "道案内", "metric": "accuracy", "margin": 0.05, "lower_is_better": False, "low": 0.0, "high": 1.0, "level": 0.05}
    return Watched.model_validate(told_of | changes)


def watch(before: Mapping[str, float | None], **changes: object) -> tuple[Watch, list[str]]:
    blocks = drawn("sha256:1", "道案内", [(item, None) for item in before])
    baseline = {item: Seen(item, None, score) for item, score in before.items()}
    return Watch(watched(**changes), blocks, baseline), [item for block in blocks for item in block]


def arm(order: list[str], score: float | None = 0.0) -> dict[str, Seen]:
    return {item: Seen(item, None, score) for item in order}


def test_the_order_depends_on_the_suite_and_the_items_names_alone() -> None:
    items = [(f"q{n:03}", None) for n in range(400)]
    order = drawn("sha256:1", "faq", items)
    assert order == drawn("sha256:1", "faq", list(reversed(items)))
    assert order != drawn("sha256:2", "faq", items)
    assert order != drawn("sha256:1", "別", items)
    # No drift: the first half of the names stands as often in the first half of the order as chance has it.
    early = sum(int(block[0][1:]) < 200 for block in order[:200])
    assert 70 < early < 130


def test_items_of_one_source_stand_together() -> None:
    items = [(f"q{n}", f"文書{n % 7}") for n in range(70)]
    order = drawn("s", "faq", items)
    assert sorted(map(len, order)) == [10] * 7
    assert all(len({int(item[1:]) % 7 for item in block}) == 1 for block in order)


def test_an_arm_that_loses_everything_is_stopped_soon_and_says_after_how_much() -> None:
    looking, order = watch({f"q{n}": 1.0 for n in range(500)})
    asked: dict[str, Seen] = {}
    for item in order:
        asked[item] = Seen(item, None, 0.0)
        if looking.see(asked):
            break
    assert 5 <= len(asked) <= 40
    stop = looking.stop(RULE, items=len(asked), of=500)
    assert (stop.items, stop.of, stop.seen, stop.loss, stop.margin) == (len(asked), 500, len(asked), 1.0, 0.05)
    assert told(stop).startswith(
        f"stopped early: after {len(asked)} of 500 items the loss of 'accuracy' in task '道案内' against support/bot:v1"
    )
    decision = decided(stop)
    assert decision.verdict is Verdict.NO_GO
    assert [reason.code for reason in decision.reasons] == ["stopped_early"]


def test_nothing_is_seen_behind_an_item_that_has_no_answer_yet() -> None:
    looking, order = watch({f"q{n}": 1.0 for n in range(200)})
    assert not looking.see(arm(order[1:])), "the first one is open"
    assert looking.see(arm(order))


@pytest.mark.parametrize("batch", [1, 7, 64, 500])
def test_portions_change_the_moment_of_a_look_and_not_what_is_seen(batch: int) -> None:
    draw = random.Random(4)
    before = {f"q{n}": float(draw.random() < 0.9) for n in range(500)}
    now = {item: Seen(item, None, float(score and draw.random() < 0.6)) for item, score in before.items()}
    looking, order = watch(before)
    for end in range(batch, 500 + batch, batch):
        if looking.see({item: now[item] for item in order[:end]}):
            break
    one, other = looking.stop(RULE, items=0, of=500), watch(before)[0]
    assert other.see(now)
    assert one == other.stop(RULE, items=0, of=500)


def test_what_was_asked_otherwise_or_lies_out_of_bounds_shows_nothing() -> None:
    looking, order = watch({f"q{n}": 1.0 for n in range(200)})
    assert not looking.see({item: Seen("other", None, 0.0) for item in order})
    looking, order = watch({f"q{n}": 1.0 for n in range(200)})
    assert not looking.see(arm(order, -3.0))
    looking, order = watch({f"q{n}": 1.0 if n % 2 else None for n in range(200)})
    assert not looking.see(arm(order, None)), "no score is no loss"
    assert watch({f"q{n}": 1.0 if n % 2 else None for n in range(200)})[0].see(arm(order, 0.0))


def test_where_less_is_better_more_is_a_loss() -> None:
    before = {f"q{n}": 0.2 for n in range(300)}
    assert watch(before, lower_is_better=True)[0].see(arm(list(before), 0.9))
    assert not watch(before)[0].see(arm(list(before), 0.9))


def test_what_can_be_watched_has_bounds_blocks_and_is_cheap() -> None:
    scorers = ("exact", "nll")
    task = Task(name="faq", answering=Answering.EXACT, items=DIGEST, count=9, scorers=tuple(ScorerSpec(name=name) for name in scorers))
    judged = Task(
        name="文", answering=Answering.GENERATE, items=DIGEST, count=9,
        scorers=(ScorerSpec(name="judge", label="品質"), ScorerSpec(name="chrf"), ScorerSpec(name="mine:score"), ScorerSpec(name="refusal")),
    )  # fmt: skip
    wanted = [
        Requirement(task="faq", metric="exact"), Requirement(task="faq", metric="nll", lower_is_better=True),
        Requirement(task="文", metric="品質"), Requirement(task="文", metric="chrf", tier=Tier.SUPPORTING, margin=0.1),
        Requirement(task="文", metric="mine:score"), Requirement(task="文", metric="refusal", safety=True),
    ]  # fmt: skip
    found = watched_of(wanted, (task, judged))
    assert [(one.metric, one.level) for one in found] == [("exact", 0.025), ("chrf", 0.025)]
    assert watched_of([Requirement(task="faq", metric="exact", tier=Tier.ADVISORY)], (task,)) == ()


def test_a_family_shares_the_level_and_takes_nothing_from_another() -> None:
    names = ("exact_match", "chrf", "contains")
    task = Task(
        name="文", answering=Answering.GENERATE, items=DIGEST, count=9,
        scorers=tuple(ScorerSpec(name=name, parameters={"texts": ["猫"]} if name == "contains" else {}) for name in names),
    )  # fmt: skip
    probe = Requirement(task="文", metric="contains", tier=Tier.SUPPORTING, family="off-task")
    own = [Requirement(task="文", metric=name) for name in names[:2]]
    assert [one.level for one in watched_of([*own, probe], (task,))] == [0.025, 0.025, 0.05]
    together = [one.model_copy(update={"family": None}) for one in (*own, probe)]
    assert [one.level for one in watched_of(together, (task,))] == pytest.approx([0.05 / 3] * 3)


def _stopped(seed: int, *, loss: float, flips: float, margin: float, items: int, clusters: int) -> bool:
    """Of clusters that share their luck, the worst case for items that are no independent witnesses."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1, clusters + 1, size=items)
    process = Futility(margin)
    for size in sizes:
        kind = draw.random()
        total = -int(size) if kind < loss + flips else int(size) if kind < loss + 2 * flips else 0
        if process.see_block(total, int(size), widest=clusters):
            return True
    return False


@pytest.mark.parametrize(("flips", "clusters"), [(0.02, 1), (0.1, 1), (0.05, 5)])
def test_at_the_margin_few_are_stopped_however_often_one_looks(flips: float, clusters: int) -> None:
    # At most 5 in 100 by the inequality of Ville; the seeds are fixed.
    stopped = sum(_stopped(seed, loss=0.05, flips=flips, margin=0.05, items=400, clusters=clusters) for seed in range(150))
    print(f"{stopped} of 150 stopped at the margin, {flips:.0%} flips, clusters up to {clusters}")
    assert stopped <= 15


def test_far_beyond_the_margin_nearly_all_are_stopped() -> None:
    stopped = sum(_stopped(seed, loss=0.3, flips=0.03, margin=0.05, items=400, clusters=1) for seed in range(60))
    assert stopped >= 57
