"""Every operation, from a domain's registration to its purge."""

import base64
import calendar
from datetime import UTC, datetime, timedelta
from operator import attrgetter

import argon2
import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from postroom.v1alpha1 import alias_pb2, domain_pb2, mailbox_pb2
from postroom.v1alpha1.alias_pb2 import Alias
from postroom.v1alpha1.domain_pb2 import Domain, DomainRecord
from postroom.v1alpha1.mailbox_pb2 import Mailbox
from tests.rpc.support import PASSWORD, Service, Tenant, batch_request, failure_of, fresh_name, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

REQUIRED, RECOMMENDED, OPTIONAL = DomainRecord.REQUIRED, DomainRecord.RECOMMENDED, DomainRecord.OPTIONAL
TXT, CNAME = DomainRecord.TXT_DNS_TYPE, DomainRecord.CNAME_DNS_TYPE
SRV, MX = DomainRecord.SRV_DNS_TYPE, DomainRecord.MX_DNS_TYPE

# Kind, level, type, name (`@` is the domain's), and the value or how it begins.
RECORDS = [
    ("autoconfig", OPTIONAL, CNAME, "autoconfig.@", "autoconfig.mail.example."),
    ("autodiscover", OPTIONAL, CNAME, "autodiscover.@", "autodiscover.mail.example."),
    ("caldav", OPTIONAL, SRV, "_caldavs._tcp.@", "0 1 443 dav.mail.example."),
    ("carddav", OPTIONAL, SRV, "_carddavs._tcp.@", "0 1 443 dav.mail.example."),
    ("dkim", REQUIRED, TXT, "postroom._domainkey.@", "v=DKIM1; k=rsa; p="),
    ("dmarc", RECOMMENDED, TXT, "_dmarc.@", "v=DMARC1; p=none"),
    ("domain_validation", REQUIRED, TXT, "_postroom-challenge.@", "postroom-validation="),
    ("imap", OPTIONAL, SRV, "_imaps._tcp.@", "0 1 993 imap.mail.example."),
    ("mx", REQUIRED, MX, "@", "10 mx.mail.example."),
    ("pop3", OPTIONAL, SRV, "_pop3s._tcp.@", "10 1 995 pop3.mail.example."),
    ("spf", REQUIRED, TXT, "@", "v=spf1 include:_spf.mail.example ~all"),
    ("submission", OPTIONAL, SRV, "_submissions._tcp.@", "0 1 465 smtp.mail.example."),
]


async def records_of(tenant: Tenant, domain: Domain) -> domain_pb2.GetDomainRecordsResponse:
    return await tenant.stub.GetDomainRecords(domain_pb2.GetDomainRecordsRequest(domain_id=domain.id))


async def get_mailbox(tenant: Tenant, mailbox: Mailbox) -> Mailbox:
    return await tenant.stub.GetMailbox(mailbox_pb2.GetMailboxRequest(mailbox_id=mailbox.id))


async def delete_mailbox(tenant: Tenant, mailbox: Mailbox) -> Mailbox:
    return await tenant.stub.DeleteMailbox(mailbox_pb2.DeleteMailboxRequest(mailbox_id=mailbox.id))


async def get_alias(tenant: Tenant, alias: Alias) -> Alias:
    return await tenant.stub.GetAlias(alias_pb2.GetAliasRequest(alias_id=alias.id))


async def get_domain(tenant: Tenant, domain: Domain) -> Domain:
    return await tenant.stub.GetDomain(domain_pb2.GetDomainRequest(domain_id=domain.id))


async def password_hash(service: Service, mailbox: Mailbox) -> str:
    ((stored,),) = await service.sql("SELECT password_hash FROM mailboxes WHERE id = ?", mailbox.id)
    return str(stored)


async def counts(service: Service, tenant: Tenant) -> tuple[int, int]:
    """The mailboxes that the project counts, and those it has."""
    ((counted,),) = await service.sql("SELECT mailbox_count FROM projects WHERE id = ?", tenant.project_id)
    ((there,),) = await service.sql("SELECT count(*) FROM mailboxes WHERE project_id = ?", tenant.project_id)
    return counted, there


async def test_a_domain_is_registered_under_its_canonical_name(tenant: Tenant) -> None:
    name = fresh_name("BÜCHER")
    before = datetime.now(UTC)
    created = await tenant.domain(f"{name}.")
    assert created == Domain(
        id=created.id,
        project_id=tenant.project_id,
        organization_id=tenant.organization_id,
        name=name.lower().encode("idna").decode(),
        status=Domain.WAITING_VALIDATION,
        webmail_url="https://webmail.mail.example",
        imap_url="imaps://imap.mail.example:993",
        pop3_url="pop3s://pop3.mail.example:995",
        smtp_url="smtps://smtp.mail.example:465",
        created_at=created.created_at,
        updated_at=created.created_at,
        etag=created.etag,
    )
    assert created.etag
    assert before <= created.created_at.ToDatetime(UTC) <= datetime.now(UTC)
    assert await get_domain(tenant, created) == created


async def test_a_domain_is_registered_in_the_project_that_the_request_names(tenant: Tenant) -> None:
    created = await tenant.domain(project_id=tenant.project_id.upper())
    assert created.project_id == tenant.project_id


async def test_a_domain_has_twelve_records_to_publish(tenant: Tenant) -> None:
    domain = await tenant.domain()
    records = await records_of(tenant, domain)
    kinds = [field.name for field in domain_pb2.GetDomainRecordsResponse.DESCRIPTOR.fields]
    assert sorted(kinds) == [kind for kind, *_ in RECORDS]
    assert len({getattr(records, kind).id for kind in kinds}) == 12
    for kind, level, dns_type, dns_name, value in RECORDS:
        record = getattr(records, kind)
        assert record == DomainRecord(
            id=record.id,
            domain_id=domain.id,
            level=level,
            dns_type=dns_type,
            dns_name=dns_name.replace("@", domain.name),
            dns_value=record.dns_value,
            created_at=domain.created_at,
            updated_at=domain.created_at,
        ), kind
        assert not record.HasField("error"), kind
        whole = kind not in {"dkim", "domain_validation"}
        assert record.dns_value == value if whole else record.dns_value.startswith(value), kind


async def test_the_dkim_record_holds_an_rsa_key_of_2048_bits_whose_private_half_is_stored(
    service: Service, tenant: Tenant
) -> None:
    domain = await tenant.domain()
    text = (await records_of(tenant, domain)).dkim.dns_value
    public = load_der_public_key(base64.b64decode(text.partition("p=")[2], validate=True))
    assert isinstance(public, RSAPublicKey)
    assert public.key_size == 2048
    assert public.public_numbers().e == 65537
    ((private,),) = await service.sql("SELECT dkim_private_key FROM domains WHERE id = ?", domain.id)
    assert private.startswith("-----BEGIN PRIVATE KEY-----")


async def test_each_domain_has_a_token_and_a_key_of_its_own_even_under_one_name(service: Service) -> None:
    name = fresh_name()
    records = []
    for _ in range(2):
        tenant = await service.tenant()
        records.append(await records_of(tenant, await tenant.domain(name)))
    one, other = records
    assert one.domain_validation.dns_value != other.domain_validation.dns_value
    assert len(one.domain_validation.dns_value.partition("=")[2]) == 32
    assert one.dkim.dns_value != other.dkim.dns_value


async def test_a_validated_domain_becomes_ready_with_the_mailboxes_that_waited_for_it(tenant: Tenant) -> None:
    domain = await tenant.domain()
    waiting = await tenant.mailboxes(domain, "ann", "bob")
    assert [mailbox.status for mailbox in waiting] == [Mailbox.WAITING_DOMAIN] * 2
    answer = await tenant.stub.ValidateDomainRecords(domain_pb2.ValidateDomainRecordsRequest(domain_id=domain.id))
    assert answer == domain_pb2.ValidateDomainRecordsResponse()

    ready = await tenant.wait_for_domain(domain.id, Domain.READY)
    assert ready.updated_at.ToDatetime() > domain.updated_at.ToDatetime()
    assert ready.mailbox_total_count == 2
    records = await records_of(tenant, domain)
    assert {getattr(records, kind).status for kind, *_ in RECORDS} == {DomainRecord.VALID}

    for mailbox in waiting:

        async def admitted(mailbox: Mailbox = mailbox) -> Mailbox | None:
            found = await get_mailbox(tenant, mailbox)
            return found if found.status == Mailbox.READY else None

        assert (await until(admitted)).updated_at.ToDatetime() > mailbox.updated_at.ToDatetime()
    assert (await tenant.mailbox(domain, "late")).status == Mailbox.READY

    await tenant.stub.ValidateDomainRecords(domain_pb2.ValidateDomainRecordsRequest(domain_id=domain.id))
    assert (await get_domain(tenant, domain)).status == Domain.READY


@pytest.mark.parametrize("period", [Mailbox.UNKNOWN_SUBSCRIPTION_PERIOD, Mailbox.MONTHLY, Mailbox.YEARLY])
async def test_a_batch_is_created_in_the_order_of_the_request(
    tenant: Tenant, period: "Mailbox.SubscriptionPeriod.ValueType"
) -> None:
    domain = await tenant.domain()
    request = batch_request(domain.id, "zoe", "Ann.Lee", "mid-dle")
    request.subscription_period = period
    created = (await tenant.stub.BatchCreateMailboxes(request)).mailboxes
    assert [mailbox.email.partition("@")[0] for mailbox in created] == ["zoe", "ann.lee", "mid-dle"]
    for mailbox in created:
        assert mailbox == Mailbox(
            id=mailbox.id,
            project_id=tenant.project_id,
            organization_id=tenant.organization_id,
            domain_id=domain.id,
            email=mailbox.email,
            status=Mailbox.WAITING_DOMAIN,
            subscription_period=period or Mailbox.MONTHLY,
            subscription_period_started_at=mailbox.created_at,
            next_subscription_period=period or Mailbox.MONTHLY,
            next_subscription_period_starts_at=mailbox.next_subscription_period_starts_at,
            created_at=mailbox.created_at,
            updated_at=mailbox.created_at,
            etag=mailbox.etag,
        )
        assert mailbox.etag
        assert mailbox.email.endswith(f"@{domain.name}")
        assert await get_mailbox(tenant, mailbox) == mailbox
        starts, ends = (
            mailbox.created_at.ToDatetime(),
            mailbox.next_subscription_period_starts_at.ToDatetime(),
        )
        months = 12 if period == Mailbox.YEARLY else 1
        assert (ends.year * 12 + ends.month) - (starts.year * 12 + starts.month) == months
        assert ends.day == min(starts.day, calendar.monthrange(ends.year, ends.month)[1])
        assert ends.time() == starts.time()
    assert (await get_domain(tenant, domain)).mailbox_total_count == 3


async def test_the_next_period_is_changed_without_touching_the_running_one(tenant: Tenant) -> None:
    mailbox = await tenant.mailbox(await tenant.domain(), "ann")
    for period in (Mailbox.YEARLY, Mailbox.CANCELED, Mailbox.MONTHLY):
        request = mailbox_pb2.UpdateMailboxRequest(mailbox_id=mailbox.id, subscription_period=period)
        changed = await tenant.stub.UpdateMailbox(request)
        assert changed.updated_at.ToDatetime() > mailbox.updated_at.ToDatetime()
        expected = Mailbox()
        expected.CopyFrom(mailbox)
        expected.next_subscription_period = period
        expected.updated_at.CopyFrom(changed.updated_at)
        expected.etag = changed.etag
        assert changed.etag != mailbox.etag
        assert changed == expected
        assert await tenant.stub.UpdateMailbox(request) == changed, "the same period again changes nothing"
        mailbox = changed


async def test_a_password_is_kept_as_an_argon2id_hash_that_verifies(service: Service, tenant: Tenant) -> None:
    mailbox = await tenant.mailbox(await tenant.domain(), "ann")
    verify = argon2.PasswordHasher().verify
    first = await password_hash(service, mailbox)
    assert first.startswith("{ARGON2ID}$argon2id$v=19$m=8,t=1,p=1$")
    assert verify(first.removeprefix("{ARGON2ID}"), PASSWORD)

    changed = await tenant.stub.UpdateMailbox(
        mailbox_pb2.UpdateMailboxRequest(mailbox_id=mailbox.id, new_password="another good pässword")
    )
    second = await password_hash(service, mailbox)
    assert second.startswith("{ARGON2ID}$argon2id$")
    assert verify(second.removeprefix("{ARGON2ID}"), "another good pässword")
    with pytest.raises(argon2.exceptions.VerifyMismatchError):
        verify(second.removeprefix("{ARGON2ID}"), PASSWORD)
    assert changed.updated_at.ToDatetime() > mailbox.updated_at.ToDatetime()
    assert changed.next_subscription_period == mailbox.next_subscription_period


async def test_period_and_password_change_together(service: Service, tenant: Tenant) -> None:
    mailbox = await tenant.mailbox(await tenant.domain(), "ann")
    before = await password_hash(service, mailbox)
    changed = await tenant.stub.UpdateMailbox(
        mailbox_pb2.UpdateMailboxRequest(
            mailbox_id=mailbox.id, subscription_period=Mailbox.YEARLY, new_password="another good password"
        )
    )
    assert changed.next_subscription_period == Mailbox.YEARLY
    assert await password_hash(service, mailbox) != before


async def test_an_empty_update_leaves_everything_as_it_is(service: Service, tenant: Tenant) -> None:
    mailbox = await tenant.mailbox(await tenant.domain(), "ann")
    alias = await tenant.alias(mailbox, "info")
    before = await service.dump()
    assert await tenant.stub.UpdateMailbox(mailbox_pb2.UpdateMailboxRequest(mailbox_id=mailbox.id)) == mailbox
    assert await tenant.stub.UpdateAlias(alias_pb2.UpdateAliasRequest(alias_id=alias.id)) == alias
    assert await service.dump() == before


async def test_an_alias_is_created_changed_and_removed_and_its_address_is_free_again(tenant: Tenant) -> None:
    domain = await tenant.domain()
    mailbox = await tenant.mailbox(domain, "ann")
    created = await tenant.stub.CreateAlias(
        alias_pb2.CreateAliasRequest(mailbox_id=mailbox.id, local_part="Info", description="the front desk")
    )
    assert created == Alias(
        id=created.id,
        email=f"info@{domain.name}",
        mailbox_id=mailbox.id,
        description="the front desk",
        status=Alias.READY,
        created_at=created.created_at,
        updated_at=created.created_at,
        etag=created.etag,
    )
    assert created.etag
    assert await get_alias(tenant, created) == created

    changed = await tenant.stub.UpdateAlias(alias_pb2.UpdateAliasRequest(alias_id=created.id, description="the bar"))
    assert changed.description == "the bar"
    assert changed.updated_at.ToDatetime() > created.updated_at.ToDatetime()
    assert changed.created_at == created.created_at
    again = await tenant.stub.UpdateAlias(alias_pb2.UpdateAliasRequest(alias_id=created.id, description="the bar"))
    assert again == changed, "the same description again changes nothing"
    cleared = await tenant.stub.UpdateAlias(alias_pb2.UpdateAliasRequest(alias_id=created.id, description=""))
    assert cleared.description == ""

    taken = await failure_of(tenant.alias(mailbox, "info"))
    assert taken.code is grpc.StatusCode.ALREADY_EXISTS
    deleted = await tenant.stub.DeleteAlias(alias_pb2.DeleteAliasRequest(alias_id=created.id))
    assert (deleted.id, deleted.status) == (created.id, Alias.DELETING)
    assert (await failure_of(get_alias(tenant, created))).code is grpc.StatusCode.NOT_FOUND
    assert (await tenant.mailbox(domain, "info")).email == f"info@{domain.name}"


async def test_a_deleted_mailbox_stays_restorable_for_the_retention_and_keeps_its_address(
    service: Service, tenant: Tenant
) -> None:
    domain = await tenant.ready_domain()
    mailbox = await tenant.mailbox(domain, "ann")
    alias = await tenant.alias(mailbox, "info")
    deleted = await delete_mailbox(tenant, mailbox)
    assert deleted.status == Mailbox.DELETION_SCHEDULED
    retention = deleted.deletion_scheduled_at.ToDatetime() - deleted.updated_at.ToDatetime()
    assert retention == service.settings.deletion_retention == timedelta(days=30)
    assert await delete_mailbox(tenant, mailbox) == deleted, "deleting again changes nothing"
    assert await get_alias(tenant, alias) == alias
    assert (await get_domain(tenant, domain)).mailbox_total_count == 1
    assert (await failure_of(tenant.mailbox(domain, "ann"))).code is grpc.StatusCode.ALREADY_EXISTS
    assert (await failure_of(tenant.mailbox(domain, "info"))).code is grpc.StatusCode.ALREADY_EXISTS

    restored = await tenant.stub.RestoreMailbox(mailbox_pb2.RestoreMailboxRequest(mailbox_id=mailbox.id))
    assert restored.updated_at.ToDatetime() > deleted.updated_at.ToDatetime()
    expected = Mailbox()
    expected.CopyFrom(mailbox)
    expected.updated_at.CopyFrom(restored.updated_at)
    expected.etag = restored.etag
    assert len({mailbox.etag, deleted.etag, restored.etag}) == 3
    assert restored == expected


async def test_a_mailbox_is_restored_to_waiting_where_its_domain_is_not_ready(tenant: Tenant) -> None:
    mailbox = await tenant.mailbox(await tenant.domain(), "ann")
    await delete_mailbox(tenant, mailbox)
    restored = await tenant.stub.RestoreMailbox(mailbox_pb2.RestoreMailboxRequest(mailbox_id=mailbox.id))
    assert restored.status == Mailbox.WAITING_DOMAIN
    assert not restored.HasField("deletion_scheduled_at")


async def test_a_mailbox_is_purged_when_its_retention_has_passed_and_gives_back_address_and_quota(
    service: Service, tenant: Tenant
) -> None:
    domain = await tenant.domain()
    mailbox, kept = await tenant.mailboxes(domain, "ann", "bob")
    alias = await tenant.alias(mailbox, "info")
    await delete_mailbox(tenant, mailbox)
    await service.sql("UPDATE mailboxes SET deletion_scheduled_at = 1, due_at = 1 WHERE id = ?", mailbox.id)

    async def purged() -> bool:
        return not await service.sql("SELECT id FROM mailboxes WHERE id = ?", mailbox.id)

    assert await until(purged)
    assert (await failure_of(get_mailbox(tenant, mailbox))).code is grpc.StatusCode.NOT_FOUND
    assert (await failure_of(get_alias(tenant, alias))).code is grpc.StatusCode.NOT_FOUND
    assert await get_mailbox(tenant, kept) == kept
    assert await counts(service, tenant) == (1, 1)
    assert (await get_domain(tenant, domain)).mailbox_total_count == 1
    assert len(await tenant.mailboxes(domain, "ann", "info")) == 2


async def test_a_deleted_domain_is_purged_with_all_that_is_in_it_and_gives_back_name_and_quota(
    service: Service,
) -> None:
    tenant = await service.tenant(mailbox_quota=3)
    domain = await tenant.ready_domain()
    mailboxes = await tenant.mailboxes(domain, "ann", "bob", "eve")
    alias = await tenant.alias(mailboxes[0], "info")
    await delete_mailbox(tenant, mailboxes[1])
    assert await counts(service, tenant) == (3, 3)
    full = await failure_of(tenant.mailbox(domain, "max"))
    assert full.code is grpc.StatusCode.RESOURCE_EXHAUSTED

    deleted = await tenant.stub.DeleteDomain(domain_pb2.DeleteDomainRequest(domain_id=domain.id))
    assert (deleted.id, deleted.status) == (domain.id, Domain.DELETING)

    async def gone() -> bool:
        return not await service.sql("SELECT id FROM domains WHERE id = ?", domain.id)

    assert await until(gone)
    assert (await failure_of(get_domain(tenant, domain))).code is grpc.StatusCode.NOT_FOUND
    assert (await failure_of(records_of(tenant, domain))).code is grpc.StatusCode.NOT_FOUND
    for mailbox in mailboxes:
        assert (await failure_of(get_mailbox(tenant, mailbox))).code is grpc.StatusCode.NOT_FOUND
    assert (await failure_of(get_alias(tenant, alias))).code is grpc.StatusCode.NOT_FOUND
    assert await counts(service, tenant) == (0, 0)
    for table in ("domain_records", "mailboxes", "aliases", "addresses"):
        assert await service.sql(f"SELECT * FROM {table} WHERE domain_id = ?", domain.id) == [], table

    successor = await tenant.domain(domain.name)
    assert successor.id != domain.id
    created = await tenant.mailboxes(successor, "ann", "bob", "info")
    assert list(map(attrgetter("status"), created)) == [Mailbox.WAITING_DOMAIN] * 3
