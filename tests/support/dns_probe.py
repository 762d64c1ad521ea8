"""Probes of example.com and selections from their findings."""

from postroomd.dns import DnsProber
from postroomd.dns.formatting import MAX_ERROR_LENGTH
from postroomd.domain.model import RecordStatus
from postroomd.domain.records import RECORD_KINDS
from tests.support.dns_records import dns_config, make_domain, records_of
from tests.support.dns_server import Internet, Server

VALID, INVALID, NOT_FOUND = RecordStatus.VALID, RecordStatus.INVALID, RecordStatus.NOT_FOUND
UNANSWERED = RecordStatus.UNKNOWN_STATUS
DOMAIN = make_domain()
RECORDS = records_of(DOMAIN)

Findings = dict[str, tuple[RecordStatus, str]]


async def probe(internet: Internet, **changes: object) -> Findings:
    findings = await DnsProber(dns_config(internet, **changes)).probe(DOMAIN, RECORDS)
    assert set(findings) == set(RECORD_KINDS)
    for finding in findings.values():
        assert finding.error is not None or finding.status is VALID
        assert len(finding.error or "") <= MAX_ERROR_LENGTH
    return {kind: (finding.status, finding.error or "") for kind, finding in findings.items()}


def faults(found: Findings) -> Findings:
    """Return the findings that are not valid, or valid with a warning."""
    return {kind: finding for kind, finding in found.items() if finding != (VALID, "")}


def errors_with(found: Findings, status: RecordStatus) -> set[str]:
    """Return the errors of the twelve records, asserting that all have one status."""
    assert {found_status for found_status, _ in found.values()} == {status}
    return {error for _, error in found.values()}


def first_server(internet: Internet) -> Server:
    return internet.servers["127.0.0.1"]


def second_server(internet: Internet) -> Server:
    return internet.servers["127.0.0.2"]
