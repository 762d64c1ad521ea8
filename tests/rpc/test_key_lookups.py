"""Lookups of API keys: known keys need no slot, unknown secrets share a few, by client address."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

import pytest

from postroomd.domain.errors import TooManyRequests, Unauthenticated
from postroomd.domain.keys import hash_secret
from postroomd.domain.tenancy import ApiKey
from postroomd.rpc import authentication
from postroomd.rpc.authentication import LOOKUP_SLOTS, MAX_WAITING_LOOKUPS, Authenticator, Caller, tenant_caller
from postroomd.rpc.client_address import ClientAddresses
from tests.support.waiting import wait_until

GATEWAY_SECRET = "shared by the gateways"
VALID = str(UUID(int=1, version=4))


KEY = ApiKey(
    access_key="SCWKEY",
    organization_id="organization",
    project_id=None,
    default_project_id="project",
    read_only=False,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    expires_at=None,
    revoked_at=None,
)


class Keys:
    """The stored keys, of which one exists, and the lookups of each digest."""

    def __init__(self) -> None:
        self.key: ApiKey | None = KEY
        self.lookups: Counter[bytes] = Counter()
        self.responding = asyncio.Event()
        self.responding.set()

    async def find(self, secret_hash: bytes) -> ApiKey | None:
        self.lookups[secret_hash] += 1
        await self.responding.wait()
        return self.key if secret_hash == hash_secret(VALID) else None

    def authenticator(self, cache_seconds: float = 5.0) -> Authenticator[ApiKey]:
        addresses = ClientAddresses(GATEWAY_SECRET)
        return Authenticator(self.find, tenant_caller, lambda: datetime.now(UTC), cache_seconds, addresses.address_of)


def unknown(number: int) -> str:
    return str(UUID(int=1_000 + number, version=4))


async def authenticate(keys: Authenticator[ApiKey], secret: str, address: str = "192.0.2.1") -> Caller:
    return await keys.authenticate((("x-auth-token", secret),), lambda: f"ipv4:{address}:50000")


async def test_a_secret_that_no_key_has_is_looked_up_once_a_second() -> None:
    keys = Keys()
    authenticator = keys.authenticator()
    for _ in range(50):
        with pytest.raises(Unauthenticated):
            await authenticate(authenticator, unknown(0))
    assert keys.lookups.total() == 1


async def test_unknown_secrets_evict_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "MAX_ABSENT_SECRETS", 10)
    monkeypatch.setattr(authentication, "MAX_CACHED_KEYS", 1)
    keys = Keys()
    authenticator = keys.authenticator()
    await authenticate(authenticator, VALID)
    for number in range(50):
        with pytest.raises(Unauthenticated):
            await authenticate(authenticator, unknown(number))
    await authenticate(authenticator, VALID)
    assert keys.lookups[hash_secret(VALID)] == 1


async def test_beyond_the_slots_and_the_queue_unknown_secrets_are_rejected_without_lookup() -> None:
    keys = Keys()
    authenticator = keys.authenticator()
    keys.responding.clear()
    callers = [
        asyncio.create_task(authenticate(authenticator, unknown(number)))
        for number in range(LOOKUP_SLOTS + MAX_WAITING_LOOKUPS + 10)
    ]
    await wait_until(lambda: sum(caller.done() for caller in callers) >= 10)
    rejected = [caller for caller in callers if caller.done()]
    assert len(rejected) == 10
    assert all(isinstance(caller.exception(), TooManyRequests) for caller in rejected)
    assert keys.lookups.total() == LOOKUP_SLOTS
    keys.responding.set()
    await asyncio.gather(*callers, return_exceptions=True)
    assert authenticator.lookups.free == LOOKUP_SLOTS


async def test_another_client_gets_the_next_lookup() -> None:
    keys = Keys()
    authenticator = keys.authenticator()
    keys.responding.clear()
    flood = [asyncio.create_task(authenticate(authenticator, unknown(number))) for number in range(40)]
    await asyncio.sleep(0)
    other = asyncio.create_task(authenticate(authenticator, VALID, "192.0.2.2"))
    await asyncio.sleep(0)
    keys.responding.set()
    await other
    assert sum(not caller.done() for caller in flood) > 20
    await asyncio.gather(*flood, return_exceptions=True)


async def test_a_key_that_was_verified_before_waits_for_no_slot() -> None:
    keys = Keys()
    authenticator = keys.authenticator(cache_seconds=0)
    await authenticate(authenticator, VALID)
    keys.responding.clear()
    flood = [asyncio.create_task(authenticate(authenticator, unknown(number))) for number in range(40)]
    await asyncio.sleep(0)
    again = asyncio.create_task(authenticate(authenticator, VALID))
    await asyncio.sleep(0)
    assert keys.lookups[hash_secret(VALID)] == 2
    keys.responding.set()
    await again
    await asyncio.gather(*flood, return_exceptions=True)


async def test_a_removed_key_is_unknown_from_its_next_lookup() -> None:
    keys = Keys()
    authenticator = keys.authenticator(cache_seconds=0)
    await authenticate(authenticator, VALID)
    keys.key = None
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await authenticate(authenticator, VALID)


# --- Addresses of clients


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:50000", "192.0.2.1"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:50000", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2::9]:50000", "2001:db8:1:2::/64"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:50000", "192.0.2.1"),
        ("unix:", ""),
        ("", ""),
    ],
)
def test_a_client_is_an_ipv4_address_or_an_ipv6_network(peer: str, address: str) -> None:
    assert ClientAddresses().address_of((), peer) == address


@pytest.mark.parametrize(
    ("configured", "sent", "expected"),
    [
        (GATEWAY_SECRET, GATEWAY_SECRET, "198.51.100.7"),
        (GATEWAY_SECRET, "another secret", "192.0.2.1"),
        (GATEWAY_SECRET, "", "192.0.2.1"),
        (GATEWAY_SECRET, "ä", "192.0.2.1"),
        (None, GATEWAY_SECRET, "192.0.2.1"),
        (None, "", "192.0.2.1"),
    ],
)
def test_only_gateways_name_another_client(configured: str | None, sent: str, expected: str) -> None:
    metadata = (("x-client-address", "198.51.100.7"), ("x-gateway-secret", sent))
    assert ClientAddresses(configured).address_of(metadata, "ipv4:192.0.2.1:50000") == expected


def test_a_call_without_the_secret_names_no_other_client() -> None:
    metadata = (("x-client-address", "198.51.100.7"),)
    assert ClientAddresses(GATEWAY_SECRET).address_of(metadata, "ipv4:192.0.2.1:50000") == "192.0.2.1"
