"""`ringi gate together`: many candidates at once, each with a decision of its own, and the worst as the exit code."""

from typing import Annotated
from uuid import UUID

import typer

from ringi.cli.commands.gate_words import baseline_in, candidate_in, or_error, suite_in
from ringi.cli.errors import USAGE, Usage
from ringi.cli.invocation import connect, invocation
from ringi.cli.output import emit, note, table
from ringi.cli.references import check_name
from ringi.gates.schemas import DecideTogether, TogetherOut
from ringi.gating import reports
from ringi.gating.schemas import Verdict
from ringi.gating.sweeps import SHARE

EXAMPLES = (
    "ringi gate together support/bot:v1 support/bot:v2 --suite quality --against base",
    "ringi gate together --project support --sweep 0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e --against channel:production",
)
# Nothing was asked to be judged of these; whatever else is left out was, and could not be.
_NOT_MEANT = frozenset({"bare_base", "is_baseline"})


def together(
    references: Annotated[
        list[str] | None, typer.Argument(metavar="[REF…]", help="Versions of one project, or ids of measurements.", show_default=False)
    ] = None,
    sweep: Annotated[
        UUID | None,
        typer.Option(metavar="JOB", help="All versions of this sweep; `ringi gate --together JOB` is the same.", show_default=False),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="BASELINE", help="channel:NAME (each adapter's own), base, a version, or a measurement's id.", show_default=False
        ),
    ] = None,
    suite: Annotated[str | None, typer.Option(metavar="NAME[:vN]", help="The suite; a sweep has its own.", show_default=False)] = None,
    on: Annotated[
        str | None, typer.Option("--on", metavar="BASE:rN", help="What the versions were measured on.", show_default=False)
    ] = None,
    project: Annotated[str | None, typer.Option(help="Of a sweep, and of candidates that are named by ids.", show_default=False)] = None,
    q: Annotated[float, typer.Option(min=0.000001, max=0.5, help="At most this share of those that are kept may be wrongly kept.")] = SHARE,
    dependent: Annotated[
        bool | None,
        typer.Option(
            "--dependent/--independent",
            help="Correct for any dependence (Benjamini and Yekutieli); of safety suites unless said.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Decide about many candidates at once. Ends with the worst: 1 NO-GO, 2 error, 3 INCONCLUSIVE, 0 where all are GO."""

    def judge() -> TogetherOut:
        if (
            against is None
            or (sweep is None) == (not references)
            or (references and suite is None)
            or (sweep is not None and suite is not None)
        ):
            raise Usage(
                "--against is needed, and either --sweep, or candidates with --suite.", next_step="See: ringi gate together --help."
            )
        place, body = _asked(references or [], sweep, against, suite, on, project, q, dependent)
        with connect() as client:
            return client.gates.together(place, body)

    found: TogetherOut = or_error(judge)
    emit(found, lambda: table(["gate", "verdict", "candidate", "baseline", "p", "among so many", "why"], [
        (one.id, one.verdict, one.candidate, one.baseline,
         one.document.decision.together and one.document.decision.together.p, one.document.decision.together and one.document.decision.together.adjusted,
         _why(one.document.decision.reasons, one.verdict))
        for one in found.gates
    ]))  # fmt: skip
    if not invocation.as_data:
        note(
            f"{found.adapters} adapters together, {found.tested} with a p-value; q {found.q:g}, {found.method}. Worst: {found.verdict.value}."
        )
        for left in found.left_out:
            note(f"Not judged: {left.name} [{left.code}].")
    raise typer.Exit(_code(found))


def _asked(
    references: list[str], sweep: UUID | None, against: str, suite: str | None, on: str | None, project: str | None, q: float, dependent: bool | None
) -> tuple[str, DecideTogether]:  # fmt: skip
    if sweep is not None:
        place = project or invocation.target().project
        if place is None:
            raise Usage("A sweep needs its project.", next_step="Add --project NAME.")
        place = check_name(place, what="project")
        return place, DecideTogether(sweep=sweep, baseline=baseline_in(against, place), q=q, dependent=dependent)
    found = [candidate_in(one, project) for one in references]
    places = {place for place, _ in found}
    if len(places) > 1:
        raise Usage("The candidates are of several projects.", next_step="Judge each project's by themselves.")
    place = places.pop()
    return place, DecideTogether(
        candidates=[wanted for _, wanted in found], suite=suite_in(str(suite), place), baseline=baseline_in(against, place), base_revision=on, q=q,
        dependent=dependent,
    )  # fmt: skip


def _why(reasons: object, verdict: Verdict) -> list[str]:
    found = [one for one in reasons if one.says is verdict] if isinstance(reasons, tuple) else []
    return [] if verdict is Verdict.GO else list(dict.fromkeys(f"{one.code} {one.slice}" if one.slice else one.code for one in found))[:3]


def _code(found: TogetherOut) -> int:
    """NO-GO is one whatever else is not known; what could not be judged is an error, and no verdict."""
    if found.verdict is not Verdict.NO_GO and any(one.code not in _NOT_MEANT for one in found.left_out):
        return USAGE
    return reports.EXIT_CODES[found.verdict]
