"""Whom to ask, and for how long: the configuration of the look-ups, and which addresses may be asked at all."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import dns.exception
import dns.resolver

DNS_PORT = 53

_GLOBAL_UNICAST = IPv6Network("2000::/3")  # RFC 4291, section 2.4, and all that IANA has given out
_SIX_TO_FOUR = IPv6Network("2002::/16")  # RFC 3056: these carry an IPv4 address, a private one too


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """Where a DNS server listens."""

    address: str
    port: int = DNS_PORT

    def __str__(self) -> str:
        if self.port == DNS_PORT:
            return self.address
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsConfig:
    """How domains are looked up. Raises ValueError where a value makes no sense.

    `resolvers` are recursive resolvers, each `IP`, `IP:PORT` or `[IPv6]:PORT`; the system's own where there are none.
    They only say which servers are a domain's; the records come from those servers. `timeout_seconds` bounds the wait
    for one server, `deadline_seconds` all of one domain's look-ups, `max_queries` what is sent for one domain, and
    `concurrency` how many answers are awaited at once for it. A domain's owner chooses the addresses of its servers:
    `allow_private` is whether the operator's own networks may be among them.
    """

    resolvers: tuple[str, ...] = ()
    timeout_seconds: float = 3.0
    deadline_seconds: float = 20.0
    authoritative_port: int = DNS_PORT
    allow_private: bool = False
    max_queries: int = 100
    concurrency: int = 8

    def __post_init__(self) -> None:
        for resolver in self.resolvers:
            parse_endpoint(resolver)
        for name in ("timeout_seconds", "deadline_seconds", "authoritative_port", "max_queries", "concurrency"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0")

    def endpoints(self) -> tuple[Endpoint, ...]:
        """The resolvers to ask. Raises ValueError where the system has none."""
        if self.resolvers:
            return tuple(map(parse_endpoint, self.resolvers))
        try:
            system = dns.resolver.Resolver()
        except dns.exception.DNSException as error:
            raise ValueError("the system has no DNS resolver: name one in the settings") from error
        return tuple(parse_endpoint(str(address)) for address in system.nameservers)


def parse_endpoint(text: str) -> Endpoint:
    """The server at `IP`, `IP:PORT` or `[IPv6]:PORT`. Raises ValueError for anything else, a host name included."""
    try:
        return Endpoint(str(ip_address(text)))
    except ValueError:
        host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ip_address(bare)
        # Without brackets an IPv6 address swallows the port, or a part of it.
        well_formed = (bare is not host) == isinstance(address, IPv6Address) and port.isascii() and port.isdigit()
        if well_formed and 0 < int(port) <= 65_535:
            return Endpoint(str(address), int(port))
    except ValueError:
        pass
    raise ValueError("IP, IP:PORT or [IPv6]:PORT is expected, such as 192.0.2.53 or [2001:db8::53]:53")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one of the public internet, rather than of the operator's own networks."""
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast
    # Mapped (::ffff:0:0/96) and translated (64:ff9b::/96) IPv4 addresses lie outside 2000::/3.
    return address in _GLOBAL_UNICAST and address not in _SIX_TO_FOUR and address.is_global
