"""The mail hosts that tests configure."""

from postroomd.domain.records import MailHosts

MAIL_HOSTS = MailHosts(
    mx="mx.host.test",
    imap="imap.host.test",
    pop3="pop3.host.test",
    submission="smtp.host.test",
    dav="dav.host.test",
    autoconfig="autoconfig.host.test",
    autodiscover="autodiscover.host.test",
    spf_include="_spf.host.test",
    dmarc_policy="none",
)
