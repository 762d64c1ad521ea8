"""Writing configuration files: secret ones for their owner only, and all or none."""

import os
import pwd
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from postroomd.mailserver.files import ConfigFile

DIRECTORY_MODE = 0o755


class FilesExist(Exception):
    """Files exist already. The text names them."""


def write_files(directory: Path, files: Sequence[ConfigFile], *, overwrite: bool) -> Sequence[str]:
    """Write files into a directory, which is created if it is missing; returns their names.

    A secret file has mode 0600, a program and a directory 0755, others 0644, whatever the umask. Files of another owner
    are given to it if this process is root's and the machine has the user. No file is replaced before all are written
    under temporary names, so that a full disk changes nothing. Raises FilesExist before anything is written, unless
    `overwrite`, and OSError with the path.
    """
    existing = [file.name for file in files if os.path.lexists(directory / file.name)]
    if existing and not overwrite:
        raise FilesExist(f"{directory} has {', '.join(existing)} already")
    created: list[Path] = []
    temporaries: dict[Path, Path] = {}  # path -> the file that takes its place
    try:
        for file in files:
            path = directory / file.name
            with _named(path):
                _create_directory(path.parent, created)
                descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
                temporaries[path] = Path(name)
                _write(descriptor, file)
        for path, temporary in temporaries.items():
            with _named(path):
                temporary.replace(path)
    except BaseException:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)
        for each in reversed(created):
            with suppress(OSError):  # it has files: some were replaced, or somebody else's
                each.rmdir()
        raise
    return [file.name for file in files]


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Give an OSError of the block the path that was to be written."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _create_directory(directory: Path, created: list[Path]) -> None:
    """Create a missing directory and its parents, and append each to a list."""
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir()
        created.append(each)
        each.chmod(DIRECTORY_MODE)


def _write(descriptor: int, file: ConfigFile) -> None:
    with os.fdopen(descriptor, "w", encoding="utf-8") as written:
        os.fchmod(descriptor, 0o600 if file.secret else 0o755 if file.executable else 0o644)
        if file.owner and os.geteuid() == 0 and (user := _user(file.owner)):
            os.fchown(descriptor, user.pw_uid, 0)
        written.write(file.text)
        written.flush()
        os.fsync(descriptor)


def _user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None
