"""Operations of the contract that the published SDKs do not have yet, sent by the SDKs' own transport.

An SDK that has an operation is used for it: this module then has no effect on that operation.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from google.api import annotations_pb2

from postroom.v1alpha1 import mailbox_service_pb2
from tests.support.operations import RPCS

METHODS = mailbox_service_pb2.DESCRIPTOR.services_by_name["MailboxService"].methods_by_name


def operation_beyond(api: Any, operation: str) -> Callable[..., Any]:
    """Return a function that sends an operation over REST, and returns its response as an object."""
    rule = METHODS[RPCS[operation]].GetOptions().Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")

    def call(**arguments: Any) -> Any:
        names = re.findall(r"{(\w+)}", getattr(rule, verb))
        path = getattr(rule, verb).format(**{name: arguments.pop(name) for name in names})
        sent = {"params": arguments} if verb == "get" else {"body": arguments}
        response = api._request(verb.upper(), path, **sent)
        api._throw_on_error(response)
        return _object(response.json())

    return call


def _object(value: Any) -> Any:
    """Return a JSON value with objects as namespaces, and timestamps as datetimes."""
    if isinstance(value, list):
        return [_object(item) for item in value]
    if isinstance(value, Mapping):
        return SimpleNamespace(
            **{
                name: datetime.fromisoformat(field) if name.endswith("_at") and field else _object(field)
                for name, field in value.items()
            }
        )
    return value
