"""What identity refuses: names, roles and tokens."""

from collections.abc import Sequence

from ringi.identity.permissions import ORGANIZATION_ROLES
from ringi.identity.schemas import Role
from ringi.kit.errors import Conflict, InvalidInput, RingiError


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


class ReservedName(InvalidInput):
    """The name means something else in hub paths."""

    code = "reserved_name"

    def __init__(self, name: str) -> None:
        super().__init__(f"'{name}' is reserved for the platform.", next_step="Choose another name.")


class UnknownScope(InvalidInput):
    """A scope that is no permission."""

    code = "unknown_scope"

    def __init__(self, scopes: Sequence[str]) -> None:
        super().__init__(f"Unknown scopes: {', '.join(scopes)}.", next_step="Scopes are permissions: ringi roles catalogue lists them.")


class WiderToken(RingiError):
    """A narrowed token asked for a token that allows more than it does itself."""

    code, status = "wider_token", 403

    def __init__(self) -> None:
        super().__init__(
            "Your token is narrowed, and the new one would allow more than it does.",
            next_step="Name scopes and the environment that your own token has, or use a token that is not narrowed.",
        )
