"""Which server, whose token, and which project: profiles in one private file, and the variables that override them.

The file is `$RINGI_CONFIG` or `~/.config/ringi/config.json`, mode 0600, replaced in one step. `--profile`, `RINGI_PROFILE` or the
current profile (`ringi context use`) chooses one; `RINGI_SERVER`, `RINGI_TOKEN` and `RINGI_PROJECT` override what it holds. A profile's
token is sent to that profile's server and to no other.
"""

import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from ringi.cli.errors import Usage
from ringi.embedded.folder import locked, write_private

DEFAULT_PROFILE = "default"
DEFAULT_SERVER = "http://127.0.0.1:8400"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class SavedLogin(BaseModel):
    """What renews a profile's token: a login at the server's identity provider."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str
    # Who logged in, as the provider's tokens say it (`sub`); None where they do not.
    subject: str | None = None
    client_id: str
    token_endpoint: str
    revocation_endpoint: str | None = None
    # How the provider is asked for this platform's audience again (`resource` of RFC 8707, or `audience`); empty where its scopes say it.
    asked: dict[str, str] = {}
    refresh_token: str | None = None
    # When the access token is over, in seconds since 1970 by this machine's clock; None where the provider did not say.
    over_at: float | None = None


class Profile(BaseModel):
    """A server, a token for it, and the project that a reference without one means; `token` is None after a logout."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    server: str
    token: str | None
    project: str | None = None
    login: SavedLogin | None = None


class Profiles(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profiles: dict[str, Profile] = {}
    current: str | None = None


class Target(NamedTuple):
    """Where a command goes; `token` None when there is none for this server."""

    server: str
    token: str | None
    profile: str
    project: str | None = None
    # Only beside the profile's own token.
    login: SavedLogin | None = None


class ConfigUnusable(Usage):
    """The profiles' file cannot be read, is not what this client writes, or is open to others."""

    code = "config_unusable"

    def __init__(self, path: Path, reason: str, *, next_step: str) -> None:
        super().__init__(f"{path} cannot be used: {reason}.", next_step=next_step)


class NoSuchProfile(Usage):
    """The named profile was never saved."""

    code = "no_such_profile"

    def __init__(self, name: str, known: list[str]) -> None:
        shown = ", ".join(known) or "none"
        super().__init__(
            f"There is no profile '{name}'; saved are: {shown}.", next_step=f"Save it: ringi login --profile {name} --server URL."
        )


class ProfileExists(Usage):
    """Saving would throw a token away."""

    code = "profile_exists"

    def __init__(self, name: str, server: str) -> None:
        super().__init__(f"A profile '{name}' for {server} is saved already.", next_step="Choose another name: --save-as NAME.")


class BadServer(Usage):
    """Not an address of a server."""

    code = "bad_server"

    def __init__(self, text: str) -> None:
        super().__init__(f"'{text[:200]}' is not the address of a server.", next_step=f"Write it with its scheme, e.g. {DEFAULT_SERVER}.")


def config_path(environ: Mapping[str, str]) -> Path:
    """Where profiles are kept."""
    if named := environ.get("RINGI_CONFIG"):
        return Path(named)
    home = environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "ringi" / "config.json"


def clean_server(text: str) -> str:
    """The server's address without a slash at its end; raises BadServer."""
    try:
        parts = urlsplit(text)
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        raise BadServer(text) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_good or parts.query or parts.fragment or parts.username:
        raise BadServer(text)
    return text.rstrip("/")


def read_profiles(path: Path) -> dict[str, Profile]:
    """Every saved profile; raises ConfigUnusable."""
    return read_config(path).profiles


def read_config(path: Path) -> Profiles:
    """Every saved profile and the current one; raises ConfigUnusable."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Profiles()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigUnusable(path, str(error), next_step="Mend or remove the file, then: ringi login.") from None
    if mode & _OTHERS:
        raise ConfigUnusable(path, f"others may read it (mode {stat.S_IMODE(mode):04o})", next_step=f"Close it: chmod 600 {path}.")
    try:
        return Profiles.model_validate_json(text)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ConfigUnusable(
            path, f"its content is not what ringi writes ({reason})", next_step="Mend or remove it, then: ringi login."
        ) from None


def save_profile(path: Path, name: str, profile: Profile, *, replace: bool) -> None:
    """Add or replace a profile; two writers at once lose nothing. Raises ProfileExists unless `replace`."""

    def saved(config: Profiles) -> Profiles:
        known = config.profiles.get(name)
        if known is not None and not replace:
            raise ProfileExists(name, known.server)
        return with_profile(config, name, profile)

    change(path, saved)


def with_profile(config: Profiles, name: str, profile: Profile) -> Profiles:
    """The same file with this profile in it."""
    return config.model_copy(update={"profiles": {**config.profiles, name: profile}})


def use_profile(path: Path, name: str) -> None:
    """Make a profile the current one; raises NoSuchProfile."""

    def used(config: Profiles) -> Profiles:
        known_profile(config, name)
        return config.model_copy(update={"current": name})

    change(path, used)


def set_project(path: Path, name: str, project: str | None) -> None:
    """Choose the project that references of this profile mean when they name none; None takes the choice back. Raises NoSuchProfile."""

    def changed(config: Profiles) -> Profiles:
        return with_profile(config, name, known_profile(config, name).model_copy(update={"project": project}))

    change(path, changed)


def remove_profile(path: Path, name: str) -> None:
    """Forget a profile and its token; the token itself stays valid until it is revoked. Raises NoSuchProfile."""

    def removed(config: Profiles) -> Profiles:
        known_profile(config, name)
        left = {known: profile for known, profile in config.profiles.items() if known != name}
        return Profiles(profiles=left, current=None if config.current == name else config.current)

    change(path, removed)


def known_profile(config: Profiles, name: str) -> Profile:
    """The profile `name`; raises NoSuchProfile."""
    if name not in config.profiles:
        raise NoSuchProfile(name, sorted(config.profiles))
    return config.profiles[name]


def change(path: Path, changed: Callable[[Profiles], Profiles]) -> None:
    """Replace the file by what `changed` makes of it; every other process that changes it waits meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(path.with_name(f".{path.name}.lock")):
        write_private(path, changed(read_config(path)).model_dump_json(indent=1) + "\n")


def check_profile_is_new(path: Path, name: str) -> None:
    """Before a token is made that would have nowhere to go; raises ProfileExists."""
    if (known := read_profiles(path).get(name)) is not None:
        raise ProfileExists(name, known.server)


def target(environ: Mapping[str, str], *, profile: str | None) -> Target:
    """Server, token and project of this command."""
    saved = read_config(config_path(environ))
    chosen = profile or environ.get("RINGI_PROFILE") or saved.current
    known = known_profile(saved, chosen) if chosen else saved.profiles.get(DEFAULT_PROFILE)
    server = clean_server(environ.get("RINGI_SERVER") or (known.server if known else DEFAULT_SERVER))
    own = known if known is not None and known.server == server and known.token else None
    project = environ.get("RINGI_PROJECT") or (known.project if known else None)
    if given := environ.get("RINGI_TOKEN"):
        return Target(server, given, chosen or DEFAULT_PROFILE, project)
    return Target(server, own.token if own else None, chosen or DEFAULT_PROFILE, project, own.login if own else None)
