"""Lists: orders, pages, filters, and literal searches."""

import json
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import pytest

from tests.e2e.sdk.client import Sdk, local_parts
from tests.e2e.sdk.instances import Instance
from tests.support.waiting import wait_until

DOMAINS = ("walrus", "aardvark", "mole", "Zebra", "eel")
LOCAL_PARTS = ("walrus", "aardvark", "m.ole", "Zebra", "eel", "a$c", "a_c")


def sort_key(field: str) -> Callable[[Any], Any]:
    """Return the sort key of a list: the field, then the id."""
    return attrgetter(field, "id")


async def check_orders(orders: Any, fields: dict[str, str], items: list[Any], list_all: Callable[..., Any]) -> None:
    """Check every order of a list, on one page and on pages of two."""
    assert {order.value.rpartition("_")[0] for order in orders} == fields.keys()
    for order in orders:
        name, _, direction = order.value.rpartition("_")
        expected = sorted(items, key=sort_key(fields[name]), reverse=direction == "desc")
        assert len({getattr(item, fields[name]) for item in items}) > 2
        assert await list_all(order_by=order) == expected
        assert await list_all(order_by=order, page_size=2) == expected


class Lists:
    """Lists: orders, pages, filters, and literal searches."""

    @pytest.fixture
    async def domains(self, sdk: Sdk) -> list[Any]:
        """Five domains under one parent, created and then changed in different orders, with 0 to 2 mailboxes."""
        parent = "lists.example"
        if existing := await sdk.list_domains_all(search=f".{parent}"):
            return list(existing)
        domains = [await sdk.create_domain(name=f"{name}.{parent}") for name in DOMAINS]
        for index, count in ((3, 1), (0, 2), (4, 1)):
            await sdk.create_mailboxes(domains[index].id, *LOCAL_PARTS[:count])
        for index in (2, 4):
            await sdk.validate_domain_records(domain_id=domains[index].id)
        ready = [sdk.types.DomainStatus.READY]

        async def both_are_ready() -> bool:
            page = await sdk.list_domains(search=f".{parent}", statuses=ready)
            return bool(page.total_count == 2)

        await wait_until(both_are_ready)
        return list(await sdk.list_domains_all(search=f".{parent}"))

    @pytest.fixture
    async def mailboxes(self, sdk: Sdk) -> list[Any]:
        """Seven mailboxes of a domain that is not validated, created in turn, two of them scheduled for deletion."""
        name = "mailbox-lists.example"
        existing = await sdk.list_domains(search=name)
        if existing.domains:
            return list(await sdk.list_mailboxes_all(domain_id=existing.domains[0].id))
        domain = await sdk.create_domain(name=name)
        created = [(await sdk.create_mailboxes(domain.id, local_part))[0] for local_part in LOCAL_PARTS]
        for index in (5, 1):
            await sdk.delete_mailbox(mailbox_id=created[index].id)
        await sdk.update_mailbox(
            mailbox_id=created[2].id, subscription_period=sdk.types.MailboxSubscriptionPeriod.YEARLY
        )
        return list(await sdk.list_mailboxes_all(domain_id=domain.id))

    @pytest.fixture
    async def aliases(self, sdk: Sdk, mailboxes: list[Any]) -> list[Any]:
        """Five aliases of one mailbox, created in turn and then changed in another order."""
        mailbox_id = next(mailbox.id for mailbox in mailboxes if mailbox.email.startswith("walrus@"))
        if existing := await sdk.list_aliases_all(mailbox_id=mailbox_id):
            return list(existing)
        created = [await sdk.create_alias(mailbox_id=mailbox_id, local_part=f"alias.{name}") for name in DOMAINS]
        for index in (3, 0):
            await sdk.update_alias(alias_id=created[index].id, description="changed")
        return list(await sdk.list_aliases_all(mailbox_id=mailbox_id))

    async def test_domains_in_each_order_and_in_pages(self, sdk: Sdk, domains: list[Any]) -> None:
        parent = ".lists.example"
        fields = {name: name for name in ("created_at", "updated_at", "name", "mailbox_total_count")}
        await check_orders(
            sdk.types.ListDomainsRequestOrderBy,
            fields,
            domains,
            lambda **arguments: sdk.list_domains_all(search=parent, **arguments),
        )
        assert domains == sorted(domains, key=sort_key("created_at"), reverse=True)
        page = await sdk.list_domains(search=parent, page=3, page_size=2)
        assert (page.total_count, page.domains) == (5, domains[4:])

    async def test_mailboxes_in_each_order_and_in_pages(self, sdk: Sdk, mailboxes: list[Any]) -> None:
        domain_id = mailboxes[0].domain_id
        await check_orders(
            sdk.types.ListMailboxesRequestOrderBy,
            {name: name for name in ("created_at", "updated_at", "email")},
            mailboxes,
            lambda **arguments: sdk.list_mailboxes_all(domain_id=domain_id, **arguments),
        )
        assert mailboxes == sorted(mailboxes, key=sort_key("created_at"), reverse=True)
        page = await sdk.list_mailboxes(domain_id=domain_id, page=4, page_size=2)
        assert (page.total_count, page.mailboxes) == (7, mailboxes[6:])
        beyond = await sdk.list_mailboxes(domain_id=domain_id, page=5, page_size=2)
        assert (beyond.total_count, beyond.mailboxes) == (7, [])

    async def test_aliases_in_each_order_and_in_pages(self, sdk: Sdk, aliases: list[Any]) -> None:
        mailbox_id = aliases[0].mailbox_id
        await check_orders(
            sdk.types.ListAliasesRequestOrderBy,
            {"created_at": "created_at", "updated_at": "updated_at", "name": "email"},
            aliases,
            lambda **arguments: sdk.list_aliases_all(mailbox_id=mailbox_id, **arguments),
        )
        assert aliases == sorted(aliases, key=sort_key("created_at"), reverse=True)
        page = await sdk.list_aliases(mailbox_id=mailbox_id, page=2, page_size=4)
        assert (page.total_count, page.aliases) == (5, aliases[4:])

    async def test_mailboxes_created_at_the_same_time_are_on_one_page_each(self, sdk: Sdk) -> None:
        domain = await sdk.create_domain(name=f"{sdk.label}.at-once.example")
        created = await sdk.create_mailboxes(domain.id, *(f"m{number}" for number in range(7)))
        assert len({mailbox.created_at for mailbox in created}) == 1
        listed = await sdk.list_mailboxes_all(domain_id=domain.id, page_size=2)
        assert listed == sorted(created, key=attrgetter("id"), reverse=True)

    async def test_statuses_filter_by_several_values(self, sdk: Sdk, mailboxes: list[Any], domains: list[Any]) -> None:
        status = sdk.types.MailboxStatus

        async def with_statuses(*statuses: Any) -> list[Any]:
            page = await sdk.list_mailboxes(domain_id=mailboxes[0].domain_id, statuses=list(statuses))
            assert page.total_count == len(page.mailboxes)
            return list(page.mailboxes)

        scheduled = [mailbox for mailbox in mailboxes if mailbox.status == "deletion_scheduled"]
        assert len(scheduled) == 2
        assert await with_statuses(status.DELETION_SCHEDULED) == scheduled
        assert await with_statuses(status.DELETION_SCHEDULED, status.LOCKED) == scheduled
        assert await with_statuses(status.DELETION_SCHEDULED, status.WAITING_DOMAIN) == mailboxes
        assert await with_statuses(status.LOCKED, status.READY) == []
        assert await with_statuses(status.UNKNOWN_STATUS) == mailboxes

        parent = ".lists.example"
        both = [sdk.types.DomainStatus.READY, sdk.types.DomainStatus.WAITING_VALIDATION]
        assert await sdk.list_domains_all(search=parent, statuses=both) == domains
        ready = await sdk.list_domains(search=parent, statuses=both[:1])
        assert ready.domains == [domain for domain in domains if domain.status == "ready"]
        assert ready.total_count == 2

    async def test_mailbox_search_is_literal(self, sdk: Sdk, mailboxes: list[Any]) -> None:
        domain_id = mailboxes[0].domain_id

        async def matches(search: str) -> list[str]:
            page = await sdk.list_mailboxes(domain_id=domain_id, search=search)
            assert page.total_count == len(page.mailboxes)
            return local_parts(page.mailboxes)

        assert await matches("$") == ["a$c"]
        assert await matches("%") == []  # no wildcard
        assert await matches("_") == ["a_c"]
        assert await matches("A$C@") == ["a$c"]
        assert await matches("E") == local_parts(mailboxes)  # from .example in every address
        assert await matches("E@") == ["m.ole"]
        assert await matches("zEbR") == ["zebra"]
        assert await matches("\\") == await matches("a%c") == await matches("a*c") == await matches("'") == []
        assert await matches("") == local_parts(mailboxes)
        assert await matches(mailboxes[0].email) == local_parts(mailboxes[:1])

    async def test_domain_search_is_literal(self, sdk: Sdk, domains: list[Any]) -> None:
        parent = ".LISTS.example"
        assert await sdk.list_domains_all(search=parent) == domains
        (zebra,) = await sdk.list_domains_all(search=f"BRA{parent}")
        assert zebra.name.startswith("zebra.")
        for search in (f"%{parent}", f"_{parent}", f"zebr_{parent}", "\\"):
            assert await sdk.list_domains_all(search=search) == []

    async def test_lists_are_filtered_by_project(self, both_sdks: list[Sdk], instance: Instance) -> None:
        sdk = both_sdks[0]
        organization = f"--organization-id={sdk.environment['SCW_DEFAULT_ORGANIZATION_ID']}"
        created = instance.command("projects", "create", organization, "--name=another", "--output=json")
        (project_id,) = (project["id"] for project in json.loads(created))
        domain = await sdk.create_domain(name="another-project.example", project_id=project_id)
        (mailbox,) = await sdk.create_mailboxes(domain.id, "one")
        alias = await sdk.create_alias(mailbox_id=mailbox.id, local_part="two")
        assert mailbox.project_id == domain.project_id == project_id
        for sdk in both_sdks:
            ids = [
                [item.id for item in items]
                for items in (
                    await sdk.list_domains_all(project_id=project_id),
                    await sdk.list_mailboxes_all(project_id=project_id),
                    await sdk.list_aliases_all(project_id=project_id),
                )
            ]
            assert ids == [[domain.id], [mailbox.id], [alias.id]]
            # Without a project, the SDK sends its default project.
            assert await sdk.list_domains_all(search=domain.name) == []
            assert await sdk.list_mailboxes_all(domain_id=domain.id) == []
            assert await sdk.list_aliases_all(mailbox_id=mailbox.id) == []
