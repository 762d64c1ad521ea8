"""Faulty values by kind of field, and the violation or status that reports them."""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import grpc

from postroom.v1alpha1.alias_pb2 import Alias
from postroom.v1alpha1.domain_pb2 import Domain
from postroom.v1alpha1.forwarding_pb2 import Forwarding
from postroom.v1alpha1.mailbox_pb2 import BatchCreateMailboxesRequest, Mailbox
from tests.rpc.client import ABSENT_ID, Tenant
from tests.support.operations import OPERATIONS

OK, INVALID = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND, ABORTED = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ABORTED
MARK = "zqxj"
"""A text that occurs in faulty values, and in no message of the service."""

Item = BatchCreateMailboxesRequest.MailboxParameters
FIRST, SECOND = next(
    [item["local_part"] for item in operation.arguments["mailboxes"]]
    for operation in OPERATIONS
    if "mailboxes" in operation.arguments
)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A tenant with one resource of each type, and another tenant's world."""

    tenant: Tenant
    domain: Domain
    mailbox: Mailbox
    alias: Alias
    forwarding: Forwarding
    other: "World | None" = None

    @property
    def ids(self) -> Mapping[str, str]:
        """The ids by resource."""
        return {
            "project": self.tenant.project_id,
            "domain": self.domain.id,
            "mailbox": self.mailbox.id,
            "alias": self.alias.id,
            "forwarding": self.forwarding.id,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One faulty value of a field, and how it is reported.

    `value` None clears the field; a function computes the value from the world. `suffix` follows the field in the
    violation's path. An `exclusive` fault is only reported if the request has no other. `matches_nothing` marks a
    filter that is valid and matches no resource.
    """

    label: str
    value: Any
    code: grpc.StatusCode = INVALID
    reason: str = ""
    suffix: str = ""
    exclusive: bool = False
    matches_nothing: bool = False


def absent() -> Fault:
    """An absent optional field, which is valid."""
    return Fault(label="absent", value=None, code=OK, exclusive=True)


def missing() -> Fault:
    """An absent required field."""
    return Fault(label="absent", value=None, reason="REQUIRED")


def malformed(values: Mapping[str, str]) -> list[Fault]:
    """Values, by label, that are reported as malformed."""
    return [Fault(label=label, value=value, reason="FORMAT") for label, value in values.items()]


def identifier(foreign: str, *, required: bool = True, filters: bool = False) -> list[Fault]:
    """The faults of an id. An unknown id is not found; as a filter, it matches nothing.

    `foreign` is the attribute of the other world that holds another tenant's id.
    """
    uuid = "c9f0f895-fb98-4b91-8f14-e45fceea167a"
    code = OK if filters else NOT_FOUND
    return [
        *malformed(
            {
                "bad format": f"{MARK}-not-a-uuid",
                "too short": uuid[:-1],
                "too long": uuid + "0",
                "no dashes": uuid.replace("-", ""),
                "braces": "{" + uuid + "}",
                "new line": uuid + "\n",
                "no hexadecimal digit": uuid.replace("1", "g"),
                "other digits": uuid.replace("1", "\u0661"),
            }
        ),
        missing() if required else absent(),
        Fault(label="unknown id", value=ABSENT_ID, code=code, exclusive=True, matches_nothing=filters),
        Fault(
            label="other tenant's id",
            value=lambda world: attrgetter(foreign)(world.other),
            code=code,
            exclusive=True,
            matches_nothing=filters,
        ),
    ]


def paging(max_page_size: int) -> dict[str, list[Fault]]:
    """The faults of a list's page, page_token, page_size and order_by."""
    return {
        "page": [
            Fault(label="out of range", value=-4711, reason="CONSTRAINT"),
            Fault(label="minimum", value=-(2**31), reason="CONSTRAINT"),
            absent(),
        ],
        # Exclusive: beside a page, any token is reported for being sent with it.
        "page_token": [
            Fault(label="made up", value=MARK, reason="FORMAT", exclusive=True),
            Fault(label="not base64", value=f"{MARK}\0 \u20ac", reason="FORMAT", exclusive=True),
            Fault(label="too long", value=MARK * 1_000, reason="FORMAT", exclusive=True),
            absent(),
        ],
        "page_size": [
            Fault(label="out of range", value=-4711, reason="CONSTRAINT"),
            Fault(label="one too many", value=max_page_size + 1, reason="CONSTRAINT"),
            Fault(label="maximum", value=2**31 - 1, reason="CONSTRAINT"),
            absent(),
        ],
        "order_by": enum_number(),
    }


def enum_number() -> list[Fault]:
    """The faults of an enum."""
    return [
        Fault(label="unknown number", value=4711, reason="CONSTRAINT"),
        Fault(label="negative number", value=-4711, reason="CONSTRAINT"),
        absent(),
    ]


def enum_numbers() -> list[Fault]:
    """The faults of a list of enum values."""
    return [
        Fault(label="unknown number", value=[4711], reason="CONSTRAINT", suffix="[0]"),
        Fault(label="unknown number among known ones", value=[1, 4711, 2], reason="CONSTRAINT", suffix="[1]"),
        absent(),
    ]


def text(max_length: int) -> list[Fault]:
    """The faults of free text."""
    return [
        Fault(label="too long", value=MARK + "x" * (max_length - 3), reason="CONSTRAINT"),
        *malformed(
            {f"bad format: {character!r}": f"{MARK}{character}" for character in ("\0", "\n", "\x1f", "\x7f", "\x85")}
        ),
        absent(),
    ]


def etag() -> list[Fault]:
    """The faults of an etag: any value but the resource's current etag is stale."""
    return [
        Fault(label="bad format", value=f"\0{MARK} \u20ac", code=ABORTED, exclusive=True),
        Fault(label="too long", value=MARK * 1_000, code=ABORTED, exclusive=True),
        Fault(label="stale", value="0", code=ABORTED, exclusive=True),
        absent(),
    ]


LOCAL_PART = [
    *malformed(
        {
            "too long": MARK + "x" * 61,
            "space": f"{MARK} x",
            "dot first": f".{MARK}",
            "dot last": f"{MARK}.",
            "two dots": f"{MARK}..x",
            "recipient delimiter": f"{MARK}+x",
            "routing": f"{MARK}%x",
            "pipe": f"{MARK}|x",
            "path": f"{MARK}/x",
            "wildcard": f"{MARK}*x",
            "option": f"-{MARK}",
            "SMTPUTF8": f"{MARK}\u00e9",
            "quoted": f'"{MARK} x"',
            "whole address": f"{MARK}@example.com",
            "brackets": f"<{MARK}>",
            "control character": f"{MARK}\0",
            "new line": f"{MARK}\n",
            "comma": f"{MARK},x",
        }
    ),
    missing(),
]

PASSWORDS = [
    Fault(label="too short", value=f"{MARK}3456789", reason="CONSTRAINT"),
    Fault(label="too long", value=MARK + "x" * 125, reason="CONSTRAINT"),
    Fault(label="one character", value="x" * 12, reason="CONSTRAINT"),
    Fault(label="spaces", value=" " * 12, reason="CONSTRAINT"),
    Fault(label="common", value="Password1234", reason="CONSTRAINT"),
    *malformed(
        {
            "control character": f"{MARK}\x07 and more",
            "new line": f"{MARK} and more\n",
            "C1 control character": f"{MARK}\x9f and more",
            "zero-width joiner": f"{MARK}\u200d and more",
            "hash": f"{{SSHA256}}{MARK} and more",
        }
    ),
]

DOMAIN_NAME = [
    Fault(label="special use", value=f"{MARK}.internal", reason="CONSTRAINT"),
    Fault(label="mail host", value=f"{MARK}.imap.mail.example", reason="CONSTRAINT"),
    *malformed(
        {
            "too long": f"{MARK}.{'x' * 60}.{'x' * 60}.{'x' * 60}.{'x' * 60}.example",
            "far too long": MARK * 100_000,
            "label too long": f"{MARK}{'x' * 60}.example",
            "too short": "a.b",
            "one label": MARK,
            "empty label": f"{MARK}..example",
            "dot first": f".{MARK}.example",
            "public suffix": "co.uk",
            "top-level domain": "com.",
            "IPv4 address": "192.0.2.123",
            "IPv6 address": "2001:db8::1234",
            "space": f"{MARK} x.example",
            "underscore": f"_{MARK}.example",
            "hyphen first": f"-{MARK}.example",
            "bad A-label": f"xn--{MARK}-.example",
            "symbol": f"\U0001f4a9{MARK}.example",
            "URL": f"https://{MARK}.example",
            "address": f"ann@{MARK}.example",
            "control character": f"{MARK}\0.example",
            "new line": f"{MARK}.example\n",
        }
    ),
    missing(),
]

DESTINATION = [
    *malformed(
        {
            "no domain": MARK,
            "no local part": f"@{MARK}.example",
            "local part too long": f"{MARK}{'x' * 61}@elsewhere.example",
            "too long": f"{MARK}@{'.'.join(['x' * 60] * 4)}.example",
            "far too long": f"{MARK}@{'x' * 100_000}.example",
            "space": f"{MARK} x@elsewhere.example",
            "dot last": f"{MARK}.@elsewhere.example",
            "SMTPUTF8": f"{MARK}\u00e9@elsewhere.example",
            "quoted": f'"{MARK}"@elsewhere.example',
            "program": f"|{MARK}@elsewhere.example",
            "file": f"/{MARK}@elsewhere.example",
            "option": f"-{MARK}@elsewhere.example",
            "source route": f"{MARK}%elsewhere@elsewhere.example",
            "two addresses": f"{MARK}@elsewhere.example,{MARK}@elsewhere.example",
            "brackets": f"<{MARK}@elsewhere.example>",
            "one label": f"ann@{MARK}",
            "address literal": f"{MARK}@[192.0.2.1]",
            "IPv4 address": f"{MARK}@192.0.2.123",
            "bad A-label": f"ann@xn--{MARK}-.example",
            "control character": f"{MARK}\0@elsewhere.example",
            "new line": f"{MARK}@elsewhere.example\n",
        }
    ),
    Fault(
        label="the mailbox's own address",
        value=lambda world: world.mailbox.email.upper(),
        reason="CONSTRAINT",
        exclusive=True,
    ),
    Fault(
        label="the mailbox's own address with a detail",
        value=lambda world: world.mailbox.email.replace("@", "+news@"),
        reason="CONSTRAINT",
        exclusive=True,
    ),
    Fault(label="an alias of the mailbox", value=lambda world: world.alias.email, reason="CONSTRAINT", exclusive=True),
]
