"""Several `serve` or `gateway` processes on one address: `--processes N`.

They share the port (SO_REUSEPORT), and the kernel distributes connections over them. Each child is spawned as a new
interpreter, since a process that has loaded gRPC must not be forked. The parent serves no requests: it forwards
signals, and if one child exits unexpectedly it stops the others.
"""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from postroomd.net import join_address, split_address
from postroomd.observability.exposition import collect_all_processes, shared_metrics_directory
from postroomd.observability.logs import get_logger
from postroomd.runtime.channel import FAILED, Channel
from postroomd.runtime.errors import FatalError
from postroomd.runtime.processes import address_fields, serving_metrics, stop_on_signals
from postroomd.runtime.spawning import spawn
from postroomd.settings import InvalidSetting, Settings

ADDRESS_SETTINGS = {"serve": ("grpc_address", "admin_address"), "gateway": ("http_address", "autoconfig_address")}
"""Process -> the settings of the addresses that it listens on; those not set are skipped."""

log = get_logger(__name__)


def run_processes(name: str, settings: Settings) -> int:
    """Run `settings.processes` children until SIGINT or SIGTERM; returns the exit code.

    Raises FatalError, and InvalidSetting for SQLite.
    """
    if name == "serve" and settings.is_sqlite:
        raise InvalidSetting("--processes: SQLite allows one process: use PostgreSQL for more")
    with ExitStack() as reservations:
        bound = {
            setting: reservations.enter_context(_reserved(address))
            for setting in ADDRESS_SETTINGS[name]
            if (address := getattr(settings, setting))
        }
        return asyncio.run(_run(name, settings, bound))


@contextmanager
def _reserved(address: str) -> Iterator[str]:
    """Reserve a port for the children during the block; yields the address with the port. Raises FatalError if in use.

    Any process of the same user can join a shared port, a second Postroom by mistake included. So it is first bound
    exclusively.
    """
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as exclusive:
        exclusive.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            exclusive.bind((host, port))
            exclusive.listen()  # with SO_REUSEADDR, only listening detects another listener
        except OSError as error:
            raise FatalError(f"can't listen on {address}: {error.strerror}") from error
        port = exclusive.getsockname()[1]
    with closing(socket.socket(family, socket.SOCK_STREAM)) as shared:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind((host, port))  # bound but not listening: it keeps the port and receives no connections
        yield join_address(host, port)


async def _run(name: str, settings: Settings, bound: Mapping[str, str]) -> int:
    stop = stop_on_signals()
    with shared_metrics_directory(enabled=settings.metrics_address is not None):
        settings = settings.model_copy(update=dict(bound))
        async with serving_metrics(settings, collect_all_processes) as metrics:
            fields = {**address_fields([*bound.values()]), **metrics}
            children = [_Child(*spawn(name, settings, settings.grpc_address)) for _ in range(settings.processes)]
            return await _supervise(children, fields, stop)


@dataclass(frozen=True, slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    channel: Channel


async def _supervise(children: Sequence[_Child], fields: Mapping[str, str], stop: asyncio.Event) -> int:
    """Wait for `stop` or for the end of a child, and stop them all; returns the exit code. `fields` are logged."""
    exits = [asyncio.create_task(asyncio.to_thread(child.process.wait)) for child in children]
    stopping = asyncio.create_task(stop.wait())
    ready = asyncio.create_task(_all_ready(children))
    try:
        await asyncio.wait({ready, stopping, *exits}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done() and ready.result():
            log.info("ready", processes=len(children), **fields)
            await asyncio.wait({stopping, *exits}, return_when=asyncio.FIRST_COMPLETED)
        failed = not stop.is_set()
        if failed:
            log.error("process exited unexpectedly, stopping the others")
    finally:
        for child in children:
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)
        codes = await asyncio.gather(*exits)
        ready.cancel()
        stopping.cancel()
        for child in children:
            child.channel.close()
    return int(failed or any(codes))


async def _all_ready(children: Sequence[_Child]) -> bool:
    """Return True once every child is ready, or False as soon as one has failed or exited."""
    for child in children:
        message = await child.channel.receive()
        if message is None:
            return False
        kind, text = message
        if kind == FAILED:
            sys.stderr.write(f"postroom: {text}\n")
            return False
    return True
