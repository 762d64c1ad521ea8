"""The CSV file of an import: its columns, and its rows with every fault by line and column."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from postroomd.cli.bulk.faults import Fault
from postroomd.cli.csv_cells import unescape_formula
from postroomd.domain.addresses import ADDRESS_TOO_LONG, Address, canonical_local_part
from postroomd.domain.destinations import canonical_destination
from postroomd.domain.domain_names import canonical_domain_name
from postroomd.domain.errors import InvalidArguments
from postroomd.domain.forwardings import looping
from postroomd.domain.password_hashes import canonical_password_hash
from postroomd.domain.validation import check_password_differs, checking
from postroomd.settings import InvalidSetting

REQUIRED = ("domain", "local_part")
COLUMNS = (*REQUIRED, "password", "password_hash", "period", "aliases", "forwardings")
PERIODS = ("monthly", "yearly")
MAX_FORWARDINGS = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One mailbox of the file, in canonical form."""

    line: int
    address: Address
    password: str = field(repr=False)
    password_hash: str = field(repr=False)
    period: str
    aliases: tuple[str, ...]  # local parts
    forwardings: tuple[str, ...]


def read_rows(path: Path) -> tuple[list[Row], list[Fault]]:
    """Return the rows of a file, and its faults in the order of the lines; a row with a fault is left out.

    Raises InvalidSetting if the file can't be read, or is no CSV with the expected header.
    """
    rows: list[Row] = []
    faults: list[Fault] = []
    used: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = _header(next(reader, []))
            line = reader.line_num + 1  # on which a row begins: a cell may have several lines
            for cells in reader:
                if any(cells):
                    row, found = _parse(line, header, cells)
                    found += _duplicates(row, used) if row else []
                    faults += found
                    rows += [row] if row and not found else []
                line = reader.line_num + 1
    except OSError as error:
        raise InvalidSetting(f"FILE: can't read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise InvalidSetting(f"FILE: {path} is not UTF-8: save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise InvalidSetting(f"FILE: {path}: line {reader.line_num}: {error}") from error
    return rows, faults


def _header(names: Sequence[str]) -> list[str]:
    header = [name.strip().lower() for name in names]
    unknown = [name for name in header if name not in COLUMNS]
    missing = [name for name in REQUIRED if name not in header]
    if not {"password", "password_hash"} & set(header):
        missing.append("password or password_hash")
    if unknown or missing or len(set(header)) < len(header):
        # The names of unknown columns are not repeated: in a file without a header they are cells, perhaps passwords.
        fault = f"{', '.join(missing)} is missing" if missing else f"a column is {'unknown' if unknown else 'repeated'}"
        raise InvalidSetting(
            f"FILE: line 1: {fault}: expected the columns domain, local_part, password or password_hash, and perhaps"
            f" {', '.join(COLUMNS[4:])}, separated by commas"
        )
    return header


def _parse(line: int, header: Sequence[str], cells: Sequence[str]) -> tuple[Row | None, list[Fault]]:
    if len(cells) != len(header):
        return None, [Fault(line, "", f"expected {len(header)} cells, and there are {len(cells)}")]
    # Passwords and hashes are taken as they are: a password may begin with an apostrophe and a formula's sign.
    values = {
        name: cell if name.startswith("password") else unescape_formula(cell.strip())
        for name, cell in zip(header, cells, strict=True)
    }
    faults = list(_faults_of_secrets(line, values))
    try:
        name = canonical_domain_name(values["domain"])
    except ValueError as error:
        faults.append(Fault(line, "domain", str(error)))
        name = ""
    local_part = _local_part(line, "local_part", values["local_part"], faults)
    address = Address(local_part, name)
    faults += _faults_of_password(line, values, address if local_part and name else None)
    period = values.get("period", "").lower() or PERIODS[0]
    if period not in PERIODS:
        faults.append(Fault(line, "period", f"must be {' or '.join(PERIODS)}"))
    aliases = tuple(_aliases(line, values.get("aliases", ""), name, faults))
    forwardings = tuple(_forwardings(line, values.get("forwardings", ""), faults))
    faults += [
        Fault(line, "forwardings", f"{destination} {message}")
        for destination, message in looping(address, aliases, forwardings)
    ]
    row = Row(line, address, values.get("password", ""), values.get("password_hash", ""), period, aliases, forwardings)
    return (row if local_part and name else None), faults


def _local_part(line: int, column: str, text: str, faults: list[Fault], item: str = "") -> str:
    """Return a local part in its stored form. `item` names one of several in the cell."""
    try:
        return canonical_local_part(text)
    except ValueError as error:
        faults.append(Fault(line, column, f"{item}: {error}" if item else str(error)))
        return ""


def _faults_of_secrets(line: int, values: Mapping[str, str]) -> Iterator[Fault]:
    password, password_hash = values.get("password", ""), values.get("password_hash", "")
    if password and password_hash:
        yield Fault(line, "password_hash", "must not be set together with password: set one of the two")
    if not password and not password_hash:
        yield Fault(line, "password" if "password" in values else "password_hash", "must be set")
    if password_hash:
        try:
            canonical_password_hash(password_hash)
        except ValueError as error:
            yield Fault(line, "password_hash", str(error))


def _faults_of_password(line: int, values: Mapping[str, str], address: Address | None) -> list[Fault]:
    """Return the faults by the rules of the service for a password and its address, unless that is invalid."""
    faults = [Fault(line, "local_part", ADDRESS_TOO_LONG)] if address and address.is_too_long else []
    if not (password := values.get("password", "")):
        return faults
    try:
        with checking() as check:
            canonical = check.password("password", password)
            if address:
                check_password_differs(check, "password", canonical, address)
    except InvalidArguments as error:
        faults += [Fault(line, "password", violation.help_message) for violation in error.violations]
    return faults


def _aliases(line: int, cell: str, domain_name: str, faults: list[Fault]) -> Iterator[str]:
    """Yield the local parts of aliases, which are separated by spaces and may be whole addresses of the domain.

    `@` is the catch-all of the domain, whose local part is empty.
    """
    seen = set()
    for item in cell.split():
        text, separator, domain = item.rpartition("@")
        if domain and separator and domain.lower() != domain_name:
            faults.append(Fault(line, "aliases", f"{item}: must be in the domain of the mailbox"))
            continue
        catch_all = bool(separator) and not text
        local_part = "" if catch_all else _local_part(line, "aliases", text if separator else item, faults, item)
        if local_part in seen:
            faults.append(Fault(line, "aliases", f"{item} is repeated"))
        if local_part or catch_all:
            seen.add(local_part)
            yield local_part


def _forwardings(line: int, cell: str, faults: list[Fault]) -> Iterator[str]:
    seen = set()
    for item in cell.split():
        try:
            destination = canonical_destination(item)
        except ValueError as error:
            faults.append(Fault(line, "forwardings", f"{item}: {error}"))
            continue
        if destination.lower() in seen:
            faults.append(Fault(line, "forwardings", f"{destination} is repeated"))
        seen.add(destination.lower())
        yield destination
    if len(seen) > MAX_FORWARDINGS:
        faults.append(Fault(line, "forwardings", f"must be at most {MAX_FORWARDINGS}"))


def _duplicates(row: Row, used: dict[str, int]) -> list[Fault]:
    """Return the faults of addresses that an earlier line has, and record those of the row."""
    faults = []
    for column, local_part in (("local_part", row.address.local_part), *(("aliases", each) for each in row.aliases)):
        first = used.setdefault(f"{local_part}@{row.address.domain_name}", row.line)
        if first != row.line:
            faults.append(Fault(row.line, column, f"{local_part}@{row.address.domain_name} is on line {first} already"))
        elif column == "aliases" and local_part == row.address.local_part:
            faults.append(Fault(row.line, column, f"{local_part}: must differ from the address of the mailbox"))
    return faults
