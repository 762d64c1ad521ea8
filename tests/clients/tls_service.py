"""Postroom over TLS for the example clients, and DNS servers that publish what the clients register."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from postroom.client import TLS, channel
from postroom.v1alpha1.domain_pb2 import DomainRecord, GetDomainRecordsRequest, ListDomainsRequest
from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub
from postroomd.domain.model import DnsType
from tests.e2e.sdk.instances import FAST_SETTINGS
from tests.e2e.support import Up, clean_environment, start, terminate
from tests.support.certificates import Authority
from tests.support.dns_records import TYPES, txt_strings
from tests.support.dns_server import RESOLVER, Internet, ReceivedQuery, Reply
from tools.ports import free_address

NAME_SERVER = "127.0.0.2"
HOST = "127.0.0.1"
START_SECONDS = 60


@dataclass
class TlsService:
    """`postroom up` with TLS on one gRPC address, which it keeps when it is restarted."""

    directory: Path
    flags: Sequence[str] = ()
    grpc_address: str = field(default_factory=free_address)

    def __post_init__(self) -> None:
        self._authority = Authority(self.directory / "tls")
        self._files = self._authority.issue("server", HOST)
        self._up = self._start()
        self._variables = self._up.environment

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a client."""
        variables = {"POSTROOM_GRPC_ADDRESS": self.grpc_address, "POSTROOM_CA_FILE": str(self._authority.path)}
        return clean_environment(**self._variables | variables)

    @contextmanager
    def stub(self) -> Iterator[MailboxServiceStub]:
        """A client of the tests' own."""
        tls = TLS(root_certificates=self._authority.pem)
        with channel(self.grpc_address, self._variables["SCW_SECRET_KEY"], tls=tls) as connection:
            yield MailboxServiceStub(connection)

    def restart(self) -> None:
        """Stop it with SIGTERM, and start it again on the same address and database."""
        assert self._up.stop() == 0, self._up.log
        self._up = self._start()

    def stop(self) -> None:
        """Stop it, without a restart."""
        terminate(self._up)

    def _start(self) -> Up:
        return start(
            self.directory,
            f"--grpc-address={self.grpc_address}",
            f"--tls-cert={self._files.cert}",
            f"--tls-key={self._files.key}",
            *self.flags,
            **FAST_SETTINGS,
        )


class Publisher:
    """The DNS provider of the clients' domains: publishes the records that the service asks for.

    The records are fetched at the first query for a domain, so that its first validation finds them.
    """

    def __init__(self, internet: Internet) -> None:
        self._internet = internet
        self._published: set[str] = set()
        self.service: TlsService | None = None

    def __call__(self, received: ReceivedQuery) -> Reply:
        """Handler of the name server."""
        name = ".".join(received.name.to_text().rstrip(".").split(".")[-2:])
        if name not in self._published:
            self._internet.publish(name, self._zone(name))
            self._published.add(name)
        return self._internet.authority(received)

    def _zone(self, name: str) -> str:
        assert self.service is not None
        with self.service.stub() as stub:
            (domain,) = stub.ListDomains(ListDomainsRequest(search=name), timeout=START_SECONDS).domains
            response = stub.GetDomainRecords(GetDomainRecordsRequest(domain_id=domain.id), timeout=START_SECONDS)
        return "".join(_line(record) for _, record in response.ListFields())


def _line(record: DomainRecord) -> str:
    dns_type = TYPES[DnsType(DomainRecord.DnsType.Name(record.dns_type).lower())]
    value = txt_strings(record.dns_value) if dns_type == "TXT" else record.dns_value
    return f"{record.dns_name} 60 IN {dns_type} {value}\n"


@contextmanager
def validated_service(directory: Path, *names: str) -> Iterator[TlsService]:
    """A service that looks up the records of the domains, at a DNS server that publishes them."""
    ready, stopping = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    started: list[tuple[Internet, Publisher]] = []

    async def serve() -> None:
        async with AsyncExitStack() as cleanups:
            internet = Internet(cleanups)
            await internet.open()
            publisher = Publisher(internet)
            for name in names:
                (server,) = await internet.delegate(name, NAME_SERVER)
                server.handler = publisher
            started.append((internet, publisher))
            ready.set()
            await stopping.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(START_SECONDS)
        ((internet, publisher),) = started
        service = publisher.service = TlsService(
            directory,
            (
                "--domain-validation=dns",
                f"--dns-resolvers={RESOLVER}:{internet.port}",
                f"--dns-authoritative-port={internet.port}",
                "--dns-allow-private=true",
                "--dns-timeout-seconds=10",
                "--mailbox-alias-quota=100000",
                "--alias-quota=1000000",
            ),
        )
        try:
            yield service
        finally:
            service.stop()
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.close()
