"""The operations of the tenants' API: one table for the tests over gRPC and for those over REST.

Argument names and enum values are those of the REST contract, such as `yearly`. tests/rpc/requests.py converts them to
protobuf.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PASSWORD = "correct horse battery staple"


def _snake_case(rpc: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", rpc).lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operation on one resource. `resource` is what its id names; `creates` is what it creates, if anything.

    `arguments` are valid arguments besides the id. Domain name and local parts must be new ones in each call.
    """

    rpc: str
    resource: str
    creates: str = ""
    mutating: bool = True
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the operation in the SDKs: `get_domain` for GetDomain."""
        return _snake_case(self.rpc)

    @property
    def id_argument(self) -> str:
        """The argument that takes the id."""
        return f"{self.resource}_id"

    @property
    def affects(self) -> str:
        """The resource that it reads, creates or changes, as permissions_denied names it."""
        return self.creates or self.resource


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOperation:
    """An operation that lists resources. `items` is their field in the response.

    `id_filters` are the arguments that filter by an id. `ordering_fields` renames the fields that orders are named for.
    """

    rpc: str
    resource: str
    items: str
    id_filters: tuple[str, ...]
    max_page_size: int
    ordering_fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the operation in the SDKs."""
        return _snake_case(self.rpc)


OPERATIONS = (
    Operation(rpc="CreateDomain", resource="project", creates="domain", arguments={"name": "new.example"}),
    Operation(rpc="GetDomain", resource="domain", mutating=False),
    Operation(rpc="DeleteDomain", resource="domain", arguments={"force": True}),
    Operation(rpc="GetDomainRecords", resource="domain", mutating=False),
    Operation(rpc="ValidateDomainRecords", resource="domain"),
    Operation(
        rpc="BatchCreateMailboxes",
        resource="domain",
        creates="mailbox",
        arguments={
            "mailboxes": [
                {"local_part": "first.person", "password": PASSWORD},
                {"local_part": "second.person", "password": PASSWORD},
            ],
            "subscription_period": "yearly",
        },
    ),
    Operation(rpc="GetMailbox", resource="mailbox", mutating=False),
    Operation(
        rpc="UpdateMailbox",
        resource="mailbox",
        arguments={
            "subscription_period": "yearly",
            "new_password": "another good password",
            "display_name": "Ada Lovelace",
            "storage_quota_bytes": 20 * 10**9,
            "login_disabled": True,
            "sending_disabled": True,
            "receiving_disabled": True,
        },
    ),
    Operation(rpc="DeleteMailbox", resource="mailbox"),
    Operation(rpc="RestoreMailbox", resource="mailbox"),
    Operation(
        rpc="CreateAlias",
        resource="mailbox",
        creates="alias",
        arguments={"local_part": "office", "description": "new"},
    ),
    Operation(rpc="GetAlias", resource="alias", mutating=False),
    Operation(rpc="UpdateAlias", resource="alias", arguments={"description": "new"}),
    Operation(rpc="DeleteAlias", resource="alias"),
    Operation(
        rpc="CreateForwarding",
        resource="mailbox",
        creates="forwarding",
        arguments={"email": "first.destination@elsewhere.example"},
    ),
    Operation(rpc="GetForwarding", resource="forwarding", mutating=False),
    Operation(
        rpc="UpdateForwarding", resource="forwarding", arguments={"email": "second.destination@elsewhere.example"}
    ),
    Operation(rpc="DeleteForwarding", resource="forwarding"),
    Operation(rpc="GetMailboxForwarding", resource="mailbox", mutating=False),
    Operation(rpc="UpdateMailboxForwarding", resource="mailbox", arguments={"keep_copy": False, "enabled": False}),
)

LISTS = (
    ListOperation(
        rpc="ListDomains", resource="domain", items="domains", id_filters=("project_id",), max_page_size=1_000
    ),
    ListOperation(
        rpc="ListMailboxes",
        resource="mailbox",
        items="mailboxes",
        id_filters=("project_id", "domain_id"),
        max_page_size=1_000,
    ),
    ListOperation(
        rpc="ListAliases",
        resource="alias",
        items="aliases",
        id_filters=("project_id", "mailbox_id"),
        max_page_size=100,
        ordering_fields={"name": "email"},
    ),
    ListOperation(
        rpc="ListForwardings",
        resource="forwarding",
        items="forwardings",
        id_filters=("project_id", "mailbox_id"),
        max_page_size=100,
    ),
)

RPCS: Mapping[str, str] = {operation.name: operation.rpc for operation in (*OPERATIONS, *LISTS)}
"""The RPC of every operation by its name in the SDKs."""
