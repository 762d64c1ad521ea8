"""Domain validation: looks up a domain's records at its authoritative servers and compares them with the plan.

`DomainLookup` performs the lookups, `evaluation` compares results, and `DnsProber` combines the two.
"""

from postroomd.dns.config import DnsConfig, Endpoint, parse_endpoint
from postroomd.dns.prober import DnsProber

__all__ = ["DnsConfig", "DnsProber", "Endpoint", "parse_endpoint"]
