"""The operations that are about one resource, each with how an SDK calls it by the resource's id."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.e2e.sdk.client import Sdk, password


@dataclass(frozen=True)
class Operation:
    """One operation. `resource` is what its id names; `makes` is what it makes of that, if anything."""

    name: str
    resource: str
    call: Callable[[Sdk, str], Awaitable[Any]]
    writes: bool = True
    makes: str = ""

    @property
    def about(self) -> str:
        """What it reads or changes."""
        return self.makes or self.resource


BY_ID = (
    Operation("get_domain", "domain", lambda sdk, id_: sdk.get_domain(domain_id=id_), writes=False),
    Operation("get_domain_records", "domain", lambda sdk, id_: sdk.get_domain_records(domain_id=id_), writes=False),
    Operation("validate_domain_records", "domain", lambda sdk, id_: sdk.validate_domain_records(domain_id=id_)),
    Operation("delete_domain", "domain", lambda sdk, id_: sdk.delete_domain(domain_id=id_)),
    Operation(
        "batch_create_mailboxes", "domain", lambda sdk, id_: sdk.create_mailboxes(id_, "a", "b"), makes="mailbox"
    ),
    Operation("get_mailbox", "mailbox", lambda sdk, id_: sdk.get_mailbox(mailbox_id=id_), writes=False),
    Operation(
        "update_mailbox", "mailbox", lambda sdk, id_: sdk.update_mailbox(mailbox_id=id_, new_password=password())
    ),
    Operation("delete_mailbox", "mailbox", lambda sdk, id_: sdk.delete_mailbox(mailbox_id=id_)),
    Operation("restore_mailbox", "mailbox", lambda sdk, id_: sdk.restore_mailbox(mailbox_id=id_)),
    Operation(
        "create_alias", "mailbox", lambda sdk, id_: sdk.create_alias(mailbox_id=id_, local_part="a"), makes="alias"
    ),
    Operation("get_alias", "alias", lambda sdk, id_: sdk.get_alias(alias_id=id_), writes=False),
    Operation("update_alias", "alias", lambda sdk, id_: sdk.update_alias(alias_id=id_, description="changed")),
    Operation("delete_alias", "alias", lambda sdk, id_: sdk.delete_alias(alias_id=id_)),
)
