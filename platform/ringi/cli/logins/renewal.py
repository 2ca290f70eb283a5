"""A saved login: its access token renewed with the refresh token, and ended at the provider.

A provider that rotates refresh tokens (RFC 9700, 4.14.2) takes each once and may end the whole login when one comes twice. So two processes of one
person never use the same: whoever renews holds the lock of the profiles' file, and who waited for it finds the newer token there.
"""

from pathlib import Path
from typing import NamedTuple

from ringi.cli import contexts
from ringi.cli.bearer import Held, over_at
from ringi.cli.contexts import Profile, Profiles, SavedLogin
from ringi.cli.logins.refusals import LoginOver, ProviderUnreachable
from ringi.oidc.client import Away, OAuthClient, Refused


class Whose(NamedTuple):
    """The login that a command began with; `subject` is None where the provider's tokens do not say it."""

    server: str
    login: SavedLogin

    def ended_by(self, known: Profile) -> str | None:
        """Why what the profile holds now is not the same login any more; a token of it would reach a server that it is not for."""
        if known.server != self.server:
            return f"it is of {known.server} now"
        if known.login is None:
            return None
        if known.login.issuer != self.login.issuer:
            return f"it is a login at {known.login.issuer} now"
        if None not in {known.login.subject, self.login.subject} and known.login.subject != self.login.subject:
            return "somebody else has logged in"
        return None


def renewed(path: Path, name: str, stale: str, *, of: Whose) -> Held:
    """A token of the profile `name` that is newer than `stale`, of the same person at the same server.

    Raises LoginOver, ProviderUnreachable, NoSuchProfile.
    """
    held = Held(stale)

    def changed(config: Profiles) -> Profiles:
        nonlocal held
        known = contexts.known_profile(config, name)
        ended = of.ended_by(known)
        if ended is not None:
            raise LoginOver(name, of.server, ended)
        fresh = known if known.token != stale else _refreshed(known, name)
        if fresh.token is None or fresh.login is None:
            raise LoginOver(name, known.server, "another process logged out")
        held = Held(fresh.token, fresh.login.over_at)
        return contexts.with_profile(config, name, fresh)

    contexts.change(path, changed)
    return held


def _refreshed(known: Profile, name: str) -> Profile:
    login = known.login
    if login is None or login.refresh_token is None:
        raise LoginOver(name, known.server, "the access token has expired, and there is no refresh token")
    try:
        got = OAuthClient(login.client_id, login.token_endpoint).by_refresh(login.refresh_token, **login.asked)
    except Refused as refusal:
        raise LoginOver(name, known.server, str(refusal)) from refusal
    except Away as away:
        raise ProviderUnreachable(login.issuer, str(away)) from away
    # RFC 6749, section 6: no new refresh token means that the old one goes on being good.
    newer = login.model_copy(update={"refresh_token": got.refresh_token or login.refresh_token, "over_at": over_at(got.lasts_s)})
    return known.model_copy(update={"token": got.access_token, "login": newer})


def forget(path: Path, name: str) -> Profile:
    """Take the tokens out of a profile, whose server and project stay; returns what it was. Raises NoSuchProfile."""
    found: list[Profile] = []

    def changed(config: Profiles) -> Profiles:
        found.append(contexts.known_profile(config, name))
        return contexts.with_profile(config, name, found[0].model_copy(update={"token": None, "login": None}))

    contexts.change(path, changed)
    return found[0]


def revoke(login: SavedLogin) -> str | None:
    """End the login at its provider (RFC 7009); returns why that could not be, or None."""
    if login.revocation_endpoint is None or login.refresh_token is None:
        return "the provider has no revocation for it"
    try:
        OAuthClient(login.client_id, login.token_endpoint).revoke(login.revocation_endpoint, login.refresh_token, kind="refresh_token")
    except (Refused, Away) as error:
        return str(error)
    return None
