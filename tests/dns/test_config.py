"""Parsing of DNS settings, and which addresses may be queried."""

from ipaddress import ip_address
from typing import Any

import dns.resolver
import pytest

from postroomd.dns import DnsConfig, DnsProber, Endpoint, parse_endpoint
from postroomd.dns.config import is_public


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("192.0.2.53", "192.0.2.53", 53),
        ("192.0.2.53:5353", "192.0.2.53", 5353),
        ("2001:db8::53", "2001:db8::53", 53),
        ("[2001:DB8::53]:5353", "2001:db8::53", 5353),
    ],
)
def test_a_resolver_is_an_address_with_an_optional_port(text: str, address: str, port: int) -> None:
    assert parse_endpoint(text) == Endpoint(address, port)
    assert DnsConfig(resolvers=(text,)).endpoints() == (Endpoint(address, port),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dns.example",
        "dns.example:53",
        "192.0.2.53:",
        "192.0.2.53:0",
        "192.0.2.53:65536",
        "192.0.2.53:5x",
        "192.0.2.53:\u0665",
        "[192.0.2.53]:53",
        "[2001:db8::53]",
        "[2001:db8::53]:",
        "2001:db8::53:53000",
    ],
)
def test_an_invalid_resolver_is_rejected_at_startup(text: str) -> None:
    with pytest.raises(ValueError, match="IP, IP:PORT or"):
        DnsConfig(resolvers=(text,))


@pytest.mark.parametrize(
    "limit", ["timeout_seconds", "deadline_seconds", "max_packets", "max_resolver_queries", "concurrency"]
)
def test_a_limit_must_be_positive(limit: str) -> None:
    changes: dict[str, Any] = {limit: 0}
    with pytest.raises(ValueError, match="must be above 0"):
        DnsConfig(**changes)


def test_the_system_resolvers_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    class System:
        nameservers = ("192.0.2.1", "2001:db8::1")

    monkeypatch.setattr(dns.resolver, "Resolver", System)
    assert DnsConfig().endpoints() == (Endpoint("192.0.2.1"), Endpoint("2001:db8::1"))


def test_a_missing_resolver_is_an_error_at_startup(monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_no_configuration() -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.resolver, "Resolver", raise_no_configuration)
    with pytest.raises(ValueError, match="no DNS resolver"):
        DnsProber(DnsConfig())


@pytest.mark.parametrize("address", ["8.8.8.8", "198.41.0.4", "2001:503:ba3e::2:30", "2a00:1450:4001::1"])
def test_public_addresses_may_be_queried(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104
        "224.0.0.251",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "ff02::fb",
        "2001:db8::1",
        "3fff::1",
        "::ffff:10.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::a00:1",
        "64:ff9b:1::a00:1",
        "2002:a00:1::1",
        "2001:0:a00:1::1",
    ],
)
def test_non_public_addresses_may_not_be_queried(address: str) -> None:
    assert not is_public(ip_address(address))
