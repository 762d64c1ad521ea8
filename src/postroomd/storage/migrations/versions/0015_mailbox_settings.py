"""Add what tenants set of a mailbox: its display name, which searches find, its storage quota, and its switches.

No existing row is rewritten, and no index of existing rows is built: none of them has a display name. On PostgreSQL a
partial index has the terms of display names; on SQLite the terms of a name follow those of the address in one index.
"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

OCTETS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SWITCHES = ("login_disabled", "sending_disabled", "receiving_disabled")
NAMED = ("organization_id", "folded_name", "email", "status", "project_id", "domain_id", "id")

FIRST_POSITION = 320 - 2 + 1
LAST_POSITION = 320 + 1 + 3 * 128 - 2
"""The last trigram of an address, a separator, and a display name of 128 characters, which folding may triple."""

OWN = "organization_id = NULLIF(current_setting('postroom.organization_id', true), '')::uuid"


def upgrade() -> None:
    """Add the columns, and let the search indexes cover display names."""
    op.add_column("mailboxes", sa.Column("display_name", sa.Text(), nullable=False, server_default=""))
    op.add_column("mailboxes", sa.Column("folded_name", OCTETS))
    op.add_column("mailboxes", sa.Column("storage_quota_bytes", sa.BigInteger(), nullable=False, server_default="0"))
    for switch in SWITCHES:
        op.add_column("mailboxes", sa.Column(switch, sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index(
        "ix_mailboxes_named",
        "mailboxes",
        NAMED,
        sqlite_where=sa.text("folded_name IS NOT NULL"),
        postgresql_where=sa.text("folded_name IS NOT NULL"),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE INDEX search_mailboxes_folded_name ON mailboxes"
            " USING gin (search_terms(organization_id, folded_name)) WHERE folded_name IS NOT NULL"
        )
        columns = "id, organization_id, project_id, status, created_at, updated_at, email, domain_id, folded_name"
        op.execute(f"CREATE OR REPLACE VIEW search_mailboxes AS SELECT {columns} FROM mailboxes WHERE {OWN}")
        return
    op.bulk_insert(
        sa.table("search_positions", sa.column("position")),
        [{"position": position} for position in range(FIRST_POSITION, LAST_POSITION + 1)],
    )
    for statement in _index_on_sqlite():
        op.execute(statement)


def _index_on_sqlite() -> Iterator[str]:
    """Yield the statements that replace the view and the triggers of migration 0008, whose index stays valid."""
    for event in ("insert", "delete", "update"):
        yield f"DROP TRIGGER search_mailboxes_{event}"
    yield "DROP VIEW search_mailboxes_texts"

    def terms(row: str) -> str:
        """Return the expression of a row's terms, as in 0008. No search contains the separator, a control character."""
        return (
            "(SELECT group_concat(organization || hex(substr(text, position, 3)), ' ')"
            f" FROM search_positions, (SELECT replace({row}.organization_id, '-', '') AS organization,"
            f" {row}.email || coalesce(char(10) || {row}.folded_name, '') AS text)"
            " WHERE position <= length(text) - 2)"
        )

    yield (
        f"CREATE VIEW search_mailboxes_texts AS SELECT number, {terms('mailboxes')} AS terms"
        " FROM search_mailboxes_numbers JOIN mailboxes ON mailboxes.id = search_mailboxes_numbers.id"
    )
    index, number_of = "search_mailboxes_terms", "SELECT number FROM search_mailboxes_numbers WHERE id"
    remove = f"INSERT INTO {index} ({index}, rowid, terms) VALUES ('delete', ({number_of} = OLD.id), {terms('OLD')}); "
    add = f"INSERT INTO {index} (rowid, terms) VALUES (({number_of} = NEW.id), {terms('NEW')}); "
    yield (
        "CREATE TRIGGER search_mailboxes_insert AFTER INSERT ON mailboxes"
        f" BEGIN INSERT INTO search_mailboxes_numbers (id) VALUES (NEW.id); {add} END"
    )
    yield (
        "CREATE TRIGGER search_mailboxes_delete AFTER DELETE ON mailboxes"
        f" BEGIN {remove} DELETE FROM search_mailboxes_numbers WHERE id = OLD.id; END"
    )
    yield (
        "CREATE TRIGGER search_mailboxes_update AFTER UPDATE OF organization_id, email, folded_name ON mailboxes"
        " WHEN OLD.email <> NEW.email OR OLD.organization_id <> NEW.organization_id"
        f" OR OLD.folded_name IS NOT NEW.folded_name BEGIN {remove} {add} END"
    )
