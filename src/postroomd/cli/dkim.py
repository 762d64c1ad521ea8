"""`postroom dkim`: the DKIM keys of every tenant's domains, by the admin service."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from postroomd.cli.connection import admin_service
from postroomd.cli.messages import pages, to_row
from postroomd.cli.options import Limit, with_settings
from postroomd.cli.output import ListFormat, ListOutput, print_row, print_rows
from postroomd.cli.resolve import domain_name, is_id
from postroomd.cli.zone import zone_line
from postroomd.settings import Settings

if TYPE_CHECKING:
    from postroom.admin.v1alpha1.dkim_pb2 import DkimKeys

PAGE_SIZE = 1_000
KEY_COLUMNS = ("role", "selector", "status", "dns_name", "dns_value", "error")
ROTATION_COLUMNS = ("domain_id", "name", "signing", "next", "previous", "rotation_started_at", "retires_at")

dkim = typer.Typer(
    name="dkim", help="DKIM keys of domains, and their rotation.", no_args_is_help=True, rich_markup_mode=None
)
Domain = Annotated[str, typer.Argument(metavar="DOMAIN", help="Name or id of the domain, of any tenant.")]


@dkim.command("list")
@with_settings("operator client")
def list_rotations(*, settings: Settings, limit: Limit = 0, output: ListOutput = ListFormat.TABLE) -> None:
    """List the domains whose DKIM key is being rotated, with their selectors."""
    with admin_service(settings) as service:
        from postroom.admin.v1alpha1.dkim_pb2 import ListDkimRotationsRequest

        request = ListDkimRotationsRequest()
        rows = [_selectors(keys) for keys in pages(service.ListDkimRotations, request, "domains", PAGE_SIZE, limit)]
    print_rows(rows, ROTATION_COLUMNS, output)


@dkim.command("show")
@with_settings("operator client")
def show_keys(*, settings: Settings, domain: Domain, output: ListOutput = ListFormat.TABLE) -> None:
    """Show the DKIM keys of a domain: the one that signs, and the next or the previous one during a rotation."""
    with admin_service(settings) as service:
        from postroom.admin.v1alpha1.dkim_pb2 import GetDkimKeysRequest

        keys = service.GetDkimKeys(GetDkimKeysRequest(**_subject(domain)))
    _print_keys(keys, output)


@dkim.command("rotate")
@with_settings("operator client")
def rotate_key(
    *,
    settings: Settings,
    domain: Domain,
    selector: Annotated[
        str, typer.Option("--selector", metavar="NAME", help="Selector of the new key; generated if not set.")
    ] = "",
    now: Annotated[
        bool,
        typer.Option("--now", help="Sign with the new key at once: receivers may not find its record yet."),
    ] = False,
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """Rotate the DKIM key of a domain.

    Publish the record of the next key, which is printed: the key signs once all DNS servers of the domain have it. Run
    the command again to have them asked at once. The record of the previous key stays for --dkim-overlap.
    """
    with admin_service(settings) as service:
        from postroom.admin.v1alpha1.dkim_pb2 import RotateDkimKeyRequest

        request = RotateDkimKeyRequest(**_subject(domain), selector=selector, immediately=now)
        keys = service.RotateDkimKey(request)
    _print_keys(keys, output)


@dkim.command("cancel")
@with_settings("operator client")
def cancel_rotation(*, settings: Settings, domain: Domain, output: ListOutput = ListFormat.TABLE) -> None:
    """Discard the next DKIM key of a domain, if it does not sign yet."""
    with admin_service(settings) as service:
        from postroom.admin.v1alpha1.dkim_pb2 import CancelDkimRotationRequest

        keys = service.CancelDkimRotation(CancelDkimRotationRequest(**_subject(domain)))
    _print_keys(keys, output)


def _subject(domain: str) -> dict[str, str]:
    """Return the fields of a request that name the domain. Raises InvalidSetting."""
    return {"domain_id": domain} if is_id(domain) else {"name": domain_name("DOMAIN", domain)}


def _selectors(keys: "DkimKeys") -> dict[str, Any]:
    row = to_row(keys)
    selectors = {each["role"]: each["selector"] for each in row.pop("keys")}
    return row | {role: selectors.get(role) for role in ("signing", "next", "previous")}


def _print_keys(keys: "DkimKeys", output: ListFormat) -> None:
    row = to_row(keys)
    rows = [{"role": each["role"], "selector": each["selector"]} | each["record"] for each in row["keys"]]
    match output:
        case ListFormat.JSON:
            print_row(row, output)
        case ListFormat.CSV:
            print_rows(rows, KEY_COLUMNS, output)
        case ListFormat.TABLE:
            print_row({name: value for name, value in row.items() if name != "keys"}, output)
            typer.echo()
            print_rows(rows, KEY_COLUMNS, output)
            # Whole, and to copy: a narrow terminal shortens the value in the table.
            for record in rows:
                if record["role"] != "previous" and record["status"] != "valid":
                    typer.echo(f"\n; {record['role']}: not found in DNS yet\n{zone_line(record)}")
