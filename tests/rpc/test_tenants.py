"""Two organizations, and two projects of one: what is another's answers as what does not exist."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.message import Message

from postroom.v1alpha1 import alias_pb2, domain_pb2, mailbox_pb2
from postroom.v1alpha1.domain_pb2 import CreateDomainRequest, Domain, DomainRecord, ListDomainsRequest
from postroom.v1alpha1.mailbox_pb2 import GetMailboxRequest, ListMailboxesRequest
from tests.rpc.support import ABSENT_ID, METHODS, Failure, Service, Tenant, batch_request, failure_of, fresh_name, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids of what somebody owns."""

    project: str
    domain: str
    mailbox: str
    alias: str


ABSENT = Ids(*[ABSENT_ID] * 4)

# RPC -> a request about what has these ids; nothing is wrong with it but whose they are.
ABOUT: Mapping[str, Callable[[Ids], Message]] = {
    "CreateDomain": lambda ids: CreateDomainRequest(name="new.example", project_id=ids.project),
    "GetDomain": lambda ids: domain_pb2.GetDomainRequest(domain_id=ids.domain),
    "DeleteDomain": lambda ids: domain_pb2.DeleteDomainRequest(domain_id=ids.domain),
    "GetDomainRecords": lambda ids: domain_pb2.GetDomainRecordsRequest(domain_id=ids.domain),
    "ValidateDomainRecords": lambda ids: domain_pb2.ValidateDomainRecordsRequest(domain_id=ids.domain),
    "BatchCreateMailboxes": lambda ids: batch_request(ids.domain, "ann", "new"),
    "GetMailbox": lambda ids: GetMailboxRequest(mailbox_id=ids.mailbox),
    "UpdateMailbox": lambda ids: mailbox_pb2.UpdateMailboxRequest(
        mailbox_id=ids.mailbox, subscription_period=mailbox_pb2.Mailbox.YEARLY, new_password="another good password"
    ),
    "DeleteMailbox": lambda ids: mailbox_pb2.DeleteMailboxRequest(mailbox_id=ids.mailbox),
    "RestoreMailbox": lambda ids: mailbox_pb2.RestoreMailboxRequest(mailbox_id=ids.mailbox),
    "CreateAlias": lambda ids: alias_pb2.CreateAliasRequest(mailbox_id=ids.mailbox, local_part="ann"),
    "GetAlias": lambda ids: alias_pb2.GetAliasRequest(alias_id=ids.alias),
    "UpdateAlias": lambda ids: alias_pb2.UpdateAliasRequest(alias_id=ids.alias, description="new"),
    "DeleteAlias": lambda ids: alias_pb2.DeleteAliasRequest(alias_id=ids.alias),
}

# List -> the ids of what it shows to an owner, and its requests with each filter that names another's id.
LISTS: Mapping[str, tuple[Callable[[Ids], str], Callable[[Ids], list[Message]]]] = {
    "ListDomains": (lambda ids: ids.domain, lambda ids: [ListDomainsRequest(project_id=ids.project)]),
    "ListMailboxes": (
        lambda ids: ids.mailbox,
        lambda ids: [
            ListMailboxesRequest(project_id=ids.project),
            ListMailboxesRequest(domain_id=ids.domain),
            ListMailboxesRequest(domain_id=ids.domain, project_id=ids.project),
        ],
    ),
    "ListAliases": (
        lambda ids: ids.alias,
        lambda ids: [
            alias_pb2.ListAliasesRequest(project_id=ids.project),
            alias_pb2.ListAliasesRequest(mailbox_id=ids.mailbox),
            alias_pb2.ListAliasesRequest(mailbox_id=ids.mailbox, project_id=ids.project),
        ],
    ),
}


@pytest.fixture(scope="module")
def flags() -> Mapping[str, str]:
    return {"key_cache_seconds": "0.3"}


@dataclass(frozen=True, slots=True)
class Owner:
    """A caller, and what it has: one of everything."""

    tenant: Tenant
    ids: Ids


async def settle(tenant: Tenant) -> Owner:
    """The caller with one of everything."""
    domain = await tenant.domain()
    mailbox = await tenant.mailbox(domain, "ann")
    alias = await tenant.alias(mailbox, "info")
    return Owner(tenant, Ids(tenant.project_id, domain.id, mailbox.id, alias.id))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def owners(service: Service) -> Mapping[str, Owner]:
    """Two organizations, and a project of the first beside its first project."""
    one, other = await service.tenant(), await service.tenant()
    further = await service.project(one.organization_id)
    limited = await service.tenant(organization_id=one.organization_id, project_id=further)
    return {
        "one": await settle(await service.tenant(organization_id=one.organization_id, project_id=one.project_id)),
        "other": await settle(other),
        "limited": await settle(limited),
    }


# Who calls, and whose things it calls about.
STRANGERS = [("one", "other"), ("other", "one"), ("limited", "one"), ("limited", "other"), ("other", "limited")]


def octets(failure: Failure, ids: Ids) -> tuple[Any, ...]:
    """All that a failure says, the ids that were asked for and the request's own apart."""
    said = [failure.message, *(detail.SerializeToString().decode() for detail in failure.details)]
    for own in (ids.project, ids.domain, ids.mailbox, ids.alias):
        said = [text.replace(own, "ID") for text in said]
    return failure.code, said, [type(detail) for detail in failure.details], sorted(failure.trailing)


async def test_every_rpc_has_its_request_here() -> None:
    assert set(ABOUT) | set(LISTS) == {method.name for method in METHODS}
    assert not set(ABOUT) & set(LISTS)


@pytest.mark.parametrize(("caller", "whose"), STRANGERS)
@pytest.mark.parametrize("rpc", ABOUT)
async def test_what_is_anothers_answers_octet_by_octet_as_what_does_not_exist(
    service: Service, owners: Mapping[str, Owner], rpc: str, caller: str, whose: str
) -> None:
    tenant, theirs = owners[caller].tenant, owners[whose].ids
    before = await service.dump()
    refused = await failure_of(tenant.call(rpc, ABOUT[rpc](theirs)))
    missing = await failure_of(tenant.call(rpc, ABOUT[rpc](ABSENT)))
    assert refused.code is grpc.StatusCode.NOT_FOUND
    assert octets(refused, theirs) == octets(missing, ABSENT)
    assert await service.dump() == before


@pytest.mark.parametrize("caller", ["one", "other", "limited"])
@pytest.mark.parametrize("rpc", LISTS)
async def test_a_list_shows_the_callers_own_and_nothing_else(
    service: Service, owners: Mapping[str, Owner], rpc: str, caller: str
) -> None:
    tenant, own = owners[caller].tenant, owners[caller].ids
    shown, filtered = LISTS[rpc]
    for request in (type(filtered(own)[0])(), *filtered(own)):
        answer = await tenant.call(rpc, request)
        (items,) = (value for field, value in answer.ListFields() if field.is_repeated)
        assert [item.id for item in items] == [shown(own)]
        assert answer.total_count == 1
    for name, owner in owners.items():
        if name != caller:
            for request in filtered(owner.ids):
                assert await tenant.call(rpc, request) == type(answer)(), name


async def test_a_key_of_the_whole_organization_sees_every_project_of_it(
    service: Service, owners: Mapping[str, Owner]
) -> None:
    organization_id = owners["one"].tenant.organization_id
    whole = await service.tenant(organization_id=organization_id)
    found = await whole.stub.ListDomains(ListDomainsRequest())
    assert {domain.id for domain in found.domains} == {owners["one"].ids.domain, owners["limited"].ids.domain}
    assert {domain.organization_id for domain in found.domains} == {organization_id}
    for owner in (owners["one"], owners["limited"]):
        request = GetMailboxRequest(mailbox_id=owner.ids.mailbox)
        assert await whole.stub.GetMailbox(request) == await owner.tenant.stub.GetMailbox(request)


async def test_a_limited_key_makes_things_in_its_own_project(owners: Mapping[str, Owner]) -> None:
    limited = owners["limited"].tenant
    mailbox = await limited.stub.GetMailbox(GetMailboxRequest(mailbox_id=owners["limited"].ids.mailbox))
    assert mailbox.project_id == limited.project_id != owners["one"].tenant.project_id
    assert mailbox.organization_id == limited.organization_id == owners["one"].tenant.organization_id


async def test_a_name_that_another_project_has_is_taken_without_its_id_being_told(
    owners: Mapping[str, Owner],
) -> None:
    request = domain_pb2.GetDomainRequest(domain_id=owners["one"].ids.domain)
    name = (await owners["one"].tenant.stub.GetDomain(request)).name
    failure = await failure_of(owners["limited"].tenant.domain(name))
    assert failure.code is grpc.StatusCode.ALREADY_EXISTS
    for secret in (owners["one"].ids.domain, owners["one"].ids.project):
        assert secret not in failure.text


async def test_several_organizations_register_one_name_and_the_first_to_prove_it_has_it(service: Service) -> None:
    name = fresh_name()
    winner, loser = await service.tenant(), await service.tenant()
    won, lost = await winner.domain(name), await loser.domain(name)
    await winner.stub.ValidateDomainRecords(domain_pb2.ValidateDomainRecordsRequest(domain_id=won.id))
    await winner.wait_for_domain(won.id, Domain.READY)
    await loser.stub.ValidateDomainRecords(domain_pb2.ValidateDomainRecordsRequest(domain_id=lost.id))
    await loser.wait_for_domain(lost.id, Domain.VALIDATION_FAILED)
    records = await loser.stub.GetDomainRecords(domain_pb2.GetDomainRecordsRequest(domain_id=lost.id))
    assert records.domain_validation.status == DomainRecord.INVALID
    assert records.domain_validation.error
    for told in (won.id, winner.organization_id, winner.project_id):
        assert told not in str(records)
    assert (await winner.mailbox(won, "ann")).email == (await loser.mailbox(lost, "ann")).email


async def test_a_revoked_key_is_refused_within_seconds_while_it_is_in_use(service: Service) -> None:
    tenant = await service.tenant()
    await tenant.stub.ListDomains(ListDomainsRequest())
    await service.repository.tenancy.revoke_key(tenant.access_key, datetime.now(UTC))
    revoked_at = monotonic()

    async def refused() -> grpc.StatusCode | None:
        try:
            await tenant.stub.ListDomains(ListDomainsRequest())
        except grpc.aio.AioRpcError as error:
            return error.code()
        return None

    assert await until(refused) is grpc.StatusCode.UNAUTHENTICATED
    assert monotonic() - revoked_at < 5


async def test_a_key_that_expires_while_it_is_in_use_is_refused_from_then_on(service: Service) -> None:
    tenant = await service.tenant(expires_in=timedelta(seconds=1))
    expires_at = monotonic() + 1
    await tenant.stub.ListDomains(ListDomainsRequest())

    async def refused() -> Failure | None:
        try:
            await tenant.stub.ListDomains(ListDomainsRequest())
        except grpc.aio.AioRpcError:
            return await failure_of(tenant.stub.ListDomains(ListDomainsRequest()))
        return None

    failure = await until(refused)
    assert failure.info.metadata["reason"] == "expired"
    assert abs(monotonic() - expires_at) < 0.5


async def test_callers_at_the_same_time_never_get_one_anothers_answers(owners: Mapping[str, Owner]) -> None:
    async def own_only(owner: Owner) -> None:
        mailbox = await owner.tenant.stub.GetMailbox(GetMailboxRequest(mailbox_id=owner.ids.mailbox))
        assert mailbox.project_id == owner.tenant.project_id
        found = await owner.tenant.stub.ListMailboxes(ListMailboxesRequest())
        assert [item.id for item in found.mailboxes] == [owner.ids.mailbox]

    await asyncio.gather(*(own_only(owner) for owner in list(owners.values()) * 30))
