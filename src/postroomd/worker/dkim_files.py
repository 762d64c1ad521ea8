"""The DKIM keys of domains as files, for a signer that reads files, such as rspamd.

The directory holds `NAME.SELECTOR.key` (PEM) for each domain that owns its name, and `selectors.map` with a line
`NAME SELECTOR` for each. After a rotation, the file of the previous key stays until that is erased: a signer may use it
until it has read the map again. Nothing else in the directory is touched. A file that somebody else has changed or
removed is written again: a signer leaves mail unsigned if it can't use a key.

The files are for their owner only; in a directory with the set-group-ID bit, which gives them its group, for that group
too: a signer is rarely the worker's user.
"""

import asyncio
import os
import stat
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta
from pathlib import Path

from postroomd.domain.errors import SecretKeyError, StorageUnavailable
from postroomd.observability.logs import get_logger
from postroomd.observability.metrics import WORKER_FAILURES
from postroomd.observability.steps import StepKind
from postroomd.replaced_file import replaced_file
from postroomd.storage.protocols.dkim import SigningKey, SigningKeys

PAGE = 500  # keys of a statement
MAX_SHARE = 0.05  # of the time that passes may take, so that a million domains do not occupy the worker
MAX_LOGGED = 5  # names of repaired files
KEY_SUFFIX = ".key"
SELECTORS = "selectors.map"

log = get_logger()


class DkimFiles:
    """Keeps the files of one directory equal to the keys in the database."""

    def __init__(self, keys: SigningKeys, directory: Path) -> None:
        self._keys = keys
        self._directory = directory
        # Of each file: the hash of its key, and that of its status when it was last compared or written.
        self._written: dict[str, tuple[int, int]] = {}

    async def run(self, stop: asyncio.Event, interval: timedelta) -> None:
        """Update the files once per interval until `stop` is set. A failure is logged, and tried again."""
        loop = asyncio.get_running_loop()
        failing = False
        while not stop.is_set():
            began = loop.time()
            try:
                await self.update()
                failing = False
            except (OSError, StorageUnavailable, SecretKeyError) as error:
                WORKER_FAILURES.labels(StepKind.DKIM_EXPORT).inc()
                if not failing:
                    log.warning("DKIM keys not exported", directory=str(self._directory), reason=_reason(error))
                failing = True
            except Exception:
                WORKER_FAILURES.labels(StepKind.DKIM_EXPORT).inc()
                log.exception("DKIM keys not exported", directory=str(self._directory))
            delay = max(interval.total_seconds(), (loop.time() - began) / MAX_SHARE)
            try:
                await asyncio.wait_for(stop.wait(), delay)
            except TimeoutError:
                continue

    async def update(self) -> int:
        """Write the files of new keys and damaged files, then remove those of domains that own their names no more.

        Returns the number of files written and removed. Raises OSError, StorageUnavailable, SecretKeyError.
        """
        selectors: dict[str, str] = {}
        current: set[str] = set()
        after, changed = "", 0
        while True:
            page = await self._keys.page(after, PAGE)
            selectors |= {key.name: key.selector for key in page if key.signs}
            current |= set(map(_file_name, page))
            if page:
                changed += await asyncio.to_thread(self._write, page)
            if sum(key.signs for key in page) < PAGE:
                break
            after = page[-1].name
        return changed + await asyncio.to_thread(self._finish, selectors, current)

    def _prepare(self) -> int:
        """Create the directory if it is missing; returns the mode of its files."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return 0o640 if self._directory.stat().st_mode & stat.S_ISGID else 0o600

    def _write(self, keys: Sequence[SigningKey]) -> int:
        """Write the keys whose files do not hold them. Returns the number of files written.

        A file is read only if its status has changed since: every change of its content, mode or owner changes that.
        """
        mode = self._prepare()
        written, repaired = 0, []
        for key in keys:
            name, content = _file_name(key), hash(key.private_pem)
            path, known = self._directory / name, self._written.get(name)
            status = _status(path)
            if known == (content, status):
                continue
            if replace_file(path, key.private_pem, mode):
                written += 1
                if (status is not None and known is None) or (known is not None and known[0] == content):
                    repaired.append(name)
                status = _status(path)
            if status is not None:
                self._written[name] = content, status
        if repaired:
            log.warning("DKIM key files repaired", count=len(repaired), files=repaired[:MAX_LOGGED])
        return written

    def _finish(self, selectors: Mapping[str, str], current: AbstractSet[str]) -> int:
        """Write the map of selectors, and remove the keys that are no longer current."""
        mode = self._prepare()
        lines = "".join(f"{name} {selector}\n" for name, selector in selectors.items())
        changed = int(replace_file(self._directory / SELECTORS, lines, mode))
        present = {path.name for path in self._directory.glob(f"*{KEY_SUFFIX}")}
        for name in present - current:
            (self._directory / name).unlink(missing_ok=True)
            changed += 1
        for name in self._written.keys() - current:
            del self._written[name]
        return changed


def replace_file(path: Path, text: str, mode: int) -> bool:
    """Write a file with a mode, at once for its readers, unless it is a regular file that holds the text already.

    In a directory with the set-group-ID bit, a file of another group is written again too.
    """
    try:
        found, directory = path.lstat(), path.parent.stat()
        belongs = not directory.st_mode & stat.S_ISGID or found.st_gid == directory.st_gid
        if found.st_mode == stat.S_IFREG | mode and belongs and path.read_bytes() == text.encode():
            return False
    except (FileNotFoundError, PermissionError):
        pass  # also one that this user may not read, such as of a backup that root has restored
    with replaced_file(path) as file:
        file.write(text)
        os.fchmod(file.fileno(), mode)
    return True


def _status(path: Path) -> int | None:
    """Return a hash of a file's status, which differs after every change of the file; None if it is missing."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return hash((found.st_ino, found.st_size, found.st_mode, found.st_uid, found.st_gid, found.st_ctime_ns))


def _file_name(key: SigningKey) -> str:
    return f"{key.name}.{key.selector}{KEY_SUFFIX}"


def _reason(error: Exception) -> str:
    match error:
        case OSError():
            return error.strerror or type(error).__name__
        case SecretKeyError():
            return str(error)
        case _:
            return "the database is unavailable"
