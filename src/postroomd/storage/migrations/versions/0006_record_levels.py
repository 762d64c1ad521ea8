"""Rewrite the levels of DNS records, and end their host names with a dot."""

from alembic import op

revision = "0006"
down_revision = "0005"

REQUIRED = "'domain_validation', 'dkim', 'dmarc', 'mx', 'spf'"
RECOMMENDED = "'autoconfig', 'autodiscover', 'imap', 'pop3', 'submission'"
OPTIONAL = "'caldav', 'carddav'"
WITH_HOST = "'cname_dns_type', 'mx_dns_type', 'srv_dns_type'"


def upgrade() -> None:
    """Rewrite each row at most once."""
    op.execute(
        f"""
        UPDATE domain_records SET
            level = CASE
                WHEN kind IN ({REQUIRED}) THEN 'required'
                WHEN kind IN ({RECOMMENDED}) THEN 'recommended'
                WHEN kind IN ({OPTIONAL}) THEN 'optional'
                ELSE level
            END,
            dns_name = {_with_dot("dns_name")},
            dns_value = CASE WHEN dns_type IN ({WITH_HOST}) THEN {_with_dot("dns_value")} ELSE dns_value END
        """
    )


def _with_dot(column: str) -> str:
    return f"CASE WHEN substr({column}, length({column}), 1) = '.' THEN {column} ELSE {column} || '.' END"
