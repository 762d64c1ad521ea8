"""The gateways' service, called with and without their secret."""

from collections.abc import Mapping

import grpc
import pytest

from postroom.gateway.v1alpha1 import gateway_service_pb2 as messages
from postroom.gateway.v1alpha1 import gateway_service_pb2_grpc
from tests.rpc.client import Tenant, fresh_name
from tests.rpc.failures import failure_of
from tests.rpc.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "the secret of the gateways"


@pytest.fixture(scope="module")
def overrides() -> Mapping[str, str]:
    return {"gateway_secret": SECRET, "imap_host": "imap.host.example"}


def stub(service: Service, *metadata: tuple[str, str]) -> "gateway_service_pb2_grpc.GatewayServiceAsyncStub":
    return gateway_service_pb2_grpc.GatewayServiceStub(service.channel(metadata))


def gateway(service: Service) -> "gateway_service_pb2_grpc.GatewayServiceAsyncStub":
    return stub(service, ("x-gateway-secret", SECRET))


async def test_it_returns_the_mail_servers_of_a_ready_domain(service: Service, tenant: Tenant) -> None:
    name = fresh_name()
    request = messages.GetDomainMailServersRequest(name=name.upper())
    unknown = await failure_of(gateway(service).GetDomainMailServers(request))
    assert unknown.code is grpc.StatusCode.NOT_FOUND
    await tenant.ready_domain(name)
    response = await gateway(service).GetDomainMailServers(request)
    assert (response.name, response.imap_host, response.smtp_host) == (name, "imap.host.example", "smtp.mail.example")


async def test_it_names_an_invalid_argument(service: Service) -> None:
    request = messages.GetDomainMailServersRequest(name="no domain")
    assert ("name", "FORMAT") in (await failure_of(gateway(service).GetDomainMailServers(request))).violations


@pytest.mark.parametrize("secret", ["another secret, also long", ""])
async def test_it_is_for_gateways_only(service: Service, tenant: Tenant, secret: str) -> None:
    request = messages.GetDomainMailServersRequest(name="example.org")
    for metadata in (("x-gateway-secret", secret), ("x-auth-token", tenant.secret)):
        refused = await failure_of(stub(service, metadata).GetDomainMailServers(request))
        assert refused.code is grpc.StatusCode.UNAUTHENTICATED
