"""What isolates tenants on PostgreSQL, and makes their searches fast: how it is verified, and how it is restored.

A role belongs to a cluster, not to a database. A dump that is restored into another cluster has no role for tenants,
and therefore neither its grants nor the policies for it; a restore may also leave out owners and indexes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from postroomd.domain.errors import SchemaMismatch, summarize
from postroomd.storage.drivers.postgresql_url import describe

TENANT_ROLE = "postroom_tenant"
"""The role of tenants' statements. It owns no table, so that row-level security applies to it."""

INSUFFICIENT_PRIVILEGE = "42501"  # an SQLSTATE

SEARCH_TERMS = "search_terms(uuid, text)"
"""The function that the indexes of searched columns consist of (migration 0008)."""

_PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE")
_OWN = "organization_id = NULLIF(current_setting('postroom.organization_id', true), '')::uuid"

# Roles are shared by the databases of a server: another one may create it at the same time.
_CREATE_ROLE = f"""
DO $$ BEGIN
  CREATE ROLE {TENANT_ROLE} NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""

_ROLE = sa.text(
    "SELECT r.rolname IS NOT NULL AS exists, r.rolsuper OR r.rolbypassrls AS bypasses,"
    " pg_has_role(current_user, r.oid, 'MEMBER') AS is_member,"
    " has_schema_privilege(r.oid, current_schema(), 'USAGE') AS has_schema,"
    " u.rolsuper OR u.rolcreaterole AS may_create_role, quote_ident(u.rolname) AS user_name"
    " FROM pg_roles u LEFT JOIN pg_roles r ON r.rolname = :role WHERE u.rolname = current_user"
)

_GRANTED = " AND ".join(f"has_table_privilege(r.oid, c.oid, '{each}')" for each in _PRIVILEGES)
_TABLES = sa.text(
    "SELECT c.relname AS name, c.relrowsecurity AS is_enabled, row_security_active(c.oid) AS hides_rows,"  # noqa: S608
    f" {_GRANTED} AS is_granted,"
    " p.oid IS NOT NULL AS has_policy,"
    " r.oid = ANY (p.polroles) AND p.polcmd = '*' AND p.polpermissive AND p.polwithcheck IS NULL"
    " AND pg_get_expr(p.polqual, c.oid) LIKE '(organization_id = %postroom.organization_id%uuid)' AS has_right_policy"
    " FROM unnest(CAST(:tables AS text[])) WITH ORDINALITY AS t(name, number)"
    " JOIN pg_class c ON c.oid = to_regclass(t.name)"
    " LEFT JOIN pg_roles r ON r.rolname = :role"
    " LEFT JOIN pg_policy p ON p.polrelid = c.oid AND p.polname = 'tenant' ORDER BY t.number"
)

_VIEWS = sa.text(
    "SELECT c.relname AS name, has_table_privilege(r.oid, c.oid, 'SELECT') AS is_granted"
    " FROM unnest(CAST(:views AS text[])) WITH ORDINALITY AS t(name, number)"
    " JOIN pg_class c ON c.oid = to_regclass(t.name)"
    " LEFT JOIN pg_roles r ON r.rolname = :role ORDER BY t.number"
)

_MAY_SEARCH = sa.text(
    "SELECT has_function_privilege(r.oid, to_regprocedure(:function), 'EXECUTE') FROM pg_roles r WHERE rolname = :role"
)
_INDEXES = sa.text(
    "SELECT name FROM unnest(CAST(:indexes AS text[])) WITH ORDINALITY AS t(name, number)"
    " WHERE to_regclass(name) IS NULL ORDER BY number"
)

# A loop takes half as long as a query over generate_series, and the functions need no schema in the search path.
CREATE_SEARCH_TERMS = """
CREATE FUNCTION search_terms(organization_id uuid, value text) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
  seed bigint := hashtextextended(organization_id::text COLLATE "C", 0);
  terms bigint[] := '{}';
BEGIN
  FOR position IN 1 .. length(value) - 2 LOOP
    terms := terms || hashtextextended(substr(value, position, 3) COLLATE "C", seed);
  END LOOP;
  RETURN terms;
END
$$
"""

Searched = Sequence[tuple[str, str]]
"""Tables that are searched by substring, with the searched column."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """What a database has of its isolation, and what it lacks."""

    role: Any
    tables: Sequence[Any]
    views: Sequence[Any]
    may_search: bool | None  # None without the role or the function
    missing_indexes: Sequence[str]

    def faults(self) -> Iterator[str]:
        """Yield what is missing, for the operator."""
        if not self.role.exists:
            yield f"the role {TENANT_ROLE} does not exist"
        elif self.role.bypasses:
            yield f"the role {TENANT_ROLE} bypasses row-level security"
        elif not self.role.is_member:
            yield f"the database user is not a member of the role {TENANT_ROLE}"
        if self.role.exists and not self.role.has_schema:
            yield f"the role {TENANT_ROLE} may not use the schema"
        if self.role.exists and (names := [each.name for each in (*self.tables, *self.views) if not each.is_granted]):
            yield f"the role {TENANT_ROLE} lacks grants on {summarize(names)}"
        if names := [table.name for table in self.tables if not table.is_enabled]:
            yield f"row-level security is disabled on {summarize(names)}"
        if names := [table.name for table in self.tables if not table.has_right_policy]:
            yield f"the row-level security policy of {summarize(names)} is missing"
        if self.role.exists and self.may_search is None:
            yield f"the function {SEARCH_TERMS} is missing"
        elif self.role.exists and not self.may_search:
            yield f"the role {TENANT_ROLE} may not execute {SEARCH_TERMS}"
        if self.missing_indexes:
            yield f"the index {summarize(self.missing_indexes)} is missing"

    def hidden(self) -> Sequence[str]:
        """Return the tables whose rows the database user itself does not see all."""
        return [table.name for table in self.tables if table.hides_rows]


def inspect_isolation(connection: sa.Connection, tables: Sequence[str], searched: Searched) -> Isolation:
    """Return what the database has. Changes nothing."""
    role = {"role": TENANT_ROLE}
    views = [*dict.fromkeys(f"search_{table}" for table, _ in searched)]
    indexes = [_index(table, column) for table, column in searched]
    return Isolation(
        connection.execute(_ROLE, role).one(),
        connection.execute(_TABLES, {**role, "tables": list(tables)}).all(),
        connection.execute(_VIEWS, {**role, "views": views}).all(),
        connection.execute(_MAY_SEARCH, {**role, "function": SEARCH_TERMS}).scalar(),
        connection.execute(_INDEXES, {"indexes": indexes}).scalars().all(),
    )


def require_role(connection: sa.Connection) -> None:
    """Create the tenants' role where it is missing, and join it. Raises SchemaMismatch, with a remedy."""
    role = connection.execute(_ROLE, {"role": TENANT_ROLE}).one()
    if role.exists and role.is_member:
        return
    if not role.may_create_role:
        raise SchemaMismatch(
            f"{describe(connection.engine.url, with_user=True)}: the user may not create the role {TENANT_ROLE}: have"
            f" an administrator run CREATE ROLE {TENANT_ROLE} NOLOGIN, and grant the role to the user"
        )
    connection.execute(sa.text(_CREATE_ROLE))
    try:
        connection.execute(sa.text(f"GRANT {TENANT_ROLE} TO CURRENT_USER"))
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != INSUFFICIENT_PRIVILEGE:
            raise
        # Since PostgreSQL 16 only the role that has created another one, and superusers, can grant it.
        raise SchemaMismatch(
            f"{describe(connection.engine.url, with_user=True)}: the user may not join the role {TENANT_ROLE}, which"
            f" another user of this server has created: have an administrator run GRANT {TENANT_ROLE} TO"
            f" {role.user_name}"
        ) from error


def repair_isolation(connection: sa.Connection, tables: Sequence[str], searched: Searched) -> None:
    """Create what is missing, and nothing else: an intact database is not locked. Raises SchemaMismatch."""
    require_role(connection)
    found = inspect_isolation(connection, tables, searched)
    for statement in _repairs(connection, found, searched):
        connection.execute(sa.text(statement))
    if faults := [*inspect_isolation(connection, tables, searched).faults()]:
        raise SchemaMismatch(f"{'; '.join(faults)}: connect as the owner of the tables, or as a superuser")


def _repairs(connection: sa.Connection, found: Isolation, searched: Searched) -> Iterator[str]:
    if found.role.bypasses:
        yield f"ALTER ROLE {TENANT_ROLE} NOSUPERUSER NOBYPASSRLS"
    if not found.role.has_schema:
        schema = connection.scalar(sa.text("SELECT quote_ident(current_schema())"))
        yield f"GRANT USAGE ON SCHEMA {schema} TO {TENANT_ROLE}"
    for table in found.tables:
        if not table.is_granted:
            yield f"GRANT {', '.join(_PRIVILEGES)} ON {table.name} TO {TENANT_ROLE}"
        if not table.is_enabled:
            yield f"ALTER TABLE {table.name} ENABLE ROW LEVEL SECURITY"
        if not table.has_right_policy:
            if table.has_policy:
                yield f"DROP POLICY tenant ON {table.name}"
            yield f"CREATE POLICY tenant ON {table.name} TO {TENANT_ROLE} USING ({_OWN})"
    for view in found.views:
        if not view.is_granted:
            yield f"GRANT SELECT ON {view.name} TO {TENANT_ROLE}"
    if found.may_search is None:
        yield CREATE_SEARCH_TERMS
    elif not found.may_search:
        yield f"GRANT EXECUTE ON FUNCTION {SEARCH_TERMS} TO {TENANT_ROLE}"
    for table, column in searched:
        if _index(table, column) in found.missing_indexes:
            terms = f"search_terms(organization_id, {column})"
            yield f"CREATE INDEX {_index(table, column)} ON {table} USING gin ({terms}) WHERE {column} IS NOT NULL"


def _index(table: str, column: str) -> str:
    return f"search_{table}_{column}"
