"""What went wrong, as REST tells it: one table, and the way to it from a google.rpc.Status.

The service's status reaches a client through its details alone (mailbox_service.proto says which): the reason of its
ErrorInfo picks the row, the row says which detail becomes which key. The status's own text is for gRPC callers and goes
nowhere from here. A status without details, which gRPC itself makes when it can't reach the service or when the
deadline passes, picks its row by the code.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from postroomd.gateway.violations import Violation

DOMAIN = "postroom"
SDK_RESERVED = "Validation Error"
"""The one message that the Python SDK takes for another API's error, with another body."""
_DETAILS = "grpc-status-details-bin"

Detail = TypeVar("Detail", bound=Message)


@dataclass(frozen=True)
class Problem:
    """An error answer: `{"type": …, "message": …}` and the row's further keys."""

    type: str
    status: int
    message: str
    keys: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, object]:
        """Give the JSON object."""
        return {"type": self.type, "message": self.message, **self.keys}

    def with_header(self, name: str, value: str) -> "Problem":
        """Add a header of the HTTP answer."""
        return replace(self, headers={**self.headers, name: value})


class Refused(Exception):
    """Ends a request with a problem that the gateway found itself."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.type)
        self.problem = problem


class Details:
    """The google.rpc details of a status: the first of each kind, an empty one where there is none."""

    def __init__(self, messages: Iterable[Any] = ()) -> None:
        """Take google.protobuf.Any messages. Raises DecodeError."""
        self._first: dict[str, Any] = {}
        for message in messages:
            self._first.setdefault(message.TypeName(), message)

    def __contains__(self, kind: type[Message]) -> bool:
        return kind.DESCRIPTOR.full_name in self._first

    def first(self, kind: type[Detail]) -> Detail:
        """Give the detail of that kind. Raises DecodeError."""
        detail = kind()
        if kind in self:
            self._first[kind.DESCRIPTOR.full_name].Unpack(detail)
        return detail

    def metadata(self, key: str) -> str:
        """Give a value of the ErrorInfo's metadata, empty where it has none."""
        return str(self.first(error_details_pb2.ErrorInfo).metadata.get(key, ""))


# --- The rows --------------------------------------------------------------------------------------------------------


def _nothing(_: Details) -> dict[str, Any]:
    return {}


def _no_text(_: Details) -> str:
    return ""


def _about_resource(details: Details) -> str:
    return str(details.first(error_details_pb2.ResourceInfo).description)


def _about_precondition(details: Details) -> str:
    violations = details.first(error_details_pb2.PreconditionFailure).violations
    return str(violations[0].description) if violations else ""


def _about_quota(details: Details) -> str:
    violations = details.first(error_details_pb2.QuotaFailure).violations
    return str(violations[0].description) if violations else ""


@dataclass(frozen=True)
class Row:
    """How one type of error is told: its HTTP status, its text, and what is taken from the details.

    `told` finds a text in the details that says more than the row's own.
    """

    status: int
    message: str
    keys: Callable[[Details], dict[str, object]] = _nothing
    headers: Callable[[Details], dict[str, str]] = _nothing
    told: Callable[[Details], str] = _no_text


def _violations(details: Details) -> dict[str, object]:
    found = details.first(error_details_pb2.BadRequest).field_violations
    return {"details": [_argument(each.field, each.reason.lower(), each.description) for each in found]}


def _argument(name: str, reason: str, help_message: str) -> dict[str, str]:
    return {
        "argument_name": name,
        "reason": reason if reason in ("required", "format", "constraint") else "unknown",
        "help_message": help_message,
    }


def _authentication(details: Details) -> dict[str, object]:
    return {
        "method": details.metadata("method") or "api_key",
        "reason": details.metadata("reason") or "invalid_argument",
    }


def _challenge(_: Details) -> dict[str, str]:
    return {"WWW-Authenticate": "Bearer"}  # RFC 9110 asks for it with every 401


def _permissions(details: Details) -> dict[str, object]:
    return {"details": [{"resource": details.metadata("resource"), "action": details.metadata("action")}]}


def _quotas(details: Details) -> dict[str, object]:
    counts = {key: _number(details.metadata(key)) for key in ("quota", "current")}
    return {"details": [{"resource": details.metadata("resource"), **counts}]}


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 20 else 0


def _resource(details: Details) -> dict[str, object]:
    resource = details.first(error_details_pb2.ResourceInfo)
    return {"resource": resource.resource_type, "resource_id": resource.resource_name}


def _state(details: Details) -> dict[str, object]:
    return {**_resource(details), "current_state": details.metadata("current_state")}


def _precondition(details: Details) -> dict[str, object]:
    violations = details.first(error_details_pb2.PreconditionFailure).violations
    kind, help_message = (violations[0].type, violations[0].description) if violations else ("", "")
    return {"precondition": kind.lower() or "unknown_precondition", "help_message": help_message}


def _retry_after(details: Details) -> dict[str, str]:
    delay = details.first(error_details_pb2.RetryInfo).retry_delay
    return {"Retry-After": str(max(1, math.ceil(delay.seconds + delay.nanos / 1e9)))}


# `message` is for people; programs go by `type` and the keys.
ROWS: Mapping[str, Row] = {
    "invalid_arguments": Row(400, "Some arguments are invalid.", _violations),
    "denied_authentication": Row(401, "The request carries no valid API key.", _authentication, _challenge),
    "permissions_denied": Row(403, "The API key may not do this.", _permissions),
    "quotas_exceeded": Row(403, "A quota would be exceeded.", _quotas, told=_about_quota),
    "not_found": Row(404, "The resource does not exist.", _resource, told=_about_resource),
    "method_not_allowed": Row(405, "The path can't be called with this method."),
    "conflict": Row(409, "The resource is in conflict with another.", _resource, told=_about_resource),
    "transient_state": Row(409, "The resource is in a transient state: try again later.", _state, told=_about_resource),
    "precondition_failed": Row(412, "A precondition is not met.", _precondition, told=_about_precondition),
    "payload_too_large": Row(413, "The body is too large."),
    "unsupported_media_type": Row(415, "The body must be application/json in UTF-8."),
    "locked": Row(423, "The resource is locked.", _resource, told=_about_resource),
    "too_many_requests": Row(429, "The service is busy: try again later.", headers=_retry_after),
    "internal": Row(500, "Something went wrong on our side."),
    "unavailable": Row(503, "The service can't be reached: try again later.", headers=_retry_after),
    "deadline_exceeded": Row(504, "The service took too long; what was asked for may have been done."),
}

# For a status without an ErrorInfo of ours. What is not here is internal: UNKNOWN, UNIMPLEMENTED, DATA_LOSS, INTERNAL.
BY_CODE: Mapping[grpc.StatusCode, str] = {
    grpc.StatusCode.INVALID_ARGUMENT: "invalid_arguments",
    grpc.StatusCode.OUT_OF_RANGE: "invalid_arguments",
    grpc.StatusCode.UNAUTHENTICATED: "denied_authentication",
    grpc.StatusCode.PERMISSION_DENIED: "permissions_denied",
    grpc.StatusCode.NOT_FOUND: "not_found",
    grpc.StatusCode.ALREADY_EXISTS: "conflict",
    grpc.StatusCode.ABORTED: "conflict",
    grpc.StatusCode.FAILED_PRECONDITION: "precondition_failed",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "too_many_requests",
    grpc.StatusCode.UNAVAILABLE: "unavailable",
    grpc.StatusCode.CANCELLED: "unavailable",  # by the service, as it stops
    grpc.StatusCode.DEADLINE_EXCEEDED: "deadline_exceeded",
}


# --- The ways to a problem -------------------------------------------------------------------------------------------


def problem(kind: str, given: Details | None = None, /, **keys: object) -> Problem:
    """Make the problem of a type; `keys` are added to, or take the place of, what the row makes of the details."""
    row, details = ROWS[kind], given or Details()
    told = row.told(details)
    message = row.message if told in ("", SDK_RESERVED) else told
    return Problem(kind, row.status, message, {**row.keys(details), **keys}, row.headers(details))


def invalid_arguments(violations: Iterable[Violation]) -> Problem:
    """Make the problem of arguments that the gateway could not decode."""
    found = [_argument(each.argument_name, each.reason, each.help_message) for each in violations]
    return problem("invalid_arguments", details=found)


def internal(request_id: str) -> Problem:
    """Make the problem that says nothing but where to look it up."""
    return problem("internal", request_id=request_id)


def from_rpc_error(error: grpc.aio.AioRpcError, request_id: str) -> Problem:
    """Make the problem of a status that the service, or gRPC on the way to it, has answered."""
    by_code = BY_CODE.get(error.code(), "internal")
    try:
        details = _details(error)
        info = details.first(error_details_pb2.ErrorInfo)
        kind = info.reason.lower() if info.domain == DOMAIN and info.reason.lower() in ROWS else by_code
        return internal(request_id) if kind == "internal" else problem(kind, details)
    except DecodeError:
        return internal(request_id) if by_code == "internal" else problem(by_code)


def _details(error: grpc.aio.AioRpcError) -> Details:
    """Unpack the status's details. Raises DecodeError."""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            return Details(status_pb2.Status.FromString(value).details)
    return Details()
