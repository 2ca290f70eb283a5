"""A service token is bound to one deployment environment (governance H3), whatever its owner's roles allow."""

from ringi.kit.actor import Actor
from ringi.kit.errors import RingiError


class OtherEnvironment(RingiError):
    """The token belongs to another environment."""

    code, status = "other_environment", 403

    def __init__(self, bound: str, asked: str) -> None:
        super().__init__(
            f"This token is bound to the environment '{bound}' and may not act on '{asked}'.", next_step="Use a token of that environment."
        )


def bound_to(actor: Actor, environment: str) -> None:
    """Raise OtherEnvironment when the caller's token is bound to another environment than the one acted upon."""
    if actor.environment is not None and actor.environment != environment:
        raise OtherEnvironment(actor.environment, environment)
