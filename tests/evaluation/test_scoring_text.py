"""Scores of generated text: matches, patterns, numbers, JSON, overlap. Each in English and Japanese."""

import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringi.jobs.contracts.scorers import ScoreProblem, ScorerMisused
from ringi.jobs.contracts.suites import Answer, Item, ScorerSpec
from ringi.kit.digests import sha256_bytes
from ringi_workers.evaluation.grading.numbers import numbers
from ringi_workers.evaluation.grading.overlap import tokens
from ringi_workers.evaluation.grading.parts import Scorer, Unscored
from ringi_workers.evaluation.grading.registry import Access, Grading

ASKED = sha256_bytes(b"asked")


def scorer(name: str, **told: Any) -> Scorer:
    found = Grading(Access()).scorer(ScorerSpec(name=name, parameters=told))
    assert found is not None
    return found


def score(name: str, output: str | None, *references: str, **told: Any) -> float | None:
    item = Item(id="q", prompt="?", references=references)
    return scorer(name, **told)(item, Answer(item="q", asked=ASKED, output=output))


@pytest.mark.parametrize(
    ("name", "output", "references", "told", "wanted"),
    [
        ("exact_match", " Paris\n", ("Paris",), {}, 1),
        ("exact_match", "paris", ("Paris",), {}, 0),
        ("exact_match", "ﾗｼﾞｵ", ("ラジオ",), {}, 0),
        ("exact_match", "b", ("a", "b"), {}, 1),
        ("normalised_match", "「東京」です！", ("東京です",), {}, 1),
        ("normalised_match", "ﾗｼﾞｵ", ("テレビ", "ラジオ"), {}, 1),
        ("normalised_match", "C", ("C#",), {}, 0),
        ("contains", "答えは東京（とうきょう）です。", ("東京",), {}, 1),
        ("contains", "It is PARIS, of course.", ("paris",), {}, 1),
        ("contains", "It is PARIS, of course.", ("paris",), {"normalised": False}, 0),
        ("contains", "一と二", (), {"texts": ["一", "三"], "every": True}, 0),
        ("contains", "一と二", (), {"texts": ["一", "三"]}, 1),
        ("contains", "社外秘です", (), {"texts": ["社外秘"], "absent": True}, 0),
        ("contains", "公開", (), {"texts": ["社外秘", "極秘"], "absent": True, "every": True}, 1),
        ("contains", "極秘", (), {"texts": ["社外秘", "極秘"], "absent": True, "every": True}, 0),
        ("regex", "注文番号はAB-1234です", (), {"pattern": r"[A-Z]{2}-\d{4}"}, 1),
        ("regex", "漢字", (), {"pattern": r"\p{Han}+", "whole": True}, 1),
        ("regex", "漢字です", (), {"pattern": r"\p{Han}+", "whole": True}, 0),
        ("regex", "ERROR", (), {"pattern": "error", "ignore_case": True, "absent": True}, 0),
        ("one_of", "「はい」。", (), {"texts": ["はい", "いいえ"]}, 1),
        ("one_of", "たぶん", (), {"texts": ["はい", "いいえ"]}, 0),
        ("one_of", "", (), {"texts": ["はい", "。"]}, 0),
        ("length", "ｶﾞ ", (), {}, 1),
        ("length", "It is 東京", (), {"unit": "words"}, 4),
        ("length_within", "短い", (), {"maximum": 2}, 1),
        ("length_within", "長すぎる", (), {"maximum": 2}, 0),
        ("length_within", "", (), {"minimum": 1}, 0),
    ],
)  # fmt: skip
def test_an_answer_matches_or_does_not(name: str, output: str, references: tuple[str, ...], told: dict[str, Any], wanted: float) -> None:
    assert score(name, output, *references, **told) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("答えは３万５千円です。", ["35000"]), ("二〇二六年", ["2026"]), ("二千二十六", ["2026"]), ("1億2,000万人", ["120000000"]), ("三・五倍", ["3.5"]),
        ("一二〇万", ["1200000"]), ("百", ["100"]), ("５−３", ["5", "3"]), ("－３", ["-3"]), ("▲120", ["-120"]), ("1,234.5 kg", ["1234.5"]), ("約50%", ["50"]),
        ("1e5", ["100000"]), ("- 5 apples", ["5"]), ("version 1.5.2", []), ("千千", []), ("万", []), ("壱万弐千", ["12000"]), ("", []),
    ],
)  # fmt: skip
def test_numbers_are_read_in_figures_of_any_width_and_in_kanji(text: str, wanted: list[str]) -> None:
    assert numbers(text) == [Decimal(one) for one in wanted]


@pytest.mark.parametrize(
    ("output", "reference", "told", "wanted"),
    [
        ("12 + 30 = 42", "42", {}, 1),
        ("12 + 30 = 42", "42", {"pick": "first"}, 0),
        ("12 + 30 = 42", "42", {"pick": "only"}, 0),
        ("四十二、つまり42です", "４２", {"pick": "only"}, 1),
        ("途中は7、答え：四十二。残りは5", "42", {"marker": "答え："}, 1),
        ("途中は7、四十二", "42", {"marker": "答え："}, 0),
        ("約100.4", "100", {"absolute": 0.5}, 1),
        ("104", "100", {"relative": 0.05}, 1),
        ("106", "100", {"relative": 0.05}, 0),
        ("-42", "42", {}, 0),
        ("分かりません", "42", {}, 0),
        ("0.1", "0.10", {}, 1),
    ],
)
def test_the_number_of_an_answer_is_that_of_the_reference_or_not(output: str, reference: str, told: dict[str, Any], wanted: float) -> None:
    assert score("numeric", output, reference, **told) == wanted


_POWERS = (("京", 10**16), ("兆", 10**12), ("億", 10**8), ("万", 10**4), ("", 1))


def kanji(value: int) -> str:
    """As a cheque is written: 一 stands before 十, 百 and 千 too."""
    written = ""
    for name, power in _POWERS:
        group = value // power % 10**4 if power < 10**16 else value // power
        digits = "".join(
            "〇一二三四五六七八九"[digit] + unit for unit, digit in zip("千百十", map(int, f"{group:04}"), strict=False) if digit
        )
        last = "〇一二三四五六七八九"[group % 10] if group % 10 else ""
        written += f"{digits}{last}{name}" if group else ""
    return written or "〇"


@given(st.integers(0, 10**20 - 1))
@settings(max_examples=200, deadline=None)
def test_every_number_that_is_written_in_kanji_is_read_back(value: int) -> None:
    assert numbers(f"合計は{kanji(value)}円") == [Decimal(value)]


@given(st.text(alphabet="0123456789.,一二十百千万億eE-・〇 円", max_size=80))
@settings(max_examples=200, deadline=None)
def test_no_text_makes_the_reader_of_numbers_fail(text: str) -> None:
    assert all(value.is_finite() for value in numbers(text))


@pytest.mark.parametrize(
    ("output", "told", "wanted"),
    [
        ('{"名前": "花子"}', {}, 1),
        ('Here:\n```json\n{"a": 1}\n```', {}, 1),
        ('Here:\n```json\n{"a": 1}\n```', {"fenced": False}, 0),
        ("[1]", {"kind": "object"}, 0),
        ("{'a': 1}", {}, 0),
        ("NaN", {}, 0),
        ("null", {}, 1),
        ("", {}, 0),
        ("[" * 100_000, {}, 0),
    ],
)
def test_an_answer_is_json_or_not(output: str, told: dict[str, Any], wanted: float) -> None:
    assert score("json_valid", output, **told) == wanted


NESTED = {
    "$defs": {"person": {"type": "object", "properties": {"名前": {"type": "string", "pattern": "^(a+)+$|^\\p{Han}+$"}}, "required": ["名前"]}},
    "type": "object", "properties": {"社員": {"type": "array", "items": {"$ref": "#/$defs/person"}, "minItems": 1}}, "required": ["社員"],
}  # fmt: skip


def test_json_is_held_against_a_nested_schema_with_references_inside_it() -> None:
    assert score("json_schema", '{"社員": [{"名前": "花子"}]}', schema=NESTED) == 1
    assert score("json_schema", '{"社員": [{"名前": 5}]}', schema=NESTED) == 0
    assert score("json_schema", '{"社員": []}', schema=NESTED) == 0
    assert score("json_schema", "社員はいません", schema=NESTED) == 0


@pytest.mark.parametrize(
    ("name", "told", "says"),
    [
        ("json_schema", {"schema": {"$ref": "http://127.0.0.1:9/x.json"}}, "nothing is fetched"),
        ("json_schema", {"schema": {"$ref": "file:///etc/passwd"}}, "nothing is fetched"),
        ("json_schema", {"schema": {"type": "nonsense"}}, "json_schema"),
        ("json_schema", {"schema": {"pattern": "(?=a)b"}}, "regex"),
        ("regex", {"pattern": "(?=a)b"}, "RE2"),
        ("regex", {"pattern": "(((a{900}){900}){900})"}, "RE2"),
        ("regex", {"pattern": "(閉じない"}, "RE2"),
    ],
)
def test_a_pattern_or_schema_that_is_wrong_or_would_fetch_is_refused_before_any_answer(name: str, told: dict[str, Any], says: str) -> None:
    with pytest.raises(ScorerMisused, match=says) as refused:
        scorer(name, **told)
    assert refused.value.code == "suite_scorer_parameters"


def test_a_pattern_that_backtracks_for_ever_elsewhere_takes_no_time_here() -> None:
    begun = time.monotonic()
    assert score("regex", "a" * 50_000 + "!", pattern="^(a+)+$") == 0
    schema = {"type": "string", "pattern": "^(a+)+$"}
    assert score("json_schema", f'"{"a" * 50_000}!"', schema=schema) == 0
    assert score("numeric", "千" * 50_000, "1") == 0
    # With a backtracking engine the first alone would outlive the machine.
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    ("name", "output", "references", "wanted"),
    [
        ("token_f1", "The capital is Paris", ("capital is paris",), 1),
        ("token_f1", "Paris", ("London", "Paris France"), 2 / 3),
        ("token_f1", "東京都", ("東京",), 0.8),
        ("token_f1", "大阪", ("東京",), 0),
        ("token_f1", "", ("東京",), 0),
        ("rouge_l", "the cat sat on the mat", ("the cat lay on the mat",), 5 / 6),
        ("rouge_l", "京東", ("東京",), 0.5),
        ("chrf", "東京です", ("東京です",), 1),
        ("chrf", "大阪", ("東京",), 0),
        ("bleu", "日本の首都は東京です。", ("日本の首都は東京です。",), 1),
        ("bleu", "the cat sat on the mat", ("the cat sat on the mat",), 1),
        ("bleu", "", ("東京",), 0),
    ],
)
def test_overlap_with_a_reference_is_between_0_and_1(name: str, output: str, references: tuple[str, ...], wanted: float) -> None:
    assert score(name, output, *references) == pytest.approx(wanted)


def test_bleu_counts_characters_of_japanese_by_itself() -> None:
    by_itself = score("bleu", "日本の首都は大阪です", "日本の首都は東京です")
    assert by_itself == score("bleu", "日本の首都は大阪です", "日本の首都は東京です", tokenize="char")
    assert by_itself != score("bleu", "日本の首都は大阪です", "日本の首都は東京です", tokenize="13a")


def test_a_token_is_a_word_a_number_or_a_japanese_character() -> None:
    assert tokens("Ringiは稟議です。It’s 1,234.5 ｋｇ!") == ["ringi", "は", "稟", "議", "で", "す", "it’s", "1,234.5", "kg"]
    assert tokens("ラジオ 々〆 サーバー") == ["ラ", "ジ", "オ", "々", "〆", "サ", "ー", "バ", "ー"]


@pytest.mark.parametrize(
    ("name", "output", "references", "problem"),
    [
        ("exact_match", None, ("a",), ScoreProblem.NO_OUTPUT),
        ("exact_match", "a", (), ScoreProblem.NO_REFERENCE),
        ("chrf", "a", (), ScoreProblem.NO_REFERENCE),
        ("contains", "a", (), ScoreProblem.NO_REFERENCE),
        ("contains", "a", ("。",), ScoreProblem.REFERENCE_UNREADABLE),
        ("normalised_match", "a", ("。",), ScoreProblem.REFERENCE_UNREADABLE),
        ("numeric", "42", ("四十二番地の人々ではない何か…ゼロなし".replace("四十二", ""),), ScoreProblem.REFERENCE_UNREADABLE),
        ("token_f1", "a", ("the",), ScoreProblem.REFERENCE_UNREADABLE),
        ("rouge_l", "a", ("！？",), ScoreProblem.REFERENCE_UNREADABLE),
    ],
)
def test_what_cannot_be_scored_says_why_and_gets_no_number(
    name: str, output: str | None, references: tuple[str, ...], problem: ScoreProblem
) -> None:
    with pytest.raises(Unscored) as unscored:
        score(name, output, *references)
    assert unscored.value.code is problem


def test_of_several_repeats_the_mean_counts() -> None:
    answer = Answer(item="q", asked=ASKED, output="東京", outputs=("東京", "大阪", "東京", "東京"))
    assert scorer("normalised_match")(Item(id="q", prompt="?", references=("東京",)), answer) == 0.75
