"""Every way a call can fail, as exceptions raised where a rule breaks and mapped in one place, rpc/status.py.

PostroomError
├── InvalidArguments        the request breaks rules of its own; names every violation
├── Unauthenticated         no valid API key
├── PermissionDenied        the key may not do this
├── NotFound                there is no such resource, or it is another tenant's
├── Conflict                another resource has the address or the name
│   └── Stale               the resource is not any more what the caller last saw
├── PreconditionFailed      the state of a resource forbids it, until a caller changes that
├── TransientState          the state of a resource forbids it, and passes by itself
├── Locked                  the operator has locked the resource
├── QuotaExceeded           the project has as many mailboxes as it may
├── TooManyRequests         the service is at its limit; nothing was done
├── StorageUnavailable      the database can't be reached; what was begun was undone
└── SchemaMismatch          the database is behind or ahead of this version: at start-up alone

Messages are for the caller: they hold nothing of another tenant, no password and no text of a driver's error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

LISTED = 5


class Reason(StrEnum):
    """Why an argument is refused: the values of `reason` in the contract."""

    REQUIRED = "required"
    FORMAT = "format"
    CONSTRAINT = "constraint"
    UNKNOWN = "unknown"


class Precondition(StrEnum):
    """What kind of precondition failed: the values of `precondition` in the contract."""

    RESOURCE_STILL_IN_USE = "resource_still_in_use"
    ATTRIBUTE_MUST_BE_SET = "attribute_must_be_set"
    UNKNOWN_PRECONDITION = "unknown_precondition"


class KeyRefusal(StrEnum):
    """Why an API key is refused: the values of `reason` in denied_authentication."""

    INVALID_ARGUMENT = "invalid_argument"
    NOT_FOUND = "not_found"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Violation:
    """One argument at fault. `field` is a path, such as `mailboxes[2].local_part`."""

    field: str
    reason: Reason
    help_message: str


@dataclass(frozen=True, slots=True)
class ResourceName:
    """A resource that an error is about: its type (`mailbox`) and its id."""

    type: str
    id: str


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are: a message is no place for a hundred."""
    further = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {further} more" if further > 0 else "")


class PostroomError(Exception):
    """The root of what a call can fail with on purpose. Its text is shown to the caller."""


class InvalidArguments(PostroomError):
    """The request breaks rules of its own."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("invalid argument(s): " + listed([violation.field for violation in violations]))
        self.violations = tuple(violations)


class Unauthenticated(PostroomError):
    """The call carries no valid API key."""

    def __init__(self, reason: KeyRefusal) -> None:
        super().__init__(
            {
                KeyRefusal.INVALID_ARGUMENT: "the API key's secret is missing or malformed",
                KeyRefusal.NOT_FOUND: "the API key is unknown",
                KeyRefusal.EXPIRED: "the API key has expired",
            }[reason]
        )
        self.reason = reason


class PermissionDenied(PostroomError):
    """The API key may not do this."""

    def __init__(self, resource: str, action: str) -> None:
        super().__init__(f"the API key may not {action} {resource}")
        self.resource = resource
        self.action = action


class NotFound(PostroomError):
    """There is no such resource, or it is another tenant's: the two are not told apart."""

    def __init__(self, resource: str, resource_id: str) -> None:
        super().__init__(f"{resource} {resource_id} is not found")
        self.resource = ResourceName(resource, resource_id)


class Conflict(PostroomError):
    """Another resource of the caller has the address or the name already. `resources` are those in the way."""

    def __init__(self, message: str, resources: Sequence[ResourceName]) -> None:
        super().__init__(message)
        self.resources = tuple(resources)


class Stale(Conflict):
    """The resource's etag is not the one that the caller named: it has changed since."""

    def __init__(self, resource: ResourceName) -> None:
        super().__init__(f"{resource.type} {resource.id} has changed: its etag is another one now", [resource])


class PreconditionFailed(PostroomError):
    """The state of a resource forbids the call, until a caller changes it."""

    def __init__(self, subject: ResourceName, precondition: Precondition, help_message: str) -> None:
        super().__init__(help_message)
        self.subject = subject
        self.precondition = precondition


class TransientState(PostroomError):
    """The state of a resource forbids the call, and passes by itself."""

    def __init__(self, resource: ResourceName, current_state: str) -> None:
        super().__init__(f"{resource.type} {resource.id} is {current_state}: try again once that has passed")
        self.resource = resource
        self.current_state = current_state


class Locked(PostroomError):
    """The operator has locked the resource."""

    def __init__(self, resource: ResourceName) -> None:
        super().__init__(f"{resource.type} {resource.id} is locked")
        self.resource = resource


class QuotaExceeded(PostroomError):
    """The project has as many of a resource as it may."""

    def __init__(self, resource: str, quota: int, current: int, project_id: str) -> None:
        super().__init__(f"project {project_id} has {current} of at most {quota} {resource}")
        self.resource = resource
        self.quota = quota
        self.current = current
        self.project_id = project_id


class TooManyRequests(PostroomError):
    """The service is at its limit and has done nothing of the call."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__("the service is busy: try again later")
        self.retry_after_seconds = retry_after_seconds


class StorageUnavailable(PostroomError):
    """The database can't be reached; what the call had begun was undone."""

    def __init__(self, retry_after_seconds: float = 1.0) -> None:
        super().__init__("the database can't be reached: try again later")
        self.retry_after_seconds = retry_after_seconds


class SchemaMismatch(PostroomError):
    """The database's schema is not the one that this version of Postroom works with."""
