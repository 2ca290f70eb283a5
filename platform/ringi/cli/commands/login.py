"""Log in and out: `ringi login` at the server's identity provider, or with a token that one was given, and `ringi logout`."""

import os
import sys
from typing import Annotated, NamedTuple

import typer

from ringi.cli import contexts
from ringi.cli.client import RingiClient
from ringi.cli.contexts import Profile
from ringi.cli.errors import ApiError, Usage
from ringi.cli.invocation import Commands, invocation
from ringi.cli.output import emit, facts, note
from ringi.identity.schemas import LoginOptions

verbs = Commands()


@verbs.verb(
    "login",
    "ringi login --server https://ringi.example.org",
    "ringi login --server https://ringi.example.org --device --profile reviewer",
    "ringi login --fresh",
    "ringi login --server http://127.0.0.1:8400 --profile robot --token -  < token.txt",
)
def login(
    server: Annotated[str | None, typer.Option("--server", metavar="URL", help="Address of the server.", show_default=False)] = None,
    token: Annotated[str | None, typer.Option(help="A token that you were given; '-' reads it from stdin.", show_default=False)] = None,
    device: Annotated[bool, typer.Option("--device", help="Show a code to enter on another device; needs no browser here.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Prove who you are anew, as votes, roles and policies need it.")] = False,
    trust_server: Annotated[
        bool,
        typer.Option("--trust-server", help="The server's address was checked: it may get a token of the identity provider that it names."),
    ] = False,
    port: Annotated[int, typer.Option(help="Where the browser comes back to on this machine; 0 takes a free port.", min=0, max=65535)] = 0,
) -> None:
    """Log in at the server's identity provider, with a browser or a code, and save the login as a profile; or save a token."""
    address, name, project = _meant(server, fresh=fresh)
    if token is not None and (device or fresh):
        raise Usage("A token is no login.", next_step="Leave --token out, or --device and --fresh.")
    options = None if token is not None else _options(address)
    if options is not None and options.issuer is not None:
        profile = _logged_in(_Wish(address, name, options, device=device, fresh=fresh, port=port, trusted=trust_server), project)
    elif device or fresh:
        from ringi.cli.logins.refusals import NoLoginHere  # noqa: PLC0415  # needed here only

        raise NoLoginHere(address, "has no identity provider; its people are local users")
    else:
        profile = Profile(server=address, token=_given(token), project=project)
    with RingiClient(address, profile.token) as client:
        me = client.identity.whoami()
    if profile.login is None:
        _end_former(contexts.read_profiles(contexts.config_path(os.environ)).get(name))
    contexts.save_profile(contexts.config_path(os.environ), name, profile, replace=True)
    emit(me, lambda: facts([("profile", name), ("server", address), ("you are", me.name), ("organisation", me.organization)]))


def _meant(server: str | None, *, fresh: bool) -> tuple[str, str, str | None]:
    """Address, profile and its project. A fresh login is one more of the profile that commands use; the first one may be of any."""
    saved = contexts.read_config(contexts.config_path(os.environ))
    name = invocation.profile or os.environ.get("RINGI_PROFILE") or (saved.current if fresh else None) or contexts.DEFAULT_PROFILE
    known = saved.profiles.get(name)
    address = server or os.environ.get("RINGI_SERVER") or (known.server if known else contexts.DEFAULT_SERVER)
    cleaned = contexts.clean_server(address)
    return cleaned, name, known.project if known is not None and known.server == cleaned else None


def _options(address: str) -> LoginOptions | None:
    """How people log in at the server; None for one that is older than the question."""
    try:
        with RingiClient(address) as client:
            return client.identity.login_options()
    except ApiError as error:
        if error.status == 404:  # noqa: PLR2004  # no such route
            return None
        raise


class _Wish(NamedTuple):
    """A login at a provider as it was asked for."""

    server: str
    profile: str
    options: LoginOptions
    device: bool
    fresh: bool
    port: int
    trusted: bool


def _logged_in(wish: _Wish, project: str | None) -> Profile:
    from ringi.cli.logins import flows, trust  # noqa: PLC0415  # whoever brings a token needs none of it

    asking = trust.Asking(note, (lambda text: typer.confirm(text, err=True)) if sys.stdin.isatty() else None)
    saved = contexts.read_config(contexts.config_path(os.environ))
    begun = flows.prepared(wish.server, wish.options, fresh=wish.fresh)
    by_audience = trust.check_server(wish.server, wish.options, saved, asking, trusted=wish.trusted)
    _end_former(saved.profiles.get(wish.profile))
    got = flows.with_code(begun, note) if wish.device else flows.with_browser(begun, note, port=wish.port)
    if by_audience:
        trust.check_token(wish.server, got.access_token)
    return begun.profile(got, project=project)


def _end_former(former: Profile | None) -> None:
    """End the login that another one is about to replace: afterwards nobody would know its refresh token, and it would go on being good.

    Before the new one begins, because there are providers (Keycloak) that end every login of the person at this client.
    """
    from ringi.cli.logins import renewal  # noqa: PLC0415  # as above

    if former is None or former.login is None or former.login.refresh_token is None:
        return
    failed = renewal.revoke(former.login)
    if failed is not None:
        note(f"The former login was not ended at {former.login.issuer}: {failed}. It ends there by itself.")


def _given(token: str | None) -> str:
    if token is None and sys.stdin.isatty():
        secret: str = typer.prompt("Token", hide_input=True, err=True)
    else:
        secret = sys.stdin.readline() if token in {None, "-"} else str(token)
    if not secret.strip():
        raise Usage("No token was given.", next_step="Pass --token TOKEN, or write it to stdin: ringi login --token -.")
    return secret.strip()


@verbs.verb("logout", "ringi logout", "ringi logout --profile reviewer")
def logout() -> None:
    """Take the tokens of a profile off this machine, and end its login at the identity provider."""
    from ringi.cli.logins import renewal  # noqa: PLC0415  # needed here only

    name = invocation.target().profile
    before = renewal.forget(contexts.config_path(os.environ), name)
    failed = renewal.revoke(before.login) if before.login else None
    if failed is not None:
        note(f"The login was not ended at {before.login.issuer if before.login else ''}: {failed}. It ends there by itself.")
    elif before.login is None and before.token is not None:
        note("The token is forgotten here; it is valid until it expires or is revoked: ringi tokens revoke.")
    shown = {"profile": name, "server": before.server, "revoked": before.login is not None and failed is None}
    emit(shown, lambda: facts(shown.items()))
