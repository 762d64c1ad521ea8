"""Passwords and secrets are told to nobody: not by an answer, not by a log line, not by what is stored."""

from tests.e2e.sdk.client import PASSWORD_MARK, Answers, Sdk, password, refused
from tests.e2e.sdk.instances import Instance, require_nothing_told


class Secrets:
    """Who is told a password or a secret: nobody."""

    async def test_no_password_or_secret_is_found_anywhere(
        self, sdk: Sdk, instance: Instance, answers: Answers
    ) -> None:
        domain = await sdk.create_domain(name=f"{sdk.label}.secrets.example")
        (mailbox,) = await sdk.create_mailboxes(domain.id, "someone")
        await sdk.update_mailbox(mailbox_id=mailbox.id, new_password=password())
        await refused(sdk.create_mailboxes(domain.id, "someone"), 409, "conflict")
        bad = [sdk.mailbox("", password()), sdk.mailbox("x", f"{password()}\n"), sdk.mailbox("y", PASSWORD_MARK)]
        await refused(sdk.batch_create_mailboxes(domain_id=domain.id, mailboxes=bad), 400, "invalid_arguments")
        call = sdk.update_mailbox(mailbox_id=mailbox.id, new_password=PASSWORD_MARK * 20)
        await refused(call, 400, "invalid_arguments")
        await refused(sdk.update_mailbox(mailbox_id=password(), new_password=password()), 400, "invalid_arguments")
        other = sdk.with_key(instance.shared_key())
        call = other.update_mailbox(mailbox_id=mailbox.id, new_password=password())
        await refused(call, 404, "not_found")

        # The search finds what is there.
        assert mailbox.email.encode() in instance.database.contents()
        assert other.environment["SCW_ACCESS_KEY"] in instance.up.log
        assert any(mailbox.email in text for text in answers.texts)
        require_nothing_told(instance, answers)
