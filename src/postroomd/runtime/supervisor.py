"""`postroom up`: migrates, runs serve, gateway and worker as children, and says how to reach them.

The children are forks, made before this process has a thread, an event loop or a connection: they share the modules
that are loaded by then, so that all are ready in about the time that one takes alone. A child and this process hold
the two ends of a socket pair (`processes.run_as_child` says what is said over it); its end of file tells each that
the other is gone, however it went. Each child leads a session of its own: Ctrl-C reaches this process alone, which
stops them in order.
"""

import asyncio
import os
import shlex
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from postroomd.clock import Clock, TrialClock
from postroomd.net import connectable, split_address
from postroomd.observability.exposition import collect_together, counted_together, stop_counting_together
from postroomd.observability.logs import get_logger
from postroomd.runtime.keys import api_url, issue_key, scw_environment
from postroomd.runtime.processes import (
    STOP_SIGNALS,
    Failed,
    known_failure,
    not_listening,
    run_as_child,
    serving_metrics,
)
from postroomd.settings import UpSettings

KILL_MARGIN_SECONDS = 2.0  # beyond drain_seconds
READY_TIMEOUT_SECONDS = 60.0
READY_POLL_SECONDS = 0.02

log = get_logger(__name__)


@dataclass(slots=True)
class Child:
    """A process that `up` started."""

    name: str
    pid: int
    channel: socket.socket
    failure: str | None = None
    ready: asyncio.Future[str] = field(init=False)
    ended: asyncio.Future[int] = field(init=False)  # how, as os.waitstatus_to_exitcode has it

    def go(self, grpc_address: str) -> None:
        """Let it begin."""
        self.channel.sendall(f"go {grpc_address}\n".encode())

    def why(self) -> str:
        """Why it ended, in a line."""
        code = self.ended.result()
        if self.failure:
            return f"{self.name}: {self.failure}"
        if code < 0:
            return f"{self.name} was killed by {signal.Signals(-code).name}"
        return f"{self.name} ended with exit code {code}"


def run(settings: UpSettings, env_file: Path | None, clock_address: str | None = None) -> int:
    """Run everything until SIGINT or SIGTERM; answers the exit code, 0 where that is how and all went well.

    With an address for it, all run by a clock that can be moved on there. Failures are said on stderr.
    """
    clock = TrialClock() if clock_address else Clock()
    # A signal that comes while the children are made waits until each of them, and this process, can heed it.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    with counted_together(wanted=settings.metrics_address is not None):
        import prometheus_client  # noqa: F401 # what all of them need, loaded once; not before this block

        children = [_fork("gateway", settings, clock, [])]
        import postroomd.storage.sql  # noqa: F401 # what both of the others need

        for name in ("serve", "worker"):
            children.append(_fork(name, settings, clock, children))
        gateway, serve, worker = children
        return asyncio.run(_Supervisor(settings, env_file, clock, clock_address, gateway, serve, worker).run())


def _fork(name: str, settings: UpSettings, clock: Clock, siblings: list[Child]) -> Child:
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        for channel in (ours, *(sibling.channel for sibling in siblings)):
            channel.close()  # or its end of file would not come while this child lives
        _be_child(name, settings, theirs, clock)
    theirs.close()
    ours.setblocking(False)
    return Child(name, pid, ours)


def _be_child(name: str, settings: UpSettings, channel: socket.socket, clock: Clock) -> NoReturn:
    code = 1
    try:
        os.setsid()
        code = run_as_child(name, settings, channel, clock)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)  # what is below this frame is the parent's business


class _Supervisor:
    """The life of the children: start, watch, stop."""

    def __init__(
        self,
        settings: UpSettings,
        env_file: Path | None,
        clock: Clock,
        clock_address: str | None,
        gateway: Child,
        serve: Child,
        worker: Child,
    ) -> None:
        self._settings = settings
        self._env_file = env_file
        self._clock = clock
        self._clock_address = clock_address
        self._cleanups = AsyncExitStack()
        self._last_cleanups = AsyncExitStack()  # once the children have ended
        self._gateway, self._serve, self._worker = gateway, serve, worker
        self._children = (gateway, serve, worker)
        self._stop = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._signaled, number)
        for child in self._children:
            child.ready, child.ended = loop.create_future(), loop.create_future()
        listening = [asyncio.create_task(self._listen(child)) for child in self._children]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stop.wait())
        ends = [child.ended for child in self._children]
        await _first(starting, stopping, *ends)
        if starting.done() and not starting.exception():
            await _first(stopping, *ends)
        failed = not self._stop.is_set()
        if failed:
            self._report(starting)
        starting.cancel()
        stopping.cancel()
        await self._cleanups.aclose()
        drained = await self._stop_children()
        await self._last_cleanups.aclose()
        await asyncio.gather(starting, stopping, *listening, return_exceptions=True)
        return int(failed or not drained)

    def _signaled(self, number: int) -> None:
        if self._stop.is_set():
            for child in self._children:
                if not child.ended.done():
                    os.kill(child.pid, signal.SIGKILL)
            stop_counting_together()
            os._exit(128 + number)
        self._stop.set()

    def _report(self, starting: asyncio.Task[None]) -> None:
        """Say which child ended and why, or why the start failed."""
        for child in self._children:
            if child.ended.done():
                _say(child.why())
                return
        error = starting.exception()
        line = known_failure(error) if error else None
        if line is None:
            log.error("start failed", exc_info=error)
        _say(line or "the start failed")

    async def _listen(self, child: Child) -> None:
        """Take in what a child says, to its end."""
        loop = asyncio.get_running_loop()
        pending = b""
        try:
            while received := await loop.sock_recv(child.channel, 4096):
                *lines, pending = (pending + received).split(b"\n")
                for line in lines:
                    word, _, rest = line.decode().partition(" ")
                    if word == "failed":
                        child.failure = rest
                    elif not child.ready.done():
                        child.ready.set_result(rest)
        except ConnectionError:
            pass  # it ended with something unread
        _, status = await asyncio.to_thread(os.waitpid, child.pid, 0)
        child.ended.set_result(os.waitstatus_to_exitcode(status))

    async def _start(self) -> None:
        """Start everything, and say where it is once the gateway serves."""
        from postroomd.storage.migrations import migrate

        url = self._settings.database_url.get_secret_value()
        address = self._settings.grpc_address
        known = split_address(address)[1] != 0
        metrics = await self._last_cleanups.enter_async_context(serving_metrics(self._settings, collect_together))
        if known:
            self._gateway.go(connectable(address))
        await asyncio.to_thread(migrate, url)
        self._serve.go(address)
        self._worker.go(address)
        async with AsyncExitStack() as cleanups:
            from postroomd.storage.opening import open_repository

            repository = await open_repository(url)
            cleanups.push_async_callback(repository.close)
            bound, *admin = (await self._serve.ready).split()
            if not known:
                self._gateway.go(connectable(bound))
            http_address = await self._gateway.ready
            await self._worker.ready
            await _until_serving(connectable(http_address))
            clock_address = await self._serve_clock()

            environment = {"SCW_API_URL": api_url(http_address)}
            if not await repository.tenancy.list_keys():
                issued = await issue_key(
                    repository.tenancy,
                    organization_id=None,
                    project_id=None,
                    read_only=False,
                    expires_at=None,
                    mailbox_quota=self._settings.mailbox_quota,
                    now=self._clock.now(),
                )
                environment = scw_environment(issued, environment["SCW_API_URL"])
        # Printed first: the secret is nowhere else, should the file fail.
        lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
        lines += [f"# gRPC listens on {bound}", f"# REST listens on {http_address}"]
        lines += [f"# The admin service listens on {address}" for address in admin]
        lines += [f"# The clock listens on {address}" for address in clock_address]
        lines += [f"# Metrics are served on {address}" for address in metrics.values()]
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
        if self._env_file:
            write_env_file(self._env_file, environment)

    async def _serve_clock(self) -> Sequence[str]:
        """Serve the clock where it is one that can be moved on, until the cleanups. Raises Failed."""
        if not (self._clock_address and isinstance(self._clock, TrialClock)):
            return []
        from postroomd.runtime.trial_clock import serving

        try:
            return [await self._cleanups.enter_async_context(serving(self._clock, self._clock_address))]
        except OSError as error:
            raise not_listening("the clock", self._clock_address, error) from error

    async def _stop_children(self) -> bool:
        """Stop the gateway, then the rest; answers whether all ended by themselves and well."""
        await self._end(self._gateway)
        await asyncio.gather(self._end(self._worker), self._end(self._serve))
        return all(child.ended.result() == 0 for child in self._children)

    async def _end(self, child: Child) -> None:
        if child.ended.done():
            return
        os.kill(child.pid, signal.SIGTERM)  # not reaped yet: the pid is still the child's
        limit = self._settings.drain_seconds + KILL_MARGIN_SECONDS
        await asyncio.wait({child.ended}, timeout=limit)
        if not child.ended.done():
            _say(f"{child.name} has not ended within {limit:g} s: killing it")
            os.kill(child.pid, signal.SIGKILL)
            await child.ended


async def _first(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def _until_serving(http_address: str) -> None:
    """Wait until GET /readyz answers 200. Raises Failed where that takes too long."""
    host, port = split_address(http_address)
    request = f"GET /readyz HTTP/1.1\r\nHost: {http_address}\r\nConnection: close\r\n\r\n".encode()
    try:
        async with asyncio.timeout(READY_TIMEOUT_SECONDS):
            while True:
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(request)
                status = await reader.readline()
                writer.close()
                if status.split(b" ")[1:2] == [b"200"]:
                    return
                await asyncio.sleep(READY_POLL_SECONDS)
    except TimeoutError as error:
        raise Failed(f"the service is not ready after {READY_TIMEOUT_SECONDS:g} s: see the log") from error


def write_env_file(path: Path, environment: Mapping[str, str]) -> None:
    """Write `KEY=value` lines to a file of mode 0600, whole or not at all. Raises OSError."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(f"{name}={value}\n" for name, value in environment.items())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _say(line: str) -> None:
    sys.stderr.write(f"postroom: {line}\n")
    sys.stderr.flush()
