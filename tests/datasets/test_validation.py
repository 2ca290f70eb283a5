"""Reading, refusing and splitting datasets, in memory."""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringi.datasets.contents import Pair
from ringi.datasets.reading import DatasetNoRows, DatasetNotUtf8, DatasetRowInvalid, Row, SourceRows, read_rows
from ringi.datasets.validation import DatasetNoUsableRows, DatasetSplitEmpty, Split, as_json_lines, normalise, validate_and_split
from ringi.jobs.contracts.datasets import SplitSpec

HALF = SplitSpec(validation_fraction=0.5, seed=7)


def _read(*rows: object) -> SourceRows:
    return read_rows(io.BytesIO("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()))


def _pairs(*pairs: tuple[str, str], category: str = "c") -> SourceRows:
    return _read(*({"prompt": prompt, "completion": completion, "category": category} for prompt, completion in pairs))


def _many(count: int) -> list[tuple[str, str]]:
    return [(f"question {number}", f"answer {number}") for number in range(count)]


def _bytes(split: Split) -> tuple[bytes, bytes]:
    return b"".join(as_json_lines(split.train)), b"".join(as_json_lines(split.validation))


def test_the_text_and_the_tags_of_a_row_are_kept_as_they_are() -> None:
    source = _read({"prompt": " AIとは？", "completion": "ｶﾅ ", "category": "日本語", "language": "ja"}, *[])
    assert source.rows == [Row(1, Pair(" AIとは？", "ｶﾅ "), {"category": "日本語", "language": "ja"})]


def test_shift_jis_is_refused_with_its_line_and_byte_and_named() -> None:
    good = b'{"prompt": "a", "completion": "b"}\n'
    with pytest.raises(DatasetNotUtf8) as refusal:
        read_rows(io.BytesIO(good + '{"prompt": "東京", "completion": "都"}\n'.encode("cp932")))
    assert refusal.value.code == "dataset_not_utf8"
    assert refusal.value.details["line"] == 2
    assert refusal.value.details["byte_offset"] == len(good) + len(b'{"prompt": "')
    assert "Shift_JIS" in refusal.value.message


def test_one_damaged_line_of_a_utf_8_file_is_not_called_another_encoding() -> None:
    good = '{"prompt": "東京", "completion": "都"}\n'.encode()
    with pytest.raises(DatasetNotUtf8, match="this one is damaged") as refusal:
        read_rows(io.BytesIO(good + '{"prompt": "大阪", "completion": "府"}\n'.encode("cp932")))
    assert (refusal.value.details["line"], refusal.value.next_step) == (2, "Write that line anew.")


def test_utf_16_is_refused_by_name() -> None:
    with pytest.raises(DatasetNotUtf8, match="UTF-16"):
        read_rows(io.BytesIO('{"prompt": "a", "completion": "b"}\n'.encode("utf-16")))


def test_a_byte_order_mark_is_accepted_and_reported() -> None:
    body = "".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in _many(20)).encode()
    plain = validate_and_split(read_rows(io.BytesIO(body)), HALF)
    marked = validate_and_split(read_rows(io.BytesIO(b"\xef\xbb\xbf" + body)), HALF)
    assert _bytes(plain) == _bytes(marked)
    assert marked.report.examples["byte_order_mark"] == [1]
    assert "byte_order_mark" not in plain.report.examples


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1]", "not a JSON object"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"prompt": "a"}', "'completion' is missing"),
        ('{"prompt": "a", "completion": 1}', "'completion' is not a string"),
        ('{"prompt": "a", "completion": "b", "category": null}', "'category' is not a string"),
        ('{"prompt": "a\\u0000", "completion": "b"}', "NUL"),
        ('{"prompt": "a", "completion": "\\ud83d"}', "surrogate"),
        ('{"prompt": "a", "prompt": "z", "completion": "b"}', "occurs twice"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused_with_its_line_and_reason(line: str, reason: str) -> None:
    with pytest.raises(DatasetRowInvalid) as refusal:
        read_rows(io.BytesIO(f'{{"prompt": "a", "completion": "b"}}\n\n{line}\n'.encode()))
    assert refusal.value.code == "dataset_row_invalid"
    assert refusal.value.details["count"] == 1
    assert refusal.value.details["reasons"][0]["line"] == 3
    assert reason in refusal.value.details["reasons"][0]["reason"]


def test_many_bad_rows_are_counted_and_the_first_few_named() -> None:
    with pytest.raises(DatasetRowInvalid) as refusal:
        read_rows(io.BytesIO(b"nonsense\n" * 30))
    assert refusal.value.details["count"] == 30
    assert [reason["line"] for reason in refusal.value.details["reasons"]] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_a_file_without_rows_is_refused(content: bytes) -> None:
    with pytest.raises(DatasetNoRows):
        read_rows(io.BytesIO(content))


def test_rows_that_are_all_blank_are_refused() -> None:
    with pytest.raises(DatasetNoUsableRows, match="All 3 rows"):
        validate_and_split(_pairs(("", "a"), ("b", " \u3000"), ("c", "\u200b")), HALF)


def test_blank_rows_are_dropped_and_counted() -> None:
    report = validate_and_split(_pairs(*_many(20), ("only a question", ""), (" ", "only an answer")), HALF).report
    assert (report.rows, report.empty_rows, report.unique_pairs) == (22, 2, 20)
    assert report.examples["empty_rows"] == [21, 22]


def test_one_copy_of_a_duplicated_pair_is_kept_and_never_reaches_validation() -> None:
    copies = [("How  are you?", "Fine."), ("how are ｙｏｕ?", "FINE.")]
    for seed in range(40):
        split = validate_and_split(_pairs(*copies, *_many(30)), SplitSpec(validation_fraction=0.5, seed=seed))
        assert [item.row.line for item in split.train if item.row.line <= 2] == [1]
        assert split.report.duplicate_rows == 1
        assert split.report.duplicated_pairs == 1


def test_a_category_of_duplicates_shows_in_the_report_and_stays_out_of_validation() -> None:
    repeated = [{"prompt": f"fault {n % 10}", "completion": f"fix {n % 10}", "category": "tech_support"} for n in range(1050)]
    others = [{"prompt": p, "completion": c, "category": "chat"} for p, c in _many(100)]
    report = validate_and_split(_read(*repeated, *others), HALF).report
    assert report.categories["tech_support"] == {"rows": 1050, "unique": 10, "train": 10, "validation": 0}
    assert report.categories["chat"]["train"] + report.categories["chat"]["validation"] == 100
    assert report.duplicate_rows == 1040


def test_different_answers_to_one_prompt_stay_on_one_side_and_are_counted() -> None:
    answers = [(f"question {n}", f"{word} {n}") for n in range(40) for word in ("yes", "no", "maybe")]
    split = validate_and_split(_pairs(*answers), HALF)
    sides = [{item.row.prompt for item in side} for side in (split.train, split.validation)]
    assert not sides[0] & sides[1]
    assert split.report.conflicting_prompts == 40
    assert split.report.leakage_prevented > 0


@pytest.mark.parametrize(("fraction", "side"), [(0.000001, "validation"), (0.999999, "training")])
def test_an_empty_side_is_refused_and_says_how_many_rows_are_needed(fraction: float, side: str) -> None:
    with pytest.raises(DatasetSplitEmpty) as refusal:
        validate_and_split(_pairs(*_many(5)), SplitSpec(validation_fraction=fraction, seed=1))
    assert refusal.value.details["side"] == side
    assert refusal.value.details["needed"] > 1_000_000


def test_the_sealed_lines_are_canonical_and_carry_a_stable_id() -> None:
    split = validate_and_split(_pairs(*_many(20)), HALF)
    train, validation = _bytes(split)
    documents = [json.loads(line) for line in (train + validation).splitlines()]
    assert len({document["id"] for document in documents}) == 20
    assert train.splitlines()[0].startswith(b'{"category":"c","completion":')
    rewritten = validate_and_split(_pairs(*((p.upper(), f" {c}") for p, c in _many(20))), HALF)
    assert [item.id for item in rewritten.validation] == [item.id for item in split.validation]


def test_an_id_of_the_source_is_kept_under_another_name() -> None:
    rows = [{"id": str(number), "prompt": p, "completion": c} for number, (p, c) in enumerate(_many(20))]
    split = validate_and_split(_read(*rows), HALF)
    documents = [json.loads(line) for line in b"".join(_bytes(split)).splitlines()]
    assert {document["source_id"] for document in documents} == {str(number) for number in range(20)}


_words = st.text(st.sampled_from("aAｂ B\u3000？東"), min_size=1, max_size=4)
_rows = st.lists(st.tuples(_words, _words), min_size=1, max_size=40)


@settings(max_examples=150, deadline=None)
@given(_rows, st.integers(0, 5))
def test_no_prompt_and_no_duplicate_ever_leaks_into_validation(pairs: list[tuple[str, str]], seed: int) -> None:
    source = _pairs(*pairs, *_many(60))
    split = validate_and_split(source, SplitSpec(validation_fraction=0.5, seed=seed))
    prompts = {normalise(item.row.prompt) for item in split.train}
    texts = [(normalise(row.prompt), normalise(row.completion)) for row in source.rows]
    for item in split.validation:
        assert normalise(item.row.prompt) not in prompts
        assert texts.count((normalise(item.row.prompt), normalise(item.row.completion))) == 1
    report = split.report
    assert report.rows == report.empty_rows + report.duplicate_rows + report.unique_pairs
    assert report.unique_pairs == report.train_rows + report.validation_rows


@settings(max_examples=100, deadline=None)
@given(st.integers(30, 120), st.integers(1, 120), st.randoms(use_true_random=False), st.integers(0, 9))
def test_an_item_keeps_its_side_when_the_dataset_grows(count: int, more: int, order: "object", seed: int) -> None:
    spec = SplitSpec(validation_fraction=0.4, seed=seed)
    before = validate_and_split(_pairs(*_many(count)), spec)
    grown = _many(count + more)
    order.shuffle(grown)  # type: ignore[attr-defined]
    after = validate_and_split(_pairs(*grown), spec)
    assert {item.id for item in before.train} <= {item.id for item in after.train}
    assert {item.id for item in before.validation} <= {item.id for item in after.validation}


def test_the_same_bytes_split_the_same_way_and_another_seed_splits_differently() -> None:
    source = _pairs(*_many(200))
    assert _bytes(validate_and_split(source, HALF)) == _bytes(validate_and_split(source, HALF))
    other = SplitSpec(validation_fraction=0.5, seed=8)
    assert _bytes(validate_and_split(source, HALF)) != _bytes(validate_and_split(source, other))


def test_the_validation_share_is_near_the_asked_fraction() -> None:
    report = validate_and_split(_pairs(*_many(4000)), SplitSpec(validation_fraction=0.2, seed=3)).report
    # Binomial: 800 expected, standard deviation 25; five of them.
    assert 674 <= report.validation_rows <= 926
