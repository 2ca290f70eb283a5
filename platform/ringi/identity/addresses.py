"""Where a token may be used from: networks in CIDR form (RFC 4632, RFC 4291); a token without any may be used from everywhere.

The address is that of the connection, or what a trusted proxy in front says it was (uvicorn's `FORWARDED_ALLOW_IPS`, which is nobody unless the operator names one).
"""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator

from ringi.kit.actor import Actor
from ringi.kit.errors import ShownToken, Unauthenticated

MAX_NETWORKS = 32
_MAPPED_PREFIX = 96  # of IPv4 addresses in IPv6, RFC 4291 section 2.5.5.2


def _network(text: str) -> str:
    network = ip_network(text, strict=True)
    if network.version == 6 and network.prefixlen >= _MAPPED_PREFIX and (mapped := network.network_address.ipv4_mapped):  # noqa: PLR2004  # IPv6
        raise ValueError(f"write it as IPv4: {mapped}/{network.prefixlen - _MAPPED_PREFIX}")
    return str(network)


# `10.1.2.0/24`, `2001:db8::/48`, or one address; host bits that are set beside the prefix are a slip, and refused.
NetworkText = Annotated[str, AfterValidator(_network)]


class WrongAddress(Unauthenticated):
    """The token is good, and is shown from where it may not be used: it may be in the wrong hands."""

    code, status = "wrong_address", 401

    def __init__(self, address: str, token: ShownToken | None) -> None:
        super().__init__(f"This token may not be used from {address}.", reason="address", token=token)
        self.next_step = "Use it from where it was made for. If it was not you, revoke it: ringi tokens revoke."


def check(actor: Actor, address: str | None) -> None:
    """Raises WrongAddress; an address that is not known is a wrong one."""
    if actor.networks is None:
        return
    if not _within(address, [ip_network(one) for one in actor.networks]):
        token = ShownToken(actor.token_id, actor.organization_id) if actor.token_id and actor.organization_id else None
        raise WrongAddress(address or "an unknown address", token)


def _within(address: str | None, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    try:
        shown = ip_address(address or "")
    except ValueError:
        return False
    # A socket of both families shows IPv4 callers this way.
    plain = getattr(shown, "ipv4_mapped", None) or shown
    return any(plain in network for network in networks)


def narrows(wanted: Sequence[str] | None, held: Sequence[str] | None) -> bool:
    """Whether everything in `wanted` is also in `held`; None is everywhere."""
    if held is None:
        return True
    if wanted is None:
        return False
    outer = [ip_network(one) for one in held]
    return all(any(_holds(one, network) for one in outer) for network in map(ip_network, wanted))


def _holds(outer: IPv4Network | IPv6Network, inner: IPv4Network | IPv6Network) -> bool:
    return outer.version == inner.version and inner.network_address in outer and inner.broadcast_address in outer
