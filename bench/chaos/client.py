"""A gRPC client: the generated stubs over its own connections."""

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.chaos.writes import Write
from postroom.v1alpha1 import domain_pb2, mailbox_pb2, mailbox_service_pb2_grpc

CALL_TIMEOUT_SECONDS = 5.0
READY_TIMEOUT_SECONDS = 30.0

OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.use_local_subchannel_pool", 1),  # each client has its own connection
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # despite its name, the timeout of one connection attempt
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.enable_http_proxy", 0),
)

Metadata = tuple[tuple[str, str], ...]


class Client:
    """Calls a service, or several at a comma-separated list of addresses, with one key."""

    def __init__(self, target: str, token: str, options: tuple[tuple[str, int | str], ...] = ()) -> None:
        self._channel = grpc.aio.insecure_channel(target, options=(*OPTIONS, *options))
        self.stub: Any = mailbox_service_pb2_grpc.MailboxServiceStub(self._channel)
        self.metadata: Metadata = (("x-auth-token", token),)

    def send(self, write: Write, *metadata: tuple[str, str], timeout: float = CALL_TIMEOUT_SECONDS) -> Any:
        """Start the call of a write. Returns the call, to be awaited or cancelled."""
        method = getattr(self.stub, write.rpc)
        return method(write.request, timeout=timeout, metadata=(*self.metadata, *metadata))

    async def create_domain(self, name: str) -> str:
        """Create a domain. Returns its id."""
        request = domain_pb2.CreateDomainRequest(name=name)
        domain = await self.stub.CreateDomain(
            request, metadata=self.metadata, wait_for_ready=True, timeout=READY_TIMEOUT_SECONDS
        )
        return str(domain.id)

    async def get_mailbox(self, mailbox_id: str) -> None:
        """Read a mailbox. Raises AioRpcError."""
        request = mailbox_pb2.GetMailboxRequest(mailbox_id=mailbox_id)
        await self.stub.GetMailbox(request, metadata=self.metadata, timeout=READY_TIMEOUT_SECONDS)

    async def wait_until_ready(self) -> None:
        """Wait until the service completes a call that reads its database. Raises AioRpcError."""
        request = domain_pb2.ListDomainsRequest(page_size=1)
        await self.stub.ListDomains(request, metadata=self.metadata, wait_for_ready=True, timeout=READY_TIMEOUT_SECONDS)

    async def is_healthy(self) -> bool:
        """Whether the service reports SERVING. Raises AioRpcError."""
        health: Any = health_pb2_grpc.HealthStub(self._channel)
        response = await health.Check(health_pb2.HealthCheckRequest(), timeout=READY_TIMEOUT_SECONDS)
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    async def close(self) -> None:
        """Close the connections."""
        await self._channel.close()
