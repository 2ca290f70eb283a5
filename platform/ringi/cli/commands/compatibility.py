"""What newer revisions of a base mean for its adapters."""

from typing import Annotated

import typer
from rich.table import Table

from ringi.cli.asked import AskedInOrder
from ringi.cli.invocation import Commands, connect, in_project
from ringi.cli.options import Limit
from ringi.cli.output import emit_list, table
from ringi.cli.references import parse_base_revision, parse_version
from ringi.compatibility.rules import Finding
from ringi.compatibility.schemas import AssessmentOut

app = Commands("Compatibility of adapters with other revisions of their base.")

_NAMED = 3


@app.verb("show", "ringi compat show risk/answers:v1", "ringi compat show risk/answers --json")
def show(
    reference: Annotated[str, typer.Argument(metavar="REF", help="A version; the latest without a selector.", callback=in_project)],
    asked: AskedInOrder,
    limit: Limit = 50,
) -> None:
    """Show how a version was judged against the other revisions of its base."""
    wanted = parse_version(reference, default="latest")
    with connect() as client:
        emit_list(
            client.compatibility.of_version(wanted.project, wanted.name, wanted.selector or "latest", **asked), limit=limit, render=_drawn
        )


@app.verb("base", "ringi compat base smollm2:r2")
def base(
    reference: Annotated[str, typer.Argument(metavar="BASE:rN", help="The revision; the latest without a number.")],
    asked: AskedInOrder,
    limit: Limit = 50,
) -> None:
    """Show how every adapter in sight was judged against a revision of its base."""
    wanted = parse_base_revision(reference)
    with connect() as client:
        emit_list(client.compatibility.of_revision(wanted.name, wanted.selector or "latest", **asked), limit=limit, render=_drawn)


def _drawn(found: list[AssessmentOut]) -> Table:
    rows = [
        (one.version, one.trained_on, one.base, one.assessment.verdict, one.assessment.action, [_finding(finding) for finding in one.assessment.findings],
         one.assessment.remedy) for one in found
    ]  # fmt: skip
    return table(["version", "trained on", "judged on", "verdict", "action", "because", "remedy"], rows)


def _finding(finding: Finding) -> str:
    """A finding's code with the first few of what it affects, and the largest measured change."""
    values = [evidence.value for evidence in finding.evidence if evidence.value is not None]
    largest = f", largest {max(values):.3g}" if values else ""
    more = f" and {len(finding.affected) - _NAMED} more" if len(finding.affected) > _NAMED else ""
    named = f" ({', '.join(finding.affected[:_NAMED])}{more}{largest})" if finding.affected else ""
    return f"{finding.code}{named}"
