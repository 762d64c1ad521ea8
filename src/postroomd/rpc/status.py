"""The domain's errors as google.rpc.Status: one table, looked up by type.

Every status carries an ErrorInfo, whose reason is the contract's `type` in upper case, and the details that the head of
mailbox_service.proto promises. What is in no table is INTERNAL, and says nothing of its cause.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from postroomd.domain import errors as e

ERROR_DOMAIN = "postroom"
DEFAULT_BYTES = 5_000
"""What a status may take, unless its caller asked for all of it. Clients take 8 KiB of metadata by default, where a
status counts by a third more for being sent in base64."""

Details = Iterable[Message]


@dataclass(frozen=True, slots=True)
class Answer:
    """How one type of error is told: its code, its reason, what its ErrorInfo adds, and its further details."""

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
    violation = error_details_pb2.QuotaFailure.Violation(subject=f"project/{error.project_id}", description=str(error))
    yield error_details_pb2.QuotaFailure(violations=[violation])


def _retry_info(error: e.TooManyRequests | e.StorageUnavailable) -> Details:
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromMilliseconds(round(error.retry_after_seconds * 1_000))
    yield info


ANSWERS: Mapping[type[e.PostroomError], Answer] = {
    e.InvalidArguments: Answer(code_pb2.INVALID_ARGUMENT, "INVALID_ARGUMENTS", details=_bad_request),
    e.Unauthenticated: Answer(
        code_pb2.UNAUTHENTICATED,
        "DENIED_AUTHENTICATION",
        metadata=lambda error: {"method": "api_key", "reason": error.reason.value},
    ),
    e.PermissionDenied: Answer(
        code_pb2.PERMISSION_DENIED,
        "PERMISSIONS_DENIED",
        metadata=lambda error: {"resource": error.resource, "action": error.action},
    ),
    e.NotFound: Answer(code_pb2.NOT_FOUND, "NOT_FOUND", details=_resource),
    e.Conflict: Answer(
        code_pb2.ALREADY_EXISTS,
        "CONFLICT",
        # Not the message: it names every address, and trailing metadata would grow by the square of their number.
        details=lambda error: _resource_infos(error.resources, "already in use"),
    ),
    e.Stale: Answer(code_pb2.ABORTED, "CONFLICT", details=lambda error: _resource_infos(error.resources, str(error))),
    e.PreconditionFailed: Answer(code_pb2.FAILED_PRECONDITION, "PRECONDITION_FAILED", details=_precondition_failure),
    e.TransientState: Answer(
        code_pb2.FAILED_PRECONDITION,
        "TRANSIENT_STATE",
        metadata=lambda error: {"current_state": error.current_state},
        details=_resource,
    ),
    e.Locked: Answer(code_pb2.FAILED_PRECONDITION, "LOCKED", details=_resource),
    e.QuotaExceeded: Answer(
        code_pb2.RESOURCE_EXHAUSTED,
        "QUOTAS_EXCEEDED",
        metadata=lambda error: {
            "resource": error.resource,
            "quota": str(error.quota),
            "current": str(error.current),
        },
        details=_quota_failure,
    ),
    e.TooManyRequests: Answer(code_pb2.RESOURCE_EXHAUSTED, "TOO_MANY_REQUESTS", details=_retry_info),
    e.StorageUnavailable: Answer(code_pb2.UNAVAILABLE, "UNAVAILABLE", details=_retry_info),
}


def status_of(error: Exception, request_id: str, *, all_details: bool = False) -> status_pb2.Status:
    """The status that tells a caller of an error. An unexpected one gives its request id, and nothing of itself.

    Its details stay below what gRPC clients take by default, unless they have asked for all.
    """
    answer = ANSWERS.get(type(error)) if isinstance(error, e.PostroomError) else None
    if answer is None:
        return _status(code_pb2.INTERNAL, "internal error", "INTERNAL", {"request_id": request_id}, ())
    status = _status(answer.code, str(error), answer.reason, answer.metadata(error), answer.details(error))
    return status if all_details or status.ByteSize() <= DEFAULT_BYTES else _shortened(status)


def _status(code: int, message: str, reason: str, metadata: Mapping[str, str], details: Details) -> status_pb2.Status:
    status = status_pb2.Status(code=code, message=message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=ERROR_DOMAIN, metadata=metadata))
    for detail in details:
        status.details.add().Pack(detail)
    return status


def _shortened(status: status_pb2.Status) -> status_pb2.Status:
    """The status with as many of its violations, or resources, as fit; the last violation then counts the rest."""
    short = status_pb2.Status(code=status.code, message=status.message)
    for detail in status.details:
        if detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            full, kept = error_details_pb2.BadRequest(), error_details_pb2.BadRequest()
            detail.Unpack(full)
            for violation in full.field_violations:
                if short.ByteSize() + kept.ByteSize() + violation.ByteSize() > DEFAULT_BYTES:
                    break
                kept.field_violations.append(violation)
            further = len(full.field_violations) - len(kept.field_violations)
            kept.field_violations.add(
                field="request",
                reason=e.Reason.CONSTRAINT.name,
                description=f"{further} more violations; send metadata x-accept-details: all for them",
            )
            short.details.add().Pack(kept)
        elif short.ByteSize() + detail.ByteSize() <= DEFAULT_BYTES:
            short.details.append(detail)
    return short
