"""A walk over every operation of the tenants' API, from a domain's registration to its purge: over gRPC and REST.

Resources are objects with the fields of the REST contract: enum values as text (`ready`), timestamps as datetimes in
UTC, and None for what is not set.
"""

import base64
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tests.support.expected_records import EXPECTED_RECORDS
from tests.support.operations import PASSWORD
from tests.support.waiting import wait_until


class Api(Protocol):
    """A client of the API: each transport has one."""

    organization_id: str
    project_id: str

    async def call(self, operation: str, **arguments: Any) -> Any:
        """Call an operation by its name in the SDKs, and return its response."""

    async def error_of(self, operation: str, **arguments: Any) -> tuple[str, str]:
        """Call an operation that fails, and return the error's type and resource, such as not_found and alias."""


async def walk(api: Api, domain_name: str) -> None:
    """Call every operation in the order of a domain's life, and check every response."""
    domain = await register_domain(api, domain_name)
    created = await create_mailboxes(api, domain)
    domain, mailbox = await validate_domain(api, domain, created)
    await list_resources(api, domain, created)
    await change_next_period(api, mailbox)
    await change_password(api, mailbox)
    alias = await manage_aliases(api, mailbox)
    forwarding = await manage_forwardings(api, mailbox, alias)
    await delete_and_restore(api, mailbox, alias, forwarding)
    await delete_domain(api, domain, created, alias, forwarding)


async def register_domain(api: Api, name: str) -> Any:
    """Register a domain, and one under an internationalized name."""
    before = datetime.now(UTC)
    domain = await api.call("create_domain", name=name)
    assert_uuid(domain.id)
    assert (domain.project_id, domain.organization_id) == (api.project_id, api.organization_id)
    assert (domain.name, domain.status, domain.mailbox_total_count) == (name, "waiting_validation", 0)
    assert (domain.webmail_url, domain.imap_url) == ("https://webmail.mail.example", "imap.mail.example")
    assert (domain.pop3_url, domain.smtp_url) == ("pop3.mail.example", "smtp.mail.example")
    assert before <= domain.created_at == domain.updated_at <= datetime.now(UTC)
    assert await api.call("get_domain", domain_id=domain.id) == domain

    internationalized = await api.call("create_domain", name=f"Bücher.{name}", project_id=domain.project_id)
    assert internationalized.name == f"xn--bcher-kva.{name}"
    found = await api.call("list_domains", search=f"KVA.{name}")
    assert (found.total_count, found.domains) == (1, [internationalized])
    await check_records(api, domain, "unknown_status")
    return domain


async def check_records(api: Api, domain: Any, status: str) -> None:
    """Check that the domain has the twelve expected records, all with a status."""
    found = vars(await api.call("get_domain_records", domain_id=domain.id))
    records = {name: record for name, record in found.items() if record is not None}  # those of a DKIM rotation
    assert records.keys() == EXPECTED_RECORDS.keys()
    for kind, expected in EXPECTED_RECORDS.items():
        record = records[kind]
        assert (record.domain_id, record.status, record.error) == (domain.id, status, None)
        assert (record.level, record.dns_type) == (expected.level, expected.dns_type)
        assert record.dns_name == f"{expected.prefix}{domain.name}."
        assert expected.matches(record.dns_value), kind
        assert record.created_at <= record.updated_at
    assert len({record.id for record in records.values()}) == len(EXPECTED_RECORDS)
    key = load_der_public_key(base64.b64decode(records["dkim"].dns_value.partition("p=")[2], validate=True))
    assert isinstance(key, RSAPublicKey)
    assert key.key_size == 2_048


async def create_mailboxes(api: Api, domain: Any) -> list[Any]:
    """Create a batch of three monthly mailboxes, and one yearly mailbox."""
    monthly = await create_batch(api, domain, "Zoe", "adam", "m.i.a")
    assert [mailbox.email for mailbox in monthly] == [f"{part}@{domain.name}" for part in ("zoe", "adam", "m.i.a")]
    for mailbox in monthly:
        assert_uuid(mailbox.id)
        assert (mailbox.domain_id, mailbox.status) == (domain.id, "waiting_domain")
        assert (mailbox.project_id, mailbox.organization_id) == (domain.project_id, domain.organization_id)
        assert mailbox.subscription_period == mailbox.next_subscription_period == "monthly"
        started, ends = mailbox.subscription_period_started_at, mailbox.next_subscription_period_starts_at
        assert mailbox.created_at == mailbox.updated_at == started
        assert timedelta(days=28) <= ends - started <= timedelta(days=31)
        assert ends.time() == started.time()
        assert mailbox.deletion_scheduled_at is None

    (yearly,) = await create_batch(api, domain, "yearly", subscription_period="yearly")
    assert yearly.subscription_period == yearly.next_subscription_period == "yearly"
    started, ends = yearly.subscription_period_started_at, yearly.next_subscription_period_starts_at
    assert timedelta(days=365) <= ends - started <= timedelta(days=366)
    return [*monthly, yearly]


async def create_batch(api: Api, domain: Any, *local_parts: str, **arguments: Any) -> Sequence[Any]:
    """Create mailboxes in a domain."""
    mailboxes = [{"local_part": local_part, "password": PASSWORD} for local_part in local_parts]
    response = await api.call("batch_create_mailboxes", domain_id=domain.id, mailboxes=mailboxes, **arguments)
    return list(response.mailboxes)


async def validate_domain(api: Api, domain: Any, mailboxes: Sequence[Any]) -> tuple[Any, Any]:
    """Validate the domain, and return it and its first mailbox as soon as both are ready."""
    await api.call("validate_domain_records", domain_id=domain.id)
    ready = await wait_for_status("ready", lambda: api.call("get_domain", domain_id=domain.id))
    assert_changed(domain, ready, status="ready", mailbox_total_count=4)
    await check_records(api, domain, "valid")
    await api.call("validate_domain_records", domain_id=domain.id)  # changes nothing: the domain is ready
    assert await api.call("get_domain", domain_id=domain.id) == ready

    async def all_ready() -> bool:
        listed = await api.call("list_mailboxes", domain_id=domain.id)
        return {mailbox.status for mailbox in listed.mailboxes} == {"ready"}

    await wait_until(all_ready)
    first = await api.call("get_mailbox", mailbox_id=mailboxes[0].id)
    assert_changed(mailboxes[0], first, status="ready")
    return ready, first


async def list_resources(api: Api, domain: Any, mailboxes: Sequence[Any]) -> None:
    """List the domain and its mailboxes, by filter and page by page."""
    listed = await api.call("list_mailboxes", domain_id=domain.id)
    assert listed.total_count == 4
    assert ids_of(listed.mailboxes) == ids_of(mailboxes)
    assert {mailbox.status for mailbox in listed.mailboxes} == {"ready"}
    assert ids_of((await api.call("list_mailboxes")).mailboxes) >= ids_of(mailboxes)
    pages = [await api.call("list_mailboxes", domain_id=domain.id, page=page, page_size=2) for page in (1, 2)]
    assert [mailbox for page in pages for mailbox in page.mailboxes] == listed.mailboxes
    found = await api.call("list_domains", search=domain.name, statuses=["ready"])
    assert (found.total_count, found.domains) == (1, [domain])


async def change_next_period(api: Api, mailbox: Any) -> None:
    """Change the next subscription period through its values, and leave it as it is with an empty update."""
    changed = mailbox
    for period in ("yearly", "canceled", "monthly"):
        before = changed
        changed = await api.call("update_mailbox", mailbox_id=mailbox.id, subscription_period=period)
        assert_changed(before, changed, next_subscription_period=period)
        assert await api.call("get_mailbox", mailbox_id=mailbox.id) == changed
    assert await api.call("update_mailbox", mailbox_id=mailbox.id) == changed
    not_set = "unknown_subscription_period"
    assert await api.call("update_mailbox", mailbox_id=mailbox.id, subscription_period=not_set) == changed


async def change_password(api: Api, mailbox: Any) -> None:
    """Change the password: only updated_at and etag show it."""
    before = await api.call("get_mailbox", mailbox_id=mailbox.id)
    changed = await api.call("update_mailbox", mailbox_id=mailbox.id, new_password=f"{PASSWORD} 2")
    assert_changed(before, changed)


async def manage_aliases(api: Api, mailbox: Any) -> Any:
    """Create, list, change and delete aliases, and return the one that remains."""
    domain_name = mailbox.email.partition("@")[2]
    description = "Für alle, ✉ & 'Büro'"
    alias = await api.call("create_alias", mailbox_id=mailbox.id, local_part="Sales", description=description)
    assert_uuid(alias.id)
    assert (alias.email, alias.mailbox_id) == (f"sales@{domain_name}", mailbox.id)
    assert (alias.description, alias.status) == (description, "ready")
    assert alias.created_at == alias.updated_at
    plain = await api.call("create_alias", mailbox_id=mailbox.id, local_part="info")
    assert (plain.email, plain.description) == (f"info@{domain_name}", "")

    listed = await api.call("list_aliases", mailbox_id=mailbox.id)
    assert (listed.total_count, listed.aliases) == (2, [plain, alias])
    assert await api.call("list_aliases", mailbox_id=mailbox.id, status="ready") == listed

    changed = await api.call("update_alias", alias_id=alias.id, description="Sales, too")
    assert_changed(alias, changed, description="Sales, too")
    assert await api.call("update_alias", alias_id=alias.id) == changed
    assert await api.call("get_alias", alias_id=alias.id) == changed

    deleted = await api.call("delete_alias", alias_id=plain.id)
    assert_changed(plain, deleted, status="deleting")
    assert await api.error_of("get_alias", alias_id=plain.id) == ("not_found", "alias")
    again = await api.call("create_alias", mailbox_id=mailbox.id, local_part="info")  # the address is free again
    assert again.id != plain.id
    await api.call("delete_alias", alias_id=again.id)
    return changed


async def manage_forwardings(api: Api, mailbox: Any, alias: Any) -> Any:
    """Create, list, change and delete forwardings and their settings, and return the one that remains."""
    forwarding = await api.call("create_forwarding", mailbox_id=mailbox.id, email="Zoe+Post@BÜCHER.example")
    assert_uuid(forwarding.id)
    assert (forwarding.email, forwarding.mailbox_id) == ("Zoe+Post@xn--bcher-kva.example", mailbox.id)
    assert forwarding.status == "ready"
    assert forwarding.created_at == forwarding.updated_at
    second = await api.call("create_forwarding", mailbox_id=mailbox.id, email="archive@elsewhere.example")

    listed = await api.call("list_forwardings", mailbox_id=mailbox.id)
    assert (listed.total_count, listed.forwardings) == (2, [second, forwarding])
    assert (
        await api.call(
            "list_forwardings", project_id=api.project_id, mailbox_id=mailbox.id, status="ready", order_by="email_desc"
        )
        == listed
    )
    own = await api.call("list_forwardings", organization_id=api.organization_id, mailbox_id=mailbox.id)
    assert own.forwardings == listed.forwardings
    both = {"organization_id": api.organization_id, "project_id": api.project_id}
    assert (await api.error_of("list_forwardings", **both))[0] == "invalid_arguments"

    changed = await api.call("update_forwarding", forwarding_id=forwarding.id, email="zoe@elsewhere.example")
    assert_changed(forwarding, changed, email="zoe@elsewhere.example")
    assert await api.call("update_forwarding", forwarding_id=forwarding.id) == changed
    assert await api.call("get_forwarding", forwarding_id=forwarding.id) == changed
    for own_address in (mailbox.email, alias.email):
        arguments = {"forwarding_id": forwarding.id, "email": own_address}
        assert (await api.error_of("update_forwarding", **arguments))[0] == "invalid_arguments"
    duplicate = {"mailbox_id": mailbox.id, "email": "ZOE@elsewhere.example"}
    assert await api.error_of("create_forwarding", **duplicate) == ("conflict", "forwarding")

    settings = await api.call("get_mailbox_forwarding", mailbox_id=mailbox.id)
    assert (settings.mailbox_id, settings.keep_copy, settings.enabled) == (mailbox.id, True, True)
    assert settings.created_at == settings.updated_at == mailbox.created_at
    without_copy = await api.call("update_mailbox_forwarding", mailbox_id=mailbox.id, keep_copy=False)
    assert_changed(settings, without_copy, keep_copy=False)
    disabled = await api.call("update_mailbox_forwarding", mailbox_id=mailbox.id, enabled=False)
    assert_changed(without_copy, disabled, enabled=False)
    assert await api.call("update_mailbox_forwarding", mailbox_id=mailbox.id, keep_copy=False) == disabled
    assert await api.call("update_mailbox_forwarding", mailbox_id=mailbox.id) == disabled
    assert await api.call("get_mailbox_forwarding", mailbox_id=mailbox.id) == disabled

    deleted = await api.call("delete_forwarding", forwarding_id=second.id)
    assert_changed(second, deleted, status="deleting")
    assert await api.error_of("get_forwarding", forwarding_id=second.id) == ("not_found", "forwarding")
    return changed


async def delete_and_restore(api: Api, mailbox: Any, alias: Any, forwarding: Any) -> None:
    """Delete the mailbox, which counts until its purge, and restore it as it was."""
    before = await api.call("get_mailbox", mailbox_id=mailbox.id)
    deleted = await api.call("delete_mailbox", mailbox_id=mailbox.id)
    purge_at = deleted.updated_at + timedelta(days=30)
    assert_changed(before, deleted, status="deletion_scheduled", deletion_scheduled_at=purge_at)
    assert await api.call("delete_mailbox", mailbox_id=mailbox.id) == deleted
    assert (await api.call("list_mailboxes", domain_id=mailbox.domain_id)).total_count == 4

    change = {"forwarding_id": forwarding.id, "email": "too-late@elsewhere.example"}
    assert (await api.error_of("update_forwarding", **change))[0] == "precondition_failed"
    settings = {"mailbox_id": mailbox.id, "keep_copy": True}
    assert (await api.error_of("update_mailbox_forwarding", **settings))[0] == "precondition_failed"

    restored = await api.call("restore_mailbox", mailbox_id=mailbox.id)
    assert_changed(before, restored)
    assert restored.updated_at > deleted.updated_at
    assert await api.call("get_alias", alias_id=alias.id) == alias
    assert await api.call("get_forwarding", forwarding_id=forwarding.id) == forwarding
    assert not (await api.call("get_mailbox_forwarding", mailbox_id=mailbox.id)).keep_copy


async def delete_domain(api: Api, domain: Any, mailboxes: Sequence[Any], alias: Any, forwarding: Any) -> None:
    """Delete the mailboxes and their domain, wait for its purge, and register its name again."""
    assert (await api.error_of("delete_domain", domain_id=domain.id))[0] == "precondition_failed"
    for mailbox in mailboxes:
        await api.call("delete_mailbox", mailbox_id=mailbox.id)
    deleted = await api.call("delete_domain", domain_id=domain.id)
    assert_changed(domain, deleted, status="deleting")

    async def purged() -> bool:
        found = await api.call("list_domains", search=domain.name)
        return domain.id not in ids_of(found.domains)

    await wait_until(purged)
    assert await api.error_of("get_domain", domain_id=domain.id) == ("not_found", "domain")
    for mailbox in mailboxes:
        assert await api.error_of("get_mailbox", mailbox_id=mailbox.id) == ("not_found", "mailbox")
    assert await api.error_of("get_alias", alias_id=alias.id) == ("not_found", "alias")
    assert await api.error_of("get_forwarding", forwarding_id=forwarding.id) == ("not_found", "forwarding")
    gone = ("not_found", "mailbox")
    assert await api.error_of("get_mailbox_forwarding", mailbox_id=forwarding.mailbox_id) == gone
    assert await api.error_of("delete_domain", domain_id=domain.id) == ("not_found", "domain")
    assert (await api.call("list_mailboxes", domain_id=domain.id)).total_count == 0
    again = await api.call("create_domain", name=domain.name)
    assert again.id != domain.id


def assert_uuid(text: str) -> None:
    """Assert that an id is a UUID in lower case."""
    assert str(UUID(text)) == text


def assert_changed(before: Any, after: Any, **changes: Any) -> None:
    """Assert that a resource was written, and that only these fields have changed."""
    written = {name: getattr(after, name) for name in ("updated_at", "etag") if hasattr(after, name)}
    assert vars(after) == vars(before) | written | changes
    assert after.updated_at > before.updated_at


def ids_of(resources: Sequence[Any]) -> set[str]:
    """The ids of resources."""
    return {resource.id for resource in resources}


async def wait_for_status(status: str, get: Callable[[], Awaitable[Any]]) -> Any:
    """Return a resource as soon as it has the status."""

    async def with_status() -> Any:
        resource = await get()
        return resource if resource.status == status else None

    return await wait_until(with_status)
