"""The audit log over gRPC: every committed change of a call is listed, with its caller, and nothing else is."""

import json
from collections.abc import Mapping
from io import StringIO
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from postroom.admin.v1alpha1 import audit_pb2, mailbox_pb2
from postroom.v1alpha1 import domain_pb2
from postroom.v1alpha1 import mailbox_pb2 as tenant_pb2
from tests.rpc.admin_client import ADMIN_OVERRIDES, Operator, new_operator
from tests.rpc.client import ABSENT_ID, Tenant, fresh_name
from tests.rpc.failures import failure_of
from tests.rpc.requests import request_of
from tests.rpc.service import Service
from tests.support.operations import OPERATIONS, PASSWORD

pytestmark = pytest.mark.asyncio(loop_scope="module")

GATEWAY_SECRET = "the secret of the gateways"


@pytest.fixture(scope="module")
def overrides() -> Mapping[str, str]:
    return ADMIN_OVERRIDES | {"gateway_secret": GATEWAY_SECRET}


@pytest.fixture(scope="module")
def with_worker() -> bool:
    return False


async def listed(admin: Operator, **filters: Any) -> list[audit_pb2.AuditEvent]:
    """The events that the filters match, oldest first."""
    response = await admin.stub.ListAuditEvents(audit_pb2.ListAuditEventsRequest(page_size=1_000, **filters))
    return list(response.events)[::-1]


async def test_every_mutating_rpc_has_one_event_with_its_caller_and_arguments(service: Service, tenant: Tenant) -> None:
    admin = await new_operator(service)
    # Every change of a tenant, in an order in which each succeeds and changes something.
    order = [
        "CreateDomain",
        "ValidateDomainRecords",
        "BatchCreateMailboxes",
        "UpdateMailbox",
        "CreateAlias",
        "UpdateAlias",
        "DeleteAlias",
        "CreateForwarding",
        "UpdateForwarding",
        "DeleteForwarding",
        "UpdateMailboxForwarding",
        "DeleteMailbox",
        "RestoreMailbox",
        "DeleteDomain",
    ]
    operations = {operation.rpc: operation for operation in OPERATIONS if operation.mutating}
    assert sorted(order) == sorted(operations)
    ids = {"project": tenant.project_id}
    for number, rpc in enumerate(order):
        operation = operations[rpc]
        arguments = {**operation.arguments, operation.id_argument: ids[operation.resource]}
        if rpc == "UpdateAlias":
            arguments["description"] = "changed"  # another one than CreateAlias gave
        if "name" in arguments:
            arguments["name"] = fresh_name("audit")
        request = request_of(rpc, **arguments)
        metadata = (("x-request-id", f"audit-{number}"),)
        response = await getattr(tenant.stub, rpc)(request, metadata=metadata)
        if operation.creates:
            ids[operation.creates] = response.mailboxes[0].id if rpc == "BatchCreateMailboxes" else response.id
        event = (await listed(admin, organization_id=tenant.organization_id))[-1]
        assert (event.action, event.request_id) == (rpc, f"audit-{number}")
        assert event.actor == f"key:{tenant.access_key}"
        assert (event.organization_id, event.project_id) == (tenant.organization_id, tenant.project_id)
        assert event.client_address == "127.0.0.1"
        assert set(event.arguments) == {field.name for field, _ in request.ListFields()}
        changed = ids[operation.resource if rpc == "BatchCreateMailboxes" else operation.affects]
        assert event.resource_id == changed
        if rpc == "BatchCreateMailboxes":
            assert list(event.resource_ids) == [created.id for created in response.mailboxes]
    assert len(await listed(admin, organization_id=tenant.organization_id)) == len(order)
    found = await listed(admin, organization_id=tenant.organization_id)
    text = "".join(str(event) for event in found)
    for secret in (PASSWORD, tenant.secret, "first.person"):
        assert secret not in text


async def test_refused_calls_are_logged_with_their_address_and_have_no_event(
    service: Service, tenant: Tenant, logs: StringIO
) -> None:
    admin = await new_operator(service)
    request = tenant_pb2.DeleteMailboxRequest(mailbox_id=ABSENT_ID)
    await failure_of(tenant.stub.DeleteMailbox(request, metadata=(("x-request-id", "refused-1"),)))
    (line,) = [json.loads(each) for each in logs.getvalue().splitlines() if '"refused-1"' in each]
    assert (line["code"], line["access_key"], line["client_address"]) == ("NOT_FOUND", tenant.access_key, "127.0.0.1")
    assert await listed(admin, organization_id=tenant.organization_id) == []


@pytest.mark.parametrize(
    ("secret", "address", "recorded"),
    [
        (GATEWAY_SECRET, "2001:db8::7", "2001:db8::7"),
        (GATEWAY_SECRET, "::ffff:192.0.2.7", "192.0.2.7"),
        ("another secret of a gateway", "192.0.2.7", "127.0.0.1"),
    ],
)
async def test_the_address_is_that_which_a_gateway_reports(
    service: Service, tenant: Tenant, secret: str, address: str, recorded: str
) -> None:
    admin = await new_operator(service)
    metadata = (("x-client-address", address), ("x-gateway-secret", secret))
    request = domain_pb2.CreateDomainRequest(name=fresh_name("address"))
    await tenant.stub.CreateDomain(request, metadata=metadata)
    (event,) = await listed(admin, organization_id=tenant.organization_id)
    assert event.client_address == recorded


async def test_operators_and_commands_are_listed_by_actor_resource_and_time(service: Service, tenant: Tenant) -> None:
    admin = await new_operator(service)
    domain = await tenant.stub.CreateDomain(domain_pb2.CreateDomainRequest(name=fresh_name("operator")))
    parameters = tenant_pb2.BatchCreateMailboxesRequest.MailboxParameters(local_part="ann", password=PASSWORD)
    batch = tenant_pb2.BatchCreateMailboxesRequest(domain_id=domain.id, mailboxes=[parameters])
    (mailbox,) = (await tenant.stub.BatchCreateMailboxes(batch)).mailboxes
    before = Timestamp()
    before.GetCurrentTime()
    lock = mailbox_pb2.LockMailboxRequest(mailbox_id=mailbox.id, reason="abuse")
    await admin.stub.LockMailbox(lock)
    await admin.stub.LockMailbox(lock)  # changes nothing
    (event,) = await listed(admin, actor=f"admin:{admin.name}")
    assert (event.action, event.resource_type, event.resource_id) == ("LockMailbox", "mailbox", mailbox.id)
    assert await listed(admin, resource_id=mailbox.id.upper()) == [event]
    assert [each.action for each in await listed(admin, resource_id=domain.id)] == [
        "CreateDomain",
        "BatchCreateMailboxes",
    ]
    mine: dict[str, Any] = {"organization_id": tenant.organization_id}
    assert await listed(admin, **mine, since=before) == [event]
    assert [each.action for each in await listed(admin, **mine, until=before)] == [
        "CreateDomain",
        "BatchCreateMailboxes",
    ]
    request = audit_pb2.ListAuditEventsRequest(page_size=2, **mine)
    first = await admin.stub.ListAuditEvents(request)
    request.page_token = first.next_page_token
    second = await admin.stub.ListAuditEvents(request)
    assert [each.action for each in (*first.events, *second.events)] == [
        "LockMailbox",
        "BatchCreateMailboxes",
        "CreateDomain",
    ]
    assert second.next_page_token == ""


async def test_malformed_filters_are_named_together(service: Service) -> None:
    admin = await new_operator(service)
    request = audit_pb2.ListAuditEventsRequest(
        organization_id="x",
        project_id="y",
        actor="a\nb",
        resource_id="x" * 256,
        since=Timestamp(seconds=10**13),
        page_size=-1,
    )
    failure = await failure_of(admin.stub.ListAuditEvents(request))
    assert failure.violations == {
        ("organization_id", "FORMAT"),
        ("project_id", "FORMAT"),
        ("actor", "FORMAT"),
        ("resource_id", "CONSTRAINT"),
        ("since", "FORMAT"),
        ("page_size", "CONSTRAINT"),
    }
