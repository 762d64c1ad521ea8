"""Lists against a plain model of them: random rows, orders, filters and searches, by every way that finds a page."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from operator import attrgetter
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.context import CallContext
from postroomd.domain.model import AliasStatus, DomainStatus, MailboxStatus
from postroomd.domain.queries import AliasQuery, DomainQuery, MailboxQuery, Ordering, Position
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from postroomd.storage.sql import lists
from tests.support.factories import NOW, Tenant, new_alias, new_domain, new_mailboxes, new_neighbor, new_tenant
from tests.support.stored import check_lists
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
ODD = [
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


@dataclass(frozen=True)
class Full:
    """A repository with rows of two organizations, and all that the first one has."""

    repository: Repository
    tenant: Tenant
    neighbor: Tenant
    items: dict[str, Sequence[Any]]


async def filled(repository: Repository, raw: AsyncEngine, chance: random.Random) -> Full:
    tenant, other = await new_tenant(repository), await new_tenant(repository)
    neighbor = await new_neighbor(repository, tenant)
    for name in NAMES:
        for owner in (chance.choice([tenant, neighbor]), other):
            within = await new_domain(repository, owner, name, DomainStatus.WAITING_VALIDATION)
            made = await new_mailboxes(repository, within, *chance.sample(LOCAL_PARTS, 8))
            for number in range(6):
                await new_alias(repository, chance.choice(made[:2]), f"alias{number}")
    for table, statuses in ((t.domains, DomainStatus), (t.mailboxes, MailboxStatus), (t.aliases, AliasStatus)):
        async with raw.begin() as connection:
            for (row_id,) in (await connection.execute(table.select().with_only_columns(table.c.id))).all():
                # Few instants, so that many are the same.
                values = {name: NOW + timedelta(hours=chance.randrange(3)) for name in ("created_at", "updated_at")}
                status = chance.choice(list(statuses)[:3])
                await connection.execute(update(table).where(table.c.id == row_id).values(status=status, **values))
    await check_lists(raw)
    order = Ordering(field="created_at", descending=False)
    everything: dict[str, Any] = {"ordering": order, "page": 1, "page_size": 999}
    views = (await repository.mailboxes.list(tenant.context, MailboxQuery(**everything))).items
    items: dict[str, Sequence[Any]] = {
        "domains": (await repository.domains.list(tenant.context, DomainQuery(**everything))).items,
        "mailboxes": [await repository.mailboxes.get(tenant.context, view.id) for view in views],
        "aliases": (await repository.aliases.list(tenant.context, AliasQuery(**everything))).items,
    }
    assert {name: len(found) for name, found in items.items()} == {"domains": 4, "mailboxes": 32, "aliases": 24}
    return Full(repository, tenant, neighbor, items)


def expected(items: Sequence[Any], context: CallContext, query: Any, searched: Callable[[Any], str]) -> list[Any]:
    """What a query matches, in its order: as plainly as can be."""
    statuses = getattr(query, "statuses", ()) or ((query.status,) if getattr(query, "status", None) else ())
    found = [
        item
        for item in items
        if context.scope.project_id in {None, item.project_id}
        and all(
            getattr(query, name, None) in {None, getattr(item, name, None)}
            for name in ("project_id", "domain_id", "mailbox_id")
        )
        and (not statuses or item.status in statuses)
        and getattr(query, "search", "").lower() in searched(item)
    ]
    return sorted(found, key=attrgetter(query.ordering.field, "id"), reverse=query.ordering.descending)


def random_query(full: Full, chance: random.Random, kind: str) -> Any:
    """Any query of a kind of list."""
    fields = ["created_at", "updated_at", "name" if kind == "domains" else "email"]
    query, statuses = {
        "domains": (DomainQuery, DomainStatus),
        "mailboxes": (MailboxQuery, MailboxStatus),
        "aliases": (AliasQuery, AliasStatus),
    }[kind]
    made: Any = query(
        ordering=Ordering(field=chance.choice(fields), descending=chance.random() < 0.5),
        page=1,
        page_size=chance.choice([1, 2, 5, 100]),
        project_id=chance.choice([None, None, full.tenant.project.id, full.neighbor.project.id]),
    )
    some = chance.choice(full.items[kind])
    if kind == "aliases":
        status = chance.choice([None, *statuses])
        return replace(made, status=status, mailbox_id=chance.choice([None, some.mailbox_id]))
    made = replace(made, statuses=tuple(chance.sample(list(statuses)[:4], chance.randrange(4))))
    text = some.name if kind == "domains" else some.email
    start, length = chance.randrange(len(text)), chance.randrange(1, 7)
    search = chance.choice(
        ["", text[start : start + length], text[start : start + length].upper(), text, chance.choice(ODD)]
    )
    made = replace(made, search=search)
    return replace(made, domain_id=chance.choice([None, some.domain_id])) if kind == "mailboxes" else made


class ListsContract:
    @pytest.fixture(params=[0, 3, lists.MAX_SORTED_ROWS])
    def few(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
        """How many rows are gathered at most: so few that nearly every list walks, some of each, and as it is."""
        monkeypatch.setattr(lists, "MAX_SORTED_ROWS", request.param)
        lists.page_statement.cache_clear()
        yield request.param
        lists.page_statement.cache_clear()

    @pytest.mark.parametrize("seed", range(2))
    async def test_every_list_answers_what_a_plain_model_of_it_does(
        self, repository: Repository, raw: AsyncEngine, few: int, seed: int
    ) -> None:
        chance = random.Random(seed)
        full = await filled(repository, raw, chance)
        calls: dict[str, Any] = {
            "domains": repository.domains.list,
            "mailboxes": repository.mailboxes.list,
            "aliases": repository.aliases.list,
        }
        matched = 0
        for _ in range(120):
            kind = chance.choice(["domains", "mailboxes", "mailboxes", "aliases"])
            query = random_query(full, chance, kind)
            scope = chance.choice([full.tenant.context, full.tenant.context, full.tenant.project_context])
            found = expected(full.items[kind], scope, query, attrgetter("name" if kind == "domains" else "email"))
            matched += bool(found)
            page_number, followed = 1, 0
            while True:  # by number, and by what follows the last item
                page = await calls[kind](scope, replace(query, page=page_number))
                assert page.total_count == len(found), query
                items = found[followed : followed + query.page_size]
                assert page.items == (list(map(view_of, items)) if kind == "mailboxes" else items), query
                assert page.has_more == (followed + query.page_size < len(found)), query
                if followed:
                    last = found[min(followed, len(found)) - 1]
                    after = Position(getattr(last, query.ordering.field), last.id)
                    assert await calls[kind](scope, replace(query, after=after)) == page, query
                if not page.items:
                    break
                page_number, followed = page_number + 1, followed + query.page_size
        assert matched > 30
