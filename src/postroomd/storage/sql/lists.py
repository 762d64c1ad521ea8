"""Pages of lists. One statement returns the rows of a page and the number of matches on all pages.

A page is read by one of two plans. The time of both is bounded, however many rows there are:

- An *ordered scan* reads the index of the list's order from the start of the page to its end, skipping rows that do not
  match. The number of matches is the sum of counts that triggers maintain (migration 0004).
- A *sort* reads all matches through the index of their status or the trigram index, counts and sorts them. It is used
  only for at most MAX_SORTED_ROWS matches: these may lie far apart in the list's order.

A list filtered by status therefore reads the counts first. A search reads the trigram index first, and learns from the
same statement if there are too many hits to sort. The matches of such a frequent substring are counted by reading every
address or name of the tenant from an index.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache, reduce
from operator import add
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    FromClause,
    Select,
    String,
    Table,
    and_,
    bindparam,
    func,
    or_,
    select,
    true,
    tuple_,
    union_all,
)

from postroomd.domain.context import CallContext
from postroomd.domain.display_names import folded_name
from postroomd.domain.queries import AliasQuery, DomainQuery, ForwardingQuery, MailboxQuery, Ordering, Page
from postroomd.storage import schema as t
from postroomd.storage.compiled import CompiledRead, Rows, Values
from postroomd.storage.database import Database
from postroomd.storage.drivers.base import Driver, search_parameter
from postroomd.storage.sql.rows import columns_of, from_rows

Model = TypeVar("Model")
Query = DomainQuery | MailboxQuery | AliasQuery | ForwardingQuery

MAX_SORTED_ROWS = 5_000
"""Maximum number of matches of a sort. Reading that many costs about as much as scanning some 100,000 index entries."""

TRIGRAM_LENGTH = 3
"""Minimum number of characters of a substring that the trigram index can find."""


class Plan(Enum):
    """The plan of a page's statement."""

    ORDERED_SCAN = auto()
    COUNTED_SCAN = auto()  # an ordered scan once the matches are counted
    SORT = auto()
    SORT_SEARCH_HITS = auto()  # the matches come from the trigram index


class PageStart(Enum):
    """How a statement finds the first row of a page."""

    FIRST_ROW = auto()
    OFFSET = auto()  # by the number of rows before it
    KEYSET = auto()  # by the order's value and the id of the row before it


@dataclass(frozen=True, slots=True)
class ListSpec:
    """The parts of a list request that determine its SQL. All other parts are bound parameters.

    `filters` are the columns that are compared with an id, `status_count` is the number of statuses in the request, and
    `searched` are the columns that are searched, if any: a row matches if one of them does.
    """

    model: type[Any]
    table: Table
    driver: Driver
    filters: tuple[str, ...]
    status_count: int
    searched: tuple[str, ...]

    def conditions(self, source: FromClause) -> Iterator[ColumnElement[bool]]:
        """Yield the conditions of a match, over the table or another source with its columns."""
        yield from self._id_conditions(source)
        if self.status_count:
            yield source.c.status.in_(self._statuses())
        if self.searched:
            yield or_(*(self.driver.matches(source.c[column]) for column in self.searched))

    def matches(self) -> FromClause:
        """Return all matches, for a sort: read through the index of their status, or a search of the whole tenant."""
        ids = select(self.table.c.id)
        if self.searched:
            return self.driver.rows_by_id(self.table, union_all(*(ids.where(*each) for each in self._searches())))
        # One query per status: for an IN over several, SQLite would rather read every row of the organization.
        filters = list(self._id_conditions(self.table))
        queries = [ids.where(*filters, self.table.c.status == status) for status in self._statuses()]
        return self.driver.rows_by_id(self.table, union_all(*queries))

    def total(self) -> Select[Any]:
        """Return the query of the number of matches on all pages."""
        matches = select(func.count()).select_from(self.table)
        if self.searched:
            found = [matches.where(*each).scalar_subquery() for each in self._searches()]
            return select(reduce(add, found))
        if "mailbox_id" in self.filters:  # a mailbox has few of them: count their rows
            return matches.where(*self.conditions(self.table))
        counts = t.domain_counts if "domain_id" in self.filters else t.project_counts
        total = select(func.coalesce(func.sum(counts.c["count"]), 0)).where(*self.conditions(counts))
        return total if counts is t.domain_counts else total.where(counts.c.list == self.table.name)

    def _searches(self) -> Iterator[list[ColumnElement[bool]]]:
        """Yield the conditions of the matches in each searched column: disjoint, so that each is read from an index."""
        statuses = [self.table.c.status.in_(self._statuses())] if self.status_count else []
        for number, search in enumerate(self.driver.searches(self.table, self.searched)):
            # The index of a further column holds the columns of filters, but does not begin with them.
            ids = self._id_conditions(self.table, indexed=number == 0)
            yield [*ids, *statuses, *search]

    def _id_conditions(self, source: FromClause, *, indexed: bool = True) -> Iterator[ColumnElement[bool]]:
        yield source.c.organization_id == bindparam("organization_id", type_=t.ID)
        for name in self.filters:
            column = source.c[name]
            yield (column if indexed else self.driver.without_index(column)) == bindparam(name, type_=t.ID)

    def _statuses(self) -> list[BindParameter[str]]:
        return [bindparam(f"status{n}", type_=String) for n in range(self.status_count)]


@cache
def total_statement(spec: ListSpec) -> CompiledRead:
    """Return the statement of the number of matches on all pages."""
    return CompiledRead(spec.total())


@cache
def page_statement(spec: ListSpec, ordering: Ordering, start: PageStart, plan: Plan) -> CompiledRead:
    """Return the statement of a page. Its columns: those of the model, the number of matches on all pages.

    With SORT_SEARCH_HITS a last column has the number of hits in the trigram index, up to MAX_SORTED_ROWS + 1. A page
    without rows has one row then, of nulls and this number; with too many hits the page is always without rows.
    """
    table = spec.table
    columns = columns_of(spec.model, table)
    counted = bindparam("total", type_=BigInteger)
    total = counted if plan is Plan.COUNTED_SCAN else spec.total().scalar_subquery()
    scans = plan in {Plan.ORDERED_SCAN, Plan.COUNTED_SCAN}
    if scans and start is not PageStart.OFFSET:
        scan = select(*columns, total).where(*spec.conditions(table))
        return CompiledRead(_paginate(scan, table, ordering, start))
    # First the ids of the page, from indexes alone; then its rows.
    hits = None
    if scans:
        matches = select(table.c.id, total.label("total")).where(*spec.conditions(table))
        ids = _paginate(matches, table, ordering, start)
    else:
        if plan is Plan.SORT_SEARCH_HITS:
            hits = spec.driver.search(table, spec.searched, t.search_columns(table), MAX_SORTED_ROWS + 1)
        source = hits.rows if hits else spec.matches()
        matches = select(source.c.id, source.c[ordering.field], func.count().over().label("total"))
        matches = matches.where(*spec.conditions(source))
        if hits:
            matches = matches.where(hits.count <= MAX_SORTED_ROWS)
        matching = matches.subquery("matching")
        ids = _paginate(select(matching.c.id, matching.c.total), matching, ordering, start)
    page = ids.subquery("page")
    in_organization = spec.driver.without_index(table.c.organization_id) == bindparam("organization_id", type_=t.ID)
    rows = page.join(table, and_(table.c.id == page.c.id, in_organization))
    if hits is None:
        statement = select(*columns, page.c.total).select_from(rows)
    else:
        hit_count = select(hits.count.label("hits")).subquery("hit_count")
        statement = select(*columns, page.c.total, hit_count.c.hits).select_from(hit_count.outerjoin(rows, true()))
        statement = statement.add_cte(hits.ids, nest_here=True)
    # Ordered again: a join does not keep the order of its input.
    return CompiledRead(statement.order_by(*_order(table, ordering)))


def _paginate(rows: Select[Any], source: FromClause, ordering: Ordering, start: PageStart) -> Select[Any]:
    """Return the query restricted to one page, in its order."""
    if start is PageStart.KEYSET:
        key = tuple_(source.c[ordering.field], source.c.id)
        last = tuple_(bindparam("after", type_=source.c[ordering.field].type), bindparam("after_id", type_=t.ID))
        rows = rows.where(key < last if ordering.descending else key > last)
    rows = rows.order_by(*_order(source, ordering)).limit(bindparam("limit", type_=BigInteger))
    return rows.offset(bindparam("offset", type_=BigInteger)) if start is PageStart.OFFSET else rows


def _order(source: FromClause, ordering: Ordering) -> tuple[ColumnElement[Any], ...]:
    key = (source.c[ordering.field], source.c.id)
    return tuple(column.desc() for column in key) if ordering.descending else key


class ListReader(Generic[Model]):
    """Reads pages of one resource's list."""

    def __init__(self, database: Database, model: type[Model], table: Table) -> None:
        self._database = database
        self._model = model
        self._table = table
        self._width = len(columns_of(model, table))
        self._searched = t.searched_columns(table)

    async def page(self, context: CallContext, query: Query) -> Page[Model]:
        """Return one page of what the query matches in the caller's scope."""
        scope = context.scope
        if scope.project_id and query.project_id and scope.project_id != query.project_id:
            return Page([], 0)
        if getattr(query, "organization_id", None) not in {None, scope.organization_id}:
            return Page([], 0)
        filters = {
            "project_id": scope.project_id or query.project_id,
            "domain_id": getattr(query, "domain_id", None),
            "mailbox_id": getattr(query, "mailbox_id", None),
        }
        searches = _searches(query)
        statuses = _statuses(query)
        spec = ListSpec(
            self._model,
            self._table,
            self._database.driver,
            tuple(name for name, value in filters.items() if value),
            len(statuses),
            self._searched if searches else (),
        )
        values = {
            "organization_id": scope.organization_id,
            **filters,
            **{f"status{n}": status for n, status in enumerate(statuses)},
            **_search_values(scope.organization_id, searches),
            "limit": query.page_size + 1,  # one more row than the page shows whether there is a next page
            "offset": (query.page - 1) * query.page_size,
        }
        if query.after:
            values |= {"after": query.after.value, "after_id": query.after.id}
        start = PageStart.KEYSET if query.after else PageStart.OFFSET if query.page > 1 else PageStart.FIRST_ROW
        rows = await self._rows(spec, query.ordering, start, values, context)
        if not rows and start is not PageStart.FIRST_ROW:  # after the last page: read the total from the first one
            rows = await self._rows(spec, query.ordering, PageStart.FIRST_ROW, {**values, "limit": 1}, context)
            return Page([], self._total(rows))
        items = from_rows(self._model, rows[: query.page_size])
        return Page(items, self._total(rows), has_more=len(rows) > query.page_size)

    def _total(self, rows: Rows) -> int:
        """Return the number of matches on all pages, which every row has after the model's columns."""
        return int(rows[0][self._width]) if rows else 0

    async def _rows(
        self, spec: ListSpec, ordering: Ordering, start: PageStart, values: Values, context: CallContext
    ) -> Rows:
        """Return the rows of a page, by the plan that is expected to be the fastest."""
        plan = Plan.ORDERED_SCAN
        if "phrases" in values:
            rows = await self._fetch(page_statement(spec, ordering, start, Plan.SORT_SEARCH_HITS), values, context)
            if rows[0][-1] <= MAX_SORTED_ROWS:
                return [row for row in rows if row[0] is not None]
        if spec.searched or spec.status_count:
            ((total,),) = await self._fetch(total_statement(spec), values, context)
            if not total:
                return []
            # The index of a domain's list ends in the status, so that a scan is fast; the index of the sort has no
            # domain.
            sorts = total <= MAX_SORTED_ROWS and (spec.searched or "domain_id" not in spec.filters)
            plan, values = (Plan.SORT, values) if sorts else (Plan.COUNTED_SCAN, {**values, "total": total})
        return await self._fetch(page_statement(spec, ordering, start, plan), values, context)

    async def _fetch(self, statement: CompiledRead, values: Values, context: CallContext) -> Rows:
        return await self._database.fetch(statement, values, context, may_be_stale=True)


def _statuses(query: Query) -> tuple[str, ...]:
    if isinstance(query, AliasQuery | ForwardingQuery):
        return (query.status,) if query.status else ()
    return query.statuses


def _searches(query: Query) -> dict[str, str]:
    """Return the text that each column is searched for; empty for a list without a search."""
    match query:
        case DomainQuery(search=str(text)) if text:
            return {"name": text.lower()}
        case MailboxQuery(search=str(text)) if text:
            return {"email": text.lower(), "folded_name": query.folded_search or folded_name(text)}
        case _:
            return {}


def _search_values(organization_id: str, searches: Mapping[str, str]) -> dict[str, str]:
    """Return the bound values of a search: its texts and, if all of them have a trigram, the query of FTS5.

    The query has a phrase for each text, of the terms of migration 0008. These consist of hexadecimal digits: nothing
    in them is an operator of FTS5, and each belongs to the organization.
    """
    organization = organization_id.replace("-", "")
    phrases = []
    for text in dict.fromkeys(searches.values()):
        trigrams = (text[start : start + TRIGRAM_LENGTH] for start in range(len(text) - TRIGRAM_LENGTH + 1))
        phrases.append(" ".join(f"{organization}{trigram.encode().hex()}" for trigram in trigrams))
    values = {search_parameter(column): text for column, text in searches.items()}
    return values | ({"phrases": " OR ".join(f'"{phrase}"' for phrase in phrases)} if all(phrases) and phrases else {})
