"""Certificates: what is refused, and what a reload keeps."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from postroomd.runtime.errors import FatalError
from postroomd.runtime.security import require_secure, with_channel_security
from postroomd.settings import InvalidSetting, UpSettings, load_settings
from postroomd.tls import CertificateError, Certificates, PemFiles, Reloading, certificate_name, load
from tests.support.certificates import Authority
from tests.support.metrics import scrape_tests


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


@pytest.fixture
def files(authority: Authority) -> PemFiles:
    return replace(authority.issue("server", "mail.example"), ca=authority.path)


def failed_reloads() -> float:
    return scrape_tests().value("postroom_certificate_reloads_total", purpose="grpc", outcome="failed")


def path_of(path: Path | None) -> Path:
    assert path is not None
    return path


def test_certificates_are_read_with_their_expiry(files: PemFiles) -> None:
    loaded = load(files)
    assert loaded.expires_at is not None
    assert loaded.cert == path_of(files.cert).read_bytes()
    assert repr(path_of(files.key).read_bytes())[10:50] not in repr(loaded)


def with_passphrase(files: PemFiles, _: Authority) -> None:
    path = path_of(files.key)
    key = load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase")))


FAULTS: dict[str, tuple[Callable[[PemFiles, Authority], object], str]] = {
    "no certificate file": (lambda files, _: path_of(files.cert).unlink(), "server.pem: No such file"),
    "not a certificate": (lambda files, _: path_of(files.cert).write_text("text"), "server.pem: expected certificates"),
    "not a key": (lambda files, _: path_of(files.key).write_text("text"), "server.key: expected a private key"),
    "passphrase": (with_passphrase, "server.key: the private key has a passphrase"),
    "not an authority": (lambda files, _: path_of(files.ca).write_text("text"), "ca.pem: expected certificates"),
    "another key": (
        lambda files, authority: path_of(files.key).write_bytes(
            path_of(authority.issue("other", "other.example").key).read_bytes()
        ),
        "server.key: the private key does not belong to the certificate",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_names_the_file(files: PemFiles, authority: Authority, fault: str) -> None:
    spoil, message = FAULTS[fault]
    spoil(files, authority)
    with pytest.raises(CertificateError, match=message):
        load(files)


async def test_a_failed_reload_keeps_the_previous_certificates(files: PemFiles, authority: Authority) -> None:
    reloading = Reloading(files, "grpc")
    before, told = reloading.current, list[Certificates]()
    reloading.add_listener(told.append)
    failed = failed_reloads()
    path_of(files.cert).write_text("text")
    for _ in range(4):
        await reloading.check()
    assert reloading.current is before
    assert not told
    # Once per change, not once per check.
    assert failed_reloads() == failed + 1
    authority.issue("server", "mail.example")
    for _ in range(2):
        await reloading.check()
    assert told == [reloading.current]
    assert reloading.current.cert == path_of(files.cert).read_bytes()


async def test_files_are_read_once_they_are_stable(files: PemFiles, authority: Authority, tmp_path: Path) -> None:
    reloading = Reloading(files, "grpc")
    before = reloading.current
    failed = failed_reloads()
    other = Authority(tmp_path / "other").issue("server", "mail.example")
    os.replace(path_of(other.cert), path_of(files.cert))  # noqa: PTH105
    await reloading.check()
    os.replace(path_of(other.key), path_of(files.key))  # noqa: PTH105
    await reloading.check()
    assert reloading.current is before
    await reloading.check()
    assert reloading.current is not before
    assert failed_reloads() == failed


@pytest.mark.parametrize(
    ("identities", "name"),
    [(("mail.example", "other.example"), "mail.example"), (("*.mail.example",), "any.mail.example"), (("::1",), "::1")],
)
def test_the_name_of_a_certificate(authority: Authority, identities: tuple[str, ...], name: str) -> None:
    assert certificate_name(path_of(authority.issue("server", *identities).cert)) == name


# --- Settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"tls_cert": "a.pem"}, "--tls-cert and --tls-key belong together"),
        ({"http_tls_key": "a.key"}, "--http-tls-cert and --http-tls-key belong together"),
        ({"grpc_tls_cert": "a.pem"}, "--grpc-tls-cert and --grpc-tls-key belong together"),
        ({"tls_client_ca": "ca.pem"}, "--tls-client-ca needs --tls-cert"),
        ({"http_tls_client_ca": "ca.pem"}, "--http-tls-client-ca needs --http-tls-cert"),
    ],
)
def test_contradictory_settings_are_refused(flags: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidSetting, match=message):
        load_settings(flags)


@pytest.mark.parametrize("address", ["0.0.0.0:443", "[::]:443", "192.0.2.1:443", "mail.example.org:443"])
@pytest.mark.parametrize("flag", ["--grpc-address", "--admin-address", "--http-address"])
def test_plain_text_is_refused_beyond_this_machine(address: str, flag: str) -> None:
    with pytest.raises(FatalError, match=f"{flag}: .*--insecure"):
        require_secure(load_settings({}), flag, address, None)
    require_secure(load_settings({"insecure": "true"}), flag, address, None)
    require_secure(load_settings({}), flag, address, PemFiles())


@pytest.mark.parametrize("address", ["127.0.0.1:443", "[::1]:443", "localhost:443"])
def test_plain_text_is_allowed_on_this_machine(address: str) -> None:
    require_secure(load_settings({}), "--grpc-address", address, None)


def test_the_gateway_of_up_trusts_the_service_next_to_it(files: PemFiles) -> None:
    settings = UpSettings(tls_cert=files.cert, tls_key=files.key)
    secured = with_channel_security(settings)
    assert (secured.grpc_tls_ca, secured.grpc_tls_server_name) == (files.cert, "mail.example")
    assert with_channel_security(UpSettings()) == UpSettings()
    with pytest.raises(FatalError, match="--grpc-tls-cert and --grpc-tls-key"):
        with_channel_security(UpSettings(tls_cert=files.cert, tls_key=files.key, tls_client_ca=files.ca))
