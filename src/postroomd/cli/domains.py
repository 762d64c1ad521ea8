"""`postroom domains`: the domains of a tenant and their DNS records, by the service."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from postroomd.cli.confirmation import Yes, confirm
from postroomd.cli.connection import admin_service, tenant_service
from postroomd.cli.errors import CommandFailed
from postroomd.cli.messages import enum_number, list_rows, to_row
from postroomd.cli.options import AllOrganizations, Etag, Limit, OrganizationId, ProjectId, with_settings
from postroomd.cli.output import ListFormat, ListOutput, print_row, print_rows
from postroomd.cli.resolve import PAGE_SIZE, domain_id
from postroomd.cli.zone import zone_lines
from postroomd.domain.model import DomainStatus
from postroomd.settings import InvalidSetting, Settings

if TYPE_CHECKING:
    from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub

COLUMNS = ("id", "name", "status", "mailbox_total_count", "created_at")
FOUND_COLUMNS = ("id", "name", "organization_id", "project_id", "status")
RECORD_COLUMNS = ("record", "level", "status", "dns_type", "dns_name", "dns_value", "error")
POLL_SECONDS = 0.5
SETTLED = ("ready", "validation_failed", "waiting_validation")
SHOW = "`postroom domains show` has the state of each record"
AGAIN = "its records are looked up again; `postroom domains show` has the result after some seconds"
NEXT = {
    "ready": "it can have mailboxes, and its records are looked up again from time to time",
    "validating": "a worker looks up its records; `postroom domains show` has the result",
    "provisioning": "its records are valid; it is ready once the mail platform has confirmed it",
}
"""The status of a domain -> what happens next."""

domains = typer.Typer(
    name="domains", help="Domains and their DNS records.", no_args_is_help=True, rich_markup_mode=None
)
Domain = Annotated[str, typer.Argument(metavar="DOMAIN", help="Name or id of the domain.")]


@domains.command("list")
@with_settings("tenant client")
def list_domains(
    *,
    settings: Settings,
    search: Annotated[str, typer.Option("--search", metavar="TEXT", help="Only names that contain this text.")] = "",
    status: Annotated[list[DomainStatus] | None, typer.Option("--status", help="Only domains in this status.")] = None,
    project_id: ProjectId = "",
    limit: Limit = 0,
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """List domains by name."""
    _list(settings, search, status or (), project_id, limit, output)


@domains.command("search")
@with_settings("client")
def search_domains(
    *,
    settings: Settings,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A part of the name, in any case.")],
    all_organizations: AllOrganizations = False,
    organization_id: OrganizationId = "",
    limit: Limit = 0,
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """List the domains whose name contains a text.

    With --all-organizations or --organization-id, it searches as the operator, by the admin service.
    """
    if not all_organizations and not organization_id:
        _list(settings, text, (), "", limit, output)
        return
    with admin_service(settings) as service:
        from postroom.admin.v1alpha1.domain_pb2 import SearchDomainsRequest

        request = SearchDomainsRequest(search=text, organization_id=organization_id)
        rows = list_rows(service.SearchDomains, request, "domains", PAGE_SIZE, limit)
    print_rows(rows, FOUND_COLUMNS, output)


@domains.command("show")
@with_settings("tenant client")
def show_domain(
    *,
    settings: Settings,
    domain: Domain,
    zone: Annotated[bool, typer.Option("--zone", help="Print the records in the form of a zone file.")] = False,
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """Show a domain, and each of its DNS records with its state."""
    if zone and output is not ListFormat.TABLE:
        raise InvalidSetting("--zone: it is a format of its own: leave out --output")
    with tenant_service(settings) as service:
        from postroom.v1alpha1 import domain_pb2 as pb

        identifier = domain_id(service, domain)
        row = to_row(service.GetDomain(pb.GetDomainRequest(domain_id=identifier)))
        records = _records(service, identifier)
    if zone:
        typer.echo("\n".join(zone_lines(row["name"], records)))
    elif output is ListFormat.CSV:
        print_rows(records, RECORD_COLUMNS, output)
    elif output is ListFormat.JSON:
        print_row(row | {"records": records}, output)
    else:
        print_row(row, output)
        typer.echo()
        print_rows(records, RECORD_COLUMNS, output)


@domains.command("create")
@with_settings("tenant client")
def create_domain(
    *,
    settings: Settings,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the domain, such as example.org.")],
    project_id: ProjectId = "",
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """Register a domain. `domains show` then lists the DNS records to publish."""
    with tenant_service(settings) as service:
        from postroom.v1alpha1 import domain_pb2 as pb

        created = service.CreateDomain(pb.CreateDomainRequest(name=name, project_id=project_id))
    print_rows([to_row(created)], COLUMNS, output)


@domains.command("validate")
@with_settings("tenant client")
def validate_domain(
    *,
    settings: Settings,
    domain: Domain,
    timeout: Annotated[
        int, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to wait for the result; 0: not at all.")
    ] = 60,
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """Look up a domain's DNS records, and wait for the result.

    The exit code is 1 if the domain is not ready then. One that is ready stays so meanwhile, and is not waited for:
    `postroom domains show` has the result after some seconds.
    """
    with tenant_service(settings) as service:
        from postroom.v1alpha1 import domain_pb2 as pb

        identifier = domain_id(service, domain)
        was_ready = service.GetDomain(pb.GetDomainRequest(domain_id=identifier)).status == pb.Domain.READY
        service.ValidateDomainRecords(pb.ValidateDomainRecordsRequest(domain_id=identifier))
        end = time.monotonic() + timeout
        while (row := to_row(service.GetDomain(pb.GetDomainRequest(domain_id=identifier))))["status"] not in SETTLED:
            if time.monotonic() >= end:
                break
            time.sleep(POLL_SECONDS)
        records = _records(service, identifier)
    print_rows(records, RECORD_COLUMNS, output)
    if output is ListFormat.TABLE and (row["status"] == "ready" or not timeout):
        following = AGAIN if was_ready and row["status"] == "ready" else NEXT.get(row["status"], SHOW)
        typer.echo(f"\n{row['name']} is {row['status']}: {following}")
    if timeout and row["status"] != "ready":
        wrong = [
            record["record"] for record in records if record["level"] == "required" and record["status"] != "valid"
        ]
        reason = f": check {', '.join(wrong)}" if wrong else f": {NEXT.get(row['status'], SHOW)}"
        raise CommandFailed(f"{row['name']} is {row['status']}{reason}")


@domains.command("delete")
@with_settings("tenant client")
def delete_domain(
    *,
    settings: Settings,
    domain: Domain,
    force: Annotated[bool, typer.Option("--force", help="Delete it with all its mailboxes.")] = False,
    etag: Etag = "",
    yes: Yes = False,
) -> None:
    """Delete a domain and its mailboxes permanently.

    Without --force, all its mailboxes must be deleted already.
    """
    with tenant_service(settings) as service:
        from postroom.v1alpha1 import domain_pb2 as pb

        found = service.GetDomain(pb.GetDomainRequest(domain_id=domain_id(service, domain)))
        confirm(
            f"{found.name} and its {found.mailbox_total_count} mailboxes are deleted at once and can't be restored.",
            yes=yes,
        )
        service.DeleteDomain(pb.DeleteDomainRequest(domain_id=found.id, force=force, etag=etag))
    typer.echo(f"{found.name} is being deleted.")


def _list(
    settings: Settings, search: str, statuses: Sequence[DomainStatus], project_id: str, limit: int, output: ListFormat
) -> None:
    """Print the domains of a tenant."""
    with tenant_service(settings) as service:
        from postroom.v1alpha1 import domain_pb2 as pb

        request = pb.ListDomainsRequest(
            search=search,
            project_id=project_id,
            statuses=[enum_number(pb.Domain.Status, each) for each in statuses],
            order_by=pb.ListDomainsRequest.OrderBy.NAME_ASC,
        )
        listed = list_rows(service.ListDomains, request, "domains", PAGE_SIZE, limit)
    print_rows(listed, COLUMNS, output)


def _records(service: "MailboxServiceStub", identifier: str) -> list[dict[str, Any]]:
    """Return the DNS records of a domain, the required ones first."""
    from postroom.v1alpha1 import domain_pb2 as pb

    response = service.GetDomainRecords(pb.GetDomainRecordsRequest(domain_id=identifier))
    levels = ("required", "recommended", "optional")
    rows = [{"record": name} | record for name, record in to_row(response).items() if record]
    return sorted(rows, key=lambda row: (levels.index(row["level"]), row["record"]))
