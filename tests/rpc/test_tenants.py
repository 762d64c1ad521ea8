"""Isolation of tenants: another tenant's resource is reported exactly as one that does not exist."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.message import Message

from postroom.v1alpha1 import domain_pb2
from postroom.v1alpha1.domain_pb2 import Domain, DomainRecord, ListDomainsRequest
from postroom.v1alpha1.mailbox_pb2 import GetMailboxRequest, ListMailboxesRequest
from tests.rpc.client import ABSENT_ID, METHODS, Tenant, fresh_name
from tests.rpc.failures import Failure, failure_of
from tests.rpc.requests import LIST_OF, OPERATION_OF, REQUEST_TYPES, valid_request
from tests.rpc.service import Service, running_service
from tests.support.leaping_clock import LeapingClock
from tests.support.waiting import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")


Ids = Mapping[str, str]
ABSENT: Ids = dict.fromkeys(("project", "domain", "mailbox", "alias", "forwarding"), ABSENT_ID)


def filtered_requests(rpc: str, ids: Ids) -> list[Message]:
    """Requests of a list with each filter by id, and with all of them."""
    filters = {name: ids[name.removesuffix("_id")] for name in LIST_OF[rpc].id_filters}
    return [*(REQUEST_TYPES[rpc](**{name: value}) for name, value in filters.items()), REQUEST_TYPES[rpc](**filters)]


@pytest.fixture(scope="module")
def overrides() -> Mapping[str, str]:
    return {"key_cache_seconds": "0.3"}


@dataclass(frozen=True, slots=True)
class Owner:
    """A caller, and the ids of its resources: one of each type."""

    tenant: Tenant
    ids: Ids


async def with_resources(tenant: Tenant) -> Owner:
    """Create one resource of each type, with the addresses that the requests of the table would create."""
    domain = await tenant.domain()
    mailbox = await tenant.mailbox(domain, OPERATION_OF["BatchCreateMailboxes"].arguments["mailboxes"][0]["local_part"])
    alias = await tenant.alias(mailbox, OPERATION_OF["CreateAlias"].arguments["local_part"])
    forwarding = await tenant.forwarding(mailbox, OPERATION_OF["CreateForwarding"].arguments["email"])
    return Owner(
        tenant,
        {
            "project": tenant.project_id,
            "domain": domain.id,
            "mailbox": mailbox.id,
            "alias": alias.id,
            "forwarding": forwarding.id,
        },
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def owners(service: Service) -> Mapping[str, Owner]:
    """Two organizations, and a second project of the first one."""
    one, other = await service.tenant(), await service.tenant()
    further = await service.project(one.organization_id)
    first = await service.tenant(organization_id=one.organization_id, project_id=one.project_id)
    limited = await service.tenant(organization_id=one.organization_id, project_id=further)
    return {
        "one": await with_resources(first),
        "other": await with_resources(other),
        "limited": await with_resources(limited),
    }


# The caller, and the owner of the resources that it names.
STRANGERS = [("one", "other"), ("other", "one"), ("limited", "one"), ("limited", "other"), ("other", "limited")]


def anonymized(failure: Failure, ids: Ids) -> tuple[Any, ...]:
    """Everything that a failure contains, with the requested ids replaced."""
    texts = [failure.message, *(detail.SerializeToString().decode() for detail in failure.details)]
    for resource_id in ids.values():
        texts = [text.replace(resource_id, "ID") for text in texts]
    return failure.code, texts, [type(detail) for detail in failure.details], sorted(failure.trailing)


async def test_every_rpc_is_tested() -> None:
    assert set(OPERATION_OF) | set(LIST_OF) == {method.name for method in METHODS}
    assert not set(OPERATION_OF) & set(LIST_OF)


@pytest.mark.parametrize(("caller", "whose"), STRANGERS)
@pytest.mark.parametrize("rpc", OPERATION_OF)
async def test_another_tenants_resource_is_reported_as_one_that_does_not_exist(
    service: Service, owners: Mapping[str, Owner], rpc: str, caller: str, whose: str
) -> None:
    tenant, theirs = owners[caller].tenant, owners[whose].ids
    before = await service.dump()
    foreign = await failure_of(tenant.call(rpc, valid_request(rpc, theirs)))
    missing = await failure_of(tenant.call(rpc, valid_request(rpc, ABSENT)))
    assert foreign.code is grpc.StatusCode.NOT_FOUND
    assert anonymized(foreign, theirs) == anonymized(missing, ABSENT)
    assert await service.dump() == before


@pytest.mark.parametrize("caller", ["one", "other", "limited"])
@pytest.mark.parametrize("rpc", LIST_OF)
async def test_a_list_shows_only_the_callers_own_resources(
    service: Service, owners: Mapping[str, Owner], rpc: str, caller: str
) -> None:
    tenant, own = owners[caller].tenant, owners[caller].ids
    operation = LIST_OF[rpc]
    for request in (REQUEST_TYPES[rpc](), *filtered_requests(rpc, own)):
        response = await tenant.call(rpc, request)
        assert [item.id for item in getattr(response, operation.items)] == [own[operation.resource]]
        assert response.total_count == 1
    for name, owner in owners.items():
        if name != caller:
            for request in filtered_requests(rpc, owner.ids):
                assert await tenant.call(rpc, request) == type(response)(), name


async def test_a_key_of_an_organization_reaches_all_its_projects(service: Service, owners: Mapping[str, Owner]) -> None:
    organization_id = owners["one"].tenant.organization_id
    unlimited = await service.tenant(organization_id=organization_id)
    found = await unlimited.stub.ListDomains(ListDomainsRequest())
    assert {domain.id for domain in found.domains} == {owners["one"].ids["domain"], owners["limited"].ids["domain"]}
    assert {domain.organization_id for domain in found.domains} == {organization_id}
    for owner in (owners["one"], owners["limited"]):
        request = GetMailboxRequest(mailbox_id=owner.ids["mailbox"])
        assert await unlimited.stub.GetMailbox(request) == await owner.tenant.stub.GetMailbox(request)


async def test_a_key_of_a_project_creates_resources_in_that_project(owners: Mapping[str, Owner]) -> None:
    limited = owners["limited"].tenant
    mailbox = await limited.stub.GetMailbox(GetMailboxRequest(mailbox_id=owners["limited"].ids["mailbox"]))
    assert mailbox.project_id == limited.project_id != owners["one"].tenant.project_id
    assert mailbox.organization_id == limited.organization_id == owners["one"].tenant.organization_id


async def test_a_name_conflict_hides_the_ids_of_another_project(
    owners: Mapping[str, Owner],
) -> None:
    request = domain_pb2.GetDomainRequest(domain_id=owners["one"].ids["domain"])
    name = (await owners["one"].tenant.stub.GetDomain(request)).name
    failure = await failure_of(owners["limited"].tenant.domain(name))
    assert failure.code is grpc.StatusCode.ALREADY_EXISTS
    for secret in (owners["one"].ids["domain"], owners["one"].ids["project"]):
        assert secret not in failure.text


async def test_the_organization_that_validates_a_shared_name_first_owns_it(service: Service) -> None:
    name = fresh_name()
    winner, loser = await service.tenant(), await service.tenant()
    won, lost = await winner.domain(name), await loser.domain(name)
    await winner.validate(won)
    await winner.wait_for_domain(won.id, Domain.READY)
    await loser.validate(lost)
    await loser.wait_for_domain(lost.id, Domain.VALIDATION_FAILED)
    records = await loser.records(lost)
    assert records.domain_validation.status == DomainRecord.INVALID
    assert records.domain_validation.error
    for foreign_id in (won.id, winner.organization_id, winner.project_id):
        assert foreign_id not in str(records)
    assert (await winner.mailbox(won, "ann")).email == (await loser.mailbox(lost, "ann")).email


async def test_a_key_revoked_during_use_is_rejected_once_it_is_no_longer_cached(service: Service) -> None:
    tenant = await service.tenant()
    await tenant.stub.ListDomains(ListDomainsRequest())
    await service.repository.tenancy.revoke_key(tenant.access_key, datetime.now(UTC))

    async def rejected() -> grpc.StatusCode | None:
        try:
            await tenant.stub.ListDomains(ListDomainsRequest())
        except grpc.aio.AioRpcError as error:
            return error.code()
        return None

    assert await wait_until(rejected) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_key_that_expires_during_use_is_rejected_from_then_on(tmp_path: Path) -> None:
    hour = timedelta(hours=1)
    clock = LeapingClock(datetime.now(UTC) - hour, hour)
    async with running_service(tmp_path, {}, with_worker=False, clock=clock) as service:
        before = datetime.now(UTC)
        tenant = await service.tenant(expires_in=hour)
        after = datetime.now(UTC)
        clock.uptime = before + hour - clock.booted_at - timedelta(microseconds=1)
        await tenant.stub.ListDomains(ListDomainsRequest())
        clock.uptime = after + hour - clock.booted_at
        failure = await failure_of(tenant.stub.ListDomains(ListDomainsRequest()))
        assert failure.info.metadata["reason"] == "expired"


async def test_concurrent_callers_never_get_each_others_responses(owners: Mapping[str, Owner]) -> None:
    async def own_only(owner: Owner) -> None:
        mailbox = await owner.tenant.stub.GetMailbox(GetMailboxRequest(mailbox_id=owner.ids["mailbox"]))
        assert mailbox.project_id == owner.tenant.project_id
        found = await owner.tenant.stub.ListMailboxes(ListMailboxesRequest())
        assert [item.id for item in found.mailboxes] == [owner.ids["mailbox"]]

    await asyncio.gather(*(own_only(owner) for owner in list(owners.values()) * 30))
