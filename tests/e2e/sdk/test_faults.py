"""Errors that SDK users get from a Postroom that is overloaded, stuck or down, and its recovery."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from scaleway_core.api import ScalewayException

from tests.e2e.sdk.client import SDKS, ResponseLog, Sdk, expect_error, fails, parse_error
from tests.e2e.sdk.instances import Instance, SeparateProcesses, SqliteDatabase, running
from tests.support.waiting import wait_until


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[SeparateProcesses]:
    """A service and a gateway for one test."""
    processes = SeparateProcesses(tmp_path)
    try:
        processes.start()
        yield processes
    finally:
        processes.terminate()


@pytest.fixture
def slow_instance(tmp_path: Path, responses: ResponseLog) -> Iterator[Instance]:
    """A Postroom for one test with expensive password hashes and one hashing thread."""
    expensive = {
        "POSTROOM_ARGON2_MEMORY_KIB": "19456",
        "POSTROOM_ARGON2_TIME_COST": "2",
        "POSTROOM_HASH_THREADS": "1",
        "POSTROOM_HASH_QUEUE": "100",
    }
    with running(tmp_path, SqliteDatabase(tmp_path), responses, **expensive) as started:
        yield started


async def test_too_many_requests_gives_a_retry_delay(slow_instance: Instance) -> None:
    clients = [Sdk(module, slow_instance.environment) for module in SDKS * 2]
    sdk = clients[0]
    domain = await sdk.create_domain(name="busy.example")
    batches = [[f"b{batch}.m{number}" for number in range(60)] for batch in range(len(clients))]

    async def create(batch: int) -> int | None:
        """Return the number of created mailboxes, or None if the batch was rejected."""
        try:
            return len(await clients[batch].create_mailboxes(domain.id, *batches[batch]))
        except ScalewayException as error:
            rejection = parse_error(error, 429, "too_many_requests")
        assert rejection.keys == {}
        assert 1 <= int(rejection.headers["Retry-After"]) <= 10
        return None

    # In threads, because both SDKs use blocking I/O.
    created = await asyncio.gather(*(asyncio.to_thread(asyncio.run, create(batch)) for batch in range(len(batches))))
    assert set(created) == {60, None}
    listed = await sdk.list_mailboxes(domain_id=domain.id)
    assert listed.total_count == 60 * created.count(60)  # a rejected batch has no effect
    assert await create(created.index(None)) == 60


async def test_stuck_service_is_504_stopped_service_503_and_both_recover(processes: SeparateProcesses) -> None:
    clients = [Sdk(module, processes.environment) for module in SDKS]

    async def responds() -> bool:
        return not await fails(clients[0].list_domains(), 503, 504)

    await wait_until(responds)

    processes.service.process.send_signal(signal.SIGSTOP)
    for sdk in clients:
        error = await expect_error(sdk.list_domains(), 504, "deadline_exceeded")
        assert error.keys == {}
    processes.service.process.send_signal(signal.SIGCONT)
    await wait_until(responds)

    processes.kill_service()
    for sdk in clients:
        for call in (sdk.list_domains(), sdk.create_domain(name="never.example")):
            error = await expect_error(call, 503, "unavailable")
            assert error.keys == {}
            assert int(error.headers["Retry-After"]) >= 1
    processes.restart_service()
    await wait_until(responds)  # 503 without a connection, and 504 while the service does not serve it yet
    for sdk in clients:
        assert (await sdk.list_domains()).total_count == 0  # a failed call has no effect
