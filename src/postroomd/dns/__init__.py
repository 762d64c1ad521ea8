"""Domain validation over the DNS: what a domain's own authoritative servers say, held against what it should publish.

`compare` judges and `lookup` asks; `DnsProber` ties them together.
"""

from postroomd.dns.config import DnsConfig, Endpoint, parse_endpoint
from postroomd.dns.prober import DnsProber

__all__ = ["DnsConfig", "DnsProber", "Endpoint", "parse_endpoint"]
