"""The facts, as a table: what the public service answers, and where in the recording Postroom has to answer the same.

`source`: R, recorded; D, documented; I, inferred from the SDKs; C, decided by the contract. Each value is read from the
recording by `read`, and compared with `expected`: for equality, or as a regular expression.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.compatibility.recording import NAME, REQUIRED, Recording

DOMAIN_KEYS = {
    "id",
    "project_id",
    "organization_id",
    "name",
    "status",
    "mailbox_total_count",
    "created_at",
    "updated_at",
    "webmail_url",
    "imap_url",
    "pop3_url",
    "smtp_url",
}
MAILBOX_KEYS = {
    "id",
    "project_id",
    "organization_id",
    "domain_id",
    "email",
    "status",
    "subscription_period",
    "subscription_period_started_at",
    "next_subscription_period",
    "next_subscription_period_starts_at",
    "created_at",
    "updated_at",
    "deletion_scheduled_at",
}
RECORD_KEYS = {"id", "domain_id", "status", "level", "dns_type", "dns_name", "dns_value", "created_at", "updated_at"}
ALIAS_KEYS = {"id", "email", "mailbox_id", "description", "status", "created_at", "updated_at"}
FORWARDING_KEYS = {"id", "mailbox_id", "email", "status", "created_at", "updated_at"}
SETTINGS_KEYS = {"mailbox_id", "keep_copy", "enabled", "created_at", "updated_at"}
ADDED = {
    "etag",
    "display_name",
    "storage_quota_bytes",
    "login_disabled",
    "sending_disabled",
    "receiving_disabled",
    "catch_all",
}
"""Keys that Postroom adds to every resource (docs/compatibility.md, "further keys")."""

UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
INSTANT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z"
RECORDED_INSTANTS = ("created_at", "updated_at")

RECORDS = {
    "domain_validation": ("required", "txt", "", "scaleway-mailbox=[0-9a-f]{32}"),
    "spf": ("required", "txt", "", r"v=spf1 include:spf\.mailbox\.scw\.eu -all"),
    "dkim": ("required", "txt", "scw-mbox._domainkey.", "v=DKIM1; h=sha256; k=rsa; p=[A-Za-z0-9+/]{380,}={0,2}"),
    "dmarc": ("required", "txt", "_dmarc.", "v=DMARC1; p=none"),
    "mx": ("required", "mx", "", r"10 smtp\.mailbox\.scw\.eu\."),
    "autoconfig": ("recommended", "cname", "autoconfig.", r"autoconfig\.mailbox\.scw\.eu\."),
    "autodiscover": ("recommended", "cname", "autodiscover.", r"autodiscover\.mailbox\.scw\.eu\."),
    "imap": ("recommended", "srv", "_imaps._tcp.", r"0 1 993 imap\.mailbox\.scw\.eu\."),
    "pop3": ("recommended", "srv", "_pop3s._tcp.", r"0 1 995 pop3\.mailbox\.scw\.eu\."),
    "submission": ("recommended", "srv", "_submissions._tcp.", r"0 1 465 smtp\.mailbox\.scw\.eu\."),
    "caldav": ("optional", "srv", "_caldavs._tcp.", r"0 1 443 caldav\.mailbox\.scw\.eu\."),
    "carddav": ("optional", "srv", "_carddavs._tcp.", r"0 1 443 carddav\.mailbox\.scw\.eu\."),
}
"""Level, type, label below the domain's name, and value of each record."""

UNKNOWN, MONTHLY, YEARLY = "unknown_subscription_period", "monthly", "yearly"
PERIODS = {
    "mailbox created": ("waiting_payment", UNKNOWN, False, MONTHLY, False),
    "mailbox unpaid": ("waiting_payment", UNKNOWN, False, MONTHLY, False),
    "early paid": ("waiting_domain", MONTHLY, True, MONTHLY, True),
    "mailbox paid": ("creating", MONTHLY, True, MONTHLY, True),
    "mailbox ready": ("ready", MONTHLY, True, MONTHLY, True),
    "period set": ("ready", MONTHLY, True, YEARLY, True),
    "password set": ("ready", MONTHLY, True, YEARLY, True),
    "mailbox deleted": ("deletion_scheduled", MONTHLY, True, YEARLY, True),
    "mailbox restored": ("restoring", MONTHLY, True, YEARLY, True),
}
"""Status, period, whether its start is set, next period, whether its start is set: at each moment of a mailbox."""

ERRORS: dict[str, tuple[int, str, set[str]]] = {
    "not found": (404, "not_found", {"resource", "resource_id"}),
    "invalid": (400, "invalid_arguments", {"details"}),
    "denied": (401, "denied_authentication", {"method", "reason"}),
    "forbidden": (403, "permissions_denied", {"details"}),
    "quota": (403, "quotas_exceeded", {"details"}),
    "conflict": (409, "conflict", {"resource", "resource_id", "details"}),
    "transient": (409, "transient_state", {"resource", "resource_id", "current_state"}),
    "not restorable": (412, "precondition_failed", {"precondition", "help_message"}),
    "domain in use": (412, "precondition_failed", {"precondition", "help_message"}),
    "etag": (412, "precondition_failed", {"resource", "resource_id", "precondition", "help_message"}),
    "locked": (423, "locked", {"resource", "resource_id"}),
    "method": (405, "method_not_allowed", set()),
    "too large": (413, "payload_too_large", set()),
    "media type": (415, "unsupported_media_type", set()),
}
"""Status, type, and the keys besides type and message of each error."""

DETAILS = {
    "invalid": {"argument_name", "reason", "help_message"},
    "forbidden": {"resource", "action"},
    "quota": {"resource", "quota", "current"},
    "conflict": {"argument_name", "resource", "resource_id", "email", "current_state"},
}
"""The keys of the entries of `details`."""


@dataclass(frozen=True)
class Fact:
    """One fact about the public service; `deviation` names the row of docs/compatibility.md if Postroom differs."""

    what: str
    source: str
    read: Callable[[Recording], Any]
    expected: Any
    deviation: str = ""

    def check(self, recording: Recording) -> None:
        """Raise AssertionError if the recording contradicts the fact."""
        found = self.read(recording)
        if isinstance(self.expected, re.Pattern):
            assert self.expected.fullmatch(str(found)), f"{self.what}: {found}"
        else:
            assert found == self.expected, self.what

    def __str__(self) -> str:
        return self.what


def value(label: str, *path: str | int) -> Callable[[Recording], Any]:
    """Return a reader of a value in the body of an exchange."""

    def read(recording: Recording) -> Any:
        found = recording.body(label)
        for step in path:
            found = found[step]
        return found

    return read


def keys(label: str, *path: str | int, without: frozenset[str] = frozenset(ADDED)) -> Callable[[Recording], Any]:
    """Return a reader of the keys of an object in the body of an exchange, without those that Postroom adds."""
    return lambda recording: set(value(label, *path)(recording)) - without


def status(label: str) -> Callable[[Recording], int]:
    return lambda recording: recording[label].status


def header(label: str, name: str) -> Callable[[Recording], str | None]:
    return lambda recording: recording[label].headers.get(name)


def mailbox(recording: Recording, label: str) -> Any:
    """Return the mailbox in an exchange: the body, or the only one of a list."""
    body = recording.body(label)
    return body["mailboxes"][0] if "mailboxes" in body else body


def changed(before: str, after: str) -> Callable[[Recording], set[str]]:
    """Return a reader of the keys, without added ones, whose values differ between two exchanges."""

    def read(recording: Recording) -> set[str]:
        first, second = mailbox(recording, before), mailbox(recording, after)
        return {key for key in first if first[key] != second[key]} - ADDED

    return read


def seconds_between(label: str, first: str, second: str) -> Callable[[Recording], float]:
    """Return a reader of the time between two instants of a body."""

    def read(recording: Recording) -> float:
        start, end = (datetime.fromisoformat(mailbox(recording, label)[name]) for name in (first, second))
        return (end - start).total_seconds()

    return read


def _periods() -> Iterator[Fact]:
    names = (
        "status",
        "subscription_period",
        "subscription_period_started_at",
        "next_subscription_period",
        "next_subscription_period_starts_at",
    )
    for label, expected in PERIODS.items():

        def read(recording: Recording, label: str = label) -> Any:
            values = [mailbox(recording, label)[name] for name in names]
            return tuple(
                each is not None if name.endswith("_at") else each for name, each in zip(names, values, strict=True)
            )

        yield Fact(f"the period fields of a mailbox: {label}", "R", read, expected)


def _records() -> Iterator[Fact]:
    for kind, (level, dns_type, label, dns_value) in RECORDS.items():
        what = f"the {kind} record"
        yield Fact(f"{what} has exactly these keys", "R", keys("records", kind, without=frozenset()), RECORD_KEYS)
        yield Fact(f"{what}: level", "R", value("records", kind, "level"), level)
        yield Fact(f"{what}: type", "R", value("records", kind, "dns_type"), f"{dns_type}_dns_type")
        yield Fact(f"{what}: name with a final dot", "R", value("records", kind, "dns_name"), f"{label}{NAME}.")
        yield Fact(f"{what}: value", "R", value("records", kind, "dns_value"), re.compile(dns_value))
        yield Fact(f"{what}: status before a validation", "R", value("records", kind, "status"), "unknown_status")
        found = "valid" if kind in REQUIRED else "not_found"
        yield Fact(f"{what}: status after a validation", "C", value("records found", kind, "status"), found)
        if kind in REQUIRED:
            absent = keys("records found", kind, without=frozenset())
            yield Fact(f"{what}: no error once it is valid", "R", absent, RECORD_KEYS)


def _errors() -> Iterator[Fact]:
    for label, (code, kind, further) in ERRORS.items():
        yield Fact(f"error {label}: HTTP status", "C", status(label), code)
        yield Fact(f"error {label}: type", "I", value(label, "type"), kind)
        yield Fact(f"error {label}: exact keys", "I", keys(label), {"type", "message"} | further)
        yield Fact(f"error {label}: media type", "R", header(label, "Content-Type"), "application/json")
        message = value(label, "message")
        yield Fact(f"error {label}: a message", "C", message, re.compile("(?!Validation Error).+"))
    for label, entry in DETAILS.items():
        yield Fact(f"error {label}: keys of each detail", "I", keys(label, "details", 0), entry)


FACTS = [
    # --- Common to every answer
    *(
        Fact(f"{label}: 200", "R", status(label), 200)
        for label in (
            *("domain created", "records", "mailbox created", "mailboxes found", "period set", "password set"),
            *("mailbox deleted", "mailbox found deleted", "mailbox restored", "replacement created", "domain deleted"),
            *("domain found deleting", "alias created", "alias created below its mailbox", "early created"),
        )
    ),
    *(
        Fact(f"{label}: application/json without a charset", "R", header(label, "Content-Type"), "application/json")
        for label in ("domain created", "records", "validation requested", "mailboxes found", "domain gone")
    ),
    *(
        Fact(f"domain: {name} is RFC 3339 in UTC", "R", value("domain created", name), re.compile(INSTANT))
        for name in RECORDED_INSTANTS
    ),
    *(
        Fact(f"{label}: {name}", "R", header(label, f"X-Ratelimit-{name}"), expected)
        for label in ("domain created", "records", "validation requested", "domain gone", "mailbox deleted")
        for name, expected in (
            ("Limit", "50, 50;w=1"),
            ("Remaining", re.compile("[1-4]?[0-9]")),
            ("Reset", "1"),
        )
    ),
    # --- Domains
    Fact("a domain has exactly these keys", "R", keys("domain created"), DOMAIN_KEYS),
    Fact("a new domain is creating", "R", value("domain created", "status"), "creating"),
    Fact("updated_at is created_at at first", "R", seconds_between("domain created", "created_at", "updated_at"), 0.0),
    Fact("then waiting_validation", "R", value("domain waiting", "status"), "waiting_validation"),
    Fact("a count is a number", "R", value("domain created", "mailbox_total_count"), 0),
    Fact("webmail_url is an https URL", "R", value("domain created", "webmail_url"), "https://mailbox.scw.eu"),
    *(
        Fact(f"{name}_url is a bare host", "R", value("domain created", f"{name}_url"), f"{name}.mailbox.scw.eu")
        for name in ("imap", "pop3", "smtp")
    ),
    Fact("a mailbox counts in its domain", "R", value("domain with a mailbox", "mailbox_total_count"), 1),
    Fact(
        "and leaves its updated_at",
        "R",
        lambda all_: all_.body("domain with a mailbox")["updated_at"] == all_.body("domain waiting")["updated_at"],
        True,
    ),
    # --- Records and validation
    Fact("exactly these 12 records", "R", keys("records", without=frozenset()), set(RECORDS)),
    *_records(),
    Fact("validate-records: 204", "R", status("validation requested"), 204),
    Fact("validate-records: no body", "R", lambda all_: all_["validation requested"].content, b""),
    Fact("validate-records: no Content-Length", "R", header("validation requested", "Content-Length"), None),
    Fact("validating at once", "R", value("domain validating", "status"), "validating"),
    Fact(
        "back to waiting_validation without an answer",
        "C",
        value("domain not answered", "status"),
        "waiting_validation",
    ),
    Fact("an unanswered record is not judged", "C", value("records not answered", "mx", "status"), "unknown_status"),
    Fact("back to waiting_validation while absent", "R", value("domain not found", "status"), "waiting_validation"),
    Fact("an absent record is not_found", "C", value("records not found", "mx", "status"), "not_found"),
    Fact("and has an error", "I", keys("records not found", "mx", without=frozenset()), RECORD_KEYS | {"error"}),
    Fact("validation_failed only if all are present", "C", value("domain invalid", "status"), "validation_failed"),
    Fact("accepted as often as one likes", "R", status("validation of required records"), 204),
    Fact("the five required records make it ready", "R", value("domain ready", "status"), "ready"),
    # --- Deletion of a domain
    Fact("a deleted domain is deleting", "R", value("domain deleted", "status"), "deleting"),
    Fact("and found until it is gone", "R", value("domain found deleting", "status"), "deleting"),
    Fact("then not found", "R", status("domain gone"), 404),
    Fact("with exactly these keys", "R", keys("domain gone"), {"message", "resource", "resource_id", "type"}),
    Fact("its name is free again", "R", status("name used again"), 200),
    Fact("mailboxes in use block it", "I", value("domain in use", "precondition"), "resource_still_in_use"),
    # --- Mailboxes
    Fact("a batch has exactly one key", "R", keys("mailbox created"), {"mailboxes"}),
    Fact("a mailbox has exactly these keys", "R", keys("mailbox created", "mailboxes", 0), MAILBOX_KEYS),
    Fact("in a domain that is not ready too", "R", keys("early created", "mailboxes", 0), MAILBOX_KEYS),
    Fact("an id is a UUID", "R", value("mailbox created", "mailboxes", 0, "id"), re.compile(UUID)),
    *_periods(),
    Fact(
        "the period starts with the payment",
        "R",
        lambda all_: all_.body("early paid")["subscription_period_started_at"] == all_.body("early paid")["updated_at"],
        True,
    ),
    Fact("unset instants are null", "R", value("mailbox unpaid", "deletion_scheduled_at"), None),
    Fact("a list is found by the whole address", "R", value("mailboxes found", "total_count"), 1),
    Fact("a list's mailboxes have the same keys", "R", keys("mailboxes found", "mailboxes", 0), MAILBOX_KEYS),
    Fact(
        "a new period is the next one alone",
        "R",
        changed("mailbox ready", "period set"),
        {"next_subscription_period", "updated_at"},
    ),
    Fact("a new password changes updated_at alone", "R", changed("period set", "password set"), {"updated_at"}),
    Fact("the zero value is not set", "I", changed("password set", "nothing set"), set()),
    Fact(
        "DELETE keeps the subscription",
        "R",
        changed("nothing set", "mailbox deleted"),
        {"status", "updated_at", "deletion_scheduled_at"},
    ),
    Fact(
        "and schedules the purge", "R", seconds_between("mailbox deleted", "updated_at", "deletion_scheduled_at"), 600.0
    ),
    Fact("GET goes on answering", "R", changed("mailbox deleted", "mailbox found deleted"), set()),
    Fact("a second DELETE changes nothing", "C", changed("mailbox deleted", "mailbox deleted again"), set()),
    Fact("a restore undoes it", "I", value("mailbox restored", "deletion_scheduled_at"), None),
    # --- Aliases
    Fact("an alias has exactly these keys", "D", keys("alias"), ALIAS_KEYS),
    Fact("an unset description is empty", "I", value("alias", "description"), ""),
    Fact("the first form of CreateAlias", "I", status("alias created below its mailbox"), 200),
    Fact("its list", "I", value("aliases of the mailbox", "total_count"), 2),
    Fact("a description has at most 128 characters", "I", status("description too long"), 400),
    # --- Forwardings
    Fact("a forwarding has exactly these keys", "I", keys("forwarding created"), FORWARDING_KEYS),
    Fact("it is provisioning at first", "I", value("forwarding created", "status"), "provisioning"),
    Fact("then ready", "I", value("forwarding ready", "status"), "ready"),
    Fact("and updating after a change", "I", value("forwarding updated", "status"), "updating"),
    Fact(
        "of its destination",
        "I",
        changed("forwarding ready", "forwarding ready again"),
        {"email", "updated_at"},
    ),
    Fact(
        "without a destination nothing changes",
        "I",
        changed("forwarding ready again", "nothing of the forwarding set"),
        set(),
    ),
    Fact("deleting until it is gone", "I", value("forwarding deleted", "status"), "deleting"),
    Fact("a forwarding that is gone", "I", status("forwarding gone"), 404),
    Fact("forwardings are listed by project", "I", value("forwardings of a project", "total_count"), 1),
    Fact("or by organization", "I", value("forwardings of an organization", "total_count"), 1),
    Fact(
        "a list's forwardings have the same keys",
        "I",
        keys("forwardings of a project", "forwardings", 0),
        FORWARDING_KEYS,
    ),
    Fact("at most 100 on a page", "D", status("forwardings on a page too large"), 400),
    Fact("not to the mailbox's own address", "D", value("forwarding to itself", "type"), "invalid_arguments"),
    Fact("up to 5 for a mailbox", "D", status("forwarding fifth"), 200),
    Fact("the settings have exactly these keys", "I", keys("settings"), SETTINGS_KEYS),
    Fact(
        "both are true by default",
        "C",
        lambda all_: [all_.body("settings")[n] for n in ("keep_copy", "enabled")],
        [True] * 2,
    ),
    Fact("a setting changes alone", "I", changed("settings", "settings updated"), {"keep_copy", "updated_at"}),
    Fact("by which forwardings are updating", "C", value("forwarding with other settings", "status"), "updating"),
    Fact("a stale etag is refused", "C", status("forwarding etag"), 412),
    # --- Errors
    *_errors(),
]
