"""Scrapes of real processes, single and shared, on PostgreSQL: every call is counted exactly."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest

from postroom.v1alpha1 import domain_pb2, mailbox_pb2, mailbox_service_pb2_grpc
from postroomd import __version__
from postroomd.observability.metrics import CERTIFICATE_EXPIRY, METRICS
from tests.e2e.conftest import Starter
from tests.e2e.support import child_pids, clean_environment, is_pending, is_running, request, run, suspend
from tests.support.databases import NewDatabase
from tests.support.metrics import Scrape, scrape
from tests.support.waiting import block_until

if TYPE_CHECKING:
    from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub

SECONDS = 30
PASSWORD = "correct horse battery staple"
ABSENT_ID = "00000000-0000-4000-8000-000000000000"
FREE_PORT = "127.0.0.1:0"
METRICS_FLAG = f"--metrics-address={FREE_PORT}"
CLIENT_LIBRARY_PREFIXES = ("process_", "python_")
HTTP_COUNT = "http_server_request_duration_seconds_count"
DOMAINS = "/mailbox/v1alpha1/domains"


@dataclass(frozen=True)
class Process:
    """A process of Postroom, with its log file."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def ready(self) -> Mapping[str, str]:
        """Its `ready` log line, once there is one."""
        block_until(lambda: self._ready_lines or self.process.poll() is not None)
        assert self._ready_lines, self.log.read_text()
        return self._ready_lines[0]

    @property
    def _ready_lines(self) -> list[Mapping[str, str]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == "ready"]

    def scrape(self) -> Scrape:
        return scrape(self.ready["metrics_address"])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)


Launch = Callable[..., Process]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """A function that starts a command; its output goes to a file."""
    started: list[Process] = []

    def start(*arguments: str, **environment: str) -> Process:
        path = tmp_path / f"{len(started)}.log"
        with path.open("wb") as log:
            command = [sys.executable, "-m", "postroomd", *arguments]
            process = subprocess.Popen(command, stdout=log, stderr=log, env=clean_environment(**environment))
        started.append(Process(process, path))
        return started[-1]

    yield start
    for process in started:
        if process.process.poll() is None:
            process.stop()


@pytest.fixture
def database(new_postgres_database: NewDatabase) -> Mapping[str, str]:
    return {"POSTROOM_DATABASE_URL": new_postgres_database()}


@pytest.fixture
def key(database: Mapping[str, str]) -> Mapping[str, str]:
    """A new API key."""
    completed = run("keys", "create", "--new-organization", "--output=json", **database)
    return cast("Mapping[str, str]", json.loads(completed.stdout))


def stub_at(address: str, secret: str) -> "tuple[grpc.Channel, MailboxServiceStub, tuple[tuple[str, str], ...]]":
    """Return a new connection to a service, its stub, and the metadata of calls."""
    channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
    return channel, mailbox_service_pb2_grpc.MailboxServiceStub(channel), (("x-auth-token", secret),)


def names_of(*processes: str) -> set[str]:
    return {metric.name for metric in METRICS if set(processes) & set(metric.processes)}


def postroom_metrics(scraped: Scrape) -> set[str]:
    """Return the names of Postroom's metrics in a scrape."""
    return {name for name in scraped.names if not name.startswith(CLIENT_LIBRARY_PREFIXES)}


def handled(scraped: Scrape) -> dict[tuple[str, ...], float]:
    """Return the number of calls by RPC and status code."""
    return scraped.nonzero("grpc_server_handled_total", "grpc_method", "grpc_code")


def directory_of(pid: int) -> Path:
    """Return the shared metrics directory whose files a process has mapped."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    return Path(next(line.split()[-1] for line in maps.splitlines() if "/postroom-metrics-" in line)).parent


# --- Single processes -------------------------------------------------------------------------------------------------


def test_a_single_service(launch: Launch, database: Mapping[str, str], key: Mapping[str, str]) -> None:
    slow_hashes = ("--hash-threads=1", "--argon2-time-cost=20")
    flags = ("--max-calls=1", *slow_hashes, f"--grpc-address={FREE_PORT}")
    service = launch("serve", METRICS_FLAG, *flags, **database)
    before = service.scrape()
    assert postroom_metrics(before) == names_of("serve")
    assert {name for name in before.names if name.startswith("process_")} >= {"process_resident_memory_bytes"}
    assert before.value("postroom_build_info", version=__version__) == 1
    assert handled(before) == {}

    channel, stub, metadata = stub_at(service.ready["address"], key["SCW_SECRET_KEY"])
    with channel:
        for _ in range(3):
            stub.ListDomains(domain_pb2.ListDomainsRequest(), metadata=metadata)
        domain = stub.CreateDomain(domain_pb2.CreateDomainRequest(name="secretive.example"), metadata=metadata)
        for failing, credentials in ((domain_pb2.GetDomainRequest(domain_id=ABSENT_ID), metadata), (None, ())):
            with pytest.raises(grpc.RpcError):
                stub.GetDomain(failing or domain_pb2.GetDomainRequest(domain_id=domain.id), metadata=credentials)
        item = mailbox_pb2.BatchCreateMailboxesRequest.MailboxParameters
        batch = mailbox_pb2.BatchCreateMailboxesRequest(
            domain_id=domain.id, mailboxes=[item(local_part=f"m{number}", password=PASSWORD) for number in range(100)]
        )
        pending: Any = cast("Any", stub.BatchCreateMailboxes).future(batch, metadata=metadata)
        block_until(lambda: service.scrape().value("postroom_passwords_waiting") == 100)
        block_until(lambda: service.scrape().value("postroom_calls_in_progress", kind="changes") == 1)
        block_until(lambda: service.scrape().value("postroom_password_hash_seconds_count") > 0)
        with pytest.raises(grpc.RpcError) as rejected:
            stub.DeleteDomain(domain_pb2.DeleteDomainRequest(domain_id=domain.id), metadata=metadata)
        assert cast("Any", rejected.value).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        pending.cancel()
        block_until(lambda: service.scrape().value("postroom_passwords_waiting") == 0)
        block_until(lambda: service.scrape().value("postroom_calls_in_progress", kind="changes") == 0)

    after = service.scrape()
    assert handled(after) == {
        ("ListDomains", "OK"): 3,
        ("CreateDomain", "OK"): 1,
        ("GetDomain", "NOT_FOUND"): 1,
        ("GetDomain", "UNAUTHENTICATED"): 1,
        ("BatchCreateMailboxes", "CANCELLED"): 1,
        ("DeleteDomain", "RESOURCE_EXHAUSTED"): 1,
    }
    assert after.nonzero("grpc_server_handling_seconds_count", "grpc_method") == {
        ("ListDomains",): 3,
        ("CreateDomain",): 1,
        ("GetDomain",): 2,
        ("BatchCreateMailboxes",): 1,
    }
    assert after.nonzero("postroom_calls_refused_total", "kind") == {("changes",): 1}
    assert after.value("postroom_password_hash_seconds_count") < 100  # queued hashes are dropped with the call
    assert after.value("postroom_database_up") == 1
    for private in (*key.values(), domain.id, "secretive", PASSWORD, "m42"):
        assert private not in after.text
    assert service.stop() == 0


def test_a_single_gateway(launch: Launch) -> None:
    unreachable = "127.0.0.1:1"
    gateway = launch("gateway", METRICS_FLAG, f"--http-address={FREE_PORT}", f"--grpc-address={unreachable}")
    assert postroom_metrics(gateway.scrape()) == names_of("gateway")
    url = f"http://{gateway.ready['address']}"
    assert [request(f"{url}/healthz") for _ in range(3)] == [200] * 3
    assert request(f"{url}/nowhere/secretive") == 404
    assert request(f"{url}{DOMAINS}/{ABSENT_ID}", "a-secret-token") == 503
    after = gateway.scrape()
    assert after.nonzero(HTTP_COUNT, "http_request_method", "http_route", "http_response_status_code") == {
        ("GET", "/healthz", "200"): 3,
        ("GET", "unmatched", "404"): 1,
        ("GET", f"{DOMAINS}/{{domain_id}}", "503"): 1,
    }
    for private in ("secretive", ABSENT_ID, "a-secret-token"):
        assert private not in after.text
    assert gateway.stop() == 0


def test_a_single_worker(launch: Launch, database: Mapping[str, str], key: Mapping[str, str]) -> None:
    service = launch("serve", "--domain-validation=trust", f"--grpc-address={FREE_PORT}", **database)
    channel, stub, metadata = stub_at(service.ready["address"], key["SCW_SECRET_KEY"])
    with channel:
        for name in ("a.example", "b.example"):
            domain = stub.CreateDomain(domain_pb2.CreateDomainRequest(name=name), metadata=metadata)
            validate = domain_pb2.ValidateDomainRecordsRequest(domain_id=domain.id)
            stub.ValidateDomainRecords(validate, metadata=metadata)
    started = time.time()
    worker = launch("worker", METRICS_FLAG, "--domain-validation=trust", **database)
    assert postroom_metrics(worker.scrape()) == names_of("worker")
    block_until(
        lambda: worker.scrape().nonzero("postroom_worker_domains_looked_up_total", "status") == {("provisioning",): 2}
    )
    block_until(lambda: worker.scrape().value("postroom_worker_steps_total", kind="domain_activation") == 2)
    block_until(lambda: worker.scrape().value("postroom_worker_lag_seconds") == 0)
    after = worker.scrape()
    assert after.value("postroom_worker_last_run_timestamp_seconds") >= started
    assert after.nonzero("postroom_worker_failures_total", "kind") == {}
    last_run = after.value("postroom_worker_last_run_timestamp_seconds")
    block_until(lambda: worker.scrape().value("postroom_worker_last_run_timestamp_seconds") > last_run)
    assert worker.stop() == 0


# --- Processes that share their metrics -------------------------------------------------------------------------------


def test_up_exposes_all_its_processes_at_one_address(
    start_postroom: Starter, new_postgres_database: NewDatabase
) -> None:
    up = start_postroom(METRICS_FLAG, f"--database-url={new_postgres_database()}")
    address = up.output.splitlines()[-1].removeprefix("# Metrics are served on ")
    secret = up.environment["SCW_SECRET_KEY"]
    url = up.environment["SCW_API_URL"] + DOMAINS
    readiness = scrape(address).value(
        HTTP_COUNT, http_request_method="GET", http_route="/readyz", http_response_status_code="200"
    )
    assert readiness >= 1  # polled until ready
    assert [request(url, secret) for _ in range(5)] == [200] * 5
    assert request(url, secret, b'{"name": "secretive.example"}') == 200
    assert request(f"{url}/{ABSENT_ID}", secret) == 404
    scraped = scrape(address)
    assert postroom_metrics(scraped) == names_of("serve", "gateway", "worker") - {
        CERTIFICATE_EXPIRY.name,  # of several processes, a metric without series is not exposed
        "postroom_worker_domains_looked_up_total",  # no lookups yet, and its label values are dynamic
    }
    assert handled(scraped) == {("ListDomains", "OK"): 5, ("CreateDomain", "OK"): 1, ("GetDomain", "NOT_FOUND"): 1}
    requests = scraped.nonzero(HTTP_COUNT, "http_request_method", "http_route", "http_response_status_code")
    assert {labels: count for labels, count in requests.items() if labels[1] != "/readyz"} == {
        ("GET", DOMAINS, "200"): 5,
        ("POST", DOMAINS, "200"): 1,
        ("GET", f"{DOMAINS}/{{domain_id}}", "404"): 1,
    }
    block_until(lambda: scrape(address).value("postroom_database_up") == 1)
    block_until(lambda: scrape(address).value("postroom_worker_last_run_timestamp_seconds") > 0)
    assert scraped.value("postroom_build_info", version=__version__) == 1
    assert not {label for samples in scraped.samples.values() for labels in samples for label, _ in labels} & {"pid"}
    for private in (*up.environment.values(), "secretive", ABSENT_ID):
        assert private not in scraped.text

    directories = {directory_of(pid) for pid in child_pids(up.process.pid).values()}
    (directory,) = directories
    assert directory.stat().st_mode & 0o777 == 0o700
    assert up.stop() == 0
    assert not directory.exists()
    with pytest.raises(OSError, match="refused"):
        scrape(address)


def test_services_on_one_address_share_their_metrics(
    launch: Launch, database: Mapping[str, str], key: Mapping[str, str]
) -> None:
    services = launch("serve", "--processes=2", METRICS_FLAG, f"--grpc-address={FREE_PORT}", **database)
    address = services.ready["address"]
    assert postroom_metrics(services.scrape()) == names_of("serve") - {CERTIFICATE_EXPIRY.name}

    def call(_: int) -> None:
        channel, stub, metadata = stub_at(address, key["SCW_SECRET_KEY"])
        with channel:
            for _ in range(5):
                stub.ListDomains(domain_pb2.ListDomainsRequest(), metadata=metadata)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, range(20)))
    scraped = services.scrape()
    assert handled(scraped) == {("ListDomains", "OK"): 100}
    assert scraped.nonzero("grpc_server_handling_seconds_count", "grpc_method") == {("ListDomains",): 100}
    pids = Path(f"/proc/{services.process.pid}/task/{services.process.pid}/children").read_text().split()
    (directory,) = {directory_of(int(pid)) for pid in pids}
    counters = [path for path in directory.iterdir() if path.name.startswith("counter_")]
    assert len(counters) == len(pids) == 2
    assert services.stop() == 0
    assert not directory.exists()


def test_gateways_on_one_address_share_their_metrics(launch: Launch) -> None:
    gateways = launch("gateway", "--processes=2", METRICS_FLAG, f"--http-address={FREE_PORT}")
    url = f"http://{gateways.ready['address']}/healthz"
    assert {request(url) for _ in range(30)} == {200}
    assert gateways.scrape().nonzero(HTTP_COUNT, "http_route") == {("/healthz",): 30}


def test_the_directory_is_removed_if_the_parent_is_killed(launch: Launch, database: Mapping[str, str]) -> None:
    services = launch("serve", "--processes=2", METRICS_FLAG, f"--grpc-address={FREE_PORT}", **database)
    services.scrape()
    pids = Path(f"/proc/{services.process.pid}/task/{services.process.pid}/children").read_text().split()
    directory = directory_of(int(pids[0]))
    services.process.kill()
    services.process.wait(SECONDS)
    block_until(lambda: not any(is_running(int(pid)) for pid in pids))
    assert not directory.exists()


def test_the_directory_is_removed_if_everything_is_killed(start_postroom: Starter) -> None:
    up = start_postroom(METRICS_FLAG, "--drain-seconds=60")
    pids = child_pids(up.process.pid)
    directory = directory_of(pids["serve"])
    suspend(pids["gatewa"])
    up.process.send_signal(signal.SIGINT)
    block_until(lambda: is_pending(pids["gatewa"], signal.SIGTERM))
    assert up.stop(signal.SIGINT) == 130
    assert not directory.exists()


# --- The address ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ("serve", f"--grpc-address={FREE_PORT}"),
        ("serve", "--processes=2", f"--grpc-address={FREE_PORT}"),
        ("gateway", f"--http-address={FREE_PORT}"),
        ("worker",),
        ("up", f"--grpc-address={FREE_PORT}", f"--http-address={FREE_PORT}"),
    ],
    ids=lambda command: "-".join(command[:2]),
)
def test_an_address_in_use_is_one_line(launch: Launch, database: Mapping[str, str], command: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = launch(*command, f"--metrics-address={address}", **database)
        assert process.process.wait(SECONDS) == 1
    lines = [line for line in process.log.read_text().splitlines() if not line.startswith("{")]
    assert lines == [f"postroom: can't listen for metrics on {address}: address already in use"]


def test_without_an_address_nothing_is_shared(launch: Launch, tmp_path: Path) -> None:
    other = tmp_path / "metrics"
    other.mkdir()
    gateway = launch(
        "gateway",
        f"--http-address={FREE_PORT}",
        PROMETHEUS_MULTIPROC_DIR=str(other),
        prometheus_multiproc_dir=str(other),
    )
    assert "metrics_address" not in gateway.ready
    assert request(f"http://{gateway.ready['address']}/healthz") == 200
    assert list(other.iterdir()) == []
