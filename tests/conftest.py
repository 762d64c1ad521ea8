"""Settings of the whole test run, and the fixtures that several packages share."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support.logs import restored_logging

# Tests start programs from processes that use gRPC. Its fork handlers have crashed children before their exec.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# A proxy of the machine is for the Internet: the servers of the tests are on loopback.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(
    filter(None, (os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "localhost,127.0.0.1,::1"))
)

# A shell ignores SIGINT in what it runs in the background, and the programs that tests interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# By default, Python spends an eighth of the time of tests on searching the modules of libraries for garbage.
gc.set_threshold(20_000, 20, 50)

# An example may take any time on a busy machine: by default, one of more than 0.2 s fails its test. Each run has the
# same examples, so that a failure belongs to the change that it is seen with; `make soak` draws new ones.
hypothesis.settings.register_profile(
    "repeatable",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize="POSTROOM_SOAK_EXAMPLES" not in os.environ,
)
hypothesis.settings.load_profile("repeatable")

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


SLOWEST = (
    "worker/random_lifecycles/test_sqlite.py",
    "worker/random_lifecycles/test_postgresql.py",
    "storage/test_contract.py",
    "storage/test_migrations.py",
    "e2e/test_trial_clock.py",
    "e2e/test_up.py",
    "storage/test_copying.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slowest files first, so that no core is idle while one of them finishes."""
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(SLOWEST)))
