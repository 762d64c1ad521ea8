"""The processes of Postroom, serve, gateway and worker: what each runs, alone or as a child of `postroom up`.

SIGTERM and SIGINT ask a process to drain and end; a second one ends it at once.
"""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TypeVar

from postroomd.clock import Clock
from postroomd.domain.errors import PostroomError
from postroomd.observability.exposition import Collect, collect_alone, counted_together, serving, stop_counting_together
from postroomd.observability.logs import get_logger
from postroomd.observability.metrics import begin
from postroomd.settings import Settings

Result = TypeVar("Result")
Ready = Callable[..., None]
Main = Callable[[Settings, asyncio.Event, Ready, Clock], Awaitable[None]]
"""What a process runs until the event is set; it calls Ready once, with each address that it listens on."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
COMM_LENGTH = 15  # octets of a process's name, Linux


class Failed(Exception):
    """A process can't do its work. The text is one line for the operator."""


def not_listening(purpose: str, address: str, error: OSError) -> Failed:
    """What to raise where an address can't be had."""
    reason = (error.strerror or str(error)).rpartition(": ")[2]  # asyncio's text quotes the address
    return Failed(f"can't listen for {purpose} on {address}: {reason}")


@asynccontextmanager
async def serving_metrics(settings: Settings, collect: Collect) -> AsyncIterator[Mapping[str, str]]:
    """Serve metrics during the block, where there is an address for it, which the block is given. Raises Failed."""
    if settings.metrics_address is None:
        yield {}
        return
    async with AsyncExitStack() as stack:
        try:
            bound = await stack.enter_async_context(serving(settings.metrics_address, collect))
        except OSError as error:
            raise not_listening("metrics", settings.metrics_address, error) from error
        yield {"metrics_address": bound}


def load_serve() -> Main:
    """The gRPC service."""
    from postroomd.runtime.service import serve

    return serve


def load_gateway() -> Main:
    """The REST gateway."""
    from postroomd.runtime.gateway import run

    return run


def load_worker() -> Main:
    """The worker."""
    from postroomd.runtime.worker import run

    return run


LOADERS: dict[str, Callable[[], Main]] = {"serve": load_serve, "gateway": load_gateway, "worker": load_worker}
"""Process -> what imports its modules, which takes most of its start, and gives what it runs."""


def load(name: str) -> Main:
    """What a process runs, its modules imported."""
    main = LOADERS[name]()
    gc.freeze()  # what is imported stays: else each full collection walks it all, and calls wait meanwhile
    return main


def known_failure(error: BaseException) -> str | None:
    """One line for an error that is the operator's to mend; None for a fault of ours."""
    if isinstance(error, PostroomError | Failed):
        return str(error)
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        return f"{error.filename}: {reason}" if error.filename else reason
    return None


def require_database(settings: Settings) -> None:
    """Raise Failed where an SQLite file is missing: opening it would make an empty one."""
    if settings.is_sqlite and not settings.database_path.exists():
        raise Failed(f"{settings.database_path}: there is no database: run `postroom migrate` first")


def run_alone(name: str, settings: Settings) -> None:
    """Run one process until it is told to stop. Raises what `known_failure` knows."""
    if name != "gateway":
        require_database(settings)
    _configure_logs(name, settings)
    log = get_logger(__name__)

    async def run(main: Main) -> None:
        stop = stop_on_signals()
        async with serving_metrics(settings, collect_alone) as metrics:
            await main(
                settings, stop, lambda *addresses: log.info("ready", **named_addresses(addresses), **metrics), Clock()
            )

    with counted_together(wanted=False):
        begin(name)
        run_in_loop(run(load(name)))


def named_addresses(addresses: Sequence[str]) -> Mapping[str, str]:
    """The addresses of a process that is ready, as its log line names them."""
    return dict(zip(("address", "admin_address"), addresses, strict=False))


def _configure_logs(name: str, settings: Settings) -> None:
    from postroomd.observability import logs

    # gRPC's core writes to stderr by itself, in a form of its own; what it says comes to us as exceptions too.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logs.configure(settings.log_level, settings.log_format, process=name)


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets; a second one ends the process at once."""
    stop = asyncio.Event()

    def signaled(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, signaled, number)
    return stop


def run_in_loop(main: Coroutine[object, object, Result]) -> Result:
    """Run `main` to its end in uvloop's event loop."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def run_as_child(name: str, settings: Settings, channel: socket.socket, clock: Clock) -> int:
    """Run one process as a child that talks to `postroom up` over `channel`, a line a message; answers its exit code.

    It imports its modules, waits for `go GRPC_ADDRESS`, runs, and says `ready ADDRESS…`, or `failed TEXT`. It drains
    and ends when the other side is closed, which happens even where `up` is killed.
    """
    name_process(f"postroom {name}")
    _configure_logs(name, settings)
    try:
        begin(name)
        run_in_loop(_child(name, settings, channel, clock))
    except Exception as error:  # the boundary of the process
        line = known_failure(error)
        if line is None:
            get_logger(__name__).exception("failed")
        else:
            channel.setblocking(True)
            with suppress(OSError):  # nobody is left to be told
                channel.sendall(f"failed {line}\n".encode())
        return 1
    return 0


def name_process(name: str) -> None:
    """Give this process, a fork, a name of its own in `ps`, where the system has a way to."""
    try:
        with open("/proc/self/comm", "w", encoding="utf-8") as comm:  # noqa: PTH123 # /proc is no ordinary path
            comm.write(name[:COMM_LENGTH])
    except OSError:
        pass


async def _child(name: str, settings: Settings, channel: socket.socket, clock: Clock) -> None:
    stop = stop_on_signals()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    channel.setblocking(False)
    going = asyncio.create_task(_first_line(channel))
    main = load(name)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({going, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set() or not (order := going.result()):
        going.cancel()
        if not stop.is_set():  # whoever would have said so is gone
            stop_counting_together()
        return
    watching = asyncio.create_task(_stop_at_end(channel, stop))
    address = order.removeprefix("go ")
    try:
        await main(
            settings.model_copy(update={"grpc_address": address}),
            stop,
            lambda *addresses: channel.sendall(f"{' '.join(('ready', *addresses))}\n".encode()),
            clock,
        )
    finally:
        watching.cancel()
        stopping.cancel()


async def _first_line(channel: socket.socket) -> str:
    """What `up` says; empty where it has gone."""
    line = b""
    while not line.endswith(b"\n"):
        received = await asyncio.get_running_loop().sock_recv(channel, 1024)
        if not received:
            return ""
        line += received
    return line.decode().strip()


async def _stop_at_end(channel: socket.socket, stop: asyncio.Event) -> None:
    with suppress(ConnectionError):  # what was to be told has ended with something unread
        while await asyncio.get_running_loop().sock_recv(channel, 1024):
            pass
    stop_counting_together()  # what would have is gone
    stop.set()
