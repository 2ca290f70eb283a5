"""What a recipe does to Japanese and other text, what counts as personal data, which rows are nearly equal, and that old digests hold."""

import io
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from ringi.cli.dataset_tables import drawn
from ringi.datasets.contents import Chat, Document, Pair, Row
from ringi.datasets.preparation import folded_widths, lengths_of, prepare, script_of, tidied
from ringi.datasets.reading import read_rows
from ringi.datasets.schemas import DatasetTerms, DatasetVersionOut
from ringi.datasets.service import digest_of
from ringi.datasets.validation import Near, Sides, Split, normalise, validate_and_split
from ringi.jobs.contracts.datasets import (
    PERSONAL_KINDS,
    Recipe,
    SplitSpec,
    Terms,
    ValidateDatasetPayload,
    ValidateDatasetResult,
)
from ringi.jobs.contracts.parts import FileRef
from ringi_workers.datasets.near import groups_of, near_of
from ringi_workers.datasets.personal import DatasetPersonalData, look
from ringi_workers.personal_data import places, redacted


@pytest.mark.parametrize(
    ("written", "folded"),
    [("ＦＡＱ　その１", "FAQ その1"), ("ｶﾞｷﾞ ﾊﾟﾝ", "ガギ パン"), ("①㈱㎡…", "①㈱㎡…"), ("é 𠮷", "é 𠮷"), ("￥１，０００", "¥1,000"), ("", "")],
)
def test_widths_are_folded_and_no_other_form_is(written: str, folded: str) -> None:
    assert folded_widths(written) == folded


def test_nfkc_folds_every_compatibility_form() -> None:
    (row,) = prepare([Row(1, Pair("①㈱　ｶﾞ", "㍻"), {"tag": "Ａ"})], Recipe(unicode="nfkc")).rows
    assert row == Row(1, Pair("1(株) ガ", "平成"), {"tag": "Ａ"})


@pytest.mark.parametrize(
    ("written", "tidy"),
    [
        ("一行目 \t\r\n\r\n\r\n\r\n二行目　", "一行目\n\n二行目"),
        ("def f():\n    return  1\n", "def f():\n    return 1"),
        ("あ　　い\tう", "あ い う"),
        (" \n", ""),
    ],
)
def test_white_space_is_written_in_one_way_and_indentation_stays(written: str, tidy: str) -> None:
    assert tidied(written) == tidy


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from(" \t\r\n　aあ\u00a0"), max_size=30))
def test_what_is_tidy_stays_as_it_is(text: str) -> None:
    assert tidied(tidied(text)) == tidied(text)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("棚に何がありますか。", "japanese"), ("貸出延長申請", "han"), ("Where is it?", "latin"), ("ＡＢＣ", "latin"), ("ｶﾀｶﾅ", "japanese"),
        ("어디에 있습니까", "hangul"), ("Где это?", "cyrillic"), ("12:30 !?", "none"), ("API の key は environment variable です", "japanese"),
    ],
)  # fmt: skip
def test_a_script_is_told_from_the_letters(text: str, script: str) -> None:
    assert script_of(text) == script


def test_lengths_are_of_what_is_asked_and_answered_or_of_documents() -> None:
    pairs = [Row(n, Pair("あ" * n, "い"), {}) for n in range(1, 101)]
    found = lengths_of(pairs)
    assert (found["prompt"].median, found["prompt"].p95, found["prompt"].longest, found["completion"].longest) == (50, 95, 100, 1)
    assert set(lengths_of([Row(1, Document("あ"), {})])) == {"text"}
    assert lengths_of([]) == {}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("連絡は Ada.B@ringi.jp まで", "連絡は [email] まで"),
        ("携帯は０９０−１２３４−５６７８、固定は03-1234-5678", "携帯は[phone_jp]、固定は[phone_jp]"),
        ("+81 90 1234 5678 か +1 (202) 555-0143", "[phone_jp] か [phone]"),
        ("カード４１１１　１１１１　１１１１　１１１１。", "カード[card]。"),
        ("個人番号は1234 5678 9018、注文は1234 5678 9012", "個人番号は[my_number]、注文は1234 5678 9012"),
        ("〒１００ー０００１ 千代田区", "[postal_code_jp] 千代田区"),
        ("03(1234)5678、０６（６３４５）１２３４、090.1234.5678", "[phone_jp]、[phone_jp]、[phone_jp]"),
        # As part numbers and amounts are written; of a number without any mark nobody knows what it is.
        ("型番 530-0001a、a100-0001、3.14159265358、注文0312345678", "型番 530-0001a、a100-0001、3.14159265358、注文0312345678"),
        ("ﾀﾞﾐｰ ㈱ alice@example.com 2025-11-23 12,345円", "ﾀﾞﾐｰ ㈱ alice@example.com 2025-11-23 12,345円"),
    ],
)
def test_personal_data_is_taken_out_and_nothing_else_is_touched(text: str, left: str) -> None:
    assert redacted(text, PERSONAL_KINDS) == left


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("aあｶﾞ㈱ 　\n0-"), max_size=20), st.text(st.sampled_from("aあｶﾞ㈱ 　\n。"), max_size=20))
def test_the_place_of_a_find_is_its_place_in_the_text_as_it_is_written(before: str, after: str) -> None:
    text = f"{before}。ada@ringi.jp {after}"
    (found,) = places(text, ("email",))
    assert text[found.start : found.end] == "ada@ringi.jp"


def test_calls_and_tags_are_cleaned_too_and_a_refusal_names_lines_and_no_text() -> None:
    call = {"type": "function", "function": {"name": "send", "arguments": {"to": "ada@ringi.jp"}}}
    messages = ({"role": "user", "content": "送って"}, {"role": "assistant", "content": "", "tool_calls": [call]})
    rows = [Row(7, Chat(messages), {"source_id": "bob@ringi.jp"})]
    (row,) = look(rows, Recipe(personal_data="redact")).rows
    assert "ringi.jp" not in json.dumps(row.content.sealed())
    assert (row.tags, row.content.sealed()["messages"][1]["tool_calls"][0]["function"]["name"]) == ({"source_id": "[email]"}, "send")
    with pytest.raises(DatasetPersonalData) as refusal:
        look(rows, Recipe(personal_data="refuse"))
    assert refusal.value.details == {"count": 1, "lines": [{"line": 7, "kinds": ["email"]}]}
    assert look(rows, Recipe(personal_data="ignore")).by_kind is None
    assert look(rows, Recipe()).rows == rows


def test_each_kind_of_personal_data_has_lines_of_its_own() -> None:
    texts = {3: "03-1234-5678", 5: "ada@ringi.jp か 06-6345-1234", 8: "ありません"}
    rows = [Row(line, Pair(text, "はい"), {}) for line, text in texts.items()]
    assert look(rows, Recipe()).lines == {"email": [5], "phone_jp": [3, 5]}


LONG = "貸出しの期限を過ぎた場合にはどのような手続きが必要になりますか、窓口の受付時間とあわせて教えてください。"


def test_texts_that_are_nearly_equal_are_found_in_the_order_of_the_source_every_time() -> None:
    texts = [LONG, "まったく別の質問です。", LONG.replace("、", "，"), "What is on the shelf?", LONG + "至急。", "短い"]
    assert groups_of(texts, threshold=0.7) == [[0, 2, 4]]
    assert groups_of(texts, threshold=1.0) == []
    assert groups_of(texts * 2, threshold=1.0) == [[n, n + len(texts)] for n in range(len(texts))]
    assert near_of(Recipe(near_duplicates="ignore")) is None


def _split(prompts: list[str], *, seed: int, remove: bool, sides: Sides | None = None) -> Split:
    lines = "".join(json.dumps({"prompt": prompt, "completion": "はい、そのとおりです。"}) + "\n" for prompt in prompts)
    near = Near(lambda texts: groups_of(texts, threshold=0.7), remove=remove)
    return validate_and_split(read_rows(io.BytesIO(lines.encode())), SplitSpec(validation_fraction=0.5, seed=seed), sides=sides, near=near)


OTHERS = [f"{'甲乙丙丁戊己庚辛壬癸'[n % 10] * 6}の{'春夏秋冬'[n % 4] * 6}は{'東西南北'[n // 10] * 6}ですか" for n in range(40)]
ALIKE = [LONG, LONG.replace("、", "，"), LONG + "至急。"]


@pytest.mark.parametrize("seed", range(8))
def test_near_duplicates_are_removed_and_what_is_left_of_them_stays_out_of_validation(seed: int) -> None:
    split = _split([*OTHERS, *ALIKE], seed=seed, remove=True)
    assert [item.row.prompt for item in split.train if item.row.prompt in ALIKE] == ALIKE[:1]
    assert not [item for item in split.validation if item.row.prompt in ALIKE]
    assert (split.report.near_duplicates, split.report.near_removed, split.report.near_leaks) == (2, 2, 0)


def test_near_duplicates_that_are_only_reported_are_counted_where_they_leak() -> None:
    leaks = 0
    for seed in range(8):
        split = _split([*OTHERS, *ALIKE], seed=seed, remove=False)
        assert (split.report.near_duplicates, split.report.near_removed) == (2, 0)
        sides = [sum(item.row.prompt in ALIKE for item in part) for part in (split.train, split.validation)]
        assert sum(sides) == 3
        assert split.report.near_leaks == (sides[1] if sides[0] else 0)
        leaks += split.report.near_leaks or 0
    assert leaks > 0


def test_a_validation_row_of_the_version_before_outlives_what_is_nearly_equal_to_it() -> None:
    sides = Sides("v1", frozenset(), frozenset({normalise(ALIKE[1]), normalise(OTHERS[0])}))
    split = _split([*OTHERS, *ALIKE], seed=1, remove=True, sides=sides)
    assert {ALIKE[1], OTHERS[0]} <= {item.row.prompt for item in split.validation}
    assert not {ALIKE[0], ALIKE[2]} & {item.row.prompt for item in (*split.train, *split.validation)}
    assert (split.report.kept_validation_prompts, split.report.lost_validation_prompts) == (2, 0)


def test_the_report_tells_copies_and_rows_alike_that_were_taken_out_or_stay_in_validation_apart() -> None:
    sides = Sides("v1", frozenset(), frozenset(map(normalise, ALIKE[1:])))
    split = _split([*OTHERS, *ALIKE, OTHERS[3]], seed=1, remove=True, sides=sides)
    report = split.report
    copied, taken_out = len(OTHERS) + len(ALIKE) + 1, len(OTHERS) + 1
    assert (report.duplicate_rows, report.examples["duplicate_rows"]) == (1, [copied])
    assert (report.near_duplicates, report.near_removed, report.examples["near_removed"]) == (2, 1, [taken_out])
    assert (report.rows, report.train_rows + report.validation_rows) == (44, 42)
    digest = "sha256:" + "0" * 64
    version = DatasetVersionOut(
        id=UUID(int=1), tags={}, reference="support/faq:v2", number=2, digest=digest, source_digest=digest, train_digest=digest, validation_digest=digest,
        recipe=Recipe(near_duplicates="remove"), terms=DatasetTerms(), report=report, created_at=datetime(2026, 11, 24, tzinfo=UTC),
    )  # fmt: skip
    shown = io.StringIO()
    Console(file=shown, width=200).print(drawn(version))
    told = [" ".join(line.split()) for line in shown.getvalue().splitlines()]
    assert "rows 44 (43 unique pairs)" in told
    assert f"sealed 42 rows, {report.characters:,} characters" in told
    assert f"rows nearly equal to an earlier one 2 {taken_out + 1}, {taken_out + 2}" in told
    assert f"near duplicates taken out 1 {taken_out}" in told


def test_a_version_without_recipe_and_terms_has_the_digest_that_it_had_before_there_were_any() -> None:
    # As a release from before recipes put it into the jobs table, and what it sealed.
    old = {
        "schema_version": 1, "dataset_id": str(UUID(int=1)), "version_name": "support/faq", "source": "sha256:" + "a" * 64,
        "split": {"validation_fraction": 0.15, "seed": 0},
    }  # fmt: skip
    payload = ValidateDatasetPayload.model_validate(old)
    counts = ("rows", "unique_pairs", "empty_rows", "duplicate_rows", "duplicated_pairs", "conflicting_prompts", "leakage_prevented")
    report: dict[str, Any] = dict.fromkeys((*counts, "train_rows", "validation_rows", "characters"), 1) | {"categories": {}, "examples": {}}
    result = ValidateDatasetResult.model_validate(
        {
            "report": report, "train": FileRef(path="train.jsonl", size=1, digest="sha256:" + "b" * 64),
            "validation": FileRef(path="validation.jsonl", size=1, digest="sha256:" + "c" * 64),
        }
    )  # fmt: skip
    assert digest_of(payload, result) == "sha256:23d866fe44ed78388d07a179037fc3f1f65733178bc8d6b28c978e890bdcac08"
    others = [
        payload.model_copy(update={"recipe": Recipe(unicode="nfkc")}),
        payload.model_copy(update={"terms": Terms(licence="CC BY 4.0")}),
    ]
    assert len({digest_of(one, result) for one in (payload, *others)}) == 3
