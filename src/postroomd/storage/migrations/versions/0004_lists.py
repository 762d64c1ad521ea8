"""Make lists scale to a million mailboxes: add counts, trigram indexes, and the status to the indexes of lists.

Triggers maintain the counts and the trigram indexes. A later revision that recreates one of these tables has to
recreate its triggers.
"""

from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

from postroomd.domain.errors import SchemaMismatch

revision = "0004"
down_revision = "0003"

ID = sa.String(36).with_variant(UUID(as_uuid=False), "postgresql")

LISTS = (
    ("domains", ("organization_id", "project_id"), ("created_at", "updated_at", "name", "mailbox_total_count")),
    ("mailboxes", ("organization_id", "project_id", "domain_id"), ("created_at", "updated_at", "email")),
    ("aliases", ("organization_id", "project_id", "mailbox_id"), ("created_at", "updated_at", "email")),
)

# The counted table, the table of its counts, and the primary key columns of the latter with the value of each.
COUNTS = (
    *(
        (
            table,
            "project_counts",
            {
                "organization_id": "organization_id",
                "project_id": "project_id",
                "list": f"'{table}'",
                "status": "status",
            },
        )
        for table in ("domains", "mailboxes", "aliases")
    ),
    (
        "mailboxes",
        "domain_counts",
        {"organization_id": "organization_id", "domain_id": "domain_id", "status": "status"},
    ),
)

SEARCHED = (("mailboxes", "email"), ("domains", "name"))

OWN = "organization_id = NULLIF(current_setting('postroom.organization_id', true), '')::uuid"


def upgrade() -> None:
    """Create the tables and indexes, and fill them from the existing rows."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    if not postgresql:
        _require_trigrams()
    _index_lists()
    _create_counts()
    for table, column in SEARCHED:
        for statement in (_search_on_postgresql if postgresql else _search_on_sqlite)(table, column):
            op.execute(statement)
    if postgresql:
        _isolate_tenants()
    for table in ("domains", "mailboxes", "aliases"):
        for statement in (_counting_on_postgresql if postgresql else _counting_on_sqlite)(table):
            op.execute(statement)


def _require_trigrams() -> None:
    """Raise SchemaMismatch, with a remedy, if this SQLite has no trigram index."""
    try:
        op.execute("CREATE VIRTUAL TABLE temp.trigrams USING fts5(text, tokenize = 'trigram')")
        op.execute("DROP TABLE temp.trigrams")
    except sa.exc.OperationalError as error:
        raise SchemaMismatch("this SQLite has no trigram index: version 3.34 or newer with FTS5 is required") from error


def _index_lists() -> None:
    for table, filters, orders in LISTS:
        for column in filters:
            prefix = list(dict.fromkeys(("organization_id", column)))
            for order in orders:
                name = f"ix_{table}_{column}_{order}"
                op.drop_index(name, table)
                op.create_index(name, table, [*prefix, order, "id", "status"])
        op.create_index(f"ix_{table}_gathered", table, ["organization_id", "status", "project_id", "id"])


# --- Counts -----------------------------------------------------------------------------------------------------------


def _create_counts() -> None:
    op.create_table(
        "project_counts",
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("list", sa.String(32), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "project_id", "list", "status", name=op.f("pk_project_counts")),
    )
    op.create_table(
        "domain_counts",
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("domain_id", ID, nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "domain_id", "status", name=op.f("pk_domain_counts")),
    )
    for table, counts, keys in COUNTS:
        columns, values = _columns_and_values(counts, keys)
        op.execute(
            f"INSERT INTO {counts} ({', '.join(columns)}, count)"
            f" SELECT {', '.join(values)}, count(*) FROM {table} GROUP BY {', '.join(_grouping(values))}"
        )


def _columns_and_values(counts: str, keys: dict[str, str]) -> tuple[list[str], list[str]]:
    """Return the columns of a row of counts, and the expression of each over the counted row."""
    more = {"project_id": "project_id"} if counts == "domain_counts" else {}
    return [*keys, *more], [*keys.values(), *more.values()]


def _grouping(values: Sequence[str]) -> list[str]:
    return [value for value in values if not value.startswith("'")]


def _counting_on_sqlite(table: str) -> Iterator[str]:
    """Yield triggers per row: SQLite has no others, and one writer."""

    def of(version: str, value: str) -> str:
        return value if value.startswith("'") else f"{version}.{value}"

    increment, decrement = "", ""
    for counted, counts, keys in COUNTS:
        if counted == table:
            columns, values = _columns_and_values(counts, keys)
            increment += (
                f"INSERT INTO {counts} ({', '.join(columns)}, count)"
                f" VALUES ({', '.join(of('NEW', value) for value in values)}, 1)"
                f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET count = count + 1; "
            )
            row = " AND ".join(f"{column} = {of('OLD', value)}" for column, value in keys.items())
            decrement += f"UPDATE {counts} SET count = count - 1 WHERE {row}; "
            decrement += f"DELETE FROM {counts} WHERE {row} AND count = 0; "
    yield f"CREATE TRIGGER count_{table}_insert AFTER INSERT ON {table} BEGIN {increment} END"
    yield f"CREATE TRIGGER count_{table}_delete AFTER DELETE ON {table} BEGIN {decrement} END"
    yield (
        f"CREATE TRIGGER count_{table}_update AFTER UPDATE OF status ON {table}"
        f" WHEN OLD.status <> NEW.status BEGIN {decrement} {increment} END"
    )


def _counting_on_postgresql(table: str) -> Iterator[str]:
    """Yield triggers per statement: one that changes a million rows writes each count once.

    Counts are written in one order, those of projects first, so that two writers cannot deadlock over them.
    """
    for event, rows in {
        "insert": {"new_rows": 1},
        "delete": {"old_rows": -1},
        "update": {"new_rows": 1, "old_rows": -1},
    }.items():
        body = ""
        for counted, counts, keys in COUNTS:
            if counted != table:
                continue
            columns, values = _columns_and_values(counts, keys)
            changed = ", ".join(_grouping(values))
            moved = " UNION ALL ".join(f"SELECT {changed}, {sign} AS change FROM {each}" for each, sign in rows.items())
            body += (
                f"INSERT INTO {counts} ({', '.join(columns)}, count)"
                f" SELECT {', '.join(values)}, sum(change) FROM ({moved}) AS moved"
                f" GROUP BY {changed} HAVING sum(change) <> 0 ORDER BY {changed}"
                f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET count = {counts}.count + EXCLUDED.count; "
            )
            if "old_rows" in rows:
                owner = "project_id" if counts == "project_counts" else "domain_id"
                body += (
                    f"DELETE FROM {counts} WHERE count <= 0 AND (organization_id, {owner}) IN"
                    f" (SELECT DISTINCT organization_id, {owner} FROM old_rows); "
                )
        yield (
            f"CREATE FUNCTION count_{table}_{event}() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN {body} RETURN NULL; END $$"
        )
        tables = " ".join(f"{name.removesuffix('_rows').upper()} TABLE AS {name}" for name in rows)
        yield (
            f"CREATE TRIGGER count_{table}_{event} AFTER {event.upper()} ON {table} REFERENCING {tables}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION count_{table}_{event}()"
        )


# --- Search -----------------------------------------------------------------------------------------------------------


def _search_on_sqlite(table: str, column: str) -> Iterator[str]:
    """Yield the statements that create an FTS5 trigram index, and the numbers table that maps its keys to ids.

    The rowids of the table itself would not do: VACUUM may change them.
    """
    numbers, texts, search = f"search_{table}_numbers", f"search_{table}_texts", f"search_{table}"
    yield f"CREATE TABLE {numbers} (number INTEGER PRIMARY KEY, id VARCHAR(36) NOT NULL UNIQUE)"
    yield f"INSERT INTO {numbers} (id) SELECT id FROM {table} ORDER BY rowid"
    yield f"CREATE VIEW {texts} AS SELECT number, {column} FROM {numbers} JOIN {table} ON {table}.id = {numbers}.id"
    yield (
        f"CREATE VIRTUAL TABLE {search} USING fts5({column}, content = '{texts}', content_rowid = 'number',"
        " tokenize = 'trigram')"
    )
    yield f"INSERT INTO {search} ({search}) VALUES ('rebuild')"
    number_of = f"SELECT number FROM {numbers} WHERE id"
    remove = (
        f"INSERT INTO {search} ({search}, rowid, {column}) VALUES ('delete', ({number_of} = OLD.id), OLD.{column}); "
    )
    add = f"INSERT INTO {search} (rowid, {column}) VALUES (({number_of} = NEW.id), NEW.{column}); "
    yield (
        f"CREATE TRIGGER {search}_insert AFTER INSERT ON {table}"
        f" BEGIN INSERT INTO {numbers} (id) VALUES (NEW.id); {add} END"
    )
    yield (
        f"CREATE TRIGGER {search}_delete AFTER DELETE ON {table}"
        f" BEGIN {remove} DELETE FROM {numbers} WHERE id = OLD.id; END"
    )
    yield (
        f"CREATE TRIGGER {search}_update AFTER UPDATE OF {column} ON {table}"
        f" WHEN OLD.{column} <> NEW.{column} BEGIN {remove} {add} END"
    )


def _search_on_postgresql(table: str, column: str) -> Iterator[str]:
    """Yield the statements that create a view to search through. Revision 0008 adds the index.

    Under row-level security PostgreSQL checks a row's organization before any operator that might leak the row: no
    tenant's search could use the index. The view restricts rows by an ordinary condition, which the planner may
    evaluate in any order.
    """
    columns = ["id", "organization_id", "project_id", "status", *_orders_of(table)]
    columns += ["domain_id"] if table == "mailboxes" else []
    yield f"CREATE VIEW search_{table} AS SELECT {', '.join(columns)} FROM {table} WHERE {OWN}"
    yield f"GRANT SELECT ON search_{table} TO postroom_tenant"


def _orders_of(table: str) -> Sequence[str]:
    return next(orders for name, _, orders in LISTS if name == table)


def _isolate_tenants() -> None:
    for table in ("project_counts", "domain_counts"):
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO postroom_tenant")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} TO postroom_tenant USING ({OWN})")
