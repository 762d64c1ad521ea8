"""The OpenAPI 3.1 document: one operation per route that the gateway serves."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from postroom.v1alpha1 import mailbox_service_pb2
from postroomd import __version__
from postroomd.gateway.routes import Route, read_routes
from tools.openapi.comments import Comments
from tools.openapi.errors import error_responses, error_schemas, references_to, response_name
from tools.openapi.schemas import Schema, Schemas

SERVICE = mailbox_service_pb2.DESCRIPTOR.services_by_name["MailboxService"]
_ALWAYS = (400, 401, 403, 404, 413, 429, 500, 503, 504)
_CHANGES = (409, 412, 415, 423)
_RATE_LIMITS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
_WORDS = re.compile(r"[A-Z][a-z]+")

_CREATED = {
    "CreateDomain": ("domain_id", "$response.body#/id"),
    "BatchCreateMailboxes": ("mailbox_id", "$response.body#/mailboxes/0/id"),
    "CreateAlias": ("alias_id", "$response.body#/id"),
    "CreateForwarding": ("forwarding_id", "$response.body#/id"),
}
"""Operation that creates a resource -> the path parameter that takes its id, and where the response has it."""

DESCRIPTION = """\
Provisions e-mail domains, mailboxes, aliases and forwardings.

Every request carries the secret of an API key. Each error is a JSON object with `type` and `message`; further keys
depend on the type. Lists are read page by page: by `page`, or by `page_token` from the previous response, which is as
fast for the last page as for the first. A retry of a change under the same `Idempotency-Key` has its effect once.

Descriptions name statuses and errors as gRPC has them: `READY` is `ready` here, `ALREADY_EXISTS` is a `conflict`."""

_HEADERS: dict[str, Schema] = {
    "X-Request-Id": {"description": "Finds the request in the logs.", "schema": {"type": "string"}},
    "X-RateLimit-Limit": {"description": "Calls per window, such as `50, 50;w=1`.", "schema": {"type": "string"}},
    "X-RateLimit-Remaining": {"description": "Calls left in the window.", "schema": {"type": "string"}},
    "X-RateLimit-Reset": {"description": "Seconds until the window ends.", "schema": {"type": "string"}},
    "ETag": {
        "description": "The version of the resource, for If-Match and If-None-Match.",
        "schema": {"type": "string"},
    },
    "Idempotency-Replayed": {
        "description": "`true` if this is the stored response of an earlier request with the same Idempotency-Key.",
        "schema": {"type": "string", "const": "true"},
    },
    "Retry-After": {"description": "Seconds before a retry.", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
    "WWW-Authenticate": {"description": "The authentication scheme.", "schema": {"type": "string"}},
}

_PARAMETERS: dict[str, Schema] = {
    "X-Request-Id": {
        "description": "An id of the caller's own for the logs; a new one is made if it is absent or malformed.",
        "schema": {"type": "string", "example": "import-2026-11-26.1"},
    },
    "X-Request-Timeout": {
        "description": "Deadline in seconds from now; the operator's own limit is the default and the maximum.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,8}(\\.[0-9]{1,9})?$", "example": "10"},
    },
    "X-Consistency": {
        "description": "`strong` reads a list from the primary database instead of a replica a few seconds behind.",
        "schema": {"type": "string", "const": "strong"},
    },
    "Idempotency-Key": {
        "description": "A key of the caller's own: a retry under it has its effect once, and gets the first response.",
        "schema": {"type": "string", "pattern": "^[\\x21-\\x7e]{1,255}$"},
    },
    "If-Match": {
        "description": "The etags of which one must be current, in quotes; otherwise 412.",
        "schema": {"type": "string", "example": '"1a"'},
    },
    "If-None-Match": {
        "description": "Etags, in quotes; 304 without a body if one is current.",
        "schema": {"type": "string", "example": '"1a"'},
    },
}


def document(comments: Comments) -> dict[str, Any]:
    """Return the document as JSON values. `comments` are those of the contract."""
    schemas = Schemas(comments)
    paths: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()
    for route in read_routes([SERVICE]):
        operation = _operation(route, schemas, comments, additional=route.rpc in seen)
        seen.add(route.rpc)
        paths.setdefault(route.template, {})[route.http_method.lower()] = operation
    _add_links(paths)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Postroom",
            "version": __version__,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This gateway"}],
        "security": [{"token": []}, {"bearer": []}],
        "tags": [{"name": name} for name in _tags(paths)],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Auth-Token",
                    "description": "An API key's secret.",
                },
                "bearer": {"type": "http", "scheme": "bearer", "description": "The same, as a bearer token."},
            },
            "parameters": {name: {"name": name, "in": "header", **value} for name, value in _PARAMETERS.items()},
            "headers": _HEADERS,
            "schemas": {**dict(sorted(schemas.components.items())), **error_schemas()},
            "responses": error_responses(references_to("X-Request-Id", *_RATE_LIMITS)),
        },
    }


def _tags(paths: dict[str, dict[str, Any]]) -> list[str]:
    return list(
        dict.fromkeys(tag for path in paths.values() for operation in path.values() for tag in operation["tags"])
    )


def _operation(route: Route, schemas: Schemas, comments: Comments, *, additional: bool) -> dict[str, Any]:
    full_name = route.rpc.removeprefix("/").replace("/", ".")
    name = full_name.rpartition(".")[2]
    comment = comments[full_name]
    is_read = route.http_method == "GET"
    statuses = _ALWAYS if is_read else (*_ALWAYS, *_CHANGES)
    operation: dict[str, Any] = {
        # A second path of the same RPC is named after the resource in its path.
        "operationId": f"{name}By{_title(route.path_fields[0])}" if additional else name,
        "tags": [_resource(name)],
        "summary": _WORDS.sub(lambda word: f" {word[0].lower()}", name).strip().capitalize(),
        "description": comment,
        "parameters": list(_parameters(route, schemas, is_read=is_read)),
        "responses": {
            **_success(route, schemas, is_read=is_read),
            **{str(status): {"$ref": f"#/components/responses/{response_name(status)}"} for status in sorted(statuses)},
        },
    }
    if route.body:
        body = schemas.body(route.request, route.path_fields)
        operation["requestBody"] = {
            "required": "required" in body,
            "content": {"application/json": {"schema": body}},
        }
    return operation


def _add_links(paths: dict[str, dict[str, Any]]) -> None:
    """Link each creation to the operations that take the id of what it creates."""
    operations = [operation for methods in paths.values() for operation in methods.values()]
    for operation in operations:
        created = _CREATED.get(operation["operationId"])
        if created is not None:
            parameter, expression = created
            operation["responses"]["200"]["links"] = {
                other["operationId"]: {"operationId": other["operationId"], "parameters": {parameter: expression}}
                for other in operations
                if any(each.get("name") == parameter and each["in"] == "path" for each in other["parameters"])
            }


def _title(field: str) -> str:
    return "".join(word.capitalize() for word in field.removesuffix("_id").split("_"))


def _resource(rpc: str) -> str:
    """Return the tag of an RPC, a resource in the plural."""
    for word, tag in (
        ("Forwarding", "forwardings"),
        ("Alias", "aliases"),
        ("Mailbox", "mailboxes"),
        ("Domain", "domains"),
    ):
        if word in rpc:
            return tag
    raise ValueError(f"{rpc} names no resource: add its tag")


def _parameters(route: Route, schemas: Schemas, *, is_read: bool) -> Iterator[Schema]:
    fields = route.request.fields_by_name
    for name in route.path_fields:
        field = fields[name]
        schema = schemas.parameter(field)
        yield {"name": name, "in": "path", "required": True, "description": schema.pop("description"), "schema": schema}
    if not route.body:
        for field in route.request.fields:
            if field.name not in route.path_fields:
                schema = schemas.parameter(field)
                yield {"name": field.name, "in": "query", "description": schema.pop("description"), "schema": schema}
    names: Iterable[str] = ("X-Request-Id", "X-Request-Timeout")
    if is_read:
        names = (*names, "X-Consistency", *(["If-None-Match"] if "etag" in route.response.fields_by_name else []))
    else:
        names = (*names, "Idempotency-Key", *(["If-Match"] if "etag" in fields else []))
    yield from ({"$ref": f"#/components/parameters/{name}"} for name in names)


def _success(route: Route, schemas: Schemas, *, is_read: bool) -> dict[str, Any]:
    has_etag = "etag" in route.response.fields_by_name
    names = [
        "X-Request-Id",
        *_RATE_LIMITS,
        *(["ETag"] if has_etag else []),
        *([] if is_read else ["Idempotency-Replayed"]),
    ]
    if not route.response.fields:
        return {"204": {"description": "Done.", "headers": references_to(*names)}}
    content = {"application/json": {"schema": schemas.response(route.response)}}
    responses: dict[str, Any] = {"200": {"description": "Done.", "headers": references_to(*names), "content": content}}
    if is_read and has_etag:
        responses["304"] = {
            "description": "The resource is unchanged.",
            "headers": references_to("X-Request-Id", "ETag"),
        }
    return responses
