"""REST routes of a service, read from the google.api.http annotations of its descriptor."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor

from postroomd.gateway.scalars import UnsupportedContract, scalar_of
from postroomd.gateway.urls import unquote

_LITERAL = re.compile(r"[A-Za-z0-9._~-]+")
_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")

Endpoint = TypeVar("Endpoint")


@dataclass(frozen=True)
class Route:
    """An HTTP method and path template, and the RPC that serves it."""

    http_method: str
    template: str  # "/mailbox/v1alpha1/domains/{domain_id}"
    path_fields: tuple[str, ...]  # ("domain_id",), in path order
    body: str  # "*": the whole request; a field name: that field; "": the body is ignored
    rpc: str  # "/postroom.v1alpha1.MailboxService/GetDomain"
    request: Descriptor
    response: Descriptor


def read_routes(services: Iterable[ServiceDescriptor]) -> tuple[Route, ...]:
    """Return the routes of all annotated RPCs, including additional bindings. Raises UnsupportedContract."""
    return tuple(route for service in services for method in service.methods for route in _routes_of(method))


def _routes_of(method: MethodDescriptor) -> Iterator[Route]:
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):  # gRPC only
        return
    if method.client_streaming or method.server_streaming:
        raise UnsupportedContract(f"{method.full_name}: streaming RPCs have no REST binding")
    rule = options.Extensions[annotations_pb2.http]
    for binding in (rule, *rule.additional_bindings):
        try:
            yield _route(method, binding)
        except UnsupportedContract as reason:
            raise UnsupportedContract(f"{method.full_name}: {reason}") from None


def _route(method: MethodDescriptor, rule: Any) -> Route:
    pattern = rule.WhichOneof("pattern")
    if pattern is None:
        raise UnsupportedContract("google.api.http has no path")
    custom = pattern == "custom"
    http_method, template = (
        (rule.custom.kind, rule.custom.path) if custom else (pattern.upper(), getattr(rule, pattern))
    )
    if not re.fullmatch(r"[A-Z]+", http_method):
        raise UnsupportedContract(f"{http_method!r} is not an HTTP method")
    if rule.response_body:
        raise UnsupportedContract("response_body is not implemented")
    path_fields = _path_fields(template, method.input_type)
    if rule.body not in ("", "*") and (rule.body not in method.input_type.fields_by_name or rule.body in path_fields):
        raise UnsupportedContract(f"body {rule.body!r} is not a field of {method.input_type.name} outside the path")
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
    """Return the names of the fields in a template such as `/domains/{domain_id}/records`, after checking it."""
    if not template.startswith("/"):
        raise UnsupportedContract(f"the path {template!r} does not start with a slash")
    names = []
    for segment in template.split("/")[1:]:
        variable = _VARIABLE.fullmatch(segment)
        if variable is None and not _LITERAL.fullmatch(segment):
            raise UnsupportedContract(
                f"{segment!r} in the path {template!r}: a segment must be a literal or one {{field}}"
            )
        if variable is not None:
            names.append(variable[1])
    for name in names:
        variable_field = request.fields_by_name.get(name)
        if (
            variable_field is None
            or variable_field.is_repeated
            or scalar_of(variable_field) is None
            or names.count(name) > 1
        ):
            raise UnsupportedContract(
                f"{{{name}}} in the path {template!r} is not a scalar field of {request.name}, used once"
            )
    return tuple(names)


class Match(NamedTuple, Generic[Endpoint]):
    """Endpoint of a request, its path template, and the variable segments of its path, percent-encoded."""

    endpoint: Endpoint
    template: str
    captured: tuple[str, ...]


@dataclass(frozen=True)
class MethodNotAllowed:
    """The path exists, but only with the methods in `allow`."""

    template: str
    allow: tuple[str, ...]


@dataclass
class _Node(Generic[Endpoint]):
    literals: "dict[str | None, _Node[Endpoint]]" = field(default_factory=dict)
    variable: "_Node[Endpoint] | None" = None
    template: str = ""
    endpoints: dict[str, Endpoint] = field(default_factory=dict)


class RouteTable(Generic[Endpoint]):
    """Trie of path segments; literal segments take precedence over variable ones."""

    def __init__(self) -> None:
        self._root: _Node[Endpoint] = _Node()
        self._endpoints: list[Endpoint] = []

    def add(self, http_method: str, template: str, endpoint: Endpoint) -> None:
        """Add an endpoint. Raises UnsupportedContract if the method and path already have one."""
        node = self._root
        for segment in template.split("/")[1:]:
            if segment.startswith("{"):
                node.variable = node = node.variable or _Node()
            else:
                node = node.literals.setdefault(segment, _Node())
        if http_method in node.endpoints:
            raise UnsupportedContract(f"{http_method} {template} conflicts with {node.template}")
        node.template = node.template or template
        node.endpoints[http_method] = endpoint
        self._endpoints.append(endpoint)

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._endpoints)

    def find(self, http_method: str, raw_path: str) -> Match[Endpoint] | MethodNotAllowed | None:
        """Return the match of a percent-encoded path, None for an unknown path. HEAD is served as GET."""
        return self._find_direct(http_method, raw_path) or self.find_with_backtracking(http_method, raw_path)

    def _find_direct(self, http_method: str, raw_path: str) -> Match[Endpoint] | None:
        """Fast path of `find`: no escapes, no backtracking, no HEAD."""
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
        return None if endpoint is None else Match(endpoint, node.template, tuple(captured))

    def find_with_backtracking(self, http_method: str, raw_path: str) -> Match[Endpoint] | MethodNotAllowed | None:
        """Return what `find` returns, without its fast path."""
        allow: set[str] = set()
        template = ""
        for node, captured in self._walk(raw_path.split("/")[1:]):
            served = "GET" if http_method == "HEAD" and "HEAD" not in node.endpoints else http_method
            if served in node.endpoints:
                return Match(node.endpoints[served], node.template, captured)
            template = template or node.template
            allow |= node.endpoints.keys() | ({"HEAD"} if "GET" in node.endpoints else set())
        return MethodNotAllowed(template, tuple(sorted(allow))) if allow else None

    def _walk(self, segments: Sequence[str]) -> Iterator[tuple[_Node[Endpoint], tuple[str, ...]]]:
        """Yield every node that matches the segments, literals first, with its captured segments."""
        pending: list[tuple[_Node[Endpoint], int, tuple[str, ...]]] = [(self._root, 0, ())]
        while pending:
            node, index, captured = pending.pop()
            if index == len(segments):
                if node.endpoints:
                    yield node, captured
                continue
            segment = segments[index]
            if node.variable is not None and segment:
                pending.append((node.variable, index + 1, (*captured, segment)))
            if (literal := node.literals.get(_decoded(segment))) is not None:
                pending.append((literal, index + 1, captured))


def _decoded(segment: str) -> str | None:
    """Return a segment without percent-encoding; None if it cannot be decoded."""
    try:
        return unquote(segment)
    except ValueError:
        return None
