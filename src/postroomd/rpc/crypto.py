"""Work that burns a processor core for a while: password hashes and DKIM keys, in threads beside the event loop."""

import asyncio
import base64
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import argon2
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from postroomd.domain.errors import TooManyRequests

SCHEME = "{ARGON2ID}"  # the prefix by which Dovecot knows how a password is hashed
SECONDS_A_TASK = (
    0.03  # about what one Argon2id hash takes at the default cost: what a refused caller is told to wait by
)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class DkimKey:
    """An RSA-2048 key pair: the private key as PKCS #8 PEM, the public one as RFC 6376 has it in the DNS."""

    private_pem: str
    public_base64: str

    def __repr__(self) -> str:
        return "DkimKey(…)"


class Crypto:
    """A bounded pool of threads. What does not fit is refused at once rather than made to wait without end."""

    def __init__(self, *, threads: int, most_waiting: int, hasher: argon2.PasswordHasher) -> None:
        self._threads = threads
        self._most_waiting = most_waiting
        self._hasher = hasher
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="crypto")
        self._waiting = 0

    async def hash_passwords(self, passwords: Sequence[str]) -> list[str]:
        """The hashes of passwords as `{ARGON2ID}$argon2id$…`. Raises TooManyRequests."""
        return await self._run([partial(self._hash, password) for password in passwords])

    async def new_dkim_key(self) -> DkimKey:
        """A new key pair. Raises TooManyRequests."""
        (key,) = await self._run([_new_dkim_key])
        return key

    def close(self) -> None:
        """Drop what waits, and let the threads end."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _hash(self, password: str) -> str:
        return SCHEME + self._hasher.hash(password)

    async def _run(self, tasks: Sequence[Callable[[], Result]]) -> list[Result]:
        # One batch always fits an idle pool: a limit below its size would refuse it for ever.
        if self._waiting and self._waiting + len(tasks) > self._most_waiting:
            raise TooManyRequests(max(1.0, self._waiting * SECONDS_A_TASK / self._threads))
        self._waiting += len(tasks)
        loop = asyncio.get_running_loop()
        try:
            return list(await asyncio.gather(*(loop.run_in_executor(self._executor, task) for task in tasks)))
        finally:
            self._waiting -= len(tasks)


def _new_dkim_key() -> DkimKey:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return DkimKey(private.decode(), base64.b64encode(public).decode())
