"""The mail hosts of the default settings, as tests/support/expected_records.py expects them."""

from postroomd.domain.records import MailHosts

MAIL_HOSTS = MailHosts(
    mx="mx.mail.example",
    imap="imap.mail.example",
    pop3="pop3.mail.example",
    submission="smtp.mail.example",
    caldav="caldav.mail.example",
    carddav="carddav.mail.example",
    autoconfig="autoconfig.mail.example",
    autodiscover="autodiscover.mail.example",
    spf_include="_spf.mail.example",
    spf_policy="softfail",
    dmarc_policy="none",
    validation_label="_postroom-challenge",
    validation_prefix="postroom-validation=",
)
