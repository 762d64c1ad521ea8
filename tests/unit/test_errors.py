"""The errors of calls: the tree in the docstring, the classes and their mapping to statuses agree."""

import base64
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from postroomd.domain import errors
from postroomd.domain.errors import (
    Conflict,
    InvalidArguments,
    KeyRefusal,
    Locked,
    NameTaken,
    NotFound,
    PermissionDenied,
    PostroomError,
    Precondition,
    PreconditionFailed,
    QuotaExceeded,
    Reason,
    ResourceName,
    StorageUnavailable,
    Taken,
    TooManyRequests,
    TransientState,
    Unauthenticated,
    Violation,
)
from postroomd.rpc.status import ERROR_MAPPINGS, MAX_HEADER_LIST_BYTES, retry_pushback, status_of

OUTSIDE_CALLS = {errors.RoleRefused, errors.SchemaMismatch, errors.SecretKeyError, errors.SecretKeyFileError}

PROJECT = ResourceName("project", "a0")
MAILBOX = ResourceName("mailbox", "b0000000-0000-4000-8000-000000000000")


def parents_in(docstring: str) -> dict[str, str]:
    """Each class in the docstring's tree -> its parent there."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in docstring.splitlines():
        match = re.match(r"([│ ├└─]*)([A-Z]\w+)(?: {2,}|$)", line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        if depth:
            parents[match[2]] = path[depth - 1]
        path[depth:] = [match[2]]
    return parents


def descendants_of(parent: type[PostroomError]) -> set[type[PostroomError]]:
    """All classes of errors.py that descend from `parent`."""
    children = {child for child in parent.__subclasses__() if child.__module__ == errors.__name__}
    return children.union(*(descendants_of(child) for child in children))


def test_the_docstrings_tree_is_the_tree_of_classes() -> None:
    assert parents_in(errors.__doc__ or "") == {
        kind.__name__: parent.__name__ for kind in descendants_of(PostroomError) for parent in kind.__bases__
    }


def test_every_error_that_can_reach_a_caller_has_a_status() -> None:
    # The status is looked up by the exact type: a parent's does not apply to its children.
    assert set(ERROR_MAPPINGS) == descendants_of(PostroomError) - OUTSIDE_CALLS


def test_every_error_has_a_docstring() -> None:
    assert [kind for kind in descendants_of(PostroomError) if not kind.__doc__] == []


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [
        (InvalidArguments, "INVALID_ARGUMENT", "invalid_arguments"),
        (Unauthenticated, "UNAUTHENTICATED", "denied_authentication"),
        (PermissionDenied, "PERMISSION_DENIED", "permissions_denied"),
        (NotFound, "NOT_FOUND", "not_found"),
        (Conflict, "ALREADY_EXISTS", "conflict"),
        (PreconditionFailed, "FAILED_PRECONDITION", "precondition_failed"),
        (TransientState, "FAILED_PRECONDITION", "transient_state"),
        (Locked, "FAILED_PRECONDITION", "locked"),
        (QuotaExceeded, "RESOURCE_EXHAUSTED", "quotas_exceeded"),
        (TooManyRequests, "RESOURCE_EXHAUSTED", "too_many_requests"),
        (StorageUnavailable, "UNAVAILABLE", "unavailable"),
    ],
)
def test_an_error_has_the_code_and_type_of_the_contract(kind: type[PostroomError], code: str, reason: str) -> None:
    assert code_pb2.Code.Name(ERROR_MAPPINGS[kind].code) == code
    assert ERROR_MAPPINGS[kind].reason == reason.upper()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            InvalidArguments(
                [
                    Violation("name", Reason.REQUIRED, "must be set"),
                    Violation("mailboxes[2].local_part", Reason.FORMAT, "a dot-atom"),
                ]
            ),
            "invalid argument(s): name, mailboxes[2].local_part",
        ),
        (Unauthenticated(KeyRefusal.INVALID_ARGUMENT), "the API key's secret is missing or malformed"),
        (Unauthenticated(KeyRefusal.NOT_FOUND), "the API key is unknown"),
        (Unauthenticated(KeyRefusal.EXPIRED), "the API key has expired"),
        (PermissionDenied("mailbox", "write"), "the API key lacks permission to write mailbox"),
        (NotFound("mailbox", MAILBOX.id), f"mailbox {MAILBOX.id} not found"),
        (Conflict("already in use: ada@example.com", [MAILBOX]), "already in use: ada@example.com"),
        (PreconditionFailed(MAILBOX, Precondition.UNKNOWN_PRECONDITION, "restore it first"), "restore it first"),
        (TransientState(MAILBOX, "deleting"), f"mailbox {MAILBOX.id} is deleting: retry when it has left this state"),
        (Locked(MAILBOX), f"mailbox {MAILBOX.id} is locked"),
        (
            QuotaExceeded("mailboxes", 10, 9, ResourceName("project", "a0")),
            "project a0 has 9 mailboxes and a quota of 10",
        ),
        (
            QuotaExceeded("mailboxes", 10, 9, PROJECT, 4),
            "project a0 has 9 mailboxes, 4 of them scheduled for deletion, which count until they are purged,"
            " and a quota of 10",
        ),
        (TooManyRequests(0.5), "the service is overloaded: retry later"),
        (StorageUnavailable(), "the database is unavailable: retry later"),
    ],
)
def test_an_errors_message_is_for_the_caller(error: PostroomError, message: str) -> None:
    assert str(error) == message


NAME = "ann@example.org"
UNTIL = datetime(2026, 12, 26, 12, 30, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"resource_id": "60bb", "status": "deletion_scheduled", "until": UNTIL},
            f"{NAME} belongs to mailbox 60bb, deletion_scheduled until 2026-12-26T12:30:15Z: restore it, or wait",
        ),
        (
            {"resource_id": "60bb", "status": "deleting"},
            f"{NAME} belongs to mailbox 60bb, deleting: wait until it is purged",
        ),
        (
            {"resource_id": "60bb", "status": "ready"},
            f"{NAME} belongs to mailbox 60bb, ready: use it, or choose another",
        ),
        (
            {"resource_type": "alias", "resource_id": "60bb", "status": "ready"},
            f"{NAME} belongs to alias 60bb, ready: use it, delete it, or choose another",
        ),
        (
            {"status": "quarantined", "until": UNTIL},
            f"{NAME} is in quarantine until 2026-12-26T12:30:15Z: choose another, or wait",
        ),
        ({}, f"{NAME} is already in use: choose another"),
    ],
)
def test_a_conflict_says_what_has_the_name_and_what_to_do(fields: dict[str, Any], message: str) -> None:
    taken = Taken(**{"field": "local_part", "name": NAME, "resource_type": "mailbox", **fields})
    assert str(NameTaken([taken])) == message
    assert str(NameTaken([taken] * 5)) == "; ".join([message] * 3 + ["and 2 more"])


@pytest.mark.parametrize("subject", [PROJECT, ResourceName("organization", "o1"), MAILBOX])
def test_a_quota_failure_names_its_subject_and_its_numbers(subject: ResourceName) -> None:
    status = status_of(QuotaExceeded("aliases", 10, 9, subject), "a request")
    info, failure = error_details_pb2.ErrorInfo(), error_details_pb2.QuotaFailure()
    unpacked = [(detail.Unpack(info), detail.Unpack(failure)) for detail in status.details]
    assert (True, False) in unpacked
    assert (False, True) in unpacked
    assert [violation.subject for violation in failure.violations] == [f"{subject.type}/{subject.id}"]
    assert [(each.quota_metric, each.quota_value) for each in failure.violations] == [("aliases", 10)]
    assert {name: info.metadata[name] for name in ("resource", "quota", "current")} == {
        "resource": "aliases",
        "quota": "10",
        "current": "9",
    }


LONGEST_NAME = f"{'x' * 64}@{'y' * 63}.{'y' * 63}.{'z' * 61}"


def conflict(count: int) -> NameTaken:
    """Conflicts with the longest possible names."""
    return NameTaken(
        [
            Taken(
                field=f"mailboxes[{number}].local_part",
                name=LONGEST_NAME,
                resource_type="mailbox",
                resource_id=MAILBOX.id,
                status="deletion_scheduled",
                until=UNTIL,
            )
            for number in range(count)
        ]
    )


def invalid(count: int, help_message: str) -> InvalidArguments:
    return InvalidArguments(
        [Violation(f"mailboxes[{number}].local_part", Reason.FORMAT, help_message) for number in range(count)]
    )


def header_list_bytes(status: status_pb2.Status, error: Exception) -> int:
    """The size of the trailing metadata (RFC 9113, section 6.5.2) with which the boundary reports an error."""
    headers = {
        "grpc-status": "16",
        "grpc-message": quote(status.message, safe="".join(map(chr, range(0x20, 0x7F))).replace("%", "")),
        "grpc-status-details-bin": base64.b64encode(status.SerializeToString()).decode(),
        "x-request-id": "x" * 128,
        **{f"x-ratelimit-{name}": "4294967295" for name in ("limit", "remaining", "reset")},
        **dict(retry_pushback(error)),
    }
    return sum(len(name) + len(value) + 32 for name, value in headers.items())


@pytest.mark.parametrize(
    "error",
    [
        *(conflict(count) for count in range(1, 15)),
        conflict(100),
        *(invalid(300, help_message) for help_message in ("short", "é" * 100, "x" * 1_000, "x" * 10_000)),
    ],
)
def test_the_details_of_an_error_fit_and_those_left_out_are_counted(error: NameTaken | InvalidArguments) -> None:
    status = status_of(error, "a request")
    assert header_list_bytes(status, error) <= MAX_HEADER_LIST_BYTES
    full = details_of(status_of(error, "a request", all_details=True))
    info, *listed = details_of(status)
    assert isinstance(info, error_details_pb2.ErrorInfo)
    omitted = int(info.metadata["omitted_count"]) if "omitted_count" in info.metadata else 0
    if isinstance(error, NameTaken):
        assert len(listed) + omitted == len(full) - 1 == len(error.taken)
        assert listed == full[1 : 1 + len(listed)]
    else:
        (bad_request,) = listed
        assert isinstance(bad_request, error_details_pb2.BadRequest)
        *violations, last = bad_request.field_violations
        assert len(violations) + omitted == len(error.violations)
        assert last.description.startswith(f"{omitted} more violations")


def details_of(status: status_pb2.Status) -> list[Message]:
    """The details, unpacked."""
    kinds = (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.ResourceInfo)
    unpacked: list[Message] = []
    for detail in status.details:
        (kind,) = (kind for kind in kinds if detail.Is(kind.DESCRIPTOR))
        message = kind()
        assert detail.Unpack(message)
        unpacked.append(message)
    return unpacked
