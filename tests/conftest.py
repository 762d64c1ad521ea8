"""Settings of the whole test run, and the fixtures that several packages share."""

import os

import pytest

# Tests start programs from processes that use gRPC. Its fork handlers have crashed children before their exec.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

pytest_plugins = ["tests.support.databases", "tests.support.stores", "tests.support.internet"]

SLOWEST_PACKAGE = "random_lifecycles"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slowest package first, so that no core is idle while it finishes."""
    items.sort(key=lambda item: item.path.parent.name != SLOWEST_PACKAGE)
