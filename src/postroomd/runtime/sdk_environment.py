"""The SCW_ environment variables by which the SDKs find the API and their key."""

import os
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from postroomd.net import connectable
from postroomd.replaced_file import replaced_file
from postroomd.runtime.keys import IssuedKey

SECRET = "SCW_SECRET_KEY"  # noqa: S105 - the variable's name


def api_url(http_address: str, *, tls: bool) -> str:
    """Return the URL of the gateway that listens on `http_address`."""
    return f"{'https' if tls else 'http'}://{connectable(http_address)}"


def sdk_environment(issued: IssuedKey, api_url: str) -> dict[str, str]:
    """Return the variables for a new key, in display order."""
    return {
        "SCW_API_URL": api_url,
        "SCW_ACCESS_KEY": issued.key.access_key,
        SECRET: issued.secret,
        "SCW_DEFAULT_ORGANIZATION_ID": issued.key.organization_id,
        "SCW_DEFAULT_PROJECT_ID": issued.key.default_project_id,
    }


def export_lines(environment: Mapping[str, str]) -> Sequence[str]:
    """Return the shell's `export` command for each variable."""
    return [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]


def withheld(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables without the secret."""
    return {name: value for name, value in environment.items() if name != SECRET}


def write_env_file(path: Path, environment: Mapping[str, str]) -> None:
    """Write `NAME=value` lines to a file with mode 0600, atomically. Raises OSError.

    Without the secret in the environment, the other lines of an existing file stay: it may hold the only copy of one.
    """
    kept = [] if SECRET in environment else _other_lines(path, environment)
    with replaced_file(path) as file:
        file.writelines(f"{line}\n" for line in (*(f"{name}={value}" for name, value in environment.items()), *kept))


def _other_lines(path: Path, environment: Mapping[str, str]) -> list[str]:
    """Return the lines of a file, if it exists, that set none of the variables."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [line for line in lines if line.partition("=")[0] not in environment]


def require_writable(path: Path) -> None:
    """Raise OSError if `write_env_file` could not write the file."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    Path(temporary).unlink()
