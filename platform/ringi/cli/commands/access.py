"""Who I am and where: `ringi setup`, `whoami` and `pull-env`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ringi.cli import contexts
from ringi.cli.client import RingiClient
from ringi.cli.contexts import Profile
from ringi.cli.errors import Usage
from ringi.cli.invocation import Commands, NoToken, connect, invocation
from ringi.cli.output import emit, facts, note
from ringi.cli.references import check_name
from ringi.identity.schemas import WhoAmI

verbs = Commands()

Server = Annotated[str | None, typer.Option("--server", metavar="URL", help="Address of the server.", show_default=False)]


class NoSetupKey(Usage):
    """Nobody may create organisations without it."""

    code = "no_setup_key"

    def __init__(self, looked_at: Path) -> None:
        super().__init__(
            f"Creating an organisation needs this deployment's setup key; there is none in {looked_at}.",
            next_step="Start the platform here (ringi up), name its --data-dir, or pass --setup-key (RINGI_SETUP_KEY).",
        )


class LoginIsNoPullToken(Usage):
    """The profile holds a login, which is short and may do everything that the person may."""

    code = "login_is_no_pull_token"

    def __init__(self) -> None:
        super().__init__(
            "This profile holds a login, which ends within minutes and may do all that you may; a puller needs a token of its own.",
            next_step="Make one: ringi tokens mine --scope release:pull, and set RINGI_TOKEN.",
        )


def _setup_key(given: str | None, data_dir: Path) -> str:
    if given:
        return given
    try:
        return (data_dir / "secrets" / "setup-key").read_text(encoding="utf-8").strip()
    except OSError:
        raise NoSetupKey(data_dir / "secrets" / "setup-key") from None


def _setup_server(given: str | None, data_dir: Path) -> str:
    if named := given or os.environ.get("RINGI_SERVER"):
        return contexts.clean_server(named)
    port = data_dir / "api-port"
    return f"http://127.0.0.1:{port.read_text(encoding='utf-8').strip()}" if port.is_file() else contexts.DEFAULT_SERVER


@verbs.verb(
    "setup",
    "ringi setup acme --admin aiko",
    "ringi setup acme --admin aiko --display-name 株式会社アクメ --save-as acme-admin",
    "RINGI_SETUP_KEY=… ringi setup acme --admin aiko --server https://ringi.example.org --json",
)
def setup(
    organization: Annotated[str, typer.Argument(help="Name of the new organisation.")],
    admin: Annotated[str, typer.Option(help="Name of its first administrator.")],
    display_name: Annotated[str, typer.Option(help="The organisation's name for people.")] = "",
    admin_subject: Annotated[
        str | None, typer.Option(help="Who the administrator is at the identity provider (sub).", show_default=False)
    ] = None,
    setup_key: Annotated[
        str | None, typer.Option(envvar="RINGI_SETUP_KEY", help="This deployment's setup key.", show_default=False)
    ] = None,
    data_dir: Annotated[Path, typer.Option(envvar="RINGI_DATA_DIR", help="Embedded data folder to read key and port from.")] = Path(
        ".ringi"
    ),
    server: Server = None,
    save_as: Annotated[
        str, typer.Option(metavar="PROFILE", help="Profile that keeps the administrator's token.")
    ] = contexts.DEFAULT_PROFILE,
) -> None:
    """Create an organisation and its administrator, whose token is shown once and saved as a profile."""
    address, config = _setup_server(server, data_dir), contexts.config_path(os.environ)
    contexts.check_profile_is_new(config, save_as)
    with RingiClient(address, _setup_key(setup_key, data_dir)) as client:
        created = client.identity.create_organization(organization, admin=admin, display_name=display_name, admin_subject=admin_subject)
    contexts.save_profile(config, save_as, Profile(server=address, token=created.token.token), replace=False)
    pairs = [("organisation", created.organization.name), ("administrator", created.admin.name), ("server", address), ("profile", save_as)]
    emit(created, lambda: facts([*pairs, ("token", created.token.token), ("expires", created.token.details.expires_at)]))
    note("The token is shown this once. Next: ringi projects create NAME.")


@verbs.verb("whoami", "ringi whoami", "ringi whoami --profile reviewer --json")
def whoami() -> None:
    """Show whose token this is and what it allows."""
    with connect() as client:
        me = client.identity.whoami()
    emit(me, lambda: facts(_myself(me)))


def _myself(me: WhoAmI) -> list[tuple[str, object]]:
    return [
        ("you are", f"{me.name} ({me.kind})"),
        ("organisation", me.organization),
        ("environment", me.environment or "any"),
        *([("logged in at", me.issuer), ("at", me.logged_in_at), ("acr", me.acr)] if me.issuer else []),
        ("everywhere", me.organization_permissions),
        *((f"in {project}", allowed) for project, allowed in me.projects.items()),
    ]


@verbs.verb("pull-env", "env $(ringi pull-env production) python serve.py", "ringi pull-env production --profile server >> .env")
def pull_env(channel: Annotated[str, typer.Argument(help="The channel to pull from.")]) -> None:
    """Print the variables with which any Hugging Face client pulls from a channel. The output holds the token."""
    target = invocation.target()
    if target.token is None:
        raise NoToken(target)
    if target.login is not None:
        # It would be over in minutes, and it can vote: what a server keeps is made for that.
        raise LoginIsNoPullToken
    values = {"HF_ENDPOINT": f"{target.server}/hf/{check_name(channel, what='channel')}", "HF_TOKEN": target.token}
    if invocation.as_data:
        emit(values, str)
    else:
        sys.stdout.writelines(f"{name}={value}\n" for name, value in values.items())
