"""The types of settings, which canonicalize their values or raise ValueError."""

import re
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from postroomd.durations import parse_duration
from postroomd.net import (
    canonical_endpoint,
    canonical_host_name,
    canonical_host_names,
    canonical_networks,
    canonical_origins,
    join_address,
    split_address,
)
from postroomd.storage.url_parameters import MAX_PORT, is_port, text_fault

SQLITE_PREFIX = "sqlite+aiosqlite:///"
POSTGRESQL_PREFIX = "postgresql+asyncpg://"
_HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(:\d+)?")


def _canonical_address(address: str) -> str:
    return join_address(*split_address(address))


def _validate_database_url(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    if text.startswith(POSTGRESQL_PREFIX) and len(text) > len(POSTGRESQL_PREFIX):
        _validate_location(text.removeprefix(POSTGRESQL_PREFIX))
        return url
    path = text.removeprefix(SQLITE_PREFIX)
    if path == text or not path or path.endswith("/") or path.startswith(":") or {"?", "#", "\0"} & set(path):
        raise ValueError(
            f"expected {SQLITE_PREFIX}PATH or {POSTGRESQL_PREFIX}USER:PASSWORD@HOST/NAME,"
            f" such as {SQLITE_PREFIX}data/postroom.db"
        )
    return url


def _validate_replica_url(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    if not text.startswith(POSTGRESQL_PREFIX):
        raise ValueError(f"expected {POSTGRESQL_PREFIX}USER:PASSWORD@HOST/NAME")
    _validate_location(text.removeprefix(POSTGRESQL_PREFIX))
    return url


def _validate_location(rest: str) -> None:
    """Validate what follows the scheme of a URL. Raises ValueError, which contains no part of it.

    Also if a part of a password could be taken for the host, the database or a parameter, which messages name.
    """
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if authority.count("@") > 1 or "@" in rest.removeprefix(authority):
        raise ValueError("percent-encode @ / ? # and % in user and password, such as %40 for @, and @ after the host")
    matched = _HOST_AND_PORT.fullmatch(authority.rpartition("@")[2])
    if not matched:
        raise ValueError(f"expected {POSTGRESQL_PREFIX}USER:PASSWORD@HOST:PORT/NAME, with a number for PORT")
    if (port := matched[2]) and not is_port(port.removeprefix(":")):
        raise ValueError(f"the database URL has an invalid port: expected 1 to {MAX_PORT}")
    if fault := text_fault(rest.partition("?")[2]):
        raise ValueError(fault)


def _validate_resolvers(text: str) -> str:
    if text:
        from postroomd.dns import parse_endpoint  # slow to import, and rarely needed

        for endpoint in text.split(","):
            parse_endpoint(endpoint.strip())
    return text


def _canonical_label(text: str) -> str:
    return canonical_host_name(text) if text not in {"", "@"} else ""


def _validate_http_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError("expected http://HOST:PORT/PATH or https://HOST:PORT/PATH, without user and query")
    return text


Address = Annotated[str, AfterValidator(_canonical_address)]
HostName = Annotated[str, AfterValidator(canonical_host_name)]
HostNames = Annotated[str, AfterValidator(canonical_host_names)]
ValidationLabel = Annotated[str, AfterValidator(_canonical_label)]
HttpUrl = Annotated[str, AfterValidator(_validate_http_url)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_validate_database_url)]
ReplicaUrl = Annotated[SecretStr, AfterValidator(_validate_replica_url)]
Resolvers = Annotated[str, AfterValidator(_validate_resolvers)]
Origins = Annotated[str, AfterValidator(canonical_origins)]
Endpoint = Annotated[str, AfterValidator(canonical_endpoint)]
Networks = Annotated[str, AfterValidator(canonical_networks)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
# The bounds come first, so that the error of one that is not kept says "1 second" instead of its Python form.
Period = Annotated[timedelta, Field(ge=timedelta(seconds=1), le=timedelta(days=3_650)), BeforeValidator(parse_duration)]
