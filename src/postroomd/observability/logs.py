"""Logs: one JSON object a line on stderr, or lines for people on a terminal; the libraries' own lines among them.

An instant is ISO 8601 in UTC. What a log call is given under the name of a secret is masked; that is the last line of
defence, not a licence to log secrets.
"""

import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

# structlog loads rich where there is one, to show local variables in tracebacks. They may be secrets: none are shown,
# and no process is to hold 7 MB for it. So everything that logs comes here for its logger.
_rich = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment] # an import of it fails
import structlog  # noqa: E402
from structlog.typing import EventDict, Processor, WrappedLogger  # noqa: E402

if _rich is None:
    del sys.modules["rich"]
else:
    sys.modules["rich"] = _rich

if TYPE_CHECKING:
    from prometheus_client import Counter

get_logger = structlog.get_logger

CALL: ContextVar[tuple[str, str]] = ContextVar("call")
"""The request id and the RPC of the call that is being handled, which stand in its log lines."""

SECRET_NAMES = frozenset(
    {
        "authorization",
        "database_url",
        "dkim_private_key",
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
    }
)
"""Names of values that are masked wherever they stand; `-` counts as `_`, and case does not count."""

MASK = "[redacted]"
QUIET_LIBRARIES = ("aiohttp", "aiosqlite", "alembic", "asyncio", "grpc", "sqlalchemy")


TALLY_SECONDS = 1.0


class Tally:
    """Counts what may happen too often for a line each, in a metric, and logs the count: at once, then once a second.

    What it counts comes when the process has least time for it, such as calls that are refused for their number.
    """

    def __init__(self, event: str, counter: "Counter", **fields: object) -> None:
        self._event = event
        self._counter = counter
        self._fields = fields
        self._count = 0
        self._logged_at = -TALLY_SECONDS

    def add(self) -> None:
        """Count one more."""
        self._counter.inc()
        self._count += 1
        now = monotonic()
        if now - self._logged_at >= TALLY_SECONDS:
            get_logger().warning(self._event, **self._fields, count=self._count)
            self._logged_at, self._count = now, 0


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask what stands under a secret's name, at any depth."""
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


def configure(level: str, form: Literal["auto", "json", "console"] = "auto", *, process: str) -> None:
    """Send every log line of this process to stderr, from `level` up, each with the name of its `process`.

    It may be called again; a logger that has been used keeps working.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]

    def name_process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("process", process)
        return event

    shared: list[Processor] = [
        _name_call,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_process,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                redact,
                *_renderers(console=form == "console" or (form == "auto" and sys.stderr.isatty())),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name in QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
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


def _name_call(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if call := CALL.get(None):
        event.setdefault("request_id", call[0])
        event.setdefault("rpc", call[1])
    return event


def _renderers(*, console: bool) -> list[Processor]:
    if console:
        # The default renderer of a traceback shows local variables, which may be secrets.
        return [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    return [structlog.processors.format_exc_info, _in_order, structlog.processors.JSONRenderer()]


def _in_order(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    first = {name: event[name] for name in ("timestamp", "level", "process", "event") if name in event}
    return {**first, **event}
