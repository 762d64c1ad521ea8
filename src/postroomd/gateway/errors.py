"""Error responses of the REST API: one table of types, and the mapping from google.rpc.Status to it.

Only the details of the service's status reach a client (see mailbox_service.proto): the reason of its ErrorInfo
selects the type, and the type selects which details become which keys. The text of the status is for gRPC callers
only. A status without details, as gRPC itself produces when the service is unreachable or the deadline passes, is
mapped by its code.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from postroomd.gateway.violations import Violation

DOMAIN = "postroom"
SDK_RESERVED = "Validation Error"
"""The only message that the Python SDK parses as another API's error, with a different body."""
_MAX_CONFLICTS = 100  # of one error: as many as a batch can have
_DETAILS_KEY = "grpc-status-details-bin"

Detail = TypeVar("Detail", bound=Message)


@dataclass(frozen=True)
class ErrorResponse:
    """An error as its HTTP status, `{"type": …, "message": …}`, further keys of the body, and headers."""

    type: str
    status: int
    message: str
    keys: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, object]:
        """Return the JSON object."""
        return {"type": self.type, "message": self.message, **self.keys}

    def with_header(self, name: str, value: str) -> "ErrorResponse":
        """Return a copy with one more HTTP header."""
        return replace(self, headers={**self.headers, name: value})


class RequestError(Exception):
    """Ends a request with an error response."""

    def __init__(self, response: ErrorResponse) -> None:
        super().__init__(response.type)
        self.response = response


class StatusDetails:
    """The google.rpc details of a status by message type; an absent one reads as an empty message."""

    def __init__(self, messages: Iterable[Any] = ()) -> None:
        """Index google.protobuf.Any messages by type. Raises DecodeError."""
        self._by_type: dict[str, list[Any]] = {}
        for message in messages:
            self._by_type.setdefault(message.TypeName(), []).append(message)

    def first(self, kind: type[Detail]) -> Detail:
        """Return the first detail of that type. Raises DecodeError."""
        return next(self.all(kind), kind())

    def all(self, kind: type[Detail]) -> Iterator[Detail]:
        """Yield the details of that type. Raises DecodeError."""
        for message in self._by_type.get(kind.DESCRIPTOR.full_name, ()):
            detail = kind()
            message.Unpack(detail)
            yield detail

    def metadata(self, key: str) -> str:
        """Return a value of the ErrorInfo's metadata, empty if absent."""
        return str(self.first(error_details_pb2.ErrorInfo).metadata.get(key, ""))


# --- Error types -----------------------------------------------------------------------------------------------------


def _no_keys(_: StatusDetails) -> dict[str, Any]:
    return {}


def _no_description(_: StatusDetails) -> str:
    return ""


def _resource_description(details: StatusDetails) -> str:
    return str(details.first(error_details_pb2.ResourceInfo).description)


def _precondition_description(details: StatusDetails) -> str:
    violations = details.first(error_details_pb2.PreconditionFailure).violations
    return str(violations[0].description) if violations else ""


def _quota_description(details: StatusDetails) -> str:
    violations = details.first(error_details_pb2.QuotaFailure).violations
    return str(violations[0].description) if violations else ""


@dataclass(frozen=True)
class ErrorType:
    """HTTP status, default message and details of one error type.

    `describe` returns a more specific message from the details, or an empty string.
    """

    status: int
    message: str
    keys: Callable[[StatusDetails], dict[str, object]] = _no_keys
    headers: Callable[[StatusDetails], dict[str, str]] = _no_keys
    describe: Callable[[StatusDetails], str] = _no_description


def _violations(details: StatusDetails) -> dict[str, object]:
    violations = details.first(error_details_pb2.BadRequest).field_violations
    return {"details": [_argument(each.field, each.reason.lower(), each.description) for each in violations]}


def _argument(name: str, reason: str, help_message: str) -> dict[str, str]:
    return {
        "argument_name": name,
        "reason": reason if reason in ("required", "format", "constraint") else "unknown",
        "help_message": help_message,
    }


def _authentication(details: StatusDetails) -> dict[str, object]:
    return {
        "method": details.metadata("method") or "api_key",
        "reason": details.metadata("reason") or "invalid_argument",
    }


def _challenge(_: StatusDetails) -> dict[str, str]:
    return {"WWW-Authenticate": "Bearer"}  # required with every 401 (RFC 9110, section 15.5.2)


def _permissions(details: StatusDetails) -> dict[str, object]:
    return {"details": [{"resource": details.metadata("resource"), "action": details.metadata("action")}]}


def _quotas(details: StatusDetails) -> dict[str, object]:
    counts = {key: _number(details.metadata(key)) for key in ("quota", "current")}
    return {"details": [{"resource": details.metadata("resource"), **counts}]}


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 20 else 0


def _resource(details: StatusDetails) -> dict[str, object]:
    resource = details.first(error_details_pb2.ResourceInfo)
    return {"resource": resource.resource_type, "resource_id": resource.resource_name}


_NAME_AND_STATE = re.compile(r"(?P<name>\S+)(?: \((?P<state>\w+)\))?")


def _conflict(details: StatusDetails) -> dict[str, object]:
    """Return the first conflicting resource, each one that names its argument, and the number of those left out."""
    keys = _resource(details)
    infos = [info for info in details.all(error_details_pb2.ResourceInfo) if info.owner][:_MAX_CONFLICTS]
    if not infos:
        return keys
    omitted = _number(details.metadata("count")) - len(infos)
    return {
        **keys,
        "details": [_conflicting(info) for info in infos],
        **({"omitted_count": omitted} if omitted > 0 else {}),
    }


def _conflicting(info: error_details_pb2.ResourceInfo) -> dict[str, str]:
    match = _NAME_AND_STATE.fullmatch(info.description)
    name, state = (match["name"], match["state"] or "") if match else ("", "")
    return {
        "argument_name": info.owner,
        "resource": info.resource_type,
        "resource_id": info.resource_name,
        "email" if "@" in name else "name": name,
        "current_state": state,
    }


def _conflict_description(details: StatusDetails) -> str:
    return details.metadata("message") or _resource_description(details)


def _state(details: StatusDetails) -> dict[str, object]:
    return {**_resource(details), "current_state": details.metadata("current_state")}


def _precondition(details: StatusDetails) -> dict[str, object]:
    violations = details.first(error_details_pb2.PreconditionFailure).violations
    kind, help_message = (violations[0].type, violations[0].description) if violations else ("", "")
    return {"precondition": kind.lower() or "unknown_precondition", "help_message": help_message}


def _retry_after(details: StatusDetails) -> dict[str, str]:
    delay = details.first(error_details_pb2.RetryInfo).retry_delay
    return {"Retry-After": str(max(1, math.ceil(delay.seconds + delay.nanos / 1e9)))}


# Messages are for people; programs use `type` and the further keys.
ERROR_TYPES: Mapping[str, ErrorType] = {
    "invalid_arguments": ErrorType(400, "Some arguments are invalid.", _violations),
    "denied_authentication": ErrorType(401, "The request carries no valid API key.", _authentication, _challenge),
    "permissions_denied": ErrorType(403, "The API key does not have the permission for this call.", _permissions),
    "quotas_exceeded": ErrorType(403, "A quota would be exceeded.", _quotas, describe=_quota_description),
    "not_found": ErrorType(404, "The resource does not exist.", _resource, describe=_resource_description),
    "method_not_allowed": ErrorType(405, "The path does not support this method."),
    "conflict": ErrorType(409, "The resource conflicts with another one.", _conflict, describe=_conflict_description),
    "transient_state": ErrorType(
        409, "The resource is in a transient state: try again later.", _state, describe=_resource_description
    ),
    "precondition_failed": ErrorType(
        412, "A precondition is not met.", _precondition, describe=_precondition_description
    ),
    "payload_too_large": ErrorType(413, "The body is too large."),
    "unsupported_media_type": ErrorType(415, "The body must be application/json in UTF-8."),
    "locked": ErrorType(423, "The resource is locked.", _resource, describe=_resource_description),
    "too_many_requests": ErrorType(429, "The service is busy: try again later.", headers=_retry_after),
    "internal": ErrorType(500, "An internal error occurred."),
    "unavailable": ErrorType(503, "The service is unavailable: try again later.", headers=_retry_after),
    "deadline_exceeded": ErrorType(504, "The service took too long; the call may have taken effect."),
}

# For a status without an ErrorInfo of the service. Codes not listed are internal: UNKNOWN, UNIMPLEMENTED, DATA_LOSS.
TYPE_BY_CODE: Mapping[grpc.StatusCode, str] = {
    grpc.StatusCode.INVALID_ARGUMENT: "invalid_arguments",
    grpc.StatusCode.OUT_OF_RANGE: "invalid_arguments",
    grpc.StatusCode.UNAUTHENTICATED: "denied_authentication",
    grpc.StatusCode.PERMISSION_DENIED: "permissions_denied",
    grpc.StatusCode.NOT_FOUND: "not_found",
    grpc.StatusCode.ALREADY_EXISTS: "conflict",
    grpc.StatusCode.ABORTED: "conflict",  # an etag mismatch, which becomes 412
    grpc.StatusCode.FAILED_PRECONDITION: "precondition_failed",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "too_many_requests",
    grpc.StatusCode.UNAVAILABLE: "unavailable",
    grpc.StatusCode.CANCELLED: "unavailable",  # cancelled by the service during its shutdown
    grpc.StatusCode.DEADLINE_EXCEEDED: "deadline_exceeded",
}


# --- Constructors ----------------------------------------------------------------------------------------------------


def error_response(kind: str, details: StatusDetails | None = None, /, **keys: object) -> ErrorResponse:
    """Return the error response of a type; `keys` extend, or replace, those taken from the details."""
    error_type, details = ERROR_TYPES[kind], details or StatusDetails()
    description = error_type.describe(details)
    message = error_type.message if description in ("", SDK_RESERVED) else description
    return ErrorResponse(
        kind, error_type.status, message, {**error_type.keys(details), **keys}, error_type.headers(details)
    )


def invalid_arguments(violations: Iterable[Violation]) -> ErrorResponse:
    """Return the error response that lists violations found by the gateway."""
    arguments = [_argument(each.argument_name, each.reason, each.help_message) for each in violations]
    return error_response("invalid_arguments", details=arguments)


def internal_error(request_id: str) -> ErrorResponse:
    """Return the error response that reveals nothing but the request id, by which the log has the cause."""
    return error_response("internal", request_id=request_id)


def from_rpc_error(error: grpc.aio.AioRpcError, request_id: str) -> ErrorResponse:
    """Return the error response of a status from the service or from gRPC itself."""
    by_code = TYPE_BY_CODE.get(error.code(), "internal")
    try:
        details = _status_details(error)
        info = details.first(error_details_pb2.ErrorInfo)
        kind = info.reason.lower() if info.domain == DOMAIN and info.reason.lower() in ERROR_TYPES else by_code
        if error.code() is grpc.StatusCode.ABORTED and kind == "conflict":
            return _etag_mismatch(details)
        return internal_error(request_id) if kind == "internal" else error_response(kind, details)
    except DecodeError:
        return internal_error(request_id) if by_code == "internal" else error_response(by_code)


def _etag_mismatch(details: StatusDetails) -> ErrorResponse:
    """Return 412, as RFC 9110 requires for If-Match, with the keys of both precondition_failed and conflict."""
    error = error_response("precondition_failed", details, **_resource(details))
    message = _resource_description(details) or "The resource has changed: its etag is not the one in the request."
    return replace(error, message=message, keys={**error.keys, "help_message": message})


def _status_details(error: grpc.aio.AioRpcError) -> StatusDetails:
    """Return the details of a status. Raises DecodeError."""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            return StatusDetails(status_pb2.Status.FromString(value).details)
    return StatusDetails()
