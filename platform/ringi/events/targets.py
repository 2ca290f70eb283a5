"""Where a delivery may go. A receiver's address is somebody's free text, and our process stands inside the network: so a name is resolved
once, every address of it is judged, and the connection goes to an address that was judged and to no other (no second look-up).

Names come from DNS alone (no hosts file, no numbers in disguise such as `127.1`), within three seconds. Judged when a subscription is made
and again at every delivery, because an answer of DNS is good for one moment only (DNS rebinding).
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

import dns.exception
import dns.resolver
import httpx

from ringi.kit.errors import InvalidInput
from ringi.settings import Settings, get_settings

Address = IPv4Address | IPv6Address
RESOLVE_S = 3.0
MAX_URL = 2000
_DEFAULT_PORTS = {"http": 80, "https": 443}

# IANA IPv4 special-purpose registry, and what clouds put beside it.
_REFUSED_V4: tuple[tuple[IPv4Network, str], ...] = tuple(
    (IPv4Network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this network"), ("10.0.0.0/8", "private"), ("100.64.0.0/10", "carrier NAT"), ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "cloud metadata"), ("169.254.0.0/16", "link-local and cloud metadata"), ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"), ("192.0.2.0/24", "documentation"), ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"), ("198.18.0.0/15", "benchmarking"), ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"), ("224.0.0.0/4", "multicast"), ("240.0.0.0/4", "reserved or broadcast"),
    )
)  # fmt: skip
# Of IPv6 only global unicast (2000::/3) is public at all; these are exceptions inside it.
_GLOBAL_V6 = IPv6Network("2000::/3")
_REFUSED_V6: tuple[tuple[IPv6Network, str], ...] = tuple(
    (IPv6Network(network), what)
    for network, what in (
        ("2001::/23", "protocol assignments and Teredo"), ("2001:db8::/32", "documentation"), ("2002::/16", "6to4"), ("3fff::/20", "documentation"),
    )
)  # fmt: skip
_NAT64 = IPv6Network("64:ff9b::/96")
# ISATAP (RFC 5214): an IPv4 address behind this interface identifier.
_ISATAP = {0x00005EFE, 0x02005EFE}


class TargetRefused(InvalidInput):
    """A webhook must not go there: `details['reason']` says which rule. Also the outcome of a delivery whose receiver moved."""

    code = "webhook_target_refused"

    def __init__(
        self, reason: str, *, next_step: str = "Name a receiver on the public internet, or ask the operator to allow its network."
    ) -> None:
        super().__init__(f"The webhook's target is refused: {reason}.", next_step=next_step, details={"reason": reason})


class TargetUnresolved(InvalidInput):
    """DNS knows no address of the receiver."""

    code = "webhook_target_unresolved"

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(
            f"DNS gives no address of '{host}': {reason}.", next_step="Check the name; a hosts file is not read.", details={"host": host}
        )


class Target(NamedTuple):
    """A parsed address that obeys every rule that needs no look-up."""

    url: httpx.URL
    scheme: str
    host: str
    port: int


class Checked(NamedTuple):
    """A target and the judged addresses to connect to, in the order of DNS."""

    target: Target
    addresses: tuple[Address, ...]


def parse(url: str, settings: Settings | None = None) -> Target:
    """The target of an address; raises TargetRefused for a scheme, a port or a form that is not taken."""
    settings = settings or get_settings()
    if len(url) > MAX_URL or not url.isascii() or any(character <= " " or character in '\\"<>\x7f' for character in url):
        raise TargetRefused("the address is too long, or holds characters that must be percent-encoded", next_step="Send a plain URL.")
    try:
        parsed = httpx.URL(url)
        host, port = parsed.raw_host.decode("ascii"), parsed.port or _DEFAULT_PORTS.get(parsed.scheme, 0)
    except (httpx.InvalidURL, ValueError):
        raise TargetRefused("this is no URL", next_step="Send a plain URL, such as https://hooks.example.com/ringi.") from None
    schemes = ("https",) if settings.profile == "production" else ("https", "http")
    if parsed.scheme not in schemes:
        raise TargetRefused(
            f"'{parsed.scheme}' is not one of {', '.join(schemes)}", next_step="Give the receiver a certificate, and use https."
        )
    if not host or parsed.userinfo or parsed.fragment:
        raise TargetRefused(
            "it must have a host, and neither a user nor a fragment", next_step="Put a token into the path, or check our signature."
        )
    if not any(port in ports for ports in settings.webhook_ports):
        raise TargetRefused(f"port {port} is not allowed here", next_step="Use 443, or ask the operator to allow the port.")
    return Target(parsed, parsed.scheme, host, port)


def resolve(host: str, settings: Settings | None = None) -> tuple[Address, ...]:
    """Every address of a host, by one question to DNS for each family; a literal address is itself. Raises TargetUnresolved."""
    settings = settings or get_settings()
    try:
        return (ip_address(host.strip("[]")),)
    except ValueError:
        pass
    try:
        resolver = dns.resolver.Resolver(configure=not settings.webhook_dns)
        if settings.webhook_dns:
            server, _, port = settings.webhook_dns.rpartition(":")
            resolver.nameservers, resolver.port = [server.strip("[]")], int(port)
        answers = resolver.resolve_name(host.rstrip(".") + ".", lifetime=RESOLVE_S)
    except dns.exception.DNSException as error:
        raise TargetUnresolved(host, type(error).__name__) from error
    found = tuple(ip_address(address) for address in answers.addresses())
    if not found:
        raise TargetUnresolved(host, "NoAnswer")
    return found


def refusal_of(address: Address, allowed: tuple[IPv4Network | IPv6Network, ...] = ()) -> str | None:
    """Why nothing may be sent to `address`, None when it may; `allowed` are the operator's exceptions."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in allowed if network.version == address.version):
        return None
    if isinstance(address, IPv4Address):
        return next((what for network, what in _REFUSED_V4 if address in network), None)
    if address.scope_id is not None:
        return "an address with a scope"
    if address in _NAT64:
        return refusal_of(IPv4Address(int(address) & 0xFFFFFFFF))
    if address not in _GLOBAL_V6:
        return "not a global unicast address"
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return "ISATAP"
    return next((what for network, what in _REFUSED_V6 if address in network), None)


def check(url: str, settings: Settings | None = None) -> Checked:
    """Parse, resolve once, judge every address. One forbidden address refuses the whole name. Raises TargetRefused, TargetUnresolved."""
    settings = settings or get_settings()
    target = parse(url, settings)
    addresses = resolve(target.host, settings)
    for address in addresses:
        if (what := refusal_of(address, settings.webhook_allowed_networks)) is not None:
            # Not the address itself: who may make a subscription need not know what the names of this network stand for.
            raise TargetRefused(f"'{target.host}' is at an address that nothing is sent to ({what})")
    return Checked(target, addresses)
