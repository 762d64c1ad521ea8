"""One way to call both SDKs, which are used as they are published and configured by the SCW_ variables alone."""

import asyncio
import inspect
import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pytest
from scaleway_core.api import ScalewayException

from tests.e2e.support import START_SECONDS, clean_environment

SDKS = ("scaleway", "scaleway_async")

PASSWORD_MARK = "never-told"
"""What every password of these tests has in it, so that one search finds them all."""


def password() -> str:
    """A new password."""
    return f"{PASSWORD_MARK}-{uuid4().hex}"


class Sdk:
    """A client of one of the SDKs: every operation by its name, to be awaited whichever of the two it is."""

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        self.module = module
        self.environment = environment
        self.called: set[str] = set()
        self.types: Any = import_module(f"{module}.mailbox.v1alpha1")
        sdk: Any = import_module(module)
        with patch.dict(os.environ, clean_environment(**environment), clear=True):
            self._client = sdk.Client.from_env()
        self._api = self.types.MailboxV1Alpha1API(self._client)

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._api, operation)

        async def call(**arguments: Any) -> Any:
            self.called.add(operation)
            answer = method(**arguments)
            return await answer if inspect.isawaitable(answer) else answer

        return call

    @property
    def operations(self) -> set[str]:
        """The names of all operations that the SDK has."""
        return {name for name in vars(type(self._api)) if not name.startswith("_")}

    @property
    def label(self) -> str:
        """A word for names, by which what one SDK makes differs from what the other one does."""
        return self.module.replace("_", "-")

    def with_key(self, environment: Mapping[str, str]) -> "Sdk":
        """The same SDK with another key."""
        return Sdk(self.module, environment)

    def with_secret(self, secret: str) -> "Sdk":
        """The same SDK with another secret, which the SDK does not look at."""
        other = Sdk(self.module, self.environment)
        other._client.secret_key = secret
        return other

    def mailbox(self, local_part: str, with_password: str | None = None) -> Any:
        """What asks for one mailbox, with a password of its own where none is given."""
        return self.types.BatchCreateMailboxesRequestMailboxParameters(
            local_part=local_part, password=password() if with_password is None else with_password
        )

    async def create_mailboxes(self, domain_id: str, *local_parts: str, **arguments: Any) -> list[Any]:
        """New mailboxes, by one call."""
        created = await self.batch_create_mailboxes(
            domain_id=domain_id, mailboxes=[self.mailbox(local_part) for local_part in local_parts], **arguments
        )
        return list(created.mailboxes)

    def soon(self) -> Any:
        """The options that make a waiter as quick as the SDK lets it be."""
        options: Any = import_module(self.module).WaitForOptions
        return options(timeout=START_SECONDS, min_delay=1, max_delay=1)


@dataclass(frozen=True)
class Refusal:
    """An error as the SDK gives it: the body's keys besides type and message, and the headers."""

    keys: Mapping[str, Any]
    headers: Mapping[str, str]


async def refused(call: Awaitable[Any], status: int, kind: str) -> Refusal:
    """How a call is refused, which it must be with this status and this type."""
    with pytest.raises(ScalewayException) as caught:
        await call
    return refusal_of(caught.value, status, kind)


def refusal_of(error: ScalewayException, status: int, kind: str) -> Refusal:
    """What an error says, which must have this status and this type."""
    assert type(error) is ScalewayException  # not ValidationError, of which the SDK expects other keys
    response: Any = error.response
    body = json.loads(str(error))
    assert (error.status_code, body.pop("type")) == (status, kind), str(error)
    assert body.pop("message")
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Request-Id"]
    return Refusal(body, response.headers)


async def is_refused(call: Awaitable[Any], status: int) -> bool:
    """Whether a call is refused, which it may only be with this status."""
    try:
        await call
    except ScalewayException as error:
        if error.status_code != status:
            raise
        return True
    return False


async def eventually(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait until a call answers something true."""
    deadline = time.monotonic() + START_SECONDS
    while not await condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.05)


class Answers(logging.Handler):
    """Every answer that an SDK got, header and body, from the SDK's own log; and those of `http`."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what is an answer; a request holds passwords with good reason."""
        text = record.getMessage()
        if " SDK RESPONSE " in text.partition("\n")[0]:
            self.texts.append(text)


@dataclass(frozen=True)
class Response:
    """An answer to plain HTTP."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The body's JSON."""
        return json.loads(self.text)


def http(method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None, answers: Answers) -> Response:
    """Call as no SDK would."""
    request = urllib.request.Request(url, body, dict(headers), method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=START_SECONDS) as answer:  # noqa: S310
            response = Response(answer.status, dict(answer.headers), answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            response = Response(error.code, dict(error.headers), error.read().decode())
    answers.texts.append(f"{response.headers}\n{response.text}")
    return response


def names(items: Iterable[Any]) -> list[str]:
    """The local parts of mailboxes or aliases."""
    return [item.email.partition("@")[0] for item in items]
