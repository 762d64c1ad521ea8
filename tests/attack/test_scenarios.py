"""A sample of the attacks of `bench.attack`: no call of the victim is lost, and nothing of the attack is left.

Counts only, no times: the victim makes a number of calls, a few at a time, and each has all the time it needs. Run by
`make test-attack`: each test starts the whole product.
"""

import asyncio
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from bench.attack.scenarios import SCENARIOS, Scenario
from bench.attack.stack import Stack, running, stop
from bench.attack.victim import grpc_calls
from postroomd.rpc.tcp_connections import is_supported
from tests.support.waiting import block_until
from tools.ports import free_address

CALLS = 200
IDLE_CONNECTIONS = 10
"""More than the gateway opens to the service, as it needs them."""
SLOW_SECONDS = 300.0
"""Longer than anything takes on a busy machine."""

NAMES = (
    "grpc-calls",
    "grpc-calls-reset",
    "grpc-unfinished-streams",
    "grpc-oversized-metadata",
    "grpc-invalid-keys",
    "rest-unfinished-bodies",
    "tenant-password-batches",
)
SAMPLE = [scenario for scenario in SCENARIOS if scenario.name in NAMES]
PAUSED = [
    scenario
    for scenario in SCENARIOS
    if scenario.name in {"grpc-pings", "grpc-settings", "grpc-continuations", "grpc-many-connections"}
]


@contextmanager
def attacking(scenario: Scenario, stack: Stack, has_begun: Callable[[], bool]) -> Iterator[None]:
    arguments = json.dumps(scenario.arguments(stack))
    process = subprocess.Popen([sys.executable, "-m", "bench.attack.attackers", scenario.attack, arguments])
    try:
        block_until(has_begun, SLOW_SECONDS)
        yield
        assert process.poll() is None, "the attack has ended by itself"
    finally:
        stop(process)


def outcomes(scenario: Scenario, stack: Stack) -> Mapping[str, int]:
    """The victim's calls by outcome."""
    address = stack.grpc_address if scenario.victim == "grpc" else stack.http_address
    arguments = (scenario.victim, address, stack.victim.token, stack.victim.mailbox_id, f"--calls={CALLS}")
    command = [sys.executable, "-m", "bench.attack.victim", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, timeout=SLOW_SECONDS)
    counts: Mapping[str, int] = json.loads(done.stdout)["outcomes"]
    return counts


def value(metrics_address: str, metric: str) -> float:
    """The sum of a metric's samples."""
    with urllib.request.urlopen(f"http://{metrics_address}/metrics", timeout=SLOW_SECONDS) as response:
        text = response.read().decode()
    return sum(float(sample) for sample in re.findall(rf"^{metric}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE))


def connections_to(port: int) -> int:
    """The number of established TCP connections whose local port is this one."""
    # gRPC listens for IPv4 and IPv6 by one socket, whose connections are all in tcp6.
    rows = [row for table in ("tcp", "tcp6") for row in Path("/proc/net", table).read_text().splitlines()[1:]]
    columns = [row.split() for row in rows]
    return sum(int(column[1].rpartition(":")[2], 16) == port and column[3] == "01" for column in columns)


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


async def read_once(stack: Stack) -> None:
    async with grpc.aio.insecure_channel(stack.grpc_address) as channel:
        await grpc_calls(channel, stack.victim.token, stack.victim.mailbox_id, SLOW_SECONDS)()


@pytest.mark.parametrize("scenario", SAMPLE, ids=[scenario.name for scenario in SAMPLE])
def test_the_victim_loses_no_call(scenario: Scenario, tmp_path: Path) -> None:
    metrics = {name: free_address() for name in ("serve", "gateway")}
    flags = {name: [*scenario.flags.get(name, ()), f"--metrics-address={address}"] for name, address in metrics.items()}
    with running(tmp_path, f"sqlite+aiosqlite:///{tmp_path / 'postroom.db'}", flags) as stack:
        ports = [port_of(stack.grpc_address), port_of(stack.http_address)]
        before = sum(connections_to(port) for port in ports)

        def connections() -> int:
            return sum(connections_to(port) for port in ports)

        with attacking(scenario, stack, lambda: connections() > before):
            assert outcomes(scenario, stack) == {"OK": CALLS}
        # The attacker has gone: nothing of it is left.
        block_until(lambda: value(metrics["serve"], "postroom_calls_in_progress") == 0, SLOW_SECONDS)
        block_until(lambda: connections() <= before + IDLE_CONNECTIONS, SLOW_SECONDS)
        asyncio.run(read_once(stack))


@pytest.mark.skipif(not is_supported(), reason="the connection guard needs Linux")
@pytest.mark.parametrize("scenario", PAUSED, ids=[scenario.name for scenario in PAUSED])
def test_each_flooding_connection_is_paused_and_the_victim_loses_no_call(scenario: Scenario, tmp_path: Path) -> None:
    metrics = free_address()
    flags = {"serve": [f"--metrics-address={metrics}"]}
    with running(tmp_path, f"sqlite+aiosqlite:///{tmp_path / 'postroom.db'}", flags) as stack:
        flooding = int(scenario.arguments(stack)["connections"])

        def are_paused() -> bool:
            return value(metrics, "postroom_grpc_connections_paused_total") >= flooding

        with attacking(scenario, stack, are_paused):
            assert outcomes(scenario, stack) == {"OK": CALLS}
            # They are not closed. The gauge is sampled once a second.
            block_until(lambda: value(metrics, "postroom_grpc_connections") > flooding, SLOW_SECONDS)
