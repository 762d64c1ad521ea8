"""Settings of the whole test run, and the fixtures that several packages share."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.logs import restored_logging

# Tests start programs from processes that use gRPC. Its fork handlers have crashed children before their exec.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# A shell ignores SIGINT in what it runs in the background, and the programs that tests interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["tests.support.databases", "tests.support.stores", "tests.support.internet"]


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Restore the umask: commands that run in the process of the tests set a private one."""
    previous = os.umask(0o022)
    yield
    os.umask(previous)


@pytest.fixture(autouse=True)
def logging_configuration() -> Iterator[None]:
    """Restore the configuration of logs, which commands in the process of the tests change."""
    with restored_logging():
        yield


SLOWEST_PACKAGE = "random_lifecycles"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slowest package first, so that no core is idle while it finishes."""
    items.sort(key=lambda item: item.path.parent.name != SLOWEST_PACKAGE)
