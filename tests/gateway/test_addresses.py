"""Addresses of clients behind proxies."""

import pytest

from postroomd.gateway.addresses import TrustedProxies, address_group, canonical_address

PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8:1::/48"])


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ([], "10.0.0.1"),
        ([""], "10.0.0.1"),
        (["192.0.2.1"], "192.0.2.1"),
        (["198.51.100.9, 192.0.2.1"], "192.0.2.1"),
        (["198.51.100.9", "192.0.2.1, 10.0.0.2"], "192.0.2.1"),
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (["192.0.2.1:4711"], "192.0.2.1"),
        (["[2001:DB8::0001]:443"], "2001:db8::1"),
        (["2001:db8::1, 2001:db8:1::5"], "2001:db8::1"),
        (["::ffff:192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1, unknown, 10.0.0.2"], "10.0.0.2"),
        (["192.0.2.1, "], "10.0.0.1"),
        (["192.0.2.1\x00"], "10.0.0.1"),
        (["192.0.2.1", ", ".join(["10.0.0.2"] * 100)], "10.0.0.2"),
    ],
)
def test_the_rightmost_untrusted_address_is_the_client(forwarded: list[str], client: str) -> None:
    assert PROXIES.client_address("10.0.0.1", forwarded) == client


def test_without_networks_no_proxy_is_trusted() -> None:
    assert "127.0.0.1" not in TrustedProxies([])
    assert "10.9.8.7" in PROXIES
    assert "" not in PROXIES


@pytest.mark.parametrize("network", ["10.0.0.1/8", "10.0.0.0/33", "example.org", ""])
def test_invalid_networks_are_rejected(network: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        TrustedProxies([network])


def test_an_ipv6_client_is_its_64_bit_network() -> None:
    assert address_group("2001:db8::1") == address_group("2001:db8::ffff:1") == "2001:db8::/64"
    assert address_group("192.0.2.1") == "192.0.2.1"
    assert address_group("") == ""
    assert canonical_address("::ffff:192.0.2.1") == "192.0.2.1"
