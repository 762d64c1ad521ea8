"""The parts of an HTTP request, made into one message."""

from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from postroomd.gateway.routes import Route, read_routes
from postroomd.gateway.scalars import scalar_of
from postroomd.gateway.transcode import Transcoder
from postroomd.gateway.violations import InvalidArguments
from tests.gateway.contract import METHODS, SERVICE
from tests.gateway.sample_contract import PARCELS

ROUTES = {f"{route.http_method} {route.template}": route for route in read_routes([SERVICE, PARCELS])}
LIST_MAILBOXES = "GET /mailbox/v1alpha1/mailboxes"
UPDATE_MAILBOX = "PATCH /mailbox/v1alpha1/mailboxes/{mailbox_id}"
FIND, PURGE, STAMP = (
    "GET /v1/parcels/latest",
    "PURGE /v1/parcels/{a_string}/of/{number}",
    "PATCH /v1/parcels/{a_string}/stamp",
)


def decode(route: str | Route, captured: tuple[str, ...] = (), query: str = "", body: bytes = b"") -> Any:
    return Transcoder(ROUTES[route] if isinstance(route, str) else route).decode(captured, query, body)


def faults(route: str | Route, captured: tuple[str, ...] = (), query: str = "", body: bytes = b"") -> dict[str, str]:
    with pytest.raises(InvalidArguments) as caught:
        decode(route, captured, query, body)
    return {violation.argument_name: violation.reason for violation in caught.value.violations}


def test_a_query_makes_a_message() -> None:
    made = decode(
        FIND,
        query="a_string=a+b%20c%2Bd%C3%A9&sizes=small&sizes=large&number=-42&flag=true&weight=-1.5e3"
        "&since=2026-01-31T12:00:00Z&seal=AAE%3D&size=large&words=&words=a%26b",
    )
    assert (made.a_string, list(made.sizes), made.number, made.flag) == ("a b c+dé", [1, 2], -42, True)
    assert (made.weight, made.since.seconds, made.seal, made.size) == (-1500.0, 1_769_860_800, b"\x00\x01", 2)
    assert list(made.words) == ["", "a&b"]


@pytest.mark.parametrize(
    "query", ["", "&", "&&", "domain_id=", "order_by=created_at_desc", "statuses=unknown_status", "search", "page=0"]
)
def test_what_is_not_set_in_a_query_is_not_set(query: str) -> None:
    assert decode(LIST_MAILBOXES, query=query) == decode(LIST_MAILBOXES)


def test_the_zero_value_is_dropped_from_a_list_in_a_query() -> None:
    assert list(decode(LIST_MAILBOXES, query="statuses=ready&statuses=unknown_status&statuses=locked").statuses) == [
        4,
        6,
    ]


@pytest.mark.parametrize(
    ("route", "query", "expected"),
    [
        *[
            (LIST_MAILBOXES, f"page={text}", {"page": "format"})
            for text in ("", "+1", "%2B1", "%201", "1_0", "0x1", "1.0")
        ],
        *[(LIST_MAILBOXES, f"page={text}", {"page": "format"}) for text in ("%D9%A1", "--1", "-", "1e3", "9" * 5000)],
        *[(LIST_MAILBOXES, f"page={text}", {"page": "constraint"}) for text in (2**31, -(2**31) - 1, "9" * 100)],
        *[(LIST_MAILBOXES, f"order_by={text}", {"order_by": "constraint"}) for text in ("0", "EMAIL_ASC", "x")],
        (LIST_MAILBOXES, "order_by=", {"order_by": "format"}),
        (LIST_MAILBOXES, "statuses=", {"statuses": "format"}),
        (LIST_MAILBOXES, "statuses=ready,locked", {"statuses": "constraint"}),
        (LIST_MAILBOXES, "page=1&page=1", {"page": "format"}),
        (LIST_MAILBOXES, "order_by=email_asc&order_by=email_desc", {"order_by": "format"}),
        (LIST_MAILBOXES, "status=ready&Page=1&=", {"status": "unknown", "Page": "unknown", "": "unknown"}),
        *[
            (LIST_MAILBOXES, f"search={text}", {"search": "format"})
            for text in ("%", "%4", "%zz", "%ff", "%C3", "%ED%A0%80")
        ],
        (LIST_MAILBOXES, "search=\udcff", {"search": "format"}),
        (LIST_MAILBOXES, "%ff=1&search=a", {"query": "format"}),
        (LIST_MAILBOXES, "page=x&order_by=y&z=1", {"page": "format", "order_by": "constraint", "z": "unknown"}),
        (FIND, "flag=1&weight=NaN&number=&since=now", dict.fromkeys(["flag", "weight", "number", "since"], "format")),
        (FIND, "flag=&weight=&since=&seal=%C3%A9", dict.fromkeys(["flag", "weight", "since", "seal"], "format")),
        (FIND, f"weight=1e9999&number={2**63}", {"weight": "constraint", "number": "constraint"}),
        (UPDATE_MAILBOX, "new_password=x&mailbox_id=y", {"new_password": "unknown", "mailbox_id": "unknown"}),
        (PURGE, "number=1", {"number": "unknown"}),
    ],
)
def test_each_fault_of_a_query_is_named(route: str, query: str, expected: dict[str, str]) -> None:
    assert faults(route, ("a", "1")[: len(ROUTES[route].path_fields)], query) == expected


def test_a_path_makes_fields_of_any_single_value() -> None:
    made = decode(PURGE, ("a%20b%2Fc", "-42"), "flag=true")
    assert (made.a_string, made.number, made.flag) == ("a b/c", -42, True)


@pytest.mark.parametrize(
    ("captured", "expected"),
    [
        (("%ff", "1"), {"a_string": "format"}),
        (("%", "1.0"), {"a_string": "format", "number": "format"}),
        (("a", str(2**63)), {"number": "constraint"}),
    ],
)
def test_each_fault_of_a_path_is_named(captured: tuple[str, ...], expected: dict[str, str]) -> None:
    assert faults(PURGE, captured) == expected


def test_a_field_of_the_path_is_not_taken_from_the_body() -> None:
    made = decode(UPDATE_MAILBOX, ("an-id",), body=b'{"subscription_period": "yearly"}')
    assert (made.mailbox_id, made.subscription_period) == ("an-id", 3)
    assert faults(UPDATE_MAILBOX, ("an-id",), body=b'{"mailbox_id": "an-id"}') == {"mailbox_id": "unknown"}


def test_a_body_can_be_one_field_while_the_query_holds_the_others() -> None:
    made = decode(STAMP, ("an-id",), "loud=true", b'{"motif": "owl", "size": "large"}')
    assert (made.a_string, made.loud, made.stamp.motif, made.stamp.size) == ("an-id", True, "owl", 2)
    assert not decode(STAMP, ("an-id",)).HasField("stamp")
    assert decode(STAMP, ("an-id",), body=b"{}").HasField("stamp")
    assert faults(STAMP, ("an-id",), "stamp=1&hush=1", b'{"motif": 1}') == {
        "stamp": "unknown",
        "hush": "unknown",
        "stamp.motif": "format",
    }


def test_the_faults_of_path_query_and_body_come_together() -> None:
    found = faults(UPDATE_MAILBOX, ("%ff",), "a=1", b'{"new_password": 1, "b": 2}')
    assert found == {"mailbox_id": "format", "a": "unknown", "new_password": "format", "b": "unknown"}


PLACES = [
    pytest.param(route, field, id=f"{route.rpc.rpartition('/')[2]}.{field.name}")
    for route in read_routes([SERVICE])
    for field in route.request.fields
]


@pytest.mark.parametrize(("route", "field"), PLACES)
def test_every_field_of_every_request_can_be_sent_and_is_refused_elsewhere(
    route: Route, field: FieldDescriptor
) -> None:
    """In the path, else in the body where the RPC has one, else in the query."""
    captured = ("an-id",) * len(route.path_fields)
    enum = field.enum_type
    text = enum.values[1].name.lower() if enum else "1"
    is_text = enum or field.type == FieldDescriptor.TYPE_STRING
    one: Any = f'"{text}"' if is_text else text
    if scalar_of(field) is None:
        one = "{}"
    in_body = f'{{"{field.name}": {f"[{one}]" if field.is_repeated else one}}}'.encode()
    in_query = f"{field.name}={text}"
    if field.name in route.path_fields:
        assert getattr(decode(route, captured), field.name) == "an-id"
        assert faults(route, captured, in_query) == {field.name: "unknown"}
        assert not route.body or faults(route, captured, body=in_body) == {field.name: "unknown"}
    elif route.body:
        assert decode(route, captured, body=in_body).ListFields()[-1][0].name == field.name or field.number == 1
        assert faults(route, captured, in_query) == {field.name: "unknown"}
    else:
        assert field.name in [each.name for each, _ in decode(route, captured, in_query).ListFields()]
        assert decode(route, captured, "", in_body) == decode(route, captured)  # the body is ignored


def test_every_rpc_has_been_tried() -> None:
    assert {route.rpc for route in read_routes([SERVICE])} == {f"/{SERVICE.full_name}/{rpc.name}" for rpc in METHODS}
