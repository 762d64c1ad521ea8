"""Requests against the rules that need nothing but the request: every violation at once, with its field path.

Each `check_…` function takes what the caller sent, as plain values in which "" or 0 stands for absent, and returns it
in canonical form; what is wrong is noted with the request's Checker. No message repeats what was sent.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from postroomd.domain.addresses import MAX_ADDRESS, canonical_domain_name, canonical_local_part
from postroomd.domain.errors import InvalidArguments, Reason, Violation
from postroomd.domain.model import SubscriptionPeriod

MAX_BATCH = 100
MAX_DESCRIPTION = 255  # characters
MAX_SEARCH = 320  # characters
MAX_REASON = 255  # characters
MIN_PASSWORD, MAX_PASSWORD = 12, 128  # characters
DEFAULT_PAGE_SIZE = 50
MAX_PAGE = 2**31 - 1

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class MailboxParameters:
    """One mailbox to create: its canonical local part, and its password."""

    local_part: str
    password: str

    def __repr__(self) -> str:
        return f"MailboxParameters(local_part={self.local_part!r}, password=…)"


class Checker:
    """Gathers the violations of one request; `checking` raises them together."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def refuse(self, field: str, reason: Reason, help_message: str) -> None:
        """Note a violation."""
        self.violations.append(Violation(field, reason, help_message))

    def present(self, field: str, value: str) -> bool:
        """Whether a required text was sent; notes a violation where not."""
        if not value:
            self.refuse(field, Reason.REQUIRED, "this argument must be set")
        return bool(value)

    def uuid(self, field: str, value: str) -> str:
        """The required UUID in lower case."""
        return self.optional_uuid(field, value) or "" if self.present(field, value) else ""

    def optional_uuid(self, field: str, value: str) -> str | None:
        """The UUID in lower case, or None where none was sent."""
        if value and not _UUID.fullmatch(value):
            self.refuse(field, Reason.FORMAT, "a UUID is expected, such as 123e4567-e89b-42d3-a456-426614174000")
        return value.lower() or None

    def canonical(self, field: str, value: str, canonical: Callable[[str], str]) -> str:
        """What `canonical` makes of a required text; its ValueError becomes a violation."""
        if self.present(field, value):
            try:
                return canonical(value)
            except ValueError as error:
                self.refuse(field, Reason.FORMAT, str(error))
        return ""

    def password(self, field: str, value: str) -> None:
        """Whether a password is of a legal length, and without control characters."""
        if not MIN_PASSWORD <= len(value) <= MAX_PASSWORD:
            self.refuse(field, Reason.CONSTRAINT, f"{MIN_PASSWORD} to {MAX_PASSWORD} characters")
        if _has_control_characters(value):
            self.refuse(field, Reason.FORMAT, "no control characters")

    def text(self, field: str, value: str, longest: int) -> str:
        """A text of the caller's own, of at most `longest` characters and none of them a control character."""
        if len(value) > longest:
            self.refuse(field, Reason.CONSTRAINT, f"at most {longest} characters")
        if _has_control_characters(value):
            self.refuse(field, Reason.FORMAT, "no control characters")
        return value

    def page(self, page: int, page_size: int, largest: int) -> tuple[int, int]:
        """The page (from 1) and its size, with the defaults where they are 0."""
        if not 0 <= page <= MAX_PAGE:
            self.refuse("page", Reason.CONSTRAINT, "1 or more")
        if not 0 <= page_size <= largest:
            self.refuse("page_size", Reason.CONSTRAINT, f"1 to {largest}")
        return page or 1, page_size or DEFAULT_PAGE_SIZE

    def limit(self, page_size: int, largest: int) -> int:
        """How many items a page by token may hold: the default where it is 0, the largest where more are wanted."""
        if page_size < 0:
            self.refuse("page_size", Reason.CONSTRAINT, "0 or more")
        return min(page_size or DEFAULT_PAGE_SIZE, largest)

    def reason(self, value: str) -> str:
        """Why an operator does something: a required text."""
        return self.text("reason", value, MAX_REASON) if self.present("reason", value) else ""


@contextmanager
def checking() -> Iterator[Checker]:
    """A checker for the block, whose violations are raised as one InvalidArguments where the block ends."""
    checker = Checker()
    yield checker
    if checker.violations:
        raise InvalidArguments(checker.violations)


def check_id(field: str, value: str) -> str:
    """The required UUID of a request that has nothing else, in lower case."""
    if _UUID.fullmatch(value):
        return value.lower()
    with checking() as check:
        return check.uuid(field, value)


def check_domain_name(check: Checker, value: str) -> str:
    """The canonical name of a domain to register."""
    return check.canonical("name", value, canonical_domain_name)


def check_local_part(check: Checker, field: str, value: str) -> str:
    """The canonical local part of a mailbox or an alias to create."""
    return check.canonical(field, value, canonical_local_part)


def check_new_period(check: Checker, period: SubscriptionPeriod | None) -> SubscriptionPeriod:
    """The period that new mailboxes start with: monthly where none was sent. Canceled is none to start with."""
    if period is SubscriptionPeriod.CANCELED:
        check.refuse("subscription_period", Reason.CONSTRAINT, "monthly or yearly")
    return period or SubscriptionPeriod.MONTHLY


def check_batch(check: Checker, mailboxes: Sequence[tuple[str, str]]) -> tuple[MailboxParameters, ...]:
    """The mailboxes to create, from pairs of local part and password."""
    if not mailboxes:
        check.refuse("mailboxes", Reason.REQUIRED, f"1 to {MAX_BATCH} mailboxes")
    if len(mailboxes) > MAX_BATCH:
        # Their own faults would be an answer as long as the request: the number alone is named.
        check.refuse("mailboxes", Reason.CONSTRAINT, f"1 to {MAX_BATCH} mailboxes")
        return ()
    first_at: dict[str, int] = {}
    batch = []
    for index, (sent, password) in enumerate(mailboxes):
        field = f"mailboxes[{index}]"
        local_part = check_local_part(check, f"{field}.local_part", sent)
        first = first_at.setdefault(local_part, index)
        if local_part and first != index:
            message = f"the same address as mailboxes[{first}]: each can be created once"
            check.refuse(f"{field}.local_part", Reason.CONSTRAINT, message)
        if check.present(f"{field}.password", password):
            check.password(f"{field}.password", password)
        batch.append(MailboxParameters(local_part, password))
    return tuple(batch)


def check_addresses(check: Checker, domain_name: str, batch: Sequence[MailboxParameters]) -> None:
    """The rules of a batch that need the domain's name: the address's length, and the password beside it."""
    for index, mailbox in enumerate(batch):
        check_address(check, f"mailboxes[{index}].local_part", mailbox.local_part, domain_name)
        check_password_beside(check, f"mailboxes[{index}].password", mailbox.password, mailbox.local_part, domain_name)


def check_address(check: Checker, field: str, local_part: str, domain_name: str) -> None:
    """Whether the whole address is short enough to be delivered to."""
    if len(local_part) + 1 + len(domain_name) > MAX_ADDRESS:
        check.refuse(field, Reason.CONSTRAINT, f"the whole address has at most {MAX_ADDRESS} octets (RFC 5321)")


def check_password_beside(check: Checker, field: str, password: str, local_part: str, domain_name: str) -> None:
    """Whether a password is something else than the address that it protects, or its local part."""
    if password.lower() in {local_part, f"{local_part}@{domain_name}"}:
        check.refuse(field, Reason.CONSTRAINT, "neither the address nor its local part")


def _has_control_characters(text: str) -> bool:
    return any(unicodedata.category(character) == "Cc" for character in text)
