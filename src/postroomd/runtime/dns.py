"""The lookups of domains' records, from the settings."""

from postroomd.dns import DnsConfig, DnsProber
from postroomd.settings import Settings


def dns_prober(settings: Settings) -> DnsProber:
    """Return what looks domains' records up. Raises ValueError if no resolver is configured."""
    return DnsProber(
        DnsConfig(
            resolvers=tuple(text.strip() for text in settings.dns_resolvers.split(",") if text.strip()),
            timeout_seconds=settings.dns_timeout_seconds,
            deadline_seconds=settings.dns_deadline_seconds,
            authoritative_port=settings.dns_authoritative_port,
            allow_private=settings.dns_allow_private,
        )
    )
