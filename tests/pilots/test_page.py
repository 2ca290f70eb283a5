"""The page: it fetches and runs nothing, escapes everything, hides neither noise nor what was not measured, in English and in Japanese."""

import html
import re
import string
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pilots.worlds import FIGURES, arm, failed, report, usual
from ringi.gating.painting import painted
from ringi.pilots.page import page, writer
from ringi.pilots.pictures import effort_picture, quality_picture
from ringi.pilots.schemas import BASE, Figures, Language, Report
from ringi.pilots.wording import TEXTS

HOSTILE = '<script>alert("x")</script><img src=http://example.org/a.png>'
LANGUAGES = pytest.mark.parametrize("language", Language)


class Read(HTMLParser):
    """Every element, every attribute, and the text outside the style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def text_of(found: Report, language: Language = Language.ENGLISH) -> str:
    body = re.sub(r"(?s)<(svg|style|title).*?</\1>", "", page(found, language))
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


@LANGUAGES
def test_the_page_asks_nobody_for_anything(language: Language) -> None:
    text = page(usual(), language)
    read = Read(text)
    assert read.elements.isdisjoint({"script", "link", "iframe", "img", "object", "embed", "form", "base"})
    names = {name for name, _ in read.attributes}
    assert names.isdisjoint({"src", "href", "srcset", "action", "onload", "onclick"})
    addresses = [value for _, value in read.attributes if value and "://" in value]
    assert set(addresses) == {"http://www.w3.org/2000/svg"}, "a namespace is no address"
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert read.elements >= {"svg", "table", "h1"}
    assert f'<html lang="{language.value}">' in text


@LANGUAGES
def test_hostile_names_stay_text(language: Language) -> None:
    found = report(
        arm(BASE, range(60)), arm("lora", range(150)), failed("dora", HOSTILE, HOSTILE), name=HOSTILE, dataset=HOSTILE, base=HOSTILE, suite=HOSTILE,
        metric="accuracy", plan={"target_modules": [HOSTILE]},
    )  # fmt: skip
    text = page(found, language)
    assert HOSTILE not in text
    assert Read(text).elements.isdisjoint({"script", "img"})
    assert HOSTILE in text_of(found, language)


@LANGUAGES
def test_the_same_report_gives_the_same_bytes_and_pictures_as_png(language: Language) -> None:
    assert page(usual(), language) == page(usual(), language)
    words = writer(usual(), language)
    for drawing in (quality_picture(usual(), words), effort_picture(usual(), words)):
        assert painted(drawing).startswith(b"\x89PNG")


def test_the_page_begins_with_what_was_compared_what_is_recommended_and_what_it_costs_and_returns() -> None:
    text = text_of(usual())
    compared = "Compared are tiny:r1 as it is and 3 ways of adapting it (LoRA, DoRA, full fine-tuning), on 200 rows of desk/faq:v1 that none of them learnt from."
    assert compared in text
    assert "Recommended is LoRA: 75.0 % (69.7 % to 79.7 %), the base 30.0 % (25.0 % to 35.6 %)" in text
    assert "among LoRA, DoRA no difference to the best is shown at 200 rows, and it was trained in the least time" in text
    assert "Its training took 100 s (cost not measured), 1.0 KiB are shipped; over 10 months it returns 975,000 JPY" in text
    assert text.index("Compared") < text.index("Recommended") < text.index("Its training") < text.index("Quality")


def test_the_japanese_page_says_the_same_in_japanese() -> None:
    text = text_of(usual(), Language.JAPANESE)
    assert "推奨は LoRA：75.0 %（69.7 %～79.7 %）、ベースは 30.0 %" in text
    assert "200 件では LoRA、DoRA の間で最良との差は示されず、その中で学習時間が最も短い" in text
    assert "10 か月の正味の効果は 975,000 JPY" in text
    assert "失敗：A single row does not fit.［training_out_of_memory］" in text
    assert "未測定" in text


def test_noise_failures_and_what_was_not_measured_are_told() -> None:
    text = text_of(usual())
    assert "no difference shown at this number of rows" in text
    assert "failed: A single row does not fit. [training_out_of_memory]" in text
    assert "3.0 GiB, forecast" in text
    assert "which the platform releases to nobody" in text
    assert "training not counted: not measured" in text
    none = text_of(report(arm(BASE, range(100)), arm("lora", range(1, 102))))
    assert "Nothing is recommended: no arm is shown to be better than the base at this number of rows (a difference below about" in none


@pytest.mark.parametrize(
    ("language", "told", "table", "not_given"),
    [
        (Language.ENGLISH, "no arm is recommended, and the table below gives the return of each by the figures entered.", "Return on investment",
         "the return is not computed: hourly wage not given."),
        (Language.JAPANESE, "推奨する方法はなく、入力値による各方法の効果額を下の表に示す。", "投資対効果", "効果額は計算していない：時給 が未入力。"),
    ],
)  # fmt: skip
def test_where_nothing_is_recommended_the_opening_leads_to_the_returns_of_the_table(
    language: Language, told: str, table: str, not_given: str
) -> None:
    arms = (arm(BASE, range(100)), arm("lora", range(1, 102)))
    text = text_of(report(*arms), language)
    opening, _, returns = text.partition(table)
    assert told in opening
    # 10,000 requests: of half of them or one in two hundred more 200 yen are saved, of the others 50 lost; 400,000 are spent.
    assert "350,000 JPY" in returns
    wanting = text_of(report(*arms, figures=FIGURES.model_copy(update={"hourly_wage": None})), language)
    assert not_given in wanting.partition(table)[0]
    assert told not in wanting


@pytest.mark.parametrize(
    ("language", "obstacle", "wanting"),
    [
        (Language.ENGLISH, "not computed: the metric nll is no share of right answers", "not computed: hourly wage"),
        (Language.JAPANESE, "計算していない：指標 nll は正答率ではない", "計算していない：時給"),
    ],
)
def test_of_two_reasons_why_no_return_is_computed_the_one_that_no_figure_mends_is_told(
    language: Language, obstacle: str, wanting: str
) -> None:
    some = FIGURES.model_copy(update={"hourly_wage": None})
    graded = text_of(usual(some, metric="nll", right_or_wrong=False), language)
    assert obstacle in graded
    assert wanting not in graded
    # Of the arm that failed that it failed, of the others which figure is wanted.
    mixed = text_of(usual(some), language)
    assert mixed.count(wanting) == 4
    assert obstacle not in mixed


def test_a_return_that_is_not_computed_says_which_figure_was_not_given() -> None:
    some = Figures.model_validate(FIGURES.model_dump() | {"hourly_wage": None, "months": None})
    text = text_of(usual(some))
    assert "the return is not computed: hourly wage, months not given" in text
    assert "hourly wage not given" in text
    assert "JPY" in text
    graded = text_of(usual(right_or_wrong=False))
    assert "the metric accuracy is no share of right answers" in graded
    assert "0.750 (0.697 to 0.797)" in graded


def test_an_arm_that_is_best_and_still_returns_less_than_it_costs_is_told_as_such() -> None:
    dear = FIGURES.model_copy(update={"running_cost": 1_000_000.0})
    assert "LoRA returns less than it costs, over the whole interval" in text_of(usual(dear))
    assert "returns less than it costs" not in text_of(usual())


def test_where_nothing_is_spent_there_is_no_ratio_and_that_is_no_gap_in_what_was_measured() -> None:
    free = FIGURES.model_copy(update={"running_cost": 0.0, "one_off_cost": 0.0})
    assert "nothing spent" in text_of(usual(free))
    assert "支出なし" in text_of(usual(free), Language.JAPANESE)
    assert "nothing spent" not in text_of(usual())


def test_a_suite_of_the_users_own_is_not_called_unseen() -> None:
    text = text_of(usual(on_validation=False))
    assert "on 200 items of desk/pilot-faq-v1:v1" in text
    assert "learnt from" not in text


@pytest.mark.parametrize("key", TEXTS)
def test_both_languages_of_a_text_fill_in_the_same(key: str) -> None:
    english, japanese = ({name for _, name, _, _ in string.Formatter().parse(text) if name} for text in TEXTS[key])
    assert english == japanese


def test_the_document_comes_back_as_it_was_and_its_fields_are_documented() -> None:
    found = usual()
    assert Report.model_validate_json(found.model_dump_json()) == found
    schema = Report.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    fields = {name for model in models for name in model.get("properties", {})} - {"plan"}
    page_of_docs = (Path(__file__).parents[2] / "docs" / "pilot.md").read_text(encoding="utf-8")
    assert [name for name in sorted(fields) if not re.search(rf"\b{name}\b", page_of_docs)] == []
    words = {word for model in models for word in model.get("enum", [])}
    assert [word for word in sorted(words) if not re.search(rf"\b{word}\b", page_of_docs)] == []
