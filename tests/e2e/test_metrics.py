"""What Prometheus scrapes of real processes, alone and together, on PostgreSQL: exactly the calls that were made."""

import json
import os
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
from postroomd.observability.metrics import METRICS
from tests.conftest import NewDatabase
from tests.e2e.conftest import Starter
from tests.e2e.support import alive, children, clean_environment, request, run, wait_until
from tests.support.metrics import Scrape, scrape

if TYPE_CHECKING:
    from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub

SECONDS = 30
PASSWORD = "correct horse battery staple"
ABSENT_ID = "00000000-0000-4000-8000-000000000000"
ANYWHERE = "127.0.0.1:0"
METRICS_ANYWHERE = f"--metrics-address={ANYWHERE}"
LIBRARYS_OWN = ("process_", "python_")
HTTP_COUNT = "http_server_request_duration_seconds_count"
DOMAINS = "/mailbox/v1alpha1/domains"


@dataclass(frozen=True)
class Process:
    """A process of Postroom, and where it logs to."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def ready(self) -> Mapping[str, str]:
        """Its log line that says where it is, once it is there."""
        found: list[Mapping[str, str]] = []

        def look() -> bool:
            lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
            found[:] = [line for line in lines if line["event"] == "ready"]
            return bool(found) or self.process.poll() is not None

        wait_until(look)
        assert found, self.log.read_text()
        return found[0]

    def scrape(self) -> Scrape:
        return scrape(self.ready["metrics_address"])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)


Launch = Callable[..., Process]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts a command of Postroom; what it says goes to a file."""
    started: list[Process] = []

    def start(*arguments: str, **environment: str) -> Process:
        path = tmp_path / f"{len(started)}.log"
        with path.open("wb") as log:
            command = [sys.executable, "-m", "postroomd", *arguments]
            process = subprocess.Popen(command, stdout=log, stderr=log, env=clean_environment(**environment))
        started.append(Process(process, path))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.stop()


@pytest.fixture
def database(new_postgres_database: NewDatabase) -> Mapping[str, str]:
    return {"POSTROOM_DATABASE_URL": new_postgres_database()}


@pytest.fixture
def key(database: Mapping[str, str]) -> Mapping[str, str]:
    """A key of the database."""
    made = run("keys", "create", "--output=json", **database)
    return cast("Mapping[str, str]", json.loads(made.stdout))


def stub_at(address: str, secret: str) -> "tuple[grpc.Channel, MailboxServiceStub, tuple[tuple[str, str], ...]]":
    """A connection of its own to a service, its stub, and what calls carry."""
    channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
    return channel, mailbox_service_pb2_grpc.MailboxServiceStub(channel), (("x-auth-token", secret),)


def names_of(*processes: str) -> set[str]:
    return {metric.name for metric in METRICS if set(processes) & set(metric.processes)}


def own(scraped: Scrape) -> set[str]:
    """Postroom's metrics in a scrape."""
    return {name for name in scraped.names if not name.startswith(LIBRARYS_OWN)}


def eventually(look: Callable[[], object], expected: object) -> None:
    """Wait until something is as expected: levels are looked at once a second, who is gone learns nothing."""
    deadline = time.monotonic() + SECONDS
    while (found := look()) != expected:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def handled(scraped: Scrape) -> dict[tuple[str, ...], float]:
    """The calls, by RPC and code."""
    return scraped.counted("grpc_server_handled_total", "grpc_method", "grpc_code")


def directory_of(pid: int) -> Path:
    """The directory of shared metrics that a process has files of mapped."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    return Path(next(line.split()[-1] for line in maps.splitlines() if "/postroom-metrics-" in line)).parent


# --- Processes alone --------------------------------------------------------------------------------------------------


def test_a_service_alone(launch: Launch, database: Mapping[str, str], key: Mapping[str, str]) -> None:
    slowly = ("--hash-threads=1", "--argon2-time-cost=20")
    flags = ("--max-calls=1", *slowly, f"--grpc-address={ANYWHERE}")
    service = launch("serve", METRICS_ANYWHERE, *flags, **database)
    before = service.scrape()
    assert own(before) == names_of("serve")
    assert {name for name in before.names if name.startswith("process_")} >= {"process_resident_memory_bytes"}
    assert before.value("postroom_build_info", version=__version__) == 1
    assert handled(before) == {}

    channel, stub, metadata = stub_at(service.ready["address"], key["SCW_SECRET_KEY"])
    with channel:
        for _ in range(3):
            stub.ListDomains(domain_pb2.ListDomainsRequest(), metadata=metadata)
        domain = stub.CreateDomain(domain_pb2.CreateDomainRequest(name="secretive.example"), metadata=metadata)
        for failing, sent in ((domain_pb2.GetDomainRequest(domain_id=ABSENT_ID), metadata), (None, ())):
            with pytest.raises(grpc.RpcError):
                stub.GetDomain(failing or domain_pb2.GetDomainRequest(domain_id=domain.id), metadata=sent)
        item = mailbox_pb2.BatchCreateMailboxesRequest.MailboxParameters
        batch = mailbox_pb2.BatchCreateMailboxesRequest(
            domain_id=domain.id, mailboxes=[item(local_part=f"m{number}", password=PASSWORD) for number in range(100)]
        )
        under_way: Any = cast("Any", stub.BatchCreateMailboxes).future(batch, metadata=metadata)
        eventually(lambda: service.scrape().value("postroom_passwords_waiting"), 100)
        eventually(lambda: service.scrape().value("postroom_calls_in_progress", kind="changes"), 1)
        eventually(lambda: service.scrape().value("postroom_password_hash_seconds_count") > 0, True)
        with pytest.raises(grpc.RpcError) as refused:
            stub.DeleteDomain(domain_pb2.DeleteDomainRequest(domain_id=domain.id), metadata=metadata)
        assert cast("Any", refused.value).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        under_way.cancel()
        eventually(lambda: service.scrape().value("postroom_passwords_waiting"), 0)
        eventually(lambda: service.scrape().value("postroom_calls_in_progress", kind="changes"), 0)

    after = service.scrape()
    assert handled(after) == {
        ("ListDomains", "OK"): 3,
        ("CreateDomain", "OK"): 1,
        ("GetDomain", "NOT_FOUND"): 1,
        ("GetDomain", "UNAUTHENTICATED"): 1,
        ("BatchCreateMailboxes", "CANCELLED"): 1,
        ("DeleteDomain", "RESOURCE_EXHAUSTED"): 1,
    }
    assert after.counted("grpc_server_handling_seconds_count", "grpc_method") == {
        ("ListDomains",): 3,
        ("CreateDomain",): 1,
        ("GetDomain",): 2,
        ("BatchCreateMailboxes",): 1,
    }
    assert after.counted("postroom_calls_refused_total", "kind") == {("changes",): 1}
    assert after.value("postroom_password_hash_seconds_count") < 100  # what waited was dropped with its caller
    assert after.value("postroom_database_up") == 1
    for private in (*key.values(), domain.id, "secretive", PASSWORD, "m42"):
        assert private not in after.text
    assert service.stop() == 0


def test_a_gateway_alone(launch: Launch) -> None:
    dead = "127.0.0.1:1"
    gateway = launch("gateway", METRICS_ANYWHERE, f"--http-address={ANYWHERE}", f"--grpc-address={dead}")
    assert own(gateway.scrape()) == names_of("gateway")
    url = f"http://{gateway.ready['address']}"
    assert [request(f"{url}/healthz") for _ in range(3)] == [200] * 3
    assert request(f"{url}/nowhere/secretive") == 404
    assert request(f"{url}{DOMAINS}/{ABSENT_ID}", "a-secret-token") == 503
    after = gateway.scrape()
    assert after.counted(HTTP_COUNT, "http_request_method", "http_route", "http_response_status_code") == {
        ("GET", "/healthz", "200"): 3,
        ("GET", "unmatched", "404"): 1,
        ("GET", f"{DOMAINS}/{{domain_id}}", "503"): 1,
    }
    for private in ("secretive", ABSENT_ID, "a-secret-token"):
        assert private not in after.text
    assert gateway.stop() == 0


def test_a_worker_alone(launch: Launch, database: Mapping[str, str], key: Mapping[str, str]) -> None:
    service = launch("serve", "--domain-validation=trust", f"--grpc-address={ANYWHERE}", **database)
    channel, stub, metadata = stub_at(service.ready["address"], key["SCW_SECRET_KEY"])
    with channel:
        for name in ("a.example", "b.example"):
            domain = stub.CreateDomain(domain_pb2.CreateDomainRequest(name=name), metadata=metadata)
            asked = domain_pb2.ValidateDomainRecordsRequest(domain_id=domain.id)
            stub.ValidateDomainRecords(asked, metadata=metadata)
    began = time.time()
    worker = launch("worker", METRICS_ANYWHERE, "--domain-validation=trust", **database)
    assert own(worker.scrape()) == names_of("worker")
    eventually(
        lambda: worker.scrape().counted("postroom_worker_domains_looked_up_total", "status"), {("provisioning",): 2}
    )
    eventually(lambda: worker.scrape().value("postroom_worker_steps_total", kind="domain_activation"), 2)
    eventually(lambda: worker.scrape().value("postroom_worker_lag_seconds"), 0)
    after = worker.scrape()
    assert after.value("postroom_worker_last_run_timestamp_seconds") >= began
    assert after.counted("postroom_worker_failures_total", "kind") == {}
    eventually(  # it goes on
        lambda: (
            worker.scrape().value("postroom_worker_last_run_timestamp_seconds")
            > after.value("postroom_worker_last_run_timestamp_seconds")
        ),
        True,
    )
    assert worker.stop() == 0


# --- Processes together -----------------------------------------------------------------------------------------------


def test_up_exposes_all_of_its_processes_at_one_address(
    start_postroom: Starter, new_postgres_database: NewDatabase
) -> None:
    up = start_postroom(METRICS_ANYWHERE, f"--database-url={new_postgres_database()}")
    address = up.output.splitlines()[-1].removeprefix("# Metrics are served on ")
    secret = up.environment["SCW_SECRET_KEY"]
    url = up.environment["SCW_API_URL"] + DOMAINS
    readiness = scrape(address).value(
        HTTP_COUNT, http_request_method="GET", http_route="/readyz", http_response_status_code="200"
    )
    assert readiness >= 1  # asked until it was so
    assert [request(url, secret) for _ in range(5)] == [200] * 5
    assert request(url, secret, b'{"name": "secretive.example"}') == 200
    assert request(f"{url}/{ABSENT_ID}", secret) == 404
    scraped = scrape(address)
    assert own(scraped) == names_of("serve", "gateway", "worker") - {
        "postroom_worker_domains_looked_up_total"  # none was, and its labels are not known before
    }
    assert handled(scraped) == {("ListDomains", "OK"): 5, ("CreateDomain", "OK"): 1, ("GetDomain", "NOT_FOUND"): 1}
    measured = scraped.counted(HTTP_COUNT, "http_request_method", "http_route", "http_response_status_code")
    assert {of: count for of, count in measured.items() if of[1] != "/readyz"} == {
        ("GET", DOMAINS, "200"): 5,
        ("POST", DOMAINS, "200"): 1,
        ("GET", f"{DOMAINS}/{{domain_id}}", "404"): 1,
    }
    eventually(lambda: scrape(address).value("postroom_database_up"), 1)
    eventually(lambda: scrape(address).value("postroom_worker_last_run_timestamp_seconds") > 0, True)
    assert scraped.value("postroom_build_info", version=__version__) == 1
    assert not {label for samples in scraped.samples.values() for of in samples for label, _ in of} & {"pid"}
    for private in (*up.environment.values(), "secretive", ABSENT_ID):
        assert private not in scraped.text

    directories = {directory_of(pid) for pid in children(up.process.pid).values()}
    (directory,) = directories
    assert directory.stat().st_mode & 0o777 == 0o700
    assert up.stop() == 0
    assert not directory.exists()
    with pytest.raises(OSError, match="refused"):
        scrape(address)


def test_services_that_share_an_address_are_counted_together(
    launch: Launch, database: Mapping[str, str], key: Mapping[str, str]
) -> None:
    services = launch("serve", "--workers=2", METRICS_ANYWHERE, f"--grpc-address={ANYWHERE}", **database)
    address = services.ready["address"]
    assert own(services.scrape()) == names_of("serve")

    def call(_: int) -> None:
        channel, stub, metadata = stub_at(address, key["SCW_SECRET_KEY"])
        with channel:
            for _ in range(5):
                stub.ListDomains(domain_pb2.ListDomainsRequest(), metadata=metadata)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, range(20)))
    scraped = services.scrape()
    assert handled(scraped) == {("ListDomains", "OK"): 100}
    assert scraped.counted("grpc_server_handling_seconds_count", "grpc_method") == {("ListDomains",): 100}
    pids = Path(f"/proc/{services.process.pid}/task/{services.process.pid}/children").read_text().split()
    (directory,) = {directory_of(int(pid)) for pid in pids}
    counters = [path for path in directory.iterdir() if path.name.startswith("counter_")]
    assert len(counters) == len(pids) == 2
    assert services.stop() == 0
    assert not directory.exists()


def test_gateways_that_share_an_address_are_counted_together(launch: Launch) -> None:
    gateways = launch("gateway", "--workers=2", METRICS_ANYWHERE, f"--http-address={ANYWHERE}")
    url = f"http://{gateways.ready['address']}/healthz"
    assert {request(url) for _ in range(30)} == {200}
    assert gateways.scrape().counted(HTTP_COUNT, "http_route") == {("/healthz",): 30}


def test_the_directory_goes_with_the_last_process_where_what_made_it_is_killed(
    launch: Launch, database: Mapping[str, str]
) -> None:
    services = launch("serve", "--workers=2", METRICS_ANYWHERE, f"--grpc-address={ANYWHERE}", **database)
    services.scrape()
    pids = Path(f"/proc/{services.process.pid}/task/{services.process.pid}/children").read_text().split()
    directory = directory_of(int(pids[0]))
    services.process.kill()
    services.process.wait(SECONDS)
    wait_until(lambda: not any(alive(int(pid)) for pid in pids))
    assert not directory.exists()


def test_the_directory_goes_where_all_is_ended_at_once(start_postroom: Starter) -> None:
    up = start_postroom(METRICS_ANYWHERE, "--drain-seconds=60")
    pids = children(up.process.pid)
    directory = directory_of(pids["serve"])
    os.kill(pids["gatewa"], signal.SIGSTOP)
    up.process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        up.process.wait(0.5)
    assert up.stop(signal.SIGINT) == 130
    assert not directory.exists()


# --- The address ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ("serve", f"--grpc-address={ANYWHERE}"),
        ("serve", "--workers=2", f"--grpc-address={ANYWHERE}"),
        ("gateway", f"--http-address={ANYWHERE}"),
        ("worker",),
        ("up", f"--grpc-address={ANYWHERE}", f"--http-address={ANYWHERE}"),
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


def test_nothing_is_shared_and_no_address_is_named_where_none_is_set(launch: Launch, tmp_path: Path) -> None:
    elsewhere = tmp_path / "metrics"
    elsewhere.mkdir()
    gateway = launch(
        "gateway",
        f"--http-address={ANYWHERE}",
        PROMETHEUS_MULTIPROC_DIR=str(elsewhere),
        prometheus_multiproc_dir=str(elsewhere),
    )
    assert "metrics_address" not in gateway.ready
    assert request(f"http://{gateway.ready['address']}/healthz") == 200
    assert list(elsewhere.iterdir()) == []
