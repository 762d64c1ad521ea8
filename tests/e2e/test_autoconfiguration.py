"""Mail clients configure themselves from a running Postroom."""

import urllib.error
import urllib.request

import pytest

from tests.e2e.conftest import Starter
from tests.e2e.support import run_process
from tests.support.waiting import block_until


def test_a_ready_domain_has_a_document_and_others_do_not(start_postroom: Starter) -> None:
    up = start_postroom(
        "--autoconfig-address=127.0.0.1:0", "--domain-validation=trust", "--imap-host=imap.host.example"
    )
    (line,) = (line for line in up.output.splitlines() if "Mail clients" in line)
    url = f"http://{line.rpartition(' ')[2]}/mail/config-v1.1.xml"

    def document(domain: str) -> str:
        request = urllib.request.Request(url, headers={"Host": f"autoconfig.{domain}"})
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return str(response.read().decode())

    created = up.call("POST", "/domains", {"name": "example.org"})
    with pytest.raises(urllib.error.HTTPError, match="404"):
        document("example.org")
    up.call("POST", f"/domains/{created['id']}/validate-records", {})
    block_until(lambda: up.call("GET", f"/domains/{created['id']}")["status"] == "ready")
    assert "<hostname>imap.host.example</hostname>" in document("example.org")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        document("example.com")


def test_a_gateway_without_the_secret_refuses_to_serve_them() -> None:
    completed = run_process("gateway", "--autoconfig-address=127.0.0.1:0", "--http-address=127.0.0.1:0")
    assert completed.returncode == 1
    assert completed.stderr.strip().endswith(
        "--autoconfig-address: needs --gateway-secret, by which the service recognizes the gateway"
    )
