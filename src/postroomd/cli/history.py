"""`postroom history`: the status transitions of mailboxes and domains, from the database."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from heapq import merge
from typing import Annotated

import typer

from postroomd.cli.database import with_repository
from postroomd.cli.options import with_settings
from postroomd.cli.output import ListFormat, ListOutput, print_rows
from postroomd.domain.addresses import Address, canonical_local_part
from postroomd.domain.errors import NotFound
from postroomd.domain.history import DomainTransition, Transition
from postroomd.settings import InvalidSetting, Settings
from postroomd.storage.protocols.repository import Repository

HISTORY_PAGE_SIZE = 500
HISTORY_COLUMNS = ("mailbox_id", "at", "from_status", "to_status", "cause", "actor", "reason")
DOMAIN_HISTORY_COLUMNS = ("domain_id", *HISTORY_COLUMNS[1:-1])

ListPage = Callable[[str, int, int], Awaitable[Sequence[Transition | DomainTransition]]]
"""A resource's id, a revision and a limit -> the transitions after that revision."""


@with_settings("history")
def history(
    *,
    settings: Settings,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="An address, or the name of a domain.")],
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """List the status transitions of an address or a domain.

    These are the transitions of all mailboxes that have the address, or of all domains that have the name, or had it
    when they were purged, oldest first.
    """
    canonical = _canonical(address)
    of_domain = "@" not in canonical

    async def read(repository: Repository) -> list[Transition | DomainTransition]:
        administration = repository.administration
        find = administration.domains_with_name if of_domain else administration.mailboxes_with_address
        ids = await find(canonical)
        if not ids:
            raise NotFound("domain" if of_domain else "mailbox", canonical)
        # Each one's in the order of its revisions, even if clocks went back. Several may overlap in time.
        list_page = administration.domain_transitions if of_domain else administration.transitions
        histories = [await _transitions(list_page, each) for each in ids]
        return list(merge(*histories, key=lambda transition: transition.at))

    rows = [asdict(transition) for transition in with_repository(settings, read)]
    for row in rows:
        row.pop("name_hash", None)
    print_rows(rows, DOMAIN_HISTORY_COLUMNS if of_domain else HISTORY_COLUMNS, output)


async def _transitions(list_page: ListPage, resource_id: str) -> Sequence[Transition | DomainTransition]:
    found: list[Transition | DomainTransition] = []
    while page := await list_page(resource_id, found[-1].revision if found else 0, HISTORY_PAGE_SIZE):
        found += page
    return found


def _canonical(address: str) -> str:
    """Return an address or a domain name in its stored form. Raises InvalidSetting."""
    from postroomd.domain.domain_names import canonical_domain_name  # slow to import

    try:
        if "@" not in address:
            return canonical_domain_name(address)
        sent = Address.parse(address)
        return str(Address(canonical_local_part(sent.local_part), canonical_domain_name(sent.domain_name)))
    except ValueError as error:
        raise InvalidSetting(f"ADDRESS: {error}") from error
