"""A database as the first version left it: one tenant with its key, a domain, mailboxes and aliases."""

import hashlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection

from tests.operate.ledger import Ledger, Promised, password_hash
from tests.support.revisions import REVISIONS, migrate_to, reflect, run

DOMAIN = "first.example"
MAILBOXES = 300
ALIASES = 30
CREATED = datetime(2026, 11, 22, 18, 13, 35, tzinfo=UTC)
FOLLOWING = datetime(2099, 1, 1, tzinfo=UTC)
"""The next period's start: no renewal is due while the test runs."""

RECORDS = {
    "domain_validation": ("required", "txt_dns_type", f"_postroom-challenge.{DOMAIN}", "postroom-validation=token"),
    "mx": ("required", "mx_dns_type", DOMAIN, "10 mx.mail.example"),
    "spf": ("required", "txt_dns_type", DOMAIN, "v=spf1 include:_spf.mail.example ~all"),
    "dkim": ("required", "txt_dns_type", f"postroom._domainkey.{DOMAIN}", "v=DKIM1; k=rsa; p=AAAA"),
    "dmarc": ("recommended", "txt_dns_type", f"_dmarc.{DOMAIN}", "v=DMARC1; p=none"),
    "imap": ("optional", "srv_dns_type", f"_imaps._tcp.{DOMAIN}", "0 1 993 imap.mail.example"),
}


@dataclass(frozen=True)
class First:
    """The tenant's secret, and what the database holds of it."""

    secret: str
    ledger: Ledger


def create_first_schema(url: str) -> First:
    """Create the tables of the first schema, and fill them."""
    secret = str(uuid4())
    promised = [
        Promised(DOMAIN, f"m{number}", aliases=(f"a{number}",) if number < ALIASES else ())
        for number in range(MAILBOXES)
    ]
    os.umask(0o077)  # as the commands set it, for an SQLite file; a fixture restores it
    migrate_to(url, REVISIONS[0])
    rows = _rows(secret, promised)

    def insert(connection: Connection) -> None:
        tables = reflect(connection).tables
        assert rows.keys() == tables.keys()
        for name, values in rows.items():
            connection.execute(tables[name].insert(), values)

    run(url, insert)
    return First(secret, Ledger({each.address: each for each in promised}, {DOMAIN}))


def _rows(secret: str, promised: list[Promised]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each table, in the order in which they can be inserted."""
    digest = hashlib.sha256(secret.encode()).digest()
    organization, project, domain = (str(uuid4()) for _ in range(3))
    created = round(CREATED.timestamp() * 1_000_000)
    times = {"created_at": created, "updated_at": created}
    place = {"organization_id": organization, "project_id": project, "domain_id": domain}
    mailboxes = [
        {
            "id": str(uuid4()),
            **place,
            **times,
            "email": each.address,
            "password_hash": password_hash(each.address),
            "status": "ready",
            "subscription_period": each.period,
            "last_paid_period": each.period,
            "period_anchor_at": created,
            "subscription_period_started_at": created,
            "next_subscription_period": each.period,
            "next_subscription_period_starts_at": round(FOLLOWING.timestamp() * 1_000_000),
            "deletion_scheduled_at": None,
            "due_at": round(FOLLOWING.timestamp() * 1_000_000),
        }
        for each in promised
    ]
    aliases = [
        {
            "id": str(uuid4()),
            **place,
            **times,
            "mailbox_id": mailbox["id"],
            "email": f"{alias}@{each.domain}",
            "description": "",
            "status": "ready",
        }
        for mailbox, each in zip(mailboxes, promised, strict=True)
        for alias in each.aliases
    ]
    return {
        "organizations": [{"id": organization, "created_at": created}],
        "projects": [
            {
                "id": project,
                "organization_id": organization,
                "name": "default",
                "mailbox_quota": 1_000,
                "mailbox_count": len(mailboxes),
                "created_at": created,
            }
        ],
        "api_keys": [
            {
                "access_key": "SCWFIRST000000000000",
                "secret_hash": digest,
                "secret_prefix": digest[:8],
                "organization_id": organization,
                "project_id": None,
                "default_project_id": project,
                "read_only": False,
                "created_at": created,
                "expires_at": None,
                "revoked_at": None,
            }
        ],
        "domains": [
            {
                "id": domain,
                "organization_id": organization,
                "project_id": project,
                **times,
                "name": DOMAIN,
                "status": "ready",
                "mailbox_total_count": len(mailboxes),
                "validation_requested_at": None,
                "validation_token": "token",
                "dkim_selector": "postroom",
                "dkim_private_key": "a private key",
            }
        ],
        "domain_records": [
            {
                "id": str(uuid4()),
                "organization_id": organization,
                "domain_id": domain,
                **times,
                "kind": kind,
                "status": "valid",
                "level": level,
                "dns_type": dns_type,
                "dns_name": dns_name,
                "dns_value": dns_value,
                "error": None,
            }
            for kind, (level, dns_type, dns_name, dns_value) in RECORDS.items()
        ],
        "mailboxes": mailboxes,
        "aliases": aliases,
        "addresses": [
            {
                "domain_id": domain,
                "local_part": str(row["email"]).partition("@")[0],
                "organization_id": organization,
                "mailbox_id": row["id"] if "password_hash" in row else None,
                "alias_id": None if "password_hash" in row else row["id"],
            }
            for row in (*mailboxes, *aliases)
        ],
    }
