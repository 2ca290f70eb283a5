"""Limits: quotas of projects and what is used of them, requests a minute of a token."""

from typing import Annotated

import typer
from pydantic import ValidationError
from rich.table import Table

from ringi.cli.errors import BadValue, Usage
from ringi.cli.invocation import Commands, connect
from ringi.cli.options import IfMatch
from ringi.cli.output import emit, facts, table
from ringi.quotas.schemas import CountUse, HoursUse, ProjectUsage, QuotasOut, SetQuotas, TokenUsage

app = Commands("Quotas: what a project may have and use.")
verbs = Commands()

Project = Annotated[str, typer.Argument(help="The project.")]
_NONE = "none"


def _limit(flag: str, what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(flag, metavar="N|none", help=f"{what}; 'none' is no limit.", show_default=False)
    return option


def _read(value: str) -> int | str | None:
    """A whole number, or what the model says of it."""
    return None if value == _NONE else int(value) if value.isdecimal() else value


@app.verb("show", "ringi quotas show risk")
def show(project: Project) -> None:
    """Show the limits of a project."""
    with connect() as client:
        found = client.limits.quotas(project)
    emit(found, lambda: _drawn(found))


@app.verb("set", "ringi quotas set risk --open-jobs 4 --gpu-hours-per-month 200", "ringi quotas set risk --stored-bytes none --if-match 3")
def set_quotas(
    project: Project,
    requests_per_minute: Annotated[str | None, _limit("--requests-per-minute", "Requests of everybody to the project in a minute")] = None,
    open_jobs: Annotated[str | None, _limit("--open-jobs", "Jobs that are queued or running")] = None,
    jobs_per_day: Annotated[str | None, _limit("--jobs-per-day", "Jobs started in a day of UTC")] = None,
    gpu_hours_per_month: Annotated[str | None, _limit("--gpu-hours-per-month", "Hours on GPU workers in a month of UTC")] = None,
    stored_bytes: Annotated[str | None, _limit("--stored-bytes", "Bytes of what is sealed")] = None,
    if_match: IfMatch = None,
) -> None:
    """Change some limits of a project and leave the others as they are; two changes at once do not undo each other."""
    given = {
        "requests_per_minute": requests_per_minute,
        "open_jobs": open_jobs,
        "jobs_per_day": jobs_per_day,
        "gpu_hours_per_month": gpu_hours_per_month,
        "stored_bytes": stored_bytes,
    }
    changed = {name: _read(value) for name, value in given.items() if value is not None}
    if not changed:
        raise Usage("No limit was given.", next_step="Pass at least one, e.g. --open-jobs 4.")
    with connect() as client:
        seen = client.limits.quotas(project)
        kept = seen.model_dump(include=set(SetQuotas.model_fields))
        try:
            limits = SetQuotas.model_validate(kept | changed)
        except ValidationError as error:
            raise BadValue({str(item["loc"][0]): item["msg"] for item in error.errors()}) from None
        found = client.limits.set_quotas(project, limits, if_match=if_match or str(seen.row_version))
    emit(found, lambda: _drawn(found))


@verbs.verb("usage", "ringi usage risk", "ringi usage --json")
def usage(project: Annotated[str | None, typer.Argument(help="The project; left out, this token.", show_default=False)] = None) -> None:
    """Show what a project uses of its limits, or what this token has used of its requests a minute."""
    with connect() as client:
        found = client.limits.usage(project) if project else client.limits.mine()
    emit(found, lambda: _used(found))


def _used(found: ProjectUsage | TokenUsage) -> Table:
    if isinstance(found, TokenUsage):
        pairs = [("token", found.token_id), ("requests a minute", found.requests_per_minute or "no limit"), ("left now", found.remaining)]
        return facts([*pairs, ("all again in", None if found.reset_s is None else f"{found.reset_s} s")])
    rows: list[tuple[str, CountUse | HoursUse]] = [
        ("open jobs", found.open_jobs),
        ("jobs today", found.jobs_per_day),
        ("GPU hours this month", found.gpu_hours_per_month),
        ("stored bytes", found.stored_bytes),
    ]
    asked = found.requests_per_minute
    used = None if asked.limit is None or asked.remaining is None else asked.limit - asked.remaining
    requests = ("requests this minute", used, "none" if asked.limit is None else asked.limit, asked.remaining)
    return table(
        ["of", "used", "limit", "left"],
        [requests, *((name, one.used, "none" if one.limit is None else one.limit, one.remaining) for name, one in rows)],
    )


def _drawn(found: QuotasOut) -> Table:
    limits = found.model_dump(include=set(SetQuotas.model_fields))
    pairs = [(name.replace("_", " "), "no limit" if value is None else value) for name, value in limits.items()]
    return facts([("project", found.project), *pairs, ("row version", found.row_version)])
