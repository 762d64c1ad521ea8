"""One session with Postroom over TLS: register a domain, wait until it is ready, create mailboxes, list, decode errors.

`python main.py load` calls until stdin ends; `python main.py text` prints a request.
"""

import os
import sys
import time

import grpc
from load import load

from postroom.client import TLS, ErrorDetails, channel, decode_error
from postroom.v1alpha1.domain_pb2 import (
    CreateDomainRequest,
    Domain,
    DomainRecord,
    GetDomainRecordsRequest,
    GetDomainRequest,
    ValidateDomainRecordsRequest,
)
from postroom.v1alpha1.mailbox_pb2 import BatchCreateMailboxesRequest, ListMailboxesRequest, Mailbox
from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub

Metadata = tuple[tuple[str, str | bytes], ...]

PASSWORD = "a long enough password"
ALL_DETAILS: Metadata = (("x-accept-details", "all"),)


def main() -> None:
    """Connect, and do what the first argument says. The channel retries by the service config that it brings along."""
    mode = sys.argv[1] if len(sys.argv) > 1 else "session"
    tls = TLS.from_files(ca=os.environ["POSTROOM_CA_FILE"])
    with channel(os.environ["POSTROOM_GRPC_ADDRESS"], os.environ["SCW_SECRET_KEY"], tls=tls) as connection:
        service = MailboxServiceStub(connection)
        if mode == "session":
            session(service)
        elif mode == "load":
            load(service)
        elif mode == "text":
            print(batch("", "ann"))
        else:
            sys.exit(f"{mode!r} is no mode: give session, load or text")


def session(service: MailboxServiceStub) -> None:
    """Perform the session."""
    domain = create_domain(service, "python.example")
    wait_until_ready(service, domain)
    create_mailboxes(service, domain)
    list_mailboxes(service, domain)
    decode_errors(service, domain)
    repeat_after_deadline(service, domain)


def create_domain(service: MailboxServiceStub, name: str) -> Domain:
    """Register a domain, and print the records that it needs.

    The key is derived from the purpose: a program that crashed and starts again repeats the call, and its effect
    happens once. The timeout is the deadline of all attempts together.
    """
    request = CreateDomainRequest(name=name, project_id=os.environ.get("SCW_DEFAULT_PROJECT_ID", ""))
    domain = service.CreateDomain(request, timeout=30, metadata=(("idempotency-key", f"create-{name}"),))
    print("domain:", domain.name, "is", Domain.Status.Name(domain.status))
    records = service.GetDomainRecords(GetDomainRecordsRequest(domain_id=domain.id), timeout=30)
    for record in (records.domain_validation, records.spf, records.dkim, records.dmarc, records.mx):
        print("publish:", record.dns_name, DomainRecord.DnsType.Name(record.dns_type), record.dns_value[:40])
    return domain


def wait_until_ready(service: MailboxServiceStub, domain: Domain) -> None:
    """Poll every second for a minute: publishing the records takes longer in practice."""
    for _ in range(60):
        if domain.status == Domain.READY:
            print("ready:", domain.name)
            return
        if domain.status in (Domain.WAITING_VALIDATION, Domain.VALIDATION_FAILED):
            service.ValidateDomainRecords(ValidateDomainRecordsRequest(domain_id=domain.id), timeout=30)
        time.sleep(1)
        domain = service.GetDomain(GetDomainRequest(domain_id=domain.id), timeout=30)
    sys.exit(f"{domain.name} is {Domain.Status.Name(domain.status)} after a minute")


def create_mailboxes(service: MailboxServiceStub, domain: Domain) -> None:
    """Create five mailboxes, and repeat the call under its key: it returns the first response."""
    request = batch(domain.id, "ann", "bob", "cat", "dan", "eve")
    for _ in range(2):
        response, call = service.BatchCreateMailboxes.with_call(
            request, timeout=30, metadata=(("idempotency-key", f"first-batch-{domain.id}"),)
        )
        replayed = any(key == "idempotency-replayed" for key, _ in call.trailing_metadata() or ())
        print(
            f"created: {len(response.mailboxes)} mailboxes, the first {response.mailboxes[0].id}, replayed: {replayed}"
        )


def list_mailboxes(service: MailboxServiceStub, domain: Domain) -> None:
    """List the mailboxes, two a page."""
    request = ListMailboxesRequest(domain_id=domain.id, page_size=2, order_by=ListMailboxesRequest.EMAIL_ASC)
    while True:
        page = service.ListMailboxes(request, timeout=30)
        for mailbox in page.mailboxes:
            print("listed:", mailbox.email, Mailbox.Status.Name(mailbox.status))
        request.page_token = page.next_page_token
        if not request.page_token:
            return


def decode_errors(service: MailboxServiceStub, domain: Domain) -> None:
    """Provoke errors, and print their details."""
    invalid = batch(domain.id, "a b")
    invalid.mailboxes[0].password = "short"
    error = failure(service, invalid)
    print("invalid:", error.code.name, error.reason)
    for violation in error.violations:
        print(f"invalid: {violation.field} {violation.reason}: {violation.description}")
    error = failure(service, batch(domain.id, "new", "ann"))
    print("conflict:", error.code.name, error.reason)
    for resource in error.resources:
        print("conflict:", resource.owner, resource.description)

    # The service cuts the details to the header list that every client accepts, unless the call accepts all.
    # postroom-client accepts 64 KiB.
    invalid.mailboxes.extend([invalid.mailboxes[0]] * 99)
    error = failure(service, invalid, ALL_DETAILS)
    print("all-details:", len(error.violations), "violations")


def repeat_after_deadline(service: MailboxServiceStub, domain: Domain) -> None:
    """Make a call that misses its deadline: it may have succeeded. Repeated under its key, it returns what happened."""
    request = batch(domain.id, *(f"user{number}" for number in range(100)))
    metadata = (("idempotency-key", f"second-batch-{domain.id}"),)
    try:
        service.BatchCreateMailboxes(request, timeout=0.001, metadata=metadata)
    except grpc.RpcError as late:
        print("deadline:", decode_error(late).code.name)
    response = service.BatchCreateMailboxes(request, timeout=30, metadata=metadata)
    print("repeated:", len(response.mailboxes), "mailboxes")


def failure(service: MailboxServiceStub, request: BatchCreateMailboxesRequest, metadata: Metadata = ()) -> ErrorDetails:
    """Return the decoded error of a call that fails."""
    try:
        service.BatchCreateMailboxes(request, timeout=30, metadata=metadata)
    except grpc.RpcError as error:
        return decode_error(error)
    sys.exit("the call succeeded")


def batch(domain_id: str, *local_parts: str) -> BatchCreateMailboxesRequest:
    """Return a request to create mailboxes."""
    items = [BatchCreateMailboxesRequest.MailboxParameters(local_part=name, password=PASSWORD) for name in local_parts]
    return BatchCreateMailboxesRequest(domain_id=domain_id, mailboxes=items)


if __name__ == "__main__":
    main()
