"""Pages of lists. One statement answers a page, and counts what matches on all pages, in one look at the database.

A page is found in one of two ways, and both take as long however many rows there are:

- It *walks* the index of its order, from where the page begins to where it ends, and passes over what does not match.
  How many match is added up from the counts that triggers keep.
- Where few rows match, and may lie far apart, it *gathers* them all, through the index of their status or of the
  substring that is searched, counts them and sorts them.

So a list that is narrowed by statuses looks at the counts first. A search gathers what the index of substrings finds,
and tells beside the page where that is too much to gather. A substring that many rows have is counted by reading every
address of the tenant, from an index.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
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
    select,
    true,
    tuple_,
    union_all,
)

from postroomd.domain.context import CallContext
from postroomd.domain.queries import AliasQuery, DomainQuery, MailboxQuery, Ordering, Page
from postroomd.storage import schema as t
from postroomd.storage.compiled import CompiledRead, Rows, Values
from postroomd.storage.database import Database
from postroomd.storage.drivers.base import Driver
from postroomd.storage.sql.rows import columns_of, from_rows

Model = TypeVar("Model")
Query = DomainQuery | MailboxQuery | AliasQuery

FEW = 5_000
"""How many rows are gathered at most. It costs about what walking past some hundred thousand does."""

TRIGRAM = 3
"""How many characters a substring has at least that the index finds."""


class Way(Enum):
    """How the rows of a page are found."""

    WALK = auto()
    GATHER = auto()
    GATHER_FOUND = auto()  # by the index of substrings


class Start(Enum):
    """Where a page begins."""

    FIRST = auto()
    OFFSET = auto()
    AFTER = auto()  # a row, by its values


@dataclass(frozen=True, slots=True)
class Shape:
    """What the statements of a list depend on. All else are values."""

    model: type[Any]
    table: Table
    driver: Driver
    narrowed: tuple[str, ...]  # by these columns
    statuses: int
    searched: str | None  # this column, where it is

    @property
    def named_statuses(self) -> list[BindParameter[str]]:
        """The statuses that a list is narrowed by."""
        return [bindparam(f"status{n}", type_=String) for n in range(self.statuses)]

    def conditions(self, source: FromClause) -> Iterator[ColumnElement[bool]]:
        """What the rows of the table have to meet, or those of something with its columns."""
        for name in ("organization_id", *self.narrowed):
            yield source.c[name] == bindparam(name, type_=t.ID)
        if self.statuses:
            yield source.c.status.in_(self.named_statuses)
        if self.searched:
            yield source.c[self.searched].like(bindparam("pattern", type_=t.OCTETS), escape="\\")

    @property
    def gathered(self) -> FromClause:
        """The rows that match, where few do: from an index that has them side by side, or all that is asked for."""
        ids = select(self.table.c.id)
        if self.searched:
            return self.driver.rows_by_id(self.table, ids.where(*self.conditions(self.table)))
        # One by one, or SQLite takes several statuses for more than all of the organization.
        narrowed = [self.table.c[name] == bindparam(name, type_=t.ID) for name in ("organization_id", *self.narrowed)]
        each = [ids.where(*narrowed, self.table.c.status == status) for status in self.named_statuses]
        return self.driver.rows_by_id(self.table, union_all(*each))

    @property
    def total(self) -> Select[Any]:
        """How many match, on all pages."""
        if self.searched or "mailbox_id" in self.narrowed:  # the aliases of one mailbox are few
            return select(func.count()).select_from(self.table).where(*self.conditions(self.table))
        counts = t.domain_counts if "domain_id" in self.narrowed else t.project_counts
        total = select(func.coalesce(func.sum(counts.c["count"]), 0)).where(*self.conditions(counts))
        return total if counts is t.domain_counts else total.where(counts.c.list == self.table.name)


@cache
def counting(shape: Shape) -> CompiledRead:
    """How many match, on all pages."""
    return CompiledRead(shape.total)


@cache
def paging(shape: Shape, ordering: Ordering, start: Start, way: Way) -> CompiledRead:
    """The rows of a page: the columns of the model, and how many match on all pages."""
    table = shape.table
    columns = columns_of(shape.model, table)
    if way is Way.WALK and start is not Start.OFFSET:
        walk = select(*columns, shape.total.scalar_subquery()).where(*shape.conditions(table))
        return CompiledRead(_cut(walk, table, ordering, start))
    # The rows themselves are looked up once it is known which ones they are.
    found = None
    if way is Way.GATHER_FOUND:
        found = shape.driver.search(table, str(shape.searched), t.search_columns(table), FEW + 1)
    if way is Way.WALK:
        matching = select(table.c.id, shape.total.scalar_subquery().label("total")).where(*shape.conditions(table))
        keys = _cut(matching, table, ordering, start)
    else:
        source = found.rows if found else shape.gathered
        matching = select(source.c.id, source.c[ordering.field], func.count().over().label("total"))
        matching = matching.where(*shape.conditions(source))
        if found:
            matching = matching.where(found.count <= FEW)
        gathered = matching.subquery("gathered")
        keys = _cut(select(gathered.c.id, gathered.c.total), gathered, ordering, start)
    page = keys.subquery("page")
    own = shape.driver.without_index(table.c.organization_id) == bindparam("organization_id", type_=t.ID)
    rows = page.join(table, and_(table.c.id == page.c.id, own))
    if found is None:
        paged = select(*columns, page.c.total).select_from(rows)
    else:  # a row at least, to tell how many were found
        looked = select(found.count.label("found")).subquery("looked")
        paged = select(*columns, page.c.total, looked.c.found).select_from(looked.outerjoin(rows, true()))
        paged = paged.add_cte(found.ids, nest_here=True)
    # Once more in order: a join promises none.
    return CompiledRead(paged.order_by(*_order(table, ordering)))


def _cut(rows: Select[Any], source: FromClause, ordering: Ordering, start: Start) -> Select[Any]:
    """The rows in their order, from where a page begins to where it ends."""
    if start is Start.AFTER:
        here = tuple_(source.c[ordering.field], source.c.id)
        after = tuple_(bindparam("after", type_=source.c[ordering.field].type), bindparam("after_id", type_=t.ID))
        rows = rows.where(here < after if ordering.descending else here > after)
    rows = rows.order_by(*_order(source, ordering)).limit(bindparam("limit", type_=BigInteger))
    return rows.offset(bindparam("offset", type_=BigInteger)) if start is Start.OFFSET else rows


def _order(source: FromClause, ordering: Ordering) -> tuple[ColumnElement[Any], ...]:
    order, tie = source.c[ordering.field], source.c.id
    return (order.desc(), tie.desc()) if ordering.descending else (order, tie)


class Lists(Generic[Model]):
    """The list of one resource."""

    def __init__(self, database: Database, model: type[Model], table: Table) -> None:
        self._database = database
        self._model = model
        self._table = table
        self._width = len(columns_of(model, table))
        self._searched = dict(t.SEARCHED).get(table)

    async def page(self, context: CallContext, query: Query) -> Page[Model]:
        """One page."""
        scope = context.scope
        if scope.project_id and query.project_id and scope.project_id != query.project_id:
            return Page([], 0)
        narrowing = {
            "project_id": scope.project_id or query.project_id,
            "domain_id": getattr(query, "domain_id", None),
            "mailbox_id": getattr(query, "mailbox_id", None),
        }
        search = getattr(query, "search", "").lower()
        statuses = _statuses(query)
        shape = Shape(
            self._model,
            self._table,
            self._database.driver,
            tuple(name for name, value in narrowing.items() if value),
            len(statuses),
            self._searched if search else None,
        )
        values = {
            "organization_id": scope.organization_id,
            **narrowing,
            **{f"status{n}": status for n, status in enumerate(statuses)},
            **_search_values(search),
            "limit": query.page_size + 1,  # one more tells whether there is more
            "offset": (query.page - 1) * query.page_size,
        }
        if query.after:
            values |= {"after": query.after.value, "after_id": query.after.id}
        start = Start.AFTER if query.after else Start.OFFSET if query.page > 1 else Start.FIRST
        rows = await self._rows(shape, query.ordering, start, values, context)
        if not rows and start is not Start.FIRST:  # past the end: how many there are stands on any other page
            rows = await self._rows(shape, query.ordering, Start.FIRST, {**values, "limit": 1}, context)
            return Page([], self._total(rows))
        items = from_rows(self._model, rows[: query.page_size])
        return Page(items, self._total(rows), has_more=len(rows) > query.page_size)

    def _total(self, rows: Rows) -> int:
        """How many match on all pages: it stands in every row, behind the model's columns."""
        return int(rows[0][self._width]) if rows else 0

    async def _rows(self, shape: Shape, ordering: Ordering, start: Start, values: Values, context: CallContext) -> Rows:
        """The rows of a page, by the way that finds them soonest."""
        way = Way.WALK
        if "phrase" in values:
            rows = await self._fetch(paging(shape, ordering, start, Way.GATHER_FOUND), values, context)
            if rows[0][-1] <= FEW:
                return [row for row in rows if row[0] is not None]
        if shape.searched or shape.statuses:
            ((total,),) = await self._fetch(counting(shape), values, context)
            if not total:
                return []
            # All that narrows a list besides is in the index of its order, which gathering in a domain would miss.
            if total <= FEW and (shape.searched or "domain_id" not in shape.narrowed):
                way = Way.GATHER
        return await self._fetch(paging(shape, ordering, start, way), values, context)

    async def _fetch(self, statement: CompiledRead, values: Values, context: CallContext) -> Rows:
        return await self._database.fetch(statement, values, context, may_be_stale=True)


def _statuses(query: Query) -> tuple[str, ...]:
    if isinstance(query, AliasQuery):
        return (query.status,) if query.status else ()
    return query.statuses


def _search_values(search: str) -> dict[str, str]:
    """A substring as LIKE takes it, and where it has a trigram as FTS5 takes it."""
    pattern = search.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    phrase = search.replace('"', '""')
    return {"pattern": f"%{pattern}%"} | ({"phrase": f'"{phrase}"'} if len(search) >= TRIGRAM else {})
