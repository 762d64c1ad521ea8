"""Listen addresses: parsing and formatting `HOST:PORT` and `[IPv6]:PORT`."""

import re
from ipaddress import IPv6Address, ip_address

_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>\d{1,5})", re.ASCII)
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""Addresses that a server listens on -> what reaches it from its own machine."""


def split_address(address: str) -> tuple[str, int]:
    """Host, without brackets, and port of `HOST:PORT` or `[IPv6]:PORT`. Raises ValueError for anything else."""
    match = _ADDRESS.fullmatch(address)
    if not match or int(match["port"]) > 65_535:
        raise ValueError("HOST:PORT is expected, such as 127.0.0.1:8080 or [::1]:8080")
    if match["ipv6"]:
        IPv6Address(match["ipv6"])
    return match["ipv6"] or match["host"], int(match["port"])


def join_address(host: str, port: int) -> str:
    """`HOST:PORT`, with an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(address: str) -> bool:
    """Whether `HOST:PORT` is one that this machine alone reaches."""
    try:
        host = split_address(address)[0]
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def connectable(address: str) -> str:
    """HOST:PORT by which to reach what listens on `address`, on this machine where that is a wildcard."""
    host, port = split_address(address)
    return join_address(WILDCARDS.get(host, host), port)
