"""The admin service: authentication, addresses, and validation of requests."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import grpc
import pytest
from google.api import field_behavior_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from postroom.admin.v1alpha1 import admin_service_pb2_grpc, mailbox_pb2, payment_pb2
from postroom.v1alpha1 import mailbox_pb2 as tenant_pb2
from postroom.v1alpha1 import mailbox_service_pb2_grpc
from postroomd.rpc.methods import is_mutating
from tests.rpc.admin_client import ADMIN_METHODS, ADMIN_OVERRIDES, ADMIN_SERVICE, admin_channel, new_operator
from tests.rpc.client import ABSENT_ID, Tenant
from tests.rpc.failures import failure_of
from tests.rpc.service import Service
from tests.support.waiting import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

every_rpc = pytest.mark.parametrize("method", ADMIN_METHODS, ids=lambda method: method.name)
CHANGES = [method for method in ADMIN_METHODS if is_mutating(method)]
READS = [method for method in ADMIN_METHODS if not is_mutating(method)]


@pytest.fixture(scope="module")
def overrides() -> Mapping[str, str]:
    return ADMIN_OVERRIDES | {"key_cache_seconds": "0"}


def request_of(method: MethodDescriptor, **fields: Any) -> Any:
    """A valid request of an RPC, with those of the given fields that it has."""
    names = {field.name for field in method.input_type.fields}
    defaults = {name: ABSENT_ID for name in names if name.endswith("_id")}
    defaults |= {"reason": "as a test", "search": "nothing"}
    if "mailbox_id" not in names:
        defaults["address"] = "nobody@example.org"
    arguments = {name: value for name, value in (defaults | fields).items() if name in names}
    return GetMessageClass(method.input_type)(**arguments)


async def test_the_reading_rpcs_are_declared_as_such() -> None:
    assert [method.name for method in READS] == [
        "ListPendingPayments",
        "ListPendingProvisions",
        "ListTransitions",
        "ListDomainTransitions",
        "GetMailbox",
        "SearchMailboxes",
        "SearchDomains",
        "GetDkimKeys",
        "ListDkimRotations",
        "ListAuditEvents",
    ]


# --- Authentication


@every_rpc
async def test_an_api_key_is_not_accepted_as_an_admin_key(
    service: Service, tenant: Tenant, method: MethodDescriptor
) -> None:
    stub = admin_service_pb2_grpc.AdminServiceStub(admin_channel(service, tenant.secret))
    failure = await failure_of(getattr(stub, method.name)(request_of(method)))
    assert failure.code is grpc.StatusCode.UNAUTHENTICATED
    assert dict(failure.info.metadata) == {"method": "api_key", "reason": "not_found"}


async def test_an_admin_key_is_not_accepted_as_an_api_key(service: Service) -> None:
    admin = await new_operator(service)
    stub = service.stub((("x-auth-token", admin.secret),))
    failure = await failure_of(stub.ListMailboxes(tenant_pb2.ListMailboxesRequest()))
    assert failure.code is grpc.StatusCode.UNAUTHENTICATED
    assert failure.info.metadata["reason"] == "not_found"


async def test_an_admin_key_is_accepted_as_a_bearer_token(service: Service) -> None:
    admin = await new_operator(service)
    channel = service.channel((("authorization", f"Bearer {admin.secret}"),), address=service.admin_address)
    stub = admin_service_pb2_grpc.AdminServiceStub(channel)
    assert not (await stub.ListPendingPayments(payment_pb2.ListPendingPaymentsRequest())).payments


async def test_a_call_without_a_key_is_rejected(service: Service) -> None:
    stub = admin_service_pb2_grpc.AdminServiceStub(service.channel(address=service.admin_address))
    failure = await failure_of(stub.ListPendingPayments(payment_pb2.ListPendingPaymentsRequest()))
    assert failure.code is grpc.StatusCode.UNAUTHENTICATED
    assert failure.info.metadata["reason"] == "invalid_argument"


async def test_revoked_and_expired_admin_keys_are_rejected(service: Service) -> None:
    revoked, expired = await new_operator(service), await new_operator(service, expires_in=timedelta(0))
    await service.repository.admin_keys.revoke(revoked.name, datetime.now(UTC))
    for admin, reason in ((revoked, "not_found"), (expired, "expired")):
        failure = await failure_of(admin.payments())
        assert failure.code is grpc.StatusCode.UNAUTHENTICATED
        assert failure.info.metadata["reason"] == reason


@pytest.mark.parametrize("method", CHANGES, ids=lambda method: method.name)
async def test_a_read_only_admin_key_is_denied_every_change(service: Service, method: MethodDescriptor) -> None:
    admin = await new_operator(service, read_only=True)
    before = await service.dump()
    failure = await failure_of(admin.call(method.name, request_of(method)))
    assert failure.code is grpc.StatusCode.PERMISSION_DENIED
    assert failure.info.metadata["resource"] == next(
        name for name in ("mailbox", "payment", "provision", "dkim") if name in method.name.lower()
    )
    assert failure.info.metadata["action"] == "write"
    assert await service.dump() == before


@pytest.mark.parametrize("method", READS, ids=lambda method: method.name)
async def test_a_read_only_admin_key_can_read(service: Service, method: MethodDescriptor) -> None:
    admin = await new_operator(service, read_only=True)
    if any(field.name.endswith("_id") for field in method.input_type.fields):
        failure = await failure_of(admin.call(method.name, request_of(method)))
        assert failure.code is grpc.StatusCode.NOT_FOUND
    else:
        await admin.call(method.name, request_of(method))


# --- Addresses


async def test_each_address_serves_one_service(service: Service, tenant: Tenant) -> None:
    admin = await new_operator(service)
    at_tenant_address = admin_service_pb2_grpc.AdminServiceStub(service.channel((("x-auth-token", admin.secret),)))
    call = at_tenant_address.ListPendingPayments(payment_pb2.ListPendingPaymentsRequest())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    at_admin_address = mailbox_service_pb2_grpc.MailboxServiceStub(admin_channel(service, tenant.secret))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at_admin_address.ListMailboxes(tenant_pb2.ListMailboxesRequest())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_admin_address_reports_the_services_health(service: Service) -> None:
    stub: Any = health_pb2_grpc.HealthStub(service.channel(address=service.admin_address))

    async def serving() -> bool:
        response = await stub.Check(health_pb2.HealthCheckRequest(service=ADMIN_SERVICE.full_name))
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    assert await wait_until(serving)


# --- Requests


def is_required(field: FieldDescriptor) -> bool:
    """Whether the contract requires a field of a request."""
    behaviors = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.REQUIRED in behaviors


WITH_ID = [
    (method, field.name)
    for method in ADMIN_METHODS
    for field in method.input_type.fields
    if field.name.endswith("_id") and is_required(field)
]
with_id = pytest.mark.parametrize(
    ("method", "name"), WITH_ID, ids=[f"{method.name}.{name}" for method, name in WITH_ID]
)


@with_id
@pytest.mark.parametrize(("value", "reason"), [("", "REQUIRED"), ("x", "FORMAT")])
async def test_an_id_is_required_and_must_be_a_uuid(
    service: Service, method: MethodDescriptor, name: str, value: str, reason: str
) -> None:
    admin = await new_operator(service)
    failure = await failure_of(admin.call(method.name, request_of(method, **{name: value})))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.violations == {(name, reason)}


@with_id
async def test_an_unknown_id_is_not_found(service: Service, method: MethodDescriptor, name: str) -> None:
    admin = await new_operator(service)
    failure = await failure_of(admin.call(method.name, request_of(method)))
    assert failure.code is grpc.StatusCode.NOT_FOUND
    info = failure.only(error_details_pb2.ResourceInfo)
    assert (info.resource_type, info.resource_name) == (name.removesuffix("_id"), ABSENT_ID)


WITH_REASON = [method for method in ADMIN_METHODS if "reason" in {field.name for field in method.input_type.fields}]


@pytest.mark.parametrize("method", WITH_REASON, ids=lambda method: method.name)
@pytest.mark.parametrize(
    ("value", "violation"),
    [("", "REQUIRED"), ("x" * 256, "CONSTRAINT"), ("a\nb", "FORMAT")],
    ids=["none", "long", "two lines"],
)
async def test_a_reason_is_required_and_must_be_one_line_of_text(
    service: Service, method: MethodDescriptor, value: str, violation: str
) -> None:
    admin = await new_operator(service)
    failure = await failure_of(admin.call(method.name, request_of(method, reason=value)))
    assert failure.violations == {("reason", violation)}


@pytest.mark.parametrize("method", [read for read in READS if read.name.startswith("List")], ids=lambda m: m.name)
async def test_an_invalid_page_size_or_page_token_is_rejected(service: Service, method: MethodDescriptor) -> None:
    admin = await new_operator(service)
    failure = await failure_of(admin.call(method.name, request_of(method, page_size=-1)))
    assert failure.violations == {("page_size", "CONSTRAINT")}
    for token in ("x", "é", "-1", "2147483648", "99999999999999999999", "9" * 5_000, "0" * 5_000, "MTIz"):
        failure = await failure_of(admin.call(method.name, request_of(method, page_token=token)))
        assert failure.violations == {("page_token", "FORMAT")}


async def test_a_call_is_logged_with_its_admin_key_and_request_id(service: Service, logs: StringIO) -> None:
    admin = await new_operator(service)
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
