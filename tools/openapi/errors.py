"""Error responses by status: the schema of each type's further keys, with an example, and the headers."""

from collections.abc import Mapping
from typing import Any

from postroomd.gateway.errors import ERROR_TYPES

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_ID = "3f2b8a52-6f57-4b0e-9a55-0a4f1f0f7d10"
_RESOURCE: Schema = {"resource": _TEXT, "resource_id": _TEXT}
_MAILBOX = {"resource": "mailbox", "resource_id": _ID}


def _object(properties: Schema, optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _list(properties: Schema, optional: tuple[str, ...] = ()) -> Schema:
    return {"type": "array", "items": _object(properties, optional)}


_ARGUMENTS = _list(
    {
        "argument_name": _TEXT | {"description": "A path such as `mailboxes[2].local_part`."},
        "reason": {"type": "string", "enum": ["required", "format", "constraint", "unknown"]},
        "help_message": _TEXT,
    }
)
_CONFLICTS = _list(
    {"argument_name": _TEXT, **_RESOURCE, "email": _TEXT, "name": _TEXT, "current_state": _TEXT}, ("email", "name")
)
_PRECONDITIONS = ["resource_still_in_use", "attribute_must_be_set", "unknown_precondition"]

KEYS: Mapping[str, tuple[Schema, tuple[str, ...], Schema]] = {
    "invalid_arguments": (
        {"details": _ARGUMENTS},
        ("details",),
        {
            "details": [
                {
                    "argument_name": "mailboxes[2].local_part",
                    "reason": "constraint",
                    "help_message": "must have 1 to 64 octets",
                }
            ]
        },
    ),
    "denied_authentication": (
        {
            "method": {"type": "string", "enum": ["api_key"]},
            "reason": {"type": "string", "enum": ["invalid_argument", "not_found", "expired"]},
        },
        (),
        {"method": "api_key", "reason": "not_found"},
    ),
    "permissions_denied": (
        {"details": _list({"resource": _TEXT, "action": _TEXT})},
        (),
        {"details": [{"resource": "mailbox", "action": "write"}]},
    ),
    "quotas_exceeded": (
        {"details": _list({"resource": _TEXT, "quota": _COUNT, "current": _COUNT})},
        (),
        {"details": [{"resource": "mailboxes", "quota": 1000, "current": 1000}]},
    ),
    "not_found": (_RESOURCE, (), _MAILBOX),
    "method_not_allowed": ({}, (), {}),
    "conflict": (
        {**_RESOURCE, "details": _CONFLICTS, "omitted_count": _COUNT},
        ("details", "omitted_count"),
        {
            **_MAILBOX,
            "details": [
                {
                    "argument_name": "mailboxes[0].local_part",
                    **_MAILBOX,
                    "email": "ann@example.org",
                    "current_state": "deletion_scheduled",
                }
            ],
        },
    ),
    "transient_state": (
        {**_RESOURCE, "current_state": _TEXT},
        (),
        {"resource": "domain", "resource_id": _ID, "current_state": "provisioning"},
    ),
    "precondition_failed": (
        {"precondition": {"type": "string", "enum": _PRECONDITIONS}, "help_message": _TEXT, **_RESOURCE},
        ("resource", "resource_id"),
        {"precondition": "resource_still_in_use", "help_message": "the domain has 3 mailboxes in use"},
    ),
    "payload_too_large": ({}, (), {}),
    "unsupported_media_type": ({}, (), {}),
    "locked": (_RESOURCE, (), _MAILBOX),
    "too_many_requests": ({}, (), {}),
    "internal": ({"request_id": _TEXT}, (), {"request_id": "5f0c7f7e0b7d4f1f8a5d3f3b6a2c9d41"}),
    "unavailable": ({}, (), {}),
    "deadline_exceeded": ({}, (), {}),
}
"""Error type -> further keys of its body, those that may be absent, and an example of them."""

_HEADERS: Mapping[int, tuple[str, ...]] = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}


def error_schemas() -> dict[str, Schema]:
    """Return the schema of each error type, by its component name."""
    return {_name(kind): _schema(kind) for kind in ERROR_TYPES}


def _schema(kind: str) -> Schema:
    keys, optional, _ = KEYS[kind]
    properties = {"type": {"type": "string", "const": kind}, "message": _TEXT, **keys}
    return {"description": ERROR_TYPES[kind].message, **_object(properties, optional)}


def error_responses(headers: Mapping[str, Schema]) -> dict[str, Schema]:
    """Return the response of each error status, by its component name. `headers` are those of every response."""
    by_status: dict[int, list[str]] = {}
    for kind, error in ERROR_TYPES.items():
        by_status.setdefault(error.status, []).append(kind)
    return {
        response_name(status): {
            "description": " ".join(ERROR_TYPES[kind].message for kind in kinds),
            "headers": {**headers, **references_to(*_HEADERS.get(status, ()))},
            "content": {
                "application/json": {
                    "schema": _one_of([{"$ref": f"#/components/schemas/{_name(kind)}"} for kind in kinds]),
                    "examples": {kind: {"value": _example(kind)} for kind in kinds},
                }
            },
        }
        for status, kinds in sorted(by_status.items())
    }


def response_name(status: int) -> str:
    """Return the component name of an error status."""
    return f"Error{status}"


def _name(kind: str) -> str:
    return "".join(word.capitalize() for word in kind.split("_")) + "Error"


def _one_of(schemas: list[Schema]) -> Schema:
    return schemas[0] if len(schemas) == 1 else {"oneOf": schemas}


def references_to(*names: str) -> dict[str, Schema]:
    """Return references to the components of response headers."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _example(kind: str) -> Schema:
    return {"type": kind, "message": ERROR_TYPES[kind].message, **KEYS[kind][2]}
