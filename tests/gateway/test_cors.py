"""Cross-origin requests of browsers."""

import pytest

from tests.gateway.client import Client, Start

ORIGIN = "https://app.example.org"
METHOD = "Access-Control-Request-Method"


@pytest.fixture
async def cors(start: Start) -> Client:
    return await start(cors_origins=frozenset({ORIGIN, "http://localhost:3000"}), token=None)


def cors_headers(headers: dict[str, str]) -> set[str]:
    return {name for name in headers if name.lower().startswith("access-control-")}


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/mailboxes/an-id", "DELETE, GET, HEAD, PATCH"), ("/aliases", "GET, HEAD, POST"), ("/healthz", "GET, HEAD")],
)
async def test_a_preflight_is_answered_without_a_token(cors: Client, path: str, methods: str) -> None:
    headers = {"Origin": ORIGIN, METHOD: "PATCH", "Access-Control-Request-Headers": "x-auth-token,content-type"}
    response = await cors("OPTIONS", path, headers=headers)
    assert (response.status, response.raw) == (204, b"")
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert response.headers["Access-Control-Allow-Methods"] == methods
    allowed = response.headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert {"x-auth-token", "authorization", "content-type", "if-match", "idempotency-key"} <= set(allowed)
    assert int(response.headers["Access-Control-Max-Age"]) > 0
    assert response.headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Credentials" not in response.headers
    assert not cors.stub.calls


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "https://app.example.org.evil.example", "http://app.example.org", ""]
)
async def test_other_origins_get_no_cors_headers(cors: Client, origin: str) -> None:
    preflight = await cors("OPTIONS", "/aliases", headers={"Origin": origin, METHOD: "POST"})
    assert preflight.status == 405
    response = await cors("GET", "/aliases", headers={"Origin": origin})
    assert response.status == 200
    assert not cors_headers(preflight.headers) | cors_headers(response.headers)
    assert preflight.headers["Vary"] == response.headers["Vary"] == "Origin"


@pytest.mark.parametrize(("path", "status"), [("/aliases", 200), ("/nowhere", 404), ("/aliases?page=x", 401)])
async def test_responses_and_errors_are_readable_by_the_origin(cors: Client, path: str, status: int) -> None:
    response = await cors("GET", path, headers={"Origin": "http://localhost:3000"})
    assert response.status == status
    assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert {"ETag", "Retry-After", "X-Request-Id"} <= set(response.headers["Access-Control-Expose-Headers"].split(", "))


async def test_options_without_preflight_headers_is_not_allowed(cors: Client) -> None:
    assert (await cors("OPTIONS", "/aliases", headers={"Origin": ORIGIN})).status == 405
    assert (await cors("OPTIONS", "/nowhere", headers={"Origin": ORIGIN, METHOD: "GET"})).status == 404


async def test_cors_is_off_by_default(call: Client) -> None:
    response = await call("OPTIONS", "/aliases", headers={"Origin": ORIGIN, METHOD: "POST"})
    assert response.status == 405
    assert not cors_headers(response.headers)
    assert "Vary" not in response.headers
