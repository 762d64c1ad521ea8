"""Every fault of every field is reported as a violation, without the value, and without any effect."""

from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest

from postroom.v1alpha1.mailbox_pb2 import BatchCreateMailboxesRequest, GetMailboxRequest
from tests.rpc.client import (
    ALL_DETAILS,
    LONG_DETAILS,
    METHODS,
    PASSWORD,
    SERVICE,
    SHORT_DETAILS,
    Metadata,
    Options,
    Tenant,
    fresh_name,
)
from tests.rpc.failures import assert_status, failure_of
from tests.rpc.faults import INVALID, MARK, OK, Fault, Item, World
from tests.rpc.field_faults import FAULTS, fields_of
from tests.rpc.requests import REQUEST_TYPES, valid_request
from tests.rpc.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

RPCS = {method.input_type.name: method.name for method in METHODS}


def set_field(request: Message, key: str, value: Any) -> None:
    """Set or clear a field of a request. A field of a nested message is that of the second item."""
    *path, name = key.split(".")
    target: Any = request if len(path) == 1 else request.mailboxes[1]  # type: ignore[attr-defined]
    target.ClearField(name)
    if isinstance(value, list):
        getattr(target, name).extend(value)
    elif value is not None:
        setattr(target, name, value)


def path_of(key: str, fault: Fault) -> str:
    """The field path of the violation that reports a fault."""
    *path, name = key.split(".")
    return ("" if len(path) == 1 else "mailboxes[1].") + name + fault.suffix


async def new_world(service: Service, other: World | None = None) -> World:
    """A new tenant with one resource of each type. Its mailbox's local part has the length of a password."""
    tenant = await service.tenant()
    domain = await tenant.domain()
    mailbox = await tenant.mailbox(domain, "long.local.part")
    return World(
        tenant=tenant,
        domain=domain,
        mailbox=mailbox,
        alias=await tenant.alias(mailbox, "info"),
        forwarding=await tenant.forwarding(mailbox, "ann@elsewhere.example"),
        other=other,
    )


@pytest.fixture(scope="module")
def with_worker() -> bool:
    return False


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(service: Service) -> World:
    """The world that the module's tests share: faulty requests leave it unchanged."""
    return await new_world(service, await new_world(service))


async def test_every_field_of_every_request_has_its_faults() -> None:
    assert set(FAULTS) == {key for method in METHODS for key in fields_of(method.input_type)}
    for key, faults in FAULTS.items():
        assert "absent" in {fault.label for fault in faults}, key
        assert len({fault.label for fault in faults}) == len(faults), key


CASES = [(key, fault) for key, faults in FAULTS.items() for fault in faults]


def each_case(*, valid: bool) -> pytest.MarkDecorator:
    cases = [(key, fault) for key, fault in CASES if (fault.code is OK) == valid]
    return pytest.mark.parametrize(("key", "fault"), cases, ids=[f"{key}: {fault.label}" for key, fault in cases])


@each_case(valid=False)
async def test_a_fault_is_reported_by_its_field_and_changes_nothing(
    service: Service, world: World, key: str, fault: Fault
) -> None:
    rpc = RPCS[key.partition(".")[0]]
    request = valid_request(rpc, world.ids)
    value = fault.value(world) if callable(fault.value) else fault.value
    set_field(request, key, value)
    before = await service.dump()
    failure = await failure_of(world.tenant.call(rpc, request))
    assert failure.code is fault.code
    if fault.code is INVALID:
        assert failure.violations == {(path_of(key, fault), fault.reason)}
        if isinstance(value, str) and len(value) > 7:
            assert value.lower() not in failure.text.lower()
    assert MARK not in failure.text
    assert PASSWORD not in failure.text
    assert await service.dump() == before


@each_case(valid=True)
async def test_an_absent_optional_field_or_unmatched_filter_is_valid(
    service: Service, world: World, key: str, fault: Fault
) -> None:
    rpc = RPCS[key.partition(".")[0]]
    if not rpc.startswith("List"):
        world = await new_world(service)
    request = valid_request(rpc, world.ids)
    set_field(request, key, fault.value(world) if callable(fault.value) else fault.value)
    response = await world.tenant.call(rpc, request)
    if rpc.startswith("List"):
        assert response.total_count == (0 if fault.matches_nothing else 1)


def combinable_faults(rpc: str) -> dict[str, Fault]:
    """For every field of an RPC's request, its first fault that is reported beside others."""
    faults = {
        key: next((fault for fault in FAULTS[key] if fault.reason and not fault.exclusive), None)
        for key in fields_of(REQUEST_TYPES[rpc].DESCRIPTOR)
    }
    return {key: fault for key, fault in faults.items() if fault and not key.endswith("Request.mailboxes")}


@pytest.mark.parametrize("rpc", REQUEST_TYPES)
async def test_all_faults_of_a_request_are_reported_together(service: Service, world: World, rpc: str) -> None:
    request = valid_request(rpc, world.ids)
    faults = combinable_faults(rpc)
    for key, fault in faults.items():
        set_field(request, key, fault.value)
    before = await service.dump()
    failure = await failure_of(world.tenant.call(rpc, request))
    assert failure.code is INVALID
    assert failure.violations == {(path_of(key, fault), fault.reason) for key, fault in faults.items()}
    assert MARK not in failure.text
    assert await service.dump() == before


@pytest.mark.parametrize("rpc", [name for name in REQUEST_TYPES if not name.startswith("List")])
async def test_an_empty_request_reports_all_its_required_fields(service: Service, world: World, rpc: str) -> None:
    required = {
        (key.partition(".")[2], "REQUIRED")
        for key in fields_of(REQUEST_TYPES[rpc].DESCRIPTOR)
        for fault in FAULTS[key]
        if fault.label == "absent" and fault.reason == "REQUIRED" and key.count(".") == 1
    }
    before = await service.dump()
    failure = await failure_of(world.tenant.call(rpc, REQUEST_TYPES[rpc]()))
    assert failure.code is INVALID
    assert failure.violations == required
    assert await service.dump() == before


async def test_a_violation_has_field_reason_and_description(owner: Tenant) -> None:
    failure = await failure_of(owner.stub.GetMailbox(GetMailboxRequest(mailbox_id="nonsense")))
    (violation,) = failure.only(BadRequest).field_violations
    assert violation.description
    expected = BadRequest.FieldViolation(field="mailbox_id", reason="FORMAT", description=violation.description)
    assert_status(failure, INVALID, "INVALID_ARGUMENTS", BadRequest(field_violations=[expected]))


@pytest.mark.parametrize("raw", [b"\xff\xff\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe", b"\x0b"], ids=repr)
@pytest.mark.parametrize("rpc", REQUEST_TYPES)
async def test_bytes_that_are_no_message_are_an_invalid_argument(
    service: Service, owner: Tenant, rpc: str, raw: bytes
) -> None:
    if b"\xfe" in raw:  # invalid UTF-8, in the first string field of the request
        strings = [field for field in REQUEST_TYPES[rpc].DESCRIPTOR.fields if field.type == field.TYPE_STRING]
        raw = bytes([strings[0].number << 3 | 2]) + raw[1:]
    before = await service.dump()
    call: Any = service.channel(owner.metadata).unary_unary(f"/{SERVICE.full_name}/{rpc}")
    failure = await failure_of(call(raw))
    assert failure.code is INVALID
    assert failure.info.reason == "INVALID_ARGUMENTS"
    assert failure.violations == {("request", "FORMAT")}
    assert await service.dump() == before


# --- Faults of batches


@pytest.mark.parametrize(
    ("size", "options", "accepting"), [(10, (), ()), (100, LONG_DETAILS, ALL_DETAILS)], ids=["ten", "hundred"]
)
async def test_a_batch_reports_every_fault_of_every_item(
    service: Service, world: World, size: int, options: Options, accepting: Metadata
) -> None:
    items = [Item(local_part=f"{MARK} {number}", password=f"{MARK}\x07{number}") for number in range(size)]
    request = BatchCreateMailboxesRequest(domain_id=world.domain.id, mailboxes=items)
    before = await service.dump()
    stub = service.stub(world.tenant.metadata + accepting, options)
    failure = await failure_of(stub.BatchCreateMailboxes(request))
    assert failure.violations == {
        violation
        for number in range(size)
        for violation in (
            (f"mailboxes[{number}].local_part", "FORMAT"),
            (f"mailboxes[{number}].password", "CONSTRAINT"),
            (f"mailboxes[{number}].password", "FORMAT"),
        )
    }
    assert MARK not in failure.text
    assert await service.dump() == before


async def test_faults_that_depend_on_the_domain_are_reported_with_the_others(world: World) -> None:
    local_part = "a" * 20
    items = [
        Item(local_part=local_part, password=f"{local_part}@{world.domain.name}"),
        Item(local_part="a b", password=MARK[:5]),
        Item(local_part="b" * 30, password="b" * 29 + "B"),
    ]
    request = BatchCreateMailboxesRequest(domain_id=world.domain.id, mailboxes=items)
    failure = await failure_of(world.tenant.stub.BatchCreateMailboxes(request))
    assert failure.violations == {
        ("mailboxes[0].password", "CONSTRAINT"),
        ("mailboxes[1].local_part", "FORMAT"),
        ("mailboxes[1].password", "CONSTRAINT"),
        ("mailboxes[2].password", "CONSTRAINT"),
    }


async def test_violations_beyond_grpcs_default_limit_are_counted(service: Service, world: World) -> None:
    items = [Item(local_part=f"{MARK} {number}", password=MARK[:5]) for number in range(100)]
    request = BatchCreateMailboxesRequest(domain_id=world.domain.id, mailboxes=items)
    stub = service.stub(world.tenant.metadata, SHORT_DETAILS)
    failure = await failure_of(stub.BatchCreateMailboxes(request))
    assert failure.code is INVALID
    (bad_request,) = failure.all(BadRequest)
    *reported, last = bad_request.field_violations
    assert [violation.field for violation in reported[:2]] == ["mailboxes[0].local_part", "mailboxes[0].password"]
    assert (last.field, last.reason) == ("request", "CONSTRAINT")
    assert last.description.startswith(f"{200 - len(reported)} more violations")
    assert failure.info.metadata["omitted_count"] == str(200 - len(reported))


async def test_an_address_longer_than_254_octets_is_rejected(service: Service) -> None:
    tenant = await service.tenant()
    domain = await tenant.domain(".".join(["x" * 60] * 3 + [fresh_name()]))
    max_length = 254 - 1 - len(domain.name)
    mailbox = await tenant.mailbox(domain, "a" * max_length)
    assert len(mailbox.email) == 254
    before = await service.dump()
    too_long = "b" * (max_length + 1)
    failure = await failure_of(tenant.mailboxes(domain, "c", too_long))
    assert failure.violations == {("mailboxes[1].local_part", "CONSTRAINT")}
    failure = await failure_of(tenant.alias(mailbox, too_long))
    assert failure.violations == {("local_part", "CONSTRAINT")}
    assert await service.dump() == before
