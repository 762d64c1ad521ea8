"""One interface to both SDKs, which are used as published and configured only by the SCW_ variables."""

import inspect
import json
import logging
import os
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

from tests.e2e.sdk.beyond import operation_beyond
from tests.e2e.support import START_SECONDS, clean_environment
from tests.support.operations import RPCS, Operation

SDKS = ("scaleway", "scaleway_async")

ADDITIVE_FIELDS = (
    "force",
    "display_name",
    "storage_quota_bytes",
    "login_disabled",
    "sending_disabled",
    "receiving_disabled",
    "catch_all",
)
"""Arguments that the SDKs do not have."""

PASSWORD_MARKER = "never-leak"
"""Part of every password that these tests send, so that one search finds them all."""


def new_password() -> str:
    return f"{PASSWORD_MARKER}-{uuid4().hex}"


class Sdk:
    """A client of one SDK. Every operation is an async method under the SDK's name for it."""

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
        lacking = operation in RPCS and not hasattr(self._api, operation)
        method = operation_beyond(self._api, operation) if lacking else getattr(self._api, operation)

        async def call(**arguments: Any) -> Any:
            self.called.add(operation)
            result = method(**arguments)
            return await result if inspect.isawaitable(result) else result

        return call

    async def call_operation(self, operation: Operation, resource_id: str) -> Any:
        """Call an operation on a resource with its valid arguments."""
        arguments = {operation.id_argument: resource_id, **operation.arguments}
        return await getattr(self, operation.name)(**self.convert(arguments))

    def convert(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Convert arguments of the REST contract to those of the SDK, with new passwords that contain the marker."""
        converted = dict(arguments)
        for name in ADDITIVE_FIELDS:
            converted.pop(name, None)
        if "mailboxes" in converted:
            converted["mailboxes"] = [self.mailbox(mailbox["local_part"]) for mailbox in converted["mailboxes"]]
        if "new_password" in converted:
            converted["new_password"] = new_password()
        return converted

    @property
    def operations(self) -> set[str]:
        """The names of all operations of the SDK."""
        return {name for name in vars(type(self._api)) if not name.startswith("_")}

    @property
    def label(self) -> str:
        """A DNS label for the names that tests with this SDK create."""
        return self.module.replace("_", "-")

    def with_key(self, environment: Mapping[str, str]) -> "Sdk":
        """Return a client of the same SDK with another key."""
        return Sdk(self.module, environment)

    def with_secret(self, secret: str) -> "Sdk":
        """Return a client of the same SDK with another secret, even one that the SDK would reject."""
        other = Sdk(self.module, self.environment)
        other._client.secret_key = secret
        return other

    def mailbox(self, local_part: str, password: str | None = None) -> Any:
        """Return the parameters of one mailbox; by default, with a new password."""
        return self.types.BatchCreateMailboxesRequestMailboxParameters(
            local_part=local_part, password=new_password() if password is None else password
        )

    async def create_mailboxes(self, domain_id: str, *local_parts: str, **arguments: Any) -> list[Any]:
        """Create mailboxes in one call."""
        created = await self.batch_create_mailboxes(
            domain_id=domain_id, mailboxes=[self.mailbox(local_part) for local_part in local_parts], **arguments
        )
        return list(created.mailboxes)

    def fast_polling(self) -> Any:
        """Return options that make a waiter of the SDK poll at the highest rate."""
        options: Any = import_module(self.module).WaitForOptions
        return options(timeout=START_SECONDS, min_delay=1, max_delay=1)


@dataclass(frozen=True)
class ApiError:
    """An error as the SDK raises it: the keys of the body besides type and message, and the headers."""

    keys: Mapping[str, Any]
    headers: Mapping[str, str]


async def expect_error(call: Awaitable[Any], status: int, kind: str) -> ApiError:
    """Return the error of a call, which must fail with this status and this type."""
    with pytest.raises(ScalewayException) as caught:
        await call
    return parse_error(caught.value, status, kind)


def parse_error(error: ScalewayException, status: int, kind: str) -> ApiError:
    """Return the content of an error, which must have this status and this type."""
    assert type(error) is ScalewayException  # not ValidationError, for which the SDK expects other keys
    response: Any = error.response
    body = json.loads(str(error))
    assert (error.status_code, body.pop("type")) == (status, kind), str(error)
    assert body.pop("message")
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Request-Id"]
    return ApiError(body, response.headers)


async def fails(call: Awaitable[Any], *statuses: int) -> bool:
    """Whether a call fails with one of these statuses. Raises its error if the status is another one."""
    try:
        await call
    except ScalewayException as error:
        if error.status_code not in statuses:
            raise
        return True
    return False


class ResponseLog(logging.Handler):
    """Every response, header and body: those of the SDKs, from their own logs, and those of `http_request`."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep responses only: requests may contain passwords."""
        text = record.getMessage()
        if " SDK RESPONSE " in text.partition("\n")[0]:
            self.texts.append(text)


@dataclass(frozen=True)
class HttpResponse:
    """A response to a plain HTTP request."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The parsed body."""
        return json.loads(self.text)


def http_request(
    method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None, responses: ResponseLog
) -> HttpResponse:
    """Send a request that no SDK would send."""
    request = urllib.request.Request(url, body, dict(headers), method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=START_SECONDS) as result:  # noqa: S310
            response = HttpResponse(result.status, dict(result.headers), result.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            response = HttpResponse(error.code, dict(error.headers), error.read().decode())
    responses.texts.append(f"{response.headers}\n{response.text}")
    return response


def local_parts(items: Iterable[Any]) -> list[str]:
    """Return the local parts of mailboxes or aliases."""
    return [item.email.partition("@")[0] for item in items]
