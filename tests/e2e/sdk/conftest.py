"""Fixtures: a running Postroom that tests share, and a client of each SDK."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.sdk.client import SDKS, ResponseLog, Sdk
from tests.e2e.sdk.instances import Database, Instance, running

CreateDatabase = Callable[[Path], Database]
"""Creates an empty database, with its files, if any, in the directory. Each test module defines the fixture."""


@pytest.fixture(scope="session", autouse=True)
def responses() -> Iterator[ResponseLog]:
    """Every response of the session."""
    handler = ResponseLog()
    logger = logging.getLogger("scaleway")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture(scope="module")
def instance(
    tmp_path_factory: pytest.TempPathFactory, create_database: CreateDatabase, responses: ResponseLog
) -> Iterator[Instance]:
    """A running Postroom that a module's tests share. They must not stop it or change each other's resources."""
    directory = tmp_path_factory.mktemp("postroom")
    with running(directory, create_database(directory), responses) as started:
        yield started


@pytest.fixture
def private_instance(tmp_path: Path, create_database: CreateDatabase, responses: ResponseLog) -> Iterator[Instance]:
    """A running Postroom for one test, which may break it."""
    with running(tmp_path, create_database(tmp_path), responses) as started:
        yield started


@pytest.fixture(params=SDKS)
def sdk(request: pytest.FixtureRequest, instance: Instance) -> Sdk:
    """Each SDK in turn, with the first key of the shared instance."""
    return Sdk(request.param, instance.environment)


@pytest.fixture
def both_sdks(instance: Instance) -> list[Sdk]:
    """Both SDKs in one test, if its setup is slow."""
    return [Sdk(module, instance.environment) for module in SDKS]
