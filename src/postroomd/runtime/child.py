"""A process as the child of the supervisor or of prefork."""

import asyncio
import signal
import socket
from contextlib import suppress

from postroomd.clock import Clock
from postroomd.observability.exposition import remove_shared_metrics_directory
from postroomd.observability.logs import get_logger
from postroomd.observability.metrics import register_metrics
from postroomd.runtime.channel import FAILED, READY, Channel
from postroomd.runtime.errors import operator_message
from postroomd.runtime.processes import (
    STOP_SIGNALS,
    configure_logs,
    load_main,
    raise_open_files_limit,
    run_in_loop,
    stop_on_signals,
)
from postroomd.settings import Settings

MAX_PROCESS_NAME = 15  # bytes, on Linux


def run_child(name: str, settings: Settings, end: socket.socket, clock: Clock) -> int:
    """Run a process as a child connected to its parent by `end` of a socket pair; returns its exit code.

    It imports its modules, waits for `start`, runs, and sends `ready` or `failed`. It drains and exits when the parent
    exits, even if that was killed.
    """
    set_process_name(f"postroom {name}")
    configure_logs(name, settings)
    raise_open_files_limit()
    parent = Channel(end)
    try:
        register_metrics(name)
        run_in_loop(_run(name, settings, parent, clock))
    except Exception as error:  # the outermost boundary of the process
        message = operator_message(error)
        if message is None:
            get_logger(__name__).exception("process failed")
        else:
            with suppress(OSError):  # the parent has exited
                parent.send(FAILED, message)
        return 1
    return 0


def set_process_name(name: str) -> None:
    """Set the name that `ps` shows for this process, where the system supports it."""
    with suppress(OSError), open("/proc/self/comm", "w", encoding="utf-8") as comm:  # noqa: PTH123 # not a regular file
        comm.write(name[:MAX_PROCESS_NAME])


async def _run(name: str, settings: Settings, parent: Channel, clock: Clock) -> None:
    stop = stop_on_signals()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    starting = asyncio.create_task(parent.receive())
    main = load_main(name)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set() or not (message := starting.result()):
        starting.cancel()
        if not stop.is_set():  # the parent has exited
            remove_shared_metrics_directory()
        return
    _, grpc_address = message
    watching = asyncio.create_task(stop_with_parent(parent, stop))
    try:
        await main(
            settings.model_copy(update={"grpc_address": grpc_address}),
            stop,
            lambda *addresses: parent.send(READY, *addresses),
            clock,
        )
    finally:
        watching.cancel()
        stopping.cancel()


async def stop_with_parent(parent: Channel, stop: asyncio.Event) -> None:
    """Set `stop` once the parent has exited, and remove the shared metrics in its place."""
    await parent.wait_closed()
    remove_shared_metrics_directory()
    stop.set()
