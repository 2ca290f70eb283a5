"""`ringi`: the table of commands, and what happens around one. A command's module is imported when it is called, so that help is quick."""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from ringi.cli.errors import INTERRUPTED, BadValue, exit_code_of
from ringi.cli.invocation import SETTINGS, AsJson, AsOutput, InProfile, Output, invocation
from ringi.kit.errors import RingiError


class Entry(NamedTuple):
    """Where a command is: a module of `ringi.cli.commands` and the group in it. `verb` tells that the group holds the command itself."""

    panel: str
    module: str
    group: str
    verb: bool
    about: str


# The server's word for a login that is too old or too weak (RFC 9470).
NEEDS_FRESH_LOGIN = "insufficient_user_authentication"
# How the script of `ringi completion` asks.
COMPLETE = "_RINGI_COMPLETE"
_HERE, _PEOPLE, _MAKE, _JUDGE, _SHIP, _WATCH = "The platform here", "People", "Make", "Judge", "Ship", "Watch"
COMMANDS: dict[str, Entry] = {
    "up": Entry(_HERE, "embedded", "verbs", True, "Start the platform."),
    "down": Entry(_HERE, "embedded", "verbs", True, "Stop it; its data stays."),
    "status": Entry(_HERE, "embedded", "verbs", True, "Show what runs."),
    "backup": Entry(_HERE, "backup", "verbs", True, "Back up database, bytes and keys."),
    "restore": Entry(_HERE, "backup", "verbs", True, "Restore a backup into an empty folder."),
    "completion": Entry(_HERE, "context", "verbs", True, "Print the script that completes commands in a shell."),
    "setup": Entry(_PEOPLE, "access", "verbs", True, "Create an organisation and its administrator."),
    "login": Entry(_PEOPLE, "login", "verbs", True, "Log in, and save that as a profile."),
    "logout": Entry(_PEOPLE, "login", "verbs", True, "End a profile's login."),
    "context": Entry(_PEOPLE, "context", "app", False, "Profiles: which server, token and project are meant."),
    "whoami": Entry(_PEOPLE, "access", "verbs", True, "Show whose token this is."),
    "projects": Entry(_PEOPLE, "members", "projects", False, "Projects."),
    "users": Entry(_PEOPLE, "members", "users", False, "Users and service accounts."),
    "roles": Entry(_PEOPLE, "members", "roles", False, "Who holds which role."),
    "tokens": Entry(_PEOPLE, "members", "tokens", False, "Access tokens."),
    "sessions": Entry(_PEOPLE, "sessions", "app", False, "Sessions of browsers."),
    "bases": Entry(_MAKE, "bases", "app", False, "Base models and their revisions."),
    "datasets": Entry(_MAKE, "datasets", "app", False, "Datasets and their sealed versions."),
    "adapters": Entry(_MAKE, "adapters", "app", False, "Adapters and their sealed versions."),
    "import": Entry(_MAKE, "moving", "app", False, "Move adapters in: from MLflow, from folders."),
    "estimate": Entry(_MAKE, "estimate", "verbs", True, "Memory, time and cost of a training, before one."),
    "train": Entry(_MAKE, "training", "verbs", True, "Train a new version of an adapter."),
    "runs": Entry(_MAKE, "runs", "app", False, "Training runs."),
    "search-rank": Entry(_MAKE, "searches", "verbs", True, "Try ranks and learning rates, and recommend."),
    "searches": Entry(_MAKE, "searches", "app", False, "Searches for a rank and a learning rate."),
    "pilot": Entry(_MAKE, "pilot", "verbs", True, "Compare ways of adapting a base, as a page."),
    "retraining": Entry(_MAKE, "retraining", "app", False, "What new rows start, by policy."),
    "evaluate": Entry(_JUDGE, "evaluation", "verbs", True, "Compare a version with a baseline."),
    "evaluations": Entry(_JUDGE, "evaluation", "app", False, "Evaluations and their records."),
    "suites": Entry(_JUDGE, "suites", "app", False, "Suites: sealed questions, and what must hold."),
    "sweep": Entry(_JUDGE, "sweep", "app", False, "Measure many versions with a suite."),
    "measurements": Entry(_JUDGE, "measurements", "app", False, "What was measured, and records."),
    "gate": Entry(_JUDGE, "gate", "app", False, "GO, NO-GO or INCONCLUSIVE."),
    "watches": Entry(_JUDGE, "watches", "app", False, "Look at what is live, again and again."),
    "compat": Entry(_JUDGE, "compatibility", "app", False, "What newer bases mean for adapters."),
    "approvals": Entry(_JUDGE, "approvals", "app", False, "Ask for approval, vote, set the policy."),
    "channels": Entry(_SHIP, "releases", "channels", False, "Channels and what they serve."),
    "standing": Entry(_SHIP, "releases", "verbs", True, "What a version still needs."),
    "release": Entry(_SHIP, "releases", "verbs", True, "Let a channel serve a version."),
    "rollback": Entry(_SHIP, "releases", "verbs", True, "Return a channel to what it served before."),
    "releases": Entry(_SHIP, "releases", "history", False, "The history of releases."),
    "pull-env": Entry(_SHIP, "access", "verbs", True, "Variables for pulling with Hugging Face clients."),
    "deprecate": Entry(_SHIP, "adapters", "verbs", True, "Warn whoever uses a version."),
    "retire": Entry(_SHIP, "adapters", "verbs", True, "End a version's service in good order."),
    "revoke": Entry(_SHIP, "adapters", "verbs", True, "Stop a version at once and for ever."),
    "tags": Entry(_WATCH, "tags", "app", False, "Tags of everything: set, remove, list."),
    "health": Entry(_WATCH, "health", "verbs", True, "Show how the server and its parts stand."),
    "jobs": Entry(_WATCH, "jobs", "app", False, "Jobs: list, follow, cancel."),
    "quotas": Entry(_WATCH, "limits", "app", False, "Limits of projects."),
    "usage": Entry(_WATCH, "limits", "verbs", True, "What is used of the limits."),
    "workers": Entry(_WATCH, "workers", "app", False, "Workers: who does the jobs, cordon, drain."),
    "logs": Entry(_WATCH, "logs", "verbs", True, "What a job wrote, and what it writes now."),
    "watch": Entry(_WATCH, "logs", "verbs", True, "All jobs in sight, live."),
    "storage": Entry(_WATCH, "storage", "app", False, "The blob store: usage, uploads, unused bytes."),
    "events": Entry(_WATCH, "events", "events", False, "What happened in a project."),
    "subscriptions": Entry(_WATCH, "events", "subscriptions", False, "Who is told of events: webhooks, e-mail."),
    "deliveries": Entry(_WATCH, "events", "deliveries", False, "Whether an event arrived."),
    "audit": Entry(_WATCH, "audit", "app", False, "The audit log: read, export, verify offline."),
}


def load(name: str) -> Any:
    """The command or group `name`, imported now."""
    entry = COMMANDS[name]
    group = typer.main.get_group(getattr(importlib.import_module(f"ringi.cli.commands.{entry.module}"), entry.group))
    found: Any = group.commands[name] if entry.verb else group
    found.name = name
    return found


class Table(TyperGroup):
    """Lists the table's lines for help, and imports only the command that is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """What typer asks for the command behind the first argument."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in COMMANDS else command, rest


app = typer.Typer(
    cls=Table, no_args_is_help=True, add_completion=False, context_settings=SETTINGS, rich_markup_mode="rich", pretty_exceptions_enable=False,
    epilog="Begin: ringi up, then ringi setup ORGANISATION --admin NAME. Every command has --output and --help with examples.\n\n"
    "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no answer from the server, 130 interrupted.",
)  # fmt: skip


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # noqa: PLC0415  # whoever asks waits for it, nobody else

        typer.echo(version("ringi"))
        raise typer.Exit


@app.callback()
def ringi(
    profile: InProfile = None,
    output: AsOutput = None,
    as_json: AsJson = False,
    version: Annotated[  # noqa: ARG001  # its callback has answered
        bool, typer.Option("--version", help="Print the version of this program.", callback=_say_version, is_eager=True, show_default=False)
    ] = False,
) -> None:
    """Ringi (稟議): the lifecycle of LoRA/PEFT adapters, from training to release, with approvals and an audit log."""
    invocation.profile, invocation.output = profile, Output.TABLE
    invocation.wants(output=output, as_json=as_json)


def _listed() -> None:
    """Stands in the list of commands for one that is imported when it is called."""


for _name, _entry in COMMANDS.items():
    app.command(_name, short_help=_entry.about, help=_entry.about, rich_help_panel=_entry.panel)(_listed)


def run(arguments: Sequence[str] | None = None) -> None:
    """The entry point of the program `ringi`."""
    _speak_utf8()
    if COMPLETE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]  # noqa: PLC0415  # a shell asks, nobody else

        completion_init()
    given = sys.argv[1:] if arguments is None else arguments
    try:
        app([_readable(argument) for argument in given], prog_name="ringi")
    except RingiError as error:
        from ringi.cli.output import show_error  # noqa: PLC0415  # needed by refusals only

        if error.code == NEEDS_FRESH_LOGIN:
            error.next_step = f"Prove who you are anew, then repeat the command: {invocation.fresh_login}."
        show_error(error)
        sys.exit(exit_code_of(error))
    except ValueError as error:
        from pydantic import ValidationError  # noqa: PLC0415  # needed by refusals only

        # What the API would call malformed is found by the client's own models already.
        if not isinstance(error, ValidationError):
            raise
        from ringi.cli.output import show_error  # noqa: PLC0415  # needed by refusals only

        refusal = BadValue({".".join(str(step) for step in item["loc"]): item["msg"] for item in error.errors()})
        show_error(refusal)
        sys.exit(exit_code_of(refusal))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _speak_utf8() -> None:
    # In a C locale Python may choose ASCII, and Japanese names would end the program instead of being shown.
    for stream in (sys.stdout, sys.stderr, sys.stdin):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="replace")


def _readable(argument: str) -> str:
    """In a C locale an argument's bytes beyond ASCII arrive as surrogates (PEP 383); they are UTF-8."""
    try:
        return os.fsencode(argument).decode("utf-8")
    except UnicodeError:
        return argument
