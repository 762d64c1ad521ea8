"""`postroom up` with TLS on both addresses."""

import ssl
import urllib.request
from pathlib import Path

from tests.e2e.support import Up, start, terminate
from tests.support.certificates import Authority
from tests.support.waiting import block_until


def get(up: Up, path: str, authority: Authority) -> int:
    """The status of a GET over HTTPS, under the name in the certificate."""
    request = urllib.request.Request(  # noqa: S310
        up.environment["SCW_API_URL"] + path, headers={"X-Auth-Token": up.environment["SCW_SECRET_KEY"]}
    )
    context = authority.client_context()
    context.check_hostname = False  # the URL has the loopback address
    assert context.verify_mode is ssl.CERT_REQUIRED
    with urllib.request.urlopen(request, timeout=30, context=context) as response:  # noqa: S310
        return int(response.status)


def test_both_addresses_speak_tls_and_follow_the_files(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    files = authority.issue("server", "mail.example")
    server = (f"tls-cert={files.cert}", f"tls-key={files.key}")
    flags = [f"--{prefix}{setting}" for prefix in ("", "http-") for setting in server]
    up = start(tmp_path, *flags)
    try:
        assert up.environment["SCW_API_URL"].startswith("https://")
        assert get(up, "/mailbox/v1alpha1/domains", authority) == 200
        successor = Authority(tmp_path / "successor")
        issued = successor.issue("server", "mail.example")
        for old, new in zip(files.paths, issued.paths, strict=True):
            old.write_bytes(new.read_bytes())
        # By the service, and by the gateway for HTTPS and for its connections, which trust the service's file.
        block_until(lambda: up.log.count("certificates reloaded") == 3)
        assert get(up, "/mailbox/v1alpha1/domains", successor) == 200
    finally:
        terminate(up)
