"""Authentication of calls by the secret of an API key, or of an admin key, in their metadata."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Generic, TypeVar

from postroomd.domain.context import CallContext
from postroomd.domain.errors import KeyRefusal, Unauthenticated
from postroomd.domain.keys import hash_secret
from postroomd.domain.tenancy import AdminKey, ApiKey, Scope

MAX_CACHED_KEYS = 10_000

Metadata = Sequence[tuple[str, str | bytes]]
Key = TypeVar("Key", bound=ApiKey | AdminKey)


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller: the initial context of its calls, and the fields that identify it in log lines.

    A `read_only` caller is denied every RPC that changes something.
    """

    context: CallContext
    read_only: bool
    log_fields: Mapping[str, str]


def tenant_caller(key: ApiKey) -> Caller:
    """Return the caller that an API key authenticates."""
    context = CallContext(
        actor=f"key:{key.access_key}",
        tenant=Scope(organization_id=key.organization_id, project_id=key.project_id),
        default_project_id=key.default_project_id,
    )
    return Caller(context, key.read_only, {"access_key": key.access_key, "organization_id": key.organization_id})


def operator_caller(key: AdminKey) -> Caller:
    """Return the caller that an admin key authenticates: its calls reach every tenant."""
    return Caller(CallContext(actor=f"admin:{key.name}"), key.read_only, {"admin_key": key.name})


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
    ) -> None:
        self._find = find
        self._caller_of = caller_of
        self._clock = clock
        self._cache_seconds = cache_seconds
        self._cache: dict[bytes, tuple[float, Key, Caller]] = {}

    async def authenticate(self, metadata: Metadata) -> Caller:
        """Return the caller whose secret the metadata carries. Raises Unauthenticated."""
        secret_hash = _secret_hash(metadata)
        cached = self._cache.get(secret_hash)
        if cached is None or monotonic() >= cached[0]:
            cached = await self._lookup(secret_hash)
        _, key, caller = cached
        if key.revoked_at is not None:
            raise Unauthenticated(KeyRefusal.NOT_FOUND)
        if key.expires_at is not None and key.expires_at <= self._clock():
            raise Unauthenticated(KeyRefusal.EXPIRED)
        return caller

    async def _lookup(self, secret_hash: bytes) -> tuple[float, Key, Caller]:
        expires = monotonic() + self._cache_seconds
        self._cache.pop(secret_hash, None)
        key = await self._find(secret_hash)
        if key is None:
            raise Unauthenticated(KeyRefusal.NOT_FOUND)
        if len(self._cache) >= MAX_CACHED_KEYS:
            self._cache.clear()  # costs one lookup per active key
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
