"""The contents of the DNS records that the service asks a domain for."""

from typing import Literal

from postroomd.domain.records import MailHosts
from postroomd.settings.base import SERVICE, SettingsGroup, setting
from postroomd.settings.types import HostName, ValidationLabel


class RecordSettings(SettingsGroup):
    """The contents of the DNS records that the service asks a domain for."""

    domain_validation_label: ValidationLabel = setting(
        "_postroom-challenge",
        SERVICE,
        "Label below a new domain at which its validation token is published; `@` or empty: the domain itself.",
    )
    domain_validation_prefix: str = setting(
        "postroom-validation=",
        SERVICE,
        "Text before the validation token of new domains.",
        pattern=r"^[A-Za-z0-9._:=-]*$",
        max_length=64,
    )
    mx_host: HostName = setting("mx.mail.example", SERVICE, "Host that receives mail, for MX records.")
    imap_host: HostName = setting("imap.mail.example", SERVICE, "Host of IMAP over TLS, port 993.")
    pop3_host: HostName = setting("pop3.mail.example", SERVICE, "Host of POP3 over TLS, port 995.")
    smtp_host: HostName = setting("smtp.mail.example", SERVICE, "Host of mail submission over TLS, port 465.")
    webmail_host: HostName = setting("webmail.mail.example", SERVICE, "Host of the webmail over HTTPS.")
    caldav_host: HostName = setting("caldav.mail.example", SERVICE, "Host of CalDAV over HTTPS.")
    carddav_host: HostName = setting("carddav.mail.example", SERVICE, "Host of CardDAV over HTTPS.")
    autoconfig_host: HostName = setting("autoconfig.mail.example", SERVICE, "Target host of `autoconfig` records.")
    autodiscover_host: HostName = setting(
        "autodiscover.mail.example", SERVICE, "Target host of `autodiscover` records."
    )
    spf_include: HostName = setting("_spf.mail.example", SERVICE, "Domain name that SPF records include.")
    spf_policy: Literal["softfail", "fail"] = setting(
        "softfail", SERVICE, "End of SPF records: `softfail` is `~all`, `fail` is `-all`."
    )
    dmarc_policy: Literal["none", "quarantine", "reject"] = setting("none", SERVICE, "Policy in DMARC records.")
    dkim_selector: HostName = setting("postroom", SERVICE, "DKIM selector of new domains.", max_length=63)
    dkim_bits: Literal["1024", "2048"] = setting(
        "2048", SERVICE, "Size of the DKIM keys of new domains; `1024` for DNS panels that reject longer TXT values."
    )

    def mail_hosts(self) -> MailHosts:
        """Return the target hosts and policies of domains' DNS records."""
        return MailHosts(
            mx=self.mx_host,
            imap=self.imap_host,
            pop3=self.pop3_host,
            submission=self.smtp_host,
            caldav=self.caldav_host,
            carddav=self.carddav_host,
            autoconfig=self.autoconfig_host,
            autodiscover=self.autodiscover_host,
            spf_include=self.spf_include,
            spf_policy=self.spf_policy,
            dmarc_policy=self.dmarc_policy,
            validation_label=self.domain_validation_label,
            validation_prefix=self.domain_validation_prefix,
        )
