"""Responses, bodies and logs of the gateway over real sockets."""

import gzip
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor

from postroom.v1alpha1.alias_pb2 import Alias, CreateAliasRequest, ListAliasesRequest
from postroom.v1alpha1.mailbox_pb2 import ListMailboxesResponse, Mailbox
from tests.gateway.client import PREFIX, TOKEN, Client, Start
from tests.gateway.contract import METHODS
from tests.gateway.parcel_contract import PARCEL, PARCELS
from tests.gateway.test_routes import SURFACE

ALIAS_ID = "0e8a3b52-6bd6-4c35-a5a0-6e4bb2a1a5f7"


@pytest.mark.parametrize("rpc", METHODS, ids=lambda rpc: rpc.name)
async def test_every_rpc_is_served(call: Client, rpc: MethodDescriptor) -> None:
    verb, path = SURFACE[rpc.name].split()
    response = await call(verb, PREFIX + path.replace("{", "").replace("}", ""))
    if rpc.output_type.fields:
        assert response.status == 200
        assert list(response.json) == [field.name for field in rpc.output_type.fields if not field.containing_oneof]
    else:
        assert (response.status, response.raw) == (204, b"")
    (received,) = call.stub.calls
    assert received.rpc == rpc.name
    for field in rpc.input_type.fields:
        if f"{{{field.name}}}" in path:
            assert getattr(received.request, field.name) == field.name
    assert (
        received.metadata.items() >= {"x-auth-token": TOKEN, "x-request-id": response.headers["X-Request-Id"]}.items()
    )
    assert 25 < received.seconds_left < 31


async def test_responses_are_json_and_not_cacheable(call: Client) -> None:
    call.stub.respond_with(
        "ListMailboxes", ListMailboxesResponse(total_count=1, mailboxes=[Mailbox(id="a", status=Mailbox.READY)])
    )
    response = await call("GET", "/mailboxes?statuses=ready&statuses=locked&page_size=1000")
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.json["total_count"] == 1
    assert response.json["mailboxes"][0]["status"] == "ready"
    assert list(call.stub.calls[0].request.statuses) == [Mailbox.READY, Mailbox.LOCKED]


async def test_an_alias_can_be_created_and_listed_under_its_mailbox(call: Client) -> None:
    path = f"/mailboxes/{ALIAS_ID}/aliases"
    assert (await call("POST", path, json={"local_part": "info", "description": "a"})).status == 200
    assert (await call("GET", f"{path}?page=2&status=ready")).status == 200
    created, listed = (received.request for received in call.stub.calls)
    assert created == CreateAliasRequest(mailbox_id=ALIAS_ID, local_part="info", description="a")
    assert listed == ListAliasesRequest(mailbox_id=ALIAS_ID, page=2, status=Alias.READY)


async def test_a_mailbox_id_besides_the_one_in_the_path_is_unknown(call: Client) -> None:
    path = f"/mailboxes/{ALIAS_ID}/aliases"
    unknown = {"mailbox_id": "unknown"}
    assert (await call("POST", path, json={"local_part": "info", "mailbox_id": ALIAS_ID})).violations == unknown
    assert (await call("POST", f"{path}?mailbox_id={ALIAS_ID}", json={"local_part": "info"})).violations == unknown
    assert (await call("GET", f"{path}?mailbox_id={ALIAS_ID}")).violations == unknown
    assert not call.stub.calls


async def test_a_message_without_fields_is_204_without_body_and_length(call: Client) -> None:
    response = await call("POST", "/domains/an-id/validate-records", json={})
    assert (response.status, response.raw) == (204, b"")
    assert response.headers["Content-Type"] == "application/json"
    assert not {"Content-Length", "Transfer-Encoding"} & set(response.headers)
    assert response.headers["Cache-Control"] == "no-store"
    # The connection stays usable: the client does not wait for a body.
    assert (await call("GET", "/domains")).status == 200


@pytest.fixture
async def parcels(start: Start) -> Client:
    return await start([PARCELS])


async def test_any_annotated_contract_is_served(parcels: Client) -> None:
    async def echo(request: Any, _: Any) -> Any:
        return request

    parcels.stub.behaviors.update(Send=echo, Stamp=echo, Find=echo, Latest=echo, Purge=echo)
    sent = {"a_string": "a", "some_size": ["large"], "by_number": {"7": "small"}, "a_took": "1.5s", "label_number": 0}
    response = await parcels("POST", "/v1/parcels", json=sent)
    assert response.status == 200
    assert list(response.json) == [
        field.name
        for field in PARCEL.fields
        if field.message_type is not None or not field.has_presence or field.name in sent
    ]
    assert sent.items() <= response.json.items()
    response = await parcels("PUT", "/v1/parcels/b", json={"a_int64": 2**53 + 1})
    assert (response.json["a_string"], response.json["a_int64"]) == ("b", 2**53 + 1)
    response = await parcels("PATCH", "/v1/parcels/c/stamp?loud=true", json={"motif": "owl"})
    assert response.json == {"a_string": "c", "stamp": {"motif": "owl", "size": "unknown_size"}, "loud": True}
    assert (await parcels("GET", "/v1/parcels/latest")).json["a_string"] == ""
    assert (await parcels("GET", "/v1/parcels/d%2Fe?number=1")).json["a_string"] == "d/e"
    assert (await parcels("PURGE", "/v1/parcels/f/of/3")).json["number"] == 3
    assert [received.rpc for received in parcels.stub.calls] == ["Send", "Send", "Stamp", "Latest", "Find", "Purge"]


# --- Bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"{}", b"nonsense", b"\xff", b'{"alias_id": 1}'])
@pytest.mark.parametrize("verb", ["GET", "DELETE"])
async def test_the_body_of_a_get_or_delete_is_ignored(call: Client, verb: str, data: bytes) -> None:
    response = await call(verb, f"/aliases/{ALIAS_ID}", data=data)
    assert response.status == 200
    assert call.stub.calls[0].request.alias_id == ALIAS_ID


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/json"}])
async def test_an_empty_body_is_an_empty_object(call: Client, headers: dict[str, str]) -> None:
    assert (await call("POST", f"/mailboxes/{ALIAS_ID}/restore", headers=headers)).status == 200


@pytest.mark.parametrize(
    "media_type",
    ["application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"', "application/json ;charset=utf8"],
)
async def test_every_spelling_of_the_json_media_type_is_accepted(call: Client, media_type: str) -> None:
    response = await call("POST", "/aliases", data=b'{"local_part": "a"}', headers={"Content-Type": media_type})
    assert response.status == 200
    assert call.stub.calls[0].request.local_part == "a"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": ""},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
@pytest.mark.parametrize("route", [("POST", "/aliases"), ("PATCH", "/aliases/a")])
async def test_other_media_types_are_rejected(call: Client, route: tuple[str, str], headers: Any) -> None:
    response = await call(*route, data=gzip.compress(b"{}"), headers=headers)
    assert (response.status, response.json["type"]) == (415, "unsupported_media_type")
    assert not call.stub.calls


async def test_every_violation_is_reported(call: Client) -> None:
    response = await call(
        "POST", "/batch-create-mailboxes", json={"mailboxes": [{}, {"local_part": 1, "age": 2}], "x": 3}
    )
    assert response.violations == {"mailboxes[1].local_part": "format", "mailboxes[1].age": "unknown", "x": "unknown"}
    assert all(each.keys() == {"argument_name", "reason", "help_message"} for each in response.json["details"])
    assert not call.stub.calls


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"[" * 200_000, {"body": "format"}),
        (b'{"local_part":' + b"[" * 100_000 + b"]" * 100_000 + b"}", {"body": "format"}),
        (b'{"local_part": %s}' % (b"9" * 100_000), {"local_part": "format"}),
        (b'{"\\udfff": NaN}', {"?": "unknown"}),
        (b"\xff", {"body": "format"}),
        (b"\x00", {"body": "format"}),
    ],
)
async def test_hostile_json_is_an_invalid_argument(call: Client, body: bytes, expected: dict[str, str]) -> None:
    assert (await call("POST", "/aliases", data=body)).violations == expected


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 65536):
        yield b" " * 65536


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    "route", [("POST", "/aliases"), ("PATCH", "/aliases/a"), ("GET", "/aliases"), ("DELETE", "/aliases/a")]
)
async def test_a_body_of_4_mib_is_rejected_or_ignored(call: Client, route: tuple[str, str], chunked: bool) -> None:
    size = 4 * 1024 * 1024
    response = await call(*route, data=chunks(size) if chunked else io.BytesIO(b" " * size))
    if chunked and route[0] in ("GET", "DELETE"):  # its length is unknown, and it is not waited for
        assert response.status == 200
    else:
        assert (response.status, response.json["type"]) == (413, "payload_too_large")
        assert not call.stub.calls
    assert (await call("GET", "/aliases")).status == 200


async def test_a_body_of_exactly_the_limit_is_accepted(start: Start) -> None:
    call = await start(max_body_bytes=20)
    assert (await call("POST", "/aliases", data=b"{}".ljust(20))).status == 200
    assert (await call("POST", "/aliases", data=b"{}".ljust(21))).status == 413


# --- Logs ------------------------------------------------------------------------------------------------------------


async def test_failed_and_changing_requests_are_logged_without_secrets(
    call: Client, logs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    call.stub.respond_with("CreateAlias", Alias(id=ALIAS_ID))
    headers = {"X-Request-Id": "the-id"}
    await call("GET", "/domains?search=secret-search", headers=headers)
    await call("POST", "/aliases", json={"local_part": "secret-part"}, headers=headers)
    await call("PATCH", "/mailboxes/secret-id", json={"new_password": ["secret-word"]}, headers=headers)
    await call("GET", "/secret-path", headers=headers)
    await call("GET", "/mailboxes?page=secret-page", headers=headers)
    logged = [
        (line["method"], line["route"], line["rpc"].rpartition("/")[2], line["status"], line["type"]) for line in logs
    ]
    assert logged == [
        ("POST", f"{PREFIX}/aliases", "CreateAlias", 200, ""),
        ("PATCH", f"{PREFIX}/mailboxes/{{mailbox_id}}", "UpdateMailbox", 400, "invalid_arguments"),
        ("GET", "", "", 404, "not_found"),
        ("GET", f"{PREFIX}/mailboxes", "ListMailboxes", 400, "invalid_arguments"),
    ]
    assert all(line["request_id"] == "the-id" and line["duration_ms"] >= 0 for line in logs)
    assert "secret" not in json.dumps(logs)
    assert TOKEN not in json.dumps(logs) + caplog.text


async def test_an_unhandled_exception_reveals_nothing(call: Client, logs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "-".join(["secret", "value"])  # not a literal: the logged stack contains source lines

    def explode(*_: object) -> None:
        raise KeyError(secret)

    monkeypatch.setattr("postroomd.gateway.headers.token", explode)
    response = await call("GET", "/domains", headers={"X-Request-Id": "the-id"})
    assert (response.status, response.json["type"], response.json["request_id"]) == (500, "internal", "the-id")
    assert secret not in response.raw.decode() + repr(logs)
    (exception, line) = logs
    assert (exception["error"], exception["request_id"]) == ("KeyError", "the-id")
    assert "in explode" in exception["stack"]
    assert (line["status"], line["type"]) == (500, "internal")
