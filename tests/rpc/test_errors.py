"""Every error type of the contract, with its google.rpc details. No worker runs: statuses stay as they are set."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio
from google.api import annotations_pb2
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import (
    BadRequest,
    ErrorInfo,
    PreconditionFailure,
    QuotaFailure,
    ResourceInfo,
    RetryInfo,
)

from postroom.v1alpha1.alias_pb2 import CreateAliasRequest, GetAliasRequest, UpdateAliasRequest
from postroom.v1alpha1.domain_pb2 import (
    CreateDomainRequest,
    DeleteDomainRequest,
    Domain,
    GetDomainRequest,
    ListDomainsRequest,
    ValidateDomainRecordsRequest,
)
from postroom.v1alpha1.mailbox_pb2 import (
    DeleteMailboxRequest,
    GetMailboxRequest,
    ListMailboxesRequest,
    Mailbox,
    RestoreMailboxRequest,
    UpdateMailboxRequest,
)
from tests.rpc.support import (
    ABSENT_ID,
    ALL_DETAILS,
    LONG_DETAILS,
    METHODS,
    SERVICE,
    Failure,
    Metadata,
    Service,
    Tenant,
    batch_request,
    failure_of,
    fresh_name,
    running,
    until,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

MUTATING = [method.name for method in METHODS if not method.GetOptions().Extensions[annotations_pb2.http].get]
READING = [method.name for method in METHODS if method.name not in MUTATING]
REQUESTS = {method.name: GetMessageClass(method.input_type) for method in METHODS}


@pytest.fixture(scope="module")
def work() -> bool:
    return False


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def settled(service: Service) -> tuple[Tenant, Domain, Mailbox]:
    """A tenant with a domain that no test changes, and a mailbox in it."""
    tenant = await service.tenant()
    domain = await tenant.domain()
    return tenant, domain, await tenant.mailbox(domain, "ann")


@pytest_asyncio.fixture(loop_scope="module")
async def domain(settled: tuple[Tenant, Domain, Mailbox]) -> Domain:
    return settled[1]


@pytest_asyncio.fixture(loop_scope="module")
async def owner(settled: tuple[Tenant, Domain, Mailbox]) -> Tenant:
    return settled[0]


@pytest_asyncio.fixture(loop_scope="module")
async def mailbox(owner: Tenant, domain: Domain) -> Mailbox:
    """A mailbox of the test's own."""
    return await owner.mailbox(domain, f"m{uuid4().hex}")


@pytest_asyncio.fixture(loop_scope="module")
async def own(tmp_path: Path) -> AsyncIterator[Service]:
    """A service of the test's own, to be damaged."""
    async with running(tmp_path, {}, work=False, busy_ms=1_000) as started:
        yield started


def told(failure: Failure, code: grpc.StatusCode, reason: str, /, *details: object, **metadata: str) -> None:
    """Assert that a failure has this code, and exactly these details after its ErrorInfo."""
    assert failure.code is code
    assert failure.message
    info = ErrorInfo(reason=reason, domain="postroom", metadata=metadata)
    assert list(failure.details) == [info, *details]


def resource(kind: str, name: str, failure: Failure) -> ResourceInfo:
    return ResourceInfo(resource_type=kind, resource_name=name, description=failure.message)


# --- invalid_arguments


async def test_invalid_arguments_names_field_reason_and_help(owner: Tenant) -> None:
    failure = await failure_of(owner.stub.GetMailbox(GetMailboxRequest(mailbox_id="nonsense")))
    (violation,) = failure.only(BadRequest).field_violations
    assert violation.description
    told(
        failure,
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_ARGUMENTS",
        BadRequest(
            field_violations=[
                BadRequest.FieldViolation(field="mailbox_id", reason="FORMAT", description=violation.description)
            ]
        ),
    )


@pytest.mark.parametrize("octets", [b"\xff\xff\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe", b"\x0b"], ids=repr)
@pytest.mark.parametrize("rpc", REQUESTS)
async def test_octets_that_are_no_message_are_the_callers_fault(
    service: Service, owner: Tenant, rpc: str, octets: bytes
) -> None:
    if b"\xfe" in octets:  # bad UTF-8, in the first text field that the request has
        texts = [field for field in REQUESTS[rpc].DESCRIPTOR.fields if field.type == field.TYPE_STRING]
        octets = bytes([texts[0].number << 3 | 2]) + octets[1:]
    before = await service.dump()
    call: Any = service.channel(owner.metadata).unary_unary(f"/{SERVICE.full_name}/{rpc}")
    failure = await failure_of(call(octets))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.info.reason == "INVALID_ARGUMENTS"
    assert failure.violations == {("request", "FORMAT")}
    assert await service.dump() == before


# --- denied_authentication

SECRET = str(uuid4())
REFUSED_METADATA: dict[str, Metadata] = {
    "none": (),
    "empty": (("x-auth-token", ""),),
    "no UUID": (("x-auth-token", "letmein"),),
    "UUID without dashes": (("x-auth-token", SECRET.replace("-", "")),),
    "UUID and more": (("x-auth-token", SECRET + "0"),),
    "another scheme": (("authorization", f"Basic {SECRET}"),),
    "no scheme": (("authorization", SECRET),),
    "scheme alone": (("authorization", "Bearer"),),
    "two tokens": (("x-auth-token", SECRET), ("x-auth-token", SECRET)),
    "two headers": (("x-auth-token", SECRET), ("authorization", f"Bearer {SECRET}")),
}


@pytest.mark.parametrize("metadata", REFUSED_METADATA.values(), ids=REFUSED_METADATA)
async def test_a_call_without_one_well_formed_secret_is_refused(service: Service, metadata: Metadata) -> None:
    failure = await failure_of(service.stub(metadata).ListDomains(ListDomainsRequest()))
    told(
        failure,
        grpc.StatusCode.UNAUTHENTICATED,
        "DENIED_AUTHENTICATION",
        method="api_key",
        reason="invalid_argument",
    )
    assert SECRET not in failure.text


async def test_two_secrets_are_refused_even_where_both_are_good(service: Service, owner: Tenant) -> None:
    failure = await failure_of(service.stub(owner.metadata * 2).ListDomains(ListDomainsRequest()))
    assert failure.info.metadata["reason"] == "invalid_argument"


@pytest.mark.parametrize("rpc", REQUESTS)
async def test_an_unknown_secret_is_refused_by_every_rpc(service: Service, rpc: str) -> None:
    stub = service.stub((("x-auth-token", SECRET),))
    failure = await failure_of(getattr(stub, rpc)(REQUESTS[rpc]()))
    told(failure, grpc.StatusCode.UNAUTHENTICATED, "DENIED_AUTHENTICATION", method="api_key", reason="not_found")
    assert SECRET not in failure.text


async def test_a_revoked_key_answers_as_an_unknown_one(service: Service) -> None:
    revoked = await service.tenant()
    await service.sql("UPDATE api_keys SET revoked_at = 1 WHERE access_key = ?", revoked.access_key)
    failure = await failure_of(revoked.stub.ListDomains(ListDomainsRequest()))
    told(failure, grpc.StatusCode.UNAUTHENTICATED, "DENIED_AUTHENTICATION", method="api_key", reason="not_found")


async def test_an_expired_key_is_told_so(service: Service) -> None:
    expired = await service.tenant(expires_in=timedelta(0))
    failure = await failure_of(expired.stub.ListDomains(ListDomainsRequest()))
    told(failure, grpc.StatusCode.UNAUTHENTICATED, "DENIED_AUTHENTICATION", method="api_key", reason="expired")


@pytest.mark.parametrize(
    "accepted",
    [
        lambda secret: (("x-auth-token", secret.upper()),),
        lambda secret: (("authorization", f"Bearer {secret}"),),
        lambda secret: (("authorization", f"bearer  {secret}"),),
    ],
)
async def test_a_secret_is_taken_in_either_header(
    service: Service, owner: Tenant, accepted: Callable[[str], Metadata]
) -> None:
    answer = await service.stub(accepted(owner.secret)).ListDomains(ListDomainsRequest())
    assert [found.organization_id for found in answer.domains] == [owner.organization_id]


# --- permissions_denied

SUBJECTS = {
    "CreateDomain": "domain",
    "DeleteDomain": "domain",
    "ValidateDomainRecords": "domain",
    "BatchCreateMailboxes": "mailbox",
    "UpdateMailbox": "mailbox",
    "DeleteMailbox": "mailbox",
    "RestoreMailbox": "mailbox",
    "CreateAlias": "alias",
    "UpdateAlias": "alias",
    "DeleteAlias": "alias",
}


async def test_every_mutating_rpc_has_its_resource_in_the_table() -> None:
    assert set(SUBJECTS) == set(MUTATING)
    assert len(READING) == 7


@pytest.mark.parametrize("rpc", MUTATING)
async def test_a_read_only_key_can_change_nothing(service: Service, owner: Tenant, rpc: str) -> None:
    reader = await service.tenant(organization_id=owner.organization_id, read_only=True)
    before = await service.dump()
    failure = await failure_of(reader.call(rpc, REQUESTS[rpc]()))
    told(
        failure,
        grpc.StatusCode.PERMISSION_DENIED,
        "PERMISSIONS_DENIED",
        resource=SUBJECTS[rpc],
        action="write",
    )
    assert await service.dump() == before


async def test_a_read_only_key_can_read_all_that_its_organization_has(
    service: Service, owner: Tenant, domain: Domain, mailbox: Mailbox
) -> None:
    reader = await service.tenant(organization_id=owner.organization_id, read_only=True)
    alias = await owner.alias(mailbox, f"a{uuid4().hex}")
    ids = {"domain_id": domain.id, "mailbox_id": mailbox.id, "alias_id": alias.id}
    for rpc in READING:
        names = {field.name for field in REQUESTS[rpc].DESCRIPTOR.fields} if rpc.startswith("Get") else set()
        request = REQUESTS[rpc](**{name: value for name, value in ids.items() if name in names})
        assert await reader.call(rpc, request) == await owner.call(rpc, request)


# --- not_found


@pytest.mark.parametrize(
    ("rpc", "kind", "request_of"),
    [
        ("GetDomain", "domain", lambda: GetDomainRequest(domain_id=ABSENT_ID)),
        ("GetMailbox", "mailbox", lambda: GetMailboxRequest(mailbox_id=ABSENT_ID)),
        ("GetAlias", "alias", lambda: GetAliasRequest(alias_id=ABSENT_ID)),
        ("CreateDomain", "project", lambda: CreateDomainRequest(name=fresh_name(), project_id=ABSENT_ID)),
        ("BatchCreateMailboxes", "domain", lambda: batch_request(ABSENT_ID, "ann")),
        ("CreateAlias", "mailbox", lambda: CreateAliasRequest(mailbox_id=ABSENT_ID, local_part="info")),
    ],
)
async def test_what_does_not_exist_is_named_by_type_and_id(
    owner: Tenant, rpc: str, kind: str, request_of: Callable[[], object]
) -> None:
    failure = await failure_of(getattr(owner.stub, rpc)(request_of()))
    told(failure, grpc.StatusCode.NOT_FOUND, "NOT_FOUND", resource(kind, ABSENT_ID, failure))


# --- quotas_exceeded


async def test_a_batch_past_the_quota_creates_nothing_and_names_quota_and_current(service: Service) -> None:
    tenant = await service.tenant(mailbox_quota=3)
    domain = await tenant.domain()
    await tenant.mailboxes(domain, "ann", "bob")
    before = await service.dump()
    failure = await failure_of(tenant.mailboxes(domain, "cat", "dan"))
    violation = QuotaFailure.Violation(subject=f"project/{tenant.project_id}", description=failure.message)
    told(
        failure,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "QUOTAS_EXCEEDED",
        QuotaFailure(violations=[violation]),
        resource="mailboxes",
        quota="3",
        current="2",
    )
    assert await service.dump() == before
    assert len(await tenant.mailboxes(domain, "cat")) == 1


# --- conflict


async def test_a_conflict_names_every_address_that_is_taken_and_by_what(
    service: Service, owner: Tenant, domain: Domain
) -> None:
    taken = sorted(f"t{uuid4().hex}" for _ in range(3))
    first, second = await owner.mailboxes(domain, taken[0], taken[1])
    alias = await owner.alias(first, taken[2])
    before = await service.dump()
    failure = await failure_of(owner.mailboxes(domain, "unheard.of", taken[2].upper(), taken[0], taken[1]))
    assert failure.code is grpc.StatusCode.ALREADY_EXISTS
    assert failure.info == ErrorInfo(reason="CONFLICT", domain="postroom")
    assert [(info.resource_type, info.resource_name) for info in failure.all(ResourceInfo)] == [
        ("mailbox", first.id),
        ("mailbox", second.id),
        ("alias", alias.id),
    ]
    assert len(failure.details) == 4
    for local_part in taken:
        assert f"{local_part}@{domain.name}" in failure.message
    assert "unheard.of" not in failure.message
    assert await service.dump() == before


async def test_a_conflict_names_all_of_a_hundred_addresses_that_are_taken(service: Service, tenant: Tenant) -> None:
    domain = await tenant.domain()
    local_parts = [f"{'x' * 60}{number}" for number in range(100)]
    taken = await tenant.mailboxes(domain, *local_parts)
    request = batch_request(domain.id, *local_parts)
    stub = service.stub(tenant.metadata + ALL_DETAILS, LONG_DETAILS)
    failure = await failure_of(stub.BatchCreateMailboxes(request))
    assert failure.code is grpc.StatusCode.ALREADY_EXISTS
    named = failure.all(ResourceInfo)
    assert {info.resource_name for info in named} == {mailbox.id for mailbox in taken}
    assert max(len(info.SerializeToString()) for info in named) < 200, "a detail does not repeat the others"
    # A client with gRPC's own limits is told what fits.
    shortened = await failure_of(tenant.stub.BatchCreateMailboxes(request))
    assert shortened.code is grpc.StatusCode.ALREADY_EXISTS
    assert 10 < len(shortened.all(ResourceInfo)) < 100


async def test_an_alias_conflicts_with_a_mailbox_and_with_another_alias(owner: Tenant, domain: Domain) -> None:
    names = [f"t{uuid4().hex}" for _ in range(2)]
    mailbox = await owner.mailbox(domain, names[0])
    alias = await owner.alias(mailbox, names[1])
    for name, kind, taken_by in ((names[0], "mailbox", mailbox.id), (names[1], "alias", alias.id)):
        failure = await failure_of(owner.alias(mailbox, name))
        assert failure.code is grpc.StatusCode.ALREADY_EXISTS
        assert failure.info == ErrorInfo(reason="CONFLICT", domain="postroom")
        info = failure.only(ResourceInfo)
        assert (info.resource_type, info.resource_name) == (kind, taken_by)


async def test_an_organization_registers_a_name_once_in_any_spelling(owner: Tenant, domain: Domain) -> None:
    for name in (domain.name, domain.name.upper(), f"{domain.name}."):
        failure = await failure_of(owner.domain(name))
        assert failure.code is grpc.StatusCode.ALREADY_EXISTS
        assert failure.info == ErrorInfo(reason="CONFLICT", domain="postroom")
        info = failure.only(ResourceInfo)
        assert (info.resource_type, info.resource_name) == ("domain", domain.id)


async def test_an_etag_that_has_passed_refuses_every_change_that_carries_it(service: Service, tenant: Tenant) -> None:
    domain = await tenant.domain()
    mailbox = await tenant.mailbox(domain, "ann")
    alias = await tenant.alias(mailbox, "info")
    for kind, resource_id, rpc, fields in (
        ("domain", domain.id, "DeleteDomain", {"domain_id": domain.id}),
        ("mailbox", mailbox.id, "UpdateMailbox", {"mailbox_id": mailbox.id, "subscription_period": Mailbox.YEARLY}),
        ("mailbox", mailbox.id, "UpdateMailbox", {"mailbox_id": mailbox.id, "new_password": "a good new password"}),
        ("mailbox", mailbox.id, "UpdateMailbox", {"mailbox_id": mailbox.id}),
        ("mailbox", mailbox.id, "DeleteMailbox", {"mailbox_id": mailbox.id}),
        ("alias", alias.id, "UpdateAlias", {"alias_id": alias.id, "description": "new"}),
        ("alias", alias.id, "DeleteAlias", {"alias_id": alias.id}),
    ):
        before = await service.dump()
        failure = await failure_of(tenant.call(rpc, REQUESTS[rpc](etag="passed", **fields)))
        assert failure.code is grpc.StatusCode.ABORTED, rpc
        assert failure.info == ErrorInfo(reason="CONFLICT", domain="postroom")
        info = failure.only(ResourceInfo)
        assert (info.resource_type, info.resource_name) == (kind, resource_id)
        assert await service.dump() == before


async def test_the_etag_of_today_lets_a_change_pass_once(tenant: Tenant) -> None:
    mailbox = await tenant.mailbox(await tenant.domain(), "ann")
    alias = await tenant.alias(mailbox, "info")
    update = UpdateAliasRequest(alias_id=alias.id, description="new", etag=alias.etag)
    changed = await tenant.stub.UpdateAlias(update)
    assert changed.etag != alias.etag
    assert (await failure_of(tenant.stub.UpdateAlias(update))).code is grpc.StatusCode.ABORTED
    deleted = await tenant.stub.DeleteMailbox(DeleteMailboxRequest(mailbox_id=mailbox.id, etag=mailbox.etag))
    assert deleted.status == Mailbox.DELETION_SCHEDULED
    again = DeleteMailboxRequest(mailbox_id=mailbox.id, etag=deleted.etag)
    assert await tenant.stub.DeleteMailbox(again) == deleted


# --- transient_state


@pytest.mark.parametrize("status", ["creating", "provisioning", "deleting"])
async def test_a_domain_in_passing_can_not_be_validated(service: Service, tenant: Tenant, status: str) -> None:
    domain = await tenant.domain()
    await service.sql("UPDATE domains SET status = ? WHERE id = ?", status, domain.id)
    before = await service.dump()
    failure = await failure_of(tenant.stub.ValidateDomainRecords(ValidateDomainRecordsRequest(domain_id=domain.id)))
    told(
        failure,
        grpc.StatusCode.FAILED_PRECONDITION,
        "TRANSIENT_STATE",
        resource("domain", domain.id, failure),
        current_state=status,
    )
    assert await service.dump() == before


@pytest.mark.parametrize("change", [{"subscription_period": Mailbox.YEARLY}, {"new_password": "a good new password"}])
async def test_a_mailbox_that_is_being_purged_can_not_be_changed(
    service: Service, owner: Tenant, mailbox: Mailbox, change: dict[str, object]
) -> None:
    await service.sql("UPDATE mailboxes SET status = 'deleting' WHERE id = ?", mailbox.id)
    request = UpdateMailboxRequest(mailbox_id=mailbox.id, **change)  # type: ignore[arg-type]
    failure = await failure_of(owner.stub.UpdateMailbox(request))
    told(
        failure,
        grpc.StatusCode.FAILED_PRECONDITION,
        "TRANSIENT_STATE",
        resource("mailbox", mailbox.id, failure),
        current_state="deleting",
    )


# --- precondition_failed


def precondition_failed(failure: Failure, subject: str) -> None:
    violation = PreconditionFailure.Violation(type="unknown_precondition", subject=subject, description=failure.message)
    told(
        failure,
        grpc.StatusCode.FAILED_PRECONDITION,
        "PRECONDITION_FAILED",
        PreconditionFailure(violations=[violation]),
    )


STATUSES = [value.name for value in Mailbox.Status.DESCRIPTOR.values if value.number]


@pytest.mark.parametrize("status", [name for name in STATUSES if name != "DELETION_SCHEDULED"])
async def test_only_a_deleted_mailbox_can_be_restored(
    service: Service, owner: Tenant, mailbox: Mailbox, status: str
) -> None:
    await service.sql("UPDATE mailboxes SET status = ? WHERE id = ?", status.lower(), mailbox.id)
    failure = await failure_of(owner.stub.RestoreMailbox(RestoreMailboxRequest(mailbox_id=mailbox.id)))
    precondition_failed(failure, f"mailbox/{mailbox.id}")


async def test_a_mailbox_can_not_be_restored_once_its_retention_has_passed(
    service: Service, owner: Tenant, mailbox: Mailbox
) -> None:
    await owner.stub.DeleteMailbox(DeleteMailboxRequest(mailbox_id=mailbox.id))
    await service.sql("UPDATE mailboxes SET deletion_scheduled_at = 1 WHERE id = ?", mailbox.id)
    failure = await failure_of(owner.stub.RestoreMailbox(RestoreMailboxRequest(mailbox_id=mailbox.id)))
    precondition_failed(failure, f"mailbox/{mailbox.id}")


async def test_the_password_of_a_deleted_mailbox_can_not_be_changed(
    service: Service, owner: Tenant, mailbox: Mailbox
) -> None:
    await owner.stub.DeleteMailbox(DeleteMailboxRequest(mailbox_id=mailbox.id))
    before = await service.dump()
    request = UpdateMailboxRequest(mailbox_id=mailbox.id, new_password="a good new password")
    precondition_failed(await failure_of(owner.stub.UpdateMailbox(request)), f"mailbox/{mailbox.id}")
    assert await service.dump() == before


async def test_nothing_can_be_made_in_a_domain_that_is_being_deleted(service: Service, tenant: Tenant) -> None:
    domain = await tenant.domain()
    mailbox = await tenant.mailbox(domain, "ann")
    deleted = await tenant.stub.DeleteDomain(DeleteDomainRequest(domain_id=domain.id))
    assert deleted.status == Domain.DELETING
    found = await tenant.stub.GetMailbox(GetMailboxRequest(mailbox_id=mailbox.id))
    assert found.status == Mailbox.DELETING
    assert await tenant.stub.DeleteDomain(DeleteDomainRequest(domain_id=domain.id)) == deleted
    assert await tenant.stub.DeleteMailbox(DeleteMailboxRequest(mailbox_id=mailbox.id)) == found
    before = await service.dump()
    precondition_failed(await failure_of(tenant.mailboxes(domain, "bob")), f"domain/{domain.id}")
    precondition_failed(await failure_of(tenant.alias(mailbox, "info")), f"mailbox/{mailbox.id}")
    assert await service.dump() == before


@pytest.mark.parametrize("status", STATUSES)
async def test_aliases_are_made_of_mailboxes_in_five_statuses_alone(
    service: Service, owner: Tenant, mailbox: Mailbox, status: str
) -> None:
    await service.sql("UPDATE mailboxes SET status = ? WHERE id = ?", status.lower(), mailbox.id)
    name = f"a{uuid4().hex}"
    if status in {"READY", "LOCKED", "WAITING_DOMAIN", "WAITING_PAYMENT", "CREATING"}:
        assert (await owner.alias(mailbox, name)).mailbox_id == mailbox.id
    else:
        precondition_failed(await failure_of(owner.alias(mailbox, name)), f"mailbox/{mailbox.id}")


# --- locked


@pytest.mark.parametrize("change", [{"subscription_period": Mailbox.YEARLY}, {"new_password": "a good new password"}])
async def test_a_locked_mailbox_can_not_be_changed(
    service: Service, owner: Tenant, mailbox: Mailbox, change: dict[str, object]
) -> None:
    await service.sql("UPDATE mailboxes SET status = 'locked' WHERE id = ?", mailbox.id)
    before = await service.dump()
    request = UpdateMailboxRequest(mailbox_id=mailbox.id, **change)  # type: ignore[arg-type]
    failure = await failure_of(owner.stub.UpdateMailbox(request))
    told(failure, grpc.StatusCode.FAILED_PRECONDITION, "LOCKED", resource("mailbox", mailbox.id, failure))
    assert await service.dump() == before


# --- too_many_requests


async def test_what_would_wait_too_long_for_hashes_is_refused_at_once_and_does_nothing(tmp_path: Path) -> None:
    slow = {"argon2_memory_kib": "65536", "argon2_time_cost": "1", "hash_threads": "1", "hash_wait_seconds": "0"}
    async with running(tmp_path, slow, work=False) as service:
        tenant = await service.tenant()
        domain = await tenant.domain()
        batches = [
            asyncio.ensure_future(tenant.mailboxes(domain, *(f"{prefix}{number}" for number in range(100))))
            for prefix in "abc"
        ]
        (refused,), hashing = await asyncio.wait(batches, return_when=asyncio.FIRST_COMPLETED)
        for failure in (await failure_of(refused), await failure_of(tenant.domain())):
            assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert failure.info == ErrorInfo(reason="TOO_MANY_REQUESTS", domain="postroom")
            assert failure.only(RetryInfo).retry_delay.ToNanoseconds() >= 10**9
            assert len(failure.details) == 2
        for batch in hashing:
            assert not batch.done()
            batch.cancel()
        await asyncio.gather(*hashing, return_exceptions=True)
        assert await service.sql("SELECT * FROM mailboxes") == []
        assert len(await service.sql("SELECT * FROM domains")) == 1
        quick = await until(lambda: accepted(tenant, domain))
        assert quick.email == f"late@{domain.name}"


async def accepted(tenant: Tenant, domain: Domain) -> Mailbox | None:
    """The mailbox `late`, once there is room for its password."""
    try:
        return await tenant.mailbox(domain, "late")
    except grpc.aio.AioRpcError:
        return None


# --- unavailable, deadline_exceeded


async def test_a_database_that_can_not_be_written_is_unavailable_until_it_can(own: Service) -> None:
    tenant = await own.tenant()
    mailbox = await tenant.mailbox(await tenant.domain(), "ann")
    request = DeleteMailboxRequest(mailbox_id=mailbox.id)
    async with own.held():
        writing = asyncio.ensure_future(failure_of(tenant.stub.DeleteMailbox(request)))
        found = await tenant.stub.GetMailbox(GetMailboxRequest(mailbox_id=mailbox.id))
        assert found == mailbox, "reads go on"
        failure = await writing
    retry = failure.only(RetryInfo)
    assert retry.retry_delay.ToNanoseconds() > 0
    told(failure, grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE", retry)
    for word in ("sqlite", "locked", "busy", "mailboxes"):
        assert word not in failure.text.lower()
    assert await tenant.stub.GetMailbox(GetMailboxRequest(mailbox_id=mailbox.id)) == mailbox
    assert (await tenant.stub.DeleteMailbox(request)).status == Mailbox.DELETION_SCHEDULED


async def test_a_call_past_its_deadline_leaves_all_of_its_write_or_nothing(own: Service) -> None:
    tenant = await own.tenant()
    domain = await tenant.domain()
    async with own.held():
        late = await failure_of(tenant.stub.BatchCreateMailboxes(batch_request(domain.id, "ann", "bob"), timeout=0.3))
    assert late.code is grpc.StatusCode.DEADLINE_EXCEEDED
    await tenant.mailbox(domain, "cat")
    names = {name for (name,) in await own.sql("SELECT local_part FROM addresses")}
    assert names in ({"cat"}, {"ann", "bob", "cat"})
    found = await tenant.stub.GetDomain(GetDomainRequest(domain_id=domain.id))
    assert found.mailbox_total_count == len(names)


# --- internal


async def test_an_unexpected_error_says_nothing_of_its_cause_but_its_request_id(own: Service) -> None:
    tenant = await own.tenant()
    mailbox = await tenant.mailbox(await tenant.domain(), "ann")
    await own.sql("ALTER TABLE aliases RENAME TO mislaid")
    for call in (
        tenant.stub.GetAlias(GetAliasRequest(alias_id=ABSENT_ID), metadata=(("x-request-id", "find-me"),)),
        tenant.stub.CreateAlias(
            CreateAliasRequest(mailbox_id=mailbox.id, local_part="info"), metadata=(("x-request-id", "find-me"),)
        ),
    ):
        failure = await failure_of(call)
        told(failure, grpc.StatusCode.INTERNAL, "INTERNAL", request_id="find-me")
        assert failure.trailing["x-request-id"] == "find-me"
        assert failure.message == "internal error"
        for word in ("aliases", "mislaid", "table", "sqlite", "sqlalchemy", "error:", "traceback"):
            assert word not in failure.text.lower()


# --- request ids


@pytest.mark.parametrize("sent", ["a", "req-1.2_3", "x" * 128])
async def test_a_request_id_comes_back_with_success_and_failure(service: Service, owner: Tenant, sent: str) -> None:
    metadata = (("x-request-id", sent),)
    call = service.stub(owner.metadata).ListDomains(ListDomainsRequest(), metadata=metadata)
    await call
    assert dict(await call.trailing_metadata())["x-request-id"] == sent
    for stub in (owner.stub, service.stub()):
        failure = await failure_of(stub.GetDomain(GetDomainRequest(domain_id="x"), metadata=metadata))
        assert failure.trailing["x-request-id"] == sent


@pytest.mark.parametrize("sent", [None, "", "x" * 129, "two words", "semi;colon", 'quo"te', "a/b"], ids=repr)
async def test_a_request_id_is_made_up_for_a_call_without_a_usable_one(
    service: Service, owner: Tenant, sent: str | None
) -> None:
    metadata = () if sent is None else (("x-request-id", sent),)
    call = service.stub(owner.metadata).ListMailboxes(ListMailboxesRequest(), metadata=metadata)
    await call
    failure = await failure_of(owner.stub.GetDomain(GetDomainRequest(), metadata=metadata))
    made_up = {dict(await call.trailing_metadata())["x-request-id"], failure.trailing["x-request-id"]}
    assert len(made_up) == 2
    for request_id in made_up:
        assert re.fullmatch(r"[0-9a-f]{32}", str(request_id))
