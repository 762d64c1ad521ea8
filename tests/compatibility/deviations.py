"""Where Postroom differs on purpose: each row of docs/compatibility.md, and what Postroom answers instead."""

import re

from tests.compatibility.facts import (
    ADDED,
    ALIAS_KEYS,
    DOMAIN_KEYS,
    FORWARDING_KEYS,
    INSTANT,
    MAILBOX_KEYS,
    MONTHLY,
    SETTINGS_KEYS,
    Fact,
    header,
    keys,
    mailbox,
    status,
    value,
)

DEVIATIONS = [
    Fact(
        "the period that follows is named",
        "D",
        value("mailbox ready", "next_subscription_period"),
        MONTHLY,
        deviation="`next_subscription_period`",
    ),
    Fact(
        "the owner of a mailbox is named",
        "C",
        lambda all_: (
            [bool(mailbox(all_, "mailbox created")[name]) for name in ("project_id", "organization_id")]
            + [bool(all_.body("domain created")["organization_id"])]
        ),
        [True, True, True],
        deviation="`project_id`, `organization_id`",
    ),
    Fact(
        "resources and lists have further keys",
        "C",
        lambda all_: [
            set(all_.body("domain created")) - DOMAIN_KEYS,
            set(mailbox(all_, "mailbox created")) - MAILBOX_KEYS,
            set(all_.body("alias")) - ALIAS_KEYS,
            set(all_.body("forwarding created")) - FORWARDING_KEYS,
            set(all_.body("settings")) - SETTINGS_KEYS,
            set(all_.body("mailboxes found")) - {"total_count", "mailboxes"},
        ],
        [{"etag"}, ADDED - {"catch_all"}, {"etag", "catch_all"}, {"etag"}, {"etag"}, {"next_page_token"}],
        deviation="further keys",
    ),
    Fact(
        "a 404 names the id",
        "C",
        lambda all_: all_.body("domain gone")["resource_id"] in all_.body("domain gone")["message"],
        True,
        deviation="404 message",
    ),
    Fact(
        "a period has the exact instant",
        "C",
        value("mailbox ready", "subscription_period_started_at"),
        re.compile(INSTANT),
        deviation="fractions of a second",
    ),
    Fact(
        "records are created with their domain",
        "C",
        lambda all_: (
            {each["created_at"] for each in all_.body("records").values()}
            == {all_.body("domain created")["created_at"]}
        ),
        True,
        deviation="`created_at` of records",
    ),
    Fact(
        "a validation token has no hyphens",
        "C",
        value("records", "domain_validation", "dns_value"),
        re.compile("scaleway-mailbox=[0-9a-f]{32}"),
        deviation="validation token",
    ),
    Fact(
        "a request id has no hyphens",
        "C",
        header("domain created", "X-Request-Id"),
        re.compile("[0-9a-f]{32}"),
        deviation="`X-Request-Id`",
    ),
    Fact(
        "a paid mailbox of a ready domain does not wait for it",
        "C",
        value("mailbox paid", "status"),
        "creating",
        deviation="status after the payment",
    ),
    *(
        Fact(
            f"{name} is sent",
            "C",
            header("domain created", name),
            expected,
            deviation="ETag, Cache-Control, X-Content-Type-Options",
        )
        for name, expected in (
            ("ETag", re.compile('".+"')),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        )
    ),
    Fact(
        "a public suffix is no domain",
        "C",
        value("public suffix", "details", 0, "argument_name"),
        "name",
        deviation="domain names",
    ),
    Fact(
        "an unknown argument is named",
        "C",
        lambda all_: [all_.body(label)["details"][0]["argument_name"] for label in ("invalid", "unknown parameter")],
        ["unknown", "unknown"],
        deviation="unknown body fields and query parameters",
    ),
    Fact("ListAliases without a project", "C", status("aliases"), 200, deviation="ListAliases"),
    Fact(
        "ListForwardings by at most one owner",
        "C",
        lambda all_: [
            all_[f"forwardings {label}"].status for label in ("of neither", "of both", "of another organization")
        ],
        [200, 400, 200],
        deviation="ListForwardings",
    ),
    Fact(
        "another organization has no forwardings",
        "C",
        value("forwardings of another organization", "total_count"),
        0,
        deviation="ListForwardings",
    ),
    *(
        Fact(
            f"no forwarding {label}",
            "C",
            value(f"forwarding {label}", "details", 0, "argument_name"),
            "email",
            deviation="forwarding destinations",
        )
        for label in ("to itself with a detail", "to an alias", "to a program")
    ),
    Fact(
        "a destination in another case is the same",
        "C",
        value("forwarding to the same", "type"),
        "conflict",
        deviation="a second forwarding to one destination",
    ),
    Fact(
        "no alias that its mailbox forwards to",
        "C",
        lambda all_: [all_.body("alias of a destination")[name] for name in ("type", "resource")],
        ["conflict", "forwarding"],
        deviation="an alias that its own mailbox forwards to",
    ),
    Fact(
        "no sixth forwarding",
        "C",
        value("forwarding sixth", "details"),
        [{"resource": "forwardings", "quota": 5, "current": 5}],
        deviation="a sixth forwarding",
    ),
    Fact("DeleteDomain with force", "C", value("domain forced", "status"), "deleting", deviation="DeleteDomain"),
    Fact(
        "CreateAlias below its mailbox",
        "C",
        keys("alias created below its mailbox"),
        ALIAS_KEYS,
        deviation="CreateAlias",
    ),
]
