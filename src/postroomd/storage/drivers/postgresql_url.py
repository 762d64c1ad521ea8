"""PostgreSQL's URLs: the parameters of libpq as those of asyncpg, and the location for messages."""

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlencode

import sqlalchemy as sa

from postroomd.domain.errors import StorageUnavailable
from postroomd.storage.url_parameters import (
    DRIVER_PARAMETERS,
    DSN_PARAMETERS,
    SQLALCHEMY_PARAMETERS,
    TIMEOUT_PARAMETER,
    TLS_REQUIRED,
    last,
    query_fault,
)

DEFAULT_PORT = 5432


def describe(url: sa.URL, *, with_user: bool) -> str:
    """Return the engine, host, port and name, and the user on request.

    A host or a name with an @ is left out: it may be a part of a password that was not percent-encoded.
    """
    url = _with_socket(url)
    hosts = url.host or url.query.get("host") or os.environ.get("PGHOST") or "localhost"
    port = str(url.port or last(url.query.get("port", "")) or os.environ.get("PGPORT") or DEFAULT_PORT)
    places = [_with_port(host, port) for host in ([hosts] if isinstance(hosts, str) else hosts)]
    user = f", user {url.username or 'of the system'}" if with_user else ""
    return f"PostgreSQL {','.join(map(_shown, places))}/{_shown(url.database or '')}{user}"


def requires_tls(url: sa.URL) -> bool:
    """Return whether a connection without TLS is refused."""
    mode = last(url.query.get("ssl") or url.query.get("sslmode") or os.environ.get("PGSSLMODE", ""))
    return mode in TLS_REQUIRED


def translate(url: sa.URL) -> tuple[sa.URL, Mapping[str, Any]]:
    """Return a URL with SQLAlchemy's parameters only, and the arguments of a connection that replace the others.

    Raises StorageUnavailable, with a reason that names the parameter, for an unknown or invalid one.
    """
    if fault := query_fault(url.query):
        raise StorageUnavailable(reason=fault)
    arguments: dict[str, Any] = {
        name: convert(last(url.query[name])) for name, convert in DRIVER_PARAMETERS.items() if name in url.query
    }
    if passed := {name: last(value) for name, value in url.query.items() if name in DSN_PARAMETERS}:
        arguments["dsn"] = f"postgresql://?{urlencode(passed)}"
    if seconds := int(last(url.query.get(TIMEOUT_PARAMETER, "0"))):  # 0 is libpq's "unlimited", which is not offered
        arguments["timeout"] = float(seconds)
    return _with_socket(url).difference_update_query(url.query.keys() - SQLALCHEMY_PARAMETERS), arguments


def _with_socket(url: sa.URL) -> sa.URL:
    """Return a URL whose host, the percent-encoded directory of a Unix socket, is decoded, as libpq does it."""
    return url.set(host=unquote(url.host)) if url.host and url.host.upper().startswith("%2F") else url


def _with_port(host: str, port: str) -> str:
    if host.count(":") > 1 and not host.startswith("["):  # an IPv6 address, of which the URL has dropped the brackets
        return f"[{host}]:{port}"
    return host if ":" in host.rpartition("]")[2] else f"{host}:{port}"


def _shown(part: str) -> str:
    return "…" if "@" in part else part
