"""What commands share: confirmation, passwords from a terminal, connections with TLS."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from postroomd.cli import confirmation, passwords
from postroomd.cli.connection import _tls
from postroomd.cli.errors import CommandFailed
from postroomd.settings import InvalidSetting, load_settings
from tests.cli.running import CHEAP, Commands, commands_of
from tests.e2e.support import start, terminate
from tests.support.certificates import Authority


class Terminal:
    """Standard input that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal())


@pytest.mark.usefixtures("terminal")
def test_a_step_is_confirmed_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = []

    def answer(question: str, *, err: bool) -> bool:
        questions.append(question)
        return len(questions) == 1

    monkeypatch.setattr(typer, "confirm", answer)
    confirmation.confirm("x is deleted.", yes=True)
    assert questions == []
    confirmation.confirm("x is deleted.", yes=False)
    with pytest.raises(CommandFailed, match="canceled: nothing was changed"):
        confirmation.confirm("x is deleted.", yes=False)
    assert questions == ["x is deleted. Continue?"] * 2


@pytest.mark.usefixtures("terminal")
def test_a_password_is_asked_for_twice_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def prompt(text: str, **options: bool) -> str:
        asked.append((text, options))
        return "correct horse battery staple"

    monkeypatch.setattr(typer, "prompt", prompt)
    assert passwords.read_password(None) == "correct horse battery staple"
    assert asked == [("Password", {"hide_input": True, "confirmation_prompt": True, "err": True})]


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb\n", b"\xff\n", b"x" * 5_000])
def test_a_password_file_has_one_line(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    with pytest.raises(InvalidSetting, match="--password-file: expected one line"):
        passwords.read_password(file)
    file.write_bytes(b" kept as it is \r\n")
    assert passwords.read_password(file) == " kept as it is "
    with pytest.raises(InvalidSetting, match="can't read"):
        passwords.read_password(tmp_path)


def test_only_this_machine_is_called_in_plain_text_by_itself() -> None:
    settings = load_settings({})
    assert _tls(settings, "127.0.0.1:50051") is None
    assert _tls(settings, "[::1]:50051") is None
    public = _tls(settings, "mail.example.org:9443")
    assert public is not None
    assert public.root_certificates is None
    assert _tls(load_settings({"insecure": "true"}), "mail.example.org:9443") is None
    with pytest.raises(InvalidSetting, match=r"^--grpc-tls-ca: can't read /none: No such file"):
        _tls(load_settings({"grpc_tls_ca": "/none"}), "127.0.0.1:50051")
    with pytest.raises(InvalidSetting, match=r"^--grpc-tls-ca: .* is not in PEM format$"):
        _tls(load_settings({"grpc_tls_ca": __file__}), "127.0.0.1:50051")


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


def test_both_services_are_called_over_tls(encrypted: tuple[Commands, Authority], tmp_path: Path) -> None:
    postroom, authority = encrypted
    client = authority.issue("client", "operator")
    trusting = ("--grpc-tls-ca", authority.path, "--grpc-tls-server-name=mail.example.org")
    own = ("--grpc-tls-cert", client.cert, "--grpc-tls-key", client.key)
    assert postroom.rows("domains", "list", *trusting, *own) == []
    assert postroom.rows("payments", "list", *trusting, *own) == []


def test_a_certificate_that_is_not_trusted_is_refused(
    encrypted: tuple[Commands, Authority], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postroomd.cli.connection.CONNECT_SECONDS", 1.0)
    postroom, _ = encrypted
    other = Authority(tmp_path / "other")
    line = postroom.failure(4, "domains", "list", "--grpc-tls-ca", other.path)
    assert "can't connect to" in line
    assert "over TLS within 1 s: the certificate is not by a trusted authority" in line


def test_what_does_not_fit_the_encryption_of_the_service_is_named(
    encrypted: tuple[Commands, Authority], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postroomd.cli.connection.CONNECT_SECONDS", 0.5)
    postroom, authority = encrypted
    trusting = ("--grpc-tls-ca", authority.path)
    line = postroom.failure(4, "domains", "list", *trusting)
    assert "the certificate is for another name: set --grpc-tls-server-name" in line
    line = postroom.failure(4, "domains", "list", *trusting, "--grpc-tls-server-name=mail.example.org")
    assert "it may require a client certificate" in line
    assert "it may require TLS" in postroom.failure(4, "domains", "list")
