"""The walk over every operation that the gRPC tests make too, and what the SDKs add: waiters, `list_*_all`, enums."""

import json
from dataclasses import replace
from typing import Any

import pytest
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from scaleway_core.api import ScalewayException

from tests.e2e.sdk.client import Sdk, new_password
from tests.e2e.sdk.instances import Instance
from tests.support.operations import RPCS
from tests.support.walk import walk


class SdkApi:
    """The API through an SDK."""

    def __init__(self, sdk: Sdk) -> None:
        self.sdk = sdk
        self.organization_id = sdk.environment["SCW_DEFAULT_ORGANIZATION_ID"]
        self.project_id = sdk.environment["SCW_DEFAULT_PROJECT_ID"]

    async def call(self, operation: str, **arguments: Any) -> Any:
        return await getattr(self.sdk, operation)(**self.sdk.convert(arguments))

    async def error_of(self, operation: str, **arguments: Any) -> tuple[str, str]:
        with pytest.raises(ScalewayException) as caught:
            await self.call(operation, **arguments)
        body = json.loads(str(caught.value))
        return body["type"], body.get("resource", "")


async def check_waiters(sdk: Sdk, domain: Any, mailboxes: list[Any]) -> tuple[Any, list[Any]]:
    """Validate the domain. Returns it and its mailboxes, all ready."""
    assert await sdk.validate_domain_records(domain_id=domain.id) is None
    ready_domain = await sdk.wait_for_domain(domain_id=domain.id, options=sdk.fast_polling())
    updated_at = ready_domain.updated_at
    assert ready_domain == replace(domain, status="ready", mailbox_total_count=3, updated_at=updated_at)
    ready_mailboxes = []
    for mailbox in mailboxes:
        ready = await sdk.wait_for_mailbox(mailbox_id=mailbox.id, options=sdk.fast_polling())
        assert ready == replace(mailbox, status="ready", updated_at=ready.updated_at)
        ready_mailboxes.append(ready)
    return ready_domain, ready_mailboxes


async def check_lists_across_pages(sdk: Sdk, domain: Any, mailboxes: list[Any]) -> None:
    """Check the methods that collect all pages of a list."""
    assert await sdk.list_domains_all(search=domain.name) == [domain]
    listed = await sdk.list_mailboxes(domain_id=domain.id)
    assert await sdk.list_mailboxes_all(domain_id=domain.id, page_size=2) == listed.mailboxes
    first = await sdk.create_alias(mailbox_id=mailboxes[0].id, local_part="first")
    assert await sdk.wait_for_alias(alias_id=first.id, options=sdk.fast_polling()) == first
    second = await sdk.create_alias(mailbox_id=mailboxes[0].id, local_part="second")
    assert await sdk.list_aliases_all(mailbox_id=mailboxes[0].id, page_size=1) == [second, first]


async def check_enums(sdk: Sdk, domain: Any) -> None:
    """Check that the SDK's enums contain every value of the records."""
    for record in vars(await sdk.get_domain_records(domain_id=domain.id)).values():
        assert record.status in list(sdk.types.DomainRecordStatus)
        assert record.level in list(sdk.types.DomainRecordLevel)
        assert record.dns_type in list(sdk.types.DomainRecordDNSType)


async def check_stored_password(sdk: Sdk, instance: Instance, mailbox: Any) -> None:
    """Change a password, and check that the stored hash is of the new one."""

    def stored_hash() -> str:
        text = instance.database.sql(f"SELECT password_hash FROM mailboxes WHERE id = '{mailbox.id}'")
        assert text.startswith("{ARGON2ID}$argon2id$")
        return text.removeprefix("{ARGON2ID}")

    password = new_password()
    with pytest.raises(VerifyMismatchError):
        PasswordHasher().verify(stored_hash(), password)
    await sdk.update_mailbox(mailbox_id=mailbox.id, new_password=password)
    assert PasswordHasher().verify(stored_hash(), password)


class Walk:
    """Every operation in turn."""

    async def test_every_operation_works_from_registration_to_purge(self, sdk: Sdk, instance: Instance) -> None:
        await walk(SdkApi(sdk), f"{sdk.label}.walk.example")

        domain = await sdk.create_domain(name=f"{sdk.label}.waiters.example")
        mailboxes = await sdk.create_mailboxes(domain.id, "one", "two", "three")
        domain, mailboxes = await check_waiters(sdk, domain, mailboxes)
        await check_lists_across_pages(sdk, domain, mailboxes)
        await check_enums(sdk, domain)
        await check_stored_password(sdk, instance, mailboxes[0])
        assert sdk.called == sdk.operations | RPCS.keys()
