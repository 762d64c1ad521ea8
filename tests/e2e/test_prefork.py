"""Several processes on one address: `--processes N`."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.support import clean_environment, is_running, request, run
from tests.e2e.trial_process import admin_code
from tests.support.databases import NewDatabase
from tests.support.waiting import block_until
from tools.ports import free_port

SECONDS = 30
CONNECTIONS = 16

Launch = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """A function that starts a command; its output goes to a file."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        with (tmp_path / f"{len(started)}.log").open("wb") as log:
            command = [sys.executable, "-m", "postroomd", *arguments]
            process = subprocess.Popen(command, stdout=log, stderr=log, env=clean_environment(**environment))
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(SECONDS)


@pytest.fixture
def database(new_postgres_database: NewDatabase) -> Mapping[str, str]:
    return {"POSTROOM_DATABASE_URL": new_postgres_database()}


def listeners(port: int) -> int:
    """Return the number of sockets that listen on a loopback port."""
    tables = [Path("/proc/net/tcp").read_text(), Path("/proc/net/tcp6").read_text()]  # gRPC maps IPv4 into IPv6
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    return sum(row[1].endswith(f"0100007F:{port:04X}") and row[3] == "0A" for row in rows)


def children_of(parent: subprocess.Popen[bytes]) -> list[int]:
    """Return the pids of the children of a process."""
    return [int(pid) for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()]


def serving(port: int) -> bool:
    """Whether the health status of the service is SERVING, over a new connection."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            response = stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        except grpc.RpcError:
            return False
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


def output(tmp_path: Path, number: int = 0) -> str:
    return (tmp_path / f"{number}.log").read_text()


def wait_until_ready(parent: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """Wait until every child is ready. That they listen says less: no call may be served yet, nor a signal handled."""
    block_until(lambda: '"event": "ready"' in output(tmp_path) or parent.poll() is not None)
    assert parent.poll() is None, output(tmp_path)


def test_two_services_share_a_port_and_stop_together(
    launch: Launch, database: Mapping[str, str], tmp_path: Path
) -> None:
    port = free_port()
    parent = launch("serve", "--processes", "2", "--grpc-address", f"127.0.0.1:{port}", **database)
    wait_until_ready(parent, tmp_path)
    assert listeners(port) == 2
    pids = children_of(parent)
    assert len(pids) == 2
    assert all(serving(port) for _ in range(CONNECTIONS))
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(SECONDS) == 0
    assert not any(is_running(pid) for pid in pids)


def test_the_exit_of_one_process_stops_the_others(launch: Launch, database: Mapping[str, str], tmp_path: Path) -> None:
    port = free_port()
    parent = launch("serve", "--processes", "2", "--grpc-address", f"127.0.0.1:{port}", **database)
    wait_until_ready(parent, tmp_path)
    killed, other = children_of(parent)
    os.kill(killed, signal.SIGKILL)
    assert parent.wait(SECONDS) == 1
    assert not is_running(other)
    assert "process exited unexpectedly" in output(tmp_path)


def test_processes_exit_if_their_parent_is_killed(launch: Launch, database: Mapping[str, str], tmp_path: Path) -> None:
    port = free_port()
    parent = launch("serve", "--processes", "2", "--grpc-address", f"127.0.0.1:{port}", **database)
    wait_until_ready(parent, tmp_path)
    pids = children_of(parent)
    parent.kill()
    parent.wait(SECONDS)
    block_until(lambda: not any(is_running(pid) for pid in pids))


def test_another_postroom_can_not_join_a_shared_port(
    launch: Launch, database: Mapping[str, str], tmp_path: Path
) -> None:
    port = free_port()
    wait_until_ready(launch("serve", "--processes", "2", "--grpc-address", f"127.0.0.1:{port}", **database), tmp_path)
    second = launch("serve", "--processes", "2", "--grpc-address", f"127.0.0.1:{port}", **database)
    assert second.wait(SECONDS) == 1
    assert output(tmp_path, 1).strip() == f"postroom: can't listen on 127.0.0.1:{port}: Address already in use"


def test_sqlite_allows_one_process(launch: Launch, tmp_path: Path) -> None:
    rejected = launch("serve", "--processes", "2", POSTROOM_DATABASE_URL=f"sqlite+aiosqlite:///{tmp_path}/a.db")
    assert rejected.wait(SECONDS) == 2
    (line,) = output(tmp_path).splitlines()
    assert line == "postroom: --processes: SQLite allows one process: use PostgreSQL for more"


def test_two_gateways_share_a_port(launch: Launch, tmp_path: Path) -> None:
    port = free_port()
    parent = launch("gateway", "--processes", "2", "--http-address", f"127.0.0.1:{port}")
    wait_until_ready(parent, tmp_path)
    assert listeners(port) == 2
    assert {request(f"http://127.0.0.1:{port}/healthz") for _ in range(CONNECTIONS)} == {200}
    parent.send_signal(signal.SIGINT)
    assert parent.wait(SECONDS) == 0


def test_two_services_share_the_admin_port(launch: Launch, database: Mapping[str, str], tmp_path: Path) -> None:
    run("migrate", **database)
    completed = run("admin-keys", "create", "--name=billing", "--output=json", **database)
    secret = json.loads(completed.stdout)["secret"]
    parent = launch("serve", "--processes=2", "--grpc-address=127.0.0.1:0", "--admin-address=127.0.0.1:0", **database)
    wait_until_ready(parent, tmp_path)
    (ready,) = (line for line in map(json.loads, output(tmp_path).splitlines()) if line["event"] == "ready")
    address = ready["admin_address"]
    assert listeners(int(address.rpartition(":")[2])) == len(children_of(parent)) == 2
    assert {admin_code(address, secret) for _ in range(CONNECTIONS)} == {grpc.StatusCode.OK}
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(SECONDS) == 0
    assert admin_code(address, secret) is grpc.StatusCode.UNAVAILABLE
