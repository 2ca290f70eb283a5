"""The table of docs/scorers.md from the catalogue: `python tests/evaluation/scorer_table.py` writes it."""

from pathlib import Path

from ringi.jobs.contracts.scorers import CATALOGUE, Measure

PAGE = Path(__file__).parents[2] / "docs" / "scorers.md"
BEGIN, END = "<!-- the catalogue: written by tests/evaluation/scorer_table.py -->", "<!-- end of the catalogue -->"


def _range(one: Measure) -> str:
    if one.binary:
        return "0 or 1"
    return f"{one.low:g} to {'any' if one.high is None else format(one.high, 'g')}"


def _row(one: Measure) -> str:
    told = ", ".join(f"`{field.alias or name}`" for name, field in one.parameters.model_fields.items()) or "—"
    better = "—" if one.better is None else one.better
    gate = "yes" if one.gateable else "no"
    return f"| `{one.name}` | {one.says} | {', '.join(sorted(one.answering))} | {_range(one)} | {better} | {gate} | {told} |"


def table() -> str:
    """Markdown, one row a scorer."""
    head = "| scorer | an answer is good when, or the score is | answers of | range | better | gate | parameters |\n|---|---|---|---|---|---|---|"
    return "\n".join([BEGIN, head, *(_row(one) for one in CATALOGUE.values()), END])


def page() -> str:
    """The whole page with the table in its place."""
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    return before + table() + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
