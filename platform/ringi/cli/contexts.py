"""Which server, and whose token: profiles in one private file, and the variables that override them.

The file is `$RINGI_CONFIG` or `~/.config/ringi/config.json`, mode 0600, replaced in one step. `RINGI_PROFILE` (or `--profile`) chooses a
profile, `RINGI_SERVER` and `RINGI_TOKEN` override it. A profile's token is sent to that profile's server and to no other.
"""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from ringi.cli.errors import Usage
from ringi.embedded.folder import locked, write_private

DEFAULT_PROFILE = "default"
DEFAULT_SERVER = "http://127.0.0.1:8400"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Profile(BaseModel):
    """A server and a token for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    server: str
    token: str


class Profiles(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profiles: dict[str, Profile] = {}


class Target(NamedTuple):
    """Where a command goes; `token` None when there is none for this server."""

    server: str
    token: str | None
    profile: str


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
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigUnusable(path, str(error), next_step="Mend or remove the file, then: ringi login.") from None
    if mode & _OTHERS:
        raise ConfigUnusable(path, f"others may read it (mode {stat.S_IMODE(mode):04o})", next_step=f"Close it: chmod 600 {path}.")
    try:
        return Profiles.model_validate_json(text).profiles
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ConfigUnusable(
            path, f"its content is not what ringi writes ({reason})", next_step="Mend or remove it, then: ringi login."
        ) from None


def save_profile(path: Path, name: str, profile: Profile, *, replace: bool) -> None:
    """Add or replace a profile; two writers at once lose nothing. Raises ProfileExists unless `replace`."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(path.with_name(f".{path.name}.lock")):
        known = read_profiles(path)
        if name in known and not replace:
            raise ProfileExists(name, known[name].server)
        write_private(path, Profiles(profiles={**known, name: profile}).model_dump_json(indent=1) + "\n")


def check_profile_is_new(path: Path, name: str) -> None:
    """Before a token is made that would have nowhere to go; raises ProfileExists."""
    if (known := read_profiles(path).get(name)) is not None:
        raise ProfileExists(name, known.server)


def target(environ: Mapping[str, str], *, profile: str | None) -> Target:
    """Server and token of this command."""
    chosen = profile or environ.get("RINGI_PROFILE") or None
    saved = read_profiles(config_path(environ))
    if chosen is not None and chosen not in saved:
        raise NoSuchProfile(chosen, sorted(saved))
    name = chosen or DEFAULT_PROFILE
    known = saved.get(name)
    server = clean_server(environ.get("RINGI_SERVER") or (known.server if known else DEFAULT_SERVER))
    own = known.token if known is not None and known.server == server else None
    return Target(server, environ.get("RINGI_TOKEN") or own, name)
