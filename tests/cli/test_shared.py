"""What commands share: confirmation, passwords from a terminal, which connections are encrypted."""

from pathlib import Path

import pytest
import typer

from postroomd.cli import confirmation, passwords
from postroomd.cli.connection import _tls
from postroomd.cli.errors import CommandFailed
from postroomd.settings import InvalidSetting, load_settings


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
