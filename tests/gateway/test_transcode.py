"""Decoding of path, query and body into one message."""

from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from postroomd.gateway.routes import Route, read_routes
from postroomd.gateway.scalars import scalar_of
from postroomd.gateway.transcode import Transcoder
from postroomd.gateway.violations import InvalidArguments
from tests.gateway.contract import METHODS, SERVICE
from tests.gateway.parcel_contract import PARCELS

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


def violations_of(
    route: str | Route, captured: tuple[str, ...] = (), query: str = "", body: bytes = b""
) -> dict[str, str]:
    with pytest.raises(InvalidArguments) as caught:
        decode(route, captured, query, body)
    return {violation.argument_name: violation.reason for violation in caught.value.violations}


def test_a_query_is_decoded_into_a_message() -> None:
    message = decode(
        FIND,
        query="a_string=a+b%20c%2Bd%C3%A9&sizes=small&sizes=large&number=-42&flag=true&weight=-1.5e3"
        "&since=2026-01-31T12:00:00Z&seal=AAE%3D&size=large&words=&words=a%26b",
    )
    assert (message.a_string, list(message.sizes), message.number, message.flag) == ("a b c+dé", [1, 2], -42, True)
    assert (message.weight, message.since.seconds, message.seal, message.size) == (
        -1500.0,
        1_769_860_800,
        b"\x00\x01",
        2,
    )
    assert list(message.words) == ["a&b"]


@pytest.mark.parametrize(
    "query",
    [
        *("", "&", "&&", "domain_id=", "order_by=created_at_desc", "statuses=unknown_status", "search", "page=0"),
        *("page=", "page=&page=", "order_by=", "statuses=", "statuses=&statuses=", "page=&order_by&statuses&search="),
    ],
)
def test_unset_query_parameters_are_not_set(query: str) -> None:
    assert decode(LIST_MAILBOXES, query=query) == decode(LIST_MAILBOXES)


def test_an_empty_parameter_does_not_count_as_a_repetition() -> None:
    assert decode(LIST_MAILBOXES, query="page=&page=2&statuses=&statuses=ready") == decode(
        LIST_MAILBOXES, query="page=2&statuses=ready"
    )


@pytest.mark.parametrize("name", ["flag", "weight", "number", "since", "seal", "size", "sizes", "words", "a_string"])
def test_an_empty_parameter_of_any_type_is_not_set(name: str) -> None:
    assert decode(FIND, query=f"{name}=") == decode(FIND)


def test_an_empty_unknown_parameter_is_unknown() -> None:
    assert violations_of(LIST_MAILBOXES, query="status=") == {"status": "unknown"}


def test_the_zero_value_is_dropped_from_a_list_in_a_query() -> None:
    assert list(decode(LIST_MAILBOXES, query="statuses=ready&statuses=unknown_status&statuses=locked").statuses) == [
        4,
        6,
    ]


@pytest.mark.parametrize(
    ("route", "query", "expected"),
    [
        *[(LIST_MAILBOXES, f"page={text}", {"page": "format"}) for text in ("+1", "%2B1", "%201", "1_0", "0x1", "1.0")],
        *[(LIST_MAILBOXES, f"page={text}", {"page": "format"}) for text in ("%D9%A1", "--1", "-", "1e3", "9" * 5000)],
        *[(LIST_MAILBOXES, f"page={text}", {"page": "constraint"}) for text in (2**31, -(2**31) - 1, "9" * 100)],
        *[(LIST_MAILBOXES, f"order_by={text}", {"order_by": "constraint"}) for text in ("0", "EMAIL_ASC", "x")],
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
        (FIND, "flag=1&weight=NaN&number=x&since=now", dict.fromkeys(["flag", "weight", "number", "since"], "format")),
        (FIND, "flag=&weight=&since=&seal=%C3%A9", {"seal": "format"}),
        (FIND, f"weight=1e9999&number={2**63}", {"weight": "constraint", "number": "constraint"}),
        (UPDATE_MAILBOX, "new_password=x&mailbox_id=y", {"new_password": "unknown", "mailbox_id": "unknown"}),
        (PURGE, "number=1", {"number": "unknown"}),
    ],
)
def test_each_violation_in_a_query_is_named(route: str, query: str, expected: dict[str, str]) -> None:
    assert violations_of(route, ("a", "1")[: len(ROUTES[route].path_fields)], query) == expected


def test_path_segments_are_decoded_into_scalar_fields() -> None:
    message = decode(PURGE, ("a%20b%2Fc", "-42"), "flag=true")
    assert (message.a_string, message.number, message.flag) == ("a b/c", -42, True)


@pytest.mark.parametrize(
    ("captured", "expected"),
    [
        (("%ff", "1"), {"a_string": "format"}),
        (("%", "1.0"), {"a_string": "format", "number": "format"}),
        (("a", str(2**63)), {"number": "constraint"}),
    ],
)
def test_each_violation_in_a_path_is_named(captured: tuple[str, ...], expected: dict[str, str]) -> None:
    assert violations_of(PURGE, captured) == expected


def test_a_path_field_is_unknown_in_the_body() -> None:
    message = decode(UPDATE_MAILBOX, ("an-id",), body=b'{"subscription_period": "yearly"}')
    assert (message.mailbox_id, message.subscription_period) == ("an-id", 3)
    assert violations_of(UPDATE_MAILBOX, ("an-id",), body=b'{"mailbox_id": "an-id"}') == {"mailbox_id": "unknown"}


def test_the_body_can_be_one_field_and_the_query_the_others() -> None:
    message = decode(STAMP, ("an-id",), "loud=true", b'{"motif": "owl", "size": "large"}')
    assert (message.a_string, message.loud, message.stamp.motif, message.stamp.size) == ("an-id", True, "owl", 2)
    assert not decode(STAMP, ("an-id",)).HasField("stamp")
    assert decode(STAMP, ("an-id",), body=b"{}").HasField("stamp")
    assert violations_of(STAMP, ("an-id",), "stamp=1&hush=1", b'{"motif": 1}') == {
        "stamp": "unknown",
        "hush": "unknown",
        "stamp.motif": "format",
    }


def test_violations_of_path_query_and_body_come_together() -> None:
    found = violations_of(UPDATE_MAILBOX, ("%ff",), "a=1", b'{"new_password": 1, "b": 2}')
    assert found == {"mailbox_id": "format", "a": "unknown", "new_password": "format", "b": "unknown"}


PLACES = [
    pytest.param(route, field, id=f"{route.http_method} {route.template} {field.name}")
    for route in read_routes([SERVICE])
    for field in route.request.fields
]


@pytest.mark.parametrize(("route", "field"), PLACES)
def test_every_request_field_has_exactly_one_place(route: Route, field: FieldDescriptor) -> None:
    """Path fields belong to the path, others to the body if the route has one, else to the query."""
    captured = ("an-id",) * len(route.path_fields)
    enum = field.enum_type
    text = enum.values[1].name.lower() if enum else "true" if field.type == FieldDescriptor.TYPE_BOOL else "1"
    is_text = enum or field.type == FieldDescriptor.TYPE_STRING
    value: Any = f'"{text}"' if is_text else text
    if scalar_of(field) is None:
        value = "{}"
    in_body = f'{{"{field.name}": {f"[{value}]" if field.is_repeated else value}}}'.encode()
    in_query = f"{field.name}={text}"
    if field.name in route.path_fields:
        assert getattr(decode(route, captured), field.name) == "an-id"
        assert violations_of(route, captured, in_query) == {field.name: "unknown"}
        assert not route.body or violations_of(route, captured, body=in_body) == {field.name: "unknown"}
    elif route.body:
        assert decode(route, captured, body=in_body).ListFields()[-1][0].name == field.name or field.number == 1
        assert violations_of(route, captured, in_query) == {field.name: "unknown"}
    else:
        assert field.name in [each.name for each, _ in decode(route, captured, in_query).ListFields()]
        assert decode(route, captured, "", in_body) == decode(route, captured)  # the body is ignored


def test_the_table_covers_every_rpc() -> None:
    assert {route.rpc for route in read_routes([SERVICE])} == {f"/{SERVICE.full_name}/{rpc.name}" for rpc in METHODS}
