"""Configuration of DNS lookups: resolvers, limits, and which addresses may be queried."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import dns.exception
import dns.resolver

DNS_PORT = 53

_GLOBAL_UNICAST = IPv6Network("2000::/3")  # RFC 4291, section 2.4: all that IANA has allocated
_DOCUMENTATION = IPv6Network("3fff::/20")  # RFC 9637, unknown to older releases of Python
_SIX_TO_FOUR = IPv6Network("2002::/16")  # RFC 3056: embeds an IPv4 address, possibly a private one


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """Address and port of a DNS server."""

    address: str
    port: int = DNS_PORT

    def __str__(self) -> str:
        if self.port == DNS_PORT:
            return self.address
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsConfig:
    """Lookup settings. Raises ValueError for an invalid value.

    `resolvers` are recursive resolvers (`IP`, `IP:PORT` or `[IPv6]:PORT`), by default the system's; they are asked
    only which servers are authoritative. Limits: `timeout_seconds` per query, and per domain `deadline_seconds`,
    `concurrency` (parallel queries), `max_packets` (to authoritative servers: each retransmission is one, and each TCP
    exchange) and `max_resolver_queries`. A domain's owner controls the addresses of its name servers: `allow_private`
    permits queries to addresses that are not globally routable.
    """

    resolvers: tuple[str, ...] = ()
    timeout_seconds: float = 3.0
    deadline_seconds: float = 20.0
    authoritative_port: int = DNS_PORT
    allow_private: bool = False
    max_packets: int = 80
    max_resolver_queries: int = 120
    concurrency: int = 8

    def __post_init__(self) -> None:
        for resolver in self.resolvers:
            parse_endpoint(resolver)
        limits = ("timeout_seconds", "deadline_seconds", "max_packets", "max_resolver_queries", "concurrency")
        for name in ("authoritative_port", *limits):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0")

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return the resolvers to query. Raises ValueError if none is configured and the system has none."""
        if self.resolvers:
            return tuple(map(parse_endpoint, self.resolvers))
        try:
            system = dns.resolver.Resolver()
        except dns.exception.DNSException as error:
            raise ValueError("the system has no DNS resolver: configure one in the settings") from error
        return tuple(parse_endpoint(str(address)) for address in system.nameservers)


def parse_endpoint(text: str) -> Endpoint:
    """Parse `IP`, `IP:PORT` or `[IPv6]:PORT`. Raises ValueError for anything else, host names included."""
    try:
        return Endpoint(str(ip_address(text)))
    except ValueError:
        host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ip_address(bare)
        # Without brackets, an IPv6 address and a port are ambiguous.
        well_formed = (bare is not host) == isinstance(address, IPv6Address) and port.isascii() and port.isdigit()
        if well_formed and 0 < int(port) <= 65_535:
            return Endpoint(str(address), int(port))
    except ValueError:
        pass
    raise ValueError("expected IP, IP:PORT or [IPv6]:PORT, for example 192.0.2.53 or [2001:db8::53]:53")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address is globally routable unicast."""
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast
    # IPv4-mapped (::ffff:0:0/96) and NAT64 (64:ff9b::/96) addresses are outside 2000::/3.
    excluded = address in _SIX_TO_FOUR or address in _DOCUMENTATION
    return address in _GLOBAL_UNICAST and not excluded and address.is_global
