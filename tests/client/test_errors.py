"""Errors of a real service, decoded by postroom-client."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message

from postroom.client import ErrorDetails, aio_channel, decode_error
from postroom.v1alpha1.domain_pb2 import CreateDomainRequest, GetDomainRequest
from postroom.v1alpha1.mailbox_pb2 import BatchCreateMailboxesRequest
from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub
from tests.rpc.client import ABSENT_ID, PASSWORD, Tenant
from tests.rpc.service import Service, running_service

Item = BatchCreateMailboxesRequest.MailboxParameters


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running_service(tmp_path, {}) as running:
        yield running


async def failure(service: Service, tenant: Tenant | None, rpc: str, request: Message) -> ErrorDetails:
    """The decoded error of a call that fails."""
    secret = "unknown" if tenant is None else tenant.secret
    async with aio_channel(service.address, secret, insecure=True) as connection:
        with pytest.raises(grpc.RpcError) as failed:
            await getattr(MailboxServiceStub(connection), rpc)(request)
    return decode_error(failed.value)


async def test_every_kind_of_detail_is_decoded(service: Service) -> None:
    tenant = await service.tenant(mailbox_quota=1)
    domain = await tenant.domain("client.example")

    unauthenticated = await failure(service, None, "GetDomain", GetDomainRequest(domain_id=ABSENT_ID))
    assert (unauthenticated.code, unauthenticated.reason) == (
        grpc.StatusCode.UNAUTHENTICATED,
        "DENIED_AUTHENTICATION",
    )
    assert unauthenticated.metadata["method"] == "api_key"
    assert unauthenticated.request_id

    absent = await failure(service, tenant, "GetDomain", GetDomainRequest(domain_id=ABSENT_ID))
    assert [(found.type, found.id) for found in absent.resources] == [("domain", ABSENT_ID)]

    parameters = [Item(local_part=name, password="short") for name in ("ann", "b b")]
    batch = BatchCreateMailboxesRequest(domain_id=domain.id, mailboxes=parameters)
    invalid = await failure(service, tenant, "BatchCreateMailboxes", batch)
    assert {violation.field for violation in invalid.violations} == {
        "mailboxes[0].password",
        "mailboxes[1].local_part",
        "mailboxes[1].password",
    }
    assert {violation.reason for violation in invalid.violations} <= {"FORMAT", "CONSTRAINT"}

    conflict = await failure(service, tenant, "CreateDomain", CreateDomainRequest(name="client.example"))
    assert [(found.type, found.id, found.owner) for found in conflict.resources] == [("domain", domain.id, "name")]

    parameters = [Item(local_part=name, password=PASSWORD) for name in ("ann", "bob")]
    exceeded = await failure(
        service,
        tenant,
        "BatchCreateMailboxes",
        BatchCreateMailboxesRequest(domain_id=domain.id, mailboxes=parameters),
    )
    assert exceeded.reason == "QUOTAS_EXCEEDED"
    assert exceeded.metadata["quota"] == "1"
    (quota,) = exceeded.quotas
    assert (quota.subject, quota.metric, quota.value) == (f"project/{tenant.project_id}", "mailboxes", 1)

    parameters = [Item(local_part=f"{'x' * 50} {number}", password="short") for number in range(100)]
    batch = BatchCreateMailboxesRequest(domain_id=domain.id, mailboxes=parameters)
    truncated = await failure(service, tenant, "BatchCreateMailboxes", batch)
    assert truncated.omitted_count == 200 - (len(truncated.violations) - 1) > 0


async def test_an_error_without_details_has_code_and_message() -> None:
    # Without waiting for a connection, the refused one is an error of gRPC's own.
    options = [("grpc.service_config", "{}")]
    async with aio_channel("127.0.0.1:1", "secret", insecure=True, options=options) as connection:
        with pytest.raises(grpc.RpcError) as failed:
            await MailboxServiceStub(connection).GetDomain(GetDomainRequest(), timeout=20)
    error = decode_error(failed.value)
    assert error.code is grpc.StatusCode.UNAVAILABLE
    assert error.message
    assert (error.reason, error.retry_after, error.violations) == ("", None, ())


def test_malformed_details_are_left_out() -> None:
    class Failure(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.NOT_FOUND

        def details(self) -> str | None:
            return "absent"

        def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:  # type: ignore[override]
            return (("grpc-status-details-bin", b"\xff\xff"),)

    assert decode_error(Failure()) == ErrorDetails(grpc.StatusCode.NOT_FOUND, "absent")
