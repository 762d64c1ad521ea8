"""Who calls: the API key behind a call's metadata."""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from time import monotonic

from postroomd.domain.errors import KeyRefusal, Unauthenticated
from postroomd.domain.keys import hash_secret
from postroomd.domain.model import ApiKey, Scope
from postroomd.storage.repository import Tenancy

CACHED_KEYS = 10_000

Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call, what it can reach, and whether it may change anything."""

    access_key: str
    scope: Scope
    default_project_id: str
    read_only: bool


CALLER: ContextVar[Caller] = ContextVar("caller")
"""The caller of the call that is being handled."""


class Authenticator:
    """Finds the caller behind a secret. A key that was found is not looked up again for `cache_seconds`."""

    def __init__(self, tenancy: Tenancy, clock: Callable[[], datetime], cache_seconds: float) -> None:
        self._tenancy = tenancy
        self._clock = clock
        self._cache_seconds = cache_seconds
        self._cache: dict[bytes, tuple[float, ApiKey, Caller]] = {}

    async def caller_of(self, metadata: Metadata) -> Caller:
        """The caller whose secret the metadata carries. Raises Unauthenticated."""
        secret_hash = _secret_hash(metadata)
        cached = self._cache.get(secret_hash)
        if cached is None or monotonic() >= cached[0]:
            cached = await self._look_up(secret_hash)
        _, key, caller = cached
        if key.revoked_at is not None:
            raise Unauthenticated(KeyRefusal.NOT_FOUND)
        if key.expires_at is not None and key.expires_at <= self._clock():
            raise Unauthenticated(KeyRefusal.EXPIRED)
        return caller

    async def _look_up(self, secret_hash: bytes) -> tuple[float, ApiKey, Caller]:
        until = monotonic() + self._cache_seconds
        self._cache.pop(secret_hash, None)
        key = await self._tenancy.find_key(secret_hash)
        if key is None:
            raise Unauthenticated(KeyRefusal.NOT_FOUND)
        if len(self._cache) >= CACHED_KEYS:
            self._cache.clear()  # they come back within one look-up each
        self._cache[secret_hash] = found = (until, key, _caller(key))
        return found


def _caller(key: ApiKey) -> Caller:
    return Caller(
        access_key=key.access_key,
        scope=Scope(organization_id=key.organization_id, project_id=key.project_id),
        default_project_id=key.default_project_id,
        read_only=key.read_only,
    )


def secret_of(metadata: Metadata) -> str:
    """The one secret that the metadata carries. Raises Unauthenticated."""
    secrets = [value for name, value in metadata if name == "x-auth-token"]
    for name, value in metadata:
        if name == "authorization":
            scheme, _, secret = str(value).partition(" ")
            secrets.append(secret.strip() if scheme.lower() == "bearer" else "")
    if len(secrets) != 1:
        raise Unauthenticated(KeyRefusal.INVALID_ARGUMENT)
    return str(secrets[0])


def _secret_hash(metadata: Metadata) -> bytes:
    """The digest of that secret. Raises Unauthenticated."""
    try:
        return hash_secret(secret_of(metadata))
    except ValueError:
        raise Unauthenticated(KeyRefusal.INVALID_ARGUMENT) from None
