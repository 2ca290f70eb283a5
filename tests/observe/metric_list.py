"""The list of metrics in docs/observability.md: `python tests/observe/metric_list.py` rewrites it from what the code declares."""

from pathlib import Path
from typing import NamedTuple

from ringi.api.gauges import FAMILIES
from ringi.observe.metrics import REGISTRY

KEPT = Path(__file__).parents[2] / "docs" / "observability.md"
COMMAND = ".venv/bin/python tests/observe/metric_list.py"
BEGIN, END = "<!-- metrics: made from the code by tests/observe/metric_list.py -->", "<!-- end of metrics -->"
_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


class Listed(NamedTuple):
    """One metric."""

    name: str
    kind: str
    labels: tuple[str, ...]
    about: str
    where: str

    @property
    def series(self) -> tuple[str, ...]:
        """The names that a query can use."""
        return tuple(self.name + suffix for suffix in _SUFFIXES[self.kind])


def listed() -> list[Listed]:
    """Every metric that a process of ours can show, by name."""
    own = [
        Listed(one.name, one.type, tuple(getattr(collector, "_labelnames", ())), one.documentation, "process")
        for collector in set(REGISTRY._names_to_collectors.values())
        for one in collector.collect()
    ]
    database = [Listed(one.name, "counter" if one.counter else "gauge", one.labels, one.about, "database") for one in FAMILIES]
    return sorted(own + database)


def table() -> str:
    """The list as a table."""
    rows = [
        f"| `{'` `'.join(one.series[:1])}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.where} | {one.about} |"
        for one in listed()
    ]
    return "\n".join([BEGIN, "| Metric | Kind | Labels | From | |", "|---|---|---|---|---|", *rows, END])


def rewritten(text: str) -> str:
    """The page with its list as it should be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + table() + after


if __name__ == "__main__":
    KEPT.write_text(rewritten(KEPT.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {KEPT.name}")
