"""Authentication of calls by the secret of an API key, or of an admin key, in their metadata.

A key that this process has verified before is looked up again without a limit. Lookups of other secrets, which anyone
can send, share a few slots, fairly by client address.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Generic, Protocol, TypeVar

from postroomd.domain.context import CallContext
from postroomd.domain.errors import KeyRefusal, Unauthenticated
from postroomd.domain.keys import hash_secret
from postroomd.domain.tenancy import AdminKey, ApiKey, Scope
from postroomd.rpc.admission import Slots
from postroomd.rpc.client_address import OWN_ADDRESS, AddressOf, Metadata

MAX_CACHED_KEYS = 10_000
MAX_ABSENT_SECRETS = 10_000
ABSENT_SECONDS = 1.0  # how long a secret that no key has is rejected without a lookup: a new key works after it
LOOKUP_SLOTS = 4
MAX_WAITING_LOOKUPS = 64  # a lookup takes about 1 ms: the last one waits for 20 ms

Key = TypeVar("Key", bound=ApiKey | AdminKey)


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller: the initial context of its calls, and the fields that identify it in log lines.

    A `read_only` caller is denied every RPC that changes something. `key_id` names its key, `organization_id` the
    organization that its calls count for; operators count as one.
    """

    context: CallContext
    read_only: bool
    key_id: str
    organization_id: str
    log_fields: Mapping[str, str]


def tenant_caller(key: ApiKey) -> Caller:
    """Return the caller that an API key authenticates."""
    context = CallContext(
        actor=f"key:{key.access_key}",
        tenant=Scope(organization_id=key.organization_id, project_id=key.project_id),
        default_project_id=key.default_project_id,
        password_hashes=key.password_hashes,
    )
    log_fields = {"access_key": key.access_key, "organization_id": key.organization_id}
    return Caller(context, key.read_only, key.access_key, key.organization_id, log_fields)


def operator_caller(key: AdminKey) -> Caller:
    """Return the caller that an admin key authenticates: its calls reach every tenant."""
    context = CallContext(actor=f"admin:{key.name}", password_hashes=not key.read_only)
    return Caller(context, key.read_only, key.name, "", {"admin_key": key.name})


class Authentication(Protocol):
    """Authenticates the callers of a service."""

    async def authenticate(self, metadata: Metadata, peer: Callable[[], str]) -> Caller:
        """Return the caller that the metadata identifies; `peer` returns gRPC's name of the other end.

        Raises Unauthenticated, and TooManyRequests.
        """


class Authenticator(Generic[Key]):
    """Authenticates callers by secret. `find` looks a key up by the digest of its secret.

    Keys are cached for `cache_seconds`, within which a revoked key may still be accepted.
    """

    def __init__(
        self,
        find: Callable[[bytes], Awaitable[Key | None]],
        caller_of: Callable[[Key], Caller],
        clock: Callable[[], datetime],
        cache_seconds: float,
        address_of: AddressOf = OWN_ADDRESS,
    ) -> None:
        self._find = find
        self._caller_of = caller_of
        self._clock = clock
        self._cache_seconds = cache_seconds
        self._address_of = address_of
        self._cache: dict[bytes, tuple[float, Key, Caller]] = {}  # by time of verification
        self._absent: dict[bytes, float] = {}  # until when a digest is known to be no key's
        self.lookups = Slots("key_lookups", LOOKUP_SLOTS, MAX_WAITING_LOOKUPS)

    async def authenticate(self, metadata: Metadata, peer: Callable[[], str]) -> Caller:
        """Return the caller whose secret the metadata carries.

        `peer` returns gRPC's name of the other end of the connection. Raises Unauthenticated, and TooManyRequests if
        too many secrets await their lookup.
        """
        secret_hash = _secret_hash(metadata)
        cached = self._cache.get(secret_hash)
        if cached is None:
            cached = await self._first_lookup(secret_hash, metadata, peer)
        elif monotonic() >= cached[0]:
            cached = await self._lookup(secret_hash)
        _, key, caller = cached
        if key.revoked_at is not None:
            raise Unauthenticated(KeyRefusal.NOT_FOUND)
        if key.expires_at is not None and key.expires_at <= self._clock():
            raise Unauthenticated(KeyRefusal.EXPIRED)
        return caller

    async def _first_lookup(
        self, secret_hash: bytes, metadata: Metadata, peer: Callable[[], str]
    ) -> tuple[float, Key, Caller]:
        if self._absent.get(secret_hash, 0.0) > monotonic():
            raise Unauthenticated(KeyRefusal.NOT_FOUND)
        async with self.lookups.slot(self._address_of(metadata, peer())):
            try:
                return await self._lookup(secret_hash)
            except Unauthenticated:
                if len(self._absent) >= MAX_ABSENT_SECRETS:
                    self._absent.clear()  # costs further lookups within the limit, and no key its place in the cache
                self._absent[secret_hash] = monotonic() + min(ABSENT_SECONDS, self._cache_seconds)
                raise

    async def _lookup(self, secret_hash: bytes) -> tuple[float, Key, Caller]:
        expires = monotonic() + self._cache_seconds
        key = await self._find(secret_hash)
        self._cache.pop(secret_hash, None)
        if key is None:
            raise Unauthenticated(KeyRefusal.NOT_FOUND)
        if len(self._cache) >= MAX_CACHED_KEYS:
            del self._cache[next(iter(self._cache))]  # the key whose verification was the longest ago
        entry = self._cache[secret_hash] = (expires, key, self._caller_of(key))
        return entry


def secret_of(metadata: Metadata) -> str:
    """Return the one secret that the metadata carries. Raises Unauthenticated."""
    secrets = []
    for name, value in metadata:
        if name == "x-auth-token":
            secrets.append(str(value))
        elif name == "authorization":
            scheme, _, secret = str(value).partition(" ")
            secrets.append(secret.strip() if scheme.lower() == "bearer" else "")
    if len(secrets) != 1:
        raise Unauthenticated(KeyRefusal.INVALID_ARGUMENT)
    return secrets[0]


def _secret_hash(metadata: Metadata) -> bytes:
    """Return the digest of the secret. Raises Unauthenticated."""
    try:
        return hash_secret(secret_of(metadata))
    except ValueError:
        raise Unauthenticated(KeyRefusal.INVALID_ARGUMENT) from None
