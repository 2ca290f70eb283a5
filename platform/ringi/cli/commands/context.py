"""`ringi context`: which server, token and project are meant; `ringi completion`: the shell's own help at the prompt."""

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

from ringi.cli import completion, contexts
from ringi.cli.errors import Usage
from ringi.cli.invocation import Commands, invocation
from ringi.cli.output import emit, facts, note, table
from ringi.cli.references import check_name

app = Commands("Profiles: which server, token and project are meant.")
verbs = Commands()

Name = Annotated[str, typer.Argument(metavar="PROFILE", help="The profile.", autocompletion=completion.profiles)]


class Shell(StrEnum):
    """Shells that `ringi completion` knows."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


@app.verb("list", "ringi context list")
def list_() -> None:
    """List the saved profiles; the current one is marked. Tokens are not shown."""
    saved = contexts.read_config(contexts.config_path(os.environ))
    current = invocation.target().profile
    shown = [
        {"profile": name, "server": profile.server, "project": profile.project, "current": name == current}
        for name, profile in sorted(saved.profiles.items())
    ]
    columns = ["", "profile", "server", "project"]
    rows = [("*" if one["current"] else " ", one["profile"], one["server"], one["project"]) for one in shown]
    emit(shown, lambda: table(columns, rows) if rows else "nothing yet: ringi login --server URL")


@app.verb("show", "ringi context show", "ringi context show --profile reviewer")
def show() -> None:
    """Show what the next command would use, variables counted in."""
    target = invocation.target()
    shown = {"profile": target.profile, "server": target.server, "project": target.project, "token": "present" if target.token else None}
    emit(shown, lambda: facts(shown.items()))


@app.verb("use", "ringi context use reviewer")
def use(name: Name) -> None:
    """Make a profile the current one: commands use it unless --profile or RINGI_PROFILE names another."""
    contexts.use_profile(contexts.config_path(os.environ), name)
    show()
    if os.environ.get("RINGI_PROFILE") not in {None, "", name}:
        note(f"RINGI_PROFILE is set in this shell and goes on meaning '{os.environ['RINGI_PROFILE']}'.")


@app.verb("set", "ringi context set --project risk", "ringi context set --project - --profile reviewer")
def set_(
    project: Annotated[
        str,
        typer.Option(help="What a reference without a project means; '-' takes the choice back.", autocompletion=completion.projects),
    ],
) -> None:
    """Choose the project of a profile, so that `answers:v3` means `risk/answers:v3`."""
    chosen = None if project == "-" else check_name(project, what="project")
    contexts.set_project(contexts.config_path(os.environ), invocation.target().profile, chosen)
    show()


@app.verb("remove", "ringi context remove reviewer")
def remove(name: Name) -> None:
    """Forget a profile and its token on this machine. The token stays valid: end it with ringi tokens revoke."""
    contexts.remove_profile(contexts.config_path(os.environ), name)
    note(f"The profile '{name}' is forgotten here; its token is still valid until it is revoked or expires.")
    list_()


@verbs.verb(
    "completion",
    "ringi completion bash > ~/.local/share/bash-completion/completions/ringi",
    "ringi completion zsh > ~/.zfunc/_ringi",
    "ringi completion fish > ~/.config/fish/completions/ringi.fish",
)
def completion_(shell: Annotated[Shell, typer.Argument(help="The shell.", show_default=False)]) -> None:
    """Print the script that lets a shell complete commands, options, profiles and references."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # noqa: PLC0415  # only here

    if invocation.as_data:
        raise Usage("A script has no other form.", next_step="Leave --output and --json out.")
    sys.stdout.write(get_completion_script(prog_name="ringi", complete_var="_RINGI_COMPLETE", shell=shell.value) + "\n")
