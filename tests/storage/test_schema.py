"""The migrated schema equals the declared one, and a start on any other database fails."""

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import (
    Connection,
    inspect,
    make_url,
    text,
)
from sqlalchemy.engine.interfaces import ReflectedIndex

from postroomd.domain.errors import SchemaMismatch
from postroomd.storage.drivers import driver_for
from postroomd.storage.mail_views import MAIL_VIEWS
from postroomd.storage.migrations import HEAD, current_revision, migrate, require_current
from postroomd.storage.schema import metadata
from tests.support.databases import NewDatabase
from tests.support.migrated_rows import all_rows, insert_rows, stored_schema
from tests.support.revisions import REVISIONS, is_declared, run, script_directory


@pytest.fixture
def current(new_database: NewDatabase) -> str:
    """The URL of an empty database that `migrate` has brought to HEAD, on each engine in turn."""
    return new_database()


def normalized(index: ReflectedIndex) -> dict[str, Any]:
    """Return an index with the condition of a partial index as text."""
    options = {name: str(option) for name, option in index.get("dialect_options", {}).items()}
    return {**index, "dialect_options": options}


def describe(connection: Connection) -> dict[str, Any]:
    """Return the schema as reflected by the engine."""
    tables = inspect(connection)
    return {
        table: {
            "columns": [
                {**column, "type": column["type"].compile(connection.dialect)} for column in tables.get_columns(table)
            ],
            "primary key": tables.get_pk_constraint(table),
            "foreign keys": sorted(tables.get_foreign_keys(table), key=lambda key: str(key["name"])),
            "unique": sorted(tables.get_unique_constraints(table), key=lambda unique: str(unique["name"])),
            "indexes": sorted(
                (normalized(index) for index in tables.get_indexes(table) if is_declared(str(index["name"]))),
                key=lambda index: str(index["name"]),
            ),
        }
        for table in sorted(tables.get_table_names())
        if is_declared(table)
    }


def test_the_migrated_schema_equals_the_declared_tables(current: str) -> None:
    def differences(connection: Connection) -> Any:
        context = MigrationContext.configure(
            connection,
            opts={"compare_type": True, "compare_server_default": True, "target_metadata": metadata}
            | {"include_name": is_declared},
        )
        return compare_metadata(context, metadata)

    assert run(current, differences) == []


def test_the_migrated_schema_equals_the_created_tables_in_every_detail(current: str) -> None:
    migrated = run(current, describe)

    def created(connection: Connection) -> dict[str, Any]:
        for view in MAIL_VIEWS:
            connection.execute(text(f"DROP VIEW {view}"))
        for table in reversed(metadata.sorted_tables):
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"DROP VIEW IF EXISTS search_{table.name}"))
            connection.execute(text(f"DROP TABLE {table.name}"))
        metadata.create_all(connection)
        return describe(connection)

    assert run(current, created) == migrated
    assert sorted(migrated) == sorted(metadata.tables)
    partial = {
        index["name"]
        for table in migrated.values()
        for index in table["indexes"]
        if any(option.endswith("_where") for option in index["dialect_options"])
    }
    assert partial == {
        "uq_domains_proved_name",
        "ix_domains_next_check_at",
        "ix_domains_propagating",
        "ix_dkim_rotations_retires_at",
        "ix_domains_dkim_key_id",
        "ix_mailboxes_waiting",
        "ix_mailboxes_to_purge",
        "ix_mailboxes_never_paid",
        "ix_mailboxes_named",
        "ix_aliases_to_request",
        "ix_forwardings_to_request",
        "ix_payments_open",
        "ix_provisions_pending",
        "ix_payments_settled_at",
        "ix_provisions_settled_at",
    }


def test_migrating_again_changes_nothing(current: str) -> None:
    run(current, insert_rows)
    before = run(current, stored_schema), run(current, all_rows)
    migrate(current)
    assert (run(current, stored_schema), run(current, all_rows)) == before
    assert run(current, current_revision) == HEAD


def test_the_revisions_are_linear_and_end_at_head() -> None:
    assert script_directory().get_heads() == [HEAD]
    assert sorted(REVISIONS) == REVISIONS
    assert REVISIONS[-1] == HEAD
    assert REVISIONS[0] == "0001"


# --- Startup ----------------------------------------------------------------------------------------------------------


def startup_error(url: str) -> str:
    """Return the message, one line, with which a start on the database fails."""
    with pytest.raises(SchemaMismatch) as caught:
        require_current(url)
    message = str(caught.value)
    assert "\n" not in message
    return message


def set_revision(url: str, revision: str) -> None:
    def update(connection: Connection) -> None:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})

    run(url, update)


def where(url: str) -> str:
    return driver_for(url).describe(make_url(url), with_user=True)


def test_startup_on_a_current_database_succeeds(current: str) -> None:
    require_current(current)


def test_startup_on_an_empty_database_fails(empty: str) -> None:
    assert startup_error(empty) == f"{where(empty)}: it is empty: run `postroom migrate` first"


def test_startup_on_a_database_behind_head_fails(current: str) -> None:
    for revision in ("0000", REVISIONS[0], REVISIONS[-2]):
        set_revision(current, revision)
        message = f"{where(current)}: it is at schema {revision}, behind {HEAD}: run `postroom migrate` first"
        assert startup_error(current) == message


def test_startup_on_and_migration_of_a_database_ahead_of_head_fail(current: str) -> None:
    set_revision(current, "9999")
    before = run(current, stored_schema)
    message = f"{where(current)}: it is at schema 9999, ahead of {HEAD}: run a newer Postroom"
    assert startup_error(current) == message
    with pytest.raises(SchemaMismatch) as caught:
        migrate(current)
    assert str(caught.value) == message
    assert run(current, stored_schema) == before
    assert run(current, current_revision) == "9999"
