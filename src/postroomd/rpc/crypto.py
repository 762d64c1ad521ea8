"""Work that burns a processor core for a while: password hashes and DKIM keys, in threads beside the event loop.

The threads have what is left of the cores when calls have been served. Each holds the memory of one hash at most. What
waits for them is bounded, is served a caller at a time in turn, and is dropped with its caller.
"""

import asyncio
import base64
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import argon2

from postroomd.domain.errors import TooManyRequests
from postroomd.metrics import PASSWORD_SECONDS, PASSWORDS_REFUSED, PASSWORDS_WAITING

SCHEME = "{ARGON2ID}"  # the prefix by which Dovecot knows how a password is hashed
SECONDS_A_TASK = (
    0.03  # about what one Argon2id hash takes at the default cost: what a refused caller is told to wait by
)

NICENESS = 10
"""By how much the threads give way, as nice(2) counts. It weighs them a tenth of the event loop."""

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
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="crypto", initializer=_give_way)
        # One task more than can run: a thread that is done finds the next at hand.
        self._at_once = threads + 1
        self._turns = asyncio.Semaphore(self._at_once)
        self._waiting = 0

    async def hash_passwords(self, passwords: Sequence[str]) -> list[str]:
        """The hashes of passwords as `{ARGON2ID}$argon2id$…`. Raises TooManyRequests."""
        PASSWORDS_WAITING.of().inc(len(passwords))
        try:
            return await self._run([partial(self._hash, password) for password in passwords])
        except TooManyRequests:
            PASSWORDS_REFUSED.of().inc(len(passwords))
            raise
        finally:
            PASSWORDS_WAITING.of().dec(len(passwords))

    async def new_dkim_key(self) -> DkimKey:
        """A new key pair. Raises TooManyRequests."""
        (key,) = await self._run([_new_dkim_key])
        return key

    def close(self) -> None:
        """Drop what waits, and let the threads end."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _hash(self, password: str) -> str:
        with PASSWORD_SECONDS.of().time():
            return SCHEME + self._hasher.hash(password)

    async def _run(self, tasks: Sequence[Callable[[], Result]]) -> list[Result]:
        # One batch always fits an idle pool: a limit below its size would refuse it for ever.
        if self._waiting and self._waiting + len(tasks) > self._most_waiting:
            raise TooManyRequests(max(1.0, self._waiting * SECONDS_A_TASK / self._threads))
        self._waiting += len(tasks)
        results: dict[int, Result] = {}
        left = iter(enumerate(tasks))

        async def take_turns() -> None:
            loop = asyncio.get_running_loop()
            for place, task in left:
                # Whoever has had a turn goes to the end of the line: one password need not wait for a hundred.
                async with self._turns:
                    results[place] = await loop.run_in_executor(self._executor, task)

        runners = [asyncio.create_task(take_turns()) for _ in range(min(self._at_once, len(tasks)))]
        try:
            await asyncio.gather(*runners)
        finally:
            for runner in runners:
                runner.cancel()
            self._waiting -= len(tasks)
        return [results[place] for place in range(len(tasks))]


def _give_way() -> None:
    """Lower this thread's priority, where threads have one of their own: elsewhere it would be the process's."""
    if sys.platform == "linux":
        os.nice(NICENESS)


def _new_dkim_key() -> DkimKey:
    # 7 MB of memory, and a good part of the start, that a process without a new domain has no use for.
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return DkimKey(private.decode(), base64.b64encode(public).decode())
