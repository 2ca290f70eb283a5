"""`ringi gate`: a verdict for people and for CI servers, from the platform's records or from files, with no server at all.

Exit codes: 0 GO, 1 NO-GO, 2 an error, 3 INCONCLUSIVE. Whatever goes wrong ends with 2: a failure must never look like a verdict.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import typer
import yaml
from typer.core import TyperGroup

from ringi.cli.asked import AskedInOrder
from ringi.cli.commands.gate_together import EXAMPLES, together
from ringi.cli.commands.gate_words import baseline_in, candidate_in, is_id, or_error, suite_in
from ringi.cli.errors import ApiError, Usage
from ringi.cli.invocation import Commands, connect, invocation
from ringi.cli.options import Limit
from ringi.cli.output import console, emit, emit_list, note, save_to, short, table
from ringi.cli.references import check_name
from ringi.gates.schemas import DecideGate, Format, GateOut, MissingMeasurement
from ringi.gating import reports
from ringi.gating.decision import decide as decided
from ringi.gating.forest import drawing, forest
from ringi.gating.painting import painted
from ringi.gating.schemas import Decision, Measured, Requirement
from ringi.measurements import lm_eval
from ringi.measurements.reading import parsed
from ringi.measurements.schemas import RequestSweep
from ringi.suites.reading import read_document


class _Deciding(TyperGroup):
    """What is no command of the group is a candidate: `ringi gate support/bot:v2 …` is `ringi gate decide support/bot:v2 …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Called with everything behind `ringi gate`."""
        known = {*self.commands, "--help", "-h"}
        if args and args[0] not in known:
            # `--together SWEEP` says what is judged: that many, and not one.
            many = any(one == "--together" or one.startswith("--together=") for one in args)
            args = (
                ["together", *(one.replace("--together", "--sweep", 1) if one.startswith("--together") else one for one in args)]
                if many
                else ["decide", *args]
            )
        return super().parse_args(ctx, args)


app = Commands("The gate: GO, NO-GO or INCONCLUSIVE, with a reason for each requirement.", group=_Deciding)
app.verb("together", *EXAMPLES)(together)
_ATTEMPTS = 3

Out = Annotated[Path | None, typer.Option(metavar="FILE", show_default=False, help="Write it there, too.")]


class _Judged(NamedTuple):
    decision: Decision
    candidate: str
    baseline: str
    gate: GateOut | None


@app.verb(
    "decide",
    "ringi gate decide support/bot:v2 --suite quality --against channel:production --sweep --junit gate.xml",
    "ringi gate decide --suite-file suite.yaml --candidate records.jsonl --baseline before.jsonl --markdown gate.md",
)
def decide(
    reference: Annotated[
        str | None, typer.Argument(metavar="[REF]", help="The candidate: a version, or the id of a measurement.", show_default=False)
    ] = None,
    suite: Annotated[
        str | None, typer.Option(metavar="NAME[:vN]", help="The suite; its latest version without a number.", show_default=False)
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="BASELINE", help="channel:NAME (what it serves now), base, a version, or a measurement's id.", show_default=False
        ),
    ] = None,
    on: Annotated[
        str | None, typer.Option("--on", metavar="BASE:rN", help="What the candidate was measured on.", show_default=False)
    ] = None,
    project: Annotated[str | None, typer.Option(help="Of a candidate that is named by an id.", show_default=False)] = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Measure what is missing first, and both where their runtimes differ.")] = False,
    suite_file: Annotated[Path | None, typer.Option(help="Without a server: a suite in YAML or JSON.", show_default=False)] = None,
    candidate: Annotated[Path | None, typer.Option(help="Without a server: the candidate's records.", show_default=False)] = None,
    baseline: Annotated[Path | None, typer.Option(help="Without a server: the baseline's records.", show_default=False)] = None,
    junit: Out = None,
    markdown: Out = None,
    svg: Out = None,
    png: Out = None,
) -> None:
    """Decide whether a candidate is no worse than a baseline. Ends with 0 GO, 1 NO-GO, 2 error, 3 INCONCLUSIVE."""

    def judge() -> _Judged:
        if suite_file is not None or candidate is not None or baseline is not None:
            return _from_files(suite_file, candidate, baseline, mixed=bool(reference or suite or against or sweep))
        if reference is None or suite is None or against is None:
            raise Usage("A candidate, --suite and --against are needed.", next_step="See: ringi gate decide --help.")
        return _asked(reference, suite=suite, against=against, on=on, project=project, sweep=sweep)

    found = or_error(judge)
    written = or_error(lambda: _write(found, junit=junit, markdown=markdown, svg=svg, png=png))
    text = reports.as_markdown(found.decision, candidate=found.candidate, baseline=found.baseline)
    if invocation.as_data:
        emit(found.gate if found.gate is not None else found.decision, lambda: text)
    else:
        console().print(text)
    for file in written:
        note(f"Written: {file}.")
    raise typer.Exit(reports.EXIT_CODES[found.decision.verdict])


def _asked(reference: str, *, suite: str, against: str, on: str | None, project: str | None, sweep: bool) -> _Judged:
    place, wanted = candidate_in(reference, project)
    name = suite_in(suite, place)
    body = DecideGate(candidate=wanted, baseline=baseline_in(against, place), suite=name, base_revision=on)
    with connect() as client:
        for attempt in range(_ATTEMPTS):
            try:
                gate = client.gates.decide(place, body)
            except ApiError as refusal:
                missing = _missing(refusal, body) if sweep and attempt < _ATTEMPTS - 1 else []
                if not missing:
                    raise
                _measure(client, place, name, missing)
            else:
                return _Judged(gate.document.decision, gate.candidate, gate.baseline, gate)
    raise AssertionError  # the last attempt ends above


def _missing(refusal: ApiError, body: DecideGate) -> list[MissingMeasurement]:
    """What can be measured first: an arm that was not, or both where their runtimes differ. An id says which measurement is meant, and no other is."""
    if refusal.code == "gate_measurement_missing":
        return [MissingMeasurement.model_validate(refusal.details)]
    if refusal.code != "gate_runtime_differs" or is_id(body.candidate) or is_id(body.baseline):
        return []
    return [MissingMeasurement.model_validate(one) for one in refusal.details["missing"]]


def _measure(client: Any, project: str, suite: str, missing: list[MissingMeasurement]) -> None:
    from ringi.cli.commands.sweep import swept  # noqa: PLC0415  # the offline gate does without a client

    # What has one base goes into one sweep, and so has one runtime; what this runtime has measured is taken over.
    for base in dict.fromkeys(one.base for one in missing):
        some = [one for one in missing if one.base == base]
        body = RequestSweep(
            suite=f"{suite.partition(':')[0]}:{some[0].suite.rpartition(':')[2]}", base_revision=base,
            versions=[one.version.partition("/")[2] for one in some if one.version], include_base=any(one.include_base for one in some),
        )  # fmt: skip
        for one in swept(client, project, body).measurements:
            if one.problem is not None:
                raise Usage(
                    f"{one.version or one.base} cannot be measured: {one.problem.message} [{one.problem.code}]", next_step="Mend it."
                )


def _from_files(suite: Path | None, candidate: Path | None, baseline: Path | None, *, mixed: bool) -> _Judged:
    if suite is None or candidate is None or baseline is None or mixed:
        raise Usage(
            "Without a server the gate needs --suite-file, --candidate and --baseline, and nothing else.",
            next_step="See: ringi gate decide --help.",
        )
    requirements = [Requirement.model_validate(one) for one in _document(suite).get("requirements") or []]
    if not requirements:
        raise Usage(f"'{suite}' has no requirements, so nothing could fail.", next_step="Add requirements to it.")
    return _Judged(decided(requirements, _arm(candidate), _arm(baseline)), candidate.name, baseline.name, None)


def _document(file: Path) -> dict[str, Any]:
    content = _bytes(file)
    if file.suffix == ".json":
        found = json.loads(content)
        return found if isinstance(found, dict) else {}
    return read_document(content)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Usage(f"'{file}' cannot be read: {error.strerror}.", next_step="Name a file.") from None


def _arm(file: Path) -> dict[str, list[Measured]]:
    arm: dict[str, list[Measured]] = {}
    for record in parsed(line for line in _bytes(file).split(b"\n") if line.strip()):
        one = Measured(item=record.item, asked=record.asked, slices=record.tags, source=record.source, scores=record.scores)
        arm.setdefault(record.task, []).append(one)
    if not arm:
        raise Usage(f"'{file}' holds no records.", next_step="Name a file of records (docs/evaluation.md).")
    return arm


def _write(found: _Judged, *, junit: Path | None, markdown: Path | None, svg: Path | None, png: Path | None) -> list[Path]:
    title = f"{found.candidate} against {found.baseline}"
    made: tuple[tuple[Path | None, Callable[[], bytes]], ...] = (
        (junit, lambda: reports.as_junit(found.decision, candidate=found.candidate).encode()),
        (markdown, lambda: reports.as_markdown(found.decision, candidate=found.candidate, baseline=found.baseline).encode()),
        (svg, lambda: forest(found.decision, title=title).encode()),
        (png, lambda: painted(drawing(found.decision, title=title))),
    )
    for file, written in made:
        if file is not None:
            content = written()
            try:
                file.write_bytes(content)
            except OSError as error:
                raise Usage(
                    f"The verdict is {found.decision.verdict}, and '{file}' cannot be written: {error.strerror}.",
                    next_step="Name a file in a folder that is there; a decision of the server is kept: see `ringi gate report`.",
                ) from None
    return [file for file, _ in made if file is not None]


@app.verb("list", "ringi gate list support", "ringi gate list support --filter verdict=NO-GO --filter adapter=bot")
def list_gates(
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="The project.")], asked: AskedInOrder, limit: Limit = 50
) -> None:
    """List decisions, newest first."""
    with connect() as client:
        emit_list(
            client.gates.all(check_name(project, what="project"), **asked), limit=limit,
            render=lambda found: table(["gate", "verdict", "candidate", "baseline", "asked", "suite", "digest", "decided"], [
                (one.id, one.verdict, one.candidate, one.baseline, one.asked, one.suite, short(one.digest), one.created_at) for one in found
            ]),
        )  # fmt: skip


@app.verb(
    "report",
    "ringi gate report support 0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e",
    "ringi gate report support 0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e --format svg",
)
def report(
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="The project.")],
    gate: Annotated[UUID, typer.Argument(help="The decision's id.")],
    written: Annotated[Format, typer.Option("--format", help="How it is written.")] = Format.MARKDOWN,
) -> None:
    """Print a decision's report again; the same bytes every time."""
    with connect() as client:
        found = client.gates.report(check_name(project, what="project"), gate, written)
    # As it came: a picture is no text.
    typer.echo(found, nl=False)


@app.verb(
    "import-lm-eval",
    "ringi gate import-lm-eval samples_mmlu_2026-11-01T09-30-00.jsonl --out records.jsonl",
    "ringi gate import-lm-eval samples_faq_2026-11-01T09-30-00.jsonl --out records.jsonl --slice language --suite-out suite.yaml",
)
def import_lm_eval(
    files: Annotated[list[Path], typer.Argument(help="What --log_samples of lm-evaluation-harness wrote, one file a task.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The records.")],
    slices: Annotated[
        list[str] | None, typer.Option("--slice", metavar="FIELD", help="A field of the documents that makes slices.", show_default=False)
    ] = None,
    suite_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the questions as a suite, to be gated and sealed.", show_default=False)
    ] = None,
) -> None:
    """Turn per-item results of lm-evaluation-harness into records that the gate reads."""
    tasks: dict[str, list[lm_eval.Sample]] = {}
    for file in files:
        name = lm_eval.task_of(file.name)
        if name in tasks:
            raise Usage(f"Two files hold task '{name}'.", next_step="Name the files of one run.")
        tasks[name] = lm_eval.samples(name, (line for line in _bytes(file).split(b"\n") if line.strip()), slices=slices or [])
    lines = [one.record.model_dump_json(exclude_defaults=True) for some in tasks.values() for one in some]
    save_to(out, "".join(f"{line}\n" for line in lines))
    if suite_out is not None:
        save_to(suite_out, yaml.safe_dump(lm_eval.suite_of(tasks, slices or []), allow_unicode=True, sort_keys=False))
    rows = [(name, len(some), sorted({metric for one in some for metric in one.record.scores})) for name, some in tasks.items()]
    documents = [dict(zip(("task", "items", "metrics"), row, strict=True)) for row in rows]
    emit(documents, lambda: table(["task", "items", "metrics"], rows))
