"""A PostgreSQL role that may read a few views and nothing else, and the definitions of views with their privileges."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from postroomd.domain.diagnosis import Condition, Finding
from postroomd.domain.errors import RoleRefused

SCRAM_ITERATIONS = 4_096  # PostgreSQL's default, scram_iterations
STATEMENT_TIMEOUT = "10s"

# What a role may do beyond reading the views: its attributes, memberships, and grants in this database.
_POWERS = sa.text("""
SELECT r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls OR r.rolname = current_user
  OR EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid)
  OR EXISTS (SELECT FROM pg_class c WHERE c.relowner = r.oid)
  OR EXISTS (SELECT FROM pg_class c, aclexplode(c.relacl) a
             WHERE a.grantee = r.oid AND NOT (c.relname = ANY(:views) AND a.privilege_type = 'SELECT'))
FROM pg_roles r WHERE r.rolname = :name
""")

_OWNS_DATABASE = sa.text("SELECT pg_get_userbyid(datdba) = current_user FROM pg_database WHERE datname = :name")

_DEFINITIONS = sa.text("""
SELECT c.relname AS name, pg_get_viewdef(c.oid) AS query, array_to_string(c.reloptions, ', ') AS options,
  pg_get_userbyid(c.relowner) AS owner,
  ARRAY(SELECT DISTINCT pg_get_userbyid(a.grantee) FROM aclexplode(c.relacl) a
        WHERE a.privilege_type = 'SELECT' AND a.grantee NOT IN (0, c.relowner)) AS readers
FROM pg_class c
WHERE c.relkind = 'v' AND c.relnamespace = to_regnamespace(current_schema()) AND starts_with(c.relname, :prefix)
ORDER BY c.relname
""")


_READERS = sa.text("""
SELECT r.rolname AS name, r.rolcanlogin AS logs_in,
  has_schema_privilege(r.oid, current_schema(), 'USAGE') AS enters,
  has_database_privilege(r.oid, current_database(), 'TEMPORARY') AS has_temporary, current_database() AS database,
  array_agg(DISTINCT c.relname::text) AS readable
FROM pg_class c, aclexplode(c.relacl) a, pg_roles r
WHERE c.relkind = 'v' AND c.relnamespace = to_regnamespace(current_schema()) AND c.relname = ANY(:views)
  AND a.privilege_type = 'SELECT' AND a.grantee = r.oid AND a.grantee <> c.relowner
GROUP BY r.oid, r.rolname, r.rolcanlogin ORDER BY r.rolname
""")

# Owners of the views to whom row-level security applies: neither owners of the table of mailboxes nor exempt.
_HIDING_OWNERS = sa.text("""
SELECT DISTINCT r.rolname FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
WHERE c.relkind = 'v' AND c.relnamespace = to_regnamespace(current_schema()) AND c.relname = ANY(:views)
  AND NOT r.rolsuper AND NOT r.rolbypassrls
  AND EXISTS (SELECT FROM pg_class t WHERE t.oid = to_regclass('mailboxes') AND t.relowner <> c.relowner)
""")


def create_reader(connection: sa.Connection, name: str, password: str, views: Sequence[str]) -> None:
    """Create a role with a password, or set that of an existing one, and grant it the views.

    The server gets a verifier (SCRAM-SHA-256), since statements may be logged. If the user of the connection owns the
    database, other roles lose the right to create temporary tables in it, which all have by default and Postroom's do
    not need. Raises RoleRefused for an existing role that may do more than read the views.
    """
    has_powers = connection.execute(_POWERS, {"name": name, "views": [*views]}).scalar()
    if has_powers:
        raise RoleRefused(f"the role {name} exists and may do more than read the views: choose another name")
    quote = connection.dialect.identifier_preparer.quote_identifier
    role = quote(name)
    database, schema = connection.execute(sa.text("SELECT current_database(), current_schema()")).one()
    verb = "CREATE" if has_powers is None else "ALTER"
    attributes = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    for statement in (
        f"{verb} ROLE {role} {attributes if verb == 'CREATE' else 'LOGIN'} PASSWORD '{_verifier(password)}'",
        f"ALTER ROLE {role} IN DATABASE {quote(database)} SET search_path = {quote(schema)}",
        f"ALTER ROLE {role} SET default_transaction_read_only = on",
        f"ALTER ROLE {role} SET statement_timeout = '{STATEMENT_TIMEOUT}'",
        f"GRANT USAGE ON SCHEMA {quote(schema)} TO {role}",
        *(f"GRANT SELECT ON {quote(view)} TO {role}" for view in views),
    ):
        connection.exec_driver_sql(statement)
    if connection.execute(_OWNS_DATABASE, {"name": database}).scalar():
        # The role itself can end default_transaction_read_only, which is no more than a default.
        connection.exec_driver_sql(f"REVOKE TEMPORARY ON DATABASE {quote(database)} FROM PUBLIC, {role}")


def diagnose_readers(connection: sa.Connection, views: Sequence[str]) -> list[Finding]:
    """Return a finding on the owner of the views, and one for each role that reads some of them."""
    hidden = connection.execute(_HIDING_OWNERS, {"views": [*views]}).scalars().all()
    findings = []
    if hidden:  # their readers would see no rows, without an error
        detail = f"row-level security hides rows from the owner of the views, {', '.join(hidden)}"
        remedy = "let the owner of the tables own the views: ALTER VIEW … OWNER TO …"
        findings.append(Finding(check="mail role", condition=Condition.ERROR, detail=detail, remedy=remedy))
    for reader in connection.execute(_READERS, {"views": [*views]}):
        faults = [f"can't read {view}" for view in sorted({*views} - {*reader.readable})]
        if not reader.enters:
            faults.append("can't use the schema")
        if not reader.logs_in:
            faults.append("can't log in")
        check, detail = f"mail role {reader.name}", ", ".join(faults) or "can read every view"
        if faults:
            remedy = f"run `postroom mail-role create --name {reader.name}` with its password"
            findings.append(Finding(check=check, condition=Condition.ERROR, detail=detail, remedy=remedy))
        elif reader.has_temporary:
            detail += ", and create temporary tables"
            remedy = f"as the owner of the database: REVOKE TEMPORARY ON DATABASE {reader.database} FROM PUBLIC"
            findings.append(Finding(check=check, condition=Condition.WARNING, detail=detail, remedy=remedy))
        else:
            findings.append(Finding(check=check, condition=Condition.OK, detail=detail))
    return findings or [Finding(check="mail role", condition=Condition.OK, detail="none: no mail server reads here")]


def view_definitions(connection: sa.Connection, prefix: str) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the views whose name has a prefix, each with the statements that create it and grant its privileges."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    for view in connection.execute(_DEFINITIONS, {"prefix": prefix}):
        name = quote(view.name)
        options = f" WITH ({view.options})" if view.options else ""
        grants = [f"GRANT SELECT ON {name} TO {quote(reader)}" for reader in view.readers]
        owner = f"ALTER VIEW {name} OWNER TO {quote(view.owner)}"
        yield name, (f"CREATE VIEW {name}{options} AS {view.query}", owner, *grants)


def _verifier(password: str) -> str:
    """Return the SCRAM-SHA-256 verifier that PostgreSQL stores (RFC 5803), of an ASCII password."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, SCRAM_ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    stored = hashlib.sha256(client_key).digest()
    encoded = [base64.b64encode(each).decode() for each in (salt, stored, server_key)]
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"
