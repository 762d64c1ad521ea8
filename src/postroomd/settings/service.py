"""The settings of the gRPC service: quotas, hashing, limits of calls."""

import sys

from pydantic import ValidationInfo, field_validator

from postroomd.domain.policy import Quotas
from postroomd.settings.base import SERVICE, SettingsGroup, setting
from postroomd.settings.types import HostNames


class ServiceSettings(SettingsGroup):
    """The settings of the gRPC service: quotas, hashing, limits of calls."""

    allow_reserved_names: HostNames = setting(
        "",
        SERVICE,
        "Names, comma-separated, that can be registered with those below them, although they are special-use names"
        " (`internal`) or belong to the mail hosts' domains.",
    )
    mailbox_quota: int = setting(
        1_000,
        ("up", "keys create", "organizations create", "projects create"),
        "Maximum mailboxes of a new project; creating more fails with `quotas_exceeded`.",
        ge=0,
        le=2_000_000_000,
    )
    domain_quota: int = setting(
        1_000,
        SERVICE,
        "Maximum domains of an organization; registering more fails with `quotas_exceeded`.",
        ge=0,
        le=2_000_000_000,
    )
    alias_quota: int = setting(10_000, SERVICE, "Maximum aliases of an organization.", ge=0, le=2_000_000_000)
    mailbox_alias_quota: int = setting(100, SERVICE, "Maximum aliases of a mailbox.", ge=0, le=2_000_000_000)
    idempotency_quota: int = setting(
        10_000,
        SERVICE,
        "Maximum responses that are stored under idempotency keys of an organization, for 24 hours each.",
        ge=1,
        le=2_000_000_000,
    )
    idempotency_bytes_quota: int = setting(
        67_108_864,
        SERVICE,
        "Maximum size of these responses with their keys, in bytes.",
        ge=1_048_576,
        le=1_099_511_627_776,
    )
    argon2_memory_kib: int = setting(
        19_456, SERVICE, "Argon2id memory cost of password hashes, in KiB.", ge=8, le=4_194_304
    )
    argon2_time_cost: int = setting(
        2, SERVICE, "Argon2id time cost of password hashes: passes over the memory.", ge=1, le=100
    )
    argon2_parallelism: int = setting(
        1, SERVICE, "Argon2id parallelism of password hashes: lanes, of at least 8 KiB each.", ge=1, le=64
    )
    hash_threads: int = setting(
        0,
        SERVICE,
        "Threads for password hashing; 0: one per core, less one, divided among `--processes`.",
        ge=0,
        le=256,
    )
    hash_wait_seconds: float = setting(
        1.0,
        SERVICE,
        "Maximum queueing time before a password request is rejected, in seconds; at least its own hashing time.",
        ge=0,
        le=3_600,
    )
    max_calls: int = setting(
        128,
        SERVICE,
        "Maximum concurrent reads per process, and maximum concurrent changes; more are rejected.",
        ge=1,
        le=100_000,
    )
    rate_limit: int = setting(
        0,
        SERVICE,
        "Maximum calls per second of one API key, in bursts of as many; 0: unlimited. Counted by each process alone.",
        ge=0,
        le=1_000_000,
    )
    organization_rate_limit: int = setting(
        0,
        SERVICE,
        "Maximum calls per second of one organization, in bursts of as many; 0: unlimited. Counted by each process"
        " alone.",
        ge=0,
        le=1_000_000,
    )
    key_cache_seconds: float = setting(
        5.0,
        SERVICE,
        "Lifetime of cached keys, in seconds; a revoked key is still accepted for at most this time.",
        ge=0,
        le=5,
    )

    @field_validator("argon2_parallelism")
    @classmethod
    def _validate_lanes(cls, lanes: int, info: ValidationInfo) -> int:
        if info.data.get("argon2_memory_kib", sys.maxsize) < 8 * lanes:  # RFC 9106, section 3.1
            raise ValueError("Argon2 needs at least 8 KiB of memory per lane: raise --argon2-memory-kib")
        return lanes

    def quotas(self) -> Quotas:
        """Return the limits of what tenants can store."""
        return Quotas(
            domains=self.domain_quota,
            aliases=self.alias_quota,
            mailbox_aliases=self.mailbox_alias_quota,
            responses=self.idempotency_quota,
            response_octets=self.idempotency_bytes_quota,
        )
