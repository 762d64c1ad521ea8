"""Index trigrams by organization, so that the cost of a search does not depend on the addresses of other tenants.

A term of the index is an organization and a trigram together, and lists rows of that organization only. A term of the
organization beside one of the trigram would not do: an index intersects the lists of both, and so reads the one that
holds other tenants' rows. On SQLite, triggers write the terms as tokens of FTS5; on PostgreSQL, a GIN index has them as
64-bit hashes. Writers of domains and mailboxes wait while their index is built: on PostgreSQL about 30 seconds for a
million rows.
"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

from postroomd.storage.drivers.postgresql_isolation import CREATE_SEARCH_TERMS

revision = "0008"
down_revision = "0007"

SEARCHED = (("mailboxes", "email"), ("domains", "name"))

TRIGRAM_POSITIONS = 320 - 2
"""Maximum number of trigrams of an address: RFC 5321 allows for 64 octets, an @ and 255 octets."""


def upgrade() -> None:
    """Replace the trigram indexes that tenants share."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(CREATE_SEARCH_TERMS)
        for table, column in SEARCHED:
            op.execute(f"DROP INDEX IF EXISTS search_{table}_{column}")
            op.execute(
                f"CREATE INDEX search_{table}_{column} ON {table} USING gin (search_terms(organization_id, {column}))"
            )
            op.execute(f"ANALYZE {table}")  # the planner has no statistics of an expression before
        return
    op.execute("CREATE TABLE search_positions (position INTEGER PRIMARY KEY)")
    op.bulk_insert(
        sa.table("search_positions", sa.column("position")),
        [{"position": position} for position in range(1, TRIGRAM_POSITIONS + 1)],
    )
    for table, column in SEARCHED:
        for statement in _index_on_sqlite(table, column):
            op.execute(statement)


def _index_on_sqlite(table: str, column: str) -> Iterator[str]:
    """Yield the statements that replace an FTS5 index of trigrams by one of terms. The numbers of rows stay."""
    search, numbers, texts = f"search_{table}", f"search_{table}_numbers", f"search_{table}_texts"
    index = f"search_{table}_terms"
    for event in ("insert", "delete", "update"):
        yield f"DROP TRIGGER {search}_{event}"
    yield f"DROP TABLE {search}"
    yield f"DROP VIEW {texts}"

    def terms(row: str) -> str:
        """Return the expression of a row's terms: the digits of the organization's id and of the trigram's octets."""
        return (
            f"(SELECT group_concat(organization || hex(substr({row}.{column}, position, 3)), ' ')"
            f" FROM search_positions, (SELECT replace({row}.organization_id, '-', '') AS organization)"
            f" WHERE position <= length({row}.{column}) - 2)"
        )

    yield (
        f"CREATE VIEW {texts} AS SELECT number, {terms(table)} AS terms"
        f" FROM {numbers} JOIN {table} ON {table}.id = {numbers}.id"
    )
    yield (
        f"CREATE VIRTUAL TABLE {index} USING fts5(terms, content = '{texts}', content_rowid = 'number',"
        " tokenize = 'ascii', columnsize = 0)"
    )
    yield f"INSERT INTO {index} ({index}) VALUES ('rebuild')"
    number_of = f"SELECT number FROM {numbers} WHERE id"
    remove = f"INSERT INTO {index} ({index}, rowid, terms) VALUES ('delete', ({number_of} = OLD.id), {terms('OLD')}); "
    add = f"INSERT INTO {index} (rowid, terms) VALUES (({number_of} = NEW.id), {terms('NEW')}); "
    yield (
        f"CREATE TRIGGER {search}_insert AFTER INSERT ON {table}"
        f" BEGIN INSERT INTO {numbers} (id) VALUES (NEW.id); {add} END"
    )
    yield (
        f"CREATE TRIGGER {search}_delete AFTER DELETE ON {table}"
        f" BEGIN {remove} DELETE FROM {numbers} WHERE id = OLD.id; END"
    )
    yield (
        f"CREATE TRIGGER {search}_update AFTER UPDATE OF organization_id, {column} ON {table}"
        f" WHEN OLD.{column} <> NEW.{column} OR OLD.organization_id <> NEW.organization_id"
        f" BEGIN {remove} {add} END"
    )
