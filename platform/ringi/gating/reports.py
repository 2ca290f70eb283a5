"""A decision for people and for other tools: JSON, Markdown, JUnit XML. Pure; the same decision gives the same bytes."""

import re
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree as ET  # only written here, never read

from ringi.gating.schemas import Compared, Decision, Reason, TaskDecision, Tier, Together, Verdict

# What `ringi gate` ends with; 2 is an error, as of every command.
EXIT_CODES = {Verdict.GO: 0, Verdict.NO_GO: 1, Verdict.INCONCLUSIVE: 3}
_FLIPS_SHOWN = 20
# Characters that XML 1.0 cannot hold, not even escaped (section 2.2).
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_json(decision: Decision) -> str:
    """Keys in the order of the model."""
    return decision.model_dump_json(indent=1) + "\n"


def as_markdown(decision: Decision, *, candidate: str, baseline: str) -> str:
    """For a pull request or a page: the verdict, why, the tables, the flips."""
    lines = [f"# {decision.verdict.value}: {_cell(candidate)} against {_cell(baseline)}", ""]
    for title, verdict in (("Blocking", Verdict.NO_GO), ("Not settled", Verdict.INCONCLUSIVE), ("In order", Verdict.GO)):
        found = [reason for reason in decision.reasons if reason.says is verdict]
        if found:
            lines += [f"## {title}", "", *_bullets(found), ""]
    for task in decision.tasks:
        lines += list(_task(task))
    if decision.together is not None:
        lines += [_together(decision.together), ""]
    lines += [
        f"Tests at {decision.level:.0%}, one-sided; harm after Holm over {decision.tests} tests, each family by itself. Intervals are of the difference, at 90 %.",
        "",
    ]
    return "\n".join(lines)


def _together(one: Together) -> str:
    p = "nothing had to be shown of it" if one.p is None or one.adjusted is None else f"p {one.p:.2g}, among so many {one.adjusted:.2g}"
    how = one.method.title()
    return f"Judged together with {one.adapters - 1} others ({one.tested} with a p-value): {p}; kept up to {one.q:.2g} ({how})."


def _bullets(found: Sequence[Reason]) -> Iterator[str]:
    for reason in found:
        items = f" Items: {', '.join(map(_cell, reason.items[:_FLIPS_SHOWN]))}." if reason.items else ""
        yield f"- `{reason.code}` {_cell(reason.text)}{items}"


def _task(task: TaskDecision) -> Iterator[str]:
    yield from (f"## Task {_cell(task.task)} ({_cell(task.metric)}, {task.tier.value}): {task.verdict.value}", "")
    rows = [part for part in (task.whole, *task.slices) if part is not None]
    if rows:
        yield "| slice | tier | items | before | now | difference | interval | margin | lost | won | verdict |"
        yield "|---|---|---:|---:|---:|---:|---|---:|---:|---:|---|"
        yield from map(_row, rows)
        yield ""
    if task.unscored or task.unscored_both:
        yield from (f"Without a score: {task.unscored} in the candidate alone, {task.unscored_both} otherwise.", "")
    for name, flips in (("Lost", task.negative_flips), ("Won", task.positive_flips)):
        if flips:
            more = f" and {len(flips) - _FLIPS_SHOWN} more" if len(flips) > _FLIPS_SHOWN else ""
            yield from (f"{name} ({len(flips)}): {', '.join(map(_cell, flips[:_FLIPS_SHOWN]))}{more}", "")


def _row(part: Compared) -> str:
    interval = "not measured" if part.low is None or part.high is None else f"{part.low:+.3f} to {part.high:+.3f}"
    cells = [
        _cell(part.slice or "all"), part.tier.value, str(part.n), _number(part.baseline), _number(part.candidate),
        "not measured" if part.difference is None else f"{part.difference:+.3f}", interval, f"{part.margin:.3f}", str(part.lost), str(part.won),
        part.verdict.value,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _cell(text: str) -> str:
    # Names come from a suite: none of them may end a cell, or be markup of its own.
    return re.sub(r"([\\`|<>*_\[\]])", r"\\\1", " ".join(text.split()))


def as_junit(decision: Decision, *, candidate: str) -> str:
    """JUnit XML as CI servers read it: a suite for each task, a case for each reason; NO-GO is a failure, INCONCLUSIVE an error."""
    root = ET.Element("testsuites", name=_text(f"ringi gate {candidate}"))
    for name in dict.fromkeys(reason.task for reason in decision.reasons):
        found = [reason for reason in decision.reasons if reason.task == name]
        suite = ET.SubElement(root, "testsuite", {"name": _text(name), "tests": str(len(found)), **_counts(found)})
        for reason in found:
            what = f"{reason.code} {reason.slice}" if reason.slice else reason.code
            case = ET.SubElement(suite, "testcase", classname=_text(name), name=_text(what))
            kind = {Verdict.NO_GO: "failure", Verdict.INCONCLUSIVE: "error"}.get(reason.says)
            if kind is not None:
                ET.SubElement(case, kind, message=_text(reason.text), type=reason.code).text = _text("\n".join(reason.items))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _counts(found: Sequence[Reason]) -> dict[str, str]:
    return {
        name: str(sum(reason.says is verdict for reason in found))
        for name, verdict in (("failures", Verdict.NO_GO), ("errors", Verdict.INCONCLUSIVE))
    }


def _text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)


def advisory_only(decision: Decision) -> bool:
    """Whether nothing in the decision could have blocked: such a GO says nothing."""
    return all(task.tier is Tier.ADVISORY for task in decision.tasks)
