"""The documents that mail clients configure themselves from, in front of a stub service."""

from collections.abc import AsyncIterator
from xml.etree import ElementTree

import aiohttp
import grpc
import pytest
import pytest_asyncio

from postroom.gateway.v1alpha1 import gateway_service_pb2
from postroomd.gateway.app import GatewayConfig, open_autoconfiguration
from postroomd.gateway.connection_table import ConnectionTable
from postroomd.gateway.http_server import listen
from tests.gateway.client import Client, Response
from tests.gateway.stub_service import Context, StubService

SERVICES = tuple(gateway_service_pb2.DESCRIPTOR.services_by_name.values())
SECRET = "a secret of sixteen"
CONFIG, WELL_KNOWN = "/mail/config-v1.1.xml", "/.well-known/autoconfig/mail/config-v1.1.xml"
DISCOVER = "/autodiscover/autodiscover.xml"
OUTLOOK = "{http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a}"
ENVELOPE = "{http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006}"
SCHEMA = OUTLOOK.strip("{}")


async def servers(request: gateway_service_pb2.GetDomainMailServersRequest, context: Context) -> object:
    name = request.name.lower()
    known = {"example.org": "example.org", "münchen.example": "xn--mnchen-3ya.example"}
    known |= {value: value for value in known.values()}
    if name not in known:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such domain")
    return gateway_service_pb2.GetDomainMailServersResponse(
        name=known[name], imap_host="imap.mail.example", pop3_host="pop3.mail.example", smtp_host="smtp.mail.example"
    )


@pytest_asyncio.fixture
async def call() -> AsyncIterator[Client]:
    stub = StubService(SERVICES, behaviors={"GetDomainMailServers": servers})  # type: ignore[dict-item]
    await stub.start()
    config = GatewayConfig(grpc_address=stub.address, gateway_secret=SECRET)
    async with open_autoconfiguration(config) as (_, server), aiohttp.ClientSession() as session:
        listener = await listen(server, ConnectionTable(config.connection_limits), "127.0.0.1", 0)
        yield Client(session, listener.sockets[0].getsockname()[1], None, stub)
        listener.close()
    await stub.stop()


def request(address: str, schema: str = SCHEMA) -> str:
    return (
        '<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006"><Request>'
        f"<EMailAddress>{address}</EMailAddress><AcceptableResponseSchema>{schema}</AcceptableResponseSchema>"
        "</Request></Autodiscover>"
    )


async def discover(
    call: Client, body: str | bytes, host: str = "autodiscover.example.org", path: str = DISCOVER
) -> Response:
    data = body.encode() if isinstance(body, str) else body
    return await call("POST", path, data=data, headers={"Host": host, "Content-Type": "text/xml"})


@pytest.mark.parametrize(
    ("path", "host"),
    [
        (CONFIG, "autoconfig.example.org"),
        (CONFIG, "AutoConfig.Example.ORG.:8443"),
        (f"{CONFIG}?emailaddress=alice@example.org", "autoconfig.example.org"),
        (WELL_KNOWN, "example.org"),
    ],
)
async def test_autoconfig_names_the_servers_of_the_domain(call: Client, path: str, host: str) -> None:
    response = await call("GET", path, headers={"Host": host})
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/xml; charset=utf-8"
    provider = ElementTree.fromstring(response.raw).find("emailProvider")  # noqa: S314 - our own document
    assert provider is not None
    assert (provider.get("id"), provider.findtext("domain")) == ("example.org", "example.org")
    found = [
        (server.tag, server.get("type"), *(server.findtext(name) for name in ("hostname", "port", "socketType")))
        for server in provider
        if server.tag.endswith("Server")
    ]
    assert found == [
        ("incomingServer", "imap", "imap.mail.example", "993", "SSL"),
        ("incomingServer", "pop3", "pop3.mail.example", "995", "SSL"),
        ("outgoingServer", "smtp", "smtp.mail.example", "465", "SSL"),
    ]
    assert {server.findtext("username") for server in provider if server.tag.endswith("Server")} == {"%EMAILADDRESS%"}
    assert call.stub.calls[0].metadata["x-gateway-secret"] == SECRET
    assert call.stub.calls[0].metadata["x-client-address"] == "127.0.0.1"


@pytest.mark.parametrize("host", ["autoconfig.other.example", "localhost", "[::1]:80", "a" * 300, "autoconfig."])
async def test_autoconfig_knows_no_other_hosts(call: Client, host: str) -> None:
    response = await call("GET", CONFIG, headers={"Host": host})
    assert (response.status, response.json["type"]) == (404, "not_found")


@pytest.mark.parametrize("path", [DISCOVER, "/Autodiscover/Autodiscover.xml", "/AutoDiscover/AutoDiscover.xml"])
async def test_autodiscover_names_the_servers_and_the_login(call: Client, path: str) -> None:
    response = await discover(call, request("Alice@Example.org"), path=path)
    account = ElementTree.fromstring(response.raw).find(f"{OUTLOOK}Response/{OUTLOOK}Account")  # noqa: S314
    assert account is not None
    found = [
        tuple(protocol.findtext(OUTLOOK + name) for name in ("Type", "Server", "Port", "LoginName", "SSL"))
        for protocol in account.iter(f"{OUTLOOK}Protocol")
    ]
    assert found == [
        ("IMAP", "imap.mail.example", "993", "Alice@example.org", "on"),
        ("POP3", "pop3.mail.example", "995", "Alice@example.org", "on"),
        ("SMTP", "smtp.mail.example", "465", "Alice@example.org", "on"),
    ]


async def test_autodiscover_compares_names_in_their_stored_form(call: Client) -> None:
    response = await discover(call, request("alice@münchen.example"), "autodiscover.xn--mnchen-3ya.example")
    assert b"<LoginName>alice@xn--mnchen-3ya.example</LoginName>" in response.raw


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "600"),
        ("not XML", "600"),
        ("<Autodiscover/>", "600"),
        (request("alice"), "600"),
        (request("@example.org"), "600"),
        (request("a" * 300 + "@example.org"), "600"),
        ('<!DOCTYPE a [<!ENTITY b "c">]>' + request("alice@example.org"), "600"),
        (b"<?xml version='1.0' encoding='unknown'?><a/>", "600"),
        (request("alice@example.org", "http://schemas.microsoft.com/other"), "601"),
        (request("alice@xn--mnchen-3ya.example"), "500"),
    ],
)
async def test_autodiscover_refuses_in_its_own_form(call: Client, body: str | bytes, code: str) -> None:
    response = await discover(call, body)
    assert response.status == 200
    error = ElementTree.fromstring(response.raw).find(f"{ENVELOPE}Response/{ENVELOPE}Error")  # noqa: S314
    assert error is not None
    assert error.findtext(f"{ENVELOPE}ErrorCode") == code


async def test_autodiscover_of_an_unknown_domain_is_404(call: Client) -> None:
    assert (await discover(call, request("alice@other.example"), "autodiscover.other.example")).status == 404
    assert (await discover(call, request("alice@other.example"))).status == 404


async def test_large_bodies_and_other_methods_are_refused(call: Client) -> None:
    assert (await discover(call, request("alice@example.org") + " " * 20_000)).status == 413
    assert (await call("GET", DISCOVER, headers={"Host": "example.org"})).status == 405
    assert (await call("GET", "/mailbox/v1alpha1/domains")).status == 404
