"""Suites in YAML: what people write is read as they mean it, and what attacks is refused."""

import time

import pytest

from ringi.jobs.contracts.suites import Item
from ringi.suites.diff import changes, tasks_to_compare
from ringi.suites.mapping import mapped, rows_of
from ringi.suites.reading import MAX_DEPTH, SuiteYamlRefused, read_document
from ringi.suites.refusals import SuiteColumnUnknown, SuiteItemsUnreadable
from ringi.suites.schemas import AddSuiteVersion, FromDataset
from ringi.suites.sealing import Sealed
from suites.test_sealing import item, seal, suite

YAML = """
tasks:
  - name: 問い合わせ
    answering: choice
    choices: [yes, no, on, 2026-11-01, 1_000, 007]
    scorers: [accuracy, {name: accuracy_norm, label: norm}]
    decoding: {max_new_tokens: 8}
    items:
      - {id: q1, prompt: "Is it?", answer: 1, tags: {site: 大阪}}
requirements:
  - {task: 問い合わせ, metric: accuracy, tier: supporting, margin: 0.05, relative_guard: null, safety: false}
"""


def test_choices_stay_what_they_look_like() -> None:
    body = AddSuiteVersion.model_validate(YAML.encode())
    (task,) = body.tasks
    assert task.choices == ["yes", "no", "on", "2026-11-01", "1_000", "007"]
    assert [one.metric for one in task.scorers] == ["accuracy", "norm"]
    assert (body.requirements[0].margin, body.requirements[0].safety) == (0.05, False)


@pytest.mark.parametrize(
    ("what", "text"),
    {
        "an alias": "a: &x [1]\nb: *x",
        "billions of laughs": "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]",
        "a tag": "tasks: !!python/object/apply:os.system ['true']",
        "a tag of a number": "tasks: !!int 'x'",
        "depth": "tasks: " + "[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2),
        "depth by far": "[" * 100_000,
        "a key twice": "tasks: []\ntasks: [1]",
        "a key that is a list": "? [a]\n: b",
        "no mapping": "- a\n- b",
        "nothing": "",
        "broken": "tasks: [",
        "a null": "tasks: \x00",
    }.items(),
    ids=lambda value: value if value.isascii() and "\n" not in value and len(value) < 30 else "text",
)
def test_what_does_more_than_hold_data_is_refused_at_once(what: str, text: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(SuiteYamlRefused):
        read_document(text.encode())
    assert time.perf_counter() - begun < 5, what


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(SuiteYamlRefused, match="byte 7"):
        read_document(b"tasks: \xff")


ROWS = [
    {"id": "a1", "prompt": "返金は?", "completion": "はい", "category": "返金", "site": "大阪"},
    {"id": "a2", "prompt": "配送は?", "completion": "三日", "category": "配送", "site": "東京"},
    {"id": "a3", "prompt": "他は?", "completion": "いいえ", "category": "返金", "site": "東京"},
]


def test_a_datasets_columns_become_choices_answers_slices_and_sources() -> None:
    how = FromDataset(version="faq:v1", choices_from="category", slices=["site"], source="site")
    found = mapped("faq", ROWS, how, choices=[])
    assert found.choices == ("返金", "配送")
    assert [(one.id, one.answer, one.references, one.tags, one.source) for one in found.items] == [
        ("a1", 0, ("はい",), {"site": "大阪"}, "大阪"),
        ("a2", 1, ("三日",), {"site": "東京"}, "東京"),
        ("a3", 0, ("いいえ",), {"site": "東京"}, "東京"),
    ]


def test_a_column_that_is_not_in_every_row_is_refused_with_those_that_are() -> None:
    rows = [*ROWS, {"id": "a4", "prompt": "?", "completion": "!"}]
    with pytest.raises(SuiteColumnUnknown) as refusal:
        mapped("faq", rows, FromDataset(version="faq", slices=["site"]), choices=[])
    assert refusal.value.details["known"] == ["completion", "id", "prompt"]


@pytest.mark.parametrize("line", [b"nothing", b"[1]", b"[" * 100_000])
def test_an_uploaded_line_that_is_no_object_is_refused(line: bytes) -> None:
    with pytest.raises(SuiteItemsUnreadable):
        list(rows_of("t", [b"{}", line]))


def test_a_difference_names_the_items_and_the_fields() -> None:
    before = seal(suite())
    now = seal(suite(items=[item(0, prompt="別の質問"), *(item(n) for n in range(2, 121))], margin=0.06))
    assert tasks_to_compare(before.document, now.document) == ["routing"]
    sides = (items_of(before), items_of(now))
    found = {(one.where, one.what, one.before, one.now) for one in changes(before.document, now.document, {"routing": sides})}
    assert found == {
        ("routing", "item q1", "there", None),
        ("routing", "item q120", None, "there"),
        ("routing", "item q0", "other prompt", "changed"),
        ("routing requirement accuracy", "margin", "0.05", "0.06"),
    }
    assert changes(before.document, before.document, {}) == []


def items_of(sealed: Sealed) -> list[Item]:
    (content,) = sealed.files.values()
    return [Item.model_validate_json(line) for line in content.splitlines()]
