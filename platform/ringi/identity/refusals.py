"""What identity refuses: names, roles and tokens."""

from collections.abc import Sequence
from datetime import datetime

from ringi.identity.models import ERASED
from ringi.identity.permissions import ORGANIZATION_ROLES
from ringi.identity.schemas import Role
from ringi.kit.errors import Conflict, InvalidInput, RingiError
from ringi.kit.ids import uuid_in


class NameTaken(Conflict):
    """The name is in use."""

    code = "name_taken"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"There is already a {kind} named '{name}'.", next_step="Choose another name, or use the one that exists.")


class RoleExcluded(Conflict):
    """The user holds a role that excludes the new one (governance E1)."""

    code = "role_excluded"

    def __init__(self, user: str, role: Role, held: Role) -> None:
        super().__init__(
            f"'{user}' holds the role '{held}', which excludes '{role}': one person may not both act and control the act.",
            next_step=f"Give '{role}' to someone else, or revoke '{held}' first.",
            details={"role": role, "held": held},
        )


class RoleAlreadyHeld(Conflict):
    """The user holds this very role in this very place, without an end."""

    code = "role_already_held"

    def __init__(self, user: str, role: Role) -> None:
        super().__init__(
            f"'{user}' already holds the role '{role}' there, without an end.",
            next_step="There is nothing to do; to give it an end, revoke it and grant it again.", details={"role": role},
        )  # fmt: skip


class WrongRoleScope(InvalidInput):
    """A project role without a project, or the other way round."""

    code = "wrong_role_scope"

    def __init__(self, role: Role) -> None:
        belongs = "the whole organisation" if role in ORGANIZATION_ROLES else "one project"
        super().__init__(f"The role '{role}' belongs to {belongs}.", next_step="Leave out the project, or name one.")


class RoleTooLong(InvalidInput):
    """A privileged role is held for a year at most, and then given again by someone who looked."""

    code = "role_too_long"

    def __init__(self, role: Role, limit: int) -> None:
        super().__init__(
            f"'{role}' is a privileged role, which is given for {limit} days at most.",
            next_step="Give it for a time, and give it again before it ends: ringi roles list --ending-within 30.",
            details={"role": role, "limit": limit},
        )


class LastingRoleRefused(Conflict):
    """Only the role that hands out roles can be without an end, and only who holds it so hands it on so."""

    code = "lasting_role_refused"

    def __init__(self) -> None:
        super().__init__(
            "Only an identity_admin whose own role has no end gives a role without an end, and only this one.",
            next_step="Leave `lasting` out, or ask the administrator whose role has none: ringi roles list.",
        )


class LastAdministrator(Conflict):
    """Nobody would be left who can hand out roles once all others have ended."""

    code = "last_administrator"

    def __init__(self) -> None:
        super().__init__(
            "This is the organisation's last identity_admin whose role has no end; without one it could lock itself out.",
            next_step="Hand it on first: ringi roles grant NAME identity_admin --lasting.",
        )


class ReservedName(InvalidInput):
    """The name means something else in hub paths, or would be taken for a person that was erased, or for another one's id."""

    code = "reserved_name"

    def __init__(self, name: str) -> None:
        super().__init__(f"'{name}' is reserved for the platform.", next_step="Choose another name.")


def require_own_name(name: str) -> None:
    """Nobody is called as an erased person, or as somebody's id. Raises ReservedName."""
    if name.startswith(ERASED) or uuid_in(name) is not None:
        raise ReservedName(name)


class UnknownScope(InvalidInput):
    """A scope that is no permission."""

    code = "unknown_scope"

    def __init__(self, scopes: Sequence[str]) -> None:
        super().__init__(f"Unknown scopes: {', '.join(scopes)}.", next_step="Scopes are permissions: ringi roles catalogue lists them.")


class NoIdentityProvider(Conflict):
    """A subject means nothing without a provider that names it."""

    code = "no_identity_provider"

    def __init__(self) -> None:
        super().__init__(
            "This deployment has no identity provider, so its people are local users with tokens.",
            next_step="Leave the subject out, or name the provider that the deployment will have: ringi users link NAME SUBJECT --issuer URL.",
        )


class IssuerDiffers(InvalidInput):
    """A person would be linked to another provider than the one whose logins are believed."""

    code = "issuer_differs"

    def __init__(self, issuer: str) -> None:
        super().__init__(f"The identity provider of this deployment is '{issuer}'.", next_step="Leave the issuer out, or name this one.")


class NotAPerson(Conflict):
    """A service account does not log in."""

    code = "not_a_person"

    def __init__(self, user: str) -> None:
        super().__init__(f"'{user}' is a service account.", next_step="Issue it a token: ringi tokens issue.")


class SubjectSet(Conflict):
    """A user stays the person that it was."""

    code = "subject_set"

    def __init__(self, user: str) -> None:
        super().__init__(
            f"'{user}' has a subject already, and it is not changed: who could change it could act as that person.",
            next_step="Disable this user and create another one for the other person.",
        )


class SubjectInUse(Conflict):
    """One person is one user."""

    code = "subject_in_use"

    def __init__(self) -> None:
        super().__init__("Another user has this subject.", next_step="Check the subject with your identity provider.")


class SubjectNeeded(InvalidInput):
    """The first administrator could not log in."""

    code = "subject_needed"

    def __init__(self) -> None:
        super().__init__(
            "People of this deployment log in at its identity provider, and the first administrator has no subject.",
            next_step="Name the administrator's subject (`sub`) at the provider.",
        )


class TokenRevoked(Conflict):
    """The token was ended before."""

    code = "token_revoked"

    def __init__(self, at: datetime) -> None:
        super().__init__(f"This token was revoked at {at:%Y-%m-%d %H:%M:%S} UTC.", next_step="There is nothing to do.")


class UserDisabled(Conflict):
    """The user is disabled."""

    code = "user_disabled"

    def __init__(self, user: str) -> None:
        super().__init__(f"'{user}' is disabled already.", next_step="There is nothing to do.")


class DisablingOneself(Conflict):
    """An administrator would lock themself out."""

    code = "disabling_oneself"

    def __init__(self) -> None:
        super().__init__("You cannot disable yourself.", next_step="Ask another identity_admin to do it.")


class UserEnabled(Conflict):
    """The user is not disabled."""

    code = "user_enabled"

    def __init__(self, user: str) -> None:
        super().__init__(f"'{user}' is not disabled.", next_step="There is nothing to do.")


class UserErased(Conflict):
    """The user was erased for good."""

    code = "user_erased"

    def __init__(self, user: str) -> None:
        super().__init__(f"'{user}' was erased.", next_step="There is nothing to do; a person who comes back gets a new user.")


class ErasingOneself(Conflict):
    """An administrator would lock themself out."""

    code = "erasing_oneself"

    def __init__(self) -> None:
        super().__init__("You cannot erase yourself.", next_step="Ask another identity_admin to do it.")


class TokenForAnother(RingiError):
    """A person's token is made by that person alone."""

    code, status = "token_for_another", 403

    def __init__(self, user: str) -> None:
        super().__init__(
            f"'{user}' logs in at the identity provider; a token made for them by someone else would let that one act as them.",
            next_step="Let them make their own: ringi tokens mine. Service accounts get theirs from an identity_admin.",
        )


class OwnTokenNeedsLogin(RingiError):
    """A token makes no token."""

    code, status = "own_token_needs_login", 403

    def __init__(self) -> None:
        super().__init__(
            "A token of one's own is made with a login at the identity provider, not with another token.",
            next_step="Log in there and repeat it; where there is no identity provider, ask an identity_admin: ringi tokens issue.",
        )


class WiderToken(RingiError):
    """A narrowed token asked for a token that allows more than it does itself."""

    code, status = "wider_token", 403

    def __init__(self) -> None:
        super().__init__(
            "Your token is narrowed, and the new one would allow more than it does.",
            next_step="Name scopes, networks and the environment that your own token has, or use a token that is not narrowed.",
        )


class LimitTooHigh(InvalidInput):
    """A token would be let send more than the deployment lets any token send."""

    code, status = "limit_too_high", 422

    def __init__(self, most: int) -> None:
        super().__init__(
            f"No token of this deployment may send more than {most} requests a minute.",
            next_step=f"Choose 1 to {most}, or null for the deployment's own limit; its operator sets that (RINGI_REQUESTS_PER_MINUTE).",
            details={"most": most},
        )
