"""Sessions of browsers: who is logged in, and ending that."""

from typing import Annotated
from uuid import UUID

import typer

from ringi.cli.asked import AskedInOrder
from ringi.cli.errors import ApiError, Usage
from ringi.cli.invocation import Commands, connect
from ringi.cli.options import Limit
from ringi.cli.output import emit, emit_list, table

app = Commands("Sessions of browsers: who is logged in.")
_COLUMNS = ["user", "began", "last seen", "ends", "ended", "id"]


@app.verb("list", "ringi sessions list", "ringi sessions list --filter user=kenji")
def list_sessions(asked: AskedInOrder, limit: Limit = 50) -> None:
    """List your sessions of browsers; an identity_admin sees the organisation's."""
    with connect() as client:
        emit_list(
            client.identity.sessions(**asked), limit=limit,
            render=lambda found: table(
                _COLUMNS, [(one.user, one.created_at, one.last_seen_at, one.ends_at, one.ended_at, one.id) for one in found]
            ),
        )  # fmt: skip


@app.verb("end", "ringi sessions end 0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e", "ringi sessions end --user kenji")
def end_session(
    session: Annotated[UUID | None, typer.Argument(help="The id that ringi sessions list shows.", show_default=False)] = None,
    user: Annotated[str | None, typer.Option(help="End all sessions of this user that are open.", show_default=False)] = None,
) -> None:
    """End a session of a browser now, or all of a user. Tokens and logins of terminals stay: see ringi users disable."""
    if (session is None) == (user is None):
        raise Usage("One session or one user is ended at a time.", next_step="Give the session's id, or --user NAME.")
    with connect() as client:
        found = [session] if session else [one.id for one in client.identity.sessions(filter=[f"user={user}"]) if one.ended_at is None]
        ended = []
        for one in found:
            try:
                ended.append(client.identity.end_session(one))
            except ApiError as error:
                # Of many, one may have ended meanwhile by itself, or by somebody else.
                if session is not None or error.status != 404:  # noqa: PLR2004  # no such open session
                    raise
    emit(ended, lambda: table(["user", "ended", "id"], [(one.user, one.ended_at, one.id) for one in ended]))
