"""The views of mail servers: their columns, what they show, how they are looked up, and who may read them."""

import asyncio
import itertools
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest
from sqlalchemy import Connection, inspect, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.diagnosis import Condition, Finding
from postroomd.domain.errors import RoleRefused
from postroomd.domain.events import ProvisionStanding
from postroomd.domain.mail_access import MailAccess, mail_access
from postroomd.domain.model import AliasStatus, DomainStatus, ForwardingStatus, Mailbox, MailboxStatus
from postroomd.mailserver.files import FILES
from postroomd.mailserver.options import DatabaseAccess, MailServer
from postroomd.storage.drivers import driver_of, migration_engine
from postroomd.storage.mail_role import create_mail_role
from postroomd.storage.mail_views import MAIL_VIEWS, mail_views_set_aside
from postroomd.storage.protocols.repository import Repository
from tests.support.factories import (
    NOW,
    SECRETS,
    Tenant,
    new_alias,
    new_domain,
    new_forwarding,
    new_mailboxes,
    new_tenant,
    rotate_dkim_key,
)
from tests.support.stores import Store
from tools.postgres import PostgresServer

READY = DomainStatus.READY
PASSWORD = "a password of the mail role"
SWITCHES = ("login_disabled", "sending_disabled", "receiving_disabled")


async def rows(raw: AsyncEngine, query: str) -> list[dict[str, Any]]:
    async with raw.connect() as connection:
        return [dict(row) for row in (await connection.execute(text(query))).mappings()]


async def change(raw: AsyncEngine, statement: str, **values: Any) -> None:
    async with raw.begin() as connection:
        await connection.execute(text(statement), values)


# --- The contract -----------------------------------------------------------------------------------------------------


async def test_the_views_have_the_columns_of_their_version(raw: AsyncEngine) -> None:
    """A change of these is a change of the contract: add a view of the next version instead."""

    def columns(connection: Connection) -> dict[str, tuple[str, ...]]:
        found = inspect(connection)
        views = [name for name in found.get_view_names() if name.startswith("mail_")]
        return {view: tuple(column["name"] for column in found.get_columns(view)) for view in views}

    async with raw.connect() as connection:
        found = await connection.run_sync(columns)
    assert found == {
        "mail_v1_domains": ("name",),
        "mail_v1_users": (
            *("id", "domain", "local_part", "email", "display_name", "password", "status", "may_log_in", "may_send"),
            *("may_receive", "smtp_reply", "storage_quota_bytes"),
        ),
        "mail_v1_aliases": (
            *("id", "domain", "local_part", "email", "catch_all", "mailbox_id", "mailbox_email", "status"),
            *("may_log_in", "may_send", "may_receive", "smtp_reply"),
        ),
        "mail_v1_forwardings": ("id", "domain", "local_part", "email", "mailbox_id", "destination", "keep_copy"),
        "mail_v1_dkim": ("domain", "selector", "public_value"),
        "mail_v1_purged": ("id", "purged_at"),
    }
    assert found == MAIL_VIEWS


async def test_the_dkim_view_has_the_key_that_signs(repository: Repository, tenant: Tenant, raw: AsyncEngine) -> None:
    domain = await new_domain(repository, tenant)

    async def shown() -> list[tuple[str, str, str]]:
        return [tuple(row.values()) for row in await rows(raw, "SELECT * FROM mail_v1_dkim")]

    before = ("example.com", SECRETS.dkim_selector, "v=DKIM1; h=sha256; k=rsa; p=S0VZ")
    assert await shown() == [before]
    await rotate_dkim_key(repository, domain, "new")
    assert await shown() == [before]
    await rotate_dkim_key(repository, domain, immediately=True)
    assert await shown() == [("example.com", "new", "v=DKIM1; h=sha256; k=rsa; p=TkVX")]


USE: dict[str, dict[str, Any]] = {
    "used": {},
    "never paid": {"subscription_period": None, "period_anchor_at": NOW, "created_at": NOW},
    "never provisioned": {"provision": ProvisionStanding.CREATE_AWAITED},
}


async def test_a_mailbox_has_the_access_of_the_table_in_every_state(
    repository: Repository, tenant: Tenant, raw: AsyncEngine
) -> None:
    domain = await new_domain(repository, tenant)
    (ann,) = await new_mailboxes(repository, domain, "ann")
    await new_alias(repository, ann, "info")
    await new_forwarding(repository, ann, "friend@example.net")
    used = replace(ann, created_at=NOW.replace(year=2023))
    seen = set()
    for status, use, switched in itertools.product(
        MailboxStatus, USE, itertools.product((False, True), repeat=len(SWITCHES))
    ):
        state = replace(used, status=status, **USE[use], **dict(zip(SWITCHES, switched, strict=True)))
        await store(raw, state)
        expected = mail_access(state, READY)
        assert expected
        (user,) = await rows(raw, "SELECT * FROM mail_v1_users")
        (alias,) = await rows(raw, "SELECT * FROM mail_v1_aliases")
        forwardings = await rows(raw, "SELECT * FROM mail_v1_forwardings")
        for row in (user, alias):
            assert access_of(row, forward=len(forwardings) == 1) == expected, (state, row)
            assert row["status"] == status
        seen.add(expected)
    assert len(seen) > len(SWITCHES)


async def store(raw: AsyncEngine, state: Mailbox) -> None:
    """Write a mailbox's state without the rules of transitions."""
    fields = ("status", "provision", "subscription_period", "period_anchor_at", "created_at", *SWITCHES)
    values = {name: getattr(state, name) for name in fields}
    values |= {name: int(values[name].timestamp() * 1_000_000) for name in ("period_anchor_at", "created_at")}
    values["subscription_period"] = state.subscription_period and state.subscription_period.value
    values |= {"status": state.status.value, "provision": state.provision.value}
    assignments = ", ".join(f"{name} = :{name}" for name in values)
    await change(raw, f"UPDATE mailboxes SET {assignments}", **values)


def access_of(row: dict[str, Any], *, forward: bool) -> MailAccess:
    return MailAccess(
        log_in=row["may_log_in"] == 1,
        send=row["may_send"] == 1,
        receive=row["may_receive"] == 1,
        forward=forward,
        reply=row["smtp_reply"],
    )


async def test_only_ready_domains_and_their_resources_are_visible(
    repository: Repository, tenant: Tenant, other: Tenant, raw: AsyncEngine
) -> None:
    owned = await new_domain(repository, tenant)
    copy = await new_domain(repository, other, status=DomainStatus.WAITING_VALIDATION)
    for domain in (owned, copy):
        (ann,) = await new_mailboxes(repository, domain, "ann")
        await new_alias(repository, ann, "info")
        await new_forwarding(repository, ann, "friend@example.net")
    for status in DomainStatus:
        await change(raw, "UPDATE domains SET status = :status WHERE id = :id", status=status.value, id=owned.id)
        for view in set(MAIL_VIEWS) - {"mail_v1_purged"}:
            found = await rows(raw, f"SELECT * FROM {view}")
            assert len(found) == (status is READY), (view, status)
    await change(raw, "UPDATE domains SET status = 'ready' WHERE id = :id", id=owned.id)
    (user,) = await rows(raw, "SELECT * FROM mail_v1_users")
    assert (user["email"], user["password"], user["domain"], user["local_part"]) == (
        "ann@example.com",
        "<ann>",
        "example.com",
        "ann",
    )
    (dkim,) = await rows(raw, "SELECT * FROM mail_v1_dkim")
    assert (dkim["domain"], dkim["selector"]) == ("example.com", SECRETS.dkim_selector)
    assert dkim["public_value"].startswith("v=DKIM1;")


async def test_aliases_and_forwardings_are_visible_while_they_are_in_use(
    repository: Repository, tenant: Tenant, raw: AsyncEngine
) -> None:
    (ann,) = await new_mailboxes(repository, await new_domain(repository, tenant), "ann")
    await new_alias(repository, ann, "info")
    await new_forwarding(repository, ann, "friend@example.net")
    replies = {}
    for status in AliasStatus:
        await change(raw, "UPDATE aliases SET status = :status", status=status.value)
        replies[status] = [row["smtp_reply"][:9] for row in await rows(raw, "SELECT * FROM mail_v1_aliases")]
    assert replies == {AliasStatus.PROVISIONING: ["451 4.2.1"], AliasStatus.READY: [""], AliasStatus.DELETING: []}
    visible = set()
    for forwarding_status in ForwardingStatus:
        await change(raw, "UPDATE forwardings SET status = :status", status=forwarding_status.value)
        if await rows(raw, "SELECT * FROM mail_v1_forwardings"):
            visible.add(forwarding_status)
    assert visible == {ForwardingStatus.READY, ForwardingStatus.UPDATING}


async def test_a_purged_mailbox_is_listed_with_its_time(
    repository: Repository, tenant: Tenant, raw: AsyncEngine
) -> None:
    (ann,) = await new_mailboxes(repository, await new_domain(repository, tenant), "ann")
    assert await rows(raw, "SELECT * FROM mail_v1_purged") == []
    await change(
        raw,
        "INSERT INTO tombstones (mailbox_id, organization_id, project_id, domain_id, address_hash, purged_at, cause)"
        " SELECT id, organization_id, project_id, domain_id, :hash, 1700000000000000, 'purge_due' FROM mailboxes",
        hash=b"x" * 32,
    )
    (purged,) = await rows(raw, "SELECT * FROM mail_v1_purged")
    assert (str(purged["id"]), purged["purged_at"]) == (ann.id, 1_700_000_000_000_000)


# --- Lookups ----------------------------------------------------------------------------------------------------------

DATABASES = {
    "sqlite": DatabaseAccess(file=Path("/postroom.db")),
    "postgresql": DatabaseAccess(host="db.internal", name="postroom", user="mail"),
}
SERVER = MailServer(
    database=DATABASES["sqlite"],
    hostname="mail.example.org",
    directory=Path("/etc"),
    tls_cert=Path("/cert.pem"),
    tls_key=Path("/key.pem"),
    aliases_may_send=True,
)


def lookups(engine: str) -> dict[str, str]:
    """Return every query of the mail servers' files for ann@example.com on an engine, by file and name."""
    found = {}
    for server in ("dovecot", "postfix"):
        for file in FILES[server](replace(SERVER, database=DATABASES[engine])):
            for name, query in re.findall(r"^(\w*query) = (.*)$", file.text.replace("\\\n", " "), re.MULTILINE):
                found[f"{file.name} {name}"] = filled(query)
    del found["postroom-sql.conf.ext iterate_query"]  # lists every mailbox
    return found


def filled(query: str) -> str:
    """Return a query with the parts of an address in place of its variables."""
    parts = {"%Ld": "example.com", "%Ln": "ann", "%d": "example.com", "%u": "ann", "%s": "example.com", "%%": "%"}
    parts["%{service}"] = "smtp"
    return re.sub("|".join(map(re.escape, parts)), lambda variable: parts[variable[0]], query)


LOOKUPS = {engine: lookups(engine) for engine in DATABASES}


@pytest.mark.parametrize("name", LOOKUPS["sqlite"])
async def test_a_lookup_searches_indexes_and_scans_nothing(
    repository: Repository, tenant: Tenant, raw: AsyncEngine, name: str
) -> None:
    domain = await new_domain(repository, tenant)
    (ann,) = await new_mailboxes(repository, domain, "ann")
    await new_alias(repository, ann, "info")
    await new_forwarding(repository, ann, "friend@example.net")
    for step in await plan(raw, LOOKUPS[raw.dialect.name][name]):
        assert not re.search(r"\bSCAN (?!found|reached|\(subquery|CONSTANT|\d+ )|Seq Scan", step), step
        assert "hashed" not in step, "PostgreSQL would read every domain"
        if "domains" in step or re.search(r"SEARCH d\b", step):
            assert "name" in step or "Cond" not in step, step


HASHES = {
    "{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$abcdefghijklmnopqrstuv$" + "X" * 43: "abcdefgh",
    "{ARGON2ID}$argon2id$v=19$m=8192,t=2,p=1$abcdefghijklmnopqrstuv$" + "X" * 86: "",  # a longer digest
    "{ARGON2ID}$argon2id$v=19$m=8192,t=2,p=1$abcdefghijk$" + "X" * 22: "",  # a shorter salt and digest
    "{BLF-CRYPT}$2y$05$abcdefghijklmnopqrstuv" + "X" * 31: "",
    "{SHA512-CRYPT}$6$rounds=5000$abcdefghijklmnop$" + "X" * 86: "",
    "{SHA256-CRYPT}$5$abcdefghijklmnop$" + "X" * 43: "",
    "{PBKDF2}$1$abcdefghijklmnop$5000$" + "0" * 40: "",
    "{SSHA512}" + "X" * 92: "",
}


async def test_the_user_name_of_a_submission_session_has_nothing_of_a_digest_and_is_the_same_in_both_servers(
    repository: Repository, tenant: Tenant, raw: AsyncEngine
) -> None:
    (ann,) = await new_mailboxes(repository, await new_domain(repository, tenant), "ann")
    await new_alias(repository, ann, "info")
    lookups_of_engine = LOOKUPS[raw.dialect.name]
    login_query = lookups_of_engine["postroom-sql.conf.ext password_query"].replace(":", r"\:")
    sender = lookups_of_engine["postroom-senders.cf query"]
    for password, part in HASHES.items():
        await change(raw, "UPDATE mailboxes SET password_hash = :password", password=password)
        (login,) = await rows(raw, login_query)
        assert login["user"] == f"{ann.id}/{part}/ann@example.com"
        for query in (sender, sender.replace("'ann'", "'info'")):
            assert [[*row.values()] for row in await rows(raw, query)] == [[login["user"]]]
    (login,) = await rows(raw, login_query.replace("'smtp' =", "'imap' ="))
    assert login["user"] is None


async def test_a_mailbox_without_a_copy_keeps_mail_that_would_come_back(
    repository: Repository, tenant: Tenant, raw: AsyncEngine
) -> None:
    domain = await new_domain(repository, tenant)
    names = ("ann", "bob", "cid", "dan", "eve", "fay", "gus", "hal", "ida")
    boxes = dict(zip(names, await new_mailboxes(repository, domain, *names), strict=True))
    await new_alias(repository, boxes["eve"], "info")
    await new_alias(repository, boxes["gus"], "")
    forwardings = {
        "ann": ["Bob+detail@example.com", "friend@example.net"],
        "bob": ["cid@example.com"],
        "cid": ["ann@example.com"],
        "dan": ["ann@example.com"],  # into the loop, and not part of it
        "eve": ["fay@example.com"],
        "fay": ["info@example.com"],
        "gus": ["nobody@example.com"],
        "hal": ["ida@example.com"],
        "ida": ["hal@example.com"],
    }
    for name, destinations in forwardings.items():
        for destination in destinations:
            await new_forwarding(repository, boxes[name], destination)
    await change(
        raw,
        "INSERT INTO mailbox_forwardings"
        " (mailbox_id, organization_id, project_id, keep_copy, enabled, created_at, updated_at)"
        " SELECT id, organization_id, project_id, false, true, created_at, updated_at FROM mailboxes"
        " WHERE email <> 'ida@example.com'",
    )
    kept = {}
    for name in names:
        found = await rows(raw, LOOKUPS[raw.dialect.name]["postroom-recipients.cf query"].replace("'ann'", f"'{name}'"))
        kept[name] = f"{name}@example.com" in {value for row in found for value in row.values()}
    assert kept == dict.fromkeys(names, True) | {"dan": False, "hal": False}


async def plan(raw: AsyncEngine, query: str) -> list[str]:
    """Return the steps of a query's plan, on PostgreSQL as if its tables were large."""
    async with raw.connect() as connection:
        if connection.dialect.name == "sqlite":
            found = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")
            return [row.detail for row in found]
        for kind in ("seqscan", "bitmapscan"):
            await connection.exec_driver_sql(f"SET LOCAL enable_{kind} = off")
        found = await connection.exec_driver_sql(f"EXPLAIN {query}")
        return [row[0] for row in found]


# --- Later migrations -------------------------------------------------------------------------------------------------


async def test_views_that_are_set_aside_while_a_table_is_recreated_come_back_as_they_were(
    repository: Repository, tenant: Tenant, store: Store, raw: AsyncEngine
) -> None:
    (ann,) = await new_mailboxes(repository, await new_domain(repository, tenant), "ann")
    await new_forwarding(repository, ann, "friend@example.net")
    before = {view: await rows(raw, f"SELECT * FROM {view}") for view in MAIL_VIEWS}

    def recreate(connection: Connection) -> None:
        definitions = privileges_of(connection)
        with mail_views_set_aside(connection):
            assert privileges_of(connection) == {}
            connection.execute(text("CREATE TABLE forwardings_copy AS SELECT * FROM forwardings"))
            connection.execute(text("ALTER TABLE forwardings RENAME TO forwardings_before"))
            connection.execute(text("ALTER TABLE forwardings_copy RENAME TO forwardings"))
        assert privileges_of(connection) == definitions
        for view in MAIL_VIEWS:
            found = [dict(row) for row in connection.execute(text(f"SELECT * FROM {view}")).mappings()]
            assert found == before[view]
        raise Undone

    engine = migration_engine(store.url)
    with pytest.raises(Undone):
        async with engine.begin() as connection:
            await connection.run_sync(recreate)
    await engine.dispose()


class Undone(Exception):
    """Rolls a test's change of the schema back: the next test uses the database."""


def privileges_of(connection: Connection) -> dict[str, Sequence[str]]:
    """Return the options, owner and readers of each view. A definition's own text changes when it is read back."""
    found = driver_of(connection).view_definitions(connection, "mail_v")
    return {name: (query.partition(" AS ")[0], *others) for name, (query, *others) in found}


# --- The role ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def role(postgres: PostgresServer, postgresql_store: str) -> Iterator[str]:
    """The mail servers' role in PostgreSQL."""
    name = "mail_reader"
    create_mail_role(postgresql_store, name, PASSWORD)
    yield name
    database = str(make_url(postgresql_store).database)
    postgres.sql(f"DROP OWNED BY {name}; DROP ROLE {name}", database)


@pytest.fixture
async def reader(postgresql_store: str, role: str) -> AsyncIterator[Any]:
    """A connection of the role."""
    connection = await connect(postgresql_store, role, PASSWORD)
    yield connection
    await connection.close()


async def connect(url: str, role: str, password: str) -> Any:
    parsed = make_url(url)
    return await asyncpg.connect(
        host=parsed.host, port=parsed.port, database=parsed.database, user=role, password=password
    )


@pytest.mark.xdist_group("postgresql")
async def test_the_role_reads_the_views_of_every_tenant_and_nothing_else(postgresql_store: str, reader: Any) -> None:
    store = Store(postgresql_store)
    repository = await store.open()
    for name in ("one.test", "two.test"):
        (ann,) = await new_mailboxes(
            repository, await new_domain(repository, await new_tenant(repository), name), "ann"
        )
        await new_alias(repository, ann, "info")
    await store.close()
    for view in MAIL_VIEWS:
        await reader.fetch(f"SELECT * FROM {view}")
    found = await reader.fetch("SELECT domain FROM mail_v1_users ORDER BY domain")
    assert [row["domain"] for row in found] == ["one.test", "two.test"]
    tables = await reader.fetch(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'v') AND relnamespace = 'public'::regnamespace"
    )
    others = {row["relname"] for row in tables} - set(MAIL_VIEWS)
    assert {"mailboxes", "domains", "api_keys", "search_mailboxes", "alembic_version"} <= others
    for table in others:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.fetch(f"SELECT * FROM {table}")
    await reader.execute("SET default_transaction_read_only = off")
    for statement in (
        "UPDATE mail_v1_domains SET name = 'x'",
        "DELETE FROM mail_v1_purged",
        "CREATE TABLE anything (x int)",
        "CREATE TEMPORARY TABLE anything (x int)",
        "CREATE FUNCTION pg_temp.anything() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SET ROLE postroom_tenant",
        "SET ROLE postgres",
    ):
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ObjectNotInPrerequisiteStateError)):
            await reader.execute(statement)


@pytest.mark.xdist_group("postgresql")
async def test_a_function_of_the_reader_does_not_see_rows_that_a_view_hides(
    postgres: PostgresServer, postgresql_store: str, role: str, reader: Any
) -> None:
    database = str(make_url(postgresql_store).database)
    postgres.sql(f"GRANT TEMPORARY ON DATABASE {database} TO {role}")  # as where Postroom does not own the database
    store = Store(postgresql_store)
    repository = await store.open()
    tenant = await new_tenant(repository)
    domain = await new_domain(repository, tenant, "unproved.test", DomainStatus.WAITING_VALIDATION)
    await new_mailboxes(repository, domain, "hidden")
    await store.close()
    await reader.execute("SET default_transaction_read_only = off")
    await reader.execute(
        "CREATE FUNCTION pg_temp.peek(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS"
        " $$ BEGIN RAISE EXCEPTION 'seen: %', $1; END $$"
    )
    assert await reader.fetch("SELECT * FROM mail_v1_users WHERE pg_temp.peek(password)") == []


@pytest.mark.xdist_group("postgresql")
async def test_creating_the_role_again_sets_its_password(postgresql_store: str, role: str) -> None:
    await asyncio.to_thread(create_mail_role, postgresql_store, role, "another password")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect(postgresql_store, role, PASSWORD)
    connection = await connect(postgresql_store, role, "another password")
    await connection.fetch("SELECT * FROM mail_v1_users")
    await connection.close()


@pytest.mark.xdist_group("postgresql")
async def test_the_diagnosis_names_what_the_role_lacks(
    postgres: PostgresServer, postgresql_store: str, role: str
) -> None:
    database = str(make_url(postgresql_store).database)
    repository = await Store(postgresql_store).open()

    async def finding() -> Finding:
        (found,) = [each for each in await repository.diagnose() if each.check.startswith("mail role")]
        return found

    found = await finding()
    assert (found.check, found.condition, found.detail) == (f"mail role {role}", Condition.OK, "can read every view")
    postgres.sql(f"REVOKE SELECT ON mail_v1_dkim FROM {role}; ALTER ROLE {role} NOLOGIN", database)
    found = await finding()
    assert (found.condition, found.detail) == (Condition.ERROR, "can't read mail_v1_dkim, can't log in")
    assert f"--name {role}" in found.remedy
    await asyncio.to_thread(create_mail_role, postgresql_store, role, PASSWORD)
    assert (await finding()).condition is Condition.OK
    postgres.sql(f"GRANT TEMPORARY ON DATABASE {database} TO PUBLIC")
    found = await finding()
    assert (found.condition, found.detail) == (Condition.WARNING, "can read every view, and create temporary tables")
    await asyncio.to_thread(create_mail_role, postgresql_store, role, PASSWORD)
    assert (await finding()).condition is Condition.OK
    postgres.sql("CREATE ROLE mail_owner; ALTER VIEW mail_v1_users OWNER TO mail_owner", database)
    try:
        found = await _first_error(repository)
        assert (found.check, found.detail) == (
            "mail role",
            "row-level security hides rows from the owner of the views, mail_owner",
        )
    finally:
        postgres.sql("ALTER VIEW mail_v1_users OWNER TO postgres; DROP ROLE mail_owner", database)
        await repository.close()


async def _first_error(repository: Repository) -> Finding:
    return next(each for each in await repository.diagnose() if each.condition is Condition.ERROR)


@pytest.mark.xdist_group("postgresql")
async def test_temporary_tables_stay_permitted_in_a_database_of_somebody_else(
    postgres: PostgresServer, postgresql_store: str, role: str
) -> None:
    database = str(make_url(postgresql_store).database)
    postgres.sql(
        f"GRANT TEMPORARY ON DATABASE {database} TO PUBLIC; CREATE ROLE elsewhere;"
        f" ALTER DATABASE {database} OWNER TO elsewhere"
    )
    try:
        await asyncio.to_thread(create_mail_role, postgresql_store, role, PASSWORD)
        connection = await connect(postgresql_store, role, PASSWORD)
        assert await connection.fetchval("SELECT has_database_privilege(current_database(), 'TEMPORARY')")
        await connection.close()
    finally:
        postgres.sql(f"ALTER DATABASE {database} OWNER TO postgres; DROP ROLE elsewhere")


@pytest.mark.xdist_group("postgresql")
async def test_large_objects_are_closed_to_the_role_by_the_statement_of_the_documentation(
    postgres: PostgresServer, postgresql_store: str, reader: Any
) -> None:
    database = str(make_url(postgresql_store).database)
    page = (Path(__file__).parents[2] / "docs" / "mail-server.md").read_text()
    (revoke,) = re.findall(r"REVOKE EXECUTE ON FUNCTION [^`;]*lo_[^`;]* FROM PUBLIC", page)
    await reader.execute("SET default_transaction_read_only = off")
    assert await reader.fetchval("SELECT lo_unlink(lo_creat(-1))") == 1
    postgres.sql(revoke, database)
    try:
        for call in ("lo_creat(-1)", "lo_create(0)", "lo_from_bytea(0, '')"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.fetch(f"SELECT {call}")
    finally:
        postgres.sql(revoke.replace("REVOKE", "GRANT").replace(" FROM ", " TO "), database)


@pytest.mark.xdist_group("postgresql")
@pytest.mark.parametrize("name", ["postgres", "postroom_tenant"])
def test_a_role_that_may_do_more_is_refused(postgresql_store: str, name: str) -> None:
    with pytest.raises(RoleRefused, match="choose another name"):
        create_mail_role(postgresql_store, name, PASSWORD)


async def test_the_diagnosis_names_a_missing_or_incomplete_view(sqlite_store: str) -> None:
    with sqlite3.connect(str(make_url(sqlite_store).database)) as connection:
        connection.executescript(
            "DROP VIEW mail_v1_purged; DROP VIEW mail_v1_dkim;"
            "CREATE VIEW mail_v1_dkim AS SELECT name AS domain FROM domains"
        )
    connection.close()
    store = Store(sqlite_store)
    repository = await store.open()
    (views,) = [finding for finding in await repository.diagnose() if finding.check == "mail views"]
    assert (views.condition, bool(views.remedy)) == (Condition.ERROR, True)
    assert views.detail == "mail_v1_dkim lacks public_value, selector; mail_v1_purged is missing"
    await store.close()


def test_sqlite_opens_a_file_by_a_read_only_uri_that_refuses_changes(sqlite_store: str) -> None:
    file = make_url(sqlite_store).database
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
        assert connection.execute("SELECT * FROM mail_v1_users").fetchall() == []
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM mailboxes")
    connection.close()
