"""HTTP server of the trial clock, for tests of clients: `postroom up --clock HOST:PORT`.

`GET /now` returns `{"now": …}`. `POST /advance` advances the time by `{"seconds": 86400}`, by `{"duration": "P1M"}`
(ISO 8601, calendar months and years) or to `{"to": "2030-01-31T00:00:00Z"}`, and returns the same once the worker has
completed all work due by then. The time never goes back. Invalid input is 400 with a `message`.

Any web page in a browser on the same machine can send requests to loopback. So a Host header that is not loopback (DNS
rebinding) and an Origin header that is not loopback (cross-origin request) are 403.
"""

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from postroomd.clock import TrialClock
from postroomd.domain.calendar import add_months
from postroomd.net import is_loopback, join_address, split_address

BODY_EXPECTED = 'expected one of {"seconds": 86400}, {"duration": "P1M"} and {"to": "2030-01-31T00:00:00Z"}'
MAX_TIME = datetime(3000, 1, 1, tzinfo=UTC)

_DURATION = re.compile(
    r"P(?=.)(?:(?P<years>\d{1,4})Y)?(?:(?P<months>\d{1,5})M)?(?:(?P<weeks>\d{1,6})W)?(?:(?P<days>\d{1,6})D)?"
    r"(?:T(?=.)(?:(?P<hours>\d{1,8})H)?(?:(?P<minutes>\d{1,9})M)?(?:(?P<seconds>\d{1,10}(?:\.\d{1,6})?)S)?)?",
    re.ASCII,
)


@asynccontextmanager
async def serving_clock(clock: TrialClock, address: str) -> AsyncIterator[str]:
    """Serve the clock during the block; yields the bound HOST:PORT. Raises OSError if the address can't be bound."""

    async def now(_request: web.Request) -> web.Response:
        return _time_response(clock.now())

    async def advance(request: web.Request) -> web.Response:
        try:
            by = parse_advance(await request.read(), clock.now())
        except ValueError as error:
            return web.json_response({"message": str(error)}, status=web.HTTPBadRequest.status_code)
        return _time_response(await clock.advance(by))

    app = web.Application(middlewares=[_require_loopback])
    app.add_routes([web.get("/now", now), web.post("/advance", advance)])
    # No grace period: an advance in progress would wait for the worker, which may have exited already.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        host, port = split_address(address)
        await web.TCPSite(runner, host, port).start()
        yield join_address(host, runner.addresses[0][1])
    finally:
        await runner.cleanup()


@web.middleware
async def _require_loopback(request: web.Request, handler: Handler) -> web.StreamResponse:
    origin = request.headers.get("Origin")
    if not _is_loopback_host(request.host) or (
        origin is not None and not _is_loopback_host(origin.rpartition("//")[2])
    ):
        message = "the Host and Origin headers must be loopback: the clock serves only callers on its own machine"
        return web.json_response({"message": message}, status=web.HTTPForbidden.status_code)
    return await handler(request)


def _is_loopback_host(host: str) -> bool:
    """Whether a host, with or without a port, is `localhost` or a loopback address: no DNS name can rebind these."""
    return is_loopback(host) or is_loopback(f"{host}:80")


def parse_advance(body: bytes, now: datetime) -> timedelta:
    """Return by how much to advance the time. Raises ValueError, whose text is for the caller."""
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError):
        sent = None
    if not isinstance(sent, Mapping) or len(sent) != 1 or not sent.keys() <= _ARGUMENTS.keys():
        raise ValueError(BODY_EXPECTED)
    ((name, value),) = sent.items()
    argument = _ARGUMENTS[name]
    try:
        by = argument.parse(value, now)
        too_far = by > MAX_TIME - now
    except (TypeError, OverflowError, ValueError):
        raise ValueError(f"{name}: expected {argument.expected}") from None
    if too_far or by < timedelta(0):
        raise ValueError(f"{name}: expected a time from {_rfc3339(now)} to {_rfc3339(MAX_TIME)}")
    return by


def _parse_seconds(value: Any, _now: datetime) -> timedelta:
    if isinstance(value, bool):
        raise TypeError
    return timedelta(seconds=value)


def _parse_duration(value: Any, now: datetime) -> timedelta:
    match = _DURATION.fullmatch(value)
    if not match:
        raise ValueError
    parts = {name: float(number or 0) for name, number in match.groupdict().items()}
    months = int(parts.pop("years")) * 12 + int(parts.pop("months"))
    return add_months(now, months) - now + timedelta(**parts)


def _parse_time(value: Any, now: datetime) -> timedelta:
    return datetime.fromisoformat(value) - now


@dataclass(frozen=True, slots=True)
class _Argument:
    expected: str
    parse: Callable[[Any, datetime], timedelta]


_ARGUMENTS: Mapping[str, _Argument] = {
    "seconds": _Argument("a number of seconds", _parse_seconds),
    "duration": _Argument("an ISO 8601 duration, such as P1M or PT36H", _parse_duration),
    "to": _Argument("an ISO 8601 time with an offset, such as 2030-01-31T00:00:00Z", _parse_time),
}


def _time_response(now: datetime) -> web.Response:
    return web.json_response({"now": _rfc3339(now)})


def _rfc3339(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")
