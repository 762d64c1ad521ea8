"""The boundary's own promises, with stubs in place of the network and the storage."""

import ast
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

import postroomd
from postroom.v1alpha1 import mailbox_pb2, mailbox_service_pb2
from postroomd.domain.context import CallContext, Idempotency
from postroomd.domain.errors import StorageUnavailable
from postroomd.domain.tenancy import Scope
from postroomd.rpc.admission import Admission
from postroomd.rpc.authentication import Authenticator, Caller
from postroomd.rpc.boundary import Boundary
from postroomd.rpc.methods import ResponseEncoder, Rpc, resource_of
from postroomd.storage.protocols.repository import Repository

SERVICE: ServiceDescriptor = mailbox_service_pb2.DESCRIPTOR.services_by_name["MailboxService"]
NOW = datetime(2024, 1, 31, tzinfo=UTC)

Perform = Callable[[Any, CallContext], Awaitable[Any]]


class StubAuthenticator:
    """Accepts every call, as one of the same tenant."""

    async def authenticate(self, _metadata: Any, _peer: Any) -> Caller:
        scope = Scope(organization_id="organization", project_id=None)
        return Caller(CallContext(actor="key:stub", tenant=scope), False, "key", "organization", {})


class StubRepository:
    """Has no stored responses."""

    async def require_unused(self, _context: CallContext) -> None:
        """Find no response under the idempotency key."""


@dataclass
class StubGrpcContext:
    """The context of a call with an idempotency key."""

    trailing: list[tuple[str, str | bytes]] = field(default_factory=list)

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("x-auth-token", "a secret"), ("idempotency-key", "the-key"))

    async def read(self) -> bytes:
        return b""

    def peer(self) -> str:
        return "ipv4:192.0.2.1:50000"

    def time_remaining(self) -> float | None:
        return None

    def set_trailing_metadata(self, trailing: Any) -> None:
        self.trailing += trailing


@dataclass
class CountingRpc:
    """UpdateMailbox with a given implementation, which counts the conversions of its results."""

    perform: Perform
    conversions: int = 0

    async def call(self) -> mailbox_pb2.Mailbox:
        """Call the RPC through the boundary, and return the parsed response."""
        boundary = Boundary(
            repository=cast(Repository, StubRepository()),
            authenticator=StubAuthenticator(),
            clock=lambda: NOW,
            admission=Admission(1),
        )
        rpcs = {method.name: Rpc(self.perform, self._convert) for method in SERVICE.methods}
        handler: Any = boundary.handlers(SERVICE, rpcs)[f"/{SERVICE.full_name}/UpdateMailbox"]
        return mailbox_pb2.Mailbox.FromString(await handler.stream_unary(None, StubGrpcContext()))

    def _convert(self, result: list[str]) -> mailbox_pb2.Mailbox:
        self.conversions += 1
        return mailbox_pb2.Mailbox(id=result[0])


class UnavailableAuthenticator:
    """Can't look any key up."""

    async def authenticate(self, _metadata: Any, _peer: Any) -> Caller:
        raise StorageUnavailable


async def test_calls_that_fail_before_a_key_is_verified_are_logged_by_sample(logs: StringIO) -> None:
    class Aborted(Exception):
        pass

    class Context(StubGrpcContext):
        async def abort(self, *_: object) -> None:
            raise Aborted

    boundary = Boundary(
        repository=cast(Repository, StubRepository()),
        authenticator=cast(Authenticator[Any], UnavailableAuthenticator()),
        clock=lambda: NOW,
        admission=Admission(1),
    )
    rpcs = {method.name: Rpc(cast(Perform, None), lambda _result: mailbox_pb2.Mailbox()) for method in SERVICE.methods}
    handler: Any = boundary.handlers(SERVICE, rpcs)[f"/{SERVICE.full_name}/GetMailbox"]
    for _ in range(50):
        with pytest.raises(Aborted):
            await handler.stream_unary(None, Context())
    lines = logs.getvalue()
    assert '"event": "calls without a verified key"' in lines
    assert '"event": "call",' not in lines


def idempotency_of(context: CallContext) -> Idempotency:
    assert context.idempotency is not None
    return context.idempotency


async def test_a_response_under_an_idempotency_key_is_encoded_once() -> None:
    async def perform(_request: Any, context: CallContext) -> list[str]:
        result = ["first"]
        stored = idempotency_of(context).encode(result)  # as the storage does before it commits
        assert mailbox_pb2.Mailbox.FromString(stored).id == "first"
        return result

    rpc = CountingRpc(perform)
    assert (await rpc.call()).id == "first"
    assert rpc.conversions == 1


async def test_each_result_of_a_retried_transaction_is_encoded_once() -> None:
    async def perform(_request: Any, context: CallContext) -> list[str]:
        encode = idempotency_of(context).encode
        encode(["rolled back"])
        result = ["committed"]
        assert mailbox_pb2.Mailbox.FromString(encode(result)).id == "committed"
        return result

    rpc = CountingRpc(perform)
    assert (await rpc.call()).id == "committed"
    assert rpc.conversions == 2


def test_an_equal_but_different_result_is_encoded_anew() -> None:
    encoded: list[list[str]] = []

    def encode(result: list[str]) -> bytes:
        encoded.append(result)
        return str(len(encoded)).encode()

    encoder = ResponseEncoder(encode)
    first, second = ["equal"], ["equal"]
    assert [encoder(first), encoder(first), encoder(second), encoder(second)] == [b"1", b"1", b"2", b"2"]


# --- Resources of RPCs


def service_with(rpc: str) -> ServiceDescriptor:
    """A service with one RPC, which has only a name."""
    file = FileDescriptorProto(name="stub.proto", package="stub", syntax="proto3")
    file.message_type.add(name="Empty")
    file.service.add(name="Stub").method.add(name=rpc, input_type=".stub.Empty", output_type=".stub.Empty")
    pool = DescriptorPool()
    pool.Add(file)
    return pool.FindServiceByName("stub.Stub")


@pytest.mark.parametrize(
    ("rpc", "resource"),
    [("GetDomainRecords", "domain"), ("BatchCreateMailboxes", "mailbox"), ("ConfirmPayment", "payment")],
)
def test_an_rpc_is_about_the_resource_in_its_name(rpc: str, resource: str) -> None:
    method: MethodDescriptor = service_with(rpc).methods[0]
    assert resource_of(method) == resource


def test_an_rpc_without_a_known_resource_fails_at_start_and_names_it() -> None:
    service = service_with("GetCalendar")
    boundary = Boundary(
        repository=cast(Repository, StubRepository()),
        authenticator=StubAuthenticator(),
        clock=lambda: NOW,
        admission=Admission(1),
    )
    rpc = Rpc(lambda _request, _context: pytest.fail("it is not called"), lambda _result: mailbox_pb2.Mailbox())
    with pytest.raises(ValueError, match=r"^stub\.Stub\.GetCalendar .* Domain, Mailbox, Alias, .* _RESOURCES$"):
        boundary.handlers(service, {"GetCalendar": rpc})


# --- Context variables


def context_variables() -> Iterator[str]:
    """Every creation of a ContextVar in the package, after the path of its module."""
    root = Path(postroomd.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "ContextVar":
                yield f"{path.relative_to(root).as_posix()}: {ast.unparse(node)}"


def test_the_only_context_variables_are_those_of_log_correlation() -> None:
    assert list(context_variables()) == [
        f"observability/logs.py: ContextVar('{name}')" for name in ("logged_call", "logged_trace")
    ]
