"""Connections of the commands to a service: encryption, and what is said when there is none."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from postroom.v1alpha1.domain_pb2 import ListDomainsResponse
from postroomd.cli.unreachable import PLAIN_TEXT, TLS, cause_of
from tests.cli.running import CHEAP, Commands, commands_of
from tests.e2e.support import start, terminate
from tests.support.certificates import Authority
from tools.ports import free_port


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Commands, Authority]]:
    """The commands of a Postroom with TLS, which requires client certificates, and the authority of all of them."""
    directory = tmp_path_factory.mktemp("postroom")
    authority = Authority(directory / "tls")
    server, client = authority.issue("server", "mail.example.org"), authority.issue("client", "operator")
    flags = (f"--tls-cert={server.cert}", f"--tls-key={server.key}", f"--tls-client-ca={authority.path}")
    own = (f"--grpc-tls-cert={client.cert}", f"--grpc-tls-key={client.key}")
    up = start(directory, "--admin-address=127.0.0.1:0", *CHEAP, *flags, *own)
    try:
        yield commands_of(up), authority
    finally:
        terminate(up)


@pytest.fixture
def reasons(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Why commands have waited for a connection."""
    seen: list[str] = []

    @contextmanager
    def record(reason: str) -> Iterator[None]:
        seen.append(reason)
        yield

    monkeypatch.setattr("postroomd.cli.connection.waiting", record)
    return seen


def test_both_services_are_called_over_tls(encrypted: tuple[Commands, Authority], tmp_path: Path) -> None:
    postroom, authority = encrypted
    client = authority.issue("client", "operator")
    trusting = ("--grpc-tls-ca", authority.path, "--grpc-tls-server-name=mail.example.org")
    own = ("--grpc-tls-cert", client.cert, "--grpc-tls-key", client.key)
    assert postroom.rows("domains", "list", *trusting, *own) == []
    assert postroom.rows("payments", "list", *trusting, *own) == []


def test_a_certificate_that_is_not_trusted_is_refused(
    encrypted: tuple[Commands, Authority], tmp_path: Path, reasons: list[str]
) -> None:
    postroom, _ = encrypted
    other = Authority(tmp_path / "other")
    line = postroom.failure(4, "domains", "list", "--grpc-tls-ca", other.path)
    assert "can't connect to" in line
    assert "over TLS: the certificate is not by a trusted authority" in line
    assert not [reason for reason in reasons if "certificate" in reason]


def test_what_does_not_fit_the_encryption_of_the_service_is_named(
    encrypted: tuple[Commands, Authority], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postroomd.cli.connection.RESTART_SECONDS", 0.1)
    postroom, authority = encrypted
    trusting = ("--grpc-tls-ca", authority.path)
    line = postroom.failure(4, "domains", "list", *trusting)
    assert "the certificate is for another name: set --grpc-tls-server-name" in line
    line = postroom.failure(4, "domains", "list", *trusting, "--grpc-tls-server-name=mail.example.org")
    assert "it may require a client certificate" in line
    assert "it may require TLS" in postroom.failure(4, "domains", "list")


@pytest.mark.parametrize("how", [PLAIN_TEXT, TLS])
def test_a_connection_that_is_reset_has_the_cause_of_one_that_is_closed(how: str) -> None:
    assert cause_of("recvmsg:Connection reset by peer", how) == cause_of("Socket closed", how)


def test_a_service_that_can_not_be_reached_has_an_exit_code_of_its_own(
    postroom: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postroomd.cli.connection.RESTART_SECONDS", 0.1)
    address = f"127.0.0.1:{free_port()}"
    line = postroom.failure(4, "domains", "list", "--grpc-address", address)
    assert line == (
        f"--grpc-address: can't connect to {address} in plain text: nothing listens there: check that the"
        " service runs, and the port"
    )


def test_what_no_restart_mends_is_not_waited_for(postroom: Commands, reasons: list[str]) -> None:
    line = postroom.failure(4, "domains", "list", "--grpc-address=nowhere.invalid:1", "--insecure=true")
    assert "the host name is unknown" in line
    gateway = postroom.environment["SCW_API_URL"].removeprefix("http://")
    assert "an HTTP/1 server responds" in postroom.failure(4, "domains", "list", f"--grpc-address={gateway}")
    assert not [reason for reason in reasons if "host name" in reason or "HTTP/1" in reason]


def test_a_service_that_starts_is_waited_for(postroom: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    address, reasons = f"127.0.0.1:{free_port()}", []
    method: grpc.RpcMethodHandler[bytes, ListDomainsResponse] = grpc.unary_unary_rpc_method_handler(
        lambda _request, _context: ListDomainsResponse(), response_serializer=ListDomainsResponse.SerializeToString
    )
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_registered_method_handlers("postroom.v1alpha1.MailboxService", {"ListDomains": method})

    @contextmanager
    def start_meanwhile(reason: str) -> Iterator[None]:
        reasons.append(reason)
        server.add_insecure_port(address)
        server.start()
        yield

    monkeypatch.setattr("postroomd.cli.connection.waiting", start_meanwhile)
    monkeypatch.setattr("postroomd.cli.connection.RESTART_SECONDS", 600.0)
    try:
        assert postroom.rows("domains", "list", "--grpc-address", address) == []
    finally:
        server.stop(None).wait()
    assert reasons == [
        f"no connection to {address} yet: nothing listens there: check that the service runs, and the port"
    ]
