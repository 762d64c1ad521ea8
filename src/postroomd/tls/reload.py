"""Reload of certificates: files are checked every second, and read once they have stopped changing."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from postroomd.observability.logs import get_logger
from postroomd.observability.metrics import CERTIFICATE_EXPIRY, CERTIFICATE_RELOADS
from postroomd.tls.files import CertificateError, Certificates, PemFiles, load

CHECK_SECONDS = 1.0

Fingerprint = tuple[tuple[int, int, int] | None, ...]

logger = get_logger()


class Reloading:
    """Certificates that follow their files.

    A reload that fails keeps the previous certificates, is logged and counted, and is tried again when the files
    change. Certificate and key are two files: between the change of one and the other they do not fit, so files are
    read when two checks in a row find them the same.
    """

    def __init__(self, files: PemFiles, purpose: str) -> None:
        """Read the files. `purpose` names them in logs and metrics, such as `grpc`. Raises CertificateError."""
        self._files = files
        self._purpose = purpose
        self._listeners: list[Callable[[Certificates], None]] = []
        self._loaded = _fingerprint(files)
        self._seen = self._loaded
        self.current = load(files)
        self._set_expiry()

    def add_listener(self, listener: Callable[[Certificates], None]) -> None:
        """Call a function with the new certificates after every reload."""
        self._listeners.append(listener)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch the files during the block."""
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await self.check()

    async def check(self) -> None:
        """Check the files once, and reload them if they have changed and are stable."""
        found = await asyncio.to_thread(_fingerprint, self._files)
        stable, self._seen = found == self._seen, found
        if not stable or found == self._loaded:
            return
        self._loaded = found
        try:
            current = await asyncio.to_thread(load, self._files)
        except CertificateError as error:
            CERTIFICATE_RELOADS.labels(self._purpose, "failed").inc()
            logger.error("certificates not reloaded", purpose=self._purpose, error=str(error))  # noqa: TRY400 # no bug
            return
        self.current = current
        self._set_expiry()
        for listener in self._listeners:
            listener(current)
        CERTIFICATE_RELOADS.labels(self._purpose, "loaded").inc()
        logger.info("certificates reloaded", purpose=self._purpose)

    def _set_expiry(self) -> None:
        if self.current.expires_at is not None:
            CERTIFICATE_EXPIRY.labels(self._purpose).set(self.current.expires_at.timestamp())


def _fingerprint(files: PemFiles) -> Fingerprint:
    return tuple(_fingerprint_of(path) for path in files.paths)


def _fingerprint_of(path: Path) -> tuple[int, int, int] | None:
    """Return inode, size and modification time of a file, behind links; None if there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 # Path.stat is the same
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
