"""Imported password hashes of other systems."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher

from tests.mail.clients import submit
from tests.mail.conftest import World

COUNT = 1_000
SCHEMES = ("ARGON2ID", "BLF-CRYPT", "SHA512-CRYPT", "SHA256-CRYPT", "PBKDF2", "SSHA512")
ROUNDS = {"BLF-CRYPT": ("-r", "5"), "PBKDF2": ("-r", "1000"), "SHA512-CRYPT": ("-r", "1000")}


def doveadm_hash(scheme: str, password: str) -> str:
    """Return a hash of a password, as other systems store it."""
    if scheme == "ARGON2ID":  # Dovecot's costs more memory than may be imported
        return "{ARGON2ID}" + PasswordHasher(2, 8_192, 1).hash(password)
    command = ["doveadm", "pw", "-s", scheme, *ROUNDS.get(scheme, ()), "-p", password]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_login_works_with_a_hash_of_each_scheme(world: World) -> None:
    tenant = world.postroom.new_tenant(import_hashes=True)
    domain = tenant.domain("schemes.com")
    for scheme in SCHEMES:
        mailbox = tenant.imported(domain, [(scheme.lower(), doveadm_hash(scheme, f"secret of {scheme}"))])[0]
        assert world.mail.login_code(mailbox["email"], f"secret of {scheme}") == ""
        assert world.mail.login_code(mailbox["email"], "another secret") == "AUTHENTICATIONFAILED"


def test_an_open_session_of_an_imported_hash_ends_with_the_password(world: World) -> None:
    tenant = world.postroom.new_tenant(import_hashes=True)
    domain = tenant.domain("scheme-sessions.com")
    for scheme in SCHEMES:
        mailbox = tenant.imported(domain, [(scheme.lower(), doveadm_hash(scheme, "an imported secret"))])[0]
        email = mailbox["email"]
        with world.mail.submission(email, "an imported secret") as session:
            assert submit(session, email, email, "before")[0] == 250
            tenant.update(mailbox, new_password="an imported secret")
            assert submit(session, email, email, "after")[0] == 553


def test_a_thousand_mailboxes_with_imported_hashes_log_in(world: World) -> None:
    tenant = world.postroom.new_tenant(import_hashes=True)
    domain = tenant.domain("imported.com")
    passwords = [f"password number {number}" for number in range(10)]
    hashes = [doveadm_hash("SHA512-CRYPT", password) for password in passwords]
    mailboxes = []
    for first in range(0, COUNT, 100):
        wanted = [(f"user{number}", hashes[number % 10]) for number in range(first, first + 100)]
        mailboxes += tenant.imported(domain, wanted)
    assert len(mailboxes) == COUNT

    def failure(number: int) -> str:
        return world.mail.plain_login_code(mailboxes[number]["email"], passwords[number % 10])

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(failure, range(COUNT))) == {""}
    assert world.mail.login_code(mailboxes[0]["email"], passwords[1]) == "AUTHENTICATIONFAILED"
