"""What lm-evaluation-harness 0.4.13 itself wrote (`lm_eval_samples/make.py`), read by the import and answered again by our own engine."""

from pathlib import Path
from typing import Any

import pytest

from ringi.gating.schemas import Tier
from ringi.jobs.contracts.parts import Progress
from ringi.jobs.contracts.suites import Answer, Item, Task
from ringi.measurements import lm_eval
from ringi.measurements.lm_eval import Sample
from ringi.suites.schemas import AddSuiteVersion
from ringi.suites.sealing import Drafted, items_of, seal
from ringi_workers.evaluation.swapping import SwappableBase
from ringi_workers.evaluation.sweep import Measured, sweep
from support.tiny_model import make_tiny_base

FOLDER = Path(__file__).with_name("lm_eval_samples")
TASKS = ("shelves_choice", "shelves_written", "shelves_filtered", "shelves_text")


def read(task: str) -> list[Sample]:
    (file,) = FOLDER.glob(f"samples_{task}_*.jsonl")
    assert lm_eval.task_of(file.name) == task
    return lm_eval.samples(task, file.read_bytes().splitlines(), slices=["言語"])


class Quiet:
    def report(self, progress: Progress) -> None:
        pass

    def should_stop(self) -> bool:
        return False


@pytest.mark.parametrize("task", TASKS)
def test_every_document_comes_once_with_its_slice(task: str) -> None:
    found = read(task)
    assert [one.record.item for one in found] == [str(number) for number in range(6)]
    assert [one.record.tags["言語"] for one in found] == ["English", "English", "日本語"] * 2
    assert len({one.record.asked for one in found}) == 6


def test_a_choice_is_the_likeliest_and_its_accuracy_is_the_harnesses_own() -> None:
    for one in read("shelves_choice"):
        assert len(one.record.logprobs) == len(one.item.choices) == 4
        assert one.record.choice == one.record.logprobs.index(max(one.record.logprobs))
        assert one.record.output == one.item.choices[one.record.choice]
        assert one.record.scores["acc"] == float(one.record.choice == one.item.answer)
        assert "質問: " in (one.item.prompt or "")


def test_a_generated_text_is_kept_as_it_was_before_filters_and_each_filter_has_its_metric() -> None:
    plain, filtered = read("shelves_written"), read("shelves_filtered")
    assert [one.record.output for one in plain] == [one.record.output for one in filtered]
    assert all(one.record.output for one in plain)
    assert {tuple(one.record.scores) for one in plain} == {("exact_match",)}
    assert {frozenset(one.record.scores) for one in filtered} == {frozenset({"exact_match", "exact_match,first-word"})}
    assert {one.item.references for one in plain} == {("赤い猫",), ("青い川",), ("red cat",), ("blue river",)}


def test_a_likelihood_of_whole_texts_is_no_text_and_no_score_is_made_of_it() -> None:
    for one in read("shelves_text"):
        assert one.record.output is None
        assert one.record.scores == {"word_perplexity": None, "byte_perplexity": None}


def test_other_choices_or_other_decoding_are_another_question() -> None:
    (file,) = FOLDER.glob("samples_shelves_choice_*.jsonl")
    (written,) = FOLDER.glob("samples_shelves_written_*.jsonl")
    for path, before, after in ((file, " 青い川", " 黒い川"), (written, '"max_gen_toks": 8', '"max_gen_toks": 9')):
        text = path.read_text(encoding="utf-8")
        changed = text.replace(f'"arg_1": "{before}"', f'"arg_1": "{after}"') if path is file else text.replace(before, after)
        assert changed != text
        sides = [lm_eval.samples("t", one.encode().splitlines()) for one in (text, changed)]
        assert all(one.record.asked != other.record.asked for one, other in zip(*sides, strict=True))


def test_the_suite_made_of_the_samples_gives_the_same_figures_on_the_same_model(tmp_path: Path) -> None:
    """Ours on the model that the harness was run on: the same likelihoods, the same accuracy, per character too."""
    found = read("shelves_choice")
    made = AddSuiteVersion.model_validate(lm_eval.suite_of({"shelves_choice": found}, ["言語"]))
    assert [(one.metric, one.slices) for one in made.requirements] == [("acc", {"言語": Tier.SUPPORTING})]
    drafts = [Drafted(task, items_of(task.name, task.items or []), ()) for task in made.tasks]
    # A margin of five points is more than six questions can show, and not asked for here.
    sealed = seal(drafts, [])
    task: Task = sealed.document.tasks[0]
    items: list[Item] = list(drafts[0].items)
    (result,) = sweep(SwappableBase(make_tiny_base(tmp_path / "base")), {"base": None}, [(task, items)], sink=Quiet(), batch_size=3)
    assert isinstance(result, Measured)
    answers: tuple[Answer, ...] = result.answers
    for sample, answer in zip(found, answers, strict=True):
        assert answer.logprobs == pytest.approx(sample.record.logprobs, abs=1e-3)
        scores: dict[str, Any] = dict(answer.scores)
        assert scores == sample.record.scores
