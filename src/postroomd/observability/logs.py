"""Structured logs of Postroom and its libraries on stderr: one JSON object per line, or console text on a terminal.

Timestamps are ISO 8601 in UTC. Values logged under the name of a secret are masked as a last line of defence.
"""

import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from time import monotonic
from typing import Any, Literal, Protocol

# structlog imports rich, if installed, to show local variables in tracebacks. Local variables may be secrets and are
# never shown, and rich would cost every process 7 MB. All modules therefore import their logger from here.
_rich = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment] # makes the import fail
import structlog  # noqa: E402
from structlog.typing import EventDict, Processor, WrappedLogger  # noqa: E402

if _rich is None:
    del sys.modules["rich"]
else:
    sys.modules["rich"] = _rich

get_logger = structlog.get_logger

LOGGED_CALL: ContextVar[tuple[str, str]] = ContextVar("logged_call")
"""Request id and RPC name of the call being handled, added to each of its log lines."""

LOGGED_TRACE: ContextVar[Mapping[str, str]] = ContextVar("logged_trace")
"""Ids of the trace and the span of the request being handled, added to each of its log lines while tracing is on."""

SECRET_NAMES = frozenset(
    {
        "authorization",
        "database_url",
        "dkim_private_key",
        "gateway_secret",
        "new_password",
        "password",
        "password_hash",
        "proxy_authorization",
        "scw_secret_key",
        "secret",
        "secret_hash",
        "secret_key",
        "token",
        "validation_token",
        "x_auth_token",
        "x_gateway_secret",
    }
)
"""Names whose values are masked at any depth; `-` is the same as `_`, and case is ignored."""

MASK = "[redacted]"
DROPPED_EVENTS_OF_GRPC = (
    "Invalid encoding on ",  # metadata that is not UTF-8; the value follows, which may be a secret
    "ExecuteBatchError raised in core ",  # the caller has disconnected before its response
)
"""How events begin that gRPC logs as errors with a traceback, and that every caller can cause at will."""
QUIET_LIBRARIES = ("aiohttp", "aiosqlite", "alembic", "asyncio", "grpc", "sqlalchemy")

WARNING_INTERVAL_SECONDS = 1.0


class Incrementable(Protocol):
    """A counter without labels, or with its labels set."""

    def inc(self) -> None:
        """Add one."""


class RateLimitedWarning:
    """A warning for frequent events, such as rejected calls: all are counted in a metric, one a second is logged.

    The first event is logged at once. The field `count` is the number of events since the previous line; other fields
    that are recorded describe the latest event.
    """

    def __init__(self, event: str, counter: Incrementable, **fields: object) -> None:
        self._event = event
        self._counter = counter
        self._fields = fields
        self._count = 0
        self._logged_at = -WARNING_INTERVAL_SECONDS

    def record(self, **latest: object) -> None:
        """Count one event, and log unless a line was logged within the interval."""
        self._counter.inc()
        self._count += 1
        now = monotonic()
        if now - self._logged_at >= WARNING_INTERVAL_SECONDS:
            get_logger().warning(self._event, **self._fields, **latest, count=self._count)
            self._logged_at, self._count = now, 0


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask values under the names of secrets, at any depth."""
    return {name: _redacted(name, value) for name, value in event.items()}


def _redacted(name: object, value: Any) -> Any:
    if isinstance(name, str) and name.lower().replace("-", "_") in SECRET_NAMES:
        return MASK
    if isinstance(value, Mapping):
        return {key: _redacted(key, item) for key, item in value.items()}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        return (value[0], _redacted(*value))  # an item of gRPC metadata
    if isinstance(value, list | tuple):
        return [_redacted(None, item) for item in value]
    return value


def configure(level: str, log_format: Literal["auto", "json", "console"] = "auto", *, process: str) -> None:
    """Configure all logs of this process: to stderr, from `level` up, each line with the field `process`.

    May be called again; loggers that are already in use follow.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]

    def add_process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("process", process)
        return event

    shared: list[Processor] = [
        _add_call,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_process,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                redact,
                *_renderers(console=log_format == "console" or (log_format == "auto" and sys.stderr.isatty())),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name in QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_kept)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _is_kept(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(DROPPED_EVENTS_OF_GRPC)


def _add_call(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if call := LOGGED_CALL.get(None):
        event.setdefault("request_id", call[0])
        event.setdefault("rpc", call[1])
    if trace := LOGGED_TRACE.get(None):
        event.update(trace)
    return event


def _renderers(*, console: bool) -> list[Processor]:
    if console:
        # The default exception formatter shows local variables, which may be secrets.
        return [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    return [structlog.processors.format_exc_info, _common_fields_first, structlog.processors.JSONRenderer()]


def _common_fields_first(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    first = {name: event[name] for name in ("timestamp", "level", "process", "event") if name in event}
    return {**first, **event}
