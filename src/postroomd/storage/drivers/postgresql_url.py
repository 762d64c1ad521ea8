"""PostgreSQL's URLs: the parameters of libpq as those of asyncpg, and why a connection fails."""

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import asyncpg  # type: ignore[import-untyped]
import sqlalchemy as sa

from postroomd.domain.errors import StorageUnavailable

# asyncpg reads these from a DSN, whose other parts the URL's replace. It sends those of the session to the server.
_DSN_PARAMETERS = frozenset(
    {
        "application_name",
        "gsslib",
        "krbsrvname",
        "options",
        "passfile",
        "sslcert",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslnegotiation",
        "sslpassword",
        "sslrootcert",
        "ssl_max_protocol_version",
        "ssl_min_protocol_version",
        "target_session_attrs",
    }
)
# Of libpq only, and of no consequence here: asyncpg connects without GSSAPI encryption, and sends UTF-8.
_IGNORED_PARAMETERS = frozenset(
    {
        "channel_binding",
        "client_encoding",
        "fallback_application_name",
        "gssdelegation",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "sslcertmode",
        "sslcompression",
        "sslsni",
        "tcp_user_timeout",
    }
)
_TIMEOUT_PARAMETER = "connect_timeout"
_DRIVER_PARAMETERS = frozenset(
    {
        "command_timeout",
        "direct_tls",
        "host",
        "max_cacheable_statement_size",
        "max_cached_statement_lifetime",
        "port",
        "prepared_statement_cache_size",
        "prepared_statement_name_func",
        "ssl",
        "statement_cache_size",
    }
)
_KNOWN = _DSN_PARAMETERS | _IGNORED_PARAMETERS | _DRIVER_PARAMETERS | {_TIMEOUT_PARAMETER}

_PERMISSION = ": connect as the owner of the tables, or have an administrator grant it"
# SQLSTATE, or its class -> the remedy. Further states are faults of statements, whose messages may hold data.
_REMEDIES = {
    "08": "",
    "25006": ": connect to the primary",
    "28": ": check user, password and the server's pg_hba.conf",
    "3D": ": create the database first",
    "42501": _PERMISSION,
    "42P01": ": another process changes the schema",
    "53": "",
    "57": "",
}


def describe(url: sa.URL, *, with_user: bool) -> str:
    """Return the engine, host, port and name, and the user on request."""
    host = url.host or url.query.get("host", "localhost")
    hosts = host if isinstance(host, str) else ",".join(host)
    user = f", user {url.username or 'of the system'}" if with_user else ""
    return f"PostgreSQL {hosts}:{url.port or 5432}/{url.database or ''}{user}"


def translate(url: sa.URL) -> tuple[sa.URL, Mapping[str, Any]]:
    """Return a URL with the driver's parameters only, and the arguments of a connection that replace the others.

    Raises StorageUnavailable, with a reason that names the parameter, for one that neither libpq nor the driver has.
    """
    if unknown := sorted(url.query.keys() - _KNOWN):
        raise StorageUnavailable(reason=f"the database URL has an unknown parameter, {unknown[0]}: remove it")
    arguments: dict[str, Any] = {}
    if passed := {name: _last(value) for name, value in url.query.items() if name in _DSN_PARAMETERS}:
        arguments["dsn"] = f"postgresql://?{urlencode(passed)}"
    if (timeout := url.query.get(_TIMEOUT_PARAMETER)) is not None:
        text = _last(timeout)
        if not text.isdecimal():
            raise StorageUnavailable(reason=f"the database URL has an invalid {_TIMEOUT_PARAMETER}: expected seconds")
        if seconds := int(text):  # 0 is libpq's "unlimited", of which there is none here
            arguments["timeout"] = float(seconds)
    return url.difference_update_query(url.query.keys() - _DRIVER_PARAMETERS), arguments


def _last(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else value[-1]


def explain_connection(error: BaseException) -> str | None:
    """Return why a connection, or what is first done with it, fails; None for an error without a known cause.

    The text is the server's own where there is one: it names users, databases and tables, and neither passwords nor
    rows.
    """
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
        case ConnectionError() if "rejected SSL" in str(error):
            return "the server has no TLS, which sslmode requires: enable it there, or change sslmode in the URL"
        case OSError() if error.strerror:
            return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        case OSError() | asyncpg.InterfaceError():
            return _first_line(error) or "the connection fails"
        case _:
            return None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")
