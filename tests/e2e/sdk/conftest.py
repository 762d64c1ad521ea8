"""Fixtures: a Postroom on each engine that the tests share, and each SDK as its client."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.sdk.client import SDKS, Answers, Sdk
from tests.e2e.sdk.instances import Database, Instance, running

MakeDatabase = Callable[[Path], Database]
"""Makes an empty database, whose files stand in the directory if it has any. A module says of which engine."""


@pytest.fixture(scope="session", autouse=True)
def answers() -> Iterator[Answers]:
    """Every answer that a client has got."""
    handler = Answers()
    logger = logging.getLogger("scaleway")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture(scope="module")
def instance(
    tmp_path_factory: pytest.TempPathFactory, make_database: MakeDatabase, answers: Answers
) -> Iterator[Instance]:
    """A running Postroom that a module's tests share: they leave it running, and what others made in it alone."""
    directory = tmp_path_factory.mktemp("postroom")
    with running(directory, make_database(directory), answers) as started:
        yield started


@pytest.fixture
def private_instance(tmp_path: Path, make_database: MakeDatabase, answers: Answers) -> Iterator[Instance]:
    """A running Postroom that the test may break."""
    with running(tmp_path, make_database(tmp_path), answers) as started:
        yield started


@pytest.fixture(params=SDKS)
def sdk(request: pytest.FixtureRequest, instance: Instance) -> Sdk:
    """Each SDK in turn, with the key of the shared instance's first start."""
    return Sdk(request.param, instance.environment)


@pytest.fixture
def both(instance: Instance) -> list[Sdk]:
    """Both SDKs at once, where what comes before their calls takes its time."""
    return [Sdk(module, instance.environment) for module in SDKS]
