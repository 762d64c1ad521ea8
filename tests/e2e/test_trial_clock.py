"""Subscriptions, billing, provisioning and locks over a year of a trial clock, through real processes."""

import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from scaleway.mailbox.v1alpha1 import Mailbox, MailboxSubscriptionPeriod
from scaleway_core.api import ScalewayException

from postroom.admin.v1alpha1 import mailbox_pb2, payment_pb2, provision_pb2
from postroomd.cli import app as cli
from postroomd.domain.calendar import add_months
from tests.e2e.conftest import Starter
from tests.e2e.support import Up, place_database, start, terminate
from tests.e2e.trial_process import ADMIN_KEY, FLAGS, PASSWORD, Trial, address_of, trial_of

StartTrial = Callable[..., Trial]


@pytest.fixture
def start_trial(start_postroom: Starter) -> Iterator[StartTrial]:
    """A function that starts a trial, with additional flags."""
    with ExitStack() as cleanups:
        yield lambda *flags: cleanups.enter_context(trial_of(start_postroom(*FLAGS, *flags)))


@pytest.fixture(scope="module")
def shared_trial(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """A trial without billing and provisioning. Each test uses a domain of its own, and any time may have passed."""
    directory = tmp_path_factory.mktemp("trial")
    place_database(sqlite_template, directory)
    up = start(directory, *FLAGS)
    try:
        with trial_of(up) as trial:
            yield trial
    finally:
        terminate(up)


def error_status(call: Callable[[], object]) -> int:
    """Return the HTTP status of an SDK call, which must fail."""
    with pytest.raises(ScalewayException) as caught:
        call()
    assert caught.value.status_code
    return caught.value.status_code


def transitions(trial: Trial, address: str) -> list[tuple[str | None, str | None, str, str]]:
    """Return the status transitions of the mailboxes with an address: from, to, event and kind of actor."""
    return [
        (row["from_status"], row["to_status"], row["cause"], row["actor"].partition(":")[0])
        for row in trial.history(address)
    ]


# --- Time -------------------------------------------------------------------------------------------------------------


def test_the_sdk_observes_a_year_of_renewals(shared_trial: Trial) -> None:
    trial = shared_trial
    domain = trial.ready_domain("monthly.example")
    monthly = trial.create_mailbox(domain, "monthly")
    yearly = trial.create_mailbox(domain, "yearly", subscription_period=MailboxSubscriptionPeriod.YEARLY)
    started_at, yearly_started_at = (each.subscription_period_started_at for each in (monthly, yearly))
    assert started_at
    assert yearly_started_at  # the later one
    for month in range(1, 13):
        # Not by P1M twelve times: from January 31 by way of February, that ends at the 28th of each month.
        trial.advance_to(add_months(yearly_started_at, month))
        renewed = trial.api.get_mailbox(mailbox_id=monthly.id)
        assert renewed.status == "ready"
        assert renewed.subscription_period_started_at == add_months(started_at, month)
        assert renewed.next_subscription_period_starts_at == add_months(started_at, month + 1)
    renewed = trial.api.wait_for_mailbox(mailbox_id=yearly.id)
    assert renewed.subscription_period_started_at == add_months(yearly_started_at, 12)
    domain = trial.api.wait_for_domain(domain_id=domain.id)
    assert (domain.status, domain.mailbox_total_count) == ("ready", 2)


def test_advancing_a_year_at_once_equals_twelve_months(shared_trial: Trial) -> None:
    trial = shared_trial
    mailbox = trial.create_mailbox(trial.ready_domain("yearly.example"))
    trial.advance("P1Y")
    renewed = trial.api.get_mailbox(mailbox_id=mailbox.id)
    assert mailbox.subscription_period_started_at
    assert renewed.subscription_period_started_at == add_months(mailbox.subscription_period_started_at, 12)


def test_a_canceled_subscription_ends_in_a_purge_and_a_tombstone(shared_trial: Trial) -> None:
    trial = shared_trial
    mailbox = trial.create_mailbox(trial.ready_domain("canceled.example"))
    trial.api.update_mailbox(mailbox_id=mailbox.id, subscription_period=MailboxSubscriptionPeriod.CANCELED)
    trial.advance("P1M")
    assert trial.status(mailbox) == "deletion_scheduled"
    assert trial.admin_mailbox(mailbox.id).WhichOneof("found") == "mailbox"
    trial.advance("P30D")
    assert error_status(lambda: trial.status(mailbox)) == 404
    tombstone = trial.admin_mailbox(mailbox.id).tombstone
    assert (tombstone.mailbox_id, tombstone.cause) == (mailbox.id, "purge_due")
    assert [transition[:3] for transition in transitions(trial, mailbox.email)] == [
        (None, "ready", "create"),
        ("ready", "deletion_scheduled", "cancellation_due"),
        ("deletion_scheduled", None, "purge_due"),
    ]


# --- Billing ----------------------------------------------------------------------------------------------------------


def test_a_mailbox_is_ready_once_its_payment_is_confirmed(start_trial: StartTrial) -> None:
    trial = start_trial("--billing=manual")
    mailbox = trial.create_mailbox(trial.ready_domain())
    assert mailbox.status == "waiting_payment"
    (payment,) = trial.pending_payments()
    assert (payment.mailbox_id, payment.address) == (mailbox.id, mailbox.email)
    assert payment.status == payment_pb2.Payment.PENDING
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(trial.api.wait_for_mailbox, mailbox_id=mailbox.id)
        confirmed = trial.confirm_payment()
        assert waiting.result().status == "ready"
    assert confirmed.status == payment_pb2.Payment.CONFIRMED
    again = trial.admin.ConfirmPayment(payment_pb2.ConfirmPaymentRequest(payment_id=payment.id))
    assert again == confirmed
    assert trial.pending_payments() == []
    assert transitions(trial, mailbox.email) == [
        (None, "waiting_payment", "create", "key"),
        ("waiting_payment", "ready", "payment_confirmed", "admin"),
    ]
    assert trial.history(mailbox.email)[-1]["actor"] == f"admin:{ADMIN_KEY}"


def create_unpaid_mailbox(trial: Trial) -> Mailbox:
    """Create a mailbox, and refuse its first payment."""
    mailbox = trial.create_mailbox(trial.ready_domain())
    (payment,) = trial.pending_payments()
    request = payment_pb2.RefusePaymentRequest(payment_id=payment.id, reason="card expired")
    refused = trial.admin.RefusePayment(request)
    assert (refused.status, refused.reason) == (payment_pb2.Payment.REFUSED, "card expired")
    assert trial.admin.RefusePayment(request) == refused
    return mailbox


def test_an_unpaid_mailbox_is_locked_then_deleted_then_purged(start_trial: StartTrial) -> None:
    trial = start_trial("--billing=manual")
    mailbox = create_unpaid_mailbox(trial)
    assert trial.status(mailbox) == "payment_failed"
    trial.advance("P7D")
    assert trial.status(mailbox) == "locked"
    change = {"mailbox_id": mailbox.id, "new_password": PASSWORD.upper()}
    assert error_status(lambda: trial.api.update_mailbox(**change)) == 423
    trial.advance("P14D")
    assert trial.status(mailbox) == "deletion_scheduled"
    assert trial.pending_payments() == []
    trial.advance("P30D")
    assert error_status(lambda: trial.status(mailbox)) == 404
    assert transitions(trial, mailbox.email) == [
        (None, "waiting_payment", "create", "key"),
        ("waiting_payment", "payment_failed", "payment_refused", "admin"),
        ("payment_failed", "locked", "payment_grace_over", "worker"),
        ("locked", "deletion_scheduled", "suspension_over", "worker"),
        ("deletion_scheduled", None, "purge_due", "worker"),
    ]


@pytest.mark.parametrize(("waited", "status"), [("PT1S", "payment_failed"), ("P8D", "locked")])
def test_a_late_payment_restores_the_mailbox(start_trial: StartTrial, waited: str, status: str) -> None:
    trial = start_trial("--billing=manual")
    mailbox = create_unpaid_mailbox(trial)
    trial.advance(waited)
    assert trial.status(mailbox) == status
    trial.confirm_payment()
    assert trial.status(mailbox) == "ready"
    trial.advance("P14D")
    assert trial.status(mailbox) == "ready"


def test_a_renewing_mailbox_works_until_its_payment_is_overdue(start_trial: StartTrial) -> None:
    trial = start_trial("--billing=manual", "--payment-term=3d")
    mailbox = trial.create_mailbox(trial.ready_domain())
    trial.confirm_payment()
    trial.advance("P1M")
    assert trial.status(mailbox) == "renewing"
    trial.advance("P3D")
    assert trial.status(mailbox) == "payment_failed"
    (payment,) = trial.pending_payments()
    assert payment.status == payment_pb2.Payment.OVERDUE
    trial.confirm_payment()
    assert trial.status(mailbox) == "ready"


# --- Provisioning -----------------------------------------------------------------------------------------------------


def test_statuses_follow_the_confirmations_of_the_mail_platform(start_trial: StartTrial) -> None:
    trial = start_trial("--provisioning=manual")
    domain = trial.api.create_domain(name="example.org")
    assert domain.status == "creating"
    trial.confirm_provision("CREATE", domain.name)
    domain = trial.validate(domain)
    mailbox = trial.create_mailbox(domain)
    assert mailbox.status == "creating"
    (provision,) = trial.pending_provisions()
    request = provision_pb2.FailProvisionRequest(provision_id=provision.id, reason="disk full")
    failed = trial.admin.FailProvision(request)
    assert (failed.attempts, failed.error, failed.mailbox_id) == (1, "disk full", mailbox.id)
    assert trial.admin.FailProvision(request) == failed
    assert trial.pending_provisions() == []
    assert trial.status(mailbox) == "creating"
    trial.advance("PT1M")
    confirmed = trial.confirm_provision("CREATE", mailbox.email)
    assert trial.admin.ConfirmProvision(provision_pb2.ConfirmProvisionRequest(provision_id=confirmed.id)) == confirmed
    assert trial.api.wait_for_mailbox(mailbox_id=mailbox.id).status == "ready"

    alias = trial.api.create_alias(mailbox_id=mailbox.id, local_part="info")
    assert alias.status == "provisioning"
    trial.confirm_provision("CREATE", alias.email)
    assert trial.api.get_alias(alias_id=alias.id).status == "ready"
    assert trial.api.delete_alias(alias_id=alias.id).status == "deleting"
    trial.confirm_provision("DELETE", alias.email)
    assert error_status(lambda: trial.api.get_alias(alias_id=alias.id)) == 404

    trial.api.delete_mailbox(mailbox_id=mailbox.id)
    assert trial.api.restore_mailbox(mailbox_id=mailbox.id).status == "restoring"
    trial.confirm_provision("RESTORE", mailbox.email)
    trial.api.delete_mailbox(mailbox_id=mailbox.id)
    trial.advance("P30D")
    assert trial.status(mailbox) == "deleting"
    trial.confirm_provision("DELETE", mailbox.email)
    assert error_status(lambda: trial.status(mailbox)) == 404
    assert [transition[:3] for transition in transitions(trial, mailbox.email)] == [
        (None, "creating", "create"),
        ("creating", "ready", "provisioned"),
        ("ready", "deletion_scheduled", "delete"),
        ("deletion_scheduled", "restoring", "restore"),
        ("restoring", "ready", "provisioned"),
        ("ready", "deletion_scheduled", "delete"),
        ("deletion_scheduled", "deleting", "purge_due"),
        ("deleting", None, "purged"),
    ]

    assert trial.api.delete_domain(domain_id=domain.id).status == "deleting"
    trial.advance("PT1S")
    trial.confirm_provision("DELETE", domain.name)
    assert error_status(lambda: trial.api.get_domain(domain_id=domain.id)) == 404


# --- Locks ------------------------------------------------------------------------------------------------------------


def test_a_lock_is_visible_to_the_tenant_and_survives_deletion(shared_trial: Trial) -> None:
    trial = shared_trial
    mailbox = trial.create_mailbox(trial.ready_domain("locked.example"))
    locked = trial.admin.LockMailbox(mailbox_pb2.LockMailboxRequest(mailbox_id=mailbox.id, reason="spam"))
    assert locked.lock_reason == "spam"
    assert trial.status(mailbox) == "locked"
    change = {"mailbox_id": mailbox.id, "new_password": PASSWORD.upper()}
    assert error_status(lambda: trial.api.update_mailbox(**change)) == 423
    trial.api.delete_mailbox(mailbox_id=mailbox.id)
    assert trial.api.restore_mailbox(mailbox_id=mailbox.id).status == "locked"
    unlocked = trial.admin.UnlockMailbox(mailbox_pb2.UnlockMailboxRequest(mailbox_id=mailbox.id))
    assert not unlocked.HasField("lock_reason")
    trial.api.update_mailbox(**change)
    request = mailbox_pb2.ListTransitionsRequest(mailbox_id=mailbox.id)
    listed = trial.admin.ListTransitions(request).transitions
    assert [(row.revision, row.cause, row.actor) for row in listed] == [
        (row["revision"], row["cause"], row["actor"]) for row in trial.history(mailbox.email)
    ]
    assert [row.cause for row in listed] == ["create", "lock", "delete", "restore", "unlock"]


# --- The clock itself -------------------------------------------------------------------------------------------------


def test_an_invalid_advance_is_rejected_in_json(start_postroom: Starter) -> None:
    up = start_postroom("--clock=127.0.0.1:0")
    url = f"http://{address_of(up, 'clock')}/advance"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, b'{"seconds": -1}')
    with caught.value as error:
        assert error.code == 400
        assert b'"message": "seconds: expected a time from ' in error.read()


def test_a_clock_address_in_use_is_one_line(start_postroom: Starter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        up: Up = start_postroom(f"--clock={address}", wait=False)
        assert up.wait() == 1
    assert up.error_lines == [f"postroom: can't listen for the clock on {address}: address already in use"]


@pytest.mark.parametrize("address", ["0.0.0.0:8090", "192.0.2.1:8090", "example.org:80", "8090"])
def test_a_clock_listens_on_loopback_only(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["up", f"--clock={address}"]) == 2
    assert capsys.readouterr().err.startswith("postroom: --clock: expected HOST:PORT on loopback")


@pytest.mark.parametrize("command", ["serve", "gateway", "worker", "migrate"])
def test_only_up_has_a_trial_clock(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([command, "--clock=127.0.0.1:0"]) == 2
    assert capsys.readouterr().err == "postroom: No such option: --clock\n"
