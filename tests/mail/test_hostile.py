"""Addresses that try to reach a query, a path or another mailbox, and unusual ones that are accepted."""

import smtplib

import pytest

from tests.mail.conftest import World
from tests.mail.servers import HOSTNAME

UNUSUAL = ("o'hara", "a&b", "x$y", "{curly}", "back`tick", "#hash", "e=mc^2", "~tilde", "!bang", "q?", "under_score")
"""Accepted local parts with characters that shells, SQL and Dovecot treat specially."""

HOSTILE = (
    "' OR '1'='1",
    "ann' --",
    "ann'/*",
    "ann\\'",
    "%",
    "%25",
    "%n",
    "%u",
    "*",
    "a*n",
    "an_",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "|cat",
    "$(id)",
    "a" * 64,
    "a" * 300,
    "ann\u0130",
    "änn",
    "\uff41nn",  # fullwidth
    "ann\u200b",
    "邮箱",
)


def test_unusual_local_parts_log_in_receive_and_send(world: World) -> None:
    tenant = world.postroom.tenant
    domain = tenant.domain("unusual.com")
    created = [tenant.mailbox(domain, local_part) for local_part in UNUSUAL]
    for mailbox in created:
        assert world.mail.send(mailbox["email"], "hello")[0] == 250, mailbox["email"]
        assert world.mail.submit(mailbox["email"], "friend@unusual.example.net", "hi")[0] == 250, mailbox["email"]
    for mailbox in created:
        world.mail.wait_for(mailbox["email"], "hello")


@pytest.fixture(scope="module")
def victim(world: World) -> str:
    """The domain of a mailbox that hostile addresses try to reach."""
    tenant = world.postroom.tenant
    domain = tenant.domain("hostile.com")
    tenant.mailbox(domain, "ann")
    return str(domain["name"])


def test_hostile_local_parts_reach_nothing(world: World, victim: str) -> None:
    for local_part in HOSTILE:
        for address in (f"{local_part}@{victim}", f'"{local_part}"@{victim}'):
            code, text = world.mail.send(address, "hostile")
            assert 500 <= code < 560, (address, code, text)
            assert world.mail.login_code(address) == "AUTHENTICATIONFAILED", address
    for login in (f"ann@{victim}' OR '1'='1", f"%@{victim}", "ann", f"@{victim}", f"ann@{victim}@{victim}", "*", ""):
        assert world.mail.login_code(login) == "AUTHENTICATIONFAILED", login
    assert world.mail.subjects(f"ann@{victim}") == []


def test_a_local_part_is_no_route_to_another_host(world: World, victim: str) -> None:
    for domain in (victim, HOSTNAME, "localhost"):
        for local_part in ("x@elsewhere.example", "x%elsewhere.example", "elsewhere.example!x"):
            for address in (f"{local_part}@{domain}", f'"{local_part}"@{domain}', f"@{domain}:{local_part}"):
                code, text = world.mail.send(address, "routed")
                assert 500 <= code < 560, (address, code, text)


def test_octets_that_are_no_utf8_are_refused_permanently(world: World, victim: str) -> None:
    with smtplib.SMTP("127.0.0.1", world.servers.ports.smtp, "elsewhere.example", 30) as connection:
        connection.ehlo()
        connection.mail("stranger@elsewhere.example")
        for octets in (b"ann\xff", b"\xc3\x28", b"\x80'"):
            connection.send(b"RCPT TO:<" + octets + b"@" + victim.encode() + b">\r\n")
            code, text = connection.getreply()
            assert 500 <= code < 560, (octets, code, text)
            connection.send(b"RCPT TO:<ann@" + octets + victim.encode() + b">\r\n")
            code, text = connection.getreply()
            assert 500 <= code < 560, (octets, code, text)
