from collections.abc import Callable
from contextlib import suppress

import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from postroomd.gateway.endpoints import EndpointOptions
from postroomd.gateway.handler import Gateway, api_endpoints
from postroomd.gateway.routes import Match, MethodNotAllowed, RouteTable, read_routes
from postroomd.gateway.scalars import UnsupportedContract
from tests.gateway.contract import METHODS, SERVICE
from tests.gateway.parcel_contract import PARCELS, STAMP, field, message, method, service

# REST surface of the contract, independent of the annotations.
SURFACE = {  # RPC -> its main route
    "CreateDomain": "POST /domains",
    "ListDomains": "GET /domains",
    "GetDomain": "GET /domains/{domain_id}",
    "DeleteDomain": "DELETE /domains/{domain_id}",
    "GetDomainRecords": "GET /domains/{domain_id}/records",
    "ValidateDomainRecords": "POST /domains/{domain_id}/validate-records",
    "BatchCreateMailboxes": "POST /batch-create-mailboxes",
    "ListMailboxes": "GET /mailboxes",
    "GetMailbox": "GET /mailboxes/{mailbox_id}",
    "UpdateMailbox": "PATCH /mailboxes/{mailbox_id}",
    "DeleteMailbox": "DELETE /mailboxes/{mailbox_id}",
    "RestoreMailbox": "POST /mailboxes/{mailbox_id}/restore",
    "CreateAlias": "POST /aliases",
    "ListAliases": "GET /aliases",
    "GetAlias": "GET /aliases/{alias_id}",
    "UpdateAlias": "PATCH /aliases/{alias_id}",
    "DeleteAlias": "DELETE /aliases/{alias_id}",
    "CreateForwarding": "POST /forwardings",
    "ListForwardings": "GET /forwardings",
    "GetForwarding": "GET /forwardings/{forwarding_id}",
    "UpdateForwarding": "PATCH /forwardings/{forwarding_id}",
    "DeleteForwarding": "DELETE /forwardings/{forwarding_id}",
    "GetMailboxForwarding": "GET /mailboxes/{mailbox_id}/forwarding",
    "UpdateMailboxForwarding": "PATCH /mailboxes/{mailbox_id}/forwarding",
}
ADDITIONAL = {
    "CreateAlias": ["POST /mailboxes/{mailbox_id}/aliases"],
    "ListAliases": ["GET /mailboxes/{mailbox_id}/aliases"],
}


def test_the_annotations_match_the_documented_surface() -> None:
    routes: dict[str, list[str]] = {}
    for route in read_routes([SERVICE]):
        surface = f"{route.http_method} {route.template.removeprefix('/mailbox/v1alpha1')}"
        routes.setdefault(route.rpc.rpartition("/")[2], []).append(surface)
    assert routes == {rpc: [surface, *ADDITIONAL.get(rpc, ())] for rpc, surface in SURFACE.items()}


@pytest.mark.parametrize("rpc", METHODS, ids=lambda rpc: rpc.name)
def test_every_rpc_is_found_by_its_path_only(rpc: MethodDescriptor) -> None:
    table = RouteTable[str]()
    for route in read_routes([SERVICE]):
        table.add(route.http_method, route.template, route.rpc)
    rule = rpc.GetOptions().Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    template = getattr(rule, verb)
    path = "/".join("an-id" if segment.startswith("{") else segment for segment in template.split("/"))
    found = table.find(verb.upper(), path)
    assert isinstance(found, Match)
    assert found.endpoint == f"/{SERVICE.full_name}/{rpc.name}"
    assert (found.template, found.captured) == (template, ("an-id",) * template.count("{"))
    assert table.find(verb.upper(), path + "/") is None
    assert table.find(verb.upper(), path + "/even/more/of/it") is None


def test_all_kinds_of_bindings_become_routes() -> None:
    assert [(route.http_method, route.template, route.path_fields, route.body) for route in read_routes([PARCELS])] == [
        ("POST", "/v1/parcels", (), "*"),
        ("PUT", "/v1/parcels/{a_string}", ("a_string",), "*"),
        ("PATCH", "/v1/parcels/{a_string}/stamp", ("a_string",), "stamp"),
        ("GET", "/v1/parcels/{a_string}", ("a_string",), ""),
        ("GET", "/v1/parcels/latest", (), ""),
        ("PURGE", "/v1/parcels/{a_string}/of/{number}", ("a_string", "number"), ""),
    ]


@pytest.fixture(scope="module")
def table() -> RouteTable[str]:
    table = RouteTable[str]()
    for verb, template in [
        ("GET", "/a"),
        ("POST", "/a"),
        ("GET", "/a/{x}"),
        ("PUT", "/a/{y}"),
        ("GET", "/a/b"),
        ("GET", "/a/b/c"),
        ("GET", "/a/{x}/d"),
    ]:
        table.add(verb, template, f"{verb} {template}")
    return table


@pytest.mark.parametrize(
    ("verb", "path", "endpoint", "captured"),
    [
        ("GET", "/a", "GET /a", ()),
        ("HEAD", "/a", "GET /a", ()),
        ("GET", "/%61", "GET /a", ()),
        ("GET", "/a/b", "GET /a/b", ()),
        ("PUT", "/a/b", "PUT /a/{y}", ("b",)),
        ("GET", "/a/b/d", "GET /a/{x}/d", ("b",)),
        ("GET", "/a/b%2Fc", "GET /a/{x}", ("b%2Fc",)),
        ("GET", "/a/%ff", "GET /a/{x}", ("%ff",)),
    ],
)
def test_literals_take_precedence_over_variables(
    table: RouteTable[str], verb: str, path: str, endpoint: str, captured: tuple[str, ...]
) -> None:
    found = table.find(verb, path)
    assert isinstance(found, Match)
    assert (found.endpoint, found.captured) == (endpoint, captured)


@pytest.mark.parametrize("path", ["", "*", "/", "/b", "/a/", "//a", "/a//d", "/A", "/a/b/c/d", "/%zz"])
def test_unknown_paths_are_not_found(table: RouteTable[str], path: str) -> None:
    assert table.find("GET", path) is None


@pytest.mark.parametrize(
    ("path", "allow"), [("/a", ("GET", "HEAD", "POST")), ("/a/b", ("GET", "HEAD", "PUT")), ("/a/b/c", ("GET", "HEAD"))]
)
def test_a_wrong_method_gets_the_allowed_ones(table: RouteTable[str], path: str, allow: tuple[str, ...]) -> None:
    found = table.find("DELETE", path)
    assert isinstance(found, MethodNotAllowed)
    assert found.allow == allow


WORD = message("Word", field("string", "word", 1), field("string", "words", 2, repeated=True))
Make = Callable[[], list[descriptor_pb2.MethodDescriptorProto]]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"get": "v1/words"}, "does not start with a slash"),
        ({"get": "/v1/words/*"}, r"'\*' in the path"),
        ({"get": "/v1/{word=words/*}"}, "a segment must be a literal or one"),
        ({"get": "/v1/words:count"}, "'words:count' in the path"),
        ({"get": "/v1//words"}, "'' in the path"),
        ({"get": "/v1/{other}"}, "{other} .* is not a scalar field of Word"),
        ({"get": "/v1/{words}"}, "{words} .* is not a scalar field of Word"),
        ({"get": "/v1/{word}/{word}"}, "{word} .* is not a scalar field of Word"),
        ({"get": "/v1/{word.letter}"}, "a segment must be a literal or one"),
        ({"post": "/v1/words", "body": "other"}, "body 'other' is not a field of Word"),
        ({"post": "/v1/words/{word}", "body": "word"}, "body 'word' is not a field of Word outside the path"),
        ({"get": "/v1/words", "response_body": "words"}, "response_body"),
        ({"custom": {"kind": "*", "path": "/v1/words"}}, r"'\*' is not an HTTP method"),
        ({"body": "*"}, "has no path"),
        ({"get": "/v1/words", "additional_bindings": [{"get": "/v1/*"}]}, r"'\*' in the path"),
        (
            {"get": "/v1/words", "additional_bindings": [{"get": "/v1/words"}]},
            "GET /v1/words conflicts with /v1/words",
        ),
        ({"get": "/healthz"}, "GET /healthz conflicts"),
        ({"get": "/v1/words", "streams": True}, "streaming"),
    ],
)
def test_unsupported_bindings_are_rejected_at_start(rule: dict[str, object], reason: str) -> None:
    sample = service([WORD], [method("Say", "Word", "Word", **rule)])  # type: ignore[arg-type]
    with pytest.raises(UnsupportedContract, match=reason):
        Gateway(api_endpoints([sample], EndpointOptions()))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([field(".PACKAGE.Odd", "odd", 1)], "is recursive"),
        ([field(".google.protobuf.Struct", "odd", 1)], r"Odd.odd has type google.protobuf.Struct, whose JSON form"),
    ],
)
@pytest.mark.parametrize(("request_type", "response_type"), [("Odd", "Word"), ("Word", "Odd")])
def test_messages_without_json_form_are_rejected_at_start(
    fields: list[descriptor_pb2.FieldDescriptorProto], reason: str, request_type: str, response_type: str
) -> None:
    sample = service(
        [WORD, message("Odd", *fields)], [method("Say", request_type, response_type, post="/v1", body="*")]
    )
    with pytest.raises(UnsupportedContract, match=reason):
        Gateway(api_endpoints([sample], EndpointOptions()))


def test_message_types_in_the_query_are_rejected_at_start() -> None:
    sample = service(
        [STAMP, message("Odd", field(".PACKAGE.Stamp", "stamp", 1))], [method("Say", "Odd", "Odd", get="/v1")]
    )
    with pytest.raises(UnsupportedContract, match=r"Odd.stamp has a message type, which only the body can carry"):
        Gateway(api_endpoints([sample], EndpointOptions()))


# Few distinct segments, so that many paths match several templates.
TEMPLATES = st.lists(st.sampled_from(["a", "{x}"]), min_size=1, max_size=3).map(lambda found: "/" + "/".join(found))
PATHS = st.lists(st.sampled_from(["a", "b", "", "%61", "%2"]), max_size=4).map("/".join)


@settings(max_examples=500, deadline=None)
@given(
    st.dictionaries(st.tuples(st.sampled_from(["GET", "PUT"]), TEMPLATES), st.integers(), min_size=3),
    st.sampled_from(["GET", "HEAD", "PUT", "BREW"]),
    PATHS,
)
def test_the_fast_path_finds_what_backtracking_finds(
    routes: dict[tuple[str, str], int], http_method: str, path: str
) -> None:
    table = RouteTable[int]()
    for (served, template), endpoint in routes.items():
        with suppress(UnsupportedContract):  # equal paths with different variable names
            table.add(served, template, endpoint)
    assert table.find(http_method, f"/{path}") == table.find_with_backtracking(http_method, f"/{path}")
