"""Mailboxes: creation, subscription period, password, deletion and restoration."""

import calendar
from datetime import timedelta

import argon2
import grpc
import pytest

from postroom.v1alpha1 import alias_pb2
from postroom.v1alpha1.mailbox_pb2 import ListMailboxesRequest, Mailbox, UpdateMailboxRequest
from tests.rpc.client import PASSWORD, Tenant, batch_request
from tests.rpc.failures import failure_of
from tests.rpc.service import Service

SHA512_CRYPT = "$6$saltsalt$" + "a" * 86
BCRYPT = "$2y$10$" + "b" * 53

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def password_hash(service: Service, mailbox: Mailbox) -> str:
    ((stored,),) = await service.sql("SELECT password_hash FROM mailboxes WHERE id = ?", mailbox.id)
    return str(stored)


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
        assert await tenant.get_mailbox(mailbox) == mailbox
        starts, ends = mailbox.created_at.ToDatetime(), mailbox.next_subscription_period_starts_at.ToDatetime()
        months = 12 if period == Mailbox.YEARLY else 1
        assert (ends.year * 12 + ends.month) - (starts.year * 12 + starts.month) == months
        assert ends.day == min(starts.day, calendar.monthrange(ends.year, ends.month)[1])
        assert ends.time() == starts.time()
    assert (await tenant.get_domain(domain)).mailbox_total_count == 3


async def test_settings_change_by_presence_and_are_found_by_display_name(tenant: Tenant) -> None:
    domain = await tenant.domain()
    request = batch_request(domain.id, "ada", "bob")
    request.mailboxes[0].display_name = "Ada LOVELACE"
    ada, bob = (await tenant.stub.BatchCreateMailboxes(request)).mailboxes
    assert (ada.display_name, bob.display_name) == ("Ada LOVELACE", "")

    changes = {"storage_quota_bytes": 2**53 - 1, "login_disabled": True, "receiving_disabled": True}
    changed = await tenant.stub.UpdateMailbox(UpdateMailboxRequest(mailbox_id=ada.id, **changes))  # type: ignore[arg-type]
    expected = Mailbox()
    expected.CopyFrom(ada)
    expected.MergeFrom(Mailbox(**changes, etag=changed.etag, updated_at=changed.updated_at))  # type: ignore[arg-type]
    assert changed == expected
    assert changed.etag != ada.etag
    assert await tenant.get_mailbox(ada) == changed
    same = await tenant.stub.UpdateMailbox(UpdateMailboxRequest(mailbox_id=ada.id, display_name="Ada LOVELACE"))
    assert same == changed, "the same value again changes nothing"
    cleared = UpdateMailboxRequest(
        mailbox_id=ada.id, storage_quota_bytes=0, login_disabled=False, sending_disabled=True
    )
    cleared.display_name = "Jörg"
    changed = await tenant.stub.UpdateMailbox(cleared)
    assert (changed.storage_quota_bytes, changed.login_disabled, changed.sending_disabled) == (0, False, True)
    assert changed.receiving_disabled

    for search, found in {"jÖr": [ada.id], "lovelace": [], "öR": [ada.id], "a@": [ada.id], "b": [bob.id]}.items():
        response = await tenant.stub.ListMailboxes(ListMailboxesRequest(domain_id=domain.id, search=search))
        assert ([each.id for each in response.mailboxes], response.total_count) == (found, len(found)), search
    (listed, _) = (
        await tenant.stub.ListMailboxes(
            ListMailboxesRequest(domain_id=domain.id, order_by=ListMailboxesRequest.EMAIL_ASC)
        )
    ).mailboxes
    assert listed == changed


async def test_password_hashes_are_stored_as_they_are_and_never_hashed(
    service: Service, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    importer = await service.tenant(organization_id=tenant.organization_id, password_hashes=True)
    domain = await tenant.domain()
    request = batch_request(domain.id, "ann", "bob", "cy")
    for sent, scheme in zip(request.mailboxes[:2], ("{Sha512-Crypt}", "{BLF-CRYPT}"), strict=True):
        sent.password = ""
        sent.password_hash = scheme + (SHA512_CRYPT if "512" in scheme else BCRYPT)
    denied = await failure_of(tenant.stub.BatchCreateMailboxes(request))
    assert denied.code is grpc.StatusCode.PERMISSION_DENIED

    hashed: list[str] = []
    hash_password = argon2.PasswordHasher.hash

    def counting(self: argon2.PasswordHasher, password: str) -> str:
        hashed.append(password)
        return hash_password(self, password)

    monkeypatch.setattr(argon2.PasswordHasher, "hash", counting)
    ann, bob, cy = (await importer.stub.BatchCreateMailboxes(request)).mailboxes
    assert hashed == [PASSWORD]
    assert await password_hash(service, ann) == "{SHA512-CRYPT}" + SHA512_CRYPT
    assert await password_hash(service, bob) == "{BLF-CRYPT}" + BCRYPT
    assert (await password_hash(service, cy)).startswith("{ARGON2ID}$argon2id$")


async def test_password_hashes_are_refused_without_being_repeated(service: Service, tenant: Tenant) -> None:
    importer = await service.tenant(organization_id=tenant.organization_id, password_hashes=True)
    request = batch_request((await tenant.domain()).id, "ann", "bob", "cy", "dee")
    for sent, text in zip(
        request.mailboxes,
        ("{PLAIN}correct horse", "{BLF-CRYPT}" + BCRYPT.replace("10", "15"), SHA512_CRYPT, ""),
        strict=True,
    ):
        sent.password, sent.password_hash = "", text
    refused = await failure_of(importer.stub.BatchCreateMailboxes(request))
    assert refused.violations == {
        ("mailboxes[0].password_hash", "FORMAT"),
        ("mailboxes[1].password_hash", "CONSTRAINT"),
        ("mailboxes[2].password_hash", "FORMAT"),
        ("mailboxes[3].password", "REQUIRED"),
    }
    assert "horse" not in refused.text
    assert BCRYPT[10:] not in refused.text
    request = batch_request(request.domain_id, "ann")
    request.mailboxes[0].password_hash = "{BLF-CRYPT}" + BCRYPT
    both = await failure_of(importer.stub.BatchCreateMailboxes(request))
    assert both.violations == {("mailboxes[0].password_hash", "CONSTRAINT")}


async def test_settings_are_checked_and_locked_with_the_mailbox(tenant: Tenant) -> None:
    mailbox = await tenant.mailbox(await tenant.domain(), "ann")
    for quota in (-1, 2**53):
        request = UpdateMailboxRequest(mailbox_id=mailbox.id, storage_quota_bytes=quota, display_name="x" * 129)
        refused = await failure_of(tenant.stub.UpdateMailbox(request))
        assert refused.violations == {("storage_quota_bytes", "CONSTRAINT"), ("display_name", "CONSTRAINT")}
    await tenant.delete_mailbox(mailbox)
    request = UpdateMailboxRequest(mailbox_id=mailbox.id, sending_disabled=False)
    refused = await failure_of(tenant.stub.UpdateMailbox(request))
    assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
    assert "sending_disabled" in refused.message


async def test_a_new_next_period_leaves_the_current_one_unchanged(tenant: Tenant) -> None:
    mailbox = await tenant.mailbox(await tenant.domain(), "ann")
    for period in (Mailbox.YEARLY, Mailbox.CANCELED, Mailbox.MONTHLY):
        request = UpdateMailboxRequest(mailbox_id=mailbox.id, subscription_period=period)
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


async def test_a_password_is_stored_as_an_argon2id_hash_that_verifies(service: Service, tenant: Tenant) -> None:
    mailbox = await tenant.mailbox(await tenant.domain(), "ann")
    verify = argon2.PasswordHasher().verify
    first = await password_hash(service, mailbox)
    assert first.startswith("{ARGON2ID}$argon2id$v=19$m=8,t=1,p=1$")
    assert verify(first.removeprefix("{ARGON2ID}"), PASSWORD)

    changed = await tenant.stub.UpdateMailbox(
        UpdateMailboxRequest(mailbox_id=mailbox.id, new_password="another good pässword")
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
        UpdateMailboxRequest(
            mailbox_id=mailbox.id, subscription_period=Mailbox.YEARLY, new_password="another good password"
        )
    )
    assert changed.next_subscription_period == Mailbox.YEARLY
    assert await password_hash(service, mailbox) != before


async def test_an_empty_update_changes_nothing(service: Service, tenant: Tenant) -> None:
    mailbox = await tenant.mailbox(await tenant.domain(), "ann")
    alias = await tenant.alias(mailbox, "info")
    before = await service.dump()
    assert await tenant.stub.UpdateMailbox(UpdateMailboxRequest(mailbox_id=mailbox.id)) == mailbox
    assert await tenant.stub.UpdateAlias(alias_pb2.UpdateAliasRequest(alias_id=alias.id)) == alias
    assert await service.dump() == before


async def test_a_deleted_mailbox_keeps_its_address_until_its_retention_ends(service: Service, tenant: Tenant) -> None:
    domain = await tenant.ready_domain()
    mailbox = await tenant.mailbox(domain, "ann")
    alias = await tenant.alias(mailbox, "info")
    deleted = await tenant.delete_mailbox(mailbox)
    assert deleted.status == Mailbox.DELETION_SCHEDULED
    retention = deleted.deletion_scheduled_at.ToDatetime() - deleted.updated_at.ToDatetime()
    assert retention == service.settings.deletion_retention == timedelta(days=30)
    assert await tenant.delete_mailbox(mailbox) == deleted, "deleting again changes nothing"
    assert await tenant.get_alias(alias) == alias
    assert (await tenant.get_domain(domain)).mailbox_total_count == 1
    assert (await failure_of(tenant.mailbox(domain, "ann"))).code is grpc.StatusCode.ALREADY_EXISTS
    assert (await failure_of(tenant.mailbox(domain, "info"))).code is grpc.StatusCode.ALREADY_EXISTS

    restored = await tenant.restore_mailbox(mailbox)
    assert restored.updated_at.ToDatetime() > deleted.updated_at.ToDatetime()
    expected = Mailbox()
    expected.CopyFrom(mailbox)
    expected.updated_at.CopyFrom(restored.updated_at)
    expected.etag = restored.etag
    assert len({mailbox.etag, deleted.etag, restored.etag}) == 3
    assert restored == expected


async def test_a_mailbox_restored_in_an_unvalidated_domain_waits_for_it(tenant: Tenant) -> None:
    mailbox = await tenant.mailbox(await tenant.domain(), "ann")
    await tenant.delete_mailbox(mailbox)
    restored = await tenant.restore_mailbox(mailbox)
    assert restored.status == Mailbox.WAITING_DOMAIN
    assert not restored.HasField("deletion_scheduled_at")
