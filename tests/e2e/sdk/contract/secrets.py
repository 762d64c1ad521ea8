"""Passwords and secrets appear in no response, no log line and no stored value."""

from tests.e2e.sdk.client import PASSWORD_MARKER, ResponseLog, Sdk, expect_error, new_password
from tests.e2e.sdk.instances import Instance, check_no_secret_leaked


class Secrets:
    """Confidentiality of passwords and secrets."""

    async def test_no_password_or_secret_leaks(self, sdk: Sdk, instance: Instance, responses: ResponseLog) -> None:
        domain = await sdk.create_domain(name=f"{sdk.label}.secrets.example")
        (mailbox,) = await sdk.create_mailboxes(domain.id, "someone")
        await sdk.update_mailbox(mailbox_id=mailbox.id, new_password=new_password())
        await expect_error(sdk.create_mailboxes(domain.id, "someone"), 409, "conflict")
        bad = [
            sdk.mailbox("", new_password()),
            sdk.mailbox("x", f"{new_password()}\n"),
            sdk.mailbox("y", PASSWORD_MARKER),
        ]
        await expect_error(sdk.batch_create_mailboxes(domain_id=domain.id, mailboxes=bad), 400, "invalid_arguments")
        call = sdk.update_mailbox(mailbox_id=mailbox.id, new_password=PASSWORD_MARKER * 20)
        await expect_error(call, 400, "invalid_arguments")
        await expect_error(
            sdk.update_mailbox(mailbox_id=new_password(), new_password=new_password()), 400, "invalid_arguments"
        )
        other = sdk.with_key(instance.shared_key())
        call = other.update_mailbox(mailbox_id=mailbox.id, new_password=new_password())
        await expect_error(call, 404, "not_found")

        # The same searches find what is not secret.
        assert mailbox.email.encode() in instance.database.raw_contents()
        assert other.environment["SCW_ACCESS_KEY"] in instance.up.log
        assert any(mailbox.email in text for text in responses.texts)
        check_no_secret_leaked(instance, responses)
