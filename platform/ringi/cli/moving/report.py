"""The plan and the report: one table, one JSON object, one exit code."""

from collections import Counter
from collections.abc import Sequence

from rich.console import RenderableType

from ringi.cli.errors import REFUSED, UNREACHABLE, Unreachable
from ringi.cli.moving.plan import Line, Outcome, Source, Step
from ringi.cli.output import table
from ringi.web.schemas import Schema

_NOT_DONE = frozenset({Outcome.REFUSED, Outcome.FAILED, Outcome.NOT_TRIED})


class Report(Schema):
    """What was found and what became of it."""

    system: str
    source: str
    project: str
    dry_run: bool
    counts: dict[Outcome, int]
    lines: list[Line]


def report_of(source: Source, project: str, steps: Sequence[Step], *, dry_run: bool) -> Report:
    """Every step as a line."""
    lines = [step.line for step in steps]
    counts = Counter(line.outcome for line in lines)
    return Report(
        system=source.system, source=source.address, project=project, dry_run=dry_run,
        counts={outcome: counts[outcome] for outcome in Outcome if counts[outcome]}, lines=lines,
    )  # fmt: skip


def drawn(report: Report) -> RenderableType:
    """As a person reads it."""
    rows = [
        (line.name, line.version, line.reference or line.adapter, line.base, line.aliases, line.outcome,
         f"[{line.code}] {line.reason}" if line.code else line.reason)
        for line in report.lines
    ]  # fmt: skip
    return table(["model", "version", "adapter", "base", "aliases", "outcome", "reason"], rows)


def summary(report: Report) -> list[str]:
    """What is said under the table."""
    said = [", ".join(f"{count} {outcome}" for outcome, count in report.counts.items()) or "There is nothing to import."]
    named = [f"{alias} = {line.reference}" for line in report.lines for alias in line.aliases if line.reference]
    if named:
        said.append(f"Aliases are recorded, not released; whoever wants them served asks for approval: {', '.join(named)}.")
    if report.dry_run:
        said.append("Nothing was changed.")
    return said


def exit_code(report: Report, away: Unreachable | None) -> int:
    """0 all is in or left where it is for a reason; 1 something was refused or failed; 3 a server could not be reached."""
    if away is not None:
        return UNREACHABLE
    return REFUSED if any(line.outcome in _NOT_DONE for line in report.lines) else 0
