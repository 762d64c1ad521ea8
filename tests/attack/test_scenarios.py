"""A sample of the attacks of `bench.attack`, for a few seconds each: what the victim lost, and what is left afterwards.

Counts only, no times. Run by `make test-attack`: each test starts the whole product.
"""

import asyncio
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from bench.attack.scenarios import SCENARIOS, Scenario
from bench.attack.stack import Stack, running, stop
from bench.attack.victim import grpc_calls
from tests.support.waiting import block_until
from tools.ports import free_address

SECONDS = 4.0
MAX_LOST = 0.01
WARM_UP_SECONDS = 1.0

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


@contextmanager
def attacking(scenario: Scenario, stack: Stack) -> Iterator[None]:
    arguments = json.dumps(scenario.arguments(stack))
    process = subprocess.Popen([sys.executable, "-m", "bench.attack.attackers", scenario.attack, arguments])
    try:
        time.sleep(WARM_UP_SECONDS)
        yield
        assert process.poll() is None, "the attack has ended by itself"
    finally:
        stop(process)


def outcomes(scenario: Scenario, stack: Stack) -> Mapping[str, int]:
    """The victim's calls by outcome."""
    address = stack.grpc_address if scenario.victim == "grpc" else stack.http_address
    arguments = (scenario.victim, address, stack.victim.token, stack.victim.mailbox_id, str(SECONDS))
    command = [sys.executable, "-m", "bench.attack.victim", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, timeout=60)
    counts: Mapping[str, int] = json.loads(done.stdout)["outcomes"]
    return counts


def value(metrics_address: str, metric: str) -> float:
    """The sum of a metric's samples."""
    with urllib.request.urlopen(f"http://{metrics_address}/metrics", timeout=10) as response:
        text = response.read().decode()
    return sum(float(sample) for sample in re.findall(rf"^{metric}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE))


def connections_to(port: int) -> int:
    """The number of established TCP connections whose local port is this one."""
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    columns = [row.split() for row in rows]
    return sum(int(column[1].rpartition(":")[2], 16) == port and column[3] == "01" for column in columns)


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


async def read_once(stack: Stack) -> None:
    async with grpc.aio.insecure_channel(stack.grpc_address) as channel:
        await grpc_calls(channel, stack.victim.token, stack.victim.mailbox_id)()


@pytest.mark.parametrize("scenario", SAMPLE, ids=[scenario.name for scenario in SAMPLE])
def test_the_victim_loses_at_most_one_percent_of_its_calls(scenario: Scenario, tmp_path: Path) -> None:
    metrics = {name: free_address() for name in ("serve", "gateway")}
    flags = {name: [*scenario.flags.get(name, ()), f"--metrics-address={address}"] for name, address in metrics.items()}
    with running(tmp_path, f"sqlite+aiosqlite:///{tmp_path / 'postroom.db'}", flags) as stack:
        ports = [port_of(stack.grpc_address), port_of(stack.http_address)]
        before = [connections_to(port) for port in ports]
        with attacking(scenario, stack):
            counts = outcomes(scenario, stack)
        calls = sum(counts.values())
        assert calls - counts.get("OK", 0) <= MAX_LOST * calls, counts
        # The attacker has gone: nothing of it is left.
        block_until(lambda: value(metrics["serve"], "postroom_calls_in_progress") == 0)
        block_until(lambda: all(connections_to(port) <= max(n, 10) for port, n in zip(ports, before, strict=True)))
        asyncio.run(read_once(stack))
