"""What a login from a terminal can end with."""

import shlex

from ringi.cli.errors import Usage
from ringi.kit.errors import RingiError


class NoLoginHere(Usage):
    """The server has no identity provider, or the provider has no client for terminals."""

    code = "no_login_here"

    def __init__(self, server: str, lacks: str) -> None:
        super().__init__(f"{server} {lacks}.", next_step=f"Save a token that you were given: ringi login --server {server} --token -.")


class IssuerUnsafe(Usage):
    """The server names an identity provider at an address that others could listen at."""

    code = "issuer_unsafe"

    def __init__(self, issuer: str) -> None:
        super().__init__(
            f"The server's identity provider '{issuer[:200]}' is not at an https:// address.",
            next_step="Ask the server's operator; plain http is good for a provider on this machine alone.",
        )


class IssuerOfAnotherServer(Usage):
    """Another server's people log in at the same provider, so this one would get a token that the other may accept."""

    code = "issuer_of_another_server"

    def __init__(self, server: str, issuer: str, other: str) -> None:
        super().__init__(
            f"{server} names the identity provider {issuer[:200]}, where you log in for {other}: it would get a token that may be good there.",
            next_step=f"If you mean {server}, and your operator says so: ringi login --server {server} --trust-server.",
        )


class ServerNotConfirmed(Usage):
    """Nobody said that the server of a first login is the right one."""

    code = "server_not_confirmed"

    def __init__(self, server: str, issuer: str) -> None:
        super().__init__(
            f"Nobody confirmed that {server} may get a token of {issuer[:200]}.",
            next_step=f"Check the address, then: ringi login --server {server} --trust-server.",
        )


class TokenForAnotherServer(RingiError):
    """The token that the provider gave is for somebody else than the server."""

    code, status = "token_for_another_server", 401

    def __init__(self, server: str, audience: str) -> None:
        super().__init__(
            f"{server} says that tokens are for itself, and the provider's token is for '{audience}'; it was not sent there.",
            next_step=f"Ask your operator whether {server} is theirs; if it is: ringi login --server {server} --trust-server.",
        )


class NoDeviceLogin(Usage):
    """The provider does not offer the device grant."""

    code = "no_device_login"

    def __init__(self, issuer: str) -> None:
        super().__init__(f"{issuer} offers no login with a code (RFC 8628).", next_step="Log in with a browser here: ringi login.")


class PortTaken(Usage):
    """Another program listens where the browser was to come back to."""

    code = "port_taken"

    def __init__(self, port: int, reason: str) -> None:
        super().__init__(
            f"The browser cannot come back to port {port} of this machine: {reason}.",
            next_step="Leave --port out, or choose another one that is registered at the provider.",
        )


class LoginFailed(RingiError):
    """The provider, or what came back from it, says no; `details.reason` is its word."""

    code, status = "login_failed", 401

    def __init__(self, reason: str, description: str = "") -> None:
        said = f": {description}" if description else ""
        super().__init__(f"The login failed ({reason}){said}.", next_step="Try again: ringi login.", details={"reason": reason})


class LoginTimedOut(RingiError):
    """Nobody came back from the browser in time."""

    code, status = "login_timed_out", 401

    def __init__(self, waited_s: float) -> None:
        super().__init__(
            f"Nobody logged in within {waited_s:.0f} s.",
            next_step="Try again: ringi login, or ringi login --device on a machine without a browser.",
        )


class ProviderUnreachable(RingiError):
    """The identity provider does not answer."""

    code, status, retryable = "provider_unreachable", 503, True

    def __init__(self, issuer: str, reason: str) -> None:
        super().__init__(f"The identity provider {issuer} cannot be used: {reason}.", next_step="Try again in a moment.")


class LoginOver(RingiError):
    """The saved login cannot be renewed any more."""

    code, status = "login_over", 401

    def __init__(self, profile: str, server: str, reason: str) -> None:
        super().__init__(
            f"The login of profile '{profile}' is over: {reason}.",
            next_step=f"Log in again: ringi login --server {server} --profile {shlex.quote(profile)}.",
        )
