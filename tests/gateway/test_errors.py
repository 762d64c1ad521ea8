"""Mapping of every error type of the contract from google.rpc.Status to HTTP."""

from collections.abc import Iterable
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import (
    BadRequest,
    ErrorInfo,
    PreconditionFailure,
    QuotaFailure,
    ResourceInfo,
    RetryInfo,
)

from postroomd.gateway.errors import ERROR_TYPES, TYPE_BY_CODE, RequestError, error_response
from postroomd.gateway.responses import error_to_http
from tests.gateway.client import Client

Code = grpc.StatusCode
SECRET_TEXT = "sqlite:///var/lib/postroom: no such table"


def info(kind: str, domain: str = "postroom", **metadata: str) -> ErrorInfo:
    return ErrorInfo(domain=domain, reason=kind, metadata=metadata)


def retry(seconds: int, nanos: int = 0) -> RetryInfo:
    detail = RetryInfo()
    detail.retry_delay.seconds, detail.retry_delay.nanos = seconds, nanos
    return detail


TAKEN_ADDRESS = ResourceInfo(
    resource_type="mailbox",
    resource_name="a",
    owner="mailboxes[3].local_part",
    description="ann@example.org (deletion_scheduled)",
)
TAKEN_NAME = ResourceInfo(resource_type="domain", resource_name="b", owner="name", description="example.org")
MAILBOX = ResourceInfo(resource_type="mailbox", resource_name="an-id")
VIOLATIONS = BadRequest(
    field_violations=[
        {"field": "mailboxes[2].local_part", "reason": "CONSTRAINT", "description": "must be free"},
        {"field": "domain_id", "reason": "REQUIRED", "description": "must be set"},
        {"field": "page", "reason": "SOMETHING_NEW", "description": "must be"},
    ]
)
IN_USE = PreconditionFailure(violations=[{"type": "RESOURCE_STILL_IN_USE", "description": "has aliases"}])
RESOURCE = {"resource": "mailbox", "resource_id": "an-id"}
ETAG_MISMATCH = {
    "precondition": "unknown_precondition",
    "help_message": "The resource has changed: its etag is not the one in the request.",
}

# (code, details, HTTP status, type, further keys, headers)
TABLE: list[tuple[Code, list[Message], int, str, dict[str, Any], dict[str, str]]] = [
    (
        Code.INVALID_ARGUMENT,
        [info("INVALID_ARGUMENTS"), VIOLATIONS],
        400,
        "invalid_arguments",
        {
            "details": [
                {"argument_name": "mailboxes[2].local_part", "reason": "constraint", "help_message": "must be free"},
                {"argument_name": "domain_id", "reason": "required", "help_message": "must be set"},
                {"argument_name": "page", "reason": "unknown", "help_message": "must be"},
            ]
        },
        {},
    ),
    *[
        (
            Code.UNAUTHENTICATED,
            [info("DENIED_AUTHENTICATION", method="api_key", reason=reason)],
            401,
            "denied_authentication",
            {"method": "api_key", "reason": reason},
            {"WWW-Authenticate": "Bearer"},
        )
        for reason in ("invalid_argument", "not_found", "expired")
    ],
    (
        Code.PERMISSION_DENIED,
        [info("PERMISSIONS_DENIED", resource="mailbox", action="write")],
        403,
        "permissions_denied",
        {"details": [{"resource": "mailbox", "action": "write"}]},
        {},
    ),
    (
        Code.RESOURCE_EXHAUSTED,
        [info("QUOTAS_EXCEEDED", resource="mailbox", quota="1000", current="998"), QuotaFailure()],
        403,
        "quotas_exceeded",
        {"details": [{"resource": "mailbox", "quota": 1000, "current": 998}]},
        {},
    ),
    (Code.NOT_FOUND, [info("NOT_FOUND"), MAILBOX], 404, "not_found", RESOURCE, {}),
    (Code.ALREADY_EXISTS, [info("CONFLICT"), MAILBOX, ResourceInfo(resource_name="b")], 409, "conflict", RESOURCE, {}),
    (
        Code.ALREADY_EXISTS,
        [info("CONFLICT", message="in use", count="103"), TAKEN_ADDRESS, TAKEN_NAME],
        409,
        "conflict",
        {
            "resource": "mailbox",
            "resource_id": "a",
            "details": [
                {
                    "argument_name": "mailboxes[3].local_part",
                    "resource": "mailbox",
                    "resource_id": "a",
                    "email": "ann@example.org",
                    "current_state": "deletion_scheduled",
                },
                {
                    "argument_name": "name",
                    "resource": "domain",
                    "resource_id": "b",
                    "name": "example.org",
                    "current_state": "",
                },
            ],
            "omitted_count": 101,
        },
        {},
    ),
    (Code.ABORTED, [info("CONFLICT"), MAILBOX], 412, "precondition_failed", {**RESOURCE, **ETAG_MISMATCH}, {}),
    (
        Code.FAILED_PRECONDITION,
        [info("TRANSIENT_STATE", current_state="deleting"), MAILBOX],
        409,
        "transient_state",
        {**RESOURCE, "current_state": "deleting"},
        {},
    ),
    (
        Code.FAILED_PRECONDITION,
        [info("PRECONDITION_FAILED"), IN_USE],
        412,
        "precondition_failed",
        {"precondition": "resource_still_in_use", "help_message": "has aliases"},
        {},
    ),
    (Code.FAILED_PRECONDITION, [info("LOCKED"), MAILBOX], 423, "locked", RESOURCE, {}),
    (
        Code.RESOURCE_EXHAUSTED,
        [info("TOO_MANY_REQUESTS"), retry(7)],
        429,
        "too_many_requests",
        {},
        {"Retry-After": "7"},
    ),
    (Code.UNAVAILABLE, [info("UNAVAILABLE"), retry(1, 500_000_000)], 503, "unavailable", {}, {"Retry-After": "2"}),
    (Code.UNAVAILABLE, [info("UNAVAILABLE"), retry(0)], 503, "unavailable", {}, {"Retry-After": "1"}),
    (Code.DEADLINE_EXCEEDED, [info("DEADLINE_EXCEEDED")], 504, "deadline_exceeded", {}, {}),
    (Code.INTERNAL, [info("INTERNAL", request_id="the-id")], 500, "internal", {"request_id": "the-id"}, {}),
    # ErrorInfo with an unknown reason or domain, or invalid metadata
    (Code.NOT_FOUND, [info("GONE_FISHING"), MAILBOX], 404, "not_found", RESOURCE, {}),
    (Code.NOT_FOUND, [info("LOCKED", domain="elsewhere"), MAILBOX], 404, "not_found", RESOURCE, {}),
    (
        Code.RESOURCE_EXHAUSTED,
        [info("QUOTAS_EXCEEDED", resource="mailbox", quota="many")],
        403,
        "quotas_exceeded",
        {"details": [{"resource": "mailbox", "quota": 0, "current": 0}]},
        {},
    ),
]


def table_id(row: Any) -> str:
    return f"{row[3]}-{row[0].name}"


@pytest.mark.parametrize("row", TABLE, ids=table_id)
async def test_a_status_is_mapped_by_its_details(call: Client, row: Any) -> None:
    code, details, status, kind, keys, headers = row
    call.stub.fail("GetMailbox", code, SECRET_TEXT, details)
    response = await call("GET", "/mailboxes/an-id", headers={"X-Request-Id": "the-id"})
    body = response.json
    assert (response.status, body.pop("type")) == (status, kind)
    assert body.pop("message") not in ("", "Validation Error")
    assert body == keys
    assert response.headers["Content-Type"] == "application/json"
    assert headers.items() <= dict(response.headers).items()
    assert SECRET_TEXT not in response.raw.decode()


# Mapping of each code without details, as gRPC itself produces them.
WITHOUT_DETAILS: dict[Code, tuple[int, str, dict[str, Any]]] = {
    Code.CANCELLED: (503, "unavailable", {}),
    Code.UNKNOWN: (500, "internal", {"request_id": "the-id"}),
    Code.INVALID_ARGUMENT: (400, "invalid_arguments", {"details": []}),
    Code.DEADLINE_EXCEEDED: (504, "deadline_exceeded", {}),
    Code.NOT_FOUND: (404, "not_found", {"resource": "", "resource_id": ""}),
    Code.ALREADY_EXISTS: (409, "conflict", {"resource": "", "resource_id": ""}),
    Code.PERMISSION_DENIED: (403, "permissions_denied", {"details": [{"resource": "", "action": ""}]}),
    Code.UNAUTHENTICATED: (401, "denied_authentication", {"method": "api_key", "reason": "invalid_argument"}),
    Code.RESOURCE_EXHAUSTED: (429, "too_many_requests", {}),
    Code.FAILED_PRECONDITION: (
        412,
        "precondition_failed",
        {"precondition": "unknown_precondition", "help_message": ""},
    ),
    Code.ABORTED: (412, "precondition_failed", {"resource": "", "resource_id": "", **ETAG_MISMATCH}),
    Code.OUT_OF_RANGE: (400, "invalid_arguments", {"details": []}),
    Code.UNIMPLEMENTED: (500, "internal", {"request_id": "the-id"}),
    Code.INTERNAL: (500, "internal", {"request_id": "the-id"}),
    Code.UNAVAILABLE: (503, "unavailable", {}),
    Code.DATA_LOSS: (500, "internal", {"request_id": "the-id"}),
}


async def assert_mapped_by_code(call: Client, code: Code, details: Iterable[Message] | bytes | None) -> None:
    call.stub.fail("CreateAlias", code, SECRET_TEXT, details)
    response = await call("POST", "/aliases", json={}, headers={"X-Request-Id": "the-id"})
    status, kind, keys = WITHOUT_DETAILS[code]
    body = response.json
    assert (response.status, body.pop("type")) == (status, kind)
    assert body.pop("message")
    assert body == keys
    assert ("Retry-After" in response.headers) == (kind in ("unavailable", "too_many_requests"))
    assert SECRET_TEXT not in response.raw.decode()


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK], ids=lambda code: code.name)
async def test_a_status_without_details_is_mapped_by_its_code(call: Client, code: Code) -> None:
    await assert_mapped_by_code(call, code, None)


NESTED_GARBAGE = b"\x08\x0d\x1a\x2f\n*type.googleapis.com/google.rpc.ErrorInfo\x12\x01\xff"


@pytest.mark.parametrize("details", [b"\xff\xff", NESTED_GARBAGE, b""], ids=["garbage", "nested garbage", "empty"])
@pytest.mark.parametrize("code", [Code.INTERNAL, Code.NOT_FOUND], ids=lambda code: code.name)
async def test_undecodable_details_are_ignored(call: Client, code: Code, details: bytes) -> None:
    await assert_mapped_by_code(call, code, details)


async def test_an_exception_in_the_service_is_an_internal_error(call: Client) -> None:
    async def explode(_: Any, __: Any) -> Message:
        raise RuntimeError(SECRET_TEXT)

    call.stub.behaviors["GetAlias"] = explode
    response = await call("GET", "/aliases/an-id", headers={"X-Request-Id": "the-id"})
    assert response.status == 500
    assert response.json == {"type": "internal", "message": ERROR_TYPES["internal"].message, "request_id": "the-id"}


def test_the_table_covers_every_error_type() -> None:
    of_the_gateway_only = {"method_not_allowed", "unsupported_media_type", "payload_too_large"}
    assert {row[3] for row in TABLE} | of_the_gateway_only == set(ERROR_TYPES)
    assert set(TYPE_BY_CODE.values()) <= set(ERROR_TYPES)


@pytest.mark.parametrize("kind", ERROR_TYPES)
def test_no_message_is_the_one_reserved_by_the_python_sdk(kind: str) -> None:
    error = RequestError(error_response(kind)).response
    assert error.body()["message"] not in ("", "Validation Error")
    assert error_to_http(error).content_type == "application/json"
