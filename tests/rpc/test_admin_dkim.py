"""The rotation of DKIM keys over gRPC: for the operator, and as the tenant sees it."""

import re
from collections.abc import Mapping
from datetime import timedelta
from io import StringIO
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ResourceInfo

from postroom.admin.v1alpha1 import audit_pb2
from postroom.admin.v1alpha1 import dkim_pb2 as pb
from postroom.v1alpha1.domain_pb2 import Domain, DomainRecord
from tests.rpc.admin_client import ADMIN_OVERRIDES, Operator, new_operator
from tests.rpc.client import ABSENT_ID, Tenant, fresh_name
from tests.rpc.failures import assert_precondition_failed, failure_of
from tests.rpc.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROLES = pb.DkimKey.Role.Name


@pytest.fixture(scope="module")
def overrides() -> Mapping[str, str]:
    return ADMIN_OVERRIDES | {"dkim_bits": "1024", "dkim_overlap": "2d"}


@pytest.fixture(scope="module")
def with_worker() -> bool:
    return False


async def ready_domain(service: Service, tenant: Tenant, name: str | None = None) -> Domain:
    domain = await tenant.domain(name)
    await service.sql("UPDATE domains SET status = 'ready' WHERE id = ?", domain.id)
    return domain


async def rotate(admin: Operator, **fields: Any) -> pb.DkimKeys:
    return await admin.stub.RotateDkimKey(pb.RotateDkimKeyRequest(**fields))


def selectors(keys: pb.DkimKeys) -> dict[str, str]:
    return {ROLES(key.role): key.selector for key in keys.keys}


async def shown(tenant: Tenant, domain: Domain) -> dict[str, DomainRecord]:
    """The DKIM records that the tenant sees, by kind."""
    records = await tenant.records(domain)
    return {field.name: value for field, value in records.ListFields() if field.name.startswith("dkim")}


async def test_a_rotation_by_name_publishes_the_next_key_beside_the_present_one(
    service: Service, tenant: Tenant, logs: StringIO
) -> None:
    admin, domain = await new_operator(service), await ready_domain(service, tenant)
    before = await shown(tenant, domain)
    keys = await rotate(admin, name=domain.name.upper())
    assert (keys.domain_id, keys.name, keys.organization_id) == (domain.id, domain.name, tenant.organization_id)
    assert [ROLES(key.role) for key in keys.keys] == ["SIGNING", "NEXT"]
    selector = selectors(keys)["NEXT"]
    assert re.fullmatch(r"postroom-\d{8}-[0-9a-f]{4}", selector)
    records = await shown(tenant, domain)
    assert records == {"dkim": before["dkim"], "dkim_next": keys.keys[1].record}
    assert records["dkim_next"].dns_name == f"{selector}._domainkey.{domain.name}."
    assert records["dkim_next"].dns_value != before["dkim"].dns_value
    assert keys.HasField("rotation_started_at")
    assert not keys.HasField("switched_at")
    assert not keys.HasField("retires_at")

    assert await rotate(admin, domain_id=domain.id) == keys
    assert await admin.stub.GetDkimKeys(pb.GetDkimKeysRequest(name=domain.name)) == keys
    ((pem,),) = await service.sql("SELECT private_key FROM dkim_rotations WHERE domain_id = ?", domain.id)
    assert "PRIVATE KEY" in pem
    assert "PRIVATE KEY" not in str(keys) + logs.getvalue()


async def test_an_immediate_switch_keeps_the_previous_record_for_the_overlap_period(
    service: Service, tenant: Tenant
) -> None:
    admin, domain = await new_operator(service), await ready_domain(service, tenant)
    before = (await shown(tenant, domain))["dkim"]
    started = await rotate(admin, domain_id=domain.id, selector="Mail.2026")
    keys = await rotate(admin, domain_id=domain.id, immediately=True)
    assert selectors(keys) == {"SIGNING": "mail.2026", "PREVIOUS": "postroom"}
    assert keys.retires_at.ToDatetime() - keys.switched_at.ToDatetime() == timedelta(days=2)
    records = await shown(tenant, domain)
    assert records["dkim"].dns_value == started.keys[1].record.dns_value
    assert (records["dkim_previous"].id, records["dkim_previous"].dns_value) == (before.id, before.dns_value)
    assert records["dkim"].level == DomainRecord.REQUIRED
    assert records["dkim_previous"].level == DomainRecord.RECOMMENDED

    assert await rotate(admin, domain_id=domain.id, selector="mail.2026", immediately=True) == keys  # a repetition
    failure = await failure_of(rotate(admin, domain_id=domain.id))
    assert_precondition_failed(failure, f"domain/{domain.id}")
    assert "the previous one, postroom, is kept until" in failure.message
    failure = await failure_of(admin.stub.CancelDkimRotation(pb.CancelDkimRotationRequest(domain_id=domain.id)))
    assert_precondition_failed(failure, f"domain/{domain.id}")


async def test_a_rotation_is_canceled_and_listed(service: Service, tenant: Tenant) -> None:
    admin = await new_operator(service)
    one, two = [await ready_domain(service, tenant) for _ in range(2)]
    rotated = {domain.id: await rotate(admin, domain_id=domain.id) for domain in (one, two)}

    async def listed() -> dict[str, pb.DkimKeys]:
        found: dict[str, pb.DkimKeys] = {}
        token = ""
        while True:
            request = pb.ListDkimRotationsRequest(page_size=1, page_token=token)
            page = await admin.stub.ListDkimRotations(request)
            found |= {keys.domain_id: keys for keys in page.domains}
            if not (token := page.next_page_token):
                return found

    assert rotated.items() <= (await listed()).items()
    for _ in range(2):
        keys = await admin.stub.CancelDkimRotation(pb.CancelDkimRotationRequest(domain_id=one.id))
        assert list(selectors(keys)) == ["SIGNING"]
    assert one.id not in await listed()
    assert set(await shown(tenant, one)) == {"dkim"}
    assert selectors(await rotate(admin, domain_id=one.id)) != selectors(rotated[one.id])


async def test_changes_are_audited_and_repetitions_are_not(service: Service, tenant: Tenant) -> None:
    admin, domain = await new_operator(service), await ready_domain(service, tenant)
    for _ in range(2):
        await rotate(admin, domain_id=domain.id)
    for _ in range(2):
        await admin.stub.CancelDkimRotation(pb.CancelDkimRotationRequest(domain_id=domain.id))
    request = audit_pb2.ListAuditEventsRequest(resource_id=domain.id, actor=f"admin:{admin.name}")
    events = (await admin.stub.ListAuditEvents(request)).events
    assert [(each.action, each.resource_type, list(each.arguments)) for each in events] == [
        ("CancelDkimRotation", "domain", ["domain_id"]),
        ("RotateDkimKey", "domain", ["domain_id"]),
    ]
    assert {each.organization_id for each in events} == {tenant.organization_id}


async def test_of_several_domains_with_a_name_the_owner_is_meant(service: Service, tenant: Tenant) -> None:
    admin, name = await new_operator(service), fresh_name()
    mine, other = await tenant.domain(name), await (await service.tenant()).domain(name)
    failure = await failure_of(rotate(admin, name=name))
    assert failure.violations == {("name", "CONSTRAINT")}
    assert mine.id in failure.text
    assert other.id in failure.text
    await service.sql("UPDATE domains SET status = 'ready' WHERE id = ?", other.id)
    assert (await rotate(admin, name=name)).domain_id == other.id


@pytest.mark.parametrize(
    ("fields", "violation"),
    [
        ({}, ("domain_id", "REQUIRED")),
        ({"domain_id": "x"}, ("domain_id", "FORMAT")),
        ({"name": "a b"}, ("name", "FORMAT")),
        ({"name": "a.example", "domain_id": ABSENT_ID}, ("name", "CONSTRAINT")),
        *(
            ({"domain_id": ABSENT_ID, "selector": selector}, ("selector", "FORMAT"))
            for selector in ("a b", "-a", "a..b", "é", "x" * 64, "a." * 32 + "a")
        ),
    ],
)
async def test_invalid_arguments_are_named(
    service: Service, fields: dict[str, str], violation: tuple[str, str]
) -> None:
    failure = await failure_of(rotate(await new_operator(service), **fields))
    assert failure.violations == {violation}


async def test_an_unknown_domain_is_not_found(service: Service) -> None:
    admin = await new_operator(service)
    for fields, named in (({"domain_id": ABSENT_ID}, ABSENT_ID), ({"name": "absent.example"}, "absent.example")):
        failure = await failure_of(rotate(admin, **fields))
        assert failure.code is grpc.StatusCode.NOT_FOUND
        info = failure.only(ResourceInfo)
        assert (info.resource_type, info.resource_name) == ("domain", named)


async def test_a_selector_that_leaves_no_room_for_the_name_is_refused(service: Service, tenant: Tenant) -> None:
    admin = await new_operator(service)
    name = ".".join(["x" * 63, "y" * 63, "z" * 63, "w" * 31, "example"])
    domain = await ready_domain(service, tenant, name[-(253 - len("postroom._domainkey.")) :].lstrip("."))
    failure = await failure_of(rotate(admin, domain_id=domain.id))
    assert failure.violations == {("selector", "CONSTRAINT")}
    assert "253 are possible" in failure.text
    assert selectors(await rotate(admin, domain_id=domain.id, selector="a"))["NEXT"] == "a"


async def test_the_selector_of_a_domains_own_key_is_refused(service: Service, tenant: Tenant) -> None:
    admin, domain = await new_operator(service), await ready_domain(service, tenant)
    failure = await failure_of(rotate(admin, domain_id=domain.id, selector="postroom"))
    assert_precondition_failed(failure, f"domain/{domain.id}")
    await rotate(admin, domain_id=domain.id)
    failure = await failure_of(rotate(admin, domain_id=domain.id, selector="another"))
    assert_precondition_failed(failure, f"domain/{domain.id}")
    assert "publish its record, or cancel it first" in failure.message


async def test_a_domain_that_is_being_deleted_is_refused(service: Service, tenant: Tenant) -> None:
    admin, domain = await new_operator(service), await ready_domain(service, tenant)
    await tenant.delete_domain(domain)
    failure = await failure_of(rotate(admin, domain_id=domain.id))
    assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
    assert dict(failure.info.metadata)["current_state"] == "deleting"
