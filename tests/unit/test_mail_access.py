"""What mailboxes may do on a mail server, and the documentation of it."""

from pathlib import Path

import pytest

from postroomd.domain.mail_access import STATUS_ACCESS
from postroomd.domain.model import MailboxStatus

DOCUMENT = Path(__file__).parents[2] / "docs/mail-server.md"
BEGIN, END = "<!-- statuses: postroomd.domain.mail_access -->\n", "<!-- end of statuses -->\n"


def test_every_status_has_an_access() -> None:
    assert set(STATUS_ACCESS) == set(MailboxStatus)


@pytest.mark.parametrize("status", MailboxStatus)
def test_a_mailbox_either_receives_or_has_a_reply_with_an_enhanced_code_of_its_class(status: MailboxStatus) -> None:
    access = STATUS_ACCESS[status]
    assert access.receive == (access.reply == "")
    if access.reply:
        code, enhanced, _ = access.reply.split(maxsplit=2)
        assert (len(code), code[0]) == (3, enhanced[0])


def test_the_documented_table_is_that_of_the_code() -> None:
    documented = DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0]
    rows = ["| status | log in | send | receive | forward | SMTP reply |", "|---|---|---|---|---|---|"]
    for status in MailboxStatus:
        access = STATUS_ACCESS[status]
        flags = (access.log_in, access.send, access.receive, access.forward)
        cells = [f"`{status}`", *("yes" if flag else "no" for flag in flags), access.reply or "-"]
        rows.append(f"| {' | '.join(cells)} |")
    assert documented.splitlines() == rows
