"""The trial clock over HTTP, for the tests of clients: `postroom up --clock HOST:PORT`.

`GET /now` answers `{"now": …}`. `POST /advance` moves the time on and answers the same, once the worker has done all
that fell due: by `{"seconds": 86400}`, by `{"duration": "P1M"}` (ISO 8601; months and years as the calendar has them)
or to `{"to": "2030-01-31T00:00:00Z"}`. It never goes back. What can't be read is 400 with a `message`.

Whoever runs a trial has a browser on the same machine, which reaches loopback for any web page: what names another host
than this machine, as where a page's own name has come to point here, or comes from a page of another, is 403.
"""

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from postroomd.clock import TrialClock
from postroomd.domain.calendar import add_months
from postroomd.net import is_loopback, join_address, split_address

EXPECTED = 'one of {"seconds": 86400}, {"duration": "P1M"} and {"to": "2030-01-31T00:00:00Z"} is expected'
LATEST = datetime(3000, 1, 1, tzinfo=UTC)

_DURATION = re.compile(
    r"P(?=.)(?:(?P<years>\d{1,4})Y)?(?:(?P<months>\d{1,5})M)?(?:(?P<weeks>\d{1,6})W)?(?:(?P<days>\d{1,6})D)?"
    r"(?:T(?=.)(?:(?P<hours>\d{1,8})H)?(?:(?P<minutes>\d{1,9})M)?(?:(?P<seconds>\d{1,10}(?:\.\d{1,6})?)S)?)?",
    re.ASCII,
)


@asynccontextmanager
async def serving(clock: TrialClock, address: str) -> AsyncIterator[str]:
    """Serve the clock during the block, which is given its HOST:PORT. Raises OSError where it can't be bound."""

    async def now(_request: web.Request) -> web.Response:
        return _told(clock.now())

    async def advance(request: web.Request) -> web.Response:
        try:
            by = asked(await request.read(), clock.now())
        except ValueError as error:
            return web.json_response({"message": str(error)}, status=web.HTTPBadRequest.status_code)
        return _told(await clock.advance(by))

    app = web.Application(middlewares=[_keeping_to_this_machine])
    app.add_routes([web.get("/now", now), web.post("/advance", advance)])
    # An advance that is under way when all stops has no worker any more that would end it.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        host, port = split_address(address)
        await web.TCPSite(runner, host, port).start()
        yield join_address(host, runner.addresses[0][1])
    finally:
        await runner.cleanup()


@web.middleware
async def _keeping_to_this_machine(request: web.Request, handler: Handler) -> web.StreamResponse:
    origin = request.headers.get("Origin")
    if not _is_here(request.host) or (origin is not None and not _is_here(origin.rpartition("//")[2])):
        message = "this clock is for callers on its own machine, and for no web page of another"
        return web.json_response({"message": message}, status=web.HTTPForbidden.status_code)
    return await handler(request)


def _is_here(host: str) -> bool:
    """Whether a host, with its port or without, is this machine by a name that nobody else can give it."""
    return is_loopback(host) or is_loopback(f"{host}:80")


def asked(body: bytes, now: datetime) -> timedelta:
    """By how much to move the time on. Raises ValueError, with a text for the caller."""
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError):
        sent = None
    if not isinstance(sent, Mapping) or len(sent) != 1 or not sent.keys() <= _READERS.keys():
        raise ValueError(EXPECTED)
    ((name, value),) = sent.items()
    try:
        by = _READERS[name](value, now)
        beyond = by > LATEST - now
    except (TypeError, OverflowError, ValueError):
        raise ValueError(f"{name}: it can't be read") from None
    if beyond or by < timedelta(0):
        raise ValueError(f"{name}: the time goes on from {_text(now)}, as far as {_text(LATEST)}")
    return by


def _by_seconds(value: Any, _now: datetime) -> timedelta:
    if isinstance(value, bool):
        raise TypeError
    return timedelta(seconds=value)


def _by_duration(value: Any, now: datetime) -> timedelta:
    match = _DURATION.fullmatch(value)
    if not match:
        raise ValueError
    parts = {name: float(number or 0) for name, number in match.groupdict().items()}
    months = int(parts.pop("years")) * 12 + int(parts.pop("months"))
    return add_months(now, months) - now + timedelta(**parts)


def _until(value: Any, now: datetime) -> timedelta:
    return datetime.fromisoformat(value) - now


_READERS: Mapping[str, Callable[[Any, datetime], timedelta]] = {
    "seconds": _by_seconds,
    "duration": _by_duration,
    "to": _until,
}


def _told(now: datetime) -> web.Response:
    return web.json_response({"now": _text(now)})


def _text(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")
