"""The settings of the worker: intervals, DNS lookups, the mail server."""

from datetime import timedelta
from pathlib import Path
from typing import Self

from pydantic import model_validator

from postroomd.settings.base import LOOKUPS, WORKER, SettingsGroup, setting
from postroomd.settings.types import HttpUrl, Period, Resolvers


class WorkerSettings(SettingsGroup):
    """The settings of the worker: intervals, DNS lookups, the mail server."""

    worker_interval_seconds: float = setting(
        0.5, WORKER, "Interval between polls of an idle worker, in seconds.", gt=0, le=3_600
    )
    revalidation_interval: Period = setting(
        timedelta(days=1),
        WORKER,
        "Interval between validations of a ready domain, with ±10 % jitter.",
    )
    dkim_directory: Path | None = setting(
        None,
        (*WORKER, "mail-config rspamd"),
        "Directory in which the worker keeps the private DKIM keys of domains for the mail server's signer, as"
        " `NAME.SELECTOR.key` (mode 0600; 0640 if the directory has the set-group-ID bit), and `selectors.map`;"
        " without it, no file is written.",
    )
    dkim_interval_seconds: float = setting(
        5.0, WORKER, "Interval between updates of `--dkim-directory`, in seconds.", gt=0, le=86_400
    )
    dns_resolvers: Resolvers = setting(
        "",
        LOOKUPS,
        "Resolvers that locate a domain's authoritative servers: `IP`, `IP:PORT` or `[IPv6]:PORT`, comma-separated;"
        " the system's if not set.",
    )
    dns_timeout_seconds: float = setting(3.0, LOOKUPS, "Timeout of a query to one DNS server, in seconds.", gt=0, le=60)
    dns_deadline_seconds: float = setting(
        20.0, LOOKUPS, "Deadline for all DNS lookups of one domain, in seconds.", gt=0, le=600
    )
    dns_allow_private: bool = setting(
        False, LOOKUPS, "`true` allows domains whose DNS servers have private IP addresses."
    )
    dns_authoritative_port: int = setting(53, LOOKUPS, "Port of the domains' DNS servers, for tests.", ge=1, le=65_535)
    doveadm_url: HttpUrl | None = setting(
        None,
        WORKER,
        "URL of Dovecot's doveadm HTTP API, by which the worker ends sessions, such as `http://127.0.0.1:8080/doveadm/v1`.",
    )
    doveadm_key_file: Path | None = setting(
        None, WORKER, "File that holds Dovecot's `doveadm_api_key`; needed with `--doveadm-url`."
    )

    @model_validator(mode="after")
    def _validate_doveadm(self) -> Self:
        """Raise ValueError for a URL without its key, or the other way round."""
        if (self.doveadm_url is None) != (self.doveadm_key_file is None):
            raise ValueError("--doveadm-url and --doveadm-key-file belong together: set both or neither")
        return self
