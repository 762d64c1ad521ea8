"""`postroom history`: the status transitions of mailboxes and domains, from the admin service."""

from heapq import merge
from itertools import groupby
from typing import Annotated, Any

import typer

from postroomd.cli.connection import admin_service
from postroomd.cli.messages import NO_STATUS, list_rows
from postroomd.cli.options import with_settings
from postroomd.cli.output import ListFormat, ListOutput, print_rows
from postroomd.cli.resolve import domain_name, parse_address
from postroomd.settings import Settings

PAGE_SIZE = 1_000
COLUMNS = ("mailbox_id", "at", "from_status", "to_status", "cause", "actor", "reason")
DOMAIN_COLUMNS = ("domain_id", *COLUMNS[1:-1])


@with_settings("operator client")
def history(
    *,
    settings: Settings,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="An address, or the name of a domain.")],
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """List the status transitions of an address or a domain, as the operator.

    These are the transitions of all mailboxes that have the address, or of all domains that have the name, or had it
    when they were purged, oldest first.
    """
    of_domain = "@" not in address
    subject = domain_name("ADDRESS", address) if of_domain else str(parse_address("ADDRESS", address))
    with admin_service(settings) as service:
        from postroom.admin.v1alpha1 import domain_pb2, mailbox_pb2

        if of_domain:
            of_name = domain_pb2.ListDomainTransitionsRequest(name=subject)
            rows = list_rows(service.ListDomainTransitions, of_name, "transitions", PAGE_SIZE)
        else:
            of_address = mailbox_pb2.ListTransitionsRequest(address=subject)
            rows = list_rows(service.ListTransitions, of_address, "transitions", PAGE_SIZE)
    columns = DOMAIN_COLUMNS if of_domain else COLUMNS
    for row in rows:
        for status in ("from_status", "to_status"):
            row[status] = None if row[status] == NO_STATUS else row[status]
    # Each one's in the order of its revisions, even if clocks went back. Several may overlap in time.
    histories = [list(each) for _, each in groupby(rows, key=lambda row: row[columns[0]])]
    rows[:] = merge(*histories, key=_instant)
    print_rows(rows, columns, output)


def _instant(row: dict[str, Any]) -> Any:
    return row["at"]
