"""The tree of errors is drawn once and mapped once: the drawing, the classes and the table agree."""

import re

import pytest
from google.rpc import code_pb2

from postroomd.domain import errors
from postroomd.domain.errors import (
    Conflict,
    InvalidArguments,
    KeyRefusal,
    Locked,
    NotFound,
    PermissionDenied,
    PostroomError,
    Precondition,
    PreconditionFailed,
    QuotaExceeded,
    Reason,
    ResourceName,
    StorageUnavailable,
    TooManyRequests,
    TransientState,
    Unauthenticated,
    Violation,
)
from postroomd.rpc.status import ERROR_MAPPINGS

AT_START_UP_ALONE = {errors.SchemaMismatch}

MAILBOX = ResourceName("mailbox", "b0000000-0000-4000-8000-000000000000")


def drawn(docstring: str) -> dict[str, str]:
    """Each class in the drawing -> its parent there."""
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


def below(parent: type[PostroomError]) -> set[type[PostroomError]]:
    """Every class of errors.py that descends from `parent`."""
    children = {child for child in parent.__subclasses__() if child.__module__ == errors.__name__}
    return children.union(*(below(child) for child in children))


def test_the_drawing_is_the_tree_of_classes() -> None:
    assert drawn(errors.__doc__ or "") == {
        kind.__name__: parent.__name__ for kind in below(PostroomError) for parent in kind.__bases__
    }


def test_every_error_that_can_reach_a_caller_has_its_answer() -> None:
    # An answer is looked up by the very type: a parent's does not serve its children.
    assert set(ERROR_MAPPINGS) == below(PostroomError) - AT_START_UP_ALONE


def test_every_error_says_what_it_is_for() -> None:
    assert [kind for kind in below(PostroomError) if not kind.__doc__] == []


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
def test_an_error_is_told_by_the_code_and_type_of_the_contract(
    kind: type[PostroomError], code: str, reason: str
) -> None:
    assert code_pb2.Code.Name(ERROR_MAPPINGS[kind].code) == code
    assert ERROR_MAPPINGS[kind].reason == reason.upper()


@pytest.mark.parametrize(
    ("error", "says"),
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
        (PermissionDenied("mailbox", "write"), "the API key may not write mailbox"),
        (NotFound("mailbox", MAILBOX.id), f"mailbox {MAILBOX.id} is not found"),
        (Conflict("already in use: ada@example.com", [MAILBOX]), "already in use: ada@example.com"),
        (PreconditionFailed(MAILBOX, Precondition.UNKNOWN_PRECONDITION, "restore it first"), "restore it first"),
        (TransientState(MAILBOX, "deleting"), f"mailbox {MAILBOX.id} is deleting: try again once that has passed"),
        (Locked(MAILBOX), f"mailbox {MAILBOX.id} is locked"),
        (QuotaExceeded("mailboxes", 10, 9, "a0"), "project a0 has 9 of at most 10 mailboxes"),
        (TooManyRequests(0.5), "the service is busy: try again later"),
        (StorageUnavailable(), "the database can't be reached: try again later"),
    ],
)
def test_an_errors_text_is_for_the_caller(error: PostroomError, says: str) -> None:
    assert str(error) == says
