"""The worker process: composes repository, DNS prober and worker loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from postroomd.clock import Clock
from postroomd.clock_watch import ClockWatch
from postroomd.runtime.database_locks import database_lock
from postroomd.runtime.errors import FatalError
from postroomd.settings import Settings
from postroomd.storage.migrations import require_current
from postroomd.storage.opening import open_repository
from postroomd.storage.secret_keys import SecretKeys
from postroomd.worker.dkim_files import DkimFiles
from postroomd.worker.doveadm import Doveadm
from postroomd.worker.loop import run_loop
from postroomd.worker.probers import Prober, TrustingProber
from postroomd.worker.sessions import Sessions
from postroomd.worker.steps import LEASE, Worker


async def run(settings: Settings, stop: asyncio.Event, ready: Callable[[], None], clock: Clock) -> None:
    """Run the worker until `stop` is set.

    Raises SchemaMismatch, SecretKeyError, StorageUnavailable and FatalError, only at startup.
    """
    url = settings.database_url.get_secret_value()
    async with AsyncExitStack() as cleanups:
        await cleanups.enter_async_context(database_lock(settings, "worker"))
        await asyncio.to_thread(require_current, url)
        secret_keys = await asyncio.to_thread(SecretKeys, settings.secret_key_file)
        repository = await open_repository(
            url,
            worker=True,
            pool_size=settings.database_pool_size,
            statement_timeout_seconds=settings.statement_timeout_seconds,
            secret_keys=secret_keys,
        )
        cleanups.push_async_callback(repository.close)
        await repository.secrets.require_keys()
        worker = Worker(
            work=repository.work,
            prober=_prober(settings),
            policy=settings.lifecycle_policy(),
            sessions=Sessions(repository.session_ends, await cleanups.enter_async_context(_mail_server(settings))),
            administration=repository.administration,
            history_retention=settings.history_retention,
            audit_retention=settings.audit_retention,
            revalidation_interval=settings.revalidation_interval,
            lookup_lease=max(LEASE, 3 * timedelta(seconds=settings.dns_deadline_seconds)),
        )
        watch = ClockWatch(clock, repository.clocks, settings.leap_limits(), is_worker=True)
        await watch.start()
        if settings.dkim_directory is not None:
            files = DkimFiles(repository.signing_keys, settings.dkim_directory)
            interval = timedelta(seconds=settings.dkim_interval_seconds)
            exporting = asyncio.create_task(files.run(stop, interval))
            cleanups.push_async_callback(asyncio.wait, {exporting})
            cleanups.callback(exporting.cancel)
        ready()
        await run_loop(worker, stop, clock, timedelta(seconds=settings.worker_interval_seconds), watch)


@asynccontextmanager
async def _mail_server(settings: Settings) -> AsyncIterator[Doveadm | None]:
    """Open the connection to Dovecot, if one is set. Raises FatalError for a key that can't be read."""
    url, path = settings.doveadm_url, settings.doveadm_key_file
    if url is None or path is None:
        yield None
        return
    try:
        key = (await asyncio.to_thread(path.read_text)).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FatalError(f"--doveadm-key-file: can't read {path}: {getattr(error, 'strerror', error)}") from error
    if not key:
        raise FatalError(f"--doveadm-key-file: {path} is empty")
    async with Doveadm(url, key) as doveadm:
        yield doveadm


def _prober(settings: Settings) -> Prober:
    if settings.domain_validation == "trust":
        return TrustingProber()
    from postroomd.runtime.dns import dns_prober

    return dns_prober(settings)
