"""Fixtures: one service a module, and callers of it. A module's tests share its event loop."""

from collections.abc import AsyncIterator, Iterator, Mapping
from io import StringIO
from pathlib import Path

import pytest
import pytest_asyncio

from postroomd.storage.drivers import sqlite
from tests.rpc.support import Service, Tenant, logging_to, running


@pytest.fixture(scope="module", autouse=True)
def logs() -> Iterator[StringIO]:
    """The log lines of the module's tests."""
    with logging_to(StringIO()) as stream:
        yield stream


@pytest.fixture(scope="module")
def flags() -> Mapping[str, str]:
    """The settings that a module's service has besides those of every test."""
    return {}


@pytest.fixture(scope="module")
def work() -> bool:
    """Whether a worker runs beside the module's service; without one, statuses stay as they are set."""
    return True


@pytest.fixture(scope="module")
def busy_ms() -> int:
    """How long the module's service waits for a locked database."""
    return sqlite.BUSY_TIMEOUT_MS


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's service keeps its database."""
    return tmp_path_factory.mktemp("service")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(directory: Path, flags: Mapping[str, str], work: bool, busy_ms: int) -> AsyncIterator[Service]:
    """The module's service."""
    async with running(directory, flags, work=work, busy_ms=busy_ms) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def tenant(service: Service) -> Tenant:
    """A new organization's key."""
    return await service.tenant()
