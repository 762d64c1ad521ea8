"""Every operation of the API, one after another, as a user of an SDK comes across them."""

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tests.e2e.sdk.client import Sdk, eventually, is_refused, names, password, refused
from tests.e2e.sdk.instances import Instance

SRV, CNAME, TXT, MX = "srv_dns_type", "cname_dns_type", "txt_dns_type", "mx_dns_type"

# Kind -> level, type, name before the domain's, and how the value begins.
RECORDS = {
    "autoconfig": ("optional", CNAME, "autoconfig.", "autoconfig.mail.example."),
    "autodiscover": ("optional", CNAME, "autodiscover.", "autodiscover.mail.example."),
    "caldav": ("optional", SRV, "_caldavs._tcp.", "0 1 443 dav.mail.example."),
    "carddav": ("optional", SRV, "_carddavs._tcp.", "0 1 443 dav.mail.example."),
    "dkim": ("required", TXT, "postroom._domainkey.", "v=DKIM1; k=rsa; p="),
    "dmarc": ("recommended", TXT, "_dmarc.", "v=DMARC1; p=none"),
    "domain_validation": ("required", TXT, "_postroom-challenge.", "postroom-validation="),
    "imap": ("optional", SRV, "_imaps._tcp.", "0 1 993 imap.mail.example."),
    "mx": ("required", MX, "", "10 mx.mail.example."),
    "pop3": ("optional", SRV, "_pop3s._tcp.", "10 1 995 pop3.mail.example."),
    "spf": ("required", TXT, "", "v=spf1 include:_spf.mail.example ~all"),
    "submission": ("optional", SRV, "_submissions._tcp.", "0 1 465 smtp.mail.example."),
}


async def register(sdk: Sdk, name: str) -> Any:
    before = datetime.now(UTC)
    domain = await sdk.create_domain(name=name)
    assert str(UUID(domain.id)) == domain.id
    assert domain.project_id == sdk.environment["SCW_DEFAULT_PROJECT_ID"]
    assert domain.organization_id == sdk.environment["SCW_DEFAULT_ORGANIZATION_ID"]
    assert (domain.name, domain.status, domain.mailbox_total_count) == (name, "waiting_validation", 0)
    assert (domain.webmail_url, domain.imap_url) == ("https://webmail.mail.example", "imaps://imap.mail.example:993")
    assert (domain.pop3_url, domain.smtp_url) == ("pop3s://pop3.mail.example:995", "smtps://smtp.mail.example:465")
    assert before <= domain.created_at == domain.updated_at <= datetime.now(UTC)
    assert await sdk.get_domain(domain_id=domain.id) == domain

    unicode = await sdk.create_domain(name=f"Bücher.{name}", project_id=domain.project_id)
    assert unicode.name == f"xn--bcher-kva.{name}"
    listed = await sdk.list_domains_all(search=f"KVA.{name}")
    assert listed == [unicode]

    await check_records(sdk, domain, "unknown_status")
    return domain


async def check_records(sdk: Sdk, domain: Any, status: str) -> None:
    records = vars(await sdk.get_domain_records(domain_id=domain.id))
    assert records.keys() == RECORDS.keys()
    for kind, (level, dns_type, prefix, beginning) in RECORDS.items():
        record = records[kind]
        assert (record.domain_id, record.status, record.error) == (domain.id, status, None)
        assert (record.level, record.dns_type, record.dns_name) == (level, dns_type, prefix + domain.name)
        assert record.dns_value.startswith(beginning)
        assert record.status in list(sdk.types.DomainRecordStatus)
        assert record.level in list(sdk.types.DomainRecordLevel)
        assert record.dns_type in list(sdk.types.DomainRecordDNSType)
        assert record.created_at <= record.updated_at
    assert len({record.id for record in records.values()}) == len(RECORDS)
    key = load_der_public_key(base64.b64decode(records["dkim"].dns_value.partition("p=")[2], validate=True))
    assert isinstance(key, RSAPublicKey)
    assert key.key_size == 2_048


async def create_three_mailboxes(sdk: Sdk, domain: Any) -> list[Any]:
    monthly = await sdk.create_mailboxes(domain.id, "Zoe", "adam", "m.i.a")
    assert [mailbox.email for mailbox in monthly] == [f"{part}@{domain.name}" for part in ("zoe", "adam", "m.i.a")]
    for mailbox in monthly:
        assert str(UUID(mailbox.id)) == mailbox.id
        assert mailbox.domain_id == domain.id
        assert mailbox.project_id == domain.project_id
        assert mailbox.organization_id == domain.organization_id
        assert mailbox.status == "waiting_domain"
        assert mailbox.subscription_period == mailbox.next_subscription_period == "monthly"
        started, ends = mailbox.subscription_period_started_at, mailbox.next_subscription_period_starts_at
        assert mailbox.created_at == mailbox.updated_at == started
        assert timedelta(days=28) <= ends - started <= timedelta(days=31)
        assert ends.time() == started.time()
        assert mailbox.deletion_scheduled_at is None

    period = sdk.types.MailboxSubscriptionPeriod.YEARLY
    (yearly,) = await sdk.create_mailboxes(domain.id, "yearly", subscription_period=period)
    assert yearly.subscription_period == yearly.next_subscription_period == period
    started, ends = yearly.subscription_period_started_at, yearly.next_subscription_period_starts_at
    assert timedelta(days=365) <= ends - started <= timedelta(days=366)
    return [*monthly, yearly]


async def validate(sdk: Sdk, domain: Any, mailboxes: list[Any]) -> tuple[Any, Any]:
    assert await sdk.validate_domain_records(domain_id=domain.id) is None
    ready = await sdk.wait_for_domain(domain_id=domain.id, options=sdk.soon())
    assert ready == replace(domain, status="ready", mailbox_total_count=4, updated_at=ready.updated_at)
    assert ready.updated_at > domain.updated_at
    await check_records(sdk, domain, "valid")
    assert await sdk.validate_domain_records(domain_id=domain.id) is None  # again, which changes nothing
    assert await sdk.get_domain(domain_id=domain.id) == ready

    mailbox = await sdk.wait_for_mailbox(mailbox_id=mailboxes[0].id, options=sdk.soon())
    assert mailbox == replace(mailboxes[0], status="ready", updated_at=mailbox.updated_at)
    assert await sdk.get_mailbox(mailbox_id=mailbox.id) == mailbox
    return ready, mailbox


async def list_what_was_made(sdk: Sdk, domain: Any, mailboxes: list[Any]) -> None:
    listed = await sdk.list_mailboxes(domain_id=domain.id)
    assert listed.total_count == 4
    assert {mailbox.id for mailbox in listed.mailboxes} == {mailbox.id for mailbox in mailboxes}
    assert {mailbox.status for mailbox in listed.mailboxes} == {"ready"}
    assert {mailbox.id for mailbox in (await sdk.list_mailboxes()).mailboxes} >= {mailbox.id for mailbox in mailboxes}
    in_pages = await sdk.list_mailboxes_all(domain_id=domain.id, page_size=2)
    assert in_pages == listed.mailboxes

    found = await sdk.list_domains(search=domain.name, statuses=[sdk.types.DomainStatus.READY])
    assert (found.total_count, found.domains) == (1, [domain])


async def change_the_period(sdk: Sdk, mailbox: Any) -> None:
    changed = mailbox
    for period in ("yearly", "canceled", "monthly"):
        before = changed
        changed = await sdk.update_mailbox(
            mailbox_id=mailbox.id, subscription_period=sdk.types.MailboxSubscriptionPeriod(period)
        )
        assert changed == replace(before, next_subscription_period=period, updated_at=changed.updated_at)
        assert changed.updated_at > before.updated_at
        assert await sdk.get_mailbox(mailbox_id=mailbox.id) == changed
    assert await sdk.update_mailbox(mailbox_id=mailbox.id) == changed  # nothing is asked for, nothing changes
    not_set = sdk.types.MailboxSubscriptionPeriod.UNKNOWN_SUBSCRIPTION_PERIOD
    assert await sdk.update_mailbox(mailbox_id=mailbox.id, subscription_period=not_set) == changed


async def change_the_password(sdk: Sdk, instance: Instance, mailbox: Any) -> None:
    def stored() -> str:
        text = instance.database.sql(f"SELECT password_hash FROM mailboxes WHERE id = '{mailbox.id}'")
        assert text.startswith("{ARGON2ID}$argon2id$")
        return text.removeprefix("{ARGON2ID}")

    before, former = await sdk.get_mailbox(mailbox_id=mailbox.id), stored()
    new = password()
    with pytest.raises(VerifyMismatchError):
        PasswordHasher().verify(former, new)
    changed = await sdk.update_mailbox(mailbox_id=mailbox.id, new_password=new)
    assert changed == replace(before, updated_at=changed.updated_at)
    assert changed.updated_at > before.updated_at
    assert PasswordHasher().verify(stored(), new)


async def walk_an_alias(sdk: Sdk, mailbox: Any) -> Any:
    domain_name = mailbox.email.partition("@")[2]
    alias = await sdk.create_alias(mailbox_id=mailbox.id, local_part="Sales", description="Für alle, ✉ & 'Büro'")
    assert str(UUID(alias.id)) == alias.id
    assert (alias.email, alias.mailbox_id) == (f"sales@{domain_name}", mailbox.id)
    assert (alias.description, alias.status) == ("Für alle, ✉ & 'Büro'", "ready")
    assert alias.created_at == alias.updated_at
    plain = await sdk.create_alias(mailbox_id=mailbox.id, local_part="info")
    assert (names([plain]), plain.description) == (["info"], "")
    assert await sdk.wait_for_alias(alias_id=alias.id, options=sdk.soon()) == alias

    listed = await sdk.list_aliases(mailbox_id=mailbox.id)
    assert (listed.total_count, listed.aliases) == (2, [plain, alias])
    ready = await sdk.list_aliases(mailbox_id=mailbox.id, status=sdk.types.AliasStatus.READY)
    assert ready == listed
    assert await sdk.list_aliases_all(mailbox_id=mailbox.id, page_size=1) == listed.aliases

    changed = await sdk.update_alias(alias_id=alias.id, description="Sales, too")
    assert changed == replace(alias, description="Sales, too", updated_at=changed.updated_at)
    assert changed.updated_at > alias.updated_at
    assert await sdk.update_alias(alias_id=alias.id) == changed
    assert await sdk.get_alias(alias_id=alias.id) == changed

    deleted = await sdk.delete_alias(alias_id=plain.id)
    assert deleted == replace(plain, status="deleting", updated_at=deleted.updated_at)
    missing = await refused(sdk.get_alias(alias_id=plain.id), 404, "not_found")
    assert missing.keys == {"resource": "alias", "resource_id": plain.id}
    again = await sdk.create_alias(mailbox_id=mailbox.id, local_part="info")  # its address is free
    assert again.id != plain.id
    await sdk.delete_alias(alias_id=again.id)
    return changed


async def delete_and_restore(sdk: Sdk, mailbox: Any, alias: Any) -> None:
    before = await sdk.get_mailbox(mailbox_id=mailbox.id)
    deleted = await sdk.delete_mailbox(mailbox_id=mailbox.id)
    assert deleted == replace(
        before,
        status="deletion_scheduled",
        updated_at=deleted.updated_at,
        deletion_scheduled_at=deleted.updated_at + timedelta(days=30),
    )
    assert await sdk.delete_mailbox(mailbox_id=mailbox.id) == deleted
    counted = await sdk.list_mailboxes(domain_id=mailbox.domain_id)
    assert counted.total_count == 4  # until it is purged

    restored = await sdk.restore_mailbox(mailbox_id=mailbox.id)
    assert restored == replace(before, updated_at=restored.updated_at)
    assert restored.updated_at > deleted.updated_at
    assert await sdk.get_alias(alias_id=alias.id) == alias


async def delete_domain(sdk: Sdk, domain: Any, mailboxes: list[Any], alias: Any) -> None:
    deleted = await sdk.delete_domain(domain_id=domain.id)
    assert deleted == replace(domain, status="deleting", updated_at=deleted.updated_at)
    await eventually(lambda: is_refused(sdk.get_domain(domain_id=domain.id), 404))
    for mailbox in mailboxes:
        await refused(sdk.get_mailbox(mailbox_id=mailbox.id), 404, "not_found")
    await refused(sdk.get_alias(alias_id=alias.id), 404, "not_found")
    await refused(sdk.delete_domain(domain_id=domain.id), 404, "not_found")
    assert (await sdk.list_mailboxes(domain_id=domain.id)).total_count == 0
    assert domain.id not in {other.id for other in await sdk.list_domains_all(search="walk.example")}
    again = await sdk.create_domain(name=domain.name)  # its name is free
    assert again.id != domain.id


class Walk:
    """Every operation, one after another."""

    async def test_walk(self, sdk: Sdk, instance: Instance) -> None:
        name = f"{sdk.label}.walk.example"
        domain = await register(sdk, name)
        mailboxes = await create_three_mailboxes(sdk, domain)
        domain, mailbox = await validate(sdk, domain, mailboxes)
        await list_what_was_made(sdk, domain, mailboxes)
        await change_the_period(sdk, mailbox)
        await change_the_password(sdk, instance, mailbox)
        alias = await walk_an_alias(sdk, mailbox)
        await delete_and_restore(sdk, mailbox, alias)
        await delete_domain(sdk, domain, mailboxes, alias)
        assert sdk.called == sdk.operations
