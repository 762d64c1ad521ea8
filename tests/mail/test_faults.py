"""The database under load, and away: lookups stay right, and no mail is refused permanently because of it."""

import smtplib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.mail.clients import TIMEOUT_SECONDS
from tests.mail.conftest import World
from tests.mail.postroom import PASSWORD, ApiError, Tenant
from tests.support.waiting import block_until

LOOKUPS = 25


def test_lookups_stay_right_while_the_service_writes_at_full_speed(world: World) -> None:
    tenant = world.postroom.tenant
    ann = tenant.mailbox(tenant.domain("under-load.com"), "ann")
    with writing(world) as written:
        for number in range(LOOKUPS):
            assert world.mail.login_code(ann["email"]) == ""
            assert world.mail.login_code(ann["email"], PASSWORD[:-1]) == "AUTHENTICATIONFAILED"
            assert world.mail.send(ann["email"], f"message {number}")[0] == 250
            assert world.mail.send("nobody@under-load.com", "hello")[1][:5] == "5.1.1"
        block_until(lambda: len(written) >= LOOKUPS)
    world.mail.wait_for(ann["email"], f"message {LOOKUPS - 1}")
    world.servers.wait_until_queue_is_empty()
    assert len(world.mail.subjects(ann["email"])) == LOOKUPS


def first_reply(world: World, recipient: str) -> str:
    """Return the codes of the reply to a recipient, or `none` on SQLite, if there is none within five seconds."""
    seconds = TIMEOUT_SECONDS if world.postgres else 5
    try:
        with smtplib.SMTP("127.0.0.1", world.servers.ports.smtp, "elsewhere.example", seconds) as connection:
            connection.ehlo()
            connection.mail("stranger@elsewhere.example")
            code, text = connection.rcpt(recipient)
    except (TimeoutError, smtplib.SMTPServerDisconnected):
        return "none"
    return f"{code} {text.decode().split()[0]}"


@contextmanager
def writing(world: World) -> Iterator[list[int]]:
    """Write without a pause from two threads: mailboxes, aliases and changes. Yields the statuses of the responses."""
    stop, written = threading.Event(), list[int]()

    def write(tenant: Tenant, name: str) -> None:
        domain = tenant.domain(name)
        number = 0
        while not stop.is_set():
            number += 1
            created = tenant.mailboxes(
                domain, [{"local_part": f"{each}-{number}", "password": PASSWORD} for each in "ab"]
            )
            tenant.alias(created[0], f"alias-{number}")
            tenant.update(created[0], subscription_period="monthly")
            tenant.delete(created[1])
            written.append(number)

    threads = [
        threading.Thread(target=write, args=(world.postroom.new_tenant(), f"writer-{number}.com"))
        for number in range(2)
    ]
    for thread in threads:
        thread.start()
    try:
        block_until(lambda: len(written) >= 2)
        yield written
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def registers(tenant: Tenant, name: str) -> bool:
    """Register a domain. Returns False if the service is unavailable."""
    try:
        tenant.register(name)
    except ApiError as error:
        if error.status != 503:
            raise
        return False
    return True


def test_without_the_database_mail_is_deferred_and_a_login_is_unavailable(world: World) -> None:
    tenant = world.postroom.tenant
    ann = tenant.mailbox(tenant.domain("unavailable.com"), "ann")
    with world.database_unavailable():
        assert world.mail.login_code(ann["email"]) == "UNAVAILABLE"
        # Postfix's client of SQLite ends where it can't open the database: then there is no reply until it can.
        expected = {"451 4.3.0"} if world.postgres else {"451 4.3.0", "none"}
        for recipient in (ann["email"], "nobody@unavailable.com") if world.postgres else (ann["email"],):
            assert first_reply(world, recipient) in expected
    block_until(lambda: registers(tenant, "afterwards.com"))  # the service has lost its connections too
    block_until(lambda: world.mail.login_code(ann["email"]) == "")
    block_until(lambda: world.mail.send(ann["email"], "afterwards")[0] == 250)
    world.mail.wait_for(ann["email"], "afterwards")
    assert world.mail.send("nobody@unavailable.com", "afterwards")[1][:5] == "5.1.1"
