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

    async def trace(self, trace_id: str, *names: str) -> dict[str, ReceivedSpan]:
        """Return the spans of a trace by name, once those with these names have arrived."""

        def arrived() -> dict[str, ReceivedSpan] | None:
            spans = {span.name: span for span in self.collector.spans if span.trace_id == trace_id}
            return spans if set(names) <= set(spans) else None

        return await wait_until(arrived)


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
    names = ("GET /mailbox/v1alpha1/mailboxes/{mailbox_id}", f"{RPC}/GetMailbox", "SELECT mailboxes")
    await traced.trace(TRACE_ID, *names)
    spans = [span for span in traced.collector.spans if span.trace_id == TRACE_ID]
    chain = [(CALLER_SPAN, "")]
    for expected in (
        ("postroom-gateway", names[0], SERVER),
        ("postroom-gateway", names[1], CLIENT),
        ("postroom-service", names[1], SERVER),
        ("postroom-service", names[2], CLIENT),
    ):
        (span,) = [each for each in spans if each.parent_id == chain[-1][0]]
        assert (span.service, span.name, span.kind) == expected
        chain.append((span.span_id, span.name))
        if span.kind == SERVER:
            assert span.attributes["postroom.request_id"] == "r-1"
        elif span.name == names[2]:
            assert span.attributes["db.system.name"] == "sqlite"
            assert str(span.attributes["db.query.text"]).startswith("SELECT ")
        assert not span.failed
    assert len(spans) == 4


async def test_the_statements_of_a_change_are_below_its_transaction(traced: Traced) -> None:
    domain = await traced.tenant.domain()
    body = {"domain_id": domain.id, "mailboxes": [{"local_part": "visible-name", "password": PASSWORD}]}
    response = await traced.request("POST", "/batch-create-mailboxes", body, traceparent=TRACEPARENT)
    assert response.status == 200
    trace = await traced.trace(
        TRACE_ID, "transaction", "INSERT mailboxes", "POST /mailbox/v1alpha1/batch-create-mailboxes"
    )
    assert trace["INSERT mailboxes"].parent_id == trace["transaction"].span_id
    rpc = [span for span in traced.collector.spans if span.service == "postroom-service" and span.kind == SERVER]
    assert trace["transaction"].parent_id in {span.span_id for span in rpc}
    assert {span.attributes.get("postroom.organization_id") for span in rpc} >= {traced.tenant.organization_id}


async def test_no_secret_and_no_address_is_in_a_span(traced: Traced) -> None:
    domain = await traced.tenant.domain()
    body = {"domain_id": domain.id, "mailboxes": [{"local_part": "visible-name", "password": PASSWORD}]}
    for _ in range(2):  # the second one fails: the address is in use
        await traced.request("POST", "/batch-create-mailboxes", body, **{"Idempotency-Key": "secret-key-1"})
        body["subscription_period"] = "yearly"
    await traced.request("GET", "/mailboxes?search=visible-name", traceparent=TRACEPARENT)
    await traced.request("POST", "/batch-create-mailboxes", {**body, "password": PASSWORD})
    await traced.request("GET", "/domains/visible-name")
    await traced.trace(TRACE_ID, "GET /mailbox/v1alpha1/mailboxes")
    await wait_until(lambda: sum(span.name.startswith("GET /mailbox") for span in traced.collector.spans) == 2)
    octets = traced.collector.octets
    assert b"INSERT INTO mailboxes" in octets
    for secret in (PASSWORD, traced.tenant.secret, "visible-name", "secret-key-1", "argon2", domain.name):
        assert secret.encode() not in octets


async def test_log_lines_name_the_trace(traced: Traced, logs: StringIO) -> None:
    await traced.request("POST", "/domains", {"name": "named.example"}, traceparent=TRACEPARENT)
    await traced.trace(TRACE_ID, "POST /mailbox/v1alpha1/domains")
    lines = [json.loads(line) for line in logs.getvalue().splitlines()]
    calls = {"gateway" if "route" in line else "service": line for line in lines if line["event"] == "call"}
    spans = {span.service: span for span in traced.collector.spans if span.kind == SERVER}
    for process in ("gateway", "service"):
        assert calls[process]["trace_id"] == TRACE_ID
        assert calls[process]["span_id"] == spans[f"postroom-{process}"].span_id


async def test_a_call_over_grpc_continues_the_trace_of_its_metadata_and_a_failure_marks_it(traced: Traced) -> None:
    stub = traced.service.stub((("x-auth-token", "unknown"), ("traceparent", TRACEPARENT)))
    with pytest.raises(Exception, match="UNAUTHENTICATED"):
        await stub.ListDomains(domain_pb2.ListDomainsRequest())
    trace = await traced.trace(TRACE_ID, f"{RPC}/ListDomains")
    span = trace[f"{RPC}/ListDomains"]
    assert span.parent_id == CALLER_SPAN
    assert span.attributes["rpc.response.status_code"] == "UNAUTHENTICATED"
    assert not span.failed  # a fault of the caller's


async def test_a_caller_can_leave_its_request_out_and_a_malformed_header_begins_a_trace(traced: Traced) -> None:
    unsampled = f"00-{TRACE_ID}-{CALLER_SPAN}-00"
    await traced.request("GET", "/domains", traceparent=unsampled)
    await traced.request("GET", "/mailboxes", traceparent="00-xyz-01")
    await traced.session.get(traced.url.removesuffix("/mailbox/v1alpha1") + "/healthz")
    await wait_until(lambda: [span for span in traced.collector.spans if span.service == "postroom-service"])
    await wait_until(lambda: [span for span in traced.collector.spans if span.name.startswith("GET ")])
    names = {span.name for span in traced.collector.spans if span.service == "postroom-gateway"}
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
