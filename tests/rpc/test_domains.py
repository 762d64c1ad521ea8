"""Domains: registration, records and validation."""

import base64
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from postroom.v1alpha1 import domain_pb2
from postroom.v1alpha1.domain_pb2 import Domain, DomainRecord
from postroom.v1alpha1.mailbox_pb2 import Mailbox
from postroomd.rpc.dkim import generate_dkim_key
from tests.rpc.client import Tenant, fresh_name
from tests.rpc.service import Service
from tests.support.expected_records import EXPECTED_RECORDS
from tests.support.waiting import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")


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
        imap_url="imap.mail.example",
        pop3_url="pop3.mail.example",
        smtp_url="smtp.mail.example",
        created_at=created.created_at,
        updated_at=created.created_at,
        etag=created.etag,
    )
    assert created.etag
    assert before <= created.created_at.ToDatetime(UTC) <= datetime.now(UTC)
    assert await tenant.get_domain(created) == created


async def test_a_domain_is_registered_in_the_requested_project(tenant: Tenant) -> None:
    created = await tenant.domain(project_id=tenant.project_id.upper())
    assert created.project_id == tenant.project_id


async def test_a_domain_has_twelve_records_to_publish(tenant: Tenant) -> None:
    domain = await tenant.domain()
    records = await tenant.records(domain)
    kinds = [field.name for field, _ in records.ListFields()]
    assert sorted(kinds) == list(EXPECTED_RECORDS)
    assert len({getattr(records, kind).id for kind in kinds}) == 12
    for kind, expected in EXPECTED_RECORDS.items():
        record = getattr(records, kind)
        assert record == DomainRecord(
            id=record.id,
            domain_id=domain.id,
            level=DomainRecord.Level.Value(expected.level.upper()),
            dns_type=DomainRecord.DnsType.Value(expected.dns_type.upper()),
            dns_name=f"{expected.prefix}{domain.name}.",
            dns_value=record.dns_value,
            created_at=domain.created_at,
            updated_at=domain.created_at,
        ), kind
        assert not record.HasField("error"), kind
        assert expected.matches(record.dns_value), kind


async def test_the_dkim_record_publishes_the_stored_rsa_2048_key(service: Service, tenant: Tenant) -> None:
    domain = await tenant.domain()
    text = (await tenant.records(domain)).dkim.dns_value
    public = load_der_public_key(base64.b64decode(text.partition("p=")[2], validate=True))
    assert isinstance(public, RSAPublicKey)
    assert public.key_size == 2048
    assert public.public_numbers().e == 65537
    ((private,),) = await service.sql("SELECT dkim_private_key FROM domains WHERE id = ?", domain.id)
    assert private.startswith("-----BEGIN PRIVATE KEY-----")


@pytest.mark.parametrize("bits", [1024, 2048])
async def test_a_dkim_key_has_the_requested_size(bits: int) -> None:
    public = load_der_public_key(base64.b64decode(generate_dkim_key(bits).public_base64, validate=True))
    assert isinstance(public, RSAPublicKey)
    assert public.key_size == bits
    # The purpose of the smaller size: the record fits in one TXT string.
    assert (len(f"v=DKIM1; h=sha256; k=rsa; p={generate_dkim_key(bits).public_base64}") <= 255) == (bits == 1024)


async def test_domains_of_the_same_name_have_different_tokens_and_keys(service: Service) -> None:
    name = fresh_name()
    records = []
    for _ in range(2):
        tenant = await service.tenant()
        records.append(await tenant.records(await tenant.domain(name)))
    one, other = records
    assert one.domain_validation.dns_value != other.domain_validation.dns_value
    assert len(one.domain_validation.dns_value.partition("=")[2]) == 32
    assert one.dkim.dns_value != other.dkim.dns_value


async def test_a_validated_domain_becomes_ready_with_its_waiting_mailboxes(tenant: Tenant) -> None:
    domain = await tenant.domain()
    waiting = await tenant.mailboxes(domain, "ann", "bob")
    assert [mailbox.status for mailbox in waiting] == [Mailbox.WAITING_DOMAIN] * 2
    assert await tenant.validate(domain) == domain_pb2.ValidateDomainRecordsResponse()

    ready = await tenant.wait_for_domain(domain.id, Domain.READY)
    assert ready.updated_at.ToDatetime() > domain.updated_at.ToDatetime()
    assert ready.mailbox_total_count == 2
    records = await tenant.records(domain)
    assert {getattr(records, kind).status for kind in EXPECTED_RECORDS} == {DomainRecord.VALID}

    for mailbox in waiting:

        async def ready_mailbox(mailbox: Mailbox = mailbox) -> Mailbox | None:
            found = await tenant.get_mailbox(mailbox)
            return found if found.status == Mailbox.READY else None

        assert (await wait_until(ready_mailbox)).updated_at.ToDatetime() > mailbox.updated_at.ToDatetime()
    assert (await tenant.mailbox(domain, "late")).status == Mailbox.READY

    await tenant.validate(domain)
    assert (await tenant.get_domain(domain)).status == Domain.READY
