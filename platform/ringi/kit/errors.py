"""Every refusal of the platform says what is, what was needed and what to do next, under a stable code.

The tree: `RingiError` (code, status, message, next_step, details) and under it, here, the refusals that every domain shares:
`NotFound` 404, `Forbidden` 403, `Unauthenticated` 401, `Conflict` 409, `InvalidInput` 400. A domain's own refusals stand beside the
service that raises them, e.g. `training.service.RunInProgress`. `status` is the HTTP status; workers store `code` and `message`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple
from uuid import UUID


class RingiError(Exception):
    """A refusal with a stable `code`. `details` is JSON-ready and may carry the list of reasons."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    # A worker retries an error only when trying again could end otherwise.
    retryable: ClassVar[bool] = False
    # The header Retry-After of its answer, in seconds; None when no time would mend it.
    retry_after_s: int | None = None
    # More headers of its answer.
    answer_headers: Mapping[str, str] = MappingProxyType({})
    # Whether the audit log has it already: who denies something writes it down where it is known best what it was.
    noted: bool = False

    def __init__(self, message: str, *, next_step: str = "", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.details: dict[str, Any] = dict(details or {})

    def __str__(self) -> str:
        return f"{self.message} {self.next_step}".strip()

    def __reduce__(self) -> tuple[Callable[..., "RingiError"], tuple[Any, ...]]:
        # Between processes as it is: a subclass is made from what happened, and pickle would make it from what it says.
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[RingiError], said: tuple[Any, ...], known: dict[str, Any]) -> RingiError:
    error = kind.__new__(kind)
    error.args = said
    error.__dict__.update(known)
    return error


class NotFound(RingiError):
    """The thing does not exist, or the caller may not know that it does: one answer for both."""

    code, status = "not_found", 404

    def __init__(self, kind: str, reference: object) -> None:
        super().__init__(
            f"There is no {kind} '{reference}' here.",
            next_step="Check the reference, and that you may see it: ringi whoami.",
            details={"kind": kind, "reference": str(reference)},
        )


class ShownToken(NamedTuple):
    """A token of the platform, a session of a browser, or a login of a known user, that someone showed, and whose it is."""

    id: UUID
    organization_id: UUID
    kind: str = "token"


class Unauthenticated(RingiError):
    """No token, or one that is unknown, expired or revoked. `token` is known where it is one of the platform's."""

    code, status = "unauthenticated", 401

    def __init__(
        self, message: str = "This request carries no valid token.", *, reason: str = "missing", token: ShownToken | None = None
    ) -> None:
        self.token = token
        super().__init__(
            message,
            next_step="Send 'Authorization: Bearer hf_rgi…', or ask an identity_admin for a new token.",
            details={"reason": reason},
        )


class Forbidden(RingiError):
    """The caller is known but holds no role that allows the action."""

    code, status = "forbidden", 403

    def __init__(self, permission: str, *, where: str = "this project") -> None:
        super().__init__(
            f"Your roles in {where}, or the scopes of this token, do not allow '{permission}'.",
            next_step="Use a token whose scopes include it, or ask an identity_admin for a role that has it: ringi roles catalogue.",
            details={"permission": permission},
        )


class Conflict(RingiError):
    """The state of things does not allow the action now."""

    code, status = "conflict", 409


class InvalidInput(RingiError):
    """The request is well-formed but its content cannot be accepted; `details['reasons']` lists why."""

    code, status = "invalid_input", 400
