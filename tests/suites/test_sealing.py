"""What a suite must be before it is sealed: every refusal by its code, and equal content under one name."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from ringi.kit.errors import RingiError
from ringi.suites import sealing
from ringi.suites.schemas import AddSuiteVersion, SuiteDocument
from ringi.suites.sealing import Drafted, Sealed
from ringi.suites.shipping import SHIPPED, Shipped, document_of

CHOICES = ["返金", "配送", "その他"]


def item(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"q{number}", "prompt": f"{number}番の注文が届きません。", "answer": number % 3, "references": [CHOICES[number % 3]],
        "tags": {"language": "ja" if number % 2 else "en"},
    } | changes  # fmt: skip


def suite(*, items: list[dict[str, Any]] | None = None, task: dict[str, Any] | None = None, **requirement: Any) -> AddSuiteVersion:
    wanted = {"task": "routing", "metric": "accuracy", "margin": 0.05, "slices": {"language": "supporting"}} | requirement
    made = {
        "name": "routing", "answering": "choice", "choices": CHOICES, "scorers": ["accuracy"],
        "items": [item(number) for number in range(120)] if items is None else items,
    }  # fmt: skip
    return AddSuiteVersion.model_validate({"tasks": [made | (task or {})], "requirements": [wanted]})


def seal(body: AddSuiteVersion) -> Sealed:
    drafts = [Drafted(one, sealing.items_of(one.name, one.items or []), tuple(one.choices)) for one in body.tasks]
    return sealing.seal(drafts, body.requirements)


def test_equal_content_has_one_digest_and_any_change_another() -> None:
    first, again = seal(suite()), seal(suite())
    assert (first.digest, first.content) == (again.digest, again.content)
    changed = [
        suite(items=[item(number) for number in range(119)] + [item(119, prompt="別の質問")]),
        suite(items=[item(number) for number in range(119)] + [item(119, tags={"language": "fr"})]),
        suite(task={"scorers": [{"name": "accuracy", "label": "acc"}]}, metric="acc"),
        suite(task={"decoding": {"max_new_tokens": 8}}),
        suite(margin=0.06),
    ]
    assert len({first.digest, *(seal(one).digest for one in changed)}) == 1 + len(changed)


def test_the_facts_count_items_by_slice_and_leave_out_tags_that_name_items() -> None:
    rows = [item(number, tags={"language": "ja", "ticket": f"T{number}"}) for number in range(600)]
    facts = seal(suite(items=rows)).facts["routing"]
    assert (facts.items, facts.slices) == (600, {"language=ja": 600})


def test_items_are_sealed_as_canonical_lines_of_what_was_said_alone() -> None:
    sealed = seal(suite())
    (content,) = sealed.files.values()
    first = content.splitlines()[0].decode()
    assert first == '{"answer":0,"id":"q0","prompt":"0番の注文が届きません。","references":["返金"],"tags":{"language":"en"}}'
    assert sealed.document.tasks[0].count == 120


OWN: dict[str, Any] = {"name": "house.scorers:polite", "parameters": {"binary": True}}
REFUSED: dict[str, tuple[str, AddSuiteVersion]] = {
    "no items": ("suite_no_items", suite(items=[])),
    "an id twice": ("suite_duplicate_item", suite(items=[item(number) for number in range(120)] + [item(5)])),
    "one choice": ("suite_choices_invalid", suite(task={"choices": ["返金"]}, items=[item(number, answer=0) for number in range(120)])),
    "a choice twice": ("suite_choices_invalid", suite(task={"choices": [*CHOICES, "返金"]})),
    "an empty choice": ("suite_choices_invalid", suite(task={"choices": [*CHOICES, " "]})),
    "no choices at all": ("suite_choices_invalid", suite(task={"choices": []})),
    "choices of an item": ("suite_choices_invalid", suite(items=[*(item(n) for n in range(119)), item(119, choices=["a", "a"])])),
    "an answer beyond the choices": ("suite_answer_out_of_range", suite(items=[item(number, answer=3) for number in range(120)])),
    "an answer below zero": ("suite_answer_out_of_range", suite(items=[item(number, answer=-1) for number in range(120)])),
    "no right answer": ("suite_scorer_unfit", suite(items=[item(number, answer=None) for number in range(120)])),
    "tags as a text": ("suite_slices_not_mapping", suite(items=[item(0, tags="language=ja")])),
    "tags that hold numbers": ("suite_slices_not_mapping", suite(items=[item(0, tags={"difficulty": 3})])),
    "a slice of nobody": ("suite_slice_empty", suite(slices={"region": "critical"})),
    "a value of nobody": ("suite_slice_empty", suite(slices={"language=fr": "supporting"})),
    "items that must pass and are none": ("suite_must_pass_unknown", suite(must_pass=["q3", "q999"])),
    "a metric of no scorer": ("suite_metric_unknown", suite(metric="f1")),
    "a task that is not there": ("suite_requirement_invalid", suite(task={"name": "other"})),
    "the wrong direction": ("suite_requirement_invalid", suite(lower_is_better=True)),
    "a margin that nothing could show": ("suite_margin_unsupported", suite(margin=0.01)),
    "a slice that is too small": ("suite_margin_unsupported", suite(slices={"language": "critical"}, slice_margin=0.02)),
    "an unknown scorer": ("suite_scorer_unknown", suite(task={"scorers": ["brilliance"]}, metric="brilliance")),
    "a scorer of something else": ("suite_scorer_unfit", suite(task={"scorers": ["exact"]}, metric="exact")),
    "a parameter that is none": ("suite_scorer_parameters", suite(task={"scorers": [{"name": "accuracy", "parameters": {"x": 1}}]})),
    "a mean that says nothing": ("suite_requirement_invalid", suite(task={"scorers": ["macro_f1"]}, metric="macro_f1")),
    "two scorers of one name": ("suite_scorer_unfit", suite(task={"scorers": ["accuracy", "accuracy"]})),
    "no reference": (
        "suite_no_reference",
        suite(
            task={"answering": "exact", "choices": [], "scorers": ["exact"]},
            metric="exact",
            items=[item(n, answer=None, references=[]) for n in range(120)],
        ),
    ),
    "no question": ("suite_item_invalid", suite(items=[item(0, prompt=None)])),
    "a field that is none": ("suite_item_invalid", suite(items=[item(0, difficulty="hard")])),
    "an id that is not printed": ("suite_item_invalid", suite(items=[item(0, id="q\x00")])),
    "a margin that no loss reaches": ("suite_requirement_invalid", suite(margin=1.5)),
    "a margin of slices that no loss reaches": ("suite_requirement_invalid", suite(slice_margin=1.5)),
    "a margin that no loss of a yes or no reaches": (
        "suite_requirement_invalid",
        suite(task={"scorers": [OWN]}, metric=OWN["name"], margin=1.5),
    ),
    "a floor that no mean reaches": ("suite_requirement_invalid", suite(floor=5)),
    "greedy and repeated": ("suite_document_invalid", suite(task={"decoding": {"repeats": 3}})),
    "a number that is none": ("suite_document_invalid", suite(task={"scorers": [{"name": "accuracy", "parameters": {"x": float("nan")}}]})),
    "a character that no database holds": ("suite_document_invalid", suite(task={"choices": [*CHOICES, "a\x00b"]})),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_gate_could_use_is_refused_before_anything_runs(what: str) -> None:
    code, body = REFUSED[what]
    with pytest.raises(RingiError) as refusal:
        seal(body)
    assert refusal.value.code == code, str(refusal.value)
    assert refusal.value.next_step
    assert refusal.value.status == 400


@pytest.mark.parametrize("name", SHIPPED)
def test_the_suites_that_come_with_ringi_are_sealed_as_they_are(name: Shipped) -> None:
    sealed = seal(AddSuiteVersion.model_validate(document_of(name)))
    assert len(sealed.document.tasks) == len(sealed.facts)


def test_a_margin_of_slices_is_asked_for_where_there_are_slices() -> None:
    assert seal(suite(slices={}, slice_margin=1.5)).digest
    unbounded = {"name": OWN["name"], "parameters": {"low": 0}}
    assert seal(suite(task={"scorers": [unbounded]}, metric=OWN["name"], margin=40.0, slice_margin=40.0, floor=90.0)).digest


@pytest.mark.parametrize("word", ["二\n行", "\u202e逆さ", "改\u2028行", "終わり\n"])
def test_a_label_and_a_family_stand_in_one_line(word: str) -> None:
    label = {"scorers": [{"name": "accuracy", "label": word}]}
    with pytest.raises(ValidationError, match="stands in one line"):
        suite(task=label, metric=word)
    with pytest.raises(ValidationError, match="stands in one line"):
        suite(family=word)
    # What was sealed before it was asked for can be read.
    plain = seal(suite(task={"scorers": [{"name": "accuracy", "label": "正解"}]}, metric="正解", family="本題")).content.decode()
    written = json.dumps(word)[1:-1]
    kept = SuiteDocument.model_validate_json(plain.replace("正解", written).replace("本題", written))
    assert (kept.tasks[0].scorers[0].metric, kept.requirements[0].family) == (word, word)


def test_two_tasks_of_one_name_are_refused() -> None:
    body = suite()
    with pytest.raises(RingiError) as refusal:
        seal(body.model_copy(update={"tasks": body.tasks * 2}))
    assert refusal.value.code == "suite_duplicate_task"


def test_a_margin_that_is_refused_says_how_many_items_it_needs() -> None:
    with pytest.raises(RingiError) as refusal:
        seal(suite(margin=0.01))
    assert "Use at least 299 items" in refusal.value.next_step
    assert seal(suite(margin=0.01, tier="supporting", slices={})).digest


def test_advice_counts_the_items_that_a_margin_needs() -> None:
    sealed = seal(suite(slices={"language=ja": "critical"}, slice_margin=0.1))
    whole, japanese = sealing.advice_of(sealed.document.requirements, sealed.facts)
    assert (whole.slice, whole.items, whole.supported) == (None, 120, True)
    assert (japanese.slice, japanese.items, japanese.margin) == ("language=ja", 60, 0.1)
    assert whole.needed["1%"] < whole.needed["10%"]
