"""One recorded sequence of calls, as clients of the public service make them, against real processes and DNS servers.

The settings are those with which Postroom answers as the public service does (docs/compatibility.md).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc

from postroom.admin.v1alpha1 import admin_service_pb2_grpc, mailbox_pb2, payment_pb2, provision_pb2
from tests.e2e.support import database_url, run_process, start, terminate
from tests.e2e.trial_process import address_of, new_admin_key
from tests.support.dns_records import txt_strings
from tests.support.dns_server import RESOLVER, Internet, no_reply
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from postroom.admin.v1alpha1.admin_service_pb2_grpc import AdminServiceAsyncStub

API = "/mailbox/v1alpha1"
NAME = "sub.example.com"
PASSWORD = "Correct-Horse-7"  # 15 characters of four kinds, as recorded
REQUIRED = ("domain_validation", "spf", "dkim", "dmarc", "mx")
PAUSE_SECONDS = 0.1  # between polls, so that they stay far below the rate limit
FEW_CALLS = 20  # before that limit: then the next one waits, however fast the machine is
NAME_SERVERS = ("127.77.0.1",)

AS_THE_PUBLIC_SERVICE = {
    "deletion-retention": "600",
    "domain-validation-label": "@",
    "domain-validation-prefix": "scaleway-mailbox=",
    "spf-policy": "fail",
    "spf-include": "spf.mailbox.scw.eu",
    "dkim-selector": "scw-mbox",
    "mx-host": "smtp.mailbox.scw.eu",
    "smtp-host": "smtp.mailbox.scw.eu",
    "imap-host": "imap.mailbox.scw.eu",
    "pop3-host": "pop3.mailbox.scw.eu",
    "webmail-host": "mailbox.scw.eu",
    "caldav-host": "caldav.mailbox.scw.eu",
    "carddav-host": "carddav.mailbox.scw.eu",
    "autoconfig-host": "autoconfig.mailbox.scw.eu",
    "autodiscover-host": "autodiscover.mailbox.scw.eu",
    "billing": "manual",
    "provisioning": "manual",
    "mailbox-quota": "5",
    "rate-limit": "50",
}

FOR_TESTS = {
    "domain-validation": "dns",
    "dns-allow-private": "true",
    "dns-timeout-seconds": "3",
    "dns-deadline-seconds": "10",
    "worker-interval-seconds": "0.1",
    "admin-address": "127.0.0.1:0",
    "argon2-memory-kib": "8",
    "argon2-time-cost": "1",
    "max-body-bytes": "65536",
}


@dataclass(frozen=True)
class Exchange:
    """A response: its status, headers, octets, and the value of its JSON body, None without one."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.content) if self.content else None


@dataclass
class Recording:
    """The exchanges by label."""

    exchanges: dict[str, Exchange] = field(default_factory=dict)

    def __getitem__(self, label: str) -> Exchange:
        return self.exchanges[label]

    def body(self, label: str) -> Any:
        """Return the body of an exchange."""
        return self.exchanges[label].body


@dataclass
class Client:
    """A caller with an API key, the operator's systems, and the DNS. Labelled responses are recorded."""

    session: aiohttp.ClientSession
    admin: "AdminServiceAsyncStub"
    internet: Internet
    recording: Recording
    project_id: str

    async def call(
        self, label: str, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Make one call and record it. Returns the body. A POST or PATCH has one, as the SDKs send it."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        sent = {"Content-Type": "application/json"} if data is not None else {}
        async with self.session.request(method, API + path, data=data, headers=sent | dict(headers or {})) as response:
            exchange = Exchange(response.status, response.headers.copy(), await response.read())
        self.recording.exchanges[label] = exchange
        if int(exchange.headers.get("X-Ratelimit-Remaining", FEW_CALLS)) < FEW_CALLS:
            await asyncio.sleep(PAUSE_SECONDS)
        return exchange.body

    async def poll(self, label: str, path: str, status: str) -> Any:
        """GET until a resource has a status. Records the last response, and returns its body."""

        async def reached() -> Any:
            await asyncio.sleep(PAUSE_SECONDS)
            body = await self.call(label, "GET", path)
            return body if body.get("status") == status else None

        return await wait_until(reached)

    async def gone(self, label: str, path: str) -> None:
        """GET until a resource does not exist. Records the last response."""

        async def is_gone() -> bool:
            await asyncio.sleep(PAUSE_SECONDS)
            await self.call(label, "GET", path)
            return self.recording[label].status == 404

        await wait_until(is_gone)

    async def pay(self, mailbox_id: str) -> None:
        """Confirm the pending payment of a mailbox."""
        pending = (await self.admin.ListPendingPayments(payment_pb2.ListPendingPaymentsRequest())).payments
        (payment,) = (each for each in pending if each.mailbox_id == mailbox_id)
        await self.admin.ConfirmPayment(payment_pb2.ConfirmPaymentRequest(payment_id=payment.id))

    async def provide(self, **subject: str) -> None:
        """Confirm the pending provision of a subject, once it is requested."""
        ((field_name, subject_id),) = subject.items()

        async def pending() -> provision_pb2.Provision | None:
            listed = await self.admin.ListPendingProvisions(provision_pb2.ListPendingProvisionsRequest())
            matching = (each for each in listed.provisions if getattr(each, field_name) == subject_id)
            return next((each for each in matching if field_name != "domain_id" or not each.mailbox_id), None)

        provision = await wait_until(pending)
        await self.admin.ConfirmProvision(provision_pb2.ConfirmProvisionRequest(provision_id=provision.id))


async def record(client: Client) -> None:
    """Make the recorded sequences of calls."""
    domain = await client.call("domain created", "POST", "/domains", {"project_id": client.project_id, "name": NAME})
    path = f"/domains/{domain['id']}"
    await client.provide(domain_id=domain["id"])
    await client.poll("domain waiting", path, "waiting_validation")
    records = await client.call("records", "GET", f"{path}/records")
    early = await _early_mailbox(client, domain["id"])
    await _validate(client, path, records)
    await client.poll("early ready to be made", f"/mailboxes/{early}", "creating")
    await client.provide(mailbox_id=early)
    await client.poll("early ready", f"/mailboxes/{early}", "ready")
    await _mailbox(client, domain["id"], early)
    await _aliases(client, early)
    await _forwardings(client, early)
    await _errors(client, domain, early)
    await _domain_without_mailboxes(client)
    await client.call("domain in use", "DELETE", path)
    await client.call("domain forced", "DELETE", f"{path}?force=true")
    changed = {"subscription_period": "monthly"}
    await client.call("transient", "PATCH", f"/mailboxes/{early}", changed)


async def _early_mailbox(client: Client, domain_id: str) -> str:
    """Create and pay for a mailbox in a domain that is not validated. Returns its id."""
    batch = {"domain_id": domain_id, "mailboxes": [{"local_part": "early", "password": PASSWORD}]}
    created = await client.call("early created", "POST", "/batch-create-mailboxes", batch)
    mailbox_id: str = created["mailboxes"][0]["id"]
    await client.call("domain with a mailbox", "GET", f"/domains/{domain_id}")
    await client.pay(mailbox_id)
    await client.poll("early paid", f"/mailboxes/{mailbox_id}", "waiting_domain")
    return mailbox_id


async def _validate(client: Client, path: str, records: Mapping[str, Mapping[str, str]]) -> None:
    """Validate while no server answers, while the records are absent, while one is wrong, and once all are right."""
    server = (await client.internet.delegate(NAME, *NAME_SERVERS))[0]
    answering, server.handler = server.handler, no_reply
    await client.call("validation requested", "POST", f"{path}/validate-records", {})
    await client.call("domain validating", "GET", path)
    await client.poll("domain not answered", path, "waiting_validation")
    await client.call("records not answered", "GET", f"{path}/records")
    server.handler = answering
    client.internet.publish(NAME, "")
    await client.call("validation of nothing", "POST", f"{path}/validate-records", {})
    await client.poll("domain not found", path, "waiting_validation")
    await client.call("records not found", "GET", f"{path}/records")
    client.internet.publish(NAME, _zone(records, {"dmarc": "v=DMARC1"}))
    await client.call("validation of a wrong record", "POST", f"{path}/validate-records", {})
    await client.poll("domain invalid", path, "validation_failed")
    client.internet.publish(NAME, _zone(records))
    await client.call("validation of required records", "POST", f"{path}/validate-records", {})
    await client.poll("domain ready", path, "ready")
    await client.call("records found", "GET", f"{path}/records")


def _zone(records: Mapping[str, Mapping[str, str]], wrong: Mapping[str, str] | None = None) -> str:
    """Return a zone file that publishes the required records alone."""
    lines = []
    for kind in REQUIRED:
        record = records[kind]
        value = (wrong or {}).get(kind, record["dns_value"])
        text = f"TXT {txt_strings(value)}" if record["dns_type"] == "txt_dns_type" else f"MX {value}"
        lines.append(f"{record['dns_name']} 60 IN {text}\n")
    return "".join(lines)


async def _mailbox(client: Client, domain_id: str, early: str) -> None:
    """Create, pay for, find, change, delete and restore a mailbox of a ready domain."""
    batch = {
        "domain_id": domain_id,
        "mailboxes": [{"local_part": "john.doe", "password": PASSWORD}],
        "subscription_period": "monthly",
    }
    created = await client.call("mailbox created", "POST", "/batch-create-mailboxes", batch)
    path = f"/mailboxes/{created['mailboxes'][0]['id']}"
    await client.call("mailbox unpaid", "GET", path)
    await client.pay(created["mailboxes"][0]["id"])
    await client.call("mailbox paid", "GET", path)
    await client.provide(mailbox_id=created["mailboxes"][0]["id"])
    await client.poll("mailbox ready", path, "ready")
    query = "order_by=created_at_desc&page=1&search=john.doe%40sub.example.com"
    await client.call("mailboxes found", "GET", f"/mailboxes?{query}")
    await client.call("period set", "PATCH", path, {"subscription_period": "yearly"})
    await client.call("password set", "PATCH", path, {"new_password": "another-" + PASSWORD})
    await client.call("nothing set", "PATCH", path, {"subscription_period": "unknown_subscription_period"})
    await client.call("mailbox deleted", "DELETE", path)
    await client.call("mailbox deleted again", "DELETE", path)
    await client.call("mailbox found deleted", "GET", path)
    replacement = batch | {"mailboxes": [{"local_part": "jane.doe", "password": PASSWORD}]}
    await client.call("replacement created", "POST", "/batch-create-mailboxes", replacement)
    await client.call("conflict", "POST", "/batch-create-mailboxes", batch)
    await client.call("mailbox restored", "POST", f"{path}/restore", {})
    await client.call("not restorable", "POST", f"/mailboxes/{early}/restore", {})


async def _aliases(client: Client, mailbox_id: str) -> None:
    """Create an alias in both forms of the API, and with descriptions of the maximum length and beyond."""
    alias = await client.call(
        "alias created", "POST", "/aliases", {"mailbox_id": mailbox_id, "local_part": "info", "description": ""}
    )
    below = {"local_part": "sales", "description": "d" * 128}
    await client.call("alias created below its mailbox", "POST", f"/mailboxes/{mailbox_id}/aliases", below)
    await client.call("aliases of the mailbox", "GET", f"/mailboxes/{mailbox_id}/aliases")
    await client.call("alias", "GET", f"/aliases/{alias['id']}")
    await client.call("description too long", "PATCH", f"/aliases/{alias['id']}", {"description": "d" * 129})


async def _forwardings(client: Client, mailbox_id: str) -> None:
    """Create, list, change and delete forwardings and their settings, and break each of their rules."""
    mailbox = await client.call("mailbox to forward", "GET", f"/mailboxes/{mailbox_id}")
    email = "ann@elsewhere.example"
    created = await client.call(
        "forwarding created", "POST", "/forwardings", {"mailbox_id": mailbox_id, "email": email}
    )
    path = f"/forwardings/{created['id']}"
    await client.provide(forwarding_id=created["id"])
    await client.call("forwarding ready", "GET", path)
    for label, query in {
        "of a project": f"project_id={client.project_id}&mailbox_id={mailbox_id}&status=ready&order_by=email_asc",
        "of an organization": f"organization_id={mailbox['organization_id']}",
        "of both": f"organization_id={mailbox['organization_id']}&project_id={client.project_id}",
        "of neither": "page=1&page_size=100",
        "of another organization": f"organization_id={mailbox_id}",
        "on a page too large": "page_size=101",
    }.items():
        await client.call(f"forwardings {label}", "GET", f"/forwardings?{query}")
    await client.call("forwarding etag", "PATCH", path, {"email": "ben@elsewhere.example"}, {"If-Match": '"0"'})
    await client.call("forwarding updated", "PATCH", path, {"email": "ben@elsewhere.example"})
    await client.provide(forwarding_id=created["id"])
    await client.call("forwarding ready again", "GET", path)
    await client.call("nothing of the forwarding set", "PATCH", path, {})

    settings = f"/mailboxes/{mailbox_id}/forwarding"
    await client.call("settings", "GET", settings)
    await client.call("settings updated", "PATCH", settings, {"keep_copy": False, "enabled": None})
    await client.call("forwarding with other settings", "GET", path)
    await client.provide(forwarding_id=created["id"])

    name, domain_name = mailbox["email"].split("@")
    for label, destination in {
        "to itself": mailbox["email"].upper(),
        "to itself with a detail": f"{name}+news@{domain_name}",
        "to an alias": f"info@{domain_name}",
        "to a program": "|program@elsewhere.example",
        "to the same": "BEN@elsewhere.example",
        "to a future alias": f"future@{domain_name}",
        "third": "3@elsewhere.example",
        "fourth": "4@elsewhere.example",
        "fifth": "5@elsewhere.example",
        "sixth": "6@elsewhere.example",
    }.items():
        sent = {"mailbox_id": mailbox_id, "email": destination}
        await client.call(f"forwarding {label}", "POST", "/forwardings", sent)
    future = {"mailbox_id": mailbox_id, "local_part": "future"}
    await client.call("alias of a destination", "POST", "/aliases", future)
    await client.call("forwarding deleted", "DELETE", path)
    await client.provide(forwarding_id=created["id"])
    await client.gone("forwarding gone", path)


async def _errors(client: Client, domain: Mapping[str, Any], mailbox_id: str) -> None:
    """Provoke each type of error that one caller can provoke."""
    missing = "00000000-0000-4000-8000-000000000000"
    await client.call("not found", "GET", f"/domains/{missing}")
    await client.call("invalid", "POST", "/domains", {"name": "com", "unknown": 1})
    await client.call("public suffix", "POST", "/domains", {"name": "co.uk"})
    await client.call("unknown parameter", "GET", "/domains?unknown=1")
    await client.call("aliases", "GET", "/aliases")
    await client.call("denied", "GET", "/domains", headers={"X-Auth-Token": missing})
    many = [{"local_part": f"m{number}", "password": PASSWORD} for number in range(6)]
    await client.call("quota", "POST", "/batch-create-mailboxes", {"domain_id": domain["id"], "mailboxes": many})
    await client.call("etag", "PATCH", f"/mailboxes/{mailbox_id}", {}, {"If-Match": '"0"'})
    await client.admin.LockMailbox(mailbox_pb2.LockMailboxRequest(mailbox_id=mailbox_id, reason="abuse"))
    await client.call("locked", "PATCH", f"/mailboxes/{mailbox_id}", {"subscription_period": "yearly"})
    await client.admin.UnlockMailbox(mailbox_pb2.UnlockMailboxRequest(mailbox_id=mailbox_id))
    await client.call("method", "PUT", "/domains", {})
    await client.call("media type", "POST", "/domains", b"name=example.org", {"Content-Type": "text/plain"})
    await client.call("too large", "POST", "/domains", b'{"name": "' + b"x" * 100_000 + b'"}')


async def _domain_without_mailboxes(client: Client) -> None:
    """Delete a domain without mailboxes, and use its name again."""
    domain = await client.call("second domain", "POST", "/domains", {"name": "again.example.com"})
    path = f"/domains/{domain['id']}"
    await client.provide(domain_id=domain["id"])
    await client.call("domain deleted", "DELETE", path)
    await client.call("domain found deleting", "GET", path)
    await client.provide(domain_id=domain["id"])
    await client.gone("domain gone", path)
    await client.call("name used again", "POST", "/domains", {"name": "again.example.com"})


@asynccontextmanager
async def recorded(directory: Path) -> AsyncIterator[Recording]:
    """Run Postroom with the settings of the public service, and yield the recording."""
    async with AsyncExitStack() as cleanups:
        internet = Internet(cleanups)
        await internet.open()
        settings = AS_THE_PUBLIC_SERVICE | FOR_TESTS
        settings |= {"dns-resolvers": f"{RESOLVER}:{internet.port}", "dns-authoritative-port": str(internet.port)}
        flags = [f"--{name}={value}" for name, value in settings.items()]
        up = await asyncio.to_thread(start, directory, *flags)
        cleanups.push_async_callback(asyncio.to_thread, terminate, up)
        secret = await asyncio.to_thread(new_admin_key, up, "platform")
        channel = grpc.aio.insecure_channel(address_of(up, "admin service"), interceptors=[_Authenticated(secret)])
        cleanups.push_async_callback(channel.close)
        environment = up.environment
        session = aiohttp.ClientSession(
            environment["SCW_API_URL"], headers={"X-Auth-Token": environment["SCW_SECRET_KEY"]}
        )
        await cleanups.enter_async_context(session)
        client = Client(
            session,
            admin_service_pb2_grpc.AdminServiceStub(channel),
            internet,
            Recording(),
            environment["SCW_DEFAULT_PROJECT_ID"],
        )
        await record(client)
        reading = await asyncio.to_thread(_read_only_key, directory, environment)
        await client.call("forbidden", "POST", "/domains", {"name": "x.example"}, {"X-Auth-Token": reading})
        yield client.recording


def _read_only_key(directory: Path, environment: Mapping[str, str]) -> str:
    """Create an API key of the same organization that may only read. Returns its secret."""
    organization = f"--organization-id={environment['SCW_DEFAULT_ORGANIZATION_ID']}"
    database = f"--database-url={database_url(directory)}"
    completed = run_process("keys", "create", "--read-only", "--output=json", organization, database)
    assert completed.returncode == 0, completed.stderr
    return str(json.loads(completed.stdout)["SCW_SECRET_KEY"])


class _Authenticated(grpc.aio.UnaryUnaryClientInterceptor):
    """Adds the operator's secret to every call."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    async def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        sent = details._replace(metadata=grpc.aio.Metadata(("x-auth-token", self._secret)))
        return await continuation(sent, request)
