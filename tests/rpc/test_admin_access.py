"""Who may call the admin service, where, and what a call must say: before anything is looked up."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from postroom.admin.v1alpha1 import admin_service_pb2_grpc, mailbox_pb2, payment_pb2
from postroom.v1alpha1 import mailbox_pb2 as tenant_pb2
from postroom.v1alpha1 import mailbox_service_pb2_grpc
from postroomd.rpc.boundary import is_mutating
from tests.rpc.operators import ADMIN_FLAGS, ADMIN_METHODS, ADMIN_SERVICE, admin_channel, operator
from tests.rpc.support import ABSENT_ID, Service, Tenant, failure_of, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

every_rpc = pytest.mark.parametrize("method", ADMIN_METHODS, ids=lambda method: method.name)
CHANGES = [method for method in ADMIN_METHODS if is_mutating(method)]
READS = [method for method in ADMIN_METHODS if not is_mutating(method)]


@pytest.fixture(scope="module")
def flags() -> Mapping[str, str]:
    return ADMIN_FLAGS | {"key_cache_seconds": "0"}


def request_of(method: MethodDescriptor, **fields: Any) -> Any:
    """A request of an RPC with what is required, and those of these fields that it has."""
    known = {field.name for field in method.input_type.fields}
    usual = {name: ABSENT_ID for name in known if name.endswith("_id")} | {"reason": "as a test"}
    given = {name: value for name, value in (usual | fields).items() if name in known}
    return GetMessageClass(method.input_type)(**given)


async def test_reads_are_those_that_say_so() -> None:
    assert [method.name for method in READS] == [
        "ListPendingPayments",
        "ListPendingProvisions",
        "ListTransitions",
        "GetMailbox",
    ]


# --- Keys -------------------------------------------------------------------------------------------------------------


@every_rpc
async def test_a_tenants_key_is_no_admin_key(service: Service, tenant: Tenant, method: MethodDescriptor) -> None:
    stub = admin_service_pb2_grpc.AdminServiceStub(admin_channel(service, tenant.secret))
    failure = await failure_of(getattr(stub, method.name)(request_of(method)))
    assert failure.code is grpc.StatusCode.UNAUTHENTICATED
    assert dict(failure.info.metadata) == {"method": "api_key", "reason": "not_found"}


async def test_an_admin_key_is_no_tenants_key(service: Service) -> None:
    admin = await operator(service)
    stub = service.stub((("x-auth-token", admin.secret),))
    failure = await failure_of(stub.ListMailboxes(tenant_pb2.ListMailboxesRequest()))
    assert failure.code is grpc.StatusCode.UNAUTHENTICATED
    assert failure.info.metadata["reason"] == "not_found"


async def test_an_admin_key_is_taken_as_a_bearer_too(service: Service) -> None:
    admin = await operator(service)
    channel = service.channel((("authorization", f"Bearer {admin.secret}"),), address=service.admin_address)
    stub = admin_service_pb2_grpc.AdminServiceStub(channel)
    assert not (await stub.ListPendingPayments(payment_pb2.ListPendingPaymentsRequest())).payments


async def test_a_call_without_a_key_is_refused(service: Service) -> None:
    stub = admin_service_pb2_grpc.AdminServiceStub(service.channel(address=service.admin_address))
    failure = await failure_of(stub.ListPendingPayments(payment_pb2.ListPendingPaymentsRequest()))
    assert failure.code is grpc.StatusCode.UNAUTHENTICATED
    assert failure.info.metadata["reason"] == "invalid_argument"


async def test_a_revoked_admin_key_and_an_expired_one_are_refused(service: Service) -> None:
    revoked, expired = await operator(service), await operator(service, expires_in=timedelta(0))
    await service.repository.admin_keys.revoke(revoked.name, datetime.now(UTC))
    for admin, reason in ((revoked, "not_found"), (expired, "expired")):
        failure = await failure_of(admin.payments())
        assert failure.code is grpc.StatusCode.UNAUTHENTICATED
        assert failure.info.metadata["reason"] == reason


@pytest.mark.parametrize("method", CHANGES, ids=lambda method: method.name)
async def test_a_read_only_admin_key_changes_nothing(service: Service, method: MethodDescriptor) -> None:
    admin = await operator(service, read_only=True)
    before = await service.dump()
    failure = await failure_of(admin.call(method.name, request_of(method)))
    assert failure.code is grpc.StatusCode.PERMISSION_DENIED
    assert failure.info.metadata["resource"] == next(
        name for name in ("mailbox", "payment", "provision") if name in method.name.lower()
    )
    assert failure.info.metadata["action"] == "write"
    assert await service.dump() == before


@pytest.mark.parametrize("method", READS, ids=lambda method: method.name)
async def test_a_read_only_admin_key_reads(service: Service, method: MethodDescriptor) -> None:
    admin = await operator(service, read_only=True)
    if "mailbox_id" in {field.name for field in method.input_type.fields}:
        failure = await failure_of(admin.call(method.name, request_of(method)))
        assert failure.code is grpc.StatusCode.NOT_FOUND
    else:
        await admin.call(method.name, request_of(method))


# --- Addresses --------------------------------------------------------------------------------------------------------


async def test_each_address_serves_one_service(service: Service, tenant: Tenant) -> None:
    admin = await operator(service)
    at_tenants = admin_service_pb2_grpc.AdminServiceStub(service.channel((("x-auth-token", admin.secret),)))
    failure = at_tenants.ListPendingPayments(payment_pb2.ListPendingPaymentsRequest())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await failure
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    at_admins = mailbox_service_pb2_grpc.MailboxServiceStub(admin_channel(service, tenant.secret))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at_admins.ListMailboxes(tenant_pb2.ListMailboxesRequest())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_health_is_told_at_the_admin_address(service: Service) -> None:
    stub: Any = health_pb2_grpc.HealthStub(service.channel(address=service.admin_address))

    async def serving() -> bool:
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=ADMIN_SERVICE.full_name))
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    assert await until(serving)


# --- Requests ---------------------------------------------------------------------------------------------------------

WITH_ID = [
    (method, field.name) for method in ADMIN_METHODS for field in method.input_type.fields if field.name.endswith("_id")
]
with_id = pytest.mark.parametrize(
    ("method", "name"), WITH_ID, ids=[f"{method.name}.{name}" for method, name in WITH_ID]
)


@with_id
@pytest.mark.parametrize(("value", "reason"), [("", "REQUIRED"), ("x", "FORMAT")])
async def test_an_id_is_required_and_a_uuid(
    service: Service, method: MethodDescriptor, name: str, value: str, reason: str
) -> None:
    admin = await operator(service)
    failure = await failure_of(admin.call(method.name, request_of(method, **{name: value})))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.violations == {(name, reason)}


@with_id
async def test_what_there_is_not_is_not_found(service: Service, method: MethodDescriptor, name: str) -> None:
    admin = await operator(service)
    failure = await failure_of(admin.call(method.name, request_of(method)))
    assert failure.code is grpc.StatusCode.NOT_FOUND
    info = failure.only(error_details_pb2.ResourceInfo)
    assert (info.resource_type, info.resource_name) == (name.removesuffix("_id"), ABSENT_ID)


REASONED = [method for method in ADMIN_METHODS if "reason" in {field.name for field in method.input_type.fields}]


@pytest.mark.parametrize("method", REASONED, ids=lambda method: method.name)
@pytest.mark.parametrize(
    ("value", "violation"),
    [("", "REQUIRED"), ("x" * 256, "CONSTRAINT"), ("a\nb", "FORMAT")],
    ids=["none", "long", "two lines"],
)
async def test_a_reason_is_one_line_of_text(
    service: Service, method: MethodDescriptor, value: str, violation: str
) -> None:
    admin = await operator(service)
    failure = await failure_of(admin.call(method.name, request_of(method, reason=value)))
    assert failure.violations == {("reason", violation)}


@pytest.mark.parametrize("method", [read for read in READS if read.name.startswith("List")], ids=lambda m: m.name)
async def test_a_page_is_of_a_size_and_goes_on_from_a_token(service: Service, method: MethodDescriptor) -> None:
    admin = await operator(service)
    failure = await failure_of(admin.call(method.name, request_of(method, page_size=-1)))
    assert failure.violations == {("page_size", "CONSTRAINT")}
    for token in ("x", "é", "-1", "2147483648", "99999999999999999999", "9" * 5_000, "0" * 5_000, "MTIz"):
        failure = await failure_of(admin.call(method.name, request_of(method, page_token=token)))
        assert failure.violations == {("page_token", "FORMAT")}


async def test_a_call_is_logged_under_its_admin_key_and_its_request_id(service: Service, logs: StringIO) -> None:
    admin = await operator(service)
    call = admin.stub.LockMailbox(
        mailbox_pb2.LockMailboxRequest(mailbox_id=ABSENT_ID, reason="unpaid"),
        metadata=(("x-request-id", "the-operators-own"),),
    )
    failure = await failure_of(call)
    assert failure.trailing["x-request-id"] == "the-operators-own"
    lines = [json.loads(line) for line in logs.getvalue().splitlines()]
    (line,) = (line for line in lines if line.get("request_id") == "the-operators-own")
    assert (line["event"], line["rpc"], line["code"]) == ("call", "LockMailbox", "NOT_FOUND")
    assert line["admin_key"] == admin.name
    assert admin.secret not in logs.getvalue()
