"""The processes `serve`, `gateway` and `worker`: their main functions, and what they have in common.

SIGTERM or SIGINT make a process drain and exit; a second signal ends it at once.
"""

import asyncio
import gc
import os
import resource
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TypeVar

from postroomd.clock import Clock
from postroomd.domain.errors import StorageUnavailable
from postroomd.observability.exposition import Collect, collect_process, metrics_server, shared_metrics_directory
from postroomd.observability.logs import get_logger
from postroomd.observability.metrics import register_metrics
from postroomd.runtime.database_locks import require_file
from postroomd.runtime.errors import FatalError, listen_error
from postroomd.settings import Settings

Result = TypeVar("Result")
Ready = Callable[..., None]
Main = Callable[[Settings, asyncio.Event, Ready, Clock], Awaitable[None]]
"""Main function of a process: runs until the event is set, and calls Ready once with the addresses it listens on."""

MAX_OPEN_FILES = 65_536
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _load_serve() -> Main:
    from postroomd.runtime.service import serve

    return serve


def _load_gateway() -> Main:
    from postroomd.runtime.gateway import run

    return run


def _load_worker() -> Main:
    from postroomd.runtime.worker import run

    return run


LOADERS: Mapping[str, Callable[[], Main]] = {"serve": _load_serve, "gateway": _load_gateway, "worker": _load_worker}
"""Process -> the function that imports its modules, which takes most of its startup time, and returns its Main."""


def load_main(name: str) -> Main:
    """Import the modules of a process, and return its main function."""
    main = LOADERS[name]()
    gc.freeze()  # imported objects stay: otherwise each full collection scans them all, and calls wait meanwhile
    return partial(_run_located, main)


async def _run_located(main: Main, settings: Settings, stop: asyncio.Event, ready: Ready, clock: Clock) -> None:
    """Run the main function of a process. If its database is unavailable, the error names it and the cause."""
    try:
        await main(settings, stop, ready, clock)
    except StorageUnavailable as error:
        from postroomd.storage.failures import located

        raise located(settings.database_url.get_secret_value(), error) from error


def run_process(name: str, settings: Settings, clock: Clock | None = None) -> None:
    """Run a single process until a signal stops it, by default with the system's clock.

    Raises FatalError, PostroomError and OSError.
    """
    if name != "gateway":
        require_database(settings)
    configure_logs(name, settings)
    raise_open_files_limit()
    log = get_logger(__name__)

    async def run(main: Main) -> None:
        stop = stop_on_signals()
        async with serving_metrics(settings, collect_process) as metrics:
            await main(
                settings,
                stop,
                lambda *addresses: log.info("ready", **address_fields(addresses), **metrics),
                clock or Clock(),
            )

    with shared_metrics_directory(enabled=False):
        register_metrics(name)
        run_in_loop(run(load_main(name)))


def require_database(settings: Settings) -> None:
    """Raise FatalError if the SQLite file is missing, which opening would create, or is none."""
    if settings.is_sqlite:
        require_file(settings.database_path)
    if settings.is_sqlite and not settings.database_path.exists():
        path = settings.database_path.absolute()  # a relative one depends on where the command runs
        raise FatalError(f"{path}: there is no database: correct --database-url, or run `postroom migrate` first")


def configure_logs(name: str, settings: Settings) -> None:
    """Configure the logs of a process."""
    from postroomd.observability import logs

    # gRPC's core writes to stderr in a format of its own; its errors reach us as exceptions as well.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logs.configure(settings.log_level, settings.log_format, process=name)


def raise_open_files_limit() -> int:
    """Raise the number of files that this process may open to the hard limit, and return it.

    The usual soft limit, 1,024, is for programs that use select(). Connections alone could exhaust it; then neither
    further connections nor the database can be opened.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


@asynccontextmanager
async def serving_metrics(settings: Settings, collect: Collect) -> AsyncIterator[Mapping[str, str]]:
    """Serve metrics during the block, if an address is set; yields it as a log field. Raises FatalError."""
    if settings.metrics_address is None:
        yield {}
        return
    async with AsyncExitStack() as stack:
        try:
            bound = await stack.enter_async_context(metrics_server(settings.metrics_address, collect))
        except OSError as error:
            raise listen_error("metrics", settings.metrics_address, error) from error
        yield {"metrics_address": bound}


def address_fields(addresses: Sequence[str]) -> Mapping[str, str]:
    """Return the addresses of a ready process as fields of its log line."""
    return dict(zip(("address", "admin_address"), addresses, strict=False))


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM or SIGINT sets; a second signal ends the process at once."""
    stop = asyncio.Event()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    return stop


def run_in_loop(main: Coroutine[object, object, Result]) -> Result:
    """Run a coroutine in a uvloop event loop, and return its result."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
