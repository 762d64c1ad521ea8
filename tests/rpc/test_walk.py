"""The shared walk over every operation, over gRPC."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from google.rpc.error_details_pb2 import ResourceInfo

from tests.rpc.client import Tenant, fresh_name
from tests.rpc.failures import failure_of
from tests.rpc.requests import contract_object, request_of
from tests.support.operations import RPCS
from tests.support.walk import walk

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class GrpcApi:
    """The API over gRPC."""

    tenant: Tenant
    organization_id: str
    project_id: str
    called: set[str] = field(default_factory=set)

    async def call(self, operation: str, **arguments: Any) -> Any:
        self.called.add(operation)
        return contract_object(await self.tenant.call(RPCS[operation], request_of(RPCS[operation], **arguments)))

    async def error_of(self, operation: str, **arguments: Any) -> tuple[str, str]:
        request = request_of(RPCS[operation], **arguments)
        failure = await failure_of(self.tenant.call(RPCS[operation], request))
        resources = failure.all(ResourceInfo)
        return failure.info.reason.lower(), resources[0].resource_type if resources else ""


async def test_every_operation_works_from_registration_to_purge(tenant: Tenant) -> None:
    api = GrpcApi(tenant, tenant.organization_id, tenant.project_id)
    await walk(api, fresh_name("walk"))
    assert api.called == RPCS.keys()
