"""Traces: one per request, from the gateway by way of the service to its SQL statements, at a real OTLP collector."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from postroom.v1alpha1 import domain_pb2
from postroomd.clock import Clock
from postroomd.runtime import gateway
from postroomd.settings import load_settings
from tests.e2e.conftest import Starter
from tests.e2e.support import clean_environment, run
from tests.rpc.client import Tenant
from tests.rpc.service import Service, logging_to, running_service
from tests.support.collector import Collector, ReceivedSpan, running_collector
from tests.support.waiting import wait_until
from tools.ports import free_port

TRACE_ID, CALLER_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{CALLER_SPAN}-01"
PASSWORD = "correct-horse-battery-9"
SERVER, CLIENT = 2, 3  # SpanKind of the protocol
GATEWAY, SERVICE = "postroom-gateway", "postroom-service"


@pytest.fixture
def logs() -> Iterator[StringIO]:
    with logging_to(StringIO()) as stream:
        yield stream


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    with running_collector() as running:
        yield running


@dataclass
class Traced:
    """A service and a gateway in front of it that are traced, in this process."""

    collector: Collector
    service: Service
    tenant: Tenant
    url: str
    session: aiohttp.ClientSession

    async def request(self, method: str, path: str, body: Any = None, **headers: str) -> aiohttp.ClientResponse:
        """Send a request with the tenant's key, and return the response with its body read."""
        async with self.session.request(
            method, f"{self.url}{path}", json=body, headers={"X-Auth-Token": self.tenant.secret, **headers}
        ) as response:
            await response.read()
            return response

    async def trace(self, *names: tuple[str, str]) -> dict[tuple[str, str], ReceivedSpan]:
        """Return the spans of `TRACE_ID` by service and name, once those named have arrived.

        A process exports its spans in any number of parts, and each process on its own. Name every span that a test
        reads, with its service: a call between two processes is a span of the same name in both.
        """

        def arrived() -> dict[tuple[str, str], ReceivedSpan] | None:
            spans = {(span.service, span.name): span for span in self.collector.spans if span.trace_id == TRACE_ID}
            return spans if set(names) <= set(spans) else None

        return await wait_until(arrived)

    def served_by(self, service: str) -> list[ReceivedSpan]:
        """The spans that have arrived of requests that a process served."""
        return [span for span in self.collector.spans if span.service == service and span.kind == SERVER]


@pytest.fixture
async def traced(tmp_path: Path, collector: Collector, logs: StringIO) -> AsyncIterator[Traced]:
    async with AsyncExitStack() as stack:
        overrides = {"otlp_endpoint": collector.endpoint}
        service = await stack.enter_async_context(running_service(tmp_path, overrides))
        settings = load_settings({**overrides, "grpc_address": service.address, "http_address": "127.0.0.1:0"})
        stop, bound = asyncio.Event(), asyncio.get_running_loop().create_future()
        task = asyncio.create_task(gateway.run(settings, stop, bound.set_result, Clock()))

        async def shut_down() -> None:
            stop.set()
            await task

        stack.push_async_callback(shut_down)
        address = await bound
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Traced(collector, service, await service.tenant(), f"http://{address}/mailbox/v1alpha1", session)


RPC = "postroom.v1alpha1.MailboxService"


async def test_a_read_is_one_trace_from_the_caller_to_the_statement(traced: Traced) -> None:
    mailbox = await traced.tenant.mailbox(await traced.tenant.domain(), "ann")
    path = f"/mailboxes/{mailbox.id}"
    response = await traced.request(
        "GET", path, traceparent=TRACEPARENT, tracestate="vendor=1", **{"X-Request-Id": "r-1"}
    )
    assert response.status == 200
    route, rpc, statement = "GET /mailbox/v1alpha1/mailboxes/{mailbox_id}", f"{RPC}/GetMailbox", "SELECT mailboxes"
    expected = ((GATEWAY, route, SERVER), (GATEWAY, rpc, CLIENT), (SERVICE, rpc, SERVER), (SERVICE, statement, CLIENT))
    await traced.trace(*((service, name) for service, name, _ in expected))
    spans = [span for span in traced.collector.spans if span.trace_id == TRACE_ID]
    parent_id = CALLER_SPAN
    for each in expected:
        (span,) = [span for span in spans if span.parent_id == parent_id]
        assert (span.service, span.name, span.kind) == each
        parent_id = span.span_id
        if span.kind == SERVER:
            assert span.attributes["postroom.request_id"] == "r-1"
        elif span.name == statement:
            assert span.attributes["db.system.name"] == "sqlite"
            assert str(span.attributes["db.query.text"]).startswith("SELECT ")
        assert not span.failed
    assert len(spans) == 4


async def test_the_statements_of_a_change_are_below_its_transaction(traced: Traced) -> None:
    domain = await traced.tenant.domain()
    body = {"domain_id": domain.id, "mailboxes": [{"local_part": "visible-name", "password": PASSWORD}]}
    response = await traced.request("POST", "/batch-create-mailboxes", body, traceparent=TRACEPARENT)
    assert response.status == 200
    call, transaction, insert = (
        (SERVICE, name) for name in (f"{RPC}/BatchCreateMailboxes", "transaction", "INSERT mailboxes")
    )
    trace = await traced.trace(call, transaction, insert)
    assert trace[insert].parent_id == trace[transaction].span_id
    assert trace[transaction].parent_id == trace[call].span_id
    assert trace[call].attributes["postroom.organization_id"] == traced.tenant.organization_id


async def test_no_secret_and_no_address_is_in_a_span(traced: Traced) -> None:
    domain = await traced.tenant.domain()
    body = {"domain_id": domain.id, "mailboxes": [{"local_part": "visible-name", "password": PASSWORD}]}
    for _ in range(2):  # the second one fails: the address is in use
        await traced.request("POST", "/batch-create-mailboxes", body, **{"Idempotency-Key": "secret-key-1"})
        body["subscription_period"] = "yearly"
    await traced.request("GET", "/mailboxes?search=visible-name", traceparent=TRACEPARENT)
    await traced.request("POST", "/batch-create-mailboxes", {**body, "password": PASSWORD})
    await traced.request("GET", "/domains/visible-name")
    await wait_until(lambda: len(traced.served_by(GATEWAY)) == 5)
    # The gateway rejects the fourth request itself; the service served the creation of the domain too.
    await wait_until(lambda: len(traced.served_by(SERVICE)) == 5)
    octets = traced.collector.octets
    assert b"INSERT INTO mailboxes" in octets
    for secret in (PASSWORD, traced.tenant.secret, "visible-name", "secret-key-1", "argon2", domain.name):
        assert secret.encode() not in octets


async def test_log_lines_name_the_trace(traced: Traced, logs: StringIO) -> None:
    await traced.request("POST", "/domains", {"name": "named.example"}, traceparent=TRACEPARENT)
    spans = (GATEWAY, "POST /mailbox/v1alpha1/domains"), (SERVICE, f"{RPC}/CreateDomain")
    trace = await traced.trace(*spans)
    lines = [json.loads(line) for line in logs.getvalue().splitlines()]
    calls = {GATEWAY if "route" in line else SERVICE: line for line in lines if line["event"] == "call"}
    for service, name in spans:
        assert calls[service]["trace_id"] == TRACE_ID
        assert calls[service]["span_id"] == trace[service, name].span_id


async def test_a_call_over_grpc_continues_the_trace_of_its_metadata_and_a_failure_marks_it(traced: Traced) -> None:
    stub = traced.service.stub((("x-auth-token", "unknown"), ("traceparent", TRACEPARENT)))
    with pytest.raises(Exception, match="UNAUTHENTICATED"):
        await stub.ListDomains(domain_pb2.ListDomainsRequest())
    trace = await traced.trace((SERVICE, f"{RPC}/ListDomains"))
    span = trace[SERVICE, f"{RPC}/ListDomains"]
    assert span.parent_id == CALLER_SPAN
    assert span.attributes["rpc.response.status_code"] == "UNAUTHENTICATED"
    assert not span.failed  # a fault of the caller's


async def test_a_caller_can_leave_its_request_out_and_a_malformed_header_begins_a_trace(traced: Traced) -> None:
    unsampled = f"00-{TRACE_ID}-{CALLER_SPAN}-00"
    await traced.request("GET", "/domains", traceparent=unsampled)
    await traced.request("GET", "/mailboxes", traceparent="00-xyz-01")
    await traced.session.get(traced.url.removesuffix("/mailbox/v1alpha1") + "/healthz")
    await wait_until(lambda: traced.served_by(SERVICE) and traced.served_by(GATEWAY))
    names = {span.name for span in traced.collector.spans if span.service == GATEWAY}
    assert names == {"GET /mailbox/v1alpha1/mailboxes", f"{RPC}/ListMailboxes"}
    assert TRACE_ID not in {span.trace_id for span in traced.collector.spans}


def test_a_collector_that_is_down_stops_nothing(start_postroom: Starter) -> None:
    up = start_postroom(f"--otlp-endpoint=http://127.0.0.1:{free_port()}")
    assert up.get("/mailbox/v1alpha1/domains", up.environment["SCW_SECRET_KEY"]) == 200
    assert up.stop() == 0


def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'postroom.db'}"
    assert run("migrate", f"--database-url={url}").returncode == 0
    script = "import sys; sys.modules['opentelemetry'] = None; from postroomd.cli.app import main; main()"
    for command in ("serve", "gateway", "up"):
        database = [] if command == "gateway" else [f"--database-url={url}"]
        process = subprocess.run(
            [sys.executable, "-c", script, command, *database],
            env=clean_environment(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4317"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert process.returncode == 1
        lines = [line for line in process.stderr.splitlines() if not line.startswith("{")]
        assert len(lines) == 1
        assert "pip install 'postroom[otel]'" in lines[0]


def test_processes_that_are_not_traced_load_no_opentelemetry() -> None:
    script = (
        "import sys; import postroomd.runtime.service, postroomd.runtime.gateway, postroomd.runtime.worker;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
