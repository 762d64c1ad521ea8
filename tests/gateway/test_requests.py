"""Credentials, request ids, paths and methods."""

from typing import Any

import pytest

from tests.gateway.client import PREFIX, Client, Start

# --- Credentials and request ids -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ([("X-Auth-Token", "a-secret")], "a-secret"),
        ([("Authorization", "Bearer a-secret")], "a-secret"),
        ([("Authorization", "bearer   a-secret")], "a-secret"),
        ([("X-Auth-Token", "a-secret"), ("Authorization", "Basic b3RoZXI=")], "a-secret"),
    ],
)
async def test_the_token_reaches_the_service(start: Start, headers: list[tuple[str, str]], token: str) -> None:
    call = await start(token=None)
    assert (await call("GET", "/domains", headers=headers)).status == 200
    assert call.stub.calls[0].metadata["x-auth-token"] == token
    assert "authorization" not in call.stub.calls[0].metadata


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("X-Auth-Token", "")],
        [("X-Auth-Token", "clé")],
        [("X-Auth-Token", "\u5bc6\u94a5")],
        [("X-Auth-Token", "a b")],
        [("X-Auth-Token", "a\tb")],
        [("X-Auth-Token", "a" * 513)],
        [("X-Auth-Token", "a"), ("X-Auth-Token", "a")],
        [("Authorization", "Bearer a"), ("Authorization", "Bearer a")],
        [("Authorization", "Basic YTpi")],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer ")],
        [("Authorization", "Bearer a b")],
        [("Authorization", "")],
    ],
)
async def test_missing_and_malformed_tokens_are_denied(start: Start, headers: list[tuple[str, str]]) -> None:
    call = await start(token=None)
    response = await call("GET", "/domains", headers=headers)
    assert response.status == 401
    body = response.json
    assert (body["type"], body["method"], body["reason"]) == ("denied_authentication", "api_key", "invalid_argument")
    assert not call.stub.calls


@pytest.mark.parametrize("path", ["/aliases?page=x", "/aliases?nonsense=1"])
async def test_requests_without_a_token_learn_nothing_about_arguments(start: Start, path: str) -> None:
    call = await start(token=None)
    response = await call("GET", path)
    assert (response.status, response.json["type"]) == (401, "denied_authentication")


@pytest.mark.parametrize("given", ["a", "A-z_0.9", "x" * 128])
async def test_a_valid_request_id_is_kept(call: Client, given: str) -> None:
    response = await call("GET", "/domains", headers={"X-Request-Id": given})
    assert response.headers["X-Request-Id"] == call.stub.calls[0].metadata["x-request-id"] == given


@pytest.mark.parametrize(
    "headers",
    [
        {},
        *({"X-Request-Id": bad} for bad in ("", "a b", "x" * 129, "é", "a\u0660", '"a"')),
        [("X-Request-Id", "a")] * 2,
    ],
)
async def test_an_invalid_or_missing_request_id_is_replaced(call: Client, headers: Any) -> None:
    response = await call("GET", "/domains", headers=headers)
    generated = response.headers["X-Request-Id"]
    assert len(generated) == 32
    assert generated.isalnum()
    assert call.stub.calls[0].metadata["x-request-id"] == generated


# --- Paths and methods -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/mailbox", f"{PREFIX}/domain", f"{PREFIX}/domains/", f"{PREFIX}//domains", "/a%ff"]
)
async def test_an_unknown_path_is_not_found(call: Client, path: str) -> None:
    response = await call("GET", path, headers={"X-Request-Id": "the-id"})
    assert response.status == 404
    assert response.headers["X-Request-Id"] == "the-id"
    body = response.json
    assert (body["type"], body["resource"], body["resource_id"]) == ("not_found", "route", path)
    assert body["message"]


@pytest.mark.parametrize(
    ("verb", "path", "allow"),
    [
        ("PUT", "/domains", "GET, HEAD, POST"),
        ("OPTIONS", "/domains", "GET, HEAD, POST"),
        ("POST", "/mailboxes", "GET, HEAD"),
        ("POST", "/mailboxes/a", "DELETE, GET, HEAD, PATCH"),
        ("GET", "/mailboxes/a/restore", "POST"),
        ("HEAD", "/mailboxes/a/restore", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
    ],
)
async def test_unsupported_methods_get_405(call: Client, verb: str, path: str, allow: str) -> None:
    response = await call(verb, path)
    assert (response.status, response.headers["Allow"]) == (405, allow)
    assert response.headers["Content-Type"] == "application/json"
    assert verb == "HEAD" or response.json["type"] == "method_not_allowed"


async def test_head_is_get_without_the_body(call: Client) -> None:
    response = await call("HEAD", "/domains")
    assert (response.status, response.raw) == (200, b"")
    assert call.stub.calls[0].rpc == "ListDomains"
