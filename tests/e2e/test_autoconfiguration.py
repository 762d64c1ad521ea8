"""Mail clients configure themselves from a running Postroom."""

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.e2e.conftest import Starter
from tests.e2e.support import run
from tests.support.waiting import block_until

API = "/mailbox/v1alpha1"


def test_a_ready_domain_has_a_document_and_others_do_not(start_postroom: Starter) -> None:
    up = start_postroom(
        "--autoconfig-address=127.0.0.1:0", "--domain-validation=trust", "--imap-host=imap.host.example"
    )
    (line,) = (line for line in up.output.splitlines() if "Mail clients" in line)
    url = f"http://{line.rpartition(' ')[2]}/mail/config-v1.1.xml"
    variables = up.environment

    def document(domain: str) -> str:
        request = urllib.request.Request(url, headers={"Host": f"autoconfig.{domain}"})
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return str(response.read().decode())

    def call(method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(  # noqa: S310
            variables["SCW_API_URL"] + API + path,
            None if body is None else json.dumps(body).encode(),
            {"X-Auth-Token": variables["SCW_SECRET_KEY"], "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            text = response.read()  # empty if the response has no fields
            return json.loads(text) if text else {}

    created = call("POST", "/domains", {"name": "example.org"})
    with pytest.raises(urllib.error.HTTPError, match="404"):
        document("example.org")
    call("POST", f"/domains/{created['id']}/validate-records", {})
    block_until(lambda: call("GET", f"/domains/{created['id']}")["status"] == "ready")
    assert "<hostname>imap.host.example</hostname>" in document("example.org")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        document("example.com")


def test_a_gateway_without_the_secret_refuses_to_serve_them() -> None:
    completed = run("gateway", "--autoconfig-address=127.0.0.1:0", "--http-address=127.0.0.1:0")
    assert completed.returncode == 1
    assert completed.stderr.strip().endswith(
        "--autoconfig-address: needs --gateway-secret, by which the service recognizes the gateway"
    )
