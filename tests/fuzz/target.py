"""The product under attack: processes of `postroom up`, callers, and resources that cases name."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from postroom.v1alpha1 import domain_pb2, mailbox_service_pb2_grpc
from tests.e2e.support import Up, child_pids, database_url, run_process, start, terminate
from tests.fuzz.messages import PASSWORD, Ids
from tests.support.metrics import scrape
from tools.ports import free_address

API = "/mailbox/v1alpha1"
CONNECTION_SECONDS = 1
"""Time for headers and bodies: a case whose request never ends takes this long."""

FLAGS = (
    "--argon2-memory-kib=8",
    "--argon2-time-cost=1",
    "--dkim-bits=1024",
    "--billing=manual",
    "--provisioning=manual",
    "--mailbox-quota=1000000",
    f"--header-timeout-seconds={CONNECTION_SECONDS}",
    f"--body-timeout-seconds={CONNECTION_SECONDS}",
    f"--idle-timeout-seconds={CONNECTION_SECONDS}",
    "--log-format=json",
)


@dataclass
class Target:
    """A running Postroom. `ids` names resources that exist, unless a case has deleted them."""

    up: Up
    admin_address: str
    metrics_address: str
    token: str
    other_token: str
    admin_token: str
    pids: Mapping[str, int]
    ids: Ids = field(default_factory=dict)
    _refreshes: int = 0

    @property
    def http_address(self) -> tuple[str, int]:
        """Host and port of the gateway."""
        return _split(self.up.environment["SCW_API_URL"].removeprefix("http://"))

    @property
    def grpc_addresses(self) -> Mapping[str, tuple[str, int]]:
        """Host and port of the public and of the admin service."""
        return {"grpc": _split(self.up.grpc_address), "admin": _split(self.admin_address)}

    async def refresh(self) -> None:
        """Create the resources that the next cases name: some may have been deleted by the last ones."""
        self._refreshes += 1
        domain = await self._call("POST", "/domains", self.token, {"name": f"pool{self._refreshes}.example"})
        boxes = [{"local_part": f"box{number}", "password": PASSWORD} for number in range(3)]
        batch = {"domain_id": domain["id"], "mailboxes": boxes}
        created = (await self._call("POST", "/batch-create-mailboxes", self.token, batch))["mailboxes"]
        mailbox = created[0]["id"]
        alias = await self._call("POST", "/aliases", self.token, {"mailbox_id": mailbox, "local_part": "alias"})
        to = {"mailbox_id": mailbox, "email": "ann@elsewhere.example"}
        forwarding = await self._call("POST", "/forwardings", self.token, to)
        payment, provision = await asyncio.to_thread(self._pending, created[1]["id"])
        self.ids = {
            "domain": domain["id"],
            "project": domain["project_id"],
            "organization": domain["organization_id"],
            "mailbox": mailbox,
            "alias": alias["id"],
            "forwarding": forwarding["id"],
            "payment": payment,
            "provision": provision,
        }

    async def check(self) -> None:
        """Check that the product serves: probes, health checks, and valid calls of another tenant on each surface."""
        for path in ("/healthz", "/readyz"):
            await self._request("GET", path, "")
        assert isinstance((await self._call("GET", "/domains", self.other_token))["domains"], list)
        for name, (host, port) in self.grpc_addresses.items():
            async with grpc.aio.insecure_channel(f"{host}:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
                probe: Any = health_pb2_grpc.HealthStub(channel)
                health = await probe.Check(health_pb2.HealthCheckRequest())
                assert health.status == health_pb2.HealthCheckResponse.SERVING, name
                if name == "grpc":
                    stub = mailbox_service_pb2_grpc.MailboxServiceStub(channel)
                    await stub.ListDomains(
                        domain_pb2.ListDomainsRequest(), metadata=[("x-auth-token", self.other_token)]
                    )
        assert child_pids(self.up.process.pid) == self.pids, "a process was replaced"

    def remaining(self) -> dict[str, float]:
        """Return the calls and connections that are still open, without those of the check itself."""
        metrics = scrape(self.metrics_address)
        names = ("postroom_calls_in_progress", "postroom_http_connections")
        return {name: sum(metrics.samples.get(name, {}).values()) for name in names}

    async def _call(self, method: str, path: str, token: str, body: object = None) -> Any:
        return json.loads(await self._request(method, API + path, token, body))

    async def _request(self, method: str, path: str, token: str, body: object = None) -> bytes:
        host, port = self.http_address
        url = f"http://{host}:{port}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, json=body, headers={"X-Auth-Token": token} if token else {}) as response,
        ):
            content = await response.read()
            assert response.status in {200, 204}, (method, path, response.status, content)
            return content

    def _pending(self, mailbox_id: str) -> tuple[str, str]:
        """Return a payment and a provision of a mailbox; "" if it has none."""
        path = database_url(self.up.directory).partition(":///")[2]
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            found = []
            for table in ("payments", "provisions"):
                row = connection.execute(f"SELECT id FROM {table} WHERE mailbox_id = ?", (mailbox_id,)).fetchone()
                found.append(str(row[0]) if row else "")
        return found[0], found[1]


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


@contextmanager
def running_target(directory: Path) -> Iterator[Target]:
    """Run the product in a directory."""
    admin_address, metrics_address = free_address(), free_address()
    up = start(directory, *FLAGS, f"--admin-address={admin_address}", f"--metrics-address={metrics_address}")
    try:
        url = database_url(directory)
        other = json.loads(
            run_process("keys", "create", "--new-organization", "--output=json", POSTROOM_DATABASE_URL=url).stdout
        )
        admin = json.loads(
            run_process("admin-keys", "create", "--name=fuzz", "--output=json", POSTROOM_DATABASE_URL=url).stdout
        )
        yield Target(
            up=up,
            admin_address=admin_address,
            metrics_address=metrics_address,
            token=up.environment["SCW_SECRET_KEY"],
            other_token=other["SCW_SECRET_KEY"],
            admin_token=admin["secret"],
            pids=child_pids(up.process.pid),
        )
    finally:
        terminate(up)
