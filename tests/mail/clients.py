"""Clients of the mail servers: IMAP, SMTP and submission."""

import imaplib
import smtplib
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from typing import TypeVar

from tests.mail.postroom import PASSWORD
from tests.mail.servers import HOSTNAME, MailServers
from tests.support.waiting import block_until

STRANGER = "stranger@elsewhere.example"
TIMEOUT_SECONDS = 30

Result = TypeVar("Result")


@dataclass(frozen=True)
class Mail:
    """What users and other hosts do with the mail servers."""

    servers: MailServers
    tls: ssl.SSLContext

    @contextmanager
    def imap(self, user: str, password: str = PASSWORD) -> Iterator[imaplib.IMAP4_SSL]:
        """Log in over TLS. Raises imaplib.IMAP4.error with the server's response."""
        connection = imaplib.IMAP4_SSL(
            "127.0.0.1", self.servers.ports.imaps, ssl_context=self.tls, timeout=TIMEOUT_SECONDS
        )
        try:
            connection.authenticate("PLAIN", lambda _: f"\0{user}\0{password}".encode())
            yield connection
        finally:
            connection.shutdown()

    def login_code(self, user: str, password: str = PASSWORD) -> str:
        """Return the response code with which a login fails, such as AUTHENTICATIONFAILED; "" if it succeeds."""
        return unless_ended(lambda: self._login_code(user, password))

    def _login_code(self, user: str, password: str) -> str:
        try:
            with self.imap(user, password):
                return ""
        except imaplib.IMAP4.abort:
            raise
        except imaplib.IMAP4.error as error:
            text = error.args[0]
            decoded = text.decode() if isinstance(text, bytes) else str(text)
            return decoded.partition("[")[2].partition("]")[0] or decoded

    def plain_login_code(self, user: str, password: str) -> str:
        """Do the same without TLS, as a program on the mail server's own machine may."""
        connection = imaplib.IMAP4("127.0.0.1", self.servers.ports.imap, timeout=TIMEOUT_SECONDS)
        try:
            connection.login(user, password)
        except imaplib.IMAP4.error as error:
            return str(error)
        finally:
            connection.shutdown()
        return ""

    def subjects(self, user: str, password: str = PASSWORD) -> list[str]:
        """Return the subjects of the messages in a mailbox's INBOX."""

        def subjects() -> list[str]:
            with self.imap(user, password) as connection:
                return _subjects(connection)

        return unless_ended(subjects)

    def wait_for(self, user: str, subject: str) -> None:
        """Wait until a message is in a mailbox's INBOX."""
        block_until(lambda: subject in self.subjects(user))

    def send(self, recipient: str, subject: str, sender: str = STRANGER) -> tuple[int, str]:
        """Send a message as another host does; returns the reply to its recipient, or to the message itself."""
        return self.send_to([recipient], subject, sender)[recipient]

    def send_to(self, recipients: Sequence[str], subject: str, sender: str = STRANGER) -> dict[str, tuple[int, str]]:
        """Send a message to several recipients in one transaction."""
        replies = {}
        with smtplib.SMTP("127.0.0.1", self.servers.ports.smtp, "elsewhere.example", TIMEOUT_SECONDS) as connection:
            connection.ehlo()
            connection.mail(sender)
            for recipient in recipients:
                connection.send(f"RCPT TO:<{recipient}>\r\n".encode())  # as it is: smtplib would quote it
                code, text = connection.getreply()
                replies[recipient] = (code, text.decode(errors="replace"))
            if any(code == 250 for code, _ in replies.values()):
                code, text = connection.data(message(sender, recipients[0], subject).as_bytes())
                if code != 250:
                    replies = dict.fromkeys(replies, (code, text.decode()))
        return replies

    def relay(self, text: str, recipient: str, sender: str) -> None:
        """Send a message with these headers as another host does."""
        with smtplib.SMTP("127.0.0.1", self.servers.ports.smtp, "elsewhere.example", TIMEOUT_SECONDS) as connection:
            connection.sendmail(sender, [recipient], text)

    @contextmanager
    def submission(self, user: str, password: str = PASSWORD) -> Iterator[smtplib.SMTP]:
        """Log in to the submission service. Raises smtplib.SMTPAuthenticationError."""
        with smtplib.SMTP("127.0.0.1", self.servers.ports.submission, "laptop.example", TIMEOUT_SECONDS) as connection:
            connection.starttls(context=self.tls)
            connection.login(user, password)
            yield connection

    def submit(self, user: str, recipient: str, subject: str, sender: str | None = None) -> tuple[int, str]:
        """Submit a message; returns the reply to the login, the sender, the recipient or the message."""
        envelope = user if sender is None else sender
        try:
            with self.submission(user) as connection:
                return submit(connection, envelope, recipient, subject)
        except smtplib.SMTPAuthenticationError as error:
            text = error.smtp_error
            return error.smtp_code, text.decode() if isinstance(text, bytes) else text


def unless_ended(use: Callable[[], Result]) -> Result:
    """Return the result of using a session of one's own, which is used again if the server has ended it meanwhile.

    The worker ends sessions up to a second after a change of their mailbox, such as a lock or a new password, and again
    ten seconds later: perhaps those that begin after the next change.
    """
    results: list[Result] = []

    def has_result() -> bool:
        with suppress(imaplib.IMAP4.abort, ConnectionResetError):
            results.append(use())
        return bool(results)

    block_until(has_result)
    return results[0]


def submit(connection: smtplib.SMTP, sender: str, recipient: str, subject: str) -> tuple[int, str]:
    """Submit a message over a connection; returns the last reply."""
    last = (0, b"")
    for last in _replies(connection, sender, recipient, subject):
        if last[0] >= 400:
            connection.rset()
            break
    return last[0], last[1].decode()


def _replies(connection: smtplib.SMTP, sender: str, recipient: str, subject: str) -> Iterator[tuple[int, bytes]]:
    yield connection.mail(sender)
    yield connection.rcpt(recipient)
    yield connection.data(message(sender, recipient, subject).as_bytes())


def message(sender: str, recipient: str, subject: str) -> EmailMessage:
    """Return a short message."""
    made = EmailMessage()
    made["From"] = sender or STRANGER
    made["To"] = recipient if recipient.isascii() else STRANGER
    made["Subject"] = subject
    made["Message-ID"] = f"<{subject.replace(' ', '-')}@{HOSTNAME}>"
    made.set_content("Hello.")
    return made


def _subjects(connection: imaplib.IMAP4_SSL) -> list[str]:
    connection.select("INBOX", readonly=True)
    _, (numbers,) = connection.search(None, "ALL")
    subjects = []
    for number in numbers.split():
        _, parts = connection.fetch(number, "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        text = next(part[1] for part in parts if isinstance(part, tuple))
        subjects.append(text.decode().removeprefix("Subject:").strip())
    return subjects
