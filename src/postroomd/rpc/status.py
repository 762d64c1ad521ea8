"""Conversion of domain errors to google.rpc.Status: one table, keyed by the error's exact type.

Every status carries an ErrorInfo, whose reason is the contract's `type` in upper case, and the details that the header
of mailbox_service.proto documents. An error without an entry becomes INTERNAL, without a hint of its cause.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from postroomd.domain import errors as e

ERROR_DOMAIN = "postroom"
STATUS_DETAILS = "grpc-status-details-bin"
RETRY_PUSHBACK = "grpc-retry-pushback-ms"
MAX_HEADER_LIST_BYTES = 8_192
"""The maximum size of trailing metadata that every gRPC client accepts: the default of C-core and of Java."""
OTHER_METADATA_BYTES = 800
"""What is kept free for a request id of 128 characters and the other trailing metadata, with HTTP/2's 32 for each."""
_OMITTED = "omitted_count"
_OMITTED_BYTES = 24  # of that entry

_CODES = {code.value[0]: code for code in grpc.StatusCode}

Details = Iterable[Message]


@dataclass(frozen=True, slots=True)
class ErrorMapping:
    """How one type of error is reported: status code, reason and metadata of its ErrorInfo, further details."""

    code: int
    reason: str
    metadata: Callable[[Any], Mapping[str, str]] = field(default=lambda error: {})
    details: Callable[[Any], Details] = field(default=lambda error: ())


def _bad_request(error: e.InvalidArguments) -> Details:
    violation = error_details_pb2.BadRequest.FieldViolation
    yield error_details_pb2.BadRequest(
        field_violations=[
            violation(field=v.field, description=v.help_message, reason=v.reason.name) for v in error.violations
        ]
    )


def _resource_infos(names: Iterable[e.ResourceName], description: str) -> Details:
    for name in names:
        yield error_details_pb2.ResourceInfo(resource_type=name.type, resource_name=name.id, description=description)


def _resource(error: e.NotFound | e.TransientState | e.Locked) -> Details:
    return _resource_infos([error.resource], str(error))


def _precondition_failure(error: e.PreconditionFailed) -> Details:
    violation = error_details_pb2.PreconditionFailure.Violation(
        type=error.precondition.value,
        subject=f"{error.subject.type}/{error.subject.id}",
        description=str(error),
    )
    yield error_details_pb2.PreconditionFailure(violations=[violation])


def _quota_failure(error: e.QuotaExceeded) -> Details:
    violation = error_details_pb2.QuotaFailure.Violation(
        subject=f"{error.owner.type}/{error.owner.id}",
        description=str(error),
        quota_metric=error.resource,
        quota_value=error.quota,
    )
    yield error_details_pb2.QuotaFailure(violations=[violation])


def _retry_info(error: e.TooManyRequests | e.StorageUnavailable | e.TimeUnknown) -> Details:
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromMilliseconds(round(error.retry_after_seconds * 1_000))
    yield info


def _taken(error: e.NameTaken) -> Details:
    for taken in error.taken:
        yield error_details_pb2.ResourceInfo(
            resource_type=taken.resource.type,
            resource_name=taken.resource.id,
            owner=taken.field,
            description=f"{taken.name} ({taken.status})" if taken.status else taken.name,
        )


ERROR_MAPPINGS: Mapping[type[e.PostroomError], ErrorMapping] = {
    e.InvalidArguments: ErrorMapping(code_pb2.INVALID_ARGUMENT, "INVALID_ARGUMENTS", details=_bad_request),
    e.Unauthenticated: ErrorMapping(
        code_pb2.UNAUTHENTICATED,
        "DENIED_AUTHENTICATION",
        metadata=lambda error: {"method": "api_key", "reason": error.reason.value},
    ),
    e.PermissionDenied: ErrorMapping(
        code_pb2.PERMISSION_DENIED,
        "PERMISSIONS_DENIED",
        metadata=lambda error: {"resource": error.resource, "action": error.action},
    ),
    e.NotFound: ErrorMapping(code_pb2.NOT_FOUND, "NOT_FOUND", details=_resource),
    e.Conflict: ErrorMapping(
        code_pb2.ALREADY_EXISTS, "CONFLICT", details=lambda error: _resource_infos(error.resources, str(error))
    ),
    e.NameTaken: ErrorMapping(
        code_pb2.ALREADY_EXISTS,
        "CONFLICT",
        metadata=lambda error: {"message": str(error), "count": str(len(error.taken))},
        details=_taken,
    ),
    e.Stale: ErrorMapping(
        code_pb2.ABORTED, "CONFLICT", details=lambda error: _resource_infos(error.resources, str(error))
    ),
    e.PreconditionFailed: ErrorMapping(
        code_pb2.FAILED_PRECONDITION, "PRECONDITION_FAILED", details=_precondition_failure
    ),
    e.TransientState: ErrorMapping(
        code_pb2.FAILED_PRECONDITION,
        "TRANSIENT_STATE",
        metadata=lambda error: {"current_state": error.current_state},
        details=_resource,
    ),
    e.Locked: ErrorMapping(code_pb2.FAILED_PRECONDITION, "LOCKED", details=_resource),
    e.QuotaExceeded: ErrorMapping(
        code_pb2.RESOURCE_EXHAUSTED,
        "QUOTAS_EXCEEDED",
        metadata=lambda error: {
            "resource": error.resource,
            "quota": str(error.quota),
            "current": str(error.current),
        },
        details=_quota_failure,
    ),
    e.TooManyRequests: ErrorMapping(code_pb2.RESOURCE_EXHAUSTED, "TOO_MANY_REQUESTS", details=_retry_info),
    e.StorageUnavailable: ErrorMapping(code_pb2.UNAVAILABLE, "UNAVAILABLE", details=_retry_info),
    e.TimeUnknown: ErrorMapping(code_pb2.UNAVAILABLE, "UNAVAILABLE", details=_retry_info),
}


def retry_pushback(error: Exception) -> tuple[tuple[str, str], ...]:
    """Return the metadata by which a gRPC client times its retry: the delay in milliseconds, or -1 against retries.

    See gRPC proposal A6. Without it, clients apply the backoff of their service config.
    """
    match error:
        case e.TooManyRequests() | e.StorageUnavailable():
            return ((RETRY_PUSHBACK, str(round(error.retry_after_seconds * 1_000))),)
        case e.QuotaExceeded():
            return ((RETRY_PUSHBACK, "-1"),)
        case _:
            return ()


def status_of(error: Exception, request_id: str, *, all_details: bool = False) -> status_pb2.Status:
    """Return the status that reports an error. Of an unexpected error, it has only the request id.

    Details are cut to what every client accepts, unless the caller accepts `all_details`.
    """
    mapping = ERROR_MAPPINGS.get(type(error)) if isinstance(error, e.PostroomError) else None
    if mapping is None:
        return _status(code_pb2.INTERNAL, "internal error", "INTERNAL", {"request_id": request_id}, ())
    status = _status(mapping.code, str(error), mapping.reason, mapping.metadata(error), mapping.details(error))
    max_bytes = _max_status_bytes(status.message)
    return status if all_details or status.ByteSize() <= max_bytes else _truncated(status, max_bytes)


def _status(code: int, message: str, reason: str, metadata: Mapping[str, str], details: Details) -> status_pb2.Status:
    status = status_pb2.Status(code=code, message=message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=ERROR_DOMAIN, metadata=metadata))
    for detail in details:
        status.details.add().Pack(detail)
    return status


def _max_status_bytes(message: str) -> int:
    """Return the maximum size of a status in trailing metadata, in base64, beside its percent-encoded message."""
    encoded = sum(1 if 0x20 <= octet < 0x7F and octet != 0x25 else 3 for octet in message.encode())
    return (MAX_HEADER_LIST_BYTES - OTHER_METADATA_BYTES - encoded) * 3 // 4


def _truncated(status: status_pb2.Status, max_bytes: int) -> status_pb2.Status:
    """Return the status with as many violations, or resources, as fit, and the number of those left out.

    The number is in the ErrorInfo, as `omitted_count`, and in a last violation for people.
    """
    info, *details = status.details
    truncated = status_pb2.Status(code=status.code, message=status.message, details=[info])
    max_bytes -= _OMITTED_BYTES
    omitted = 0
    for detail in details:
        if detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            full, fitting = error_details_pb2.BadRequest(), error_details_pb2.BadRequest()
            detail.Unpack(full)
            for violation in full.field_violations:
                if truncated.ByteSize() + fitting.ByteSize() + violation.ByteSize() > max_bytes - _LAST_VIOLATION_BYTES:
                    break
                fitting.field_violations.append(violation)
            omitted = len(full.field_violations) - len(fitting.field_violations)
            fitting.field_violations.append(_last_violation(omitted))
            truncated.details.add().Pack(fitting)
        elif truncated.ByteSize() + detail.ByteSize() + _FRAME_BYTES <= max_bytes:
            truncated.details.append(detail)
        else:
            omitted += 1
    counted = error_details_pb2.ErrorInfo()
    info.Unpack(counted)
    counted.metadata[_OMITTED] = str(omitted)
    truncated.details[0].Pack(counted)
    return truncated


def _last_violation(omitted: int) -> error_details_pb2.BadRequest.FieldViolation:
    return error_details_pb2.BadRequest.FieldViolation(
        field="request",
        reason=e.Reason.CONSTRAINT.name,
        description=f"{omitted} more violations; send the metadata `x-accept-details: all` to get all of them",
    )


_FRAME_BYTES = 8  # tag and length of a nested message, and of the Any around it
_LAST_VIOLATION_BYTES = _last_violation(10_000).ByteSize() + 64  # with the name of its type


def code_of(status: status_pb2.Status) -> grpc.StatusCode:
    """Return gRPC's code of a status."""
    return _CODES[status.code]
