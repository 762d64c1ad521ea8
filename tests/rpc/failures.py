"""Failed calls as a client sees them: status code, google.rpc details and trailing metadata."""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, ResourceInfo
from grpc_status import rpc_status

Detail = TypeVar("Detail", bound=Message)


@dataclass(frozen=True, slots=True)
class Failure:
    """The failure of a call."""

    code: grpc.StatusCode
    message: str
    details: Sequence[Message]
    trailing: Mapping[str, str | bytes]

    def all(self, kind: type[Detail]) -> list[Detail]:
        """The details of one type."""
        return [detail for detail in self.details if isinstance(detail, kind)]

    def only(self, kind: type[Detail]) -> Detail:
        """The only detail of a type."""
        (detail,) = self.all(kind)
        return detail

    @property
    def info(self) -> ErrorInfo:
        """The ErrorInfo, which every failure has."""
        return self.only(ErrorInfo)

    @property
    def violations(self) -> set[tuple[str, str]]:
        """Field path and reason of every violation."""
        return {(violation.field, violation.reason) for violation in self.only(BadRequest).field_violations}

    @property
    def text(self) -> str:
        """Everything that the caller receives, to be searched for what must not be in it."""
        return "\n".join([self.message, *map(str, self.details), str(self.trailing)])


def failure_from(error: grpc.aio.AioRpcError) -> Failure:
    """Convert the exception of a failed call."""
    return Failure(error.code(), error.details() or "", _details(error), dict(error.trailing_metadata()))


async def failure_of(call: Awaitable[object]) -> Failure:
    """Return the failure of a call. A call that succeeds fails the test."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return failure_from(caught.value)


def _details(error: grpc.aio.AioRpcError) -> list[Message]:
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # it has the methods of a call that are used
    details = []
    for packed in status.details if status else ():
        message = GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(packed.TypeName()))()
        assert packed.Unpack(message)
        details.append(message)
    return details


def assert_status(failure: Failure, code: grpc.StatusCode, reason: str, /, *details: object, **metadata: str) -> None:
    """Assert that a failure has this code, and an ErrorInfo and exactly these details after it."""
    assert failure.code is code
    assert failure.message
    info = ErrorInfo(reason=reason, domain="postroom", metadata=metadata)
    assert list(failure.details) == [info, *details]


def assert_precondition_failed(failure: Failure, subject: str, kind: str = "unknown_precondition") -> None:
    """Assert that a call failed because of the state of its subject, such as `mailbox/ID`."""
    violation = PreconditionFailure.Violation(type=kind, subject=subject, description=failure.message)
    assert_status(
        failure,
        grpc.StatusCode.FAILED_PRECONDITION,
        "PRECONDITION_FAILED",
        PreconditionFailure(violations=[violation]),
    )


def resource_info(resource_type: str, resource_id: str, failure: Failure) -> ResourceInfo:
    """The ResourceInfo that repeats the failure's message."""
    return ResourceInfo(resource_type=resource_type, resource_name=resource_id, description=failure.message)
