"""The page of a pilot: one HTML file that asks nobody for anything. Pure; the same report gives the same bytes."""

import json
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined

from ringi.gating.forest import svg
from ringi.pilots import telling
from ringi.pilots.pictures import effort_picture, quality_picture
from ringi.pilots.schemas import Language, Report
from ringi.pilots.telling import Table
from ringi.pilots.wording import Writer

_TEMPLATE = Path(__file__).with_name("page.html")


class _Section(NamedTuple):
    title: str
    table: Table | None = None
    notes: tuple[str, ...] = ()
    picture: str = ""
    verbatim: str = ""


def page(report: Report, language: Language) -> str:
    """The report for people; every text in it is escaped, and its policy lets a browser fetch and run nothing."""
    words = writer(report, language)
    # Everything that is put in is escaped; the pictures have escaped their texts themselves.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False, keep_trailing_newline=True)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        language=language.value, title=words.say("title", name=report.name, dataset=report.dataset, base=report.base),
        opening=telling.opening(report, words), sections=_sections(report, words),
    )  # fmt: skip


def writer(report: Report, language: Language) -> Writer:
    """Who writes of this report in this language."""
    return Writer(language, shares=report.right_or_wrong)


def _sections(report: Report, words: Writer) -> list[_Section]:
    evidence = words.say(
        "evidence", dataset_digest=report.dataset_digest, suite=report.suite, suite_digest=report.suite_digest, task=report.task,
        at=f"{report.measured_at:%Y-%m-%d %H:%M} UTC" if report.measured_at is not None else words.say("unknown"),
    )  # fmt: skip
    plan = f"{words.say('alike')}: {json.dumps(report.plan, ensure_ascii=False)}"
    return [
        _Section(words.say("quality"), telling.quality(report, words), picture=svg(quality_picture(report, words))),
        _Section(words.say("effort"), telling.effort(report, words), picture=svg(effort_picture(report, words))),
        _Section(words.say("returns"), telling.returned(report, words)),
        _Section(words.say("entered"), telling.entered(report, words)),
        _Section(words.say("mind"), notes=tuple(telling.cautions(report, words))),
        _Section(words.say("how"), telling.making(report, words), notes=(evidence,), verbatim=plan),
    ]
