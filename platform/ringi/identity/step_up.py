"""What a token alone is not enough for: votes, roles, tokens and policies need the person, freshly logged in (governance E2; RFC 9470).

In force where the deployment has an identity provider. Without one people are local users, and their tokens are all there is.
"""

from collections.abc import Mapping

from ringi.identity.permissions import Permission
from ringi.identity.provider import get_provider
from ringi.kit.actor import Actor, Login
from ringi.kit.errors import Unauthenticated
from ringi.settings import get_settings

# Whoever judges, hands out roles or makes the rules. Stopping something (a revocation) must stay quick, so it is not here.
STEPPED_UP = frozenset({Permission.APPROVAL_VOTE, Permission.IDENTITY_MANAGE, Permission.POLICY_WRITE})


class FreshLoginNeeded(Unauthenticated):
    """The caller is known, but not by a login that is fresh and sure enough for this."""

    code = "insufficient_user_authentication"

    def __init__(self, what: str, *, max_age_s: int | None, acr: str | None) -> None:
        super().__init__(f"This needs a login at the identity provider: {what}.", reason="step_up")
        self.next_step = (
            "Log in again there" + (f" (at most {max_age_s} s ago)" if max_age_s else "") + (f" with acr '{acr}'" if acr else "")
        )
        self.next_step += ", and repeat the request: ringi login --fresh in a terminal, /auth/login?fresh=1 in a browser."
        self.details |= {"max_age": max_age_s, "acr_values": acr}
        asked = ['error="insufficient_user_authentication"']
        asked += [f'acr_values="{acr}"'] if acr else []
        asked += [f'max_age="{max_age_s}"'] if max_age_s else []
        # RFC 9470, section 3.
        self.answer_headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer " + ", ".join(asked)}


def check(actor: Actor, permission: Permission) -> None:
    """Raises FreshLoginNeeded where `permission` needs a person and this caller has not proved to be one lately."""
    if permission not in STEPPED_UP or get_provider() is None:
        return
    settings = get_settings()
    max_age_s, acr = settings.step_up_max_age_s, settings.step_up_acr
    missing = _missing(actor.login, max_age_s, acr)
    if missing is not None:
        raise FreshLoginNeeded(missing, max_age_s=int(max_age_s) if max_age_s else None, acr=acr)


def _missing(login: Login | None, max_age_s: float | None, acr: str | None) -> str | None:
    """What the caller's login lacks; None when it is enough."""
    if login is None:
        return "a token of this platform may be in anybody's hands"
    if max_age_s and login.age_s is None:
        return "it does not say when you logged in"
    if max_age_s and login.age_s is not None and login.age_s > max_age_s:
        return f"yours was {int(login.age_s)} s ago"
    if acr and login.acr != acr:
        return f"yours has acr '{login.acr or 'none'}'"
    return None
