"""The parameters of PostgreSQL URLs: those of libpq and of the driver, and the values that each accepts.

Without imports of a driver, which take a while: settings are also validated by commands that need no database.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import parse_qsl

# asyncpg reads these from a DSN, whose other parts the URL's replace. It sends those of the session to the server.
DSN_PARAMETERS = frozenset(
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
FILE_PARAMETERS = ("sslrootcert", "sslcrl", "sslcert", "sslkey")
"""The parameters that name a file which TLS needs."""
# Of libpq only, and of no consequence here: asyncpg connects without GSSAPI encryption, and sends UTF-8.
IGNORED_PARAMETERS = frozenset(
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
TIMEOUT_PARAMETER = "connect_timeout"
SQLALCHEMY_PARAMETERS = frozenset({"host", "port", "prepared_statement_cache_size", "ssl"})
"""The parameters that SQLAlchemy reads from the URL."""


def _to_boolean(text: str) -> bool:
    return text in _TRUE


DRIVER_PARAMETERS: Mapping[str, Callable[[str], object]] = {
    "command_timeout": float,
    "direct_tls": _to_boolean,
    "max_cacheable_statement_size": int,
    "max_cached_statement_lifetime": int,
    "statement_cache_size": int,
}
"""The arguments of asyncpg, which does not convert text."""

KNOWN = DSN_PARAMETERS | IGNORED_PARAMETERS | SQLALCHEMY_PARAMETERS | DRIVER_PARAMETERS.keys() | {TIMEOUT_PARAMETER}

TLS_REQUIRED = ("require", "verify-ca", "verify-full")
_TRUE, _FALSE = ("true", "on", "yes", "1"), ("false", "off", "no", "0")
_MODES = ("disable", "allow", "prefer", *TLS_REQUIRED)
_TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_CHOICES: Mapping[str, Sequence[str]] = {
    "direct_tls": (*_TRUE, *_FALSE),
    "gsslib": ("gssapi", "sspi"),
    "ssl": _MODES,
    "ssl_max_protocol_version": _TLS_VERSIONS,
    "ssl_min_protocol_version": _TLS_VERSIONS,
    "sslmode": _MODES,
    "sslnegotiation": ("postgres", "direct"),
    "target_session_attrs": ("any", "primary", "standby", "read-write", "read-only", "prefer-standby"),
}
_INTEGER = re.compile(r"[0-9]{1,9}")
_FORMS: Mapping[str, tuple[re.Pattern[str], str]] = {
    TIMEOUT_PARAMETER: (_INTEGER, "seconds"),
    "command_timeout": (re.compile(r"(?=.*[1-9])[0-9]{1,9}(\.[0-9]{1,9})?"), "seconds, more than 0"),
    "max_cacheable_statement_size": (_INTEGER, "octets"),
    "max_cached_statement_lifetime": (_INTEGER, "seconds"),
    "prepared_statement_cache_size": (_INTEGER, "a number"),
    "statement_cache_size": (_INTEGER, "a number"),
}
MAX_PORT = 65_535


def last(value: str | Sequence[str]) -> str:
    """Return the value of a parameter that is given several times: the last one, as libpq does."""
    return value if isinstance(value, str) else value[-1]


def query_fault(query: Mapping[str, str | Sequence[str]]) -> str | None:
    """Return what is wrong with the parameters of a URL, without the value of an invalid one, or None."""
    return next(_faults(query), None)


def text_fault(query: str) -> str | None:
    """Return what is wrong with the text after the question mark of a URL, or None."""
    parameters: dict[str, list[str]] = {}
    for name, value in parse_qsl(query):
        parameters.setdefault(name, []).append(value)
    return query_fault(parameters)


def is_port(text: str) -> bool:
    """Return whether a text is the number of a TCP port."""
    return bool(_INTEGER.fullmatch(text)) and 1 <= int(text) <= MAX_PORT


def _faults(query: Mapping[str, str | Sequence[str]]) -> Iterator[str]:
    for name in sorted(query.keys() - KNOWN):
        yield f"the database URL has an unknown parameter, {name}: remove it"
    for name, value in sorted(query.items()):
        text = last(value)
        if name in _CHOICES and text not in _CHOICES[name]:
            yield f"the database URL has an invalid {name}: expected {', '.join(_CHOICES[name])}"
        if name in _FORMS and not _FORMS[name][0].fullmatch(text):
            yield f"the database URL has an invalid {name}: expected {_FORMS[name][1]}"
    given = query.get("port", ())
    for port in [given] if isinstance(given, str) else given:
        if not all(map(is_port, port.split(","))):
            yield f"the database URL has an invalid port: expected 1 to {MAX_PORT}"
