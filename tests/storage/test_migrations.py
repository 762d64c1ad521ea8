"""Migrations of the schema from every revision to HEAD, on every engine."""

import asyncio
import secrets
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, func, select, text
from sqlalchemy.ext.asyncio import create_async_engine

from postroomd.storage.migrations import HEAD, current_revision, migrate, require_current
from postroomd.storage.schema import DERIVED_TABLES, HISTORY_INDEXES, SEARCHED, idempotency_keys, quota_usage
from tests.support.databases import ENGINES
from tests.support.migrated_rows import ROWS, all_rows, insert_rows, stored_schema
from tests.support.revisions import REVISIONS, migrate_to, reflect, run
from tools.postgres import PostgresServer

OWNERSHIP_BEFORE = "0009"  # the revision before that of domains' ownership

FOUND = {
    "sqlite": (
        "SELECT count(*) FROM {0} JOIN search_{0}_texts texts, search_{0}_terms AS found"
        " ON found.search_{0}_terms MATCH '\"' || texts.terms || '\"' AND texts.number = found.rowid"
        " JOIN search_{0}_numbers numbers ON numbers.number = found.rowid AND numbers.id = {0}.id"
    ),
    "postgresql": (
        "SELECT count(*) FROM {0} JOIN {0} AS found"
        " ON search_terms({0}.organization_id, {0}.{1}) <@ search_terms(found.organization_id, found.{1})"
    ),
}
"""The number of rows that the index of a table's terms finds by their whole text."""

Databases = Callable[[str], str]
"""Creates a database at a revision, empty but for the schema. Returns its URL."""


@pytest.fixture(scope="module")
def sqlite_revisions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a file at each revision, migrated one by one."""
    directory = tmp_path_factory.mktemp("revisions")
    for before, revision in zip([None, *REVISIONS], REVISIONS, strict=False):
        if before:
            shutil.copy(directory / before, directory / revision)
        migrate_to(f"sqlite+aiosqlite:///{directory}/{revision}", revision)
    return directory


@pytest.fixture(scope="module")
def postgresql_revisions(postgres: PostgresServer) -> str:
    """The prefix of the names of databases at each revision, migrated one by one."""
    prefix = f"revision_{secrets.token_hex(4)}_"
    for before, revision in zip([None, *REVISIONS], REVISIONS, strict=False):
        postgres.sql(f"CREATE DATABASE {prefix}{revision}" + (f" TEMPLATE {prefix}{before}" if before else ""))
        migrate_to(postgres.url(f"{prefix}{revision}"), revision)
    return prefix


@pytest.fixture
def sqlite_at(sqlite_revisions: Path, tmp_path: Path) -> Databases:
    return lambda revision: f"sqlite+aiosqlite:///{shutil.copy(sqlite_revisions / revision, tmp_path / 'copy.db')}"


@pytest.fixture
def postgresql_at(postgres: PostgresServer, postgresql_revisions: str) -> Iterator[Databases]:
    created = []

    def create(revision: str) -> str:
        name = f"copy_{secrets.token_hex(4)}"
        postgres.sql(f"CREATE DATABASE {name} TEMPLATE {postgresql_revisions}{revision}")
        created.append(name)
        return postgres.url(name)

    yield create
    for name in created:
        postgres.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=ENGINES)
def database_at(request: pytest.FixtureRequest) -> Databases:
    """Creates a database at a revision, on each engine in turn."""
    create: Databases = request.getfixturevalue(f"{request.param}_at")
    return create


def fail_at_the_end(url: str, last: str) -> None:
    """Run a migration that fails when all its revisions up to `last` have been run."""
    upgrade = command.upgrade

    def failing(config: Config, target: str) -> None:
        assert target == HEAD
        upgrade(config, last)
        raise ZeroDivisionError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(command, "upgrade", failing)
        with pytest.raises(ZeroDivisionError):
            migrate(url)


@pytest.mark.parametrize("revision", REVISIONS)
def test_rows_survive_migrations_that_fail_and_succeed_from_every_revision_to_head(
    database_at: Databases, revision: str
) -> None:
    """The failing one runs the next revision, and from the first revision all of them."""
    url = database_at(revision)
    assert run(url, current_revision) == revision
    tables = run(url, reflect)
    run(url, partial(insert_rows, tables=tables))
    rows_of_tables = partial(all_rows, tables=tables)
    before, schema = run(url, rows_of_tables), run(url, stored_schema)
    assert {len(rows) for rows in before.values()} == {ROWS}

    if revision != HEAD:
        fail_at_the_end(url, HEAD if revision == REVISIONS[0] else REVISIONS[REVISIONS.index(revision) + 1])
        assert run(url, current_revision) == revision
        assert (run(url, rows_of_tables), run(url, stored_schema)) == (before, schema)

    migrate(url)

    require_current(url)
    after = run(url, all_rows)
    for table, rows in before.items():
        kept = set(rows[0]) & set(after[table][0])
        assert [{name: row[name] for name in kept} for row in after[table]] == [
            {name: row[name] for name in kept} for row in rows
        ]
        assert kept == set(rows[0]), f"{table} has lost columns: assert here where their values went"


def test_a_failed_migration_of_an_empty_database_leaves_it_empty(empty: str) -> None:
    before = run(empty, stored_schema)
    fail_at_the_end(empty, HEAD)
    assert run(empty, stored_schema) == before
    assert run(empty, current_revision) is None
    migrate(empty)
    require_current(empty)


def test_a_mailbox_that_waits_for_a_ready_domain_becomes_due(database_at: Databases) -> None:
    """Before 0003 a worker searched for these: it may have stopped between a domain and its mailboxes."""
    url = database_at("0002")
    run(url, insert_rows)

    def waiting(connection: Connection) -> None:
        connection.execute(text("UPDATE mailboxes SET status = 'waiting_domain', updated_at = 1, due_at = 9"))
        connection.execute(text("UPDATE domains SET status = 'ready' WHERE name = 'name 0'"))

    run(url, waiting)
    migrate(url)

    def due(connection: Connection) -> list[Any]:
        statement = "SELECT d.status = 'ready', m.due_at FROM mailboxes m JOIN domains d ON d.id = m.domain_id"
        return sorted(tuple(row) for row in connection.execute(text(statement)))

    assert run(url, due) == [(False, 9), (False, 9), (True, 1)]


@pytest.mark.parametrize("revision", ["0002", "0007"])
def test_a_migration_counts_and_indexes_existing_rows(database_at: Databases, revision: str) -> None:
    url = database_at(revision)
    run(url, insert_rows)
    migrate(url)

    async def check() -> None:
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            counts = [await connection.scalar(select(func.sum(table.c.count))) for table in DERIVED_TABLES]
            assert counts == [3 * ROWS, ROWS, 4 * ROWS]  # aliases count for their organization and their mailbox
            stored = select(func.sum(func.length(idempotency_keys.c.key) + func.length(idempotency_keys.c.digest)))
            answers = select(func.sum(func.length(idempotency_keys.c.answer)))
            octets = await connection.scalar(select(func.sum(quota_usage.c.octets)))
            assert octets == await connection.scalar(stored) + await connection.scalar(answers)
            for table, column in SEARCHED:
                if column == "folded_name" and connection.dialect.name == "postgresql":
                    continue  # no display name existed: SQLite's index of the table has the address alone
                found = await connection.exec_driver_sql(FOUND[connection.dialect.name].format(table.name, column))
                assert found.scalar_one() == ROWS  # each by its whole text, and by no other organization
        await engine.dispose()

    asyncio.run(check())


def test_an_index_whose_build_was_interrupted_is_built_again(postgresql_empty: str, postgres: PostgresServer) -> None:
    database = postgresql_empty.rpartition("/")[2]
    migrate(postgresql_empty)
    broken, missing, *_ = [str(index.name) for index in HISTORY_INDEXES]
    postgres.sql(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{broken}'::regclass", database)
    postgres.sql(f"DROP INDEX {missing}", database)
    migrate(postgresql_empty)
    valid = "SELECT count(*) FROM pg_index WHERE indisvalid AND indexrelid = to_regclass('{}')"
    assert [postgres.sql(valid.format(name), database).strip() for name in (broken, missing)] == ["1", "1"]


RECORDS_BEFORE_0006 = {
    "autoconfig": ("optional", "cname_dns_type", "autoconfig.example.com", "autoconfig.mail.example."),
    "autodiscover": ("optional", "cname_dns_type", "autodiscover.example.com", "autodiscover.mail.example"),
    "caldav": ("optional", "srv_dns_type", "_caldavs._tcp.example.com", "0 1 443 dav.mail.example."),
    "carddav": ("optional", "srv_dns_type", "_carddavs._tcp.example.com.", "0 1 443 dav.mail.example"),
    "dkim": ("required", "txt_dns_type", "post._domainkey.example.com", "v=DKIM1; k=rsa; p=S0VZ"),
    "dmarc": ("recommended", "txt_dns_type", "_dmarc.example.com", "v=DMARC1; p=none"),
    "domain_validation": ("required", "txt_dns_type", "_postroom-challenge.example.com", "postroom-validation=1"),
    "imap": ("optional", "srv_dns_type", "_imaps._tcp.example.com", "0 1 993 imap.mail.example."),
    "mx": ("required", "mx_dns_type", "example.com", "10 mx.mail.example"),
    "pop3": ("optional", "srv_dns_type", "_pop3s._tcp.example.com", "10 1 995 pop3.mail.example"),
    "spf": ("required", "txt_dns_type", "example.com", "v=spf1 include:_spf.mail.example ~all"),
    "submission": ("optional", "srv_dns_type", "_submissions._tcp.example.com", "0 1 465 smtp.mail.example."),
}

RECORDS_AT_0006 = {
    "autoconfig": ("recommended", "cname_dns_type", "autoconfig.example.com.", "autoconfig.mail.example."),
    "autodiscover": ("recommended", "cname_dns_type", "autodiscover.example.com.", "autodiscover.mail.example."),
    "caldav": ("optional", "srv_dns_type", "_caldavs._tcp.example.com.", "0 1 443 dav.mail.example."),
    "carddav": ("optional", "srv_dns_type", "_carddavs._tcp.example.com.", "0 1 443 dav.mail.example."),
    "dkim": ("required", "txt_dns_type", "post._domainkey.example.com.", "v=DKIM1; k=rsa; p=S0VZ"),
    "dmarc": ("required", "txt_dns_type", "_dmarc.example.com.", "v=DMARC1; p=none"),
    "domain_validation": ("required", "txt_dns_type", "_postroom-challenge.example.com.", "postroom-validation=1"),
    "imap": ("recommended", "srv_dns_type", "_imaps._tcp.example.com.", "0 1 993 imap.mail.example."),
    "mx": ("required", "mx_dns_type", "example.com.", "10 mx.mail.example."),
    "pop3": ("recommended", "srv_dns_type", "_pop3s._tcp.example.com.", "10 1 995 pop3.mail.example."),
    "spf": ("required", "txt_dns_type", "example.com.", "v=spf1 include:_spf.mail.example ~all"),
    "submission": ("recommended", "srv_dns_type", "_submissions._tcp.example.com.", "0 1 465 smtp.mail.example."),
}


@pytest.mark.parametrize("revision", REVISIONS[: REVISIONS.index("0006")])
def test_migration_rewrites_levels_and_final_dots_of_records(database_at: Databases, revision: str) -> None:
    url = database_at(revision)
    run(url, insert_rows)

    def insert_records(connection: Connection) -> None:
        table = reflect(connection).tables["domain_records"]
        connection.execute(table.delete())
        domain = connection.execute(text("SELECT * FROM domains LIMIT 1")).mappings().one()
        row = {column.name: domain[column.name] for column in table.columns if column.name in domain} | {
            "domain_id": domain["id"],
            "status": "valid",
            "error": None,
        }
        names = ("level", "dns_type", "dns_name", "dns_value")
        for kind, values in RECORDS_BEFORE_0006.items():
            own = {"id": str(uuid4()), "kind": kind}
            connection.execute(table.insert(), row | own | dict(zip(names, values, strict=True)))

    run(url, insert_records)
    migrate(url)

    def records(connection: Connection) -> dict[str, tuple[Any, ...]]:
        statement = "SELECT kind, level, dns_type, dns_name, dns_value FROM domain_records WHERE status = 'valid'"
        return {kind: tuple(values) for kind, *values in connection.execute(text(statement))}

    assert run(url, records) == RECORDS_AT_0006


BEFORE_0007: dict[str, dict[str, Any]] = {
    "waiting": {"status": "waiting_payment", "payment": "first_awaited"},
    "failed": {"status": "payment_failed", "payment": "failed"},
    "suspended": {"status": "locked", "payment": "suspended"},
    "deleted": {"status": "deletion_scheduled", "payment": "first_awaited"},
    "again": {"status": "waiting_payment", "payment": "first_awaited", "created_at": 50},
    "again-deleted": {"status": "deletion_scheduled", "payment": "failed", "created_at": 50},
    "paid": {"status": "ready", "payment": "settled"},
    "paid-deleted": {"status": "deletion_scheduled", "payment": "settled"},
    "renewing": {"status": "renewing", "payment": "renewal_awaited", "subscription_period_started_at": 200},
    "restored": {"status": "waiting_payment", "payment": "first_awaited", "subscription_period_started_at": 200},
}
"""Mailboxes by local part. `again` was paid for once, and started anew; `restored` waits for a renewal's payment."""

NOT_STARTED = {"waiting", "failed", "suspended", "deleted", "again", "again-deleted"}


@pytest.mark.parametrize("revision", [each for each in REVISIONS if "0003" <= each < "0007"])
def test_first_payments_that_are_not_confirmed_lose_their_period(database_at: Databases, revision: str) -> None:
    url = database_at(revision)
    run(url, insert_rows)

    def insert_mailboxes(connection: Connection) -> None:
        tables = reflect(connection).tables
        mailboxes, payments = tables["mailboxes"], tables["payments"]
        template = dict(connection.execute(select(mailboxes).limit(1)).mappings().one())
        payment = dict(connection.execute(select(payments).limit(1)).mappings().one())
        common: dict[str, Any] = {
            "created_at": 100,
            "period_anchor_at": 100,
            "subscription_period_started_at": 100,
            "revision": 3,
        }
        common |= {"subscription_period": "monthly", "next_subscription_period_starts_at": 900}
        common["project_id"] = connection.execute(select(tables["projects"].c.id).limit(1)).scalar_one()
        for name, fields in BEFORE_0007.items():
            row = template | common | fields | {"id": str(uuid4()), "email": f"{name}@example.com"}
            connection.execute(mailboxes.insert(), row)
            status = "confirmed" if row["payment"] == "settled" else "pending"
            own = {"id": str(uuid4()), "mailbox_id": row["id"], "status": status}
            own["period_started_at"] = row["subscription_period_started_at"]
            connection.execute(payments.insert(), payment | own)
        connection.execute(text("UPDATE projects SET mailbox_count = 10"))

    run(url, insert_mailboxes)
    migrate(url)

    def migrated(connection: Connection) -> tuple[dict[str, Any], list[int]]:
        statement = (
            "SELECT email, subscription_period, subscription_period_started_at, next_subscription_period_starts_at,"
            " mailboxes.revision, period_started_at FROM mailboxes JOIN payments ON payments.mailbox_id = mailboxes.id"
            " WHERE email LIKE '%@example.com'"
        )
        rows = {email.partition("@")[0]: tuple(values) for email, *values in connection.execute(text(statement))}
        return rows, sorted(connection.execute(text("SELECT mailbox_count FROM projects")).scalars())

    rows, counts = run(url, migrated)
    assert rows == {
        name: (None, None, None, 4, None) if name in NOT_STARTED else ("monthly", start, 900, 3, start)
        for name, fields in BEFORE_0007.items()
        for start in [fields.get("subscription_period_started_at", 100)]
    }
    assert counts == [9, 10, 10]  # without `deleted`; `again-deleted` was paid for once
    assert run(url, integrity) == "ok"


def integrity(connection: Connection) -> str:
    """Return the result of SQLite's own check, which reads every row by its declaration."""
    if connection.dialect.name != "sqlite":
        return "ok"
    return str(connection.execute(text("PRAGMA integrity_check")).scalar_one())


def test_domains_from_before_their_history_are_neither_released_nor_propagating(database_at: Databases) -> None:
    url = database_at(OWNERSHIP_BEFORE)
    run(url, insert_rows)
    migrate(url)
    names = "cause, token_absent_since, token_checked_at, released_at, propagating, propagated_mailbox_id"

    def ownership(connection: Connection) -> set[tuple[Any, ...]]:
        return {tuple(row) for row in connection.execute(text(f"SELECT {names} FROM domains"))}

    assert run(url, ownership) == {("create", None, None, None, False, None)}
    assert run(url, all_rows)["domain_transitions"] == []
