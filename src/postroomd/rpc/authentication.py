"""Who calls: the API key, or the admin key, behind a call's metadata."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Generic, TypeVar

from postroomd.domain.errors import KeyRefusal, Unauthenticated
from postroomd.domain.keys import hash_secret
from postroomd.domain.tenancy import AdminKey, ApiKey, Scope

CACHED_KEYS = 10_000

Metadata = Sequence[tuple[str, str | bytes]]
Key = TypeVar("Key", bound=ApiKey | AdminKey)
Who = TypeVar("Who", bound="Caller | Operator")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call, what it can reach, and whether it may change anything."""

    access_key: str
    scope: Scope
    default_project_id: str
    read_only: bool

    @property
    def actor(self) -> str:
        """What the history says of it."""
        return f"key:{self.access_key}"

    @property
    def logged(self) -> Mapping[str, str]:
        """What a log line says of it."""
        return {"access_key": self.access_key, "organization_id": self.scope.organization_id}


@dataclass(frozen=True, slots=True)
class Operator:
    """Who makes a call to the admin service, which sees every tenant, and whether it may change anything."""

    name: str
    read_only: bool

    @property
    def actor(self) -> str:
        """What the history says of it."""
        return f"admin:{self.name}"

    @property
    def logged(self) -> Mapping[str, str]:
        """What a log line says of it."""
        return {"admin_key": self.name}


CALLER: ContextVar[Caller] = ContextVar("caller")
"""The caller of the call that is being handled."""


def tenant_of(key: ApiKey) -> Caller:
    """The caller that an API key stands for."""
    return Caller(
        access_key=key.access_key,
        scope=Scope(organization_id=key.organization_id, project_id=key.project_id),
        default_project_id=key.default_project_id,
        read_only=key.read_only,
    )


def operator_of(key: AdminKey) -> Operator:
    """The caller that an admin key stands for."""
    return Operator(name=key.name, read_only=key.read_only)


class Authenticator(Generic[Key, Who]):
    """Finds the caller behind a secret, by a key that `find` finds by its digest.

    A key that was found is not looked up again for `cache_seconds`.
    """

    def __init__(
        self,
        find: Callable[[bytes], Awaitable[Key | None]],
        who: Callable[[Key], Who],
        clock: Callable[[], datetime],
        cache_seconds: float,
    ) -> None:
        self._find = find
        self._who = who
        self._clock = clock
        self._cache_seconds = cache_seconds
        self._cache: dict[bytes, tuple[float, Key, Who]] = {}

    async def caller_of(self, metadata: Metadata) -> Who:
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

    async def _look_up(self, secret_hash: bytes) -> tuple[float, Key, Who]:
        until = monotonic() + self._cache_seconds
        self._cache.pop(secret_hash, None)
        key = await self._find(secret_hash)
        if key is None:
            raise Unauthenticated(KeyRefusal.NOT_FOUND)
        if len(self._cache) >= CACHED_KEYS:
            self._cache.clear()  # they come back within one look-up each
        self._cache[secret_hash] = found = (until, key, self._who(key))
        return found


def secret_of(metadata: Metadata) -> str:
    """The one secret that the metadata carries. Raises Unauthenticated."""
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
    """The digest of that secret. Raises Unauthenticated."""
    try:
        return hash_secret(secret_of(metadata))
    except ValueError:
        raise Unauthenticated(KeyRefusal.INVALID_ARGUMENT) from None
