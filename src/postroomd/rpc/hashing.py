"""Password hashing with Argon2id, in the form that Dovecot reads: `{ARGON2ID}$argon2id$…`."""

from collections.abc import Sequence
from functools import partial

import argon2

from postroomd.domain.errors import TooManyRequests
from postroomd.observability.metrics import PASSWORD_SECONDS, PASSWORDS_REFUSED, PASSWORDS_WAITING
from postroomd.rpc.cpu_pool import CpuPool, Timing

SCHEME = "{ARGON2ID}"  # Dovecot's password scheme prefix

SECONDS_PER_KIB_PASS = 0.03 / (2 * 19_456)  # initial estimate: 30 ms with 19,456 KiB and 2 passes


def estimated_hash_seconds(hasher: argon2.PasswordHasher) -> float:
    """Return the estimated duration of one hash with the hasher's parameters, in seconds."""
    return SECONDS_PER_KIB_PASS * hasher.time_cost * hasher.memory_cost / hasher.parallelism


class PasswordHashing:
    """Hashes passwords in a thread pool, whose estimate of a task's duration it updates with each hash."""

    def __init__(self, pool: CpuPool, hasher: argon2.PasswordHasher) -> None:
        self.pool = pool
        self._hasher = hasher
        # Further lanes run in threads of Argon2's own, whose processor time is not measured.
        self._updates_estimate = hasher.parallelism == 1

    async def hash_passwords(self, organization_id: str, passwords: Sequence[str]) -> list[str]:
        """Return the hashes of an organization's passwords, in order. Raises TooManyRequests."""
        PASSWORDS_WAITING.inc(len(passwords))
        try:
            tasks = [partial(self._hash, password) for password in passwords]
            return await self.pool.run(organization_id, tasks, self._on_hashed)
        except TooManyRequests:
            PASSWORDS_REFUSED.inc(len(passwords))
            raise
        finally:
            PASSWORDS_WAITING.dec(len(passwords))

    def _hash(self, password: str) -> str:
        return SCHEME + self._hasher.hash(password)

    def _on_hashed(self, timing: Timing) -> None:
        PASSWORD_SECONDS.observe(timing.elapsed)
        if self._updates_estimate:
            self.pool.update_estimate(timing.processor)
