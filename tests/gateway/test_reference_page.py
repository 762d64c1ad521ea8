"""The reference page as it is served. tests/web opens it in a browser."""

import hashlib
import importlib.resources
import re

from postroomd.gateway.reference_page import FILES, POLICY
from tests.gateway.client import Client

PACKAGE = importlib.resources.files("postroomd.gateway") / "reference"


async def test_the_page_is_served_without_a_key_and_under_a_strict_policy(call: Client) -> None:
    call.token = None
    page = await call("GET", "/docs")
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Content-Security-Policy"] == POLICY
    assert "unsafe" not in POLICY
    assert POLICY.startswith("default-src 'none'; ")
    unchanged = await call("GET", "/docs", headers={"If-None-Match": page.headers["ETag"]})
    assert (unchanged.status, unchanged.raw) == (304, b"")


async def test_the_page_refers_to_files_of_the_gateway_only(call: Client) -> None:
    page = (await call("GET", "/docs")).raw.decode()
    references = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {f"docs/{name}" for name in FILES} < set(references)
    for reference in references:
        response = await call("GET", f"/{reference}")
        assert response.status == 200
        if reference != "openapi.json":
            assert response.headers["Content-Type"] == FILES[reference.removeprefix("docs/")]
    assert (await call("GET", "/docs/other.js")).status == 404


def test_the_vendored_files_are_those_of_the_recorded_version() -> None:
    recorded = dict(re.findall(r"- `([^`]+)`: `([0-9a-f]{64})`", (PACKAGE / "VENDORED.md").read_text()))
    assert recorded.keys() == FILES.keys() - {"reference.js"}
    for name, digest in recorded.items():
        assert hashlib.sha256((PACKAGE / name).read_bytes()).hexdigest() == digest
    assert "Apache License" in (PACKAGE / "LICENSE").read_text()
