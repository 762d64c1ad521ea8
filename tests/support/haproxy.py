"""Two services and two gateways on PostgreSQL behind deploy/haproxy/haproxy.cfg, and calls through it under load."""

import asyncio
import re
import signal
import ssl
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import uuid4

import aiohttp
import grpc

from postroom.client import aio_channel
from postroom.client.tls import TLS
from postroom.v1alpha1.domain_pb2 import ListDomainsRequest
from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub
from tests.e2e.support import POSTROOM, STOP_SECONDS, clean_environment
from tests.support.certificates import Authority
from tests.support.deploy_files import configured, program
from tests.support.waiting import wait_until
from tools.ports import free_ports

NAME = "mail.example"


@dataclass
class Site:
    """Two services and two gateways behind HAProxy."""

    directory: Path
    authority: Authority
    environments: Mapping[str, Mapping[str, str]]
    https: int
    grpcs: int
    secret: str
    postroom: str
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Start a process."""
        with (self.directory / f"{name}.log").open("ab") as log:
            command = [self.postroom, "serve" if name.startswith("service") else "gateway"]
            environment = clean_environment(**self.environments[name])
            self.running[name] = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    async def all_in_use(self) -> None:
        """Wait until all processes are ready, and HAProxy has them in use."""
        for name in self.environments:
            await self._ready(name, 1)
        for name in ("gateway1", "gateway2"):
            await wait_until(partial(_is_ready, self.environments[name]["POSTROOM_HTTP_ADDRESS"]))
        for name in self.environments:
            await self._in_use(name)

    async def restart(self, name: str) -> None:
        """Restart a process as a deployment does: SIGTERM, wait, start, wait until it is ready."""
        self.running[name].send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(self.running[name].wait, STOP_SECONDS) == 0
        self.start(name)
        await self._ready(name, 2)
        await self._in_use(name)

    def stop(self) -> None:
        """Stop what is running. Raises TimeoutExpired for a process that had to be killed."""
        for process in self.running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        with ExitStack() as waits:
            for process in self.running.values():
                waits.callback(_wait_or_kill, process)

    async def _ready(self, name: str, times: int) -> None:
        """Wait until a process has become ready for the n-th time."""
        log = self.directory / f"{name}.log"
        await wait_until(lambda: log.read_text().count('"event": "ready"') == times or self._exited(name))

    async def _in_use(self, name: str) -> None:
        """Wait until HAProxy has the process in use: by its log, it is up, or was never down."""
        log, states = self.directory / "haproxy.log", re.compile(rf"/{name} is (UP|DOWN)")
        await wait_until(lambda: ["UP", *states.findall(log.read_text())][-1] == "UP")

    def _exited(self, name: str) -> bool:
        assert self.running[name].poll() is None, (self.directory / f"{name}.log").read_text()
        return False


@contextmanager
def site_behind_haproxy(directory: Path, url: str, secret: str, postroom: str = POSTROOM) -> Iterator[Site]:
    """Start all five on a migrated database that has the key of the secret; stop them at the end."""
    ports = free_ports(7)
    service1, service2, gateway1, gateway2, https, grpcs, internal = ports
    authority = Authority(directory / "tls")
    files = authority.issue("server", NAME)
    assert files.cert
    assert files.key
    pem = directory / "postroom.pem"
    pem.write_bytes(files.cert.read_bytes() + files.key.read_bytes())
    configuration = configured(
        "haproxy/haproxy.cfg",
        {
            "0.0.0.0:443 ": f"127.0.0.1:{https} ",
            "0.0.0.0:50443": f"127.0.0.1:{grpcs}",
            "127.0.0.1:50050": f"127.0.0.1:{internal}",
            "/etc/haproxy/postroom.pem": str(pem),
            "10.0.0.11:8080": f"127.0.0.1:{gateway1}",
            "10.0.0.12:8080": f"127.0.0.1:{gateway2}",
            "10.0.0.11:50051": f"127.0.0.1:{service1}",
            "10.0.0.12:50051": f"127.0.0.1:{service2}",
        },
        directory,
    )
    common = {"POSTROOM_LOG_FORMAT": "json", "POSTROOM_GATEWAY_SECRET": "s" * 40, "POSTROOM_DATABASE_POOL_SIZE": "4"}
    environments = {
        "service1": {**common, "POSTROOM_DATABASE_URL": url, "POSTROOM_GRPC_ADDRESS": f"127.0.0.1:{service1}"},
        "service2": {**common, "POSTROOM_DATABASE_URL": url, "POSTROOM_GRPC_ADDRESS": f"127.0.0.1:{service2}"},
        **{
            name: {
                **common,
                "POSTROOM_GRPC_ADDRESS": f"127.0.0.1:{internal}",
                "POSTROOM_HTTP_ADDRESS": f"127.0.0.1:{port}",
                "POSTROOM_TRUSTED_PROXIES": "127.0.0.1/32",
            }
            for name, port in (("gateway1", gateway1), ("gateway2", gateway2))
        },
    }
    site = Site(directory, authority, environments, https, grpcs, secret, postroom)
    haproxy = program("haproxy", "haproxy")
    subprocess.run([haproxy, "-c", "-f", configuration], check=True, capture_output=True)
    with (directory / "haproxy.log").open("wb") as log:
        site.running["haproxy"] = subprocess.Popen([haproxy, "-db", "-f", configuration], stdout=log, stderr=log)
    try:
        for name in environments:
            site.start(name)
        yield site
    finally:
        site.stop()


@dataclass
class Load:
    """Calls in a loop, until it is stopped; each must succeed at its first attempt, over REST, or by gRPC's own."""

    done: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    created: set[str] = field(default_factory=set)
    """Names of the domains whose creation was acknowledged."""
    stopping: bool = False

    async def more(self, kinds: int = 3, calls: int = 10) -> None:
        """Wait until each kind of call has succeeded this many more times."""
        before = self.done.copy()

        def done() -> bool:
            assert self.failed == []
            return sum(self.done[kind] >= before[kind] + calls for kind in self.done) == kinds

        await wait_until(done)


async def _rest(load: Load, site: Site, session: aiohttp.ClientSession, kind: str) -> None:
    """Read or change over HTTPS, without retries."""
    url = f"https://{NAME}:{site.https}/mailbox/v1alpha1/domains"
    while not load.stopping:
        headers = {"X-Auth-Token": site.secret, "Idempotency-Key": uuid4().hex}
        name = f"d{uuid4().hex}.example.org"
        body = {"name": name} if kind == "change" else None
        try:
            async with session.request("POST" if body else "GET", url, json=body, headers=headers) as response:
                text = await response.text()
                if response.status == 200:
                    load.done[kind] += 1
                    load.created.update([name] if body else [])
                else:
                    load.failed.append(f"{kind}: {response.status} {text}")
        except aiohttp.ClientError as error:
            load.failed.append(f"{kind}: {error!r}")
        await asyncio.sleep(0.01)


async def _over_grpc(load: Load, site: Site) -> None:
    """Read over gRPC with the product's own client."""
    tls = TLS(root_certificates=site.authority.pem, server_name=NAME)
    async with aio_channel(f"127.0.0.1:{site.grpcs}", site.secret, tls=tls) as channel:
        stub = MailboxServiceStub(channel)
        while not load.stopping:
            try:
                await stub.ListDomains(ListDomainsRequest(page_size=1), timeout=20)
                load.done["grpc"] += 1
            except grpc.aio.AioRpcError as error:
                load.failed.append(f"grpc: {error.code()} {error.details()}")
            await asyncio.sleep(0.01)


class _Resolver(aiohttp.abc.AbstractResolver):
    """Resolves every name to loopback."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[aiohttp.abc.ResolveResult]:
        return [aiohttp.abc.ResolveResult(hostname=host, host="127.0.0.1", port=port, family=2, proto=0, flags=0)]

    async def close(self) -> None:
        """Do nothing."""


@asynccontextmanager
async def under_load(site: Site) -> AsyncIterator[Load]:
    """Load on the site during the block."""
    async with AsyncExitStack() as stack:
        context = ssl.create_default_context(cadata=site.authority.pem.decode())
        connector = aiohttp.TCPConnector(ssl=context, resolver=_Resolver())
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        load = Load()
        tasks = [
            asyncio.create_task(each)
            for each in (
                *(_rest(load, site, session, kind) for kind in ("read", "read", "change", "change")),
                _over_grpc(load, site),
            )
        ]
        try:
            yield load
        finally:
            load.stopping = True
            await asyncio.gather(*tasks)


def _wait_or_kill(process: "subprocess.Popen[bytes]") -> None:
    """Wait until a process has ended; kill it if that takes too long. Raises TimeoutExpired then."""
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


async def _is_ready(address: str) -> bool:
    """Whether a gateway is ready."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}/readyz") as response:
        return response.status == 200
