"""Contract of lists: random rows, orders, filters and searches against a reference model, by every query plan."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from operator import attrgetter, contains
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.context import CallContext
from postroomd.domain.display_names import folded_name
from postroomd.domain.model import AliasStatus, DomainStatus, ForwardingStatus, Mailbox, MailboxStatus
from postroomd.domain.queries import AliasQuery, DomainQuery, ForwardingQuery, MailboxQuery, Ordering, Position
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from postroomd.storage.sql import lists
from tests.support.database_state import check_lists
from tests.support.factories import (
    NOW,
    Tenant,
    mailbox,
    new_alias,
    new_domain,
    new_forwarding,
    new_neighbor,
    new_tenant,
)
from tests.support.strategies import view_of

NAMES = ["shop.example", "xn--bcher-kva.example", "a-shop.example", "example.org"]
LOCAL_PARTS = [
    "ann",
    "a_n",
    "a%n",
    "an.n",
    "anna",
    "o'neil",
    "back/slash",
    "{x}|~",
    "$a*b",
    "abc",
    "bca",
    "xn--ann",
    "nna",
]
DISPLAY_NAMES = ["", "", "Ann", "Jörg MÜLLER", "Straße", "shop.example", "o'neil", "日本語", "ﬃ"]
SPECIAL_SEARCHES = [
    "JO\u0308RG",
    "mü",
    "müller",
    "strasse",
    "本",
    "日本語",
    "ffi",
    "g m",
    "%",
    "_",
    "\\",
    "*",
    "'",
    '"',
    '""',
    'a" OR "n',
    "ann OR bca",
    "bücher",
    "é",
    "@",
    "-",
    "İ",
    "ann" * 100,
    "x" * 320,
]


def _named(name: str) -> Callable[[Mailbox], Mailbox]:
    return lambda new: replace(new, display_name=name)


def searched_texts(item: Any) -> list[str]:
    """Return what a search of an item's list compares."""
    if isinstance(item, Mailbox):
        return [item.email, folded_name(item.display_name)]
    return [getattr(item, "name", None) or item.email]


@dataclass(frozen=True)
class Filled:
    """A repository with rows of two organizations, and the items of the first one by list."""

    repository: Repository
    tenant: Tenant
    neighbor: Tenant
    items: dict[str, Sequence[Any]]


async def fill(repository: Repository, raw: AsyncEngine, rng: random.Random) -> Filled:
    tenant, other = await new_tenant(repository), await new_tenant(repository)
    neighbor = await new_neighbor(repository, tenant)
    for name in NAMES:
        for owner in (rng.choice([tenant, neighbor]), other):
            domain = await new_domain(repository, owner, name, DomainStatus.WAITING_VALIDATION)
            batch = [mailbox(part, change=_named(rng.choice(DISPLAY_NAMES))) for part in rng.sample(LOCAL_PARTS, 8)]
            mailboxes = await repository.mailboxes.create(owner.context, domain.id, batch)
            for number in range(6):
                await new_alias(repository, rng.choice(mailboxes[:2]), f"alias{number}")
                await new_forwarding(repository, rng.choice(mailboxes[:2]), f"{number}@elsewhere.example")
    for table, statuses in (
        (t.domains, DomainStatus),
        (t.mailboxes, MailboxStatus),
        (t.aliases, AliasStatus),
        (t.forwardings, ForwardingStatus),
    ):
        async with raw.begin() as connection:
            for (row_id,) in (await connection.execute(table.select().with_only_columns(table.c.id))).all():
                # Few instants, so that many orders have ties.
                values = {name: NOW + timedelta(hours=rng.randrange(3)) for name in ("created_at", "updated_at")}
                status = rng.choice(list(statuses)[:3])
                await connection.execute(update(table).where(table.c.id == row_id).values(status=status, **values))
    await check_lists(raw)
    order = Ordering(field="created_at", descending=False)
    all_items: dict[str, Any] = {"ordering": order, "page": 1, "page_size": 999}
    views = (await repository.mailboxes.list(tenant.context, MailboxQuery(**all_items))).items
    items: dict[str, Sequence[Any]] = {
        "domains": (await repository.domains.list(tenant.context, DomainQuery(**all_items))).items,
        "mailboxes": [await repository.mailboxes.get(tenant.context, view.id) for view in views],
        "aliases": (await repository.aliases.list(tenant.context, AliasQuery(**all_items))).items,
        "forwardings": (await repository.forwardings.list(tenant.context, ForwardingQuery(**all_items))).items,
    }
    counts = {"domains": 4, "mailboxes": 32, "aliases": 24, "forwardings": 24}
    assert {name: len(listed) for name, listed in items.items()} == counts
    return Filled(repository, tenant, neighbor, items)


def expected(items: Sequence[Any], context: CallContext, query: Any) -> list[Any]:
    """Return the reference model's result: every match of a query, in its order."""
    statuses = getattr(query, "statuses", ()) or ((query.status,) if getattr(query, "status", None) else ())
    search = getattr(query, "search", "")
    searches = [search.lower(), folded_name(search)]
    matches = [
        item
        for item in items
        if context.scope.project_id in {None, item.project_id}
        and all(
            getattr(query, name, None) in {None, getattr(item, name, None)}
            for name in ("project_id", "domain_id", "mailbox_id")
        )
        and (not statuses or item.status in statuses)
        and (not getattr(query, "search", "") or any(map(contains, searched_texts(item), searches)))
    ]
    return sorted(matches, key=attrgetter(query.ordering.field, "id"), reverse=query.ordering.descending)


def random_query(filled: Filled, rng: random.Random, kind: str) -> Any:
    """Return a random query of a list."""
    fields = ["created_at", "updated_at", "name" if kind == "domains" else "email"]
    query_type, statuses = {
        "domains": (DomainQuery, DomainStatus),
        "mailboxes": (MailboxQuery, MailboxStatus),
        "aliases": (AliasQuery, AliasStatus),
        "forwardings": (ForwardingQuery, ForwardingStatus),
    }[kind]
    query: Any = query_type(
        ordering=Ordering(field=rng.choice(fields), descending=rng.random() < 0.5),
        page=1,
        page_size=rng.choice([1, 2, 5, 5, 5, 100, 100, 100]),  # few walks of many pages
        project_id=rng.choice([None, None, filled.tenant.project.id, filled.neighbor.project.id]),
    )
    some = rng.choice(filled.items[kind])
    if kind in {"aliases", "forwardings"}:
        status = rng.choice([None, *statuses])
        return replace(query, status=status, mailbox_id=rng.choice([None, some.mailbox_id]))
    query = replace(query, statuses=tuple(rng.sample(list(statuses)[:4], rng.randrange(4))))
    text = rng.choice([text for text in searched_texts(some) if text])
    start, length = rng.randrange(len(text)), rng.randrange(1, 7)
    search = rng.choice(
        ["", text[start : start + length], text[start : start + length].upper(), text, rng.choice(SPECIAL_SEARCHES)]
    )
    query = replace(query, search=search)
    if kind == "mailboxes":
        return replace(query, domain_id=rng.choice([None, some.domain_id]))
    return query


class ListsContract:
    """The contract of every `list` method."""

    @pytest.fixture(params=[0, 3, lists.MAX_SORTED_ROWS])
    def max_sorted_rows(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
        """The limit of a sort: 0 forces an ordered scan, 3 a mixture of both plans."""
        monkeypatch.setattr(lists, "MAX_SORTED_ROWS", request.param)
        lists.page_statement.cache_clear()
        yield request.param
        lists.page_statement.cache_clear()

    async def test_every_page_equals_that_of_a_reference_model(
        self, repository: Repository, raw: AsyncEngine, max_sorted_rows: int
    ) -> None:
        rng = random.Random(1)
        filled = await fill(repository, raw, rng)
        calls: dict[str, Any] = {
            "domains": repository.domains.list,
            "mailboxes": repository.mailboxes.list,
            "aliases": repository.aliases.list,
            "forwardings": repository.forwardings.list,
        }
        queries_with_matches = 0
        for _ in range(100):
            kind = rng.choice(["domains", "mailboxes", "mailboxes", "aliases", "forwardings"])
            query = random_query(filled, rng, kind)
            context = rng.choice([filled.tenant.context, filled.tenant.context, filled.tenant.project_context])
            matches = expected(filled.items[kind], context, query)
            queries_with_matches += bool(matches)
            page_number, offset = 1, 0
            while True:  # each page by its number and by the position after the last item
                page = await calls[kind](context, replace(query, page=page_number))
                assert page.total_count == len(matches), query
                items = matches[offset : offset + query.page_size]
                assert page.items == (list(map(view_of, items)) if kind == "mailboxes" else items), query
                assert page.has_more == (offset + query.page_size < len(matches)), query
                if offset:
                    last = matches[min(offset, len(matches)) - 1]
                    after = Position(getattr(last, query.ordering.field), last.id)
                    assert await calls[kind](context, replace(query, after=after)) == page, query
                if not page.items:
                    break
                page_number, offset = page_number + 1, offset + query.page_size
        assert queries_with_matches > 25
