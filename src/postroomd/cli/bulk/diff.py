"""The difference between the desired and the present state, as changes in the order in which they are made."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from postroomd.cli.bulk.document import WantedDomain, WantedMailbox
from postroomd.cli.bulk.faults import Fault
from postroomd.cli.bulk.state import PresentDomain, PresentMailbox

SCHEDULED = "deletion_scheduled"
GONE = "deleting"


class Step(IntEnum):
    """Kinds of changes, in their order: what is deleted makes room for what is created."""

    DELETE_ALIAS = 1
    DELETE_FORWARDING = 2
    DELETE_MAILBOX = 3
    DELETE_DOMAIN = 4
    CREATE_DOMAIN = 5
    RESTORE_MAILBOX = 6
    CREATE_MAILBOX = 7
    UPDATE_MAILBOX = 8
    CREATE_ALIAS = 9
    UPDATE_ALIAS = 10
    CREATE_FORWARDING = 11
    UPDATE_FORWARDING_SETTINGS = 12

    @property
    def action(self) -> str:
        """The verb: create, update, restore or delete."""
        return self.name.lower().partition("_")[0]

    @property
    def kind(self) -> str:
        """The kind of resource, such as `mailbox`."""
        return self.name.lower().partition("_")[2]


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `name` identifies the resource, `of` the mailbox that it belongs to.

    `fields` are the new values, and `before` the present ones. `row` is the present resource, or the mailbox of an
    alias or a forwarding to create; None if that is created too.
    """

    step: Step
    name: str
    domain: str
    of: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)
    row: Mapping[str, Any] | None = None
    wanted: WantedMailbox | None = field(default=None, repr=False)

    def __str__(self) -> str:
        sign = {"create": "+", "delete": "-"}.get(self.step.action, "~")
        owner = f" of {self.of}" if self.of else ""
        details = [
            f"{name} {_text(self.before[name])} -> {_text(value)}" if name in self.before else f"{name} {_text(value)}"
            for name, value in self.fields.items()
        ]
        restored = ["restore"] if self.step is Step.RESTORE_MAILBOX else []
        text = ", ".join((*restored, *details))
        return f"{sign} {self.step.kind.replace('_', ' ')} {self.name}{owner}" + (f": {text}" if text else "")

    def to_row(self) -> dict[str, Any]:
        """Return the change as a row of output. It has no passwords and no hashes."""
        changes = {name: {"from": self.before.get(name), "to": value} for name, value in self.fields.items()}
        return {
            "action": self.step.action,
            "kind": self.step.kind,
            "name": self.name,
            "mailbox": self.of or None,
            "changes": changes,
        }


@dataclass(slots=True)
class Plan:
    """The changes, in their order; what can't be reached; and how much is kept that the file does not have."""

    changes: list[Change] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    kept: int = 0

    @property
    def deletions(self) -> int:
        """The number of resources to delete."""
        return sum(change.step.action == "delete" for change in self.changes)


def make_plan(wanted: Mapping[str, WantedDomain], present: Mapping[str, PresentDomain], *, prune: bool) -> Plan:
    """Return the changes that lead from the present to the desired state; deletions only with `prune`."""
    plan = Plan()
    surplus: list[Change] = []
    for name, domain in present.items():
        if name not in wanted:
            surplus += _delete_mailboxes(domain, domain.mailboxes.values())
            surplus.append(Change(Step.DELETE_DOMAIN, name, name, row=domain.row))
    for name, wanted_domain in wanted.items():
        found = present.get(name)
        if found is None:
            plan.changes.append(Change(Step.CREATE_DOMAIN, name, name, fields=_given(wanted_domain)))
        elif wanted_domain.project_id not in {"", found.row["project_id"]}:
            fault = f"{name} is in project {found.row['project_id']}, which can't be changed"
            plan.faults.append(Fault(wanted_domain.line, "project_id", fault))
        _compare_mailboxes(wanted_domain, found or PresentDomain({}), plan, surplus)
    if prune:
        plan.changes += surplus
    else:
        plan.kept = len(surplus)
    _find_conflicts(wanted, present, plan)
    plan.changes.sort(key=lambda change: change.step)  # stable: otherwise in the order of the file
    return plan


def _given(domain: WantedDomain) -> dict[str, str]:
    return {"project_id": domain.project_id} if domain.project_id else {}


def _delete_mailboxes(domain: PresentDomain, mailboxes: Any) -> Iterator[Change]:
    for mailbox in mailboxes:
        if mailbox.row["status"] not in {SCHEDULED, GONE}:
            yield Change(Step.DELETE_MAILBOX, mailbox.row["email"], domain.row["name"], row=mailbox.row)


def _compare_mailboxes(wanted: WantedDomain, present: PresentDomain, plan: Plan, surplus: list[Change]) -> None:
    if wanted.mailboxes is None:
        return
    for local_part, mailbox in wanted.mailboxes.items():
        _compare_mailbox(mailbox, present.mailboxes.get(local_part), plan, surplus)
    unwanted = [each for local_part, each in present.mailboxes.items() if local_part not in wanted.mailboxes]
    surplus += _delete_mailboxes(present, unwanted)


def _compare_mailbox(wanted: WantedMailbox, present: PresentMailbox | None, plan: Plan, surplus: list[Change]) -> None:
    name, domain = str(wanted.address), wanted.address.domain_name
    changes = plan.changes
    if present is None:
        if not wanted.password_hash and wanted.password_file is None:
            plan.faults.append(Fault(wanted.line, "password_file", f"must be set, or password_hash: {name} is new"))
        if wanted.period == "canceled":
            plan.faults.append(Fault(wanted.line, "period", f"must be monthly or yearly: {name} is new"))
        fields = {"period": wanted.period or "monthly", **wanted.settings}
        changes.append(Change(Step.CREATE_MAILBOX, name, domain, fields=fields, wanted=wanted))
    else:
        if present.row["status"] == GONE:
            plan.faults.append(Fault(wanted.line, "local_part", f"{name} is being purged: wait until it is"))
            return
        if present.row["status"] == SCHEDULED:
            changes.append(Change(Step.RESTORE_MAILBOX, name, domain, row=present.row))
        before = {key: present.row[key] for key in wanted.settings}
        after = dict(wanted.settings)
        if wanted.period is not None:
            before["period"], after["period"] = present.row["next_subscription_period"], wanted.period
        differing = {key: value for key, value in after.items() if before[key] != value}
        if differing:
            changes.append(Change(Step.UPDATE_MAILBOX, name, domain, fields=differing, before=before, row=present.row))
    row = present.row if present else None
    _compare_aliases(wanted, present, row, changes, surplus)
    _compare_forwardings(wanted, present, row, changes, surplus)


def _compare_aliases(
    wanted: WantedMailbox,
    present: PresentMailbox | None,
    row: Mapping[str, Any] | None,
    changes: list[Change],
    surplus: list[Change],
) -> None:
    if wanted.aliases is None:
        return
    owner, domain = str(wanted.address), wanted.address.domain_name
    existing = present.aliases if present else {}
    for local_part, description in wanted.aliases.items():
        name, alias = f"{local_part}@{domain}", existing.get(local_part)
        new = {} if description is None else {"description": description}
        if alias is None:
            changes.append(Change(Step.CREATE_ALIAS, name, domain, owner, new, row=row))
        elif new and alias["description"] != description:
            before = {"description": alias["description"]}
            changes.append(Change(Step.UPDATE_ALIAS, name, domain, owner, new, before, alias))
    for local_part, alias in existing.items():
        if local_part not in wanted.aliases:
            surplus.append(Change(Step.DELETE_ALIAS, alias["email"], domain, owner, row=alias))


def _compare_forwardings(
    wanted: WantedMailbox,
    present: PresentMailbox | None,
    row: Mapping[str, Any] | None,
    changes: list[Change],
    surplus: list[Change],
) -> None:
    owner, domain = str(wanted.address), wanted.address.domain_name
    existing = present.forwardings if present else {}
    if wanted.forwardings is not None:
        has = {destination.lower() for destination in existing}
        wants = {destination.lower() for destination in wanted.forwardings}
        changes += (
            Change(Step.CREATE_FORWARDING, destination, domain, owner, row=row)
            for destination in wanted.forwardings
            if destination.lower() not in has
        )
        surplus += (
            Change(Step.DELETE_FORWARDING, destination, domain, owner, row=forwarding)
            for destination, forwarding in existing.items()
            if destination.lower() not in wants
        )
    before = present.forwarding_settings if present else {"keep_copy": True, "enabled": True}
    differing = {name: value for name, value in wanted.forwarding_settings.items() if before.get(name) != value}
    if differing:
        changes.append(Change(Step.UPDATE_FORWARDING_SETTINGS, owner, domain, "", differing, before, row))


def _find_conflicts(wanted: Mapping[str, WantedDomain], present: Mapping[str, PresentDomain], plan: Plan) -> None:
    """Add the faults of addresses that another mailbox has, as its own or as an alias that stays."""
    deleted = {change.name for change in plan.changes if change.step is Step.DELETE_ALIAS}
    lines = {
        str(mailbox.address): mailbox.line
        for domain in wanted.values()
        for mailbox in (domain.mailboxes or {}).values()
    }
    owners = {
        alias["email"]: mailbox.row["email"]
        for domain in present.values()
        for mailbox in domain.mailboxes.values()
        for alias in mailbox.aliases.values()
    }
    addresses = {mailbox.row["email"] for domain in present.values() for mailbox in domain.mailboxes.values()}
    for change in plan.changes:
        if change.step not in {Step.CREATE_ALIAS, Step.CREATE_MAILBOX}:
            continue
        line = lines.get(change.of or change.name, 1)
        if change.name in owners and change.name not in deleted:
            fault = f"{change.name} is an alias of {owners[change.name]}: delete it, or have --prune do so"
            plan.faults.append(Fault(line, change.step.kind, fault))
        elif change.step is Step.CREATE_ALIAS and change.name in addresses:
            fault = f"{change.name} is a mailbox, whose address is free once it is purged"
            plan.faults.append(Fault(line, "aliases", fault))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f'"{value}"' if value == "" or (isinstance(value, str) and " " in value) else str(value)
