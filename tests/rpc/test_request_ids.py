"""Request ids: returned as they were sent, or generated."""

import re

import pytest

from postroom.v1alpha1.domain_pb2 import GetDomainRequest, ListDomainsRequest
from postroom.v1alpha1.mailbox_pb2 import ListMailboxesRequest
from tests.rpc.client import Tenant
from tests.rpc.failures import failure_of
from tests.rpc.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def with_worker() -> bool:
    return False


@pytest.mark.parametrize("sent", ["a", "req-1.2_3", "x" * 128])
async def test_a_request_id_is_returned_on_success_and_failure(service: Service, owner: Tenant, sent: str) -> None:
    metadata = (("x-request-id", sent),)
    call = service.stub(owner.metadata).ListDomains(ListDomainsRequest(), metadata=metadata)
    await call
    assert dict(await call.trailing_metadata())["x-request-id"] == sent
    for stub in (owner.stub, service.stub()):
        failure = await failure_of(stub.GetDomain(GetDomainRequest(domain_id="x"), metadata=metadata))
        assert failure.trailing["x-request-id"] == sent


@pytest.mark.parametrize("sent", [None, "", "x" * 129, "two words", "semi;colon", 'quo"te', "a/b"], ids=repr)
async def test_a_call_without_a_valid_request_id_gets_a_generated_one(
    service: Service, owner: Tenant, sent: str | None
) -> None:
    metadata = () if sent is None else (("x-request-id", sent),)
    call = service.stub(owner.metadata).ListMailboxes(ListMailboxesRequest(), metadata=metadata)
    await call
    failure = await failure_of(owner.stub.GetDomain(GetDomainRequest(), metadata=metadata))
    generated = {dict(await call.trailing_metadata())["x-request-id"], failure.trailing["x-request-id"]}
    assert len(generated) == 2
    for request_id in generated:
        assert re.fullmatch(r"[0-9a-f]{32}", str(request_id))
