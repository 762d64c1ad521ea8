"""Fixtures: one service per module, and callers of it. A module's tests share its event loop."""

from collections.abc import AsyncIterator, Iterator, Mapping
from io import StringIO
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from postroom.v1alpha1.domain_pb2 import Domain
from postroom.v1alpha1.mailbox_pb2 import Mailbox
from postroomd.storage.drivers import sqlite
from tests.rpc.client import Tenant
from tests.rpc.service import Service, logging_to, running_service


@pytest.fixture(scope="module", autouse=True)
def logs() -> Iterator[StringIO]:
    """The log lines of the module's tests."""
    with logging_to(StringIO()) as stream:
        yield stream


@pytest.fixture(scope="module")
def overrides() -> Mapping[str, str]:
    """Settings of the module's service, besides those of every test."""
    return {}


@pytest.fixture(scope="module")
def with_worker() -> bool:
    """Whether a worker runs beside the module's service; without one, statuses stay as they are set."""
    return True


@pytest.fixture(scope="module")
def busy_timeout_ms() -> int:
    """How long the module's service waits for a locked database."""
    return sqlite.BUSY_TIMEOUT_MS


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the module's database."""
    return tmp_path_factory.mktemp("service")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(
    directory: Path, overrides: Mapping[str, str], with_worker: bool, busy_timeout_ms: int
) -> AsyncIterator[Service]:
    """The module's service."""
    async with running_service(
        directory, overrides, with_worker=with_worker, busy_timeout_ms=busy_timeout_ms
    ) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def tenant(service: Service) -> Tenant:
    """A caller of a new organization."""
    return await service.tenant()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def owner(service: Service) -> Tenant:
    """A caller that the module's tests share."""
    return await service.tenant()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def domain(owner: Tenant) -> Domain:
    """A domain of the owner, which no test changes."""
    return await owner.domain()


@pytest_asyncio.fixture(loop_scope="module")
async def mailbox(owner: Tenant, domain: Domain) -> Mailbox:
    """A new mailbox in that domain."""
    return await owner.mailbox(domain, f"m{uuid4().hex}")


@pytest_asyncio.fixture(loop_scope="module")
async def own_service(tmp_path: Path) -> AsyncIterator[Service]:
    """A service for one test, which may damage its database."""
    async with running_service(tmp_path, {}, with_worker=False, busy_timeout_ms=1_000) as running:
        yield running
