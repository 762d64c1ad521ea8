"""Every RPC has a command, and every field of its request an option or argument of that command."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from typer.main import get_command

from postroom.admin.v1alpha1 import admin_service_pb2
from postroom.v1alpha1 import mailbox_service_pb2
from postroomd.cli.app import app
from postroomd.cli.arguments import SPELLINGS

COMMANDS = {
    "CreateDomain": "domains create",
    "ListDomains": "domains list",
    "GetDomain": "domains show",
    "DeleteDomain": "domains delete",
    "GetDomainRecords": "domains show",
    "ValidateDomainRecords": "domains validate",
    "BatchCreateMailboxes": "mailboxes create",
    "ListMailboxes": "mailboxes list",
    "GetMailbox": "mailboxes show",  # of both services
    "UpdateMailbox": "mailboxes update",
    "DeleteMailbox": "mailboxes delete",
    "RestoreMailbox": "mailboxes restore",
    "CreateAlias": "aliases create",
    "ListAliases": "aliases list",
    "GetAlias": "aliases show",
    "UpdateAlias": "aliases update",
    "DeleteAlias": "aliases delete",
    "CreateForwarding": "forwardings create",
    "ListForwardings": "forwardings list",
    "GetForwarding": "forwardings show",
    "UpdateForwarding": "forwardings update",
    "DeleteForwarding": "forwardings delete",
    "GetMailboxForwarding": "forwardings settings",
    "UpdateMailboxForwarding": "forwardings settings",
    "ListPendingPayments": "payments list",
    "ConfirmPayment": "payments confirm",
    "RefusePayment": "payments refuse",
    "ListPendingProvisions": "provisions list",
    "ConfirmProvision": "provisions confirm",
    "FailProvision": "provisions fail",
    "LockMailbox": "mailboxes lock",
    "UnlockMailbox": "mailboxes unlock",
    "SearchMailboxes": "mailboxes search",
    "SearchDomains": "domains search",
    "ListTransitions": "history",
    "ListDomainTransitions": "history",
    "ListAuditEvents": "audit",
    "GetDkimKeys": "dkim show",
    "RotateDkimKey": "dkim rotate",
    "CancelDkimRotation": "dkim cancel",
    "ListDkimRotations": "dkim list",
}
"""The command of each RPC."""

EXEMPT = {
    "page": "commands read every page, up to --limit",
    "page_size": "likewise",
    "page_token": "likewise",
    "order_by": "commands list by name or address",
}
EXEMPT_OF = {
    ("ListDomains", "organization_id"): "the key belongs to one organization",
    ("ListMailboxes", "organization_id"): "likewise",
    ("ListAliases", "organization_id"): "likewise",
    ("ListForwardings", "organization_id"): "likewise",
    ("ListMailboxes", "search"): "`mailboxes search`",
}

METHODS: list[MethodDescriptor] = [
    *mailbox_service_pb2.DESCRIPTOR.services_by_name["MailboxService"].methods,
    *admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"].methods,
]


def fields_of(message: Descriptor) -> Iterator[FieldDescriptor]:
    """Yield the fields of a request, and those of the messages of the contract within it."""
    for field in message.fields:
        if field.message_type is not None and field.message_type.full_name.startswith("postroom."):
            yield from fields_of(field.message_type)
        else:
            yield field


def parameters_of(path: str) -> set[str]:
    """Return the names of a command's options and arguments."""
    command: Any = get_command(app)
    for name in path.split():
        command = command.commands[name]
    return {str(parameter.name) for parameter in command.params}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.containing_service.name}.{method.name}")
def test_every_field_of_a_request_has_an_option(method: MethodDescriptor) -> None:
    assert method.name in COMMANDS, f"{method.name} has no command"
    parameters = parameters_of(COMMANDS[method.name])
    missing = [
        field.name
        for field in fields_of(method.input_type)
        if field.name not in EXEMPT
        and (method.name, field.name) not in EXEMPT_OF
        and not parameters & {field.name, *SPELLINGS.get(field.name, ())}
    ]
    assert not missing, f"`postroom {COMMANDS[method.name]}` has no option for {missing}"
