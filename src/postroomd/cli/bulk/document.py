"""The YAML file of `plan` and `apply`: the desired state of domains, with every fault by its line.

    domains:
      - name: example.org
        mailboxes:                    # left out: mailboxes are not compared
          - local_part: ann
            period: yearly            # left out: monthly at the creation, and not compared
            password_file: ann.txt    # or password_hash; read at the creation only
            aliases: [info, {local_part: sales, description: Sales}, "@"]   # "@" is the domain's catch-all
            forwardings: [ann@example.net]
            keep_copy: false
            forwarding_enabled: true
            display_name: Ann
            storage_quota_bytes: 1000000000
            login_disabled: false     # and sending_disabled, receiving_disabled

What is left out is not compared; an empty list means that there are none.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from postroomd.cli.bulk.faults import Fault
from postroomd.domain.addresses import ADDRESS_TOO_LONG, Address, canonical_local_part
from postroomd.domain.destinations import canonical_destination
from postroomd.domain.domain_names import canonical_domain_name
from postroomd.domain.forwardings import looping
from postroomd.domain.password_hashes import canonical_password_hash
from postroomd.domain.validation import MAX_DESCRIPTION, MAX_DISPLAY_NAME, MAX_STORAGE_QUOTA, Checker
from postroomd.settings import InvalidSetting

MAX_FORWARDINGS = 5
PERIODS = ("monthly", "yearly", "canceled")
CATCH_ALL = "@"  # the alias of all other addresses of the domain, whose local part is empty
BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class WantedMailbox:
    """A mailbox of the file. None: not compared."""

    line: int
    address: Address
    period: str | None = None
    password_hash: str = field(default="", repr=False)
    password_file: Path | None = None
    settings: Mapping[str, bool | int | str] = field(default_factory=dict)
    """Fields of the mailbox itself, beside its period."""
    aliases: Mapping[str, str | None] | None = None  # local part -> description
    forwardings: tuple[str, ...] | None = None
    forwarding_settings: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WantedDomain:
    """A domain of the file. Without mailboxes, they are not compared."""

    line: int
    name: str
    project_id: str = ""
    mailboxes: Mapping[str, WantedMailbox] | None = None  # by local part


def read_document(path: Path) -> tuple[dict[str, WantedDomain], list[Fault]]:
    """Return the domains of a file by name, and its faults. Raises InvalidSetting if it can't be read."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where libyaml is there
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=loader)
    except OSError as error:
        raise InvalidSetting(f"FILE: can't read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise InvalidSetting(f"FILE: {path} is not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidSetting(f"FILE: {path}:{line}: {error.problem}") from None  # its text quotes the line
    except yaml.YAMLError:
        raise InvalidSetting(f"FILE: {path} is not YAML: it has characters that YAML does not allow") from None
    reader = _Reader(path.parent)
    domains = reader.document(root)
    return domains, sorted(reader.faults, key=lambda fault: fault.line)


class _Reader:
    """Reads the nodes of a document, and collects the faults."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._used: dict[str, tuple[int, str]] = {}  # address -> line and path
        self.faults: list[Fault] = []

    def document(self, root: Any) -> dict[str, WantedDomain]:
        domains: dict[str, WantedDomain] = {}
        if root is None:
            self._refuse(1, "domains", "must be set: the file is empty")
            return domains
        fields = self._mapping(root, "", {"domains"})
        if "domains" not in fields:
            self._refuse(_line(root), "domains", "must be set")
        for node, path in self._items(fields.get("domains"), "domains"):
            domain = self._domain(node, path)
            if domain and domain.name in domains:
                self._refuse(domain.line, f"{path}.name", f"{domain.name} is on line {domains[domain.name].line}")
            elif domain:
                domains[domain.name] = domain
        return domains

    def _domain(self, node: Any, path: str) -> WantedDomain | None:
        fields = self._mapping(node, path, {"name", "project_id", "mailboxes"})
        name = self._canonical(fields.get("name"), f"{path}.name", canonical_domain_name, _line(node))
        mailboxes: dict[str, WantedMailbox] = {}
        for item, item_path in self._items(fields.get("mailboxes"), f"{path}.mailboxes"):
            mailbox = self._mailbox(item, item_path, name)
            if mailbox:
                mailboxes[mailbox.address.local_part] = mailbox
        if not name:
            return None
        project_id = self._text(fields.get("project_id"), f"{path}.project_id")
        return WantedDomain(_line(node), name, project_id, mailboxes if "mailboxes" in fields else None)

    def _mailbox(self, node: Any, path: str, domain_name: str) -> WantedMailbox | None:
        known = {"local_part", "period", "password_file", "password_hash", "aliases", "forwardings"}
        known |= {"keep_copy", "forwarding_enabled"} | set(SETTINGS)
        fields = self._mapping(node, path, known)
        line = _line(node)
        local_part = self._canonical(fields.get("local_part"), f"{path}.local_part", canonical_local_part, line)
        period = self._text(fields.get("period"), f"{path}.period") or None
        if period is not None and period not in PERIODS:
            self._refuse(_line(fields["period"]), f"{path}.period", f"must be one of {', '.join(PERIODS)}")
        file, password_hash = fields.get("password_file"), fields.get("password_hash")
        if file and password_hash:
            self._refuse(_line(password_hash), f"{path}.password_hash", "set it or password_file, not both")
        if not local_part:
            return None
        address = Address(local_part, domain_name)
        if address.is_too_long:
            self._refuse(line, f"{path}.local_part", ADDRESS_TOO_LONG)
        self._use(address, line, f"{path}.local_part")
        settings = {
            name: read(self, fields[name], f"{path}.{name}") for name, read in SETTINGS.items() if name in fields
        }
        forwarding_settings = {
            field_name: self.boolean(fields[name], f"{path}.{name}")
            for name, field_name in (("keep_copy", "keep_copy"), ("forwarding_enabled", "enabled"))
            if name in fields
        }
        aliases = self._aliases(fields["aliases"], f"{path}.aliases", domain_name) if "aliases" in fields else None
        forwardings = None
        if "forwardings" in fields:
            forwardings = self._forwardings(fields["forwardings"], f"{path}.forwardings")
            for destination, message in looping(address, aliases or (), forwardings):
                self._refuse(_line(fields["forwardings"]), f"{path}.forwardings", f"{destination} {message}")
        return WantedMailbox(
            line=line,
            address=address,
            period=period,
            password_hash=self._password_hash(password_hash, f"{path}.password_hash"),
            password_file=self._directory / self._text(file, f"{path}.password_file") if file else None,
            settings=settings,
            aliases=aliases,
            forwardings=forwardings,
            forwarding_settings=forwarding_settings,
        )

    def _aliases(self, node: Any, path: str, domain_name: str) -> dict[str, str | None]:
        aliases: dict[str, str | None] = {}
        for item, item_path in self._items(node, path):
            description = None
            text_node = item
            if _is_mapping(item):
                fields = self._mapping(item, item_path, {"local_part", "description"})
                text_node = fields.get("local_part")
                if "description" in fields:
                    description = self._free_text(fields["description"], f"{item_path}.description", MAX_DESCRIPTION)
            catch_all = self._text(text_node, item_path) == CATCH_ALL
            local_part = "" if catch_all else self._canonical(text_node, item_path, canonical_local_part, _line(item))
            if local_part or catch_all:
                self._use(Address(local_part, domain_name), _line(item), item_path)
                aliases[local_part] = description
        return aliases

    def _forwardings(self, node: Any, path: str) -> tuple[str, ...]:
        found: dict[str, str] = {}
        for item, item_path in self._items(node, path):
            destination = self._canonical(item, item_path, canonical_destination, _line(item))
            if destination.lower() in found:
                self._refuse(_line(item), item_path, "is repeated")
            if destination:
                found[destination.lower()] = destination
        if len(found) > MAX_FORWARDINGS:
            self._refuse(_line(node), path, f"must be at most {MAX_FORWARDINGS}")
        return tuple(found.values())

    def _password_hash(self, node: Any, path: str) -> str:
        text = self._text(node, path)
        try:
            return canonical_password_hash(text) if text else ""
        except ValueError as error:
            self._refuse(_line(node), path, str(error))
            return ""

    def _use(self, address: Address, line: int, path: str) -> None:
        first, first_path = self._used.setdefault(str(address), (line, path))
        if first_path != path:
            self._refuse(line, path, f"{address} is on line {first} already")

    def display_name(self, node: Any, path: str) -> str:
        """Return a display name."""
        return self._free_text(node, path, MAX_DISPLAY_NAME)

    def _free_text(self, node: Any, path: str, max_length: int) -> str:
        check = Checker()
        text = check.text("text", self._text(node, path), max_length)
        for violation in check.violations:
            self._refuse(_line(node), path, violation.help_message)
        return text

    # --- Nodes --------------------------------------------------------------------------------------------------------

    def _refuse(self, line: int, path: str, message: str) -> None:
        self.faults.append(Fault(line, path, message))

    def _mapping(self, node: Any, path: str, known: set[str]) -> dict[str, Any]:
        if not _is_mapping(node):
            self._refuse(_line(node), path, f"must be a mapping, with fields of {', '.join(sorted(known))}")
            return {}
        fields: dict[str, Any] = {}
        for key, value in node.value:
            name = key.value if isinstance(key.value, str) else ""
            if name == "<<":
                self._refuse(_line(key), path, "merge keys (<<) are not supported: repeat the fields")
            elif name not in known:
                self._refuse(_line(key), f"{path}.{name}".lstrip("."), f"is unknown: use {', '.join(sorted(known))}")
            elif name in fields:
                self._refuse(_line(key), f"{path}.{name}".lstrip("."), "is repeated")
            else:
                fields[name] = value
        return fields

    def _items(self, node: Any, path: str) -> Iterator[tuple[Any, str]]:
        if node is None:
            return
        if _is_null(node):  # perhaps what was below it is commented out: with --prune, none would mean all are deleted
            self._refuse(_line(node), path, "must be a list: write [] for none, or leave it out")
            return
        if node.id != "sequence":
            self._refuse(_line(node), path, "must be a list")
            return
        for index, item in enumerate(node.value):
            yield item, f"{path}[{index}]"

    def _text(self, node: Any, path: str) -> str:
        """Return a scalar as it is written: `no` and `1` are texts too."""
        if node is None or _is_null(node):
            return ""
        if node.id != "scalar":
            self._refuse(_line(node), path, "must be a text")
            return ""
        return str(node.value)

    def boolean(self, node: Any, path: str) -> bool:
        """Return `true` or `false`."""
        value = BOOLEANS.get(self._text(node, path))
        if value is None:
            self._refuse(_line(node), path, "must be true or false")
        return bool(value)

    def number(self, node: Any, path: str) -> int:
        """Return a number of octets."""
        text = self._text(node, path)
        if not (text.isascii() and text.isdecimal() and len(text) < 20) or int(text) > MAX_STORAGE_QUOTA:
            self._refuse(_line(node), path, f"must be 0 to {MAX_STORAGE_QUOTA}")
            return 0
        return int(text)

    def _canonical(self, node: Any, path: str, canonical: Callable[[str], str], line: int) -> str:
        text = self._text(node, path)
        if not text:
            self._refuse(line, path, "must be set")
            return ""
        try:
            return canonical(text)
        except ValueError as error:
            self._refuse(_line(node), path, str(error))
            return ""


SETTINGS: Mapping[str, Callable[[_Reader, Any, str], bool | int | str]] = {
    "display_name": _Reader.display_name,
    "storage_quota_bytes": _Reader.number,
    "login_disabled": _Reader.boolean,
    "sending_disabled": _Reader.boolean,
    "receiving_disabled": _Reader.boolean,
}
"""Fields of a mailbox that are compared as they are -> how they are read."""


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1 if node is not None else 1


def _is_null(node: Any) -> bool:
    return bool(node.id == "scalar" and node.tag.endswith(":null"))


def _is_mapping(node: Any) -> bool:
    return node is not None and node.id == "mapping"
