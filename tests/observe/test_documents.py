"""The list of metrics is the code's, and the alerts ask for metrics and labels that exist, in PromQL that parses."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from observe.metric_list import COMMAND, KEPT, listed, rewritten

FILE = Path(__file__).parents[2] / "deploy" / "prometheus-alerts.yaml"
RULES: list[dict[str, Any]] = [rule for group in yaml.safe_load(FILE.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
each = pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
SERIES = {name: set(one.labels) for one in listed() for name in one.series}
# Prometheus itself makes it, and these labels stand on every series or bucket.
EVERYWHERE = {"job", "instance", "le"}


def selectors(expression: Any) -> Iterator[Any]:
    """Every place where a query names a metric."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    for child in ("expr", "lhs", "rhs", "args", "vector_selector", "vs", "param"):
        inner = getattr(expression, child, None)
        for one in inner if isinstance(inner, list) else [inner]:
            if one is not None and type(one).__module__.startswith("promql_parser"):
                yield from selectors(one)


def test_the_list_of_metrics_is_the_one_that_is_kept() -> None:
    text = KEPT.read_text(encoding="utf-8")
    assert rewritten(text) == text, f"The metrics changed. If that is meant, run: {COMMAND}"
    assert len(listed()) > 25


@each
def test_an_alert_asks_for_what_exists(rule: dict[str, Any]) -> None:
    found = list(selectors(promql_parser.parse(rule["expr"])))
    mentioned = set(re.findall(r"\bringi_\w+", rule["expr"]))
    assert {one.name for one in found} - {"up"} == mentioned
    assert mentioned <= set(SERIES), mentioned - set(SERIES)
    for one in found:
        if one.name != "up":
            assert {matcher.name for matcher in one.matchers.matchers} <= SERIES[one.name] | EVERYWHERE
    for label in re.findall(r"\$labels\.(\w+)", str(rule["annotations"])):
        assert label in EVERYWHERE | set().union(*(SERIES.get(one.name, set()) for one in found))


@each
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["action"]


def test_the_names_of_alerts_are_unique() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) >= 12
