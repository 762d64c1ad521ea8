"""Several processes of `serve` or `gateway` on one address: `--workers N`.

They share the port (SO_REUSEPORT) and the kernel spreads connections over them. Each is spawned, a new interpreter: a
process that has gRPC in it must not be forked. The process that starts them serves nothing; it passes signals on, and
where one of them ends by itself it says so and stops the rest.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta

from pydantic import SecretStr

from postroomd.clock import Clock
from postroomd.durations import format_duration
from postroomd.net import join_address, split_address
from postroomd.observability.exposition import collect_together, counted_together
from postroomd.observability.logs import get_logger
from postroomd.runtime.processes import Failed, named_addresses, run_as_child, serving_metrics, stop_on_signals
from postroomd.settings import BadSetting, Settings, load_settings, variable

ADDRESSES = {"serve": ("grpc_address", "admin_address"), "gateway": ("http_address",)}
"""What each process listens on, as settings; one that is not set is not listened on."""

log = get_logger(__name__)


def run_workers(name: str, settings: Settings) -> int:
    """Run `settings.workers` processes until SIGINT or SIGTERM; answers the exit code. Raises Failed, BadSetting."""
    if name == "serve" and settings.is_sqlite:
        raise BadSetting("--workers: an SQLite file belongs to one process: more than one needs PostgreSQL")
    with ExitStack() as reservations:
        bound = {
            setting: reservations.enter_context(_reserved(address))
            for setting in ADDRESSES[name]
            if (address := getattr(settings, setting))
        }
        return asyncio.run(_supervise(name, settings, bound))


@contextmanager
def _reserved(address: str) -> Iterator[str]:
    """The address with its port, which is this process's to give away. Raises Failed where somebody has it.

    A port that is shared can be joined by anyone, a second Postroom by mistake among them: it is first taken alone.
    """
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as alone:
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            alone.bind((host, port))
            alone.listen()  # with SO_REUSEADDR, only listening tells that nobody else does
        except OSError as error:
            raise Failed(f"can't listen on {address}: {error.strerror}") from error
        port = alone.getsockname()[1]
    with closing(socket.socket(family, socket.SOCK_STREAM)) as shared:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind((host, port))  # bound and not listening: it keeps the port, and takes no connection
        yield join_address(host, port)


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment variables that give another process these settings. They may hold secrets."""
    return {
        variable(name): _text(value) for name in Settings.model_fields if (value := getattr(settings, name)) is not None
    }


def _text(value: object) -> str:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case timedelta():
            return format_duration(value)
        case tuple():
            return ",".join(map(str, value))
        case _:
            return str(value)


async def _supervise(name: str, settings: Settings, bound: Mapping[str, str]) -> int:
    stop = stop_on_signals()
    with counted_together(wanted=settings.metrics_address is not None):
        environment = os.environ | environment_of(settings) | {variable(each): bound[each] for each in bound}
        async with serving_metrics(settings, collect_together) as metrics:
            return await _run(name, settings, environment, {**named_addresses([*bound.values()]), **metrics}, stop)


async def _run(
    name: str, settings: Settings, environment: dict[str, str], addresses: Mapping[str, str], stop: asyncio.Event
) -> int:
    workers = [_spawn(name, environment) for _ in range(settings.workers)]
    ends = [asyncio.create_task(asyncio.to_thread(worker.process.wait)) for worker in workers]
    stopping = asyncio.create_task(stop.wait())
    ready = asyncio.create_task(_all_ready(workers))
    try:
        await asyncio.wait({ready, stopping, *ends}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done() and ready.result():
            log.info("ready", workers=settings.workers, **addresses)
            await asyncio.wait({stopping, *ends}, return_when=asyncio.FIRST_COMPLETED)
        failed = not stop.is_set()
        if failed:
            log.error("a worker ended by itself: the others are stopped")
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM)
        codes = await asyncio.gather(*ends)
        ready.cancel()
        stopping.cancel()
        for worker in workers:
            worker.channel.close()
    return int(failed or any(codes))


@dataclass(frozen=True, slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    channel: socket.socket


def _spawn(name: str, environment: dict[str, str]) -> _Worker:
    ours, theirs = socket.socketpair()
    descriptor = theirs.fileno()
    # A session of its own: Ctrl-C reaches this process alone, which passes it on once.
    process = subprocess.Popen(  # noqa: S603 # our own interpreter and module
        [sys.executable, "-m", "postroomd.runtime.prefork", name, str(descriptor)],
        env=environment,
        pass_fds=[descriptor],
        start_new_session=True,
    )
    theirs.close()
    ours.setblocking(False)
    ours.sendall(f"go {environment[variable('grpc_address')]}\n".encode())
    return _Worker(process, ours)


async def _all_ready(workers: list[_Worker]) -> bool:
    """Whether every worker has said `ready`; False where one has gone, or failed, before."""
    loop = asyncio.get_running_loop()
    for worker in workers:
        said = b""
        while not said.endswith(b"\n"):
            try:
                received = await loop.sock_recv(worker.channel, 1024)
            except ConnectionError:  # it ended with something unread
                received = b""
            if not received:
                return False
            said += received
        if said.startswith(b"failed "):
            sys.stderr.write(f"postroom: {said.decode().removeprefix('failed ')}")
            return False
    return True


def main() -> None:
    """Be one worker: its name, and the descriptor of its end of the socket pair, are the arguments."""
    name, descriptor = sys.argv[1:]
    sys.exit(run_as_child(name, load_settings({}), socket.socket(fileno=int(descriptor)), Clock()))


if __name__ == "__main__":
    main()
