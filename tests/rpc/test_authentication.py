"""Authentication by API key, and the permissions of a read-only key."""

import gc
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import grpc
import pytest

from postroom.v1alpha1.domain_pb2 import Domain, ListDomainsRequest
from postroom.v1alpha1.mailbox_pb2 import Mailbox
from postroomd.domain.errors import Unauthenticated
from tests.rpc.client import METHODS, Metadata, Tenant
from tests.rpc.failures import assert_status, failure_of
from tests.rpc.requests import MUTATING, OPERATION_OF, READING, REQUEST_TYPES
from tests.rpc.service import Service
from tests.support.waiting import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = str(uuid4())
MALFORMED: dict[str, Metadata] = {
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


@pytest.fixture(scope="module")
def with_worker() -> bool:
    return False


@pytest.mark.parametrize("metadata", MALFORMED.values(), ids=MALFORMED)
async def test_a_call_without_exactly_one_well_formed_secret_is_rejected(service: Service, metadata: Metadata) -> None:
    failure = await failure_of(service.stub(metadata).ListDomains(ListDomainsRequest()))
    assert_status(
        failure,
        grpc.StatusCode.UNAUTHENTICATED,
        "DENIED_AUTHENTICATION",
        method="api_key",
        reason="invalid_argument",
    )
    assert SECRET not in failure.text


async def test_two_valid_secrets_are_rejected(service: Service, owner: Tenant) -> None:
    failure = await failure_of(service.stub(owner.metadata * 2).ListDomains(ListDomainsRequest()))
    assert failure.info.metadata["reason"] == "invalid_argument"


@pytest.mark.parametrize("rpc", REQUEST_TYPES)
async def test_every_rpc_rejects_an_unknown_secret(service: Service, rpc: str) -> None:
    stub = service.stub((("x-auth-token", SECRET),))
    failure = await failure_of(getattr(stub, rpc)(REQUEST_TYPES[rpc]()))
    assert_status(
        failure, grpc.StatusCode.UNAUTHENTICATED, "DENIED_AUTHENTICATION", method="api_key", reason="not_found"
    )
    assert SECRET not in failure.text


async def test_a_revoked_key_is_reported_as_an_unknown_one(service: Service) -> None:
    revoked = await service.tenant()
    await service.sql("UPDATE api_keys SET revoked_at = 1 WHERE access_key = ?", revoked.access_key)
    failure = await failure_of(revoked.stub.ListDomains(ListDomainsRequest()))
    assert_status(
        failure, grpc.StatusCode.UNAUTHENTICATED, "DENIED_AUTHENTICATION", method="api_key", reason="not_found"
    )


async def test_an_expired_key_is_reported_as_expired(service: Service) -> None:
    expired = await service.tenant(expires_in=timedelta(0))
    failure = await failure_of(expired.stub.ListDomains(ListDomainsRequest()))
    assert_status(failure, grpc.StatusCode.UNAUTHENTICATED, "DENIED_AUTHENTICATION", method="api_key", reason="expired")


@pytest.mark.parametrize(
    "metadata_with",
    [
        lambda secret: (("x-auth-token", secret.upper()),),
        lambda secret: (("authorization", f"Bearer {secret}"),),
        lambda secret: (("authorization", f"bearer  {secret}"),),
    ],
)
async def test_a_secret_is_accepted_in_either_header(
    service: Service, owner: Tenant, domain: Domain, metadata_with: Callable[[str], Metadata]
) -> None:
    response = await service.stub(metadata_with(owner.secret)).ListDomains(ListDomainsRequest())
    assert [found.id for found in response.domains] == [domain.id]
    assert [found.organization_id for found in response.domains] == [owner.organization_id]


# --- Permissions


async def test_the_table_of_operations_agrees_with_the_contract() -> None:
    assert {*MUTATING, *READING} == {method.name for method in METHODS}
    assert len(MUTATING) == 14
    assert len(READING) == 10


@pytest.mark.parametrize("rpc", MUTATING)
async def test_a_read_only_key_is_denied_every_change(service: Service, owner: Tenant, rpc: str) -> None:
    reader = await service.tenant(organization_id=owner.organization_id, read_only=True)
    before = await service.dump()
    failure = await failure_of(reader.call(rpc, REQUEST_TYPES[rpc]()))
    assert_status(
        failure,
        grpc.StatusCode.PERMISSION_DENIED,
        "PERMISSIONS_DENIED",
        resource=OPERATION_OF[rpc].affects,
        action="write",
    )
    assert await service.dump() == before


async def test_a_read_only_key_can_read_everything_of_its_organization(
    service: Service, owner: Tenant, domain: Domain, mailbox: Mailbox
) -> None:
    reader = await service.tenant(organization_id=owner.organization_id, read_only=True)
    alias = await owner.alias(mailbox, f"a{uuid4().hex}")
    forwarding = await owner.forwarding(mailbox, "ann@elsewhere.example")
    ids = {"domain_id": domain.id, "mailbox_id": mailbox.id, "alias_id": alias.id, "forwarding_id": forwarding.id}
    for rpc in READING:
        names = {field.name for field in REQUEST_TYPES[rpc].DESCRIPTOR.fields} if rpc.startswith("Get") else set()
        request = REQUEST_TYPES[rpc](**{name: value for name, value in ids.items() if name in names})
        assert await reader.call(rpc, request) == await owner.call(rpc, request)


def living_errors() -> int:
    return sum(isinstance(each, Unauthenticated) for each in gc.get_objects())


async def test_failed_calls_are_freed_without_the_garbage_collector(service: Service) -> None:
    gc.collect()
    gc.disable()
    try:
        before = living_errors()
        for _ in range(3):
            call = service.stub((("x-auth-token", str(uuid4())),)).ListDomains(ListDomainsRequest())
            assert (await failure_of(call)).code is grpc.StatusCode.UNAUTHENTICATED
        await wait_until(lambda: living_errors() <= before)
    finally:
        gc.enable()
