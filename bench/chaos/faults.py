"""Faults of SQLite's files, and how the processes report them."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import aiohttp

from bench.process import LogRecord, Process

REPORT_TIMEOUT_SECONDS = 30.0
POLL_SECONDS = 0.05
HEADER_BYTES = 100


def overwrite(path: Path) -> None:
    """Overwrite the header of a database that this process does not have open."""
    with path.open("r+b") as file:
        file.write(b"\xa5" * HEADER_BYTES)


async def not_serving_reason(gateway: Process, repeatedly: Callable[[], None] = lambda: None) -> str:
    """Wait until /readyz of the gateway is 503 because of the database's files, and return its reason."""
    async with asyncio.timeout(REPORT_TIMEOUT_SECONDS), aiohttp.ClientSession() as http:
        while True:
            await asyncio.to_thread(repeatedly)
            async with http.get(f"http://{gateway.address}/readyz") as response:
                if response.status == 503:
                    reason = str((await response.json())["reason"])
                    if "NOT_SERVING" in reason:
                        return reason
            await asyncio.sleep(POLL_SECONDS)


async def fault_record(service: Process) -> LogRecord:
    """Return the log record of a fault."""
    return await service.wait_for_log(lambda record: record["event"] == "database fault")
