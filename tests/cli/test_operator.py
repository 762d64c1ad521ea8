"""Payments and provisions by the admin service."""

import pytest

from tests.cli.running import PASSWORD, Commands
from tests.support.waiting import block_until

FLAGS = ("--billing=manual", "--provisioning=manual")


def confirm_provisions(postroom: Commands) -> set[tuple[str, str]]:
    """Confirm the work that is due; returns the kind and address of each."""
    confirmed = [postroom.rows("provisions", "confirm", row["id"]) for row in postroom.rows("provisions", "list")]
    assert {row["status"] for row in confirmed} <= {"confirmed"}
    return {(row["kind"], row["address"]) for row in confirmed}


@pytest.fixture(scope="module")
def mailbox(postroom: Commands) -> str:
    """The id of the mailbox ann, which waits for its payment, in a domain that is ready."""
    postroom.rows("domains", "create", "example.org")
    done: set[tuple[str, str]] = set()

    def is_ready() -> bool:
        done.update(confirm_provisions(postroom))
        status = postroom.rows("domains", "show", "example.org")["status"]
        if status == "waiting_validation":
            postroom("domains", "validate", "example.org", "--timeout=0")
        return bool(status == "ready")

    block_until(is_ready)
    assert ("create", "example.org") in done
    postroom.rows("mailboxes", "create", "ann@example.org", "--password-file=-", stdin=PASSWORD)
    shown = postroom.rows("mailboxes", "show", "ann@example.org")
    assert shown["status"] == "waiting_payment"
    return str(shown["id"])


def test_payments_are_listed_and_settled(postroom: Commands, mailbox: str) -> None:
    (payment,) = postroom.rows("payments", "list")
    assert (payment["status"], payment["mailbox_id"], payment["period"]) == ("pending", mailbox, "monthly")
    header, row = postroom("payments", "list").lines
    assert header.split()[:3] == ["id", "status", "address"]
    assert row.split()[:3] == [payment["id"], "pending", "ann@example.org"]
    refused = postroom.rows("payments", "refuse", payment["id"], "--reason=no funds")
    assert (refused["status"], refused["reason"]) == ("refused", "no funds")
    assert postroom.rows("payments", "confirm", payment["id"])["status"] == "confirmed"
    assert postroom.rows("payments", "list") == []
    assert "confirmed" in postroom.failure(1, "payments", "refuse", payment["id"], "--reason=late")
    assert postroom.failure(2, "payments", "confirm", "x").startswith("PAYMENT_ID: must be a UUID")


def test_provisions_are_listed_and_settled(postroom: Commands, mailbox: str) -> None:
    (provision,) = postroom.rows("provisions", "list")
    assert (provision["kind"], provision["mailbox_id"]) == ("create", mailbox)
    failed = postroom.rows("provisions", "fail", provision["id"], "--reason=disk full")
    assert (failed["status"], failed["attempts"], failed["error"]) == ("pending", 1, "disk full")
    assert postroom.rows("provisions", "list", "--due") == []  # until the next attempt is due
    (waiting,) = postroom.rows("provisions", "list")
    assert (waiting["id"], waiting["next_attempt_at"], waiting["error"]) == (
        provision["id"],
        failed["next_attempt_at"],
        "disk full",
    )
    assert postroom.rows("provisions", "confirm", provision["id"])["status"] == "confirmed"
    assert postroom.rows("mailboxes", "show", mailbox)["status"] == "ready"
    assert postroom.failure(2, "provisions", "fail", "x", "--reason=y").startswith("PROVISION_ID: must be a UUID")
