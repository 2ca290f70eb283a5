"""Projects, users, roles and tokens."""

import os
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer

from ringi.cli import contexts
from ringi.cli.asked import Asked, AskedInOrder
from ringi.cli.contexts import Profile
from ringi.cli.invocation import Commands, connect, invocation
from ringi.cli.options import IfMatch, Limit
from ringi.cli.output import emit, emit_list, facts, note, table
from ringi.identity.schemas import Role, UserKind

projects = Commands("Projects: where adapters, datasets and channels live.")
users = Commands("Users and service accounts of the organisation.")
roles = Commands("Who holds which role; ringi roles catalogue explains them.")
tokens = Commands("Access tokens.")

DisplayName = Annotated[str, typer.Option("--display-name", help="The name for people, in any script.")]


@projects.verb("create", "ringi projects create risk", "ringi projects create risk --display-name 与信審査")
def create_project(name: str, display_name: DisplayName = "") -> None:
    """Create a project."""
    with connect() as client:
        made = client.identity.create_project(name, display_name=display_name)
    emit(made, lambda: facts([("project", made.name), ("name", made.display_name), ("id", made.id)]))


@projects.verb("list", "ringi projects list")
def list_projects(asked: Asked, limit: Limit = 50) -> None:
    """List the projects that you may see."""
    with connect() as client:
        emit_list(
            client.identity.projects(**asked), limit=limit,
            render=lambda found: table(["project", "name", "created"], [(one.name, one.display_name, one.created_at) for one in found]),
        )  # fmt: skip


@users.verb("create", "ringi users create kenji --display-name 健二", "ringi users create serving --kind service")
def create_user(
    name: str,
    display_name: DisplayName = "",
    kind: Annotated[UserKind, typer.Option(help="A person, or a service account, which may never vote.")] = UserKind.HUMAN,
    subject: Annotated[str | None, typer.Option(help="Who this is at the identity provider (sub).", show_default=False)] = None,
) -> None:
    """Create a user without any role."""
    with connect() as client:
        made = client.identity.create_user(name, display_name=display_name, kind=kind, subject=subject)
    emit(made, lambda: facts([("user", made.name), ("name", made.display_name), ("kind", made.kind), ("id", made.id)]))


@users.verb(
    "link", "ringi users link kenji 248289761001", "ringi users link chief 248289761002 --issuer https://login.example.co.jp/realms/company"
)
def link_user(
    name: str,
    subject: Annotated[str, typer.Argument(help="The person's sub.")],
    issuer: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The provider, where the deployment will have it and has none yet.", show_default=False),
    ] = None,
    if_match: IfMatch = None,
) -> None:
    """Say who a person is at the identity provider; once."""
    with connect() as client:
        linked = client.identity.link_user(name, subject, issuer=issuer, if_match=if_match)
    emit(linked, lambda: facts([("user", linked.name), ("subject", linked.subject), ("issuer", linked.issuer)]))


@users.verb("disable", "ringi users disable kenji")
def disable_user(name: str, if_match: IfMatch = None) -> None:
    """Let a user in no more, by no token and no login; their votes stop counting."""
    with connect() as client:
        changed = client.identity.disable_user(name, if_match=if_match)
    emit(changed, lambda: facts([("user", changed.name), ("disabled", changed.disabled_at)]))


@users.verb("enable", "ringi users enable kenji")
def enable_user(name: str, if_match: IfMatch = None) -> None:
    """Let a disabled user in again."""
    with connect() as client:
        changed = client.identity.enable_user(name, if_match=if_match)
    emit(changed, lambda: facts([("user", changed.name), ("disabled", "no")]))


@users.verb("erase", "ringi users erase kenji --reason 退職者の削除請求、受付番号４５６ --yes")
def erase_user(
    name: str,
    reason: Annotated[
        str, typer.Option(help="Why, in 10 to 2,000 characters; it is kept as long as you are not erased yourself, so name nobody.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: there is no way back.")] = False,
    if_match: IfMatch = None,
) -> None:
    """Erase a person for good: names, everything they wrote, every way in; their decisions and every proof stay."""
    if not yes:
        typer.confirm(f"Erase '{name}'? There is no way back", abort=True, err=True)
    with connect() as client:
        erased = client.identity.erase_user(name, reason, if_match=if_match)
    emit(erased, lambda: facts([("erased", name), ("now", erased.name), ("at", erased.erased_at)]))


@users.verb("list", "ringi users list --json")
def list_users(asked: Asked, limit: Limit = 50) -> None:
    """List the users of the organisation."""
    with connect() as client:
        emit_list(
            client.identity.users(**asked), limit=limit,
            render=lambda found: table(
                ["user", "name", "kind", "created"], [(one.name, one.display_name, one.kind, one.created_at) for one in found]
            ),
        )  # fmt: skip


@roles.verb("catalogue", "ringi roles catalogue")
def catalogue() -> None:
    """List every role and what it allows."""
    with connect() as client:
        found = client.identity.roles()
    emit(found, lambda: table(["role", "scope", "allows"], [(one.role, one.scope, one.permissions) for one in found]))


@roles.verb("grant", "ringi roles grant kenji reviewer --project risk", "ringi roles grant mio auditor --days 30")
def grant_role(
    user: str,
    role: Role,
    project: Annotated[str | None, typer.Option(help="The project; left out, the whole organisation.", show_default=False)] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=3650, help="End it after so many days; privileged roles: 90, at most 365.", show_default=False)
    ] = None,
    lasting: Annotated[bool, typer.Option("--lasting", help="Hand identity_admin on without an end.")] = False,
) -> None:
    """Give a user a role."""
    with connect() as client:
        held = client.identity.grant_role(user, role, project=project, days=days, lasting=lasting)
    pairs = [
        ("user", held.user),
        ("role", held.role),
        ("project", held.project or "the organisation"),
        ("until", held.expires_at),
        ("id", held.id),
    ]
    emit(held, lambda: facts(pairs))


@roles.verb("revoke", "ringi roles revoke 0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e")
def revoke_role(membership: Annotated[UUID, typer.Argument(help="The id that ringi roles list shows.")], if_match: IfMatch = None) -> None:
    """End a role now."""
    with connect() as client:
        ended = client.identity.revoke_role(membership, if_match=if_match)
    emit(ended, lambda: facts([("ended", f"{ended.role} of {ended.user}"), ("project", ended.project or "the organisation")]))


@roles.verb("list", "ringi roles list", "ringi roles list --ending-within 30 --json")
def list_roles(
    asked: AskedInOrder,
    limit: Limit = 50,
    ending_within: Annotated[
        int | None, typer.Option(min=1, max=3650, help="Only roles that end within so many days.", show_default=False)
    ] = None,
) -> None:
    """List who holds which role."""
    if ending_within is not None:
        now = datetime.now(UTC)
        bounds = (f"expires_at>={now:%Y-%m-%dT%H:%M:%SZ}", f"expires_at<{now + timedelta(days=ending_within):%Y-%m-%dT%H:%M:%SZ}")
        asked["filter"] = [*asked.get("filter", ()), *bounds]
    columns = ["user", "role", "project", "until", "id"]
    with connect() as client:
        emit_list(
            client.identity.memberships(**asked), limit=limit,
            render=lambda found: table(columns, [(one.user, one.role, one.project, one.expires_at, one.id) for one in found]),
        )  # fmt: skip


Network = Annotated[
    list[str] | None,
    typer.Option(metavar="CIDR", help="Allow it only from this network, e.g. 10.1.2.0/24; repeat it for more.", show_default=False),
]


@tokens.verb(
    "issue",
    "ringi tokens issue kenji --save-as kenji",
    "ringi tokens issue serving --name web --days 30 --scope release:pull --environment production --network 10.1.2.0/24 --json",
)
def issue_token(
    user: str,
    name: Annotated[str, typer.Option(help="What it is for.")] = "token",
    days: Annotated[int, typer.Option(min=1, max=365, help="Days until it expires.")] = 90,
    scope: Annotated[list[str] | None, typer.Option(help="Allow only this permission; repeat it for more.", show_default=False)] = None,
    environment: Annotated[str | None, typer.Option(help="Bind a service token to one environment.", show_default=False)] = None,
    network: Network = None,
    save_as: Annotated[
        str | None, typer.Option(metavar="PROFILE", help="Save it as a profile of this machine.", show_default=False)
    ] = None,
) -> None:
    """Issue a token and show it, this once."""
    config, server = contexts.config_path(os.environ), invocation.target().server
    if save_as is not None:
        contexts.check_profile_is_new(config, save_as)
    with connect() as client:
        issued = client.identity.issue_token(
            user, name=name, days=days, scopes=scope or None, environment=environment, networks=network or None
        )
    if save_as is not None:
        contexts.save_profile(config, save_as, Profile(server=server, token=issued.token), replace=False)
    emit(issued, lambda: issued.token)
    note(f"A token of {issued.details.user}, good until {issued.details.expires_at:%Y-%m-%d}; it is shown this once.")


@tokens.verb("mine", "ringi tokens mine --days 30 --scope release:pull")
def issue_own_token(
    name: Annotated[str, typer.Option(help="What it is for.")] = "token",
    days: Annotated[int, typer.Option(min=1, max=365, help="Days until it expires.")] = 90,
    scope: Annotated[list[str] | None, typer.Option(help="Allow only this permission; repeat it for more.", show_default=False)] = None,
    network: Network = None,
) -> None:
    """Make a token of your own and show it, this once; needs an access token of the identity provider."""
    with connect() as client:
        issued = client.identity.issue_own_token(name=name, days=days, scopes=scope or None, networks=network or None)
    emit(issued, lambda: issued.token)
    note(f"A token of {issued.details.user}, good until {issued.details.expires_at:%Y-%m-%d}; it is shown this once.")


@tokens.verb("list", "ringi tokens list")
def list_tokens(asked: Asked, limit: Limit = 50) -> None:
    """List tokens without their secrets."""
    columns = ["user", "token", "starts with", "expires", "revoked", "last used", "id"]
    with connect() as client:
        emit_list(
            client.identity.tokens(**asked), limit=limit,
            render=lambda found: table(
                columns, [(one.user, one.name, one.prefix, one.expires_at, one.revoked_at, one.last_used_at, one.id) for one in found]
            ),
        )  # fmt: skip


@tokens.verb("revoke", "ringi tokens revoke 0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e")
def revoke_token(
    token: Annotated[UUID, typer.Argument(help="The id that ringi tokens list shows, not the secret.")], if_match: IfMatch = None
) -> None:
    """End a token now."""
    with connect() as client:
        ended = client.identity.revoke_token(token, if_match=if_match)
    emit(ended, lambda: facts([("ended", f"token '{ended.name}' of {ended.user}"), ("at", ended.revoked_at)]))


@tokens.verb(
    "limit",
    "ringi tokens limit 0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e --requests-per-minute 600",
    "ringi tokens limit 0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e",
)
def limit_token(
    token: Annotated[UUID, typer.Argument(help="The id that ringi tokens list shows, not the secret.")],
    requests_per_minute: Annotated[
        int | None, typer.Option(min=0, help="At most the deployment's limit; left out, that limit.", show_default=False)
    ] = None,
    if_match: IfMatch = None,
) -> None:
    """Set how many requests a minute a token may send."""
    with connect() as client:
        found = client.identity.limit_token(token, requests_per_minute, if_match=if_match)
    limit = "the default" if found.requests_per_minute is None else found.requests_per_minute or "none"
    emit(found, lambda: facts([("token", f"'{found.name}' of {found.user}"), ("requests a minute", limit)]))
