"""Validation of requests by themselves: collects every violation, with its field path.

Each `check_…` function takes an argument as a plain value, in which "" or 0 means "not set", returns it in canonical
form, and adds its violations to the request's Checker. No message repeats an argument's value.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from postroomd.domain.addresses import ADDRESS_TOO_LONG, Address, canonical_local_part
from postroomd.domain.domain_names import MAX_DOMAIN_NAME, canonical_domain_name
from postroomd.domain.errors import InvalidArguments, Reason, Violation
from postroomd.domain.model import RecordLevel, SubscriptionPeriod
from postroomd.domain.password_hashes import CostlyHash, canonical_password_hash
from postroomd.domain.passwords import (
    MAX_PASSWORD,
    MIN_PASSWORD,
    InvalidPasswordLength,
    WeakPassword,
    canonical_password,
)
from postroomd.domain.records import RecordPlan
from postroomd.domain.reserved_names import ReservedNames

MAX_BATCH = 100  # mailboxes
MAX_DESCRIPTION = 128  # characters
MAX_DISPLAY_NAME = 128  # characters
MAX_STORAGE_QUOTA = 2**53 - 1  # octets: the largest integer that every JSON parser reads exactly
MAX_SEARCH = 320  # characters
MAX_REASON = 255  # characters
DEFAULT_PAGE_SIZE = 50
MAX_PAGE = 2**31 - 1

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class MailboxParameters:
    """The parameters of one mailbox to create, with either a password or its hash. The local part is canonical."""

    local_part: str
    password: str
    display_name: str = ""
    password_hash: str = ""

    def __repr__(self) -> str:
        return f"MailboxParameters(local_part={self.local_part!r}, password=…)"


class Checker:
    """Collects the violations of one request, which `checking` raises together."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def refuse(self, field: str, reason: Reason, help_message: str) -> None:
        """Add a violation."""
        self.violations.append(Violation(field, reason, help_message))

    def present(self, field: str, value: str) -> bool:
        """Return whether a required argument is set; adds a violation if not."""
        if not value:
            self.refuse(field, Reason.REQUIRED, "must be set")
        return bool(value)

    def uuid(self, field: str, value: str) -> str:
        """Return a required UUID in lower case; "" for an invalid one."""
        return self.optional_uuid(field, value) or "" if self.present(field, value) else ""

    def optional_uuid(self, field: str, value: str) -> str | None:
        """Return an optional UUID in lower case; None if it is not set."""
        if value and not _UUID.fullmatch(value):
            self.refuse(field, Reason.FORMAT, "must be a UUID, such as 123e4567-e89b-42d3-a456-426614174000")
        return value.lower() or None

    def canonical(self, field: str, value: str, canonical: Callable[[str], str]) -> str:
        """Return the canonical form of a required text; "" and a violation for a ValueError of `canonical`."""
        if self.present(field, value):
            try:
                return canonical(value)
            except ValueError as error:
                self.refuse(field, Reason.FORMAT, str(error))
        return ""

    def password(self, field: str, value: str) -> str:
        """Return a password as it is hashed; "" and a violation for an invalid one."""
        wrong_length = f"must have {MIN_PASSWORD} to {MAX_PASSWORD} characters"
        if _has_control_characters(value):
            if not MIN_PASSWORD <= len(value) <= MAX_PASSWORD:
                self.refuse(field, Reason.CONSTRAINT, wrong_length)
            self.refuse(field, Reason.FORMAT, "must not contain control characters")
            return ""
        try:
            return canonical_password(value)
        except InvalidPasswordLength:
            self.refuse(field, Reason.CONSTRAINT, wrong_length)
        except WeakPassword as error:
            self.refuse(field, Reason.CONSTRAINT, str(error))
        except ValueError as error:
            self.refuse(field, Reason.FORMAT, str(error))
        return ""

    def text(self, field: str, value: str, max_length: int) -> str:
        """Return a free text of at most `max_length` characters, without control characters."""
        if len(value) > max_length:
            self.refuse(field, Reason.CONSTRAINT, f"must have at most {max_length} characters")
        if _has_control_characters(value):
            self.refuse(field, Reason.FORMAT, "must not contain control characters")
        return value

    def optional_count(self, field: str, value: int | None, maximum: int) -> int | None:
        """Return an optional number of 0 to `maximum`; None if it is not set."""
        if value is not None and not 0 <= value <= maximum:
            self.refuse(field, Reason.CONSTRAINT, f"must be 0 to {maximum}")
        return value

    def page(self, page: int, page_size: int, max_page_size: int) -> tuple[int, int]:
        """Return the page number, from 1, and the page size; 0 stands for the default."""
        if not 0 <= page <= MAX_PAGE:
            self.refuse("page", Reason.CONSTRAINT, f"must be 1 to {MAX_PAGE}")
        if not 0 <= page_size <= max_page_size:
            self.refuse("page_size", Reason.CONSTRAINT, f"must be 1 to {max_page_size}")
        return page or 1, page_size or DEFAULT_PAGE_SIZE

    def limit(self, page_size: int, max_page_size: int) -> int:
        """Return the size of a page of the admin service: 0 stands for the default, and a larger one is reduced."""
        if page_size < 0:
            self.refuse("page_size", Reason.CONSTRAINT, "must be 0 or more")
        return min(page_size or DEFAULT_PAGE_SIZE, max_page_size)

    def reason(self, value: str) -> str:
        """Return the required reason of an operator's call."""
        return self.text("reason", value, MAX_REASON) if self.present("reason", value) else ""


@contextmanager
def checking() -> Iterator[Checker]:
    """Yield a checker, and raise its violations as one InvalidArguments at the end of the block."""
    checker = Checker()
    yield checker
    if checker.violations:
        raise InvalidArguments(checker.violations)


def is_uuid(value: str) -> bool:
    """Return whether a text is a UUID, in lower or upper case."""
    return _UUID.fullmatch(value) is not None


def check_id(field: str, value: str) -> str:
    """Return the required UUID of a request that has no other argument, in lower case. Raises InvalidArguments."""
    if _UUID.fullmatch(value):
        return value.lower()
    with checking() as check:
        return check.uuid(field, value)


def check_domain_name(check: Checker, value: str, reserved: ReservedNames) -> str:
    """Return the canonical name of a domain to register, which is not reserved."""
    name = check.canonical("name", value, canonical_domain_name)
    if name and (reason := reserved.reason(name)):
        check.refuse("name", Reason.CONSTRAINT, reason)
    return name


def check_record_names(check: Checker, plans: Sequence[RecordPlan]) -> None:
    """Check that the name of each required DNS record is short enough to be published."""
    required = [plan.dns_name.removesuffix(".") for plan in plans if plan.level is RecordLevel.REQUIRED]
    longest = max(required, key=len)
    if len(longest) > MAX_DOMAIN_NAME:
        label = longest.partition(".")[0]
        check.refuse(
            "name",
            Reason.CONSTRAINT,
            f"is too long: its required record `{label}…` would have a name of {len(longest)} octets,"
            f" and {MAX_DOMAIN_NAME} are possible",
        )


def check_local_part(check: Checker, field: str, value: str) -> str:
    """Return the canonical local part of a mailbox or an alias to create."""
    return check.canonical(field, value, canonical_local_part)


def check_new_period(check: Checker, period: SubscriptionPeriod | None) -> SubscriptionPeriod:
    """Return the first period of new mailboxes: monthly if it is not set, never canceled."""
    if period is SubscriptionPeriod.CANCELED:
        check.refuse("subscription_period", Reason.CONSTRAINT, "must be monthly or yearly")
    return period or SubscriptionPeriod.MONTHLY


def check_catch_all(check: Checker, local_part: str) -> str:
    """Return the local part of a catch-all alias, which is empty: one that is sent as well is a mistake."""
    if local_part:
        message = "must be empty with catch_all, which has no local part: set only one of the two"
        check.refuse("local_part", Reason.CONSTRAINT, message)
    return ""


def check_batch(check: Checker, mailboxes: Sequence[MailboxParameters]) -> tuple[MailboxParameters, ...]:
    """Return the mailboxes to create in canonical form, from their parameters as they were sent."""
    if not mailboxes:
        check.refuse("mailboxes", Reason.REQUIRED, f"must have 1 to {MAX_BATCH} items")
    if len(mailboxes) > MAX_BATCH:
        # The items are not checked: their violations would make a response as large as the request.
        check.refuse("mailboxes", Reason.CONSTRAINT, f"must have 1 to {MAX_BATCH} items")
        return ()
    first_at: dict[str, int] = {}
    batch = []
    for index, sent in enumerate(mailboxes):
        field = f"mailboxes[{index}]"
        local_part = check_local_part(check, f"{field}.local_part", sent.local_part)
        first = first_at.setdefault(local_part, index)
        if local_part and first != index:
            message = f"must differ from mailboxes[{first}].local_part"
            check.refuse(f"{field}.local_part", Reason.CONSTRAINT, message)
        password, password_hash = _check_credentials(check, field, sent)
        display_name = check.text(f"{field}.display_name", sent.display_name, MAX_DISPLAY_NAME)
        batch.append(MailboxParameters(local_part, password, display_name, password_hash))
    return tuple(batch)


def _check_credentials(check: Checker, field: str, sent: MailboxParameters) -> tuple[str, str]:
    """Return the password and the password hash of a mailbox, one of which is empty."""
    password_field, hash_field = f"{field}.password", f"{field}.password_hash"
    if not sent.password_hash:
        return check.password(password_field, sent.password) if check.present(password_field, sent.password) else "", ""
    if sent.password:
        check.refuse(hash_field, Reason.CONSTRAINT, "must not be set together with password: set one of the two")
    try:
        return "", canonical_password_hash(sent.password_hash)
    except CostlyHash as error:
        check.refuse(hash_field, Reason.CONSTRAINT, str(error))
    except ValueError as error:
        check.refuse(hash_field, Reason.FORMAT, str(error))
    return "", ""


def check_addresses(check: Checker, domain_name: str, batch: Sequence[MailboxParameters]) -> None:
    """Check a batch against the name of its domain: the length of each address, and that no password repeats it.

    Items whose local part is invalid, and therefore empty, have no address.
    """
    for index, mailbox in enumerate(batch):
        if not mailbox.local_part:
            continue
        address = Address(mailbox.local_part, domain_name)
        if address.is_too_long:
            check.refuse(f"mailboxes[{index}].local_part", Reason.CONSTRAINT, ADDRESS_TOO_LONG)
        check_password_differs(check, f"mailboxes[{index}].password", mailbox.password, address)


def check_password_differs(check: Checker, field: str, password: str, address: Address) -> None:
    """Check that a password is neither the mailbox's address nor its local part."""
    if password.lower() in {address.local_part, str(address)}:
        check.refuse(field, Reason.CONSTRAINT, "must differ from the address and its local part")


def _has_control_characters(text: str) -> bool:
    return any(unicodedata.category(character) == "Cc" for character in text)
