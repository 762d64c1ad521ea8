"""The service on a system clock that leaps: dates and deadlines are those of the right time."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from postroom.v1alpha1.mailbox_pb2 import Mailbox
from postroomd.domain.clock_leaps import WorkerClock
from postroomd.settings import SQLITE_PREFIX
from postroomd.storage.migrations import migrate
from postroomd.storage.opening import open_repository
from tests.rpc.service import Service, running_service
from tests.support.leaping_clock import LeapingClock
from tests.support.waiting import wait_until

DAY = timedelta(days=1)
RETENTION = 30 * DAY
UPTIME = 100 * DAY


@pytest.fixture
def clock() -> LeapingClock:
    return LeapingClock(datetime.now(UTC) - UPTIME, UPTIME)


@pytest.fixture
async def leaping(tmp_path: Path, clock: LeapingClock) -> AsyncIterator[Service]:
    """A service with that clock."""
    async with running_service(tmp_path, {}, with_worker=False, clock=clock) as running:
        yield running


def times(mailbox: Mailbox) -> tuple[datetime, datetime, datetime]:
    """Creation, start of the period and scheduled deletion."""
    stamps = (mailbox.created_at, mailbox.subscription_period_started_at, mailbox.deletion_scheduled_at)
    created, started, deletion = (stamp.ToDatetime(UTC) for stamp in stamps)
    return created, started, deletion


@pytest.mark.parametrize("off", [40 * DAY, -40 * DAY, 548 * 365 * DAY], ids=["forward", "backward", "centuries"])
async def test_dates_during_a_leap_are_those_of_the_right_time(
    leaping: Service, clock: LeapingClock, off: timedelta
) -> None:
    tenant = await leaping.tenant(expires_in=DAY)
    domain = await tenant.domain()
    before = await tenant.mailbox(domain, "before")
    await tenant.delete_mailbox(before)
    right = clock.system_time()
    clock.off = off
    assert (await tenant.restore_mailbox(before)).status == Mailbox.WAITING_DOMAIN
    deleted = await tenant.delete_mailbox(await tenant.mailbox(domain, "during"))
    assert times(deleted) == (right, right, right + RETENTION)
    assert await is_serving(leaping)
    await leaping.repository.clocks.accept(clock.system_time())
    unlimited = await leaping.tenant()
    domain = await unlimited.domain()
    await wait_until(lambda: is_created_at(unlimited, domain, clock.system_time()))


async def is_created_at(tenant: Any, domain: Any, time: datetime) -> bool:
    created: Mailbox = await tenant.mailbox(domain, f"m{asyncio.get_running_loop().time()}".replace(".", "-"))
    return created.created_at.ToDatetime(UTC) == time


async def test_a_service_that_does_not_know_the_time_changes_nothing(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    url = f"{SQLITE_PREFIX}{tmp_path / 'postroom.db'}"
    await asyncio.to_thread(migrate, url)
    repository = await open_repository(url)
    await repository.clocks.beat(WorkerClock("before the reboot", now, now - DAY), now - DAY)
    await repository.close()
    clock = LeapingClock(now - 40 * DAY, timedelta(0), "after the reboot")
    async with running_service(tmp_path, {}, with_worker=False, clock=clock) as service:
        tenant = await service.tenant()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await tenant.domain()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == "the clock of the service is not trusted: retry later"
        await wait_until(lambda: is_serving(service, expected=False))
        clock.off = 40 * DAY
        await tenant.domain()
        await wait_until(lambda: is_serving(service))


async def is_serving(service: Service, *, expected: bool = True) -> bool:
    health: Any = health_pb2_grpc.HealthStub(service.channel())
    response = await health.Check(health_pb2.HealthCheckRequest())
    return bool((response.status == health_pb2.HealthCheckResponse.SERVING) == expected)
