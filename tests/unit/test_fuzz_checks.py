"""That the checks of the fuzzers find what must not come back, and that a case can be repeated."""

import base64
import json
from typing import Any

import pytest
from google.rpc import error_details_pb2, status_pb2

from tests.fuzz.checks import check_grpc, check_http, check_log
from tests.fuzz.exchange import Http2Stream, HttpResponse, NotHttp, parse_responses
from tests.fuzz.runner import SURFACES, make_case
from tests.fuzz.target import Target


def http(status: int, body: object, **headers: str) -> HttpResponse:
    sent = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return HttpResponse(status, sent, json.dumps(body).encode())


def error(kind: str, **keys: object) -> dict[str, object]:
    return {"type": kind, "message": "what is wrong", **keys}


def test_responses_of_the_contract_pass() -> None:
    check_http(http(200, {"id": "an-id"}))
    check_http(http(404, error("not_found", resource="mailbox", resource_id="an-id")))
    details = [{"argument_name": "name", "reason": "format", "help_message": "must be a name"}]
    check_http(http(400, error("invalid_arguments", details=details)))
    check_http(http(503, error("unavailable"), retry_after="1"))


@pytest.mark.parametrize(
    "response",
    [
        http(500, error("internal", request_id="an-id")),
        http(502, error("unavailable")),
        http(503, error("unavailable")),  # without Retry-After
        http(400, error("invalid_arguments")),  # without details
        http(400, error("not_found", resource="mailbox", resource_id="an-id")),
        http(400, error("a_type_of_its_own")),
        http(400, {"type": "invalid_arguments", "message": "Validation Error", "details": []}),
        http(400, error("invalid_arguments", details=[{"argument_name": "name"}])),
        http(404, error("not_found", resource="route", resource_id="<class 'KeyError'>")),
        http(404, error("not_found", resource="route", resource_id="sqlite3.OperationalError: locked")),
        http(200, {}, content_type="text/html"),
        http(201, {}),
    ],
)
def test_other_responses_do_not(response: HttpResponse) -> None:
    with pytest.raises((AssertionError, KeyError)):
        check_http(response)


def stream(code: int, message: str, *, domain: str | None = None, **fields: Any) -> Http2Stream:
    headers = {":status": "200", "grpc-status": str(code), "grpc-message": message}
    if domain is not None:
        status = status_pb2.Status(code=code, message=message)
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason="NOT_FOUND", domain=domain))
        headers["grpc-status-details-bin"] = base64.b64encode(status.SerializeToString()).decode().rstrip("=")
    return Http2Stream(headers, ended=True, **fields)


def test_statuses_of_the_service_and_of_grpc_pass() -> None:
    check_grpc(stream(0, "", body=bytearray(5)))
    check_grpc(stream(5, "not found", domain="postroom"))
    check_grpc(stream(12, "Method not found!"))
    check_grpc(stream(13, "Illegal header key: X"))
    check_grpc(Http2Stream(ended=True, reset=8))


@pytest.mark.parametrize(
    "answered",
    [
        stream(2, "Unexpected"),
        stream(13, "internal error", domain="postroom"),
        stream(14, "unavailable"),
        stream(5, "not found"),
        stream(5, "not found", domain="elsewhere"),
        stream(3, "ValueError: 1"),
        stream(0, "", body=bytearray(b"\1\0\0\0\0")),
        Http2Stream({":status": "502"}, ended=True),
        Http2Stream({":status": "200"}, ended=True),
    ],
)
def test_other_statuses_do_not(answered: Http2Stream) -> None:
    with pytest.raises(AssertionError):
        check_grpc(answered)


@pytest.mark.parametrize(
    "line",
    ["Traceback (most recent call last):", '{"level": "error"}', '{"level": "info", "body": "a secret!"}'],
)
def test_log_lines_that_must_not_be(line: str) -> None:
    check_log('{"level": "info"}', "secret!")
    with pytest.raises(AssertionError):
        check_log(line, "secret!")


def test_responses_are_told_apart() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    responses = parse_responses(head + b"{}" + b"HTTP/1.1 100 Continue\r\n\r\n" + head + head + b"{}")
    assert [response.body for response in responses] == [b"{}", b"", b"{}"]  # the second one is to HEAD
    with pytest.raises(NotHttp):
        parse_responses(head + b"{")
    with pytest.raises(NotHttp):
        parse_responses(b"<html>")


def test_a_case_depends_on_its_seed_and_number_alone() -> None:
    target = Target.__new__(Target)
    target.ids, target.token, target.admin_token = {"domain": "an-id"}, "a-token", "an-admin-token"
    for surface in SURFACES:
        cases = [make_case(surface, 1, number, target) for number in range(100)]
        assert cases == [make_case(surface, 1, number, target) for number in range(100)]
        assert cases != [make_case(surface, 2, number, target) for number in range(100)]
