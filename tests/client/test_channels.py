"""The channels of postroom-client, against a service that records what it receives."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from postroom.admin.v1alpha1.admin_service_pb2_grpc import AdminServiceStub
from postroom.admin.v1alpha1.mailbox_pb2 import LockMailboxRequest
from postroom.client import TLS, aio_channel, channel
from postroom.client.channels import service_config
from postroom.v1alpha1.domain_pb2 import CreateDomainRequest, Domain, GetDomainRequest
from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub
from tools.ports import free_port

SERVICE = "/postroom.v1alpha1.MailboxService/"


@dataclass
class Recorder(grpc.GenericRpcHandler):
    """Records the metadata of every call. The first `failures` calls fail with `code`."""

    failures: int = 0
    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    calls: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        method = handler_call_details.method

        def perform(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.calls.append((method, {item[0]: str(item[1]) for item in context.invocation_metadata()}))
            if len(self.calls) <= self.failures:
                context.abort(self.code, "restarting")
            return Domain(name="example.org").SerializeToString() if method.startswith(SERVICE) else b""

        return grpc.unary_unary_rpc_method_handler(perform)

    @property
    def keys(self) -> list[str | None]:
        return [metadata.get("idempotency-key") for _, metadata in self.calls]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def serve(recorder: Recorder, port: int = 0) -> tuple[grpc.Server, str]:
    server = grpc.server(ThreadPoolExecutor(4), [recorder])
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, f"127.0.0.1:{bound}"


@pytest.fixture
def target(recorder: Recorder) -> Iterator[str]:
    server, address = serve(recorder)
    yield address
    server.stop(None).wait()


def quick_retries() -> tuple[str, str]:
    """The package's own service config, with a short backoff."""
    config = json.loads(service_config())
    config["methodConfig"][0]["retryPolicy"] |= {"initialBackoff": "0.01s", "maxBackoff": "0.05s"}
    return ("grpc.service_config", json.dumps(config))


def create(service: Any, **arguments: Any) -> Domain:
    response: Domain = service.CreateDomain(CreateDomainRequest(name="example.org"), timeout=20, **arguments)
    return response


def test_every_call_carries_the_secret_key(recorder: Recorder, target: str) -> None:
    with channel(target, "secret", insecure=True) as connection:
        create(MailboxServiceStub(connection))
        MailboxServiceStub(connection).GetDomain(GetDomainRequest(), timeout=20)
    assert [metadata["x-auth-token"] for _, metadata in recorder.calls] == ["secret", "secret"]


def test_mutating_calls_carry_keys_of_their_own(recorder: Recorder, target: str) -> None:
    with channel(target, "secret", insecure=True) as connection:
        service = MailboxServiceStub(connection)
        create(service)
        create(service)
        create(service, metadata=[("idempotency-key", "mine")])
        service.GetDomain(GetDomainRequest(), timeout=20)
        AdminServiceStub(connection).LockMailbox(LockMailboxRequest(), timeout=20)
    first, second, third, read, admin = recorder.keys
    assert first
    assert second
    assert first != second
    assert (third, read, admin) == ("mine", None, None)


def test_idempotency_keys_can_be_switched_off(recorder: Recorder, target: str) -> None:
    with channel(target, "secret", insecure=True, idempotency_keys=False) as connection:
        create(MailboxServiceStub(connection))
    assert recorder.keys == [None]


def test_retries_carry_the_same_idempotency_key(recorder: Recorder, target: str) -> None:
    recorder.failures = 4
    with channel(target, "secret", insecure=True, options=[quick_retries()]) as connection:
        assert create(MailboxServiceStub(connection)).name == "example.org"
    assert len(recorder.keys) == 5
    assert len(set(recorder.keys)) == 1


def test_calls_that_the_service_cancels_are_repeated(recorder: Recorder, target: str) -> None:
    recorder.failures, recorder.code = 2, grpc.StatusCode.CANCELLED
    with channel(target, "secret", insecure=True, options=[quick_retries()]) as connection:
        assert create(MailboxServiceStub(connection)).name == "example.org"
    assert len(recorder.keys) == 3


def test_a_call_fails_after_five_attempts(recorder: Recorder, target: str) -> None:
    recorder.failures = 100
    with (
        channel(target, "secret", insecure=True, options=[quick_retries()]) as connection,
        pytest.raises(grpc.RpcError) as failed,
    ):
        create(MailboxServiceStub(connection))
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    assert len(recorder.calls) == 5


def test_a_call_waits_for_the_service_to_start(recorder: Recorder) -> None:
    port = free_port()
    with channel(f"127.0.0.1:{port}", "secret", insecure=True) as connection:
        waiting = MailboxServiceStub(connection).CreateDomain.future(CreateDomainRequest(), timeout=30)
        with pytest.raises(grpc.FutureTimeoutError):
            waiting.result(timeout=0.3)
        server, _ = serve(recorder, port)
        try:
            assert waiting.result(timeout=30).name == "example.org"
        finally:
            server.stop(None).wait()


async def test_asyncio_channel_retries_under_one_key(recorder: Recorder, target: str) -> None:
    recorder.failures = 2
    async with aio_channel(target, "secret", insecure=True, options=[quick_retries()]) as connection:
        service = MailboxServiceStub(connection)
        response = await service.CreateDomain(CreateDomainRequest(name="example.org"), timeout=20)
        await service.GetDomain(GetDomainRequest(), timeout=20)
    assert response.name == "example.org"
    assert len(recorder.calls) == 4
    assert len(set(recorder.keys[:3])) == 1
    assert recorder.keys[3] is None
    assert {metadata["x-auth-token"] for _, metadata in recorder.calls} == {"secret"}


@pytest.mark.parametrize("make", [channel, aio_channel])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"secret_key": "secret", "insecure": True, "tls": TLS()}, "insecure and tls"),
        ({"secret_key": "", "insecure": True}, "secret_key"),
    ],
)
def test_contradictory_arguments_are_refused(make: Callable[..., Any], arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("127.0.0.1:1", **arguments)


def test_a_client_certificate_needs_its_key() -> None:
    with pytest.raises(ValueError, match="private_key and certificate_chain"):
        TLS(private_key=b"key")


def test_repr_of_tls_hides_the_private_key() -> None:
    assert "hidden" not in repr(TLS(private_key=b"hidden", certificate_chain=b"shown"))
