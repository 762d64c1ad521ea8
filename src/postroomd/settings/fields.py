"""The settings: fields with their types, defaults, limits and descriptions."""

import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from postroomd.domain.clock_leaps import LeapLimits
from postroomd.domain.policy import LifecyclePolicy, Quotas
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

PREFIX = "POSTROOM_"
SQLITE_PREFIX = "sqlite+aiosqlite:///"
POSTGRESQL_PREFIX = "postgresql+asyncpg://"
_HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(:\d{1,5})?")


def _canonical_address(address: str) -> str:
    return join_address(*split_address(address))


def _validate_database_url(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    if text.startswith(POSTGRESQL_PREFIX) and len(text) > len(POSTGRESQL_PREFIX):
        _validate_authority(text.removeprefix(POSTGRESQL_PREFIX))
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
    _validate_authority(text.removeprefix(POSTGRESQL_PREFIX))
    return url


def _validate_authority(rest: str) -> None:
    """Raise ValueError if a URL without its scheme has no clear host: a part of a password could be taken for it."""
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if authority.count("@") > 1 or ("@" not in authority and "@" in rest):
        raise ValueError("percent-encode @ / ? # and % in user and password, such as %40 for @")
    if not _HOST_AND_PORT.fullmatch(authority.rpartition("@")[2]):
        raise ValueError(f"expected {POSTGRESQL_PREFIX}USER:PASSWORD@HOST:PORT/NAME, with a number for PORT")


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
Retention = Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(days=3_650))]

# Groups of commands that have a setting as a flag.
_NEW_KEY = ("keys create", "keys rotate")
_TENANCY = (
    *("organizations create", "organizations list", "projects create", "projects list", "projects set-quota"),
    *(*_NEW_KEY, "keys list", "keys revoke"),
)
_ADMIN_KEYS = ("admin-keys create", "admin-keys list", "admin-keys revoke")
_ADMIN = (*_ADMIN_KEYS, "history", "audit", "doctor", "clock status", "clock accept")
_PROCESSES = ("up", "serve", "gateway", "worker")
_BACKUP = ("backup", "restore")
_MAIL_CONFIG = ("mail-config dovecot", "mail-config postfix", "mail-config rspamd")
_MAIL = ("mail-role create", *_MAIL_CONFIG)
_DATABASE = ("up", "serve", "worker", "migrate", "export", *_BACKUP, *_TENANCY, *_ADMIN, *_MAIL)
_ALL = (*_PROCESSES, "migrate", *_TENANCY, *_ADMIN)
_RULES = ("up", "serve", "worker")
_SERVICE = ("up", "serve")
_GATEWAY = ("up", "gateway")
_WORKER = ("up", "worker")
# Groups of commands that call a running service: as a tenant, and as its operator.
_TENANT_CLIENT = ("tenant client", "export", "doctor")
_CLIENT = (*_TENANT_CLIENT, "operator client")


def _setting(default: Any, commands: tuple[str, ...], description: str, **constraints: Any) -> Any:
    """Return a field with its default, the commands that have it as a flag, and its description with the unit."""
    return Field(default, description=description, json_schema_extra={"commands": list(commands)}, **constraints)


class Settings(BaseSettings):
    """The settings of all processes."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=True,
    )

    database_url: DatabaseUrl = _setting(
        SecretStr(f"{SQLITE_PREFIX}data/postroom.db"),
        _DATABASE,
        f"URL of the database: `{SQLITE_PREFIX}PATH` or `{POSTGRESQL_PREFIX}USER:PASSWORD@HOST/NAME`.",
    )
    database_pool_size: int = _setting(
        10, _RULES, "Maximum PostgreSQL connections per process; calls wait while all are in use.", ge=3, le=1_000
    )
    statement_timeout_seconds: float = _setting(
        30.0,
        _RULES,
        "Maximum duration of a statement on PostgreSQL, in seconds; a call that exceeds it fails. 0: unlimited.",
        ge=0,
        le=3_600,
    )
    database_replica_url: ReplicaUrl | None = _setting(
        None, _SERVICE, "URL of a PostgreSQL streaming replica, `postgresql+asyncpg://…`, from which lists are read."
    )
    replica_staleness_seconds: float = _setting(
        5.0, _SERVICE, "Maximum lag of the replica, in seconds; beyond it the primary serves lists.", ge=1, le=3_600
    )
    grpc_address: Address = _setting(
        "127.0.0.1:50051",
        ("up", "serve", "gateway", *_TENANT_CLIENT),
        "Address of the gRPC service, `HOST:PORT`; port 0 selects a free port.",
    )
    grpc_reflection: bool = _setting(
        False, _SERVICE, "`true` enables server reflection, by which grpcurl and similar clients learn the contract."
    )
    tls_cert: Path | None = _setting(
        None,
        (*_SERVICE, "doctor"),
        "Certificate chain of the gRPC services in PEM format, which enables TLS; read again when it changes.",
    )
    tls_key: Path | None = _setting(
        None, (*_SERVICE, "doctor"), "Private key of `--tls-cert` in PEM format, without passphrase."
    )
    tls_client_ca: Path | None = _setting(
        None, _SERVICE, "Authorities of client certificates in PEM format; every gRPC client must then present one."
    )
    grpc_tls_ca: Path | None = _setting(
        None,
        (*_GATEWAY, *_CLIENT),
        "Authorities of the service's certificate in PEM format, which enables TLS from the gateway to the service;"
        " `up` uses the certificate itself.",
    )
    grpc_tls_cert: Path | None = _setting(
        None,
        (*_GATEWAY, *_CLIENT),
        "Certificate chain of the gateway in PEM format, for a service with `--tls-client-ca`.",
    )
    grpc_tls_key: Path | None = _setting(
        None, (*_GATEWAY, *_CLIENT), "Private key of `--grpc-tls-cert` in PEM format, without passphrase."
    )
    grpc_tls_server_name: HostName | None = _setting(
        None,
        (*_GATEWAY, *_CLIENT),
        "Name in the service's certificate, where it is not the host of `--grpc-address`.",
    )
    http_tls_cert: Path | None = _setting(
        None,
        (*_GATEWAY, *_NEW_KEY, "doctor"),
        "Certificate chain of the REST gateway in PEM format, which enables HTTPS.",
    )
    http_tls_key: Path | None = _setting(
        None, (*_GATEWAY, *_NEW_KEY, "doctor"), "Private key of `--http-tls-cert` in PEM format, without passphrase."
    )
    http_tls_client_ca: Path | None = _setting(
        None,
        (*_GATEWAY, "doctor"),
        "Authorities of client certificates in PEM format; every REST client must then present one.",
    )
    insecure: bool = _setting(
        False,
        ("up", "serve", "gateway", *_CLIENT),
        "`true` allows addresses that other machines reach without TLS, behind a proxy that speaks it.",
    )
    max_streams: int = _setting(
        100,
        ("up", "serve", "gateway"),
        "Maximum concurrent calls per gRPC connection; a gateway opens as many connections as it needs.",
        ge=1,
        le=10_000,
    )
    max_grpc_connections: int = _setting(
        1_000,
        _SERVICE,
        "Maximum open gRPC connections per process and address; further ones are closed, those without calls after 2"
        " minutes.",
        ge=16,
        le=1_000_000,
    )
    gateway_secret: SecretStr | None = _setting(
        None,
        ("up", "serve", "gateway"),
        "Secret by which the service recognizes gateways and trusts the client addresses they report; `up` makes one.",
        min_length=16,
    )
    admin_address: Address | None = _setting(
        None,
        (*_SERVICE, "operator client"),
        "Address of the admin service, `HOST:PORT`, which can access every tenant; disabled if not set.",
    )
    http_address: Address = _setting(
        "127.0.0.1:8080",
        (*_GATEWAY, *_NEW_KEY, "doctor"),
        "Address of the REST gateway, `HOST:PORT`; port 0 selects a free port.",
    )
    autoconfig_address: Address | None = _setting(
        None,
        _GATEWAY,
        "Address of the documents that mail clients configure themselves from, `HOST:PORT`; disabled if not set.",
    )
    metrics_address: Address | None = _setting(
        None, _PROCESSES, "Address of the Prometheus metrics, `HOST:PORT`; keep it internal. Disabled if not set."
    )
    otlp_endpoint: Endpoint | None = _setting(
        None,
        ("up", "serve", "gateway"),
        "URL of an OpenTelemetry collector, such as `http://127.0.0.1:4317`, which receives traces by OTLP over gRPC."
        " Disabled if neither this nor `OTEL_EXPORTER_OTLP_ENDPOINT` is set. Needs `postroom[otel]`.",
    )
    processes: int = _setting(
        1, ("serve", "gateway"), "Number of processes that share the address. `serve` on SQLite allows 1.", ge=1, le=256
    )
    domain_validation: Literal["dns", "trust"] = _setting(
        "dns", _RULES, "Validation of a domain's DNS records: `dns` looks them up, `trust` assumes that they are valid."
    )
    domain_validation_label: ValidationLabel = _setting(
        "_postroom-challenge",
        _SERVICE,
        "Label below a new domain at which its validation token is published; `@` or empty: the domain itself.",
    )
    domain_validation_prefix: str = _setting(
        "postroom-validation=",
        _SERVICE,
        "Text before the validation token of new domains.",
        pattern=r"^[A-Za-z0-9._:=-]*$",
        max_length=64,
    )
    allow_reserved_names: HostNames = _setting(
        "",
        _SERVICE,
        "Names, comma-separated, that can be registered with those below them, although they are special-use names"
        " (`internal`) or belong to the mail hosts' domains.",
    )
    mailbox_quota: int = _setting(
        1_000,
        ("up", "keys create", "organizations create", "projects create"),
        "Maximum mailboxes of a new project; creating more fails with `quotas_exceeded`.",
        ge=0,
        le=2_000_000_000,
    )
    domain_quota: int = _setting(
        1_000,
        _SERVICE,
        "Maximum domains of an organization; registering more fails with `quotas_exceeded`.",
        ge=0,
        le=2_000_000_000,
    )
    alias_quota: int = _setting(10_000, _SERVICE, "Maximum aliases of an organization.", ge=0, le=2_000_000_000)
    mailbox_alias_quota: int = _setting(100, _SERVICE, "Maximum aliases of a mailbox.", ge=0, le=2_000_000_000)
    idempotency_quota: int = _setting(
        10_000,
        _SERVICE,
        "Maximum responses that are stored under idempotency keys of an organization, for 24 hours each.",
        ge=1,
        le=2_000_000_000,
    )
    idempotency_bytes_quota: int = _setting(
        67_108_864,
        _SERVICE,
        "Maximum size of these responses with their keys, in bytes.",
        ge=1_048_576,
        le=1_099_511_627_776,
    )
    deletion_retention: Duration = _setting(
        timedelta(days=30),
        _RULES,
        "Time from the deletion of a mailbox to its purge, until which it can be restored: `30d`, `12h`, or seconds.",
        ge=timedelta(seconds=1),
        le=timedelta(days=3_650),
    )
    cancellation_retention: Duration = _setting(
        timedelta(days=30),
        _RULES,
        "Time from the end of a canceled or unpaid subscription to the purge of its mailbox.",
        ge=timedelta(seconds=1),
        le=timedelta(days=3_650),
    )
    unpaid_retention: Retention | None = _setting(
        None,
        _RULES,
        "Time from the deletion of a mailbox that was never paid for to its purge; `none`: `--deletion-retention`.",
    )
    domain_deletion: Literal["refuse", "cascade"] = _setting(
        "refuse",
        _SERVICE,
        "`refuse`: a domain with mailboxes in use is deleted only with `force`; `cascade`: every deletion is forced.",
    )
    address_quarantine: Duration = _setting(
        timedelta(0),
        _RULES,
        "Time after a purge until the organization can use the address again.",
        ge=timedelta(0),
        le=timedelta(days=36_500),
    )
    history_retention: Duration = _setting(
        timedelta(days=400),
        _RULES,
        "Time until the worker removes transitions, tombstones, settled payments and provisions; not below the"
        " quarantine.",
        ge=timedelta(days=1),
        le=timedelta(days=36_500),
    )
    audit_retention: Duration = _setting(
        timedelta(days=400),
        _RULES,
        "Time until the worker removes events of the audit log.",
        ge=timedelta(days=1),
        le=timedelta(days=36_500),
    )
    billing: Literal["none", "manual"] = _setting(
        "none", _RULES, "`manual`: each period awaits a payment, confirmed by the admin service; `none`: no payments."
    )
    payment_term: Duration = _setting(
        timedelta(days=7),
        _RULES,
        "Time for a payment; after it the mailbox becomes `payment_failed`.",
        ge=timedelta(seconds=1),
        le=timedelta(days=3_650),
    )
    payment_grace: Duration = _setting(
        timedelta(days=7),
        _RULES,
        "Grace period from a failed payment until the mailbox is locked.",
        ge=timedelta(seconds=1),
        le=timedelta(days=3_650),
    )
    suspension_grace: Duration = _setting(
        timedelta(days=14),
        _RULES,
        "Grace period from that lock until the mailbox is scheduled for deletion.",
        ge=timedelta(seconds=1),
        le=timedelta(days=3_650),
    )
    provisioning: Literal["none", "manual"] = _setting(
        "none",
        _RULES,
        "`manual`: a mail platform confirms creations and deletions by the admin service; `none`: no confirmation.",
    )
    argon2_memory_kib: int = _setting(
        19_456, _SERVICE, "Argon2id memory cost of password hashes, in KiB.", ge=8, le=4_194_304
    )
    argon2_time_cost: int = _setting(
        2, _SERVICE, "Argon2id time cost of password hashes: passes over the memory.", ge=1, le=100
    )
    argon2_parallelism: int = _setting(
        1, _SERVICE, "Argon2id parallelism of password hashes: lanes, of at least 8 KiB each.", ge=1, le=64
    )
    hash_threads: int = _setting(
        0,
        _SERVICE,
        "Threads for password hashing; 0: one per core, less one, divided among `--processes`.",
        ge=0,
        le=256,
    )
    hash_wait_seconds: float = _setting(
        1.0,
        _SERVICE,
        "Maximum queueing time before a password request is rejected, in seconds; at least its own hashing time.",
        ge=0,
        le=3_600,
    )
    max_calls: int = _setting(
        128,
        _SERVICE,
        "Maximum concurrent reads per process, and maximum concurrent changes; more are rejected.",
        ge=1,
        le=100_000,
    )
    rate_limit: int = _setting(
        0,
        _SERVICE,
        "Maximum calls per second of one API key, in bursts of as many; 0: unlimited. Counted by each process alone.",
        ge=0,
        le=1_000_000,
    )
    organization_rate_limit: int = _setting(
        0,
        _SERVICE,
        "Maximum calls per second of one organization, in bursts of as many; 0: unlimited. Counted by each process"
        " alone.",
        ge=0,
        le=1_000_000,
    )
    key_cache_seconds: float = _setting(
        5.0,
        _SERVICE,
        "Lifetime of cached keys, in seconds; a revoked key is still accepted for at most this time.",
        ge=0,
        le=5,
    )
    mx_host: HostName = _setting("mx.mail.example", _SERVICE, "Host that receives mail, for MX records.")
    imap_host: HostName = _setting("imap.mail.example", _SERVICE, "Host of IMAP over TLS, port 993.")
    pop3_host: HostName = _setting("pop3.mail.example", _SERVICE, "Host of POP3 over TLS, port 995.")
    smtp_host: HostName = _setting("smtp.mail.example", _SERVICE, "Host of mail submission over TLS, port 465.")
    webmail_host: HostName = _setting("webmail.mail.example", _SERVICE, "Host of the webmail over HTTPS.")
    caldav_host: HostName = _setting("caldav.mail.example", _SERVICE, "Host of CalDAV over HTTPS.")
    carddav_host: HostName = _setting("carddav.mail.example", _SERVICE, "Host of CardDAV over HTTPS.")
    autoconfig_host: HostName = _setting("autoconfig.mail.example", _SERVICE, "Target host of `autoconfig` records.")
    autodiscover_host: HostName = _setting(
        "autodiscover.mail.example", _SERVICE, "Target host of `autodiscover` records."
    )
    spf_include: HostName = _setting("_spf.mail.example", _SERVICE, "Domain name that SPF records include.")
    spf_policy: Literal["softfail", "fail"] = _setting(
        "softfail", _SERVICE, "End of SPF records: `softfail` is `~all`, `fail` is `-all`."
    )
    dmarc_policy: Literal["none", "quarantine", "reject"] = _setting("none", _SERVICE, "Policy in DMARC records.")
    dkim_selector: HostName = _setting("postroom", _SERVICE, "DKIM selector of new domains.", max_length=63)
    dkim_bits: Literal["1024", "2048"] = _setting(
        "2048", _SERVICE, "Size of the DKIM keys of new domains; `1024` for DNS panels that reject longer TXT values."
    )
    max_body_bytes: int = _setting(
        1_048_576,
        _GATEWAY,
        "Maximum body of a REST request, in bytes; larger ones are rejected.",
        ge=1_024,
        le=4_194_304,
    )
    max_requests: int = _setting(
        128,
        _GATEWAY,
        "Maximum concurrent REST reads per gateway, and maximum concurrent changes; more are rejected.",
        ge=1,
        le=100_000,
    )
    max_connections: int = _setting(
        1_000,
        _GATEWAY,
        "Maximum open connections per gateway; beyond it, connections that wait for their client are closed first.",
        ge=1,
        le=1_000_000,
    )
    max_connections_per_address: int = _setting(
        0,
        _GATEWAY,
        "Maximum open connections per client address (IPv6: per /64 network), trusted proxies excepted; 0: no limit.",
        ge=0,
        le=1_000_000,
    )
    trusted_proxies: Networks = _setting(
        "", _GATEWAY, "Networks of proxies whose `X-Forwarded-For` is trusted, such as `10.0.0.0/8`, comma-separated."
    )
    cors_origins: Origins = _setting(
        "",
        _GATEWAY,
        "Origins of web pages that may call the API, such as `https://app.example.org`, comma-separated.",
    )
    header_timeout_seconds: float = _setting(
        10.0, _GATEWAY, "Maximum time for the headers of a request to arrive, in seconds.", gt=0, le=3_600
    )
    body_timeout_seconds: float = _setting(
        30.0, _GATEWAY, "Maximum time for the body of a request to arrive, in seconds.", gt=0, le=3_600
    )
    min_body_rate: int = _setting(
        1_024,
        _GATEWAY,
        "Minimum rate of a body after its first 5 seconds, in bytes per second; slower requests are rejected.",
        ge=1,
        le=1_000_000,
    )
    write_timeout_seconds: float = _setting(
        30.0, _GATEWAY, "Maximum time for which a client may read nothing of its response, in seconds.", gt=0, le=3_600
    )
    idle_timeout_seconds: float = _setting(
        75.0,
        _GATEWAY,
        "Time after which an idle connection is closed, in seconds; longer than a proxy in front keeps one.",
        gt=0,
        le=86_400,
    )
    call_timeout_seconds: float = _setting(
        30.0, _GATEWAY, "Deadline of the gateway's calls to the service, in seconds.", gt=0, le=3_600
    )
    drain_seconds: float = _setting(
        10.0, _PROCESSES, "Maximum time for requests in progress to finish on shutdown, in seconds.", ge=0, le=3_600
    )
    worker_interval_seconds: float = _setting(
        0.5, _WORKER, "Interval between polls of an idle worker, in seconds.", gt=0, le=3_600
    )
    dkim_directory: Path | None = _setting(
        None,
        (*_WORKER, "mail-config rspamd"),
        "Directory in which the worker keeps the private DKIM keys of domains for the mail server's signer, as"
        " `NAME.SELECTOR.key` (mode 0600; 0640 if the directory has the set-group-ID bit), and `selectors.map`;"
        " without it, no file is written.",
    )
    dkim_interval_seconds: float = _setting(
        5.0, _WORKER, "Interval between updates of `--dkim-directory`, in seconds.", gt=0, le=86_400
    )
    clock_leap_forward: Duration = _setting(
        LeapLimits().forward,
        _RULES,
        "Maximum step of the system's clock forward, and difference to the database server's clock. Beyond it, the"
        " worker pauses until the clock returns or `postroom clock accept`.",
        ge=timedelta(minutes=1),
        le=timedelta(days=3_650),
    )
    clock_leap_backward: Duration = _setting(
        LeapLimits().backward,
        _RULES,
        "Maximum step of the system's clock backward; beyond it, the worker pauses until the clock has caught up.",
        ge=timedelta(seconds=1),
        le=timedelta(days=3_650),
    )
    revalidation_interval: Duration = _setting(
        timedelta(days=1),
        _WORKER,
        "Interval between validations of a ready domain, with ±10 % jitter.",
        ge=timedelta(seconds=1),
        le=timedelta(days=3_650),
    )
    domain_release_grace: Duration = _setting(
        timedelta(days=3),
        _WORKER,
        "Time for which a ready domain's validation token may be absent from its DNS; then the domain is released.",
        ge=timedelta(0),
        le=timedelta(days=3_650),
    )
    dns_resolvers: Resolvers = _setting(
        "",
        _WORKER,
        "Resolvers that locate a domain's authoritative servers: `IP`, `IP:PORT` or `[IPv6]:PORT`, comma-separated;"
        " the system's if not set.",
    )
    dns_timeout_seconds: float = _setting(
        3.0, _WORKER, "Timeout of a query to one DNS server, in seconds.", gt=0, le=60
    )
    dns_deadline_seconds: float = _setting(
        20.0, _WORKER, "Deadline for all DNS lookups of one domain, in seconds.", gt=0, le=600
    )
    dns_allow_private: bool = _setting(
        False, _WORKER, "`true` allows domains whose DNS servers have private IP addresses."
    )
    dns_authoritative_port: int = _setting(53, _WORKER, "Port of the domains' DNS servers, for tests.", ge=1, le=65_535)
    doveadm_url: HttpUrl | None = _setting(
        None,
        _WORKER,
        "URL of Dovecot's doveadm HTTP API, by which the worker ends sessions, such as `http://127.0.0.1:8080/doveadm/v1`.",
    )
    doveadm_key_file: Path | None = _setting(
        None, _WORKER, "File that holds Dovecot's `doveadm_api_key`; needed with `--doveadm-url`."
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", _ALL, "Minimum level of log lines.")
    log_format: Literal["auto", "json", "console"] = _setting(
        "auto", _ALL, "`json`: one object per line; `console`: text; `auto`: console on a terminal, else json."
    )

    @field_validator("argon2_parallelism")
    @classmethod
    def _validate_lanes(cls, lanes: int, info: ValidationInfo) -> int:
        if info.data.get("argon2_memory_kib", sys.maxsize) < 8 * lanes:  # RFC 9106, section 3.1
            raise ValueError("Argon2 needs at least 8 KiB of memory per lane: raise --argon2-memory-kib")
        return lanes

    @field_validator("history_retention")
    @classmethod
    def _validate_history(cls, retention: timedelta, info: ValidationInfo) -> timedelta:
        if retention < info.data.get("address_quarantine", timedelta(0)):
            raise ValueError(
                "must be at least --address-quarantine, which tombstones enforce: raise it, or shorten the quarantine"
            )
        return retention

    @model_validator(mode="after")
    def _validate_certificates(self) -> Self:
        """Raise ValueError for a certificate without its key, and for options without the certificate they extend."""
        for certificate in ("tls_cert", "grpc_tls_cert", "http_tls_cert"):
            key = certificate.removesuffix("cert") + "key"
            if (getattr(self, certificate) is None) != (getattr(self, key) is None):
                raise ValueError(f"{flag(certificate)} and {flag(key)} belong together: set both or neither")
        for option, needed in (
            ("tls_client_ca", "tls_cert"),
            ("http_tls_client_ca", "http_tls_cert"),
        ):
            if getattr(self, option) is not None and getattr(self, needed) is None:
                raise ValueError(f"{flag(option)} needs {flag(needed)}: client certificates are part of TLS")
        return self

    @model_validator(mode="after")
    def _validate_doveadm(self) -> Self:
        """Raise ValueError for a URL without its key, or the other way round."""
        if (self.doveadm_url is None) != (self.doveadm_key_file is None):
            raise ValueError("--doveadm-url and --doveadm-key-file belong together: set both or neither")
        return self

    def lifecycle_policy(self) -> LifecyclePolicy:
        """Return the settings that the rules of mailboxes and domains depend on."""
        return LifecyclePolicy(
            deletion_retention=self.deletion_retention,
            cancellation_retention=self.cancellation_retention,
            unpaid_retention=self.unpaid_retention,
            billing=self.billing == "manual",
            payment_term=self.payment_term,
            payment_grace=self.payment_grace,
            suspension_grace=self.suspension_grace,
            provisioning=self.provisioning == "manual",
            quarantine=self.address_quarantine,
            cascade_domain_deletion=self.domain_deletion == "cascade",
            release_grace=self.domain_release_grace,
        )

    def quotas(self) -> Quotas:
        """Return the limits of what tenants can store."""
        return Quotas(
            domains=self.domain_quota,
            aliases=self.alias_quota,
            mailbox_aliases=self.mailbox_alias_quota,
            responses=self.idempotency_quota,
            response_octets=self.idempotency_bytes_quota,
        )

    def leap_limits(self) -> LeapLimits:
        """Return how far the system's clock may step."""
        return LeapLimits(self.clock_leap_forward, self.clock_leap_backward)

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is SQLite."""
        return self.database_url.get_secret_value().startswith(SQLITE_PREFIX)

    @property
    def database_path(self) -> Path:
        """The database file; for SQLite only."""
        return Path(self.database_url.get_secret_value().removeprefix(SQLITE_PREFIX))


def flag(name: str) -> str:
    """Return the command-line flag of a setting."""
    return "--" + name.replace("_", "-")


class UpSettings(Settings):
    """The settings of `postroom up`, which by default works without published DNS records."""

    domain_validation: Literal["dns", "trust"] = _setting(
        "trust", _RULES, Settings.model_fields["domain_validation"].description or ""
    )
    grpc_reflection: bool = _setting(True, _SERVICE, Settings.model_fields["grpc_reflection"].description or "")
