"""Writing configuration files: secret ones for their owner only, and all or none."""

import os
import pwd
from collections.abc import Sequence
from pathlib import Path

from postroomd.mailserver.files import ConfigFile
from postroomd.replaced_file import replaced_file


class FilesExist(Exception):
    """Files exist already. The text names them."""


def write_files(directory: Path, files: Sequence[ConfigFile], *, overwrite: bool) -> Sequence[str]:
    """Write files into a directory, which is created if it is missing; returns their names.

    A secret file has mode 0600, a program 0755, others 0644, whatever the umask. Each is replaced as a whole. Files of
    another owner are given to it if this process is root's and the machine has the user. Raises FilesExist before
    anything is written, unless `overwrite`, and OSError.
    """
    existing = [file.name for file in files if (directory / file.name).exists()]
    if existing and not overwrite:
        raise FilesExist(f"{directory} has {', '.join(existing)} already")
    for file in files:
        (directory / file.name).parent.mkdir(parents=True, exist_ok=True)
        _replace(directory / file.name, file)
    return [file.name for file in files]


def _replace(path: Path, file: ConfigFile) -> None:
    with replaced_file(path) as written:
        os.fchmod(written.fileno(), 0o600 if file.secret else 0o755 if file.executable else 0o644)
        if file.owner and os.geteuid() == 0 and (user := _user(file.owner)):
            os.fchown(written.fileno(), user.pw_uid, 0)
        written.write(file.text)


def _user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None
