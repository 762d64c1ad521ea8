"""Passwords and password hashes: from a prompt, standard input or a file, never from an argument, which others see."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from postroomd.settings import InvalidSetting

MAX_SECRET_BYTES = 4_096
STDIN = Path("-")

PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="PATH",
        help="File with the password in its only line, or `-` for standard input; without it, you are asked.",
    ),
]


def read_password(file: Path | None) -> str:
    """Return a password from a file or standard input (`-`), or ask for it twice. Raises InvalidSetting."""
    if file is not None:
        return read_secret("--password-file", file)
    if not sys.stdin.isatty():
        raise InvalidSetting("--password-file: there is no terminal to ask on: set it, to - for standard input")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


def read_secret(option: str, file: Path) -> str:
    """Return the only line of a file, or of standard input for `-`. Raises InvalidSetting."""
    try:
        if file == STDIN:
            text = sys.stdin.buffer.read(MAX_SECRET_BYTES + 1).decode()
        else:
            with file.open("rb") as opened:
                text = opened.read(MAX_SECRET_BYTES + 1).decode()
    except OSError as error:
        raise InvalidSetting(f"{option}: can't read {file}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise InvalidSetting(f"{option}: expected one line of UTF-8") from None  # the error holds the bytes
    line = text.removesuffix("\n").removesuffix("\r")
    if not line or "\n" in line or len(text) > MAX_SECRET_BYTES:
        raise InvalidSetting(f"{option}: expected one line, which is not empty")
    return line
