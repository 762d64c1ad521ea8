"""Dovecot's doveadm HTTP API, of which the worker uses `kick`.

A response has one element for each command, with the tag of the command: `["doveadmResponse", …, tag]`, or `["error",
{"type": "exitCode", "exitCode": N}, tag]`. `kick` exits with 68 if nobody with that login is connected.
"""

import base64
from collections.abc import Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import aiohttp

NOT_CONNECTED = 68  # EX_NOHOST of sysexits.h
TIMEOUT_SECONDS = 3.0  # other steps of the worker wait as long


class MailServerError(Exception):
    """Dovecot could not be reached, or refused. The text names no secret."""


class Doveadm:
    """A client of one Dovecot. Use it as a context manager."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        key_text = base64.b64encode(key.encode()).decode()
        self._headers = {"Authorization": f"X-Dovecot-API {key_text}"}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def kick(self, masks: Sequence[str]) -> None:
        """End the sessions of the logins that match; a mask may contain `*` and `?`. Raises MailServerError."""
        if self._session is None:
            raise RuntimeError("Doveadm was not entered")
        commands = [["kick", {"mask": [mask]}, str(number)] for number, mask in enumerate(masks)]
        try:
            async with self._session.post(self._url, json=commands, headers=self._headers) as response:
                if response.status != HTTPStatus.OK:
                    raise MailServerError(f"doveadm answered with status {response.status}")
                results = await response.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise MailServerError(f"doveadm: {type(error).__name__}") from error
        done = {tag for tag in map(_tag_of_success, results) if tag is not None} if isinstance(results, list) else set()
        if failed := len(masks) - len(done):
            raise MailServerError(f"doveadm failed {failed} of {len(masks)} commands")


def _tag_of_success(result: Any) -> str | None:
    match result:
        case ["doveadmResponse", _, str(tag)]:
            return tag
        case ["error", {"exitCode": code}, str(tag)] if code == NOT_CONNECTED:
            return tag
    return None
