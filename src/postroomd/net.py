"""Network addresses: parsing and formatting of `HOST:PORT` and `[IPv6]:PORT`, and of host names."""

import re
from ipaddress import IPv6Address, ip_address, ip_network

ADDRESS_EXPECTED = "expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080"

LOOPBACK_OF_WILDCARD = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""Wildcard listen address -> the address that reaches it from the same machine."""

_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>\d{1,5})", re.ASCII)

_ORIGIN = re.compile(r"https?://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?")

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")


def split_address(address: str) -> tuple[str, int]:
    """Return the host, without brackets, and the port of `HOST:PORT` or `[IPv6]:PORT`. Raises ValueError otherwise."""
    match = _ADDRESS.fullmatch(address)
    if not match or int(match["port"]) > 65_535:
        raise ValueError(ADDRESS_EXPECTED)
    if match["ipv6"]:
        try:
            IPv6Address(match["ipv6"])
        except ValueError:
            raise ValueError(ADDRESS_EXPECTED) from None  # its text would repeat the value
    return match["ipv6"] or match["host"], int(match["port"])


def join_address(host: str, port: int) -> str:
    """Return `HOST:PORT`, with an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(address: str) -> bool:
    """Whether `HOST:PORT` is reachable from this machine only."""
    try:
        host = split_address(address)[0]
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def connectable(address: str) -> str:
    """Return the HOST:PORT that reaches a server on this machine which listens on `address`, perhaps a wildcard."""
    host, port = split_address(address)
    return join_address(LOOPBACK_OF_WILDCARD.get(host, host), port)


def split_list(text: str) -> tuple[str, ...]:
    """Return the items of a comma-separated list, without surrounding spaces and empty items."""
    return tuple(item for part in text.split(",") if (item := part.strip()))


def canonical_origins(text: str) -> str:
    """Return a list of web origins as browsers send them, in lower case. Raises ValueError for an invalid one."""
    origins = split_list(text.lower())
    if not all(_ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError("expected origins such as https://app.example.org, comma-separated, without a path")
    return ",".join(origins)


def canonical_endpoint(text: str) -> str:
    """Return the URL of a gRPC endpoint, in lower case without a path. Raises ValueError for an invalid one."""
    endpoint = text.lower().removesuffix("/")
    if not _ORIGIN.fullmatch(endpoint):
        raise ValueError("expected a URL such as http://127.0.0.1:4317, or https:// for TLS, without a path")
    return endpoint


def canonical_networks(text: str) -> str:
    """Return a list of IP networks in CIDR notation. Raises ValueError for an invalid one."""
    try:
        return ",".join(str(ip_network(network)) for network in split_list(text))
    except ValueError:
        raise ValueError("expected networks such as 10.0.0.0/8 or 2001:db8::/32, comma-separated") from None


def canonical_host_names(text: str) -> str:
    """Return a list of host names in lower case, comma-separated. Raises ValueError for an invalid one."""
    return ",".join(canonical_host_name(name) for name in split_list(text))


def canonical_host_name(name: str) -> str:
    """Return a host name in lower case without a trailing dot. Raises ValueError for an invalid one."""
    name = name.lower().removesuffix(".")
    if not _HOST_NAME.fullmatch(name):
        raise ValueError("expected a host name, such as mx.example.org")
    return name
