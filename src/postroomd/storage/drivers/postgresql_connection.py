"""Connections to PostgreSQL, and why one fails, or what is first done with it: in one line, without secrets."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import sqlalchemy as sa

from postroomd.storage.drivers.postgresql_url import requires_tls
from postroomd.storage.url_parameters import FILE_PARAMETERS, last

_PERMISSION = ": connect as the owner of the tables, or have an administrator grant it"
# SQLSTATE, or its class -> the remedy. Further states are faults of statements, whose messages may hold data.
_REMEDIES = {
    "08": "",
    "25006": ": connect to the primary, or have an administrator reset default_transaction_read_only",
    "28": ": check user, password and the server's pg_hba.conf",
    "3D": ": create the database first",
    "42501": _PERMISSION,
    "42P01": ": another process changes the schema",
    "53": "",
    "57": "",
}
# Of a connection, which has sent no data yet: any other state has the server's text alone.
_CONNECTION_REMEDIES = {
    "22023": ": correct the parameters of the URL",
    "42704": ": correct the parameters of the URL",
    "55000": ": have an administrator allow connections to it",
}
_FILE_ERRORS = {errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EPERM}


class ConnectionFailed(ConnectionError):
    """A connection could not be made. `reason` is one line for the operator, without secrets."""

    def __init__(self, reason: str, cause: Exception) -> None:
        super().__init__(reason)
        self.reason = reason
        self.orig = cause


class Connector:
    """Connects to the database of a URL, as SQLAlchemy's `async_creator_fn`.

    Whatever the driver raises meanwhile is ConnectionFailed: its errors have no common base, and include ValueError,
    OverflowError and TypeError. None of them is retried, or reported to callers, in another way than the rest.
    """

    def __init__(self, url: sa.URL) -> None:
        self._url = url

    async def __call__(self, *arguments: Any, **options: Any) -> asyncpg.Connection:
        """Return a new connection. Raises ConnectionFailed."""
        try:
            return await asyncpg.connect(*arguments, **options)
        except Exception as error:
            raise ConnectionFailed(await asyncio.to_thread(self._reason, error), error) from error

    def _reason(self, error: Exception) -> str:
        """Return the cause in one line. Reads the files that the URL names, for the one that can't be read."""
        is_of_file = isinstance(error, OSError) and error.errno in _FILE_ERRORS and not error.filename
        if is_of_file and (unreadable := next(self._unreadable_files(), None)):
            return unreadable
        if isinstance(error, ConnectionError) and "rejected SSL" in str(error):
            return _REJECTED_TLS[requires_tls(self._url)]
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLCertVerificationError):
            named = [f"{name} {path}" for name, path in self._files()]
            files = f": check {', '.join(named)}" if named else ""
            return f"{explain_connection(error)}{files}"
        if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
            wanted = last(self._url.query.get("target_session_attrs", "any"))
            return f"the server is not {wanted}, which target_session_attrs requires: correct the host or the parameter"
        if isinstance(error, asyncpg.PostgresError):
            remedy = _CONNECTION_REMEDIES.get(str(error.sqlstate), "")
            return explain_connection(error) or f"{_first_line(error)}{remedy}"
        known = explain_connection(error) or f"the driver fails: {_first_line(error) or type(error).__name__}"
        return self._without_secrets(known)

    def _files(self) -> Iterator[tuple[str, str]]:
        for name in FILE_PARAMETERS:
            if name in self._url.query:
                yield name, last(self._url.query[name])

    def _unreadable_files(self) -> Iterator[str]:
        for name, path in self._files():
            try:
                with Path(path).open("rb"):
                    pass
            except OSError as error:
                yield f"{name} {path}: {error.strerror}"

    def _without_secrets(self, text: str) -> str:
        for secret in (self._url.password, last(self._url.query.get("sslpassword", ""))):
            text = text.replace(str(secret), "…") if secret else text
        return text


_REJECTED_TLS: Mapping[bool, str] = {
    True: (
        "the server has no TLS, which sslmode requires: enable it there, or change sslmode in the URL, or the port if"
        " another server listens there"
    ),
    False: "what listens there is no PostgreSQL server: check host and port",
}


def explain_connection(error: BaseException) -> str | None:
    """Return why a connection, or what is first done with it, fails; None for an error without a known cause.

    The text is the server's own where there is one: it names users, databases and tables, and neither passwords nor
    rows.
    """
    if isinstance(error, ConnectionFailed):
        return error.reason
    if isinstance(error.__cause__, asyncpg.PostgresError | asyncpg.InterfaceError):
        error = error.__cause__  # which SQLAlchemy's adapter has wrapped
    if state := str(getattr(error, "sqlstate", None) or ""):
        remedy = _REMEDIES.get(state, _REMEDIES.get(state[:2]))
        return None if remedy is None else f"{_first_line(error)}{remedy}"
    match error:
        case ssl.SSLCertVerificationError():
            return f"the server's certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS fails: {error.reason or _first_line(error)}"
        case socket.gaierror():
            return f"the host name can't be resolved: {error.strerror}"
        case TimeoutError() | asyncio.TimeoutError():
            return "the server does not respond"
        case ConnectionRefusedError():
            return "the server refuses connections: check host and port, and whether it runs"
        case OSError() if error.strerror:
            return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        case OSError() | asyncpg.InterfaceError():
            return _first_line(error) or "the connection fails"
        case _:
            return None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")
