"""Probes of example.com, and what is asked of their findings."""

from postroomd.dns import DnsProber
from postroomd.domain.model import RecordStatus
from postroomd.domain.records import RECORD_KINDS
from tests.support.dns_records import a_domain, config, records_of
from tests.support.dns_server import Internet, Server

VALID, INVALID, NOT_FOUND = RecordStatus.VALID, RecordStatus.INVALID, RecordStatus.NOT_FOUND
DOMAIN = a_domain()
RECORDS = records_of(DOMAIN)

Found = dict[str, tuple[RecordStatus, str]]


async def probe(internet: Internet, **changes: object) -> Found:
    findings = await DnsProber(config(internet, **changes)).probe(DOMAIN, RECORDS)
    assert set(findings) == set(RECORD_KINDS)
    for finding in findings.values():
        assert (finding.error is None) == (finding.status is VALID)
        assert len(finding.error or "") <= 500
    return {kind: (finding.status, finding.error or "") for kind, finding in findings.items()}


def faults(found: Found) -> Found:
    return {kind: finding for kind, finding in found.items() if finding[0] is not VALID}


def only(found: Found, status: RecordStatus) -> set[str]:
    """What is said of the twelve records, which are all of one status."""
    assert {one for one, _ in found.values()} == {status}
    return {error for _, error in found.values()}


def first(internet: Internet) -> Server:
    return internet.servers["127.0.0.1"]


def second(internet: Internet) -> Server:
    return internet.servers["127.0.0.2"]
