"""The documents that mail clients configure themselves from.

Mozilla's autoconfig (config-v1.1.xml) and Microsoft's Autodiscover for clients without Exchange ("plain old XML",
MS-OXDSCLI). The Host header names the domain; only those that are ready have a document, so that nobody learns more
than the DNS shows. Whether a mailbox exists is not said.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from xml.etree import ElementTree  # to write; defusedxml reads

import defusedxml.ElementTree
import grpc
from aiohttp import hdrs, web
from defusedxml import DefusedXmlException

from postroom.gateway.v1alpha1 import gateway_service_pb2
from postroomd.gateway.admission import Slots
from postroomd.gateway.body import BodyReader, check_declared_length
from postroomd.gateway.channel import ServiceChannel
from postroomd.gateway.endpoints import Endpoint, EndpointOptions, IncomingRequest
from postroomd.gateway.errors import RequestError, error_response, from_rpc_error, invalid_arguments
from postroomd.gateway.responses import HEADERS
from postroomd.gateway.violations import InvalidArguments

MAX_REQUESTS = 32
MAX_BODY_BYTES = 16_384
RPC = "/postroom.gateway.v1alpha1.GatewayService/GetDomainMailServers"
MAX_HOST = 253 + len("autodiscover.")

_REQUEST = "{http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006}"
_ENVELOPE = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"
_RESPONSE = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"

Servers = gateway_service_pb2.GetDomainMailServersResponse


def autoconfiguration_endpoints(options: EndpointOptions) -> Iterator[tuple[str, str, Endpoint]]:
    """Yield the endpoints with their HTTP methods and paths. Microsoft's clients request theirs in three spellings."""
    slots, bodies = Slots(MAX_REQUESTS), BodyReader(options.body)
    yield "GET", "/mail/config-v1.1.xml", Autoconfig("autoconfig.", slots, options)
    yield "GET", "/.well-known/autoconfig/mail/config-v1.1.xml", Autoconfig("", slots, options)
    for path in ("/autodiscover/autodiscover.xml", "/Autodiscover/Autodiscover.xml", "/AutoDiscover/AutoDiscover.xml"):
        yield "POST", path, Autodiscover("autodiscover.", slots, options, bodies)


class _Documents:
    """What both kinds of documents have in common. `prefix` precedes the domain in the Host header, or may."""

    rpc = RPC
    is_probe = False

    def __init__(self, prefix: str, slots: Slots, options: EndpointOptions) -> None:
        self._prefix = prefix
        self._slots = slots
        self._timeout_seconds = options.call_timeout_seconds
        self._channel: ServiceChannel | None = None
        self._call: Any = None

    def connect(self, channel: ServiceChannel) -> None:
        """Create the stub of the RPC."""
        self._channel = channel
        self._call = channel.unary_unary(
            RPC,
            request_serializer=gateway_service_pb2.GetDomainMailServersRequest.SerializeToString,
            response_deserializer=Servers.FromString,
        )

    def _domain(self, request: IncomingRequest) -> str:
        """Return the domain that the Host header names. Raises RequestError."""
        host = request.http.headers.get(hdrs.HOST, "").rpartition("@")[2].partition(":")[0].lower().removesuffix(".")
        if len(host) > MAX_HOST:
            raise RequestError(error_response("not_found", resource="domain", resource_id=""))
        return host.removeprefix(self._prefix)

    async def _servers(self, request: IncomingRequest, domain: str) -> Servers:
        """Return the mail servers of a domain. Raises RequestError."""
        if self._channel is None:
            raise RuntimeError("connect was not called")
        metadata = grpc.aio.Metadata(
            ("x-request-id", request.request_id), *self._channel.client_metadata(request.client_address)
        )
        asked = gateway_service_pb2.GetDomainMailServersRequest(name=domain)
        try:
            servers: Servers = await self._call(asked, timeout=self._timeout_seconds, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:  # a Host that is no domain name
                raise RequestError(error_response("not_found", resource="domain", resource_id="")) from error
            raise RequestError(from_rpc_error(error, request.request_id)) from error
        return servers


class Autoconfig(_Documents):
    """Mozilla's document."""

    async def respond(self, request: IncomingRequest) -> web.Response:
        """Return the document of the domain in the Host header. Raises RequestError."""
        with self._slots:
            servers = await self._servers(request, self._domain(request))
        return _xml(_client_config(servers))


class Autodiscover(_Documents):
    """Microsoft's document."""

    def __init__(self, prefix: str, slots: Slots, options: EndpointOptions, bodies: BodyReader) -> None:
        super().__init__(prefix, slots, options)
        self._bodies = bodies

    async def respond(self, request: IncomingRequest) -> web.Response:
        """Return the document for the address in the body, whose domain the Host header names. Raises RequestError."""
        try:
            check_declared_length(request.http)
            address = _requested_address(await self._bodies.read(request.http))
        except InvalidArguments as invalid:
            raise RequestError(invalid_arguments(invalid.violations)) from None
        except _Refused as refused:
            return _xml(_autodiscover_error(refused))
        local_part, _, domain = address.rpartition("@")
        with self._slots:
            servers = await self._servers(request, self._domain(request))
            # The address may have U-labels: the service knows which name they are.
            if domain.lower() != servers.name and (await self._servers(request, domain)).name != servers.name:
                return _xml(_autodiscover_error(_NOT_HERE))
        return _xml(_autodiscover(servers, f"{local_part}@{servers.name}"))


@dataclass(frozen=True)
class _Refused(Exception):
    """A request that Autodiscover answers with an error of its own."""

    code: str
    message: str


_INVALID = _Refused("600", "Invalid Request")
_OTHER_SCHEMA = _Refused("601", "Provider is not available")
_NOT_HERE = _Refused("500", "The e-mail address cannot be found")


def _requested_address(body: bytes) -> str:
    """Return the address in an Autodiscover request. Raises _Refused."""
    try:
        request = defusedxml.ElementTree.fromstring(body, forbid_dtd=True)
    except (ElementTree.ParseError, DefusedXmlException, LookupError, ValueError):  # LookupError: its encoding
        raise _INVALID from None
    address = request.findtext(f"{_REQUEST}Request/{_REQUEST}EMailAddress", "").strip()
    schema = request.findtext(f"{_REQUEST}Request/{_REQUEST}AcceptableResponseSchema", _RESPONSE).strip()
    if schema != _RESPONSE:
        raise _OTHER_SCHEMA
    local_part, at, domain = address.rpartition("@")
    if not (local_part and at and domain) or len(address) > 254:
        raise _INVALID
    return address


def _client_config(servers: Servers) -> ElementTree.Element:
    document = ElementTree.Element("clientConfig", version="1.1")
    provider = ElementTree.SubElement(document, "emailProvider", id=servers.name)
    for name in ("domain", "displayName", "displayShortName"):
        ElementTree.SubElement(provider, name).text = servers.name
    for direction, protocol, host, port in (
        ("incomingServer", "imap", servers.imap_host, "993"),
        ("incomingServer", "pop3", servers.pop3_host, "995"),
        ("outgoingServer", "smtp", servers.smtp_host, "465"),
    ):
        server = ElementTree.SubElement(provider, direction, type=protocol)
        _add_texts(
            server,
            hostname=host,
            port=port,
            socketType="SSL",
            authentication="password-cleartext",
            username="%EMAILADDRESS%",
        )
    return document


def _autodiscover(servers: Servers, login: str) -> ElementTree.Element:
    document, response = _envelope(_RESPONSE)
    account = ElementTree.SubElement(response, "Account")
    _add_texts(account, AccountType="email", Action="settings")
    for protocol, host, port in (
        ("IMAP", servers.imap_host, "993"),
        ("POP3", servers.pop3_host, "995"),
        ("SMTP", servers.smtp_host, "465"),
    ):
        _add_texts(
            ElementTree.SubElement(account, "Protocol"),
            Type=protocol,
            Server=host,
            Port=port,
            DomainRequired="off",
            LoginName=login,
            SPA="off",
            SSL="on",
            Encryption="SSL",
            AuthRequired="on",
        )
    return document


def _autodiscover_error(refused: _Refused) -> ElementTree.Element:
    document, response = _envelope(_ENVELOPE)
    _add_texts(ElementTree.SubElement(response, "Error"), ErrorCode=refused.code, Message=refused.message, DebugData="")
    return document


def _envelope(namespace: str) -> tuple[ElementTree.Element, ElementTree.Element]:
    document = ElementTree.Element("Autodiscover", xmlns=_ENVELOPE)
    return document, ElementTree.SubElement(document, "Response", xmlns=namespace)


def _add_texts(parent: ElementTree.Element, **texts: str) -> None:
    for name, text in texts.items():
        ElementTree.SubElement(parent, name).text = text


def _xml(document: ElementTree.Element) -> web.Response:
    body = ElementTree.tostring(document, encoding="utf-8", xml_declaration=True)
    headers = {**HEADERS, hdrs.CONTENT_TYPE: "text/xml; charset=utf-8"}
    return web.Response(status=HTTPStatus.OK, body=body, headers=headers)
