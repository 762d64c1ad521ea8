"""All settings in one class."""

from typing import Literal

from postroomd.settings.addresses import AddressSettings
from postroomd.settings.base import RULES, SERVICE, setting
from postroomd.settings.certificates import CertificateSettings
from postroomd.settings.database import DatabaseSettings
from postroomd.settings.gateway import GatewaySettings
from postroomd.settings.logs import LogSettings
from postroomd.settings.records import RecordSettings
from postroomd.settings.rules import RuleSettings
from postroomd.settings.service import ServiceSettings
from postroomd.settings.worker import WorkerSettings


class Settings(
    LogSettings,
    WorkerSettings,
    GatewaySettings,
    RecordSettings,
    ServiceSettings,
    RuleSettings,
    CertificateSettings,
    AddressSettings,
    DatabaseSettings,
):
    """The settings of all processes. Their order is that of the groups, from the last base to the first."""


class UpSettings(Settings):
    """The settings of `postroom up`, which by default works without published DNS records."""

    domain_validation: Literal["dns", "trust"] = setting(
        "trust", RULES, Settings.model_fields["domain_validation"].description or ""
    )
    grpc_reflection: bool = setting(True, SERVICE, Settings.model_fields["grpc_reflection"].description or "")
