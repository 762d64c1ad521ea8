"""What an SDK's user sees of a Postroom that is broken, gone, stuck or at its limit; and that it recovers."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from scaleway_core.api import ScalewayException

from tests.e2e.sdk.client import SDKS, Answers, Sdk, eventually, is_refused, refusal_of, refused
from tests.e2e.sdk.instances import Apart, Instance, SqliteDatabase, running


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Apart]:
    """A service and a gateway of the test's own."""
    apart = Apart(tmp_path)
    try:
        apart.start()
        yield apart
    finally:
        apart.end()


@pytest.fixture
def busy_instance(tmp_path: Path, answers: Answers) -> Iterator[Instance]:
    """A Postroom of the test's own that takes its time to hash a password, one after another."""
    expensive = {
        "POSTROOM_ARGON2_MEMORY_KIB": "19456",
        "POSTROOM_ARGON2_TIME_COST": "2",
        "POSTROOM_HASH_THREADS": "1",
        "POSTROOM_HASH_QUEUE": "100",
    }
    with running(tmp_path, SqliteDatabase(tmp_path), answers, **expensive) as started:
        yield started


async def test_too_many_requests_says_when_to_try_again(busy_instance: Instance) -> None:
    clients = [Sdk(module, busy_instance.environment) for module in SDKS * 2]
    sdk = clients[0]
    domain = await sdk.create_domain(name="busy.example")
    batches = [[f"b{batch}.m{number}" for number in range(60)] for batch in range(len(clients))]

    async def create(batch: int) -> int | None:
        """How many mailboxes were made; None where the batch was refused."""
        try:
            return len(await clients[batch].create_mailboxes(domain.id, *batches[batch]))
        except ScalewayException as error:
            refusal = refusal_of(error, 429, "too_many_requests")
        assert refusal.keys == {}
        assert 1 <= int(refusal.headers["Retry-After"]) <= 10
        return None

    # From threads, since at heart both SDKs block.
    made = await asyncio.gather(*(asyncio.to_thread(asyncio.run, create(batch)) for batch in range(len(batches))))
    assert set(made) == {60, None}
    listed = await sdk.list_mailboxes(domain_id=domain.id)
    assert listed.total_count == 60 * made.count(60)  # of what was refused, nothing was done
    assert await create(made.index(None)) == 60


async def test_service_that_is_stuck_or_gone_is_told_apart_and_back_by_itself(apart: Apart) -> None:
    clients = [Sdk(module, apart.environment) for module in SDKS]

    async def answers(*, unless: int) -> bool:
        return not await is_refused(clients[0].list_domains(), unless)

    await eventually(lambda: answers(unless=504))

    apart.service.process.send_signal(signal.SIGSTOP)
    for sdk in clients:
        refusal = await refused(sdk.list_domains(), 504, "deadline_exceeded")
        assert refusal.keys == {}
    apart.service.process.send_signal(signal.SIGCONT)
    await eventually(lambda: answers(unless=504))

    apart.kill_service()
    for sdk in clients:
        for call in (sdk.list_domains(), sdk.create_domain(name="never.example")):
            refusal = await refused(call, 503, "unavailable")
            assert refusal.keys == {}
            assert int(refusal.headers["Retry-After"]) >= 1
    apart.restart_service()
    await eventually(lambda: answers(unless=503))
    for sdk in clients:
        assert (await sdk.list_domains()).total_count == 0  # nothing was done of what was refused
