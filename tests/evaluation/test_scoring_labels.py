"""Labels: right or wrong item by item, macro-F1 over all of them with its interval, and the perplexity of a corpus."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score  # type: ignore[import-untyped]

from ringi.jobs.contracts.scorer_parameters import Labels
from ringi.jobs.contracts.scorers import ScoreProblem
from ringi.jobs.contracts.suites import Answer, Item, ScorerSpec
from ringi.kit.digests import sha256_bytes
from ringi_workers.evaluation.grading.labels import Labelled, corpus_perplexity, labelled, macro_f1, macro_f1_difference
from ringi_workers.evaluation.grading.parts import Unscored
from ringi_workers.evaluation.grading.registry import Access, Grading

ASKED = sha256_bytes(b"asked")
LABELS = ("肯定", "否定", "中立")


def rows(wanted: list[str], said: list[str | None]) -> list[Labelled]:
    return [Labelled(str(place), *pair, str(place)) for place, pair in enumerate(zip(wanted, said, strict=True))]


@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=40))
@settings(max_examples=40, deadline=None)
def test_macro_f1_is_that_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    wanted, said = map(list, zip(*pairs, strict=True))
    assert macro_f1(rows(wanted, list(said)), resamples=1).value == pytest.approx(f1_score(wanted, said, average="macro", zero_division=0))


def test_an_answer_that_is_no_label_counts_against_the_label_that_was_wanted() -> None:
    found = macro_f1(rows(["肯定", "肯定", "否定", "否定"], ["肯定", None, "否定", "否定"]))
    assert found.value == pytest.approx((2 / 3 + 1) / 2)


def test_the_interval_holds_the_truth_and_narrows_with_items() -> None:
    draw = random.Random(5)

    def drawn(count: int) -> list[Labelled]:
        wanted = [draw.choice(LABELS) for _ in range(count)]
        return rows(wanted, [one if draw.random() < 0.8 else draw.choice(LABELS) for one in wanted])

    few, many = macro_f1(drawn(60)), macro_f1(drawn(2000))
    # 0.8 and a third of the rest by chance.
    for found in (few, many):
        assert found.low is not None
        assert found.high is not None
        assert found.low < 0.8667 < found.high
    assert few.high - few.low > 3 * (many.high - many.low)  # type: ignore[operator]  # both are there


def test_items_of_one_source_are_one_witness() -> None:
    independent = rows(["肯定", "否定"] * 60, [*["肯定", "否定"] * 45, *["否定", "肯定"] * 15])
    together = [row._replace(source=str(int(row.item) // 30)) for row in independent]
    alone, shared = macro_f1(independent), macro_f1(together)
    assert alone.value == shared.value
    assert shared.high - shared.low > 1.5 * (alone.high - alone.low)  # type: ignore[operator]  # both are there


def test_a_destroyed_label_shows_in_the_difference_and_no_change_does_not() -> None:
    wanted = [LABELS[place % 3] for place in range(300)]
    good = rows(wanted, [one if place % 10 else "中立" for place, one in enumerate(wanted)])
    broken = [row._replace(said="肯定") if row.wanted == "否定" else row for row in good]
    worse, same = macro_f1_difference(good, broken), macro_f1_difference(good, list(reversed(good)))
    assert worse.high is not None
    assert worse.high < -0.2
    assert (same.value, same.low, same.high, same.n) == (0, 0, 0, 300)


def test_nothing_measured_is_no_figure_and_one_source_has_no_interval() -> None:
    assert macro_f1([]) == (None, None, None, 0)
    assert macro_f1_difference(rows(["肯定"], ["肯定"]), []) == (None, None, None, 0)
    assert macro_f1(rows(["肯定"], ["肯定"])) == (1.0, None, None, 1)


def test_a_label_is_a_choice_or_a_text_that_equals_it_once_normalised() -> None:
    scorer = Grading(Access()).scorer(ScorerSpec(name="macro_f1", parameters={"texts": LABELS}))
    assert scorer is not None
    chosen = Item(id="q", prompt="?", choices=LABELS, answer=1)
    assert [scorer(chosen, Answer(item="q", asked=ASKED, choice=choice)) for choice in range(3)] == [0, 1, 0]
    written = Item(id="q", prompt="?", references=("否定",))
    assert [scorer(written, Answer(item="q", asked=ASKED, output=text)) for text in ("「否定」。", "否定的です", "中立")] == [1, 0, 0]
    assert labelled(written, Answer(item="q", asked=ASKED, output="否定的です"), Labels(texts=LABELS)).said is None


@pytest.mark.parametrize(
    ("item", "answer", "problem"),
    [
        (Item(id="q", choices=LABELS), Answer(item="q", asked=ASKED, choice=1), ScoreProblem.NO_REFERENCE),
        (Item(id="q", choices=LABELS, answer=0), Answer(item="q", asked=ASKED), ScoreProblem.NO_OUTPUT),
        (Item(id="q"), Answer(item="q", asked=ASKED, output="肯定"), ScoreProblem.NO_REFERENCE),
        (Item(id="q", references=("！",)), Answer(item="q", asked=ASKED, output="肯定"), ScoreProblem.REFERENCE_UNREADABLE),
        (Item(id="q", references=("肯定",)), Answer(item="q", asked=ASKED), ScoreProblem.NO_OUTPUT),
    ],
)
def test_what_has_no_label_says_so(item: Item, answer: Answer, problem: ScoreProblem) -> None:
    with pytest.raises(Unscored) as unscored:
        labelled(item, answer, Labels())
    assert unscored.value.code is problem


def test_perplexity_of_an_item_and_of_a_corpus_are_two_things() -> None:
    scorer = Grading(Access()).scorer(ScorerSpec(name="perplexity"))
    assert scorer is not None
    answers = [Answer(item="a", asked=ASKED, nll=1.0, output_tokens=30), Answer(item="b", asked=ASKED, nll=3.0, output_tokens=10)]
    assert [scorer(Item(id="a"), answer) for answer in answers] == pytest.approx([math.e, math.e**3])
    assert corpus_perplexity(answers) == pytest.approx(math.exp(1.5))
    assert corpus_perplexity([]) is None
    assert scorer(Item(id="a"), Answer(item="a", asked=ASKED)) is None
    with pytest.raises(Unscored) as unscored:
        scorer(Item(id="a"), Answer(item="a", asked=ASKED, nll=1e4))
    assert unscored.value.code is ScoreProblem.SCORER_NOT_FINITE
