"""Every field of every request message against what can be wrong with it; nothing changes, nothing is repeated."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import BadRequest

from postroom.v1alpha1 import alias_pb2, domain_pb2, mailbox_pb2
from postroom.v1alpha1.alias_pb2 import Alias
from postroom.v1alpha1.domain_pb2 import Domain
from postroom.v1alpha1.mailbox_pb2 import BatchCreateMailboxesRequest, Mailbox
from tests.rpc.support import (
    ABSENT_ID,
    ALL_DETAILS,
    LONG_DETAILS,
    METHODS,
    PASSWORD,
    Metadata,
    Options,
    Service,
    Tenant,
    failure_of,
    fresh_name,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK, INVALID = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND, ABORTED = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ABORTED
MARK = "zqxj"
"""Stands in what is sent, and in nothing that the service says by itself."""

Item = BatchCreateMailboxesRequest.MailboxParameters
FIRST, SECOND = "first.person", "second.person"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A tenant that has one of everything, and the ids of another's."""

    tenant: Tenant
    domain: Domain
    mailbox: Mailbox
    alias: Alias
    other: "World | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that can be wrong with a field, and what is answered.

    `value` None clears the field; a function makes the value of the world. `at` follows the field in the path of the
    violation. `alone`: it is told only where nothing else is wrong.
    """

    label: str
    value: Any
    code: grpc.StatusCode = INVALID
    reason: str = ""
    at: str = ""
    alone: bool = False
    empty: bool = False


def identifier(foreign: str, *, required: bool = True, filters: bool = False) -> list[Fault]:
    """The faults of an id. One that is unknown is not found, or as a filter matches nothing."""
    uuid = "c9f0f895-fb98-4b91-8f14-e45fceea167a"
    missing = OK if filters else NOT_FOUND
    malformed = {
        "bad format": f"{MARK}-not-a-uuid",
        "too short": uuid[:-1],
        "too long": uuid + "0",
        "no dashes": uuid.replace("-", ""),
        "braces": "{" + uuid + "}",
        "new line": uuid + "\n",
        "no hexadecimal digit": uuid.replace("1", "g"),
        "other digits": uuid.replace("1", "\u0661"),
    }
    return [
        *(Fault(label=label, value=value, reason="FORMAT") for label, value in malformed.items()),
        Fault(label="absent", value=None, reason="REQUIRED") if required else absent(),
        Fault(label="unknown id", value=ABSENT_ID, code=missing, alone=True, empty=filters),
        Fault(
            label="other tenant's id",
            value=lambda world: attrgetter(foreign)(world.other),
            code=missing,
            alone=True,
            empty=filters,
        ),
    ]


def absent() -> Fault:
    """Leaving the field out, which is no fault."""
    return Fault(label="absent", value=None, code=OK, alone=True)


def page_fields(largest: int) -> dict[str, list[Fault]]:
    """The faults of a list's page, page_token, page_size and order_by."""
    return {
        "page": [
            Fault(label="out of range", value=-4711, reason="CONSTRAINT"),
            Fault(label="least", value=-(2**31), reason="CONSTRAINT"),
            absent(),
        ],
        # Beside a page it would be at fault for that, whatever it is.
        "page_token": [
            Fault(label="made up", value=MARK, reason="FORMAT", alone=True),
            Fault(label="of no alphabet", value=f"{MARK}\0 \u20ac", reason="FORMAT", alone=True),
            Fault(label="too long", value=MARK * 1_000, reason="FORMAT", alone=True),
            absent(),
        ],
        "page_size": [
            Fault(label="out of range", value=-4711, reason="CONSTRAINT"),
            Fault(label="one too many", value=largest + 1, reason="CONSTRAINT"),
            Fault(label="most", value=2**31 - 1, reason="CONSTRAINT"),
            absent(),
        ],
        "order_by": unknown_number(),
    }


def unknown_number() -> list[Fault]:
    """The faults of an enum."""
    return [
        Fault(label="unknown number", value=4711, reason="CONSTRAINT"),
        Fault(label="negative number", value=-4711, reason="CONSTRAINT"),
        absent(),
    ]


def unknown_numbers() -> list[Fault]:
    """The faults of a list of enums."""
    return [
        Fault(label="unknown number", value=[4711], reason="CONSTRAINT", at="[0]"),
        Fault(label="unknown number among known ones", value=[1, 4711, 2], reason="CONSTRAINT", at="[1]"),
        absent(),
    ]


def text(longest: int) -> list[Fault]:
    """The faults of a text of the caller's own."""
    return [
        Fault(label="too long", value=MARK + "x" * (longest - 3), reason="CONSTRAINT"),
        *(
            Fault(label=f"bad format: {character!r}", value=f"{MARK}{character}", reason="FORMAT")
            for character in ("\0", "\n", "\x1f", "\x7f", "\x85")
        ),
        absent(),
    ]


def etag() -> list[Fault]:
    """The faults of an etag: whatever is not the resource's own has passed."""
    return [
        Fault(label="bad format", value=f"\0{MARK} \u20ac", code=ABORTED, alone=True),
        Fault(label="too long", value=MARK * 1_000, code=ABORTED, alone=True),
        Fault(label="passed", value="0", code=ABORTED, alone=True),
        absent(),
    ]


LOCAL_PART = [
    Fault(label=label, value=value, reason="FORMAT")
    for label, value in {
        "too long": MARK + "x" * 61,
        "space": f"{MARK} x",
        "dot first": f".{MARK}",
        "dot last": f"{MARK}.",
        "two dots": f"{MARK}..x",
        "recipient delimiter": f"{MARK}+x",
        "SMTPUTF8": f"{MARK}\u00e9",
        "quoted": f'"{MARK} x"',
        "whole address": f"{MARK}@example.com",
        "brackets": f"<{MARK}>",
        "control character": f"{MARK}\0",
        "new line": f"{MARK}\n",
        "comma": f"{MARK},x",
    }.items()
] + [Fault(label="absent", value=None, reason="REQUIRED")]

PASSWORDS = [
    Fault(label="too short", value=f"{MARK}3456789", reason="CONSTRAINT"),
    Fault(label="too long", value=MARK + "x" * 125, reason="CONSTRAINT"),
    Fault(label="control character", value=f"{MARK}\x07 and more", reason="FORMAT"),
    Fault(label="new line", value=f"{MARK} and more\n", reason="FORMAT"),
    Fault(label="C1 control character", value=f"{MARK}\x9f and more", reason="FORMAT"),
]

DOMAIN_NAME = [
    Fault(label=label, value=value, reason="FORMAT")
    for label, value in {
        "too long": f"{MARK}.{'x' * 60}.{'x' * 60}.{'x' * 60}.{'x' * 60}.example",
        "far too long": MARK * 100_000,
        "label too long": f"{MARK}{'x' * 60}.example",
        "too short": "a.b",
        "one label": MARK,
        "empty label": f"{MARK}..example",
        "dot first": f".{MARK}.example",
        "public suffix": "co.uk",
        "top-level domain": "com.",
        "IPv4 address": "192.0.2.123",
        "IPv6 address": "2001:db8::1234",
        "space": f"{MARK} x.example",
        "underscore": f"_{MARK}.example",
        "hyphen first": f"-{MARK}.example",
        "bad A-label": f"xn--{MARK}-.example",
        "symbol": f"\U0001f4a9{MARK}.example",
        "URL": f"https://{MARK}.example",
        "address": f"ann@{MARK}.example",
        "control character": f"{MARK}\0.example",
        "new line": f"{MARK}.example\n",
    }.items()
] + [Fault(label="absent", value=None, reason="REQUIRED")]

FAULTS: Mapping[str, Sequence[Fault]] = {
    "CreateDomainRequest.name": DOMAIN_NAME,
    "CreateDomainRequest.project_id": identifier("tenant.project_id", required=False),
    **{f"ListDomainsRequest.{name}": faults for name, faults in page_fields(1_000).items()},
    "ListDomainsRequest.project_id": identifier("tenant.project_id", required=False, filters=True),
    "ListDomainsRequest.statuses": unknown_numbers(),
    "ListDomainsRequest.search": text(320),
    "GetDomainRequest.domain_id": identifier("domain.id"),
    "DeleteDomainRequest.domain_id": identifier("domain.id"),
    "DeleteDomainRequest.etag": etag(),
    "GetDomainRecordsRequest.domain_id": identifier("domain.id"),
    "ValidateDomainRecordsRequest.domain_id": identifier("domain.id"),
    "BatchCreateMailboxesRequest.domain_id": identifier("domain.id"),
    "BatchCreateMailboxesRequest.mailboxes": [
        Fault(label="absent", value=None, reason="REQUIRED"),
        Fault(
            label="one too many",
            value=[Item(local_part=f"{MARK}{number}", password=PASSWORD) for number in range(101)],
            reason="CONSTRAINT",
            alone=True,
        ),
        Fault(
            label="far too many, each at fault", value=[Item(local_part=MARK)] * 5_000, reason="CONSTRAINT", alone=True
        ),
    ],
    "BatchCreateMailboxesRequest.MailboxParameters.local_part": [
        *LOCAL_PART,
        Fault(label="another item's", value=FIRST, reason="CONSTRAINT"),
        Fault(label="another item's in upper case", value=FIRST.upper(), reason="CONSTRAINT"),
    ],
    "BatchCreateMailboxesRequest.MailboxParameters.password": [
        *PASSWORDS,
        Fault(label="absent", value=None, reason="REQUIRED"),
        Fault(label="the local part", value=SECOND, reason="CONSTRAINT", alone=True),
        Fault(
            label="the address in upper case",
            value=lambda world: f"{SECOND}@{world.domain.name}".upper(),
            reason="CONSTRAINT",
            alone=True,
        ),
    ],
    "BatchCreateMailboxesRequest.subscription_period": [
        *unknown_number(),
        Fault(label="canceled", value=Mailbox.CANCELED, reason="CONSTRAINT"),
    ],
    **{f"ListMailboxesRequest.{name}": faults for name, faults in page_fields(1_000).items()},
    "ListMailboxesRequest.domain_id": identifier("domain.id", required=False, filters=True),
    "ListMailboxesRequest.statuses": unknown_numbers(),
    "ListMailboxesRequest.search": text(320),
    "ListMailboxesRequest.project_id": identifier("tenant.project_id", required=False, filters=True),
    "GetMailboxRequest.mailbox_id": identifier("mailbox.id"),
    "UpdateMailboxRequest.mailbox_id": identifier("mailbox.id"),
    "UpdateMailboxRequest.subscription_period": unknown_number(),
    "UpdateMailboxRequest.new_password": [
        *PASSWORDS,
        Fault(label="empty", value="", reason="CONSTRAINT"),
        absent(),
        Fault(
            label="the address in upper case",
            value=lambda world: world.mailbox.email.upper(),
            reason="CONSTRAINT",
            alone=True,
        ),
        Fault(
            label="the local part",
            value=lambda world: world.mailbox.email.partition("@")[0],
            reason="CONSTRAINT",
            alone=True,
        ),
    ],
    "UpdateMailboxRequest.etag": etag(),
    "DeleteMailboxRequest.mailbox_id": identifier("mailbox.id"),
    "DeleteMailboxRequest.etag": etag(),
    "RestoreMailboxRequest.mailbox_id": identifier("mailbox.id"),
    "CreateAliasRequest.mailbox_id": identifier("mailbox.id"),
    "CreateAliasRequest.local_part": LOCAL_PART,
    "CreateAliasRequest.description": text(255),
    **{f"ListAliasesRequest.{name}": faults for name, faults in page_fields(100).items()},
    "ListAliasesRequest.mailbox_id": identifier("mailbox.id", required=False, filters=True),
    "ListAliasesRequest.status": unknown_number(),
    "ListAliasesRequest.project_id": identifier("tenant.project_id", required=False, filters=True),
    "GetAliasRequest.alias_id": identifier("alias.id"),
    "UpdateAliasRequest.alias_id": identifier("alias.id"),
    "UpdateAliasRequest.description": text(255),
    "UpdateAliasRequest.etag": etag(),
    "DeleteAliasRequest.alias_id": identifier("alias.id"),
    "DeleteAliasRequest.etag": etag(),
}

# RPC -> a request with nothing wrong, and every field that matters set.
GOOD: Mapping[str, Callable[[World], Message]] = {
    "CreateDomain": lambda w: domain_pb2.CreateDomainRequest(name=fresh_name(), project_id=w.tenant.project_id),
    "ListDomains": lambda w: domain_pb2.ListDomainsRequest(),
    "GetDomain": lambda w: domain_pb2.GetDomainRequest(domain_id=w.domain.id),
    "DeleteDomain": lambda w: domain_pb2.DeleteDomainRequest(domain_id=w.domain.id),
    "GetDomainRecords": lambda w: domain_pb2.GetDomainRecordsRequest(domain_id=w.domain.id),
    "ValidateDomainRecords": lambda w: domain_pb2.ValidateDomainRecordsRequest(domain_id=w.domain.id),
    "BatchCreateMailboxes": lambda w: BatchCreateMailboxesRequest(
        domain_id=w.domain.id,
        mailboxes=[Item(local_part=name, password=PASSWORD) for name in (FIRST, SECOND)],
        subscription_period=Mailbox.YEARLY,
    ),
    "ListMailboxes": lambda w: mailbox_pb2.ListMailboxesRequest(),
    "GetMailbox": lambda w: mailbox_pb2.GetMailboxRequest(mailbox_id=w.mailbox.id),
    "UpdateMailbox": lambda w: mailbox_pb2.UpdateMailboxRequest(
        mailbox_id=w.mailbox.id, subscription_period=Mailbox.YEARLY, new_password="another good password"
    ),
    "DeleteMailbox": lambda w: mailbox_pb2.DeleteMailboxRequest(mailbox_id=w.mailbox.id),
    "RestoreMailbox": lambda w: mailbox_pb2.RestoreMailboxRequest(mailbox_id=w.mailbox.id),
    "CreateAlias": lambda w: alias_pb2.CreateAliasRequest(
        mailbox_id=w.mailbox.id, local_part="office", description="new"
    ),
    "ListAliases": lambda w: alias_pb2.ListAliasesRequest(),
    "GetAlias": lambda w: alias_pb2.GetAliasRequest(alias_id=w.alias.id),
    "UpdateAlias": lambda w: alias_pb2.UpdateAliasRequest(alias_id=w.alias.id, description="new"),
    "DeleteAlias": lambda w: alias_pb2.DeleteAliasRequest(alias_id=w.alias.id),
}
RPCS = {method.input_type.name: method.name for method in METHODS}
REQUESTS = {method.name: GetMessageClass(method.input_type) for method in METHODS}


def fields_of(message: Any, prefix: str = "") -> Iterator[str]:
    """Every field of a message, and of the messages in it."""
    name = prefix + message.name
    for field in message.fields:
        yield f"{name}.{field.name}"
        if field.message_type:
            yield from fields_of(field.message_type, f"{name}.")


def put(request: Message, key: str, value: Any) -> None:
    """Set a field of a request, or clear it; of a message in it, that of the second item."""
    *path, name = key.split(".")
    target: Any = request if len(path) == 1 else request.mailboxes[1]  # type: ignore[attr-defined]
    target.ClearField(name)
    if isinstance(value, list):
        getattr(target, name).extend(value)
    elif value is not None:
        setattr(target, name, value)


def path_of(key: str, fault: Fault) -> str:
    """The field path of the violation that a fault is told by."""
    *path, name = key.split(".")
    return ("" if len(path) == 1 else "mailboxes[1].") + name + fault.at


async def new_world(service: Service, other: World | None = None) -> World:
    """A new tenant with one of everything. Its mailbox's local part is as long as a password."""
    tenant = await service.tenant()
    domain = await tenant.domain()
    mailbox = await tenant.mailbox(domain, "long.local.part")
    return World(tenant=tenant, domain=domain, mailbox=mailbox, alias=await tenant.alias(mailbox, "info"), other=other)


@pytest.fixture(scope="module")
def work() -> bool:
    return False


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(service: Service) -> World:
    """What the tests of this module share, since none of their calls is to change it."""
    return await new_world(service, await new_world(service))


async def test_every_field_of_every_request_has_its_faults_and_every_rpc_a_good_request() -> None:
    assert set(FAULTS) == {key for method in METHODS for key in fields_of(method.input_type)}
    assert set(GOOD) == set(REQUESTS)
    for key, faults in FAULTS.items():
        assert "absent" in {fault.label for fault in faults}, key
        assert len({fault.label for fault in faults}) == len(faults), key


CASES = [pytest.param(key, fault, id=f"{key}: {fault.label}") for key, faults in FAULTS.items() for fault in faults]


@pytest.mark.parametrize(("key", "fault"), [case for case in CASES if case.values[1].code is not OK])  # type: ignore[union-attr]
async def test_a_fault_is_told_by_its_field_and_changes_nothing(
    service: Service, world: World, key: str, fault: Fault
) -> None:
    rpc = RPCS[key.partition(".")[0]]
    request = GOOD[rpc](world)
    value = fault.value(world) if callable(fault.value) else fault.value
    put(request, key, value)
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


@pytest.mark.parametrize(("key", "fault"), [case for case in CASES if case.values[1].code is OK])  # type: ignore[union-attr]
async def test_what_may_be_left_out_or_match_nothing_is_no_fault(
    service: Service, world: World, key: str, fault: Fault
) -> None:
    rpc = RPCS[key.partition(".")[0]]
    if not rpc.startswith("List"):
        world = await new_world(service)
    request = GOOD[rpc](world)
    put(request, key, fault.value(world) if callable(fault.value) else fault.value)
    answer = await world.tenant.call(rpc, request)
    if rpc.startswith("List"):
        assert answer.total_count == (0 if fault.empty else 1)


def told_together(rpc: str) -> dict[str, Fault]:
    """For every field of an RPC's request, its first fault that is told beside others."""
    faults = {
        key: next((fault for fault in FAULTS[key] if fault.reason and not fault.alone), None)
        for key in fields_of(REQUESTS[rpc].DESCRIPTOR)
    }
    return {key: fault for key, fault in faults.items() if fault and not key.endswith("Request.mailboxes")}


@pytest.mark.parametrize("rpc", REQUESTS)
async def test_all_that_is_wrong_is_told_at_once(service: Service, world: World, rpc: str) -> None:
    request = GOOD[rpc](world)
    faults = told_together(rpc)
    for key, fault in faults.items():
        put(request, key, fault.value)
    before = await service.dump()
    failure = await failure_of(world.tenant.call(rpc, request))
    assert failure.code is INVALID
    assert failure.violations == {(path_of(key, fault), fault.reason) for key, fault in faults.items()}
    assert MARK not in failure.text
    assert await service.dump() == before


@pytest.mark.parametrize("rpc", [name for name in REQUESTS if not name.startswith("List")])
async def test_an_empty_request_is_told_all_that_it_needs(service: Service, world: World, rpc: str) -> None:
    needed = {
        (key.partition(".")[2], "REQUIRED")
        for key in fields_of(REQUESTS[rpc].DESCRIPTOR)
        for fault in FAULTS[key]
        if fault.label == "absent" and fault.reason == "REQUIRED" and key.count(".") == 1
    }
    before = await service.dump()
    failure = await failure_of(world.tenant.call(rpc, REQUESTS[rpc]()))
    assert failure.code is INVALID
    assert failure.violations == needed
    assert await service.dump() == before


@pytest.mark.parametrize(
    ("size", "options", "asking"), [(10, (), ()), (100, LONG_DETAILS, ALL_DETAILS)], ids=["ten", "hundred"]
)
async def test_a_batch_is_told_every_fault_of_every_item(
    service: Service, world: World, size: int, options: Options, asking: Metadata
) -> None:
    items = [Item(local_part=f"{MARK} {number}", password=f"{MARK}\x07{number}") for number in range(size)]
    request = BatchCreateMailboxesRequest(domain_id=world.domain.id, mailboxes=items)
    before = await service.dump()
    stub = service.stub(world.tenant.metadata + asking, options)
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


async def test_a_client_with_grpcs_own_limits_is_told_what_fits_and_how_much_more_there_is(world: World) -> None:
    items = [Item(local_part=f"{MARK} {number}", password=MARK[:5]) for number in range(100)]
    request = BatchCreateMailboxesRequest(domain_id=world.domain.id, mailboxes=items)
    failure = await failure_of(world.tenant.stub.BatchCreateMailboxes(request))
    assert failure.code is INVALID
    (bad_request,) = failure.all(BadRequest)
    *told, rest = bad_request.field_violations
    assert [violation.field for violation in told[:2]] == ["mailboxes[0].local_part", "mailboxes[0].password"]
    assert (rest.field, rest.reason) == ("request", "CONSTRAINT")
    assert rest.description.startswith(f"{200 - len(told)} more violations")


async def test_an_address_longer_than_mail_can_carry_is_refused(service: Service) -> None:
    tenant = await service.tenant()
    domain = await tenant.domain(".".join(["x" * 60] * 3 + [fresh_name()]))
    longest = 254 - 1 - len(domain.name)
    mailbox = await tenant.mailbox(domain, "a" * longest)
    assert len(mailbox.email) == 254
    before = await service.dump()
    too_long = "b" * (longest + 1)
    failure = await failure_of(tenant.mailboxes(domain, "c", too_long))
    assert failure.violations == {("mailboxes[1].local_part", "CONSTRAINT")}
    failure = await failure_of(tenant.alias(mailbox, too_long))
    assert failure.violations == {("local_part", "CONSTRAINT")}
    assert await service.dump() == before


@pytest.mark.parametrize(
    "name", ["ABC.example", "xn--bcher-kva.example", "b\u00fccher.example", "a-b.example", "123.example", "x.co.uk"]
)
async def test_names_on_the_right_side_of_the_rules_are_registered(tenant: Tenant, name: str) -> None:
    assert (await tenant.domain(name)).name == name.lower().encode("idna").decode()


@pytest.mark.parametrize("local_part", ["a", "x" * 64, "!#$%&'*/=?^_`{|}~-", "a.b.c", "0", "-", "postmaster"])
async def test_local_parts_on_the_right_side_of_the_rules_are_taken(world: World, local_part: str) -> None:
    mailbox = await world.tenant.mailbox(world.domain, local_part)
    assert mailbox.email == f"{local_part}@{world.domain.name}"


@pytest.mark.parametrize(
    "password", ["x" * 12, "x" * 128, "\u00e9" * 128, " " * 12, "\U0001f4a9" * 12, "p\u200dss" * 6]
)
async def test_passwords_on_the_right_side_of_the_rules_are_taken(world: World, password: str) -> None:
    request = mailbox_pb2.UpdateMailboxRequest(mailbox_id=world.mailbox.id, new_password=password)
    assert (await world.tenant.stub.UpdateMailbox(request)).id == world.mailbox.id
