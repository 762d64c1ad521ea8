"""The errors of calls: raised by the rules and the storage, mapped to google.rpc.Status in rpc/status.py.

PostroomError
├── InvalidArguments        the request itself is invalid; names every violation
├── Unauthenticated         no valid API key
├── PermissionDenied        the key does not permit the action
├── NotFound                no such resource, or one of another tenant
├── Conflict                another resource has the address or the name
│   ├── NameTaken           the same, with what each address or name belongs to
│   └── Stale               the resource's etag is not the one that the caller sent
├── PreconditionFailed      the resource's state forbids the call, until a caller changes it
├── TransientState          the resource's state forbids the call, and changes without a call
├── Locked                  the operator has locked the resource
├── QuotaExceeded           a quota of the project, organization or mailbox is used up
├── TooManyRequests         the service is overloaded; the call had no effect
├── StorageUnavailable      the database is unavailable; the transaction was rolled back
├── TimeUnknown             the clock has leapt, and the right time is unknown; the call had no effect
├── SchemaMismatch          the database's schema is of another version; at start-up only
├── SecretKeyError          a secret can't be decrypted; at start-up, in the worker and in commands only
│   └── SecretKeyFileError  the file of keys can't be used, or lacks a key
└── RoleRefused             a database role can't be one of the mail servers; of a command only

Messages are for the caller: they contain no data of another tenant, no password and no text of a driver's error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

MAX_NAMES = 5  # that a message lists
MAX_DESCRIBED = 3  # conflicts that a message describes; the details list all
QUARANTINED = "quarantined"
RESOURCE_WORDS = {"api_key": "API key", "admin_key": "admin key"}
"""The type of a resource -> its name in messages. Others are the same."""


class Reason(StrEnum):
    """The fault of an argument: the values of `reason` in invalid_arguments."""

    REQUIRED = "required"
    FORMAT = "format"
    CONSTRAINT = "constraint"
    UNKNOWN = "unknown"


class Precondition(StrEnum):
    """The kind of a failed precondition: the values of `precondition` in the contract."""

    RESOURCE_STILL_IN_USE = "resource_still_in_use"
    ATTRIBUTE_MUST_BE_SET = "attribute_must_be_set"
    UNKNOWN_PRECONDITION = "unknown_precondition"


class KeyRefusal(StrEnum):
    """The fault of an API key: the values of `reason` in denied_authentication."""

    INVALID_ARGUMENT = "invalid_argument"
    NOT_FOUND = "not_found"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Violation:
    """One invalid argument. `field` is a path, such as `mailboxes[2].local_part`."""

    field: str
    reason: Reason
    help_message: str


@dataclass(frozen=True, slots=True)
class ResourceName:
    """The type (`mailbox`) and the id of a resource."""

    type: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """An address or a domain name that a request asks for, and that can't be had.

    `field` is the argument's path. `resource_id` is empty for an address in quarantine, and where the caller's key is
    limited to another project; then `status` is, too. `until` is the end of a quarantine, or the purge of a mailbox
    whose deletion is scheduled.
    """

    field: str
    name: str
    resource_type: str
    resource_id: str = ""
    status: str = ""
    until: datetime | None = None

    @property
    def resource(self) -> ResourceName:
        """The conflicting resource; it is identified by the address or name where its id is confidential or gone."""
        return ResourceName(self.resource_type, self.resource_id or self.name)

    def __str__(self) -> str:
        until = f" until {self.until:%Y-%m-%dT%H:%M:%SZ}" if self.until else ""
        if self.status == QUARANTINED:
            return f"{self.name} is in quarantine{until}: choose another, or wait"
        if not self.resource_id:
            return f"{self.name} is already in use: choose another"
        if self.resource_type == "forwarding":
            owner = f"{self.name} is the destination of forwarding {self.resource_id}, {self.status}"
            return f"{owner}: " + ("wait until it is deleted" if self.status == "deleting" else "use it, or delete it")
        owner = f"{self.name} belongs to {self.resource_type} {self.resource_id}, {self.status}{until}"
        if self.status == "deletion_scheduled":
            return f"{owner}: restore it, or wait"
        if self.status == "deleting":
            return f"{owner}: wait until it is purged"
        if self.resource_type == "alias":
            return f"{owner}: use it, delete it, or choose another"
        return f"{owner}: use it, or choose another"


def summarize(names: Sequence[str]) -> str:
    """Return the first MAX_NAMES names, and the number of the others."""
    omitted = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {omitted} more" if omitted > 0 else "")


class PostroomError(Exception):
    """The base class of the errors of calls. Its message is shown to the caller."""


class InvalidArguments(PostroomError):
    """The request itself is invalid."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("invalid argument(s): " + summarize([violation.field for violation in violations]))
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
    """The API key does not permit the action."""

    def __init__(self, resource: str, action: str) -> None:
        super().__init__(f"the API key lacks permission to {action} {resource}")
        self.resource = resource
        self.action = action


class NotFound(PostroomError):
    """The resource does not exist, or belongs to another tenant: both give the same error."""

    def __init__(self, resource: str, resource_id: str) -> None:
        super().__init__(f"{RESOURCE_WORDS.get(resource, resource)} {resource_id} not found")
        self.resource = ResourceName(resource, resource_id)


class Conflict(PostroomError):
    """Other resources of the tenant, `resources`, have the address or the name already."""

    def __init__(self, message: str, resources: Sequence[ResourceName]) -> None:
        super().__init__(message)
        self.resources = tuple(resources)


class NameTaken(Conflict):
    """Addresses or a domain name that the request asks for are in use or in quarantine."""

    def __init__(self, taken: Sequence[Taken]) -> None:
        omitted = len(taken) - MAX_DESCRIBED
        parts = [*map(str, taken[:MAX_DESCRIBED]), *([f"and {omitted} more"] if omitted > 0 else [])]
        super().__init__("; ".join(parts), [each.resource for each in taken])
        self.taken = tuple(taken)


class Stale(Conflict):
    """The resource's etag is not the one that the caller sent: it has changed since."""

    def __init__(self, resource: ResourceName) -> None:
        super().__init__(
            f"{resource.type} {resource.id} has changed: read it and retry with its current etag", [resource]
        )


class PreconditionFailed(PostroomError):
    """The state of a resource, `subject`, forbids the call until a caller changes it."""

    def __init__(self, subject: ResourceName, precondition: Precondition, help_message: str) -> None:
        super().__init__(help_message)
        self.subject = subject
        self.precondition = precondition


class TransientState(PostroomError):
    """The state of a resource forbids the call, and changes without a call."""

    def __init__(self, resource: ResourceName, current_state: str) -> None:
        super().__init__(f"{resource.type} {resource.id} is {current_state}: retry when it has left this state")
        self.resource = resource
        self.current_state = current_state


class SecretKeyError(PostroomError):
    """A secret in the database can't be decrypted. The text is one line for the operator."""


class SecretKeyFileError(SecretKeyError):
    """The file of keys is not set, can't be read, is invalid, or lacks a key. The text names the setting."""


class Locked(PostroomError):
    """The operator has locked the resource."""

    def __init__(self, resource: ResourceName) -> None:
        super().__init__(f"{resource.type} {resource.id} is locked")
        self.resource = resource


class QuotaExceeded(PostroomError):
    """The quota of a resource that `owner` has, a project, an organization or a mailbox, is used up. `scheduled` of the
    `current` ones are scheduled for deletion. `remedy` is a way out.
    """

    def __init__(
        self, resource: str, quota: int, current: int, owner: ResourceName, scheduled: int = 0, remedy: str = ""
    ) -> None:
        counted = f"{current} {resource}"
        if scheduled:
            counted += f", {scheduled} of them scheduled for deletion, which count until they are purged,"
        way_out = f": {remedy}" if remedy else ""
        super().__init__(f"{owner.type} {owner.id} has {counted} and a quota of {quota}{way_out}")
        self.resource = resource
        self.quota = quota
        self.current = current
        self.owner = owner


class TooManyRequests(PostroomError):
    """The service is overloaded; the call had no effect."""

    def __init__(self, retry_after_seconds: float, message: str = "the service is overloaded: retry later") -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class StorageUnavailable(PostroomError):
    """The database is unavailable; the call's transaction was rolled back. `reason` is for the operator, if known."""

    def __init__(self, retry_after_seconds: float = 1.0, reason: str = "") -> None:
        super().__init__("the database is unavailable: retry later")
        self.retry_after_seconds = retry_after_seconds
        self.reason = reason


class TimeUnknown(PostroomError):
    """The system's clock has leapt, and the right time is unknown; the call had no effect."""

    def __init__(self, retry_after_seconds: float = 1.0) -> None:
        super().__init__("the clock of the service is not trusted: retry later")
        self.retry_after_seconds = retry_after_seconds


class SchemaMismatch(PostroomError):
    """The database's schema is not that of this version of Postroom."""


class RoleRefused(PostroomError):
    """A database role can't be made one of the mail servers. The text has the remedy."""
