"""The REST routes of a service, read from the google.api.http annotations of its descriptor and from nothing else."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor

from postroomd.gateway.scalars import Unsupported, scalar_of
from postroomd.gateway.urls import unquote

_LITERAL = re.compile(r"[A-Za-z0-9._~-]+")
_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")

Endpoint = TypeVar("Endpoint")


@dataclass(frozen=True)
class Route:
    """One HTTP method and path, and the RPC behind it."""

    http_method: str
    template: str  # "/mailbox/v1alpha1/domains/{domain_id}"
    path_fields: tuple[str, ...]  # ("domain_id",), in the order of the path
    body: str  # "*": the whole request; a field's name; "": the body is ignored
    rpc: str  # "/postroom.v1alpha1.MailboxService/GetDomain"
    request: Descriptor
    response: Descriptor


def read_routes(services: Iterable[ServiceDescriptor]) -> tuple[Route, ...]:
    """List the routes of all annotated RPCs, additional bindings included. Raises Unsupported."""
    return tuple(route for service in services for method in service.methods for route in _routes_of(method))


def _routes_of(method: MethodDescriptor) -> Iterator[Route]:
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):  # gRPC only
        return
    if method.client_streaming or method.server_streaming:
        raise Unsupported(f"{method.full_name}: a streaming RPC can't be served over REST")
    rule = options.Extensions[annotations_pb2.http]
    for binding in (rule, *rule.additional_bindings):
        try:
            yield _route(method, binding)
        except Unsupported as reason:
            raise Unsupported(f"{method.full_name}: {reason}") from None


def _route(method: MethodDescriptor, rule: Any) -> Route:
    pattern = rule.WhichOneof("pattern")
    if pattern is None:
        raise Unsupported("google.api.http names no path")
    custom = pattern == "custom"
    http_method, template = (
        (rule.custom.kind, rule.custom.path) if custom else (pattern.upper(), getattr(rule, pattern))
    )
    if not re.fullmatch(r"[A-Z]+", http_method):
        raise Unsupported(f"{http_method!r} is no HTTP method")
    if rule.response_body:
        raise Unsupported("response_body")
    path_fields = _path_fields(template, method.input_type)
    if rule.body not in ("", "*") and (rule.body not in method.input_type.fields_by_name or rule.body in path_fields):
        raise Unsupported(f"body {rule.body!r} is no field of {method.input_type.name} that the path leaves")
    service = method.containing_service
    return Route(
        http_method=http_method,
        template=template,
        path_fields=path_fields,
        body=rule.body,
        rpc=f"/{service.full_name}/{method.name}",
        request=method.input_type,
        response=method.output_type,
    )


def _path_fields(template: str, request: Descriptor) -> tuple[str, ...]:
    """Check a template such as `/domains/{domain_id}/records` and name the fields in it."""
    if not template.startswith("/"):
        raise Unsupported(f"the path {template!r} does not start with a slash")
    names = []
    for segment in template.split("/")[1:]:
        variable = _VARIABLE.fullmatch(segment)
        if variable is None and not _LITERAL.fullmatch(segment):
            raise Unsupported(f"{segment!r} in the path {template!r}: a segment is a word or one {{field}}")
        if variable is not None:
            names.append(variable[1])
    for name in names:
        found = request.fields_by_name.get(name)
        if found is None or found.is_repeated or scalar_of(found) is None or names.count(name) > 1:
            raise Unsupported(f"{{{name}}} in the path {template!r} is no single value of {request.name}")
    return tuple(names)


class Found(NamedTuple, Generic[Endpoint]):
    """The endpoint of a request, and the path's variable segments, still percent-encoded."""

    endpoint: Endpoint
    template: str
    captured: tuple[str, ...]


@dataclass(frozen=True)
class NotAllowed:
    """The path exists, but not with this method."""

    template: str
    allow: tuple[str, ...]


@dataclass
class _Node(Generic[Endpoint]):
    literals: "dict[str | None, _Node[Endpoint]]" = field(default_factory=dict)
    variable: "_Node[Endpoint] | None" = None
    template: str = ""
    endpoints: dict[str, Endpoint] = field(default_factory=dict)


class RouteTable(Generic[Endpoint]):
    """Finds endpoints by method and path; a literal segment goes before a variable one."""

    def __init__(self) -> None:
        self._root: _Node[Endpoint] = _Node()
        self._endpoints: list[Endpoint] = []

    def add(self, http_method: str, template: str, endpoint: Endpoint) -> None:
        """Serve a path with one method. Raises Unsupported where it is served already."""
        node = self._root
        for segment in template.split("/")[1:]:
            if segment.startswith("{"):
                node.variable = node = node.variable or _Node()
            else:
                node = node.literals.setdefault(segment, _Node())
        if http_method in node.endpoints:
            raise Unsupported(f"{http_method} {template} is taken by {node.template}")
        node.template = node.template or template
        node.endpoints[http_method] = endpoint
        self._endpoints.append(endpoint)

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._endpoints)

    def find(self, http_method: str, raw_path: str) -> Found[Endpoint] | NotAllowed | None:
        """Look up a request's path as it came, percent-encoded. HEAD is served as GET; None: no such path."""
        return self._find_straight(http_method, raw_path) or self.find_plainly(http_method, raw_path)

    def _find_straight(self, http_method: str, raw_path: str) -> Found[Endpoint] | None:
        """Go the one way that most requests go: no escapes, no turning back, a method that is there."""
        if "%" in raw_path:
            return None
        node, captured = self._root, []
        for segment in raw_path.split("/")[1:]:
            if (literal := node.literals.get(segment)) is not None:
                node = literal
            elif node.variable is not None and segment:
                node = node.variable
                captured.append(segment)
            else:
                return None
        endpoint = node.endpoints.get(http_method)
        return None if endpoint is None else Found(endpoint, node.template, tuple(captured))

    def find_plainly(self, http_method: str, raw_path: str) -> Found[Endpoint] | NotAllowed | None:
        """The same, whatever the request."""
        allow: set[str] = set()
        template = ""
        for node, captured in self._walk(raw_path.split("/")[1:]):
            served = "GET" if http_method == "HEAD" and "HEAD" not in node.endpoints else http_method
            if served in node.endpoints:
                return Found(node.endpoints[served], node.template, captured)
            template = template or node.template
            allow |= node.endpoints.keys() | ({"HEAD"} if "GET" in node.endpoints else set())
        return NotAllowed(template, tuple(sorted(allow))) if allow else None

    def _walk(self, segments: Sequence[str]) -> Iterator[tuple[_Node[Endpoint], tuple[str, ...]]]:
        """Every node that the segments lead to, by literals first, and what was captured on the way."""
        ways: list[tuple[_Node[Endpoint], int, tuple[str, ...]]] = [(self._root, 0, ())]
        while ways:
            node, at, captured = ways.pop()
            if at == len(segments):
                if node.endpoints:
                    yield node, captured
                continue
            segment = segments[at]
            if node.variable is not None and segment:
                ways.append((node.variable, at + 1, (*captured, segment)))
            if (literal := node.literals.get(_decoded(segment))) is not None:
                ways.append((literal, at + 1, captured))


def _decoded(segment: str) -> str | None:
    """A segment as literals are spelled; None where it can't be one."""
    try:
        return unquote(segment)
    except ValueError:
        return None
