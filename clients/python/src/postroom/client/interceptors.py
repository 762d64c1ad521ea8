"""The metadata of every call: the secret key, and an idempotency key for a mutating call."""

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import MethodOptions

from postroom.v1alpha1 import mailbox_service_pb2

Metadata = tuple[tuple[str, str | bytes], ...]


def _mutating() -> frozenset[str]:
    """Return the paths of the RPCs that change something: those that are no GET over REST."""
    service = mailbox_service_pb2.DESCRIPTOR.services_by_name["MailboxService"]
    paths = set()
    for method in service.methods:
        options: MethodOptions = method.GetOptions()
        if not options.Extensions[annotations_pb2.http].get:
            paths.add(f"/{service.full_name}/{method.name}")
    return frozenset(paths)


MUTATING = _mutating()


class CallMetadata:
    """Adds the metadata to a call."""

    def __init__(self, secret_key: str, idempotency_keys: bool) -> None:
        if not secret_key:
            raise ValueError("secret_key must not be empty: give the secret of an API key")
        self._authentication = ("x-auth-token", secret_key)
        self._idempotent = MUTATING if idempotency_keys else frozenset()

    def complete(self, method: str, metadata: Iterable[tuple[str, str | bytes]] | None) -> Metadata:
        """Return the metadata of a call to the path `method`: the caller's own, and what it lacks."""
        own = tuple(metadata or ())
        names = {name for name, _ in own}
        if method in self._idempotent and "idempotency-key" not in names:
            own += (("idempotency-key", str(uuid.uuid4())),)
        return own if names & {"x-auth-token", "authorization"} else (*own, self._authentication)


@dataclass(frozen=True)
class _CallDetails(grpc.ClientCallDetails):
    method: str
    timeout: float | None
    metadata: Metadata
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class Interceptor(grpc.UnaryUnaryClientInterceptor):
    """The interceptor of a synchronous channel."""

    def __init__(self, metadata: CallMetadata) -> None:
        self._metadata = metadata

    def intercept_unary_unary(
        self, continuation: Callable[[grpc.ClientCallDetails, Any], Any], details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        """Send the call with its metadata."""
        completed = _CallDetails(
            details.method,
            details.timeout,
            self._metadata.complete(details.method, details.metadata),
            details.credentials,
            getattr(details, "wait_for_ready", None),
            getattr(details, "compression", None),
        )
        return continuation(completed, request)


class AioInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    """The interceptor of an asyncio channel."""

    def __init__(self, metadata: CallMetadata) -> None:
        self._metadata = metadata

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Any],
        details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Send the call with its metadata."""
        metadata = grpc.aio.Metadata(*self._metadata.complete(_path(details.method), details.metadata))
        completed = grpc.aio.ClientCallDetails(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
        )
        return await continuation(completed, request)


def _path(method: str | bytes) -> str:
    """Return the path of an RPC: grpc.aio has it as bytes, despite its annotation."""
    return method.decode() if isinstance(method, bytes) else method
