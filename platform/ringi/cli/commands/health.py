"""How the server stands."""

import typer

from ringi.cli.client import RingiClient
from ringi.cli.invocation import Commands, invocation
from ringi.cli.output import emit, table

verbs = Commands("The server.")


@verbs.verb("health", "ringi health", "ringi health --json")
def health() -> None:
    """Show what the server depends on and how each part stands; exit code 1 when requests would fail."""
    # Without a token, too: it is what one asks when nothing else answers.
    target = invocation.target()
    with RingiClient(target.server, target.token) as client:
        found = client.health.ready()
    rows = [(name, one.state, "yes" if one.needed else "no", one.detail or None) for name, one in found.dependencies.items()]
    emit(found, lambda: table([f"server: {found.status}", "state", "needed", "detail"], rows))
    if found.status == "unavailable":
        raise typer.Exit(1)
