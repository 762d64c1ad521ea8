"""`postroom up`: migrates the database, runs serve, gateway and worker as children, and prints their addresses.

The children are forked before this process has a thread, an event loop or a connection. They share the modules loaded
until then, so that all three start in about the time of one. Each has a session of its own: Ctrl-C reaches only this
process, which stops them in order. See `channel` for the messages between this process and a child.
"""

import asyncio
import os
import secrets
import signal
import ssl
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from postroomd.clock import Clock, TrialClock
from postroomd.net import connectable, split_address
from postroomd.observability.exposition import (
    collect_all_processes,
    remove_shared_metrics_directory,
    shared_metrics_directory,
)
from postroomd.observability.logs import get_logger
from postroomd.runtime.commands import command_context
from postroomd.runtime.errors import FatalError, listen_error, operator_message
from postroomd.runtime.forking import Child, fork
from postroomd.runtime.keys import issue_key
from postroomd.runtime.processes import STOP_SIGNALS, serving_metrics
from postroomd.runtime.restarts import Restarts
from postroomd.runtime.sdk_environment import SECRET, api_url, export_lines, sdk_environment, withheld, write_env_file
from postroomd.runtime.security import with_channel_security
from postroomd.settings import UpSettings
from postroomd.storage.protocols.repository import Repository

KILL_MARGIN_SECONDS = 2.0  # after drain_seconds
READY_TIMEOUT_SECONDS = 60.0
READY_POLL_SECONDS = 0.02
EXISTING_KEYS = (
    "The database has API keys, whose secrets were printed once: `postroom organizations list` and"
    " `postroom keys create --organization-id ID` get another one"
)

log = get_logger(__name__)


def supervise(
    settings: UpSettings, env_file: Path | None, clock_address: str | None = None, *, restart: bool = True
) -> int:
    """Run all processes until SIGINT or SIGTERM; returns the exit code. Failures are reported on stderr.

    A child that exits after all were ready is restarted; unless `restart`, or with a trial clock, the others are
    stopped. With a `clock_address`, all processes use a trial clock, which is served there.
    """
    clock = TrialClock() if clock_address else Clock()
    settings = with_channel_security(with_gateway_secret(settings))
    # Signals that arrive while the children are forked stay pending until each process has installed its handlers.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    with shared_metrics_directory(enabled=settings.metrics_address is not None):
        import prometheus_client  # noqa: F401 # needed by all children, loaded once; not before this block

        gateway = fork("gateway", settings, clock, [])
        import postroomd.storage.sql  # noqa: F401 # needed by the other two

        serve = fork("serve", settings, clock, [gateway])
        worker = fork("worker", settings, clock, [gateway, serve])
        restart = restart and clock_address is None
        children = (gateway, serve, worker)
        return asyncio.run(_Supervisor(settings, env_file, clock, clock_address, children, restart=restart).run())


def with_gateway_secret(settings: UpSettings) -> UpSettings:
    """Return the settings with a random gateway secret, unless one is configured for further gateways."""
    if settings.gateway_secret is not None:
        return settings
    return settings.model_copy(update={"gateway_secret": SecretStr(secrets.token_urlsafe(32))})


class _Supervisor:
    """Starts, watches and stops the children."""

    def __init__(
        self,
        settings: UpSettings,
        env_file: Path | None,
        clock: Clock,
        clock_address: str | None,
        children: tuple[Child, Child, Child],
        *,
        restart: bool,
    ) -> None:
        self._settings = settings
        self._env_file = env_file
        self._clock = clock
        self._clock_address = clock_address
        self._gateway, self._serve, self._worker = children
        self._children = {child.name: child for child in children}  # the current ones
        self._restart = restart
        self._bound: dict[str, str] = {}  # setting -> the address that is bound
        self._stop = asyncio.Event()
        self._clock_cleanups = AsyncExitStack()  # before the children are stopped
        self._metrics_cleanups = AsyncExitStack()  # after they have exited

    async def run(self) -> int:
        """Run until a signal arrives or a child exits; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        children = (self._gateway, self._serve, self._worker)
        for child in children:
            child.prepare()
        watching = [asyncio.create_task(child.watch()) for child in children]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stop.wait())
        exits = [child.exited for child in children]
        await _first_of(starting, stopping, *exits)
        if starting.done() and not starting.exception():
            if self._restart:
                restarting = asyncio.create_task(self._restarts().run())
                await _first_of(stopping, restarting)
                restarting.cancel()
                await asyncio.gather(restarting, return_exceptions=True)
            else:
                await _first_of(stopping, *exits)
        failed = not self._stop.is_set()
        if failed:
            self._report_failure(starting)
        starting.cancel()
        stopping.cancel()
        await self._clock_cleanups.aclose()
        drained = await self._stop_children()
        await self._metrics_cleanups.aclose()
        await asyncio.gather(starting, stopping, *watching, return_exceptions=True)
        return int(failed or not drained)

    def _on_signal(self, number: int) -> None:
        """Stop on the first signal; on a second one kill the children and exit."""
        if self._stop.is_set():
            for child in self._children.values():
                child.signal(signal.SIGKILL)
            remove_shared_metrics_directory()
            os._exit(128 + number)
        self._stop.set()

    def _report_failure(self, starting: asyncio.Task[None]) -> None:
        """Print why a child exited or why the start failed."""
        for child in self._children.values():
            if child.exited.done():
                _print_error(child.exit_reason())
                return
        error = starting.exception()
        message = operator_message(error) if error else None
        if message is None:
            log.error("start failed", exc_info=error)
        _print_error(message or "the start failed: see the log")

    async def _start(self) -> None:
        """Migrate the database, start the children, and print the addresses once the gateway is ready."""
        from postroomd.storage.migrations import migrate

        url = self._settings.database_url.get_secret_value()
        address = self._settings.grpc_address
        port_known = split_address(address)[1] != 0
        metrics = await self._metrics_cleanups.enter_async_context(
            serving_metrics(self._settings, collect_all_processes)
        )
        if port_known:
            self._gateway.start(connectable(address))
        await asyncio.to_thread(migrate, url)
        self._serve.start(address)
        self._worker.start(address)
        async with AsyncExitStack() as cleanups:
            from postroomd.storage.opening import open_repository

            repository = await open_repository(url, command=command_context("up", datetime.now(UTC)))
            cleanups.push_async_callback(repository.close)
            bound, *admin = await self._serve.ready
            self._bound = {"grpc_address": bound, **dict(zip(("admin_address",), admin, strict=False))}
            if not port_known:
                self._gateway.start(connectable(bound))
            http_address, *autoconfig = await self._gateway.ready
            self._bound["http_address"] = http_address
            self._bound |= dict(zip(("autoconfig_address",), autoconfig, strict=False))
            await self._worker.ready
            tls = self._settings.http_tls_cert is not None
            if self._settings.http_tls_client_ca is None:  # otherwise the probe would need a certificate of its own
                await _wait_until_ready(connectable(http_address), tls=tls)
            clock = await self._serve_clock()
            environment = await self._environment(repository, api_url(http_address, tls=tls))
        # The file is written last, so that a process that waits for it finds the addresses printed.
        _print_start(
            withheld(environment) if self._env_file else environment,
            [
                *([f"All variables are written to {self._env_file}"] if self._env_file else []),
                *([] if SECRET in environment else [EXISTING_KEYS]),
                f"gRPC listens on {bound}",
                f"REST listens on {http_address}",
                *(f"Mail clients configure themselves at {address}" for address in autoconfig),
                *(f"The admin service listens on {address}" for address in admin),
                *(f"The clock listens on {address}" for address in clock),
                *(f"Metrics are served on {address}" for address in metrics.values()),
            ],
        )
        if self._env_file:
            _write_env_file(self._env_file, environment)

    async def _environment(self, repository: Repository, url: str) -> Mapping[str, str]:
        """Return the SDKs' variables: for the first key, which is issued now, or only the URL if there are keys."""
        if await repository.tenancy.list_keys():
            return {"SCW_API_URL": url}
        issued = await issue_key(
            repository.tenancy,
            organization_id=None,
            project_id=None,
            read_only=False,
            expires_at=None,
            mailbox_quota=self._settings.mailbox_quota,
            now=self._clock.now(),
        )
        return sdk_environment(issued, url)

    async def _serve_clock(self) -> Sequence[str]:
        """Serve the trial clock, if any, and return its address. Raises FatalError."""
        if not (self._clock_address and isinstance(self._clock, TrialClock)):
            return []
        from postroomd.runtime.trial_clock import serving_clock

        try:
            return [await self._clock_cleanups.enter_async_context(serving_clock(self._clock, self._clock_address))]
        except OSError as error:
            raise listen_error("the clock", self._clock_address, error) from error

    def _restarts(self) -> Restarts:
        """Return the restarts of all children, each on the address that the first one of its name has bound."""
        settings, bound = self._settings.model_copy(update=self._bound), self._bound["grpc_address"]
        return Restarts(
            self._children, settings, dict.fromkeys(self._children, bound) | {"gateway": connectable(bound)}
        )

    async def _stop_children(self) -> bool:
        """Stop the gateway, then the others; returns whether all that still ran exited with code 0."""
        gateway, *others = self._children.values()
        running = [child for child in self._children.values() if not child.exited.done()]
        await self._stop_child(gateway)
        await asyncio.gather(*map(self._stop_child, others))
        return all(child.exited.result() == 0 for child in running)

    async def _stop_child(self, child: Child) -> None:
        child.signal(signal.SIGTERM)
        timeout = self._settings.drain_seconds + KILL_MARGIN_SECONDS
        await asyncio.wait({child.exited}, timeout=timeout)
        if not child.exited.done():
            _print_error(f"{child.name} has not exited within {timeout:g} s: killing it")
            child.signal(signal.SIGKILL)
            await child.exited


async def _first_of(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def _wait_until_ready(http_address: str, *, tls: bool) -> None:
    """Poll GET /readyz until it returns 200. Raises FatalError after READY_TIMEOUT_SECONDS.

    The probe sends nothing secret, and the certificate is for another name than the loopback address.
    """
    context = ssl._create_unverified_context() if tls else None  # noqa: S323
    host, port = split_address(http_address)
    request = f"GET /readyz HTTP/1.1\r\nHost: {http_address}\r\nConnection: close\r\n\r\n".encode()
    try:
        async with asyncio.timeout(READY_TIMEOUT_SECONDS):
            while True:
                reader, writer = await asyncio.open_connection(host, port, ssl=context)
                writer.write(request)
                status = await reader.readline()
                writer.close()
                if status.split(b" ")[1:2] == [b"200"]:
                    return
                await asyncio.sleep(READY_POLL_SECONDS)
    except TimeoutError as error:
        raise FatalError(f"the service is not ready after {READY_TIMEOUT_SECONDS:g} s: see the log") from error


def _print_start(environment: Mapping[str, str], comments: Iterable[str]) -> None:
    """Print lines for a shell: the variables, and the addresses as comments."""
    sys.stdout.writelines(f"{line}\n" for line in (*export_lines(environment), *(f"# {each}" for each in comments)))
    sys.stdout.flush()


def _write_env_file(path: Path, environment: Mapping[str, str]) -> None:
    """Write the variables to the file. Raises FatalError."""
    try:
        write_env_file(path, environment)
    except OSError as error:
        remedy = "; issue another key with `postroom keys create`" if SECRET in environment else ""
        raise FatalError(f"--env-file: can't write {path}: {error.strerror}{remedy}") from error


def _print_error(message: str) -> None:
    sys.stderr.write(f"postroom: {message}\n")
    sys.stderr.flush()
