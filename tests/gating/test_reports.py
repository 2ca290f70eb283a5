"""A decision as other tools and people read it."""

from xml.etree import ElementTree as ET

import numpy as np

from ringi.gating.decision import decide
from ringi.gating.forest import forest
from ringi.gating.reports import as_json, as_junit, as_markdown
from ringi.gating.schemas import Decision, Measured, Requirement, Tier, Verdict

# A name that would break a table, a page and a document, were it taken as it is.
NASTY = '返金 | <b>"x"</b> & `rm`\x01'


def decision() -> Decision:
    draw = np.random.default_rng(1)
    slices = [{"意図": NASTY if number < 60 else "その他"} for number in range(600)]
    old = (draw.random(600) < 0.9).astype(float)
    new = old * ~((np.arange(600) < 60) & (draw.random(600) < 0.7))
    arms = [
        {"窓口": [Measured(item=f"{NASTY}{n}", slices=slices[n], scores={"accuracy": score}) for n, score in enumerate(scores.tolist())]}
        for scores in (new, old)
    ]
    wanted = [
        Requirement(task="窓口", metric="accuracy", margin=0.03, slices={"意図": Tier.SUPPORTING}),
        Requirement(task="安全", metric="refusal", safety=True),
    ]
    return decide(wanted, *arms)


def test_json_comes_back_as_the_decision() -> None:
    assert Decision.model_validate_json(as_json(decision())) == decision()


def test_junit_counts_failures_and_holds_any_name() -> None:
    root = ET.fromstring(as_junit(decision(), candidate=NASTY))
    suites = {suite.get("name"): suite for suite in root}
    assert suites["窓口"].get("failures") == str(len(suites["窓口"].findall("testcase/failure")))
    named = [case.get("name") or "" for case in suites["窓口"].findall("testcase") if case.find("failure") is not None]
    assert any("返金" in name for name in named)
    (missing,) = suites["安全"].findall("testcase/failure[@type='missing_in_candidate']")
    assert "安全" in (missing.get("message") or "")


def test_markdown_says_the_verdict_first_and_no_name_breaks_its_table() -> None:
    text = as_markdown(decision(), candidate="support/bot:v2", baseline="support/bot:v1")
    assert text.startswith("# NO-GO: support/bot:v2 against support/bot:v1")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    unescaped = [row.replace("\\\\", "").replace("\\|", "").count("|") for row in rows]
    assert len(set(unescaped)) == 1
    assert "<b>" not in text.replace("\\<b\\>", "")


def test_the_picture_shows_every_part_with_its_verdict() -> None:
    found = decision()
    root = ET.fromstring(forest(found, title=f"{NASTY} 対 v1"))
    texts = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    parts = [part for task in found.tasks for part in (task.whole, *task.slices) if part]
    assert sum(any(verdict.value in text for verdict in Verdict) for text in texts) == len(parts) + 1
    assert any("返金" in text for text in texts)
