"""Channels, releases, rollbacks, and where a version stands."""

import time
from typing import Annotated

import typer
from rich.table import Table

from ringi.cli.asked import Asked
from ringi.cli.client import RingiClient
from ringi.cli.invocation import Commands, connect
from ringi.cli.options import AdapterName, AsOf, Description, IfMatch, Limit, Reason, Version
from ringi.cli.output import emit, emit_list, facts, short, table
from ringi.cli.references import Reference, check_name, parse_adapter, parse_version
from ringi.releases.schemas import ChannelOut, ReleaseOut, StandingOut

channels = Commands("Channels: what is served, in one environment each.")
history = Commands("The history of releases.")
verbs = Commands()

Channel = Annotated[str, typer.Option("--channel", help="The channel.")]
# The log's sequencer signs a fresh grant within a second or two; a release asked for at once waits for it.
_LOGGED, _LOG_PATIENCE_S, _LOG_PAUSE_S = "release_gate_logged", 15.0, 0.3


@channels.verb(
    "create", "ringi channels create risk production --environment production", "ringi channels create risk canary --environment production"
)
def create(
    project: str,
    name: str,
    environment: Annotated[str, typer.Option(help="The environment that it serves.")] = "production",
    description: Description = "",
) -> None:
    """Create a channel that serves nothing yet."""
    with connect() as client:
        made = client.releases.create_channel(project, check_name(name, what="channel"), environment=environment, description=description)
    emit(made, lambda: _channel(made))


@channels.verb("list", "ringi channels list risk")
def list_channels(project: str, asked: Asked, limit: Limit = 50) -> None:
    """List the channels of a project and what they serve."""
    columns = ["channel", "environment", "serves", "base", "base status"]
    with connect() as client:
        emit_list(
            client.releases.channels(project, **asked), limit=limit,
            render=lambda found: table(columns, [
                (one.name, one.environment, [live.version for live in one.live], [live.base for live in one.live],
                 [live.base_status for live in one.live]) for one in found
            ]),
        )  # fmt: skip


@channels.verb(
    "history",
    "ringi channels history risk production",
    "ringi channels history risk",
    "ringi channels history risk production --as-of 2026-11-01T00:00Z",
)
def channel_history(
    project: str,
    asked: Asked,
    name: Annotated[
        str | None, typer.Argument(metavar="[CHANNEL]", help="One channel; all of them unless given.", show_default=False)
    ] = None,
    at: AsOf = None,
    limit: Limit = 50,
) -> None:
    """List every move of a project's channels, or what they served at a time."""
    wanted = [*asked.get("filter", []), *([f"channel={check_name(name, what='channel')}"] if name else [])]
    with connect() as client:
        moves = client.releases.all_history(project, as_of=at, **(asked | Asked(filter=wanted)))
        emit_list(moves, limit=limit, render=_moves)


@channels.verb("show", "ringi channels show risk production")
def show(project: str, name: str) -> None:
    """Show what a channel serves, and what the newest base means for it."""
    with connect() as client:
        found = client.releases.channel(project, check_name(name, what="channel"))
    emit(found, lambda: _channel(found))


@verbs.verb(
    "release",
    "ringi release risk/answers:v1 --channel production --reason 'approved on Monday'",
    "ringi release risk/answers:v2 --channel production --reason 月曜日に承認済みのため --if-match 4",
)
def release(reference: Version, channel: Channel, reason: Reason, if_match: IfMatch = None) -> None:
    """Let a channel serve a version, if every gate passes."""
    wanted = parse_version(reference)
    with connect() as client:
        _await_log(client, wanted, channel)
        made = client.releases.publish(
            wanted.project, wanted.name, version=wanted.selector or "", channel=channel, reason=reason, if_match=if_match
        )
    emit(made, lambda: _release(made, channel))


def _await_log(client: RingiClient, wanted: Reference, channel: str) -> None:
    """Wait while the grant's entry in the signed log is all that is missing; whatever else fails is told by the release itself."""
    deadline = time.monotonic() + _LOG_PATIENCE_S
    while time.monotonic() < deadline:
        gates = client.releases.standing(wanted.project, wanted.name, wanted.selector or "").gates.get(channel, [])
        if [gate.code for gate in gates if not gate.passed] != [_LOGGED]:
            return
        time.sleep(_LOG_PAUSE_S)


@verbs.verb(
    "rollback",
    "ringi rollback risk/answers --channel production --reason 苦情が増えたため前の版に戻す",
    "ringi rollback risk/answers --channel production --to v1 --reason 'v2 answers too slowly'",
)
def rollback(
    name: AdapterName,
    channel: Channel,
    reason: Reason,
    to: Annotated[
        str | None, typer.Option(metavar="vN", help="The version to return to; the one before unless given.", show_default=False)
    ] = None,
    if_match: IfMatch = None,
) -> None:
    """Return a channel to what it served before."""
    wanted = parse_adapter(name)
    with connect() as client:
        made = client.releases.roll_back(wanted.project, wanted.name, channel=channel, to=to, reason=reason, if_match=if_match)
    emit(made, lambda: _release(made, channel))


@history.verb("list", "ringi releases list risk/answers --channel production")
def list_releases(name: AdapterName, channel: Channel, asked: Asked, limit: Limit = 50) -> None:
    """List every move of a channel for an adapter."""
    wanted = parse_adapter(name)
    with connect() as client:
        emit_list(client.releases.history(wanted.project, wanted.name, channel=channel, **asked), limit=limit, render=_moves)


@verbs.verb("standing", "ringi standing risk/answers:v1")
def standing(reference: Version) -> None:
    """Show whether a version is evaluated, approved and live, and what each channel's gates say to it."""
    wanted = parse_version(reference)
    with connect() as client:
        found = client.releases.standing(wanted.project, wanted.name, wanted.selector or "")
    emit(found, lambda: _standing(found))


def _standing(found: StandingOut) -> Table:
    whole = Table.grid()
    pairs = [("version", found.version), ("state", found.state), ("evaluated", found.evaluated)]
    whole.add_row(facts([*pairs, ("approved for", found.approved_for), ("live on", found.live_on)]))
    rows = [
        (channel, gate.number, "✓" if gate.passed else "✗", gate.message, gate.code)
        for channel, gates in found.gates.items()
        for gate in gates
    ]
    if rows:
        whole.add_row("")
        whole.add_row(table(["channel", "gate", "", "", "code"], rows))
    return whole


def _moves(found: list[ReleaseOut]) -> Table:
    columns = ["channel", "move", "action", "version", "before", "by", "reason", "manifest", "at"]
    return table(columns, [
        (one.channel, one.sequence, one.action, one.version, one.previous, one.released_by, one.reason, short(one.manifest_digest), one.created_at)
        for one in found
    ])  # fmt: skip


def _channel(channel: ChannelOut) -> Table:
    whole = Table.grid()
    whole.add_row(facts([("channel", channel.name), ("environment", channel.environment), ("description", channel.description)]))
    if channel.live:
        rows = [
            (one.version, one.base, one.base_status, one.base_note, short(one.manifest_digest), one.commit, one.released_at)
            for one in channel.live
        ]
        whole.add_row("")
        whole.add_row(table(["serves", "base", "base status", "because", "manifest", "commit", "since"], rows))
    return whole


def _release(made: ReleaseOut, channel: str) -> Table:
    pairs = [("channel", channel), ("serves", made.version), ("manifest", made.manifest_digest), ("before", made.previous)]
    return facts([*pairs, ("action", made.action), ("by", made.released_by), ("grant", made.grant_id), ("move", made.sequence)])
