"""The faults that each field of each request can have."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc

from postroom.v1alpha1.mailbox_pb2 import Mailbox
from postroomd.domain.validation import MAX_DISPLAY_NAME, MAX_STORAGE_QUOTA
from tests.rpc.faults import (
    DESTINATION,
    DOMAIN_NAME,
    FIRST,
    LOCAL_PART,
    MARK,
    PASSWORDS,
    SECOND,
    Fault,
    Item,
    absent,
    enum_number,
    enum_numbers,
    etag,
    identifier,
    missing,
    paging,
    text,
)
from tests.support.operations import LISTS, PASSWORD

FAULTS: Mapping[str, Sequence[Fault]] = {
    "CreateDomainRequest.name": DOMAIN_NAME,
    "CreateDomainRequest.project_id": identifier("tenant.project_id", required=False),
    **{
        f"{operation.rpc}Request.{name}": faults
        for operation in LISTS
        for name, faults in paging(operation.max_page_size).items()
    },
    "ListDomainsRequest.project_id": identifier("tenant.project_id", required=False, filters=True),
    "ListDomainsRequest.statuses": enum_numbers(),
    "ListDomainsRequest.search": text(320),
    "GetDomainRequest.domain_id": identifier("domain.id"),
    "DeleteDomainRequest.domain_id": identifier("domain.id"),
    "DeleteDomainRequest.etag": etag(),
    "DeleteDomainRequest.force": [
        # The domain has a mailbox.
        Fault(label="absent", value=None, code=grpc.StatusCode.FAILED_PRECONDITION, exclusive=True)
    ],
    "GetDomainRecordsRequest.domain_id": identifier("domain.id"),
    "ValidateDomainRecordsRequest.domain_id": identifier("domain.id"),
    "BatchCreateMailboxesRequest.domain_id": identifier("domain.id"),
    "BatchCreateMailboxesRequest.mailboxes": [
        missing(),
        Fault(
            label="one too many",
            value=[Item(local_part=f"{MARK}{number}", password=PASSWORD) for number in range(101)],
            reason="CONSTRAINT",
            exclusive=True,
        ),
        Fault(
            label="far too many, all faulty",
            value=[Item(local_part=MARK)] * 5_000,
            reason="CONSTRAINT",
            exclusive=True,
        ),
    ],
    "BatchCreateMailboxesRequest.MailboxParameters.local_part": [
        *LOCAL_PART,
        Fault(label="another item's", value=FIRST, reason="CONSTRAINT"),
        Fault(label="another item's in upper case", value=FIRST.upper(), reason="CONSTRAINT"),
    ],
    "BatchCreateMailboxesRequest.MailboxParameters.password": [
        *PASSWORDS,
        missing(),
        Fault(label="the local part", value=SECOND, reason="CONSTRAINT", exclusive=True),
        Fault(
            label="the address in upper case",
            value=lambda world: f"{SECOND}@{world.domain.name}".upper(),
            reason="CONSTRAINT",
            exclusive=True,
        ),
    ],
    "BatchCreateMailboxesRequest.MailboxParameters.display_name": text(MAX_DISPLAY_NAME),
    "BatchCreateMailboxesRequest.MailboxParameters.password_hash": [
        Fault(
            label="key without the permission",
            value=f"{{SSHA512}}{MARK}",
            code=grpc.StatusCode.PERMISSION_DENIED,
            exclusive=True,
        ),
        absent(),
    ],
    "BatchCreateMailboxesRequest.subscription_period": [
        *enum_number(),
        Fault(label="canceled", value=Mailbox.CANCELED, reason="CONSTRAINT"),
    ],
    "ListMailboxesRequest.domain_id": identifier("domain.id", required=False, filters=True),
    "ListMailboxesRequest.statuses": enum_numbers(),
    "ListMailboxesRequest.search": text(320),
    "ListMailboxesRequest.project_id": identifier("tenant.project_id", required=False, filters=True),
    "GetMailboxRequest.mailbox_id": identifier("mailbox.id"),
    "UpdateMailboxRequest.mailbox_id": identifier("mailbox.id"),
    "UpdateMailboxRequest.subscription_period": enum_number(),
    "UpdateMailboxRequest.new_password": [
        *PASSWORDS,
        Fault(label="empty", value="", reason="CONSTRAINT"),
        absent(),
        Fault(
            label="the address in upper case",
            value=lambda world: world.mailbox.email.upper(),
            reason="CONSTRAINT",
            exclusive=True,
        ),
        Fault(
            label="the local part",
            value=lambda world: world.mailbox.email.partition("@")[0],
            reason="CONSTRAINT",
            exclusive=True,
        ),
    ],
    "UpdateMailboxRequest.display_name": text(MAX_DISPLAY_NAME),
    "UpdateMailboxRequest.storage_quota_bytes": [
        Fault(label="negative", value=-4711, reason="CONSTRAINT"),
        Fault(label="one too many", value=MAX_STORAGE_QUOTA + 1, reason="CONSTRAINT"),
        absent(),
    ],
    "UpdateMailboxRequest.login_disabled": [absent()],
    "UpdateMailboxRequest.sending_disabled": [absent()],
    "UpdateMailboxRequest.receiving_disabled": [absent()],
    "UpdateMailboxRequest.etag": etag(),
    "DeleteMailboxRequest.mailbox_id": identifier("mailbox.id"),
    "DeleteMailboxRequest.etag": etag(),
    "RestoreMailboxRequest.mailbox_id": identifier("mailbox.id"),
    "CreateAliasRequest.mailbox_id": identifier("mailbox.id"),
    "CreateAliasRequest.local_part": LOCAL_PART,
    "CreateAliasRequest.catch_all": [absent()],
    "CreateAliasRequest.description": text(128),
    "ListAliasesRequest.mailbox_id": identifier("mailbox.id", required=False, filters=True),
    "ListAliasesRequest.status": enum_number(),
    "ListAliasesRequest.project_id": identifier("tenant.project_id", required=False, filters=True),
    "GetAliasRequest.alias_id": identifier("alias.id"),
    "UpdateAliasRequest.alias_id": identifier("alias.id"),
    "UpdateAliasRequest.description": text(128),
    "UpdateAliasRequest.etag": etag(),
    "DeleteAliasRequest.alias_id": identifier("alias.id"),
    "DeleteAliasRequest.etag": etag(),
    "CreateForwardingRequest.mailbox_id": identifier("mailbox.id"),
    "CreateForwardingRequest.email": [*DESTINATION, missing()],
    "ListForwardingsRequest.mailbox_id": identifier("mailbox.id", required=False, filters=True),
    "ListForwardingsRequest.status": enum_number(),
    "ListForwardingsRequest.project_id": identifier("tenant.project_id", required=False, filters=True),
    "ListForwardingsRequest.organization_id": identifier("tenant.organization_id", required=False, filters=True),
    "GetForwardingRequest.forwarding_id": identifier("forwarding.id"),
    "UpdateForwardingRequest.forwarding_id": identifier("forwarding.id"),
    "UpdateForwardingRequest.email": [*DESTINATION, Fault(label="empty", value="", reason="REQUIRED"), absent()],
    "UpdateForwardingRequest.etag": etag(),
    "DeleteForwardingRequest.forwarding_id": identifier("forwarding.id"),
    "DeleteForwardingRequest.etag": etag(),
    "GetMailboxForwardingRequest.mailbox_id": identifier("mailbox.id"),
    "UpdateMailboxForwardingRequest.mailbox_id": identifier("mailbox.id"),
    "UpdateMailboxForwardingRequest.keep_copy": [absent()],
    "UpdateMailboxForwardingRequest.enabled": [absent()],
    "UpdateMailboxForwardingRequest.etag": etag(),
}


def fields_of(message: Any, prefix: str = "") -> Iterator[str]:
    """The keys of every field of a message type, and of the message types in it."""
    name = prefix + message.name
    for field in message.fields:
        yield f"{name}.{field.name}"
        if field.message_type:
            yield from fields_of(field.message_type, f"{name}.")
