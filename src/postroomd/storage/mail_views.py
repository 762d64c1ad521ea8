"""The views of the SQL contract that mail servers read: their names and columns."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, inspect, text

from postroomd.domain.diagnosis import Condition, Finding
from postroomd.storage.drivers import driver_of

MAIL_VIEWS = {
    "mail_v1_domains": ("name",),
    "mail_v1_users": (
        "id",
        "domain",
        "local_part",
        "email",
        "display_name",
        "password",
        "status",
        "may_log_in",
        "may_send",
        "may_receive",
        "smtp_reply",
        "storage_quota_bytes",
    ),
    "mail_v1_aliases": (
        "id",
        "domain",
        "local_part",
        "email",
        "catch_all",
        "mailbox_id",
        "mailbox_email",
        "status",
        "may_log_in",
        "may_send",
        "may_receive",
        "smtp_reply",
    ),
    "mail_v1_forwardings": ("id", "domain", "local_part", "email", "mailbox_id", "destination", "keep_copy"),
    "mail_v1_dkim": ("domain", "selector", "public_value"),
    "mail_v1_purged": ("id", "purged_at"),
}
"""The columns of each view. A view keeps them: a change is a view of the next version beside it."""


def diagnose_views(connection: Connection) -> Finding:
    """Return the finding on the views: whether each exists with the columns of its version."""
    inspector = inspect(connection)
    present = {*inspector.get_view_names()}
    faults = []
    for name, columns in MAIL_VIEWS.items():
        if name not in present:
            faults.append(f"{name} is missing")
        elif absent := {*columns} - {column["name"] for column in inspector.get_columns(name)}:
            faults.append(f"{name} lacks {', '.join(sorted(absent))}")
    if not faults:
        return Finding(check="mail views", condition=Condition.OK, detail=f"{len(MAIL_VIEWS)} of version 1 are present")
    remedy = "create them again with the statements of migration 0019; migrations alone create and drop them"
    return Finding(check="mail views", condition=Condition.ERROR, detail="; ".join(faults), remedy=remedy)


@contextmanager
def mail_views_set_aside(connection: Connection) -> Iterator[None]:
    """Drop the views within the context, and create them again as they were, with their privileges.

    For migrations that recreate a table, which neither engine allows while a view refers to it.
    """
    driver = driver_of(connection)
    statements = [*driver.view_definitions(connection, "mail_v")]
    for name, _ in statements:
        connection.execute(text(f"DROP VIEW {name}"))
    yield
    for _, definitions in statements:
        for definition in definitions:
            connection.exec_driver_sql(definition)
