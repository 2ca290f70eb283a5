"""`ringi retraining`: whether new rows start the retraining of the adapters that depend on them, and what came of it."""

from typing import Annotated

import typer

from ringi.cli.asked import AskedInOrder
from ringi.cli.environments import note_unserved
from ringi.cli.invocation import Commands, connect
from ringi.cli.options import IfMatch, Limit
from ringi.cli.output import emit, emit_list, facts, table
from ringi.cli.references import check_name
from ringi.retraining.schemas import SetRetrainingPolicy

app = Commands("Retraining: what new rows of a dataset start, by policy.")
Project = Annotated[str, typer.Argument(metavar="PROJECT", help="The project.")]


@app.verb(
    "policy",
    "ringi retraining policy risk",
    "ringi retraining policy risk --on --environment production",
    "ringi retraining policy risk --off",
)
def policy(
    project: Project,
    enabled: Annotated[
        bool | None,
        typer.Option("--on/--off", help="Train dependent adapters on new rows, up to a request for approval.", show_default=False),
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option(help="For which environment approval is asked; as before, or production, unless given.", show_default=False),
    ] = None,
    if_match: IfMatch = None,
) -> None:
    """Show whether new rows start retrainings, or set it."""
    name = check_name(project, what="project")
    with connect() as client:
        found = client.retraining.policy(name)
        if enabled is not None or environment is not None:
            wanted = SetRetrainingPolicy(
                enabled=found.enabled if enabled is None else enabled, environment=environment or found.environment
            )
            found = client.retraining.set_policy(name, wanted, if_match=if_match or str(found.row_version))
            if found.enabled:
                note_unserved(client, name, found.environment)
    pairs = [("project", found.project), ("new rows start retrainings", found.enabled), ("approval is asked for", found.environment)]
    emit(found, lambda: facts(pairs))


@app.verb(
    "list",
    "ringi retraining list risk",
    "ringi retraining list risk --filter state=refused --filter adapter=answers",
)
def list_retrainings(project: Project, asked: AskedInOrder, limit: Limit = 50) -> None:
    """List retrainings, newest first: how far each is, and what ended it."""
    columns = ["adapter", "dataset", "trained before on", "state", "version", "request", "refused because", "created"]
    with connect() as client:
        emit_list(
            client.retraining.all(check_name(project, what="project"), **asked), limit=limit,
            render=lambda found: table(columns, [
                (one.adapter, one.dataset, one.trained_before, one.state, one.version, one.request_id,
                 f"{one.problem.message} [{one.problem.code}]" if one.problem else None, one.created_at)
                for one in found
            ]),
        )  # fmt: skip
