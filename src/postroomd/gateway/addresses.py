"""Addresses of clients, directly connected or behind trusted proxies."""

from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

MAX_HOPS = 32
"""Entries of X-Forwarded-For that are examined, from the right."""

Network = IPv4Network | IPv6Network


class TrustedProxies:
    """Networks whose X-Forwarded-For is believed."""

    def __init__(self, networks: Collection[str]) -> None:
        """Take networks in CIDR notation. Raises ValueError."""
        self._networks: list[Network] = [ip_network(network) for network in networks]

    def __contains__(self, address: str) -> bool:
        if not self._networks:
            return False
        parsed = _parse(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def client_address(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return the address of the client behind `peer`, a trusted proxy, from its X-Forwarded-For headers.

        Each proxy appends the address of its own peer, so that the rightmost address outside the trusted networks is
        the client's; a client can forge only what is left of it. Returns the last proxy before an invalid entry.
        """
        client = peer
        for entry in reversed(",".join(forwarded).split(",")[-MAX_HOPS:]):
            address = _parse(_without_port(entry.strip()))
            if address is None:
                break
            client = str(address)
            if client not in self:
                break
        return client


def canonical_address(address: str) -> str:
    """Return an IP address in its shortest form, an IPv4-mapped IPv6 address as IPv4; other text unchanged."""
    parsed = _parse(address)
    return address if parsed is None else str(parsed)


def address_group(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 network of an IPv6 address."""
    parsed = _parse(address)
    return str(IPv6Network((int(parsed) >> 64 << 64, 64))) if isinstance(parsed, IPv6Address) else address


def _parse(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    return parsed.ipv4_mapped or parsed if isinstance(parsed, IPv6Address) else parsed


def _without_port(entry: str) -> str:
    """Return the address of `IPv4`, `IPv4:PORT`, `IPv6` or `[IPv6]:PORT`."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry
