"""The errors of a call, decoded from the google.rpc details of its status.

mailbox_service.proto lists the reasons and what each carries.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One invalid argument: its path, such as `mailboxes[2].local_part`, the kind of fault, and the way out."""

    field: str
    reason: str
    description: str


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource that an error names. `owner` is the path of the argument that conflicts with it, if any."""

    type: str
    id: str
    owner: str
    description: str


@dataclass(frozen=True, slots=True)
class PreconditionViolation:
    """A precondition that does not hold: its type, such as `resource_still_in_use`, and what it is about."""

    type: str
    subject: str
    description: str


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """A quota that is exhausted: its subject, such as `project/ID`, its metric, such as `mailboxes`, and its value."""

    subject: str
    description: str
    metric: str = ""
    value: int = 0


@dataclass(frozen=True, slots=True)
class ErrorDetails:
    """What the service says of a failed call.

    `reason` is the contract's error type, such as `QUOTAS_EXCEEDED`; empty for an error that did not come from the
    service, such as a connection that was refused. `retry_after` is the delay that the service asks for.
    `omitted_count` is the number of violations or resources that were left out because they did not fit: 0 if the call
    has the metadata `x-accept-details: all`.
    """

    code: grpc.StatusCode
    message: str
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[FieldViolation, ...] = ()
    resources: tuple[Resource, ...] = ()
    preconditions: tuple[PreconditionViolation, ...] = ()
    quotas: tuple[QuotaViolation, ...] = ()
    retry_after: timedelta | None = None
    request_id: str = ""
    omitted_count: int = 0


def decode_error(error: grpc.RpcError) -> ErrorDetails:
    """Return the details of a failed call, of a synchronous or an asyncio channel.

    Details that cannot be parsed are left out; code and message are always there.
    """
    trailing = dict(cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ()))
    request_id = str(trailing.get("x-request-id", ""))
    packed = trailing.get(DETAILS_KEY)
    try:
        status = status_pb2.Status.FromString(packed) if isinstance(packed, bytes) else status_pb2.Status()
    except DecodeError:
        status = status_pb2.Status()
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    precondition, quota = error_details_pb2.PreconditionFailure(), error_details_pb2.QuotaFailure()
    retry, resources = error_details_pb2.RetryInfo(), []
    for detail in status.details:
        resource = error_details_pb2.ResourceInfo()
        if detail.Unpack(resource):
            resources.append(resource)
        else:
            _ = any(detail.Unpack(known) for known in (info, bad_request, precondition, quota, retry))
    return ErrorDetails(
        code=error.code(),
        message=error.details() or "",
        reason=info.reason,
        metadata=dict(info.metadata),
        violations=tuple(FieldViolation(v.field, v.reason, v.description) for v in bad_request.field_violations),
        resources=tuple(Resource(r.resource_type, r.resource_name, r.owner, r.description) for r in resources),
        preconditions=tuple(PreconditionViolation(v.type, v.subject, v.description) for v in precondition.violations),
        quotas=tuple(QuotaViolation(v.subject, v.description, v.quota_metric, v.quota_value) for v in quota.violations),
        retry_after=retry.retry_delay.ToTimedelta() if retry.HasField("retry_delay") else None,
        request_id=request_id,
        omitted_count=int(info.metadata["omitted_count"]) if "omitted_count" in info.metadata else 0,
    )
