"""What the rules of domains and mailboxes depend on, in the service and in the worker."""

from datetime import timedelta
from typing import Literal

from pydantic import ValidationInfo, field_validator

from postroomd.domain.clock_leaps import LeapLimits
from postroomd.domain.policy import LifecyclePolicy
from postroomd.settings.base import RULES, SERVICE, WORKER, SettingsGroup, setting
from postroomd.settings.types import Duration, Period


class RuleSettings(SettingsGroup):
    """What the rules of domains and mailboxes depend on, in the service and in the worker."""

    domain_validation: Literal["dns", "trust"] = setting(
        "dns",
        (*RULES, "doctor"),
        "Validation of a domain's DNS records: `dns` looks them up, `trust` assumes that they are valid.",
    )
    domain_deletion: Literal["refuse", "cascade"] = setting(
        "refuse",
        SERVICE,
        "`refuse`: a domain with mailboxes in use is deleted only with `force`; `cascade`: every deletion is forced.",
    )
    deletion_retention: Period = setting(
        timedelta(days=30),
        RULES,
        "Time from the deletion of a mailbox to its purge, until which it can be restored: `30d`, `12h`, or seconds.",
    )
    cancellation_retention: Period = setting(
        timedelta(days=30),
        RULES,
        "Time from the end of a canceled or unpaid subscription to the purge of its mailbox.",
    )
    unpaid_retention: Period | None = setting(
        None,
        RULES,
        "Time from the deletion of a mailbox that was never paid for to its purge; `none`: `--deletion-retention`.",
    )
    address_quarantine: Duration = setting(
        timedelta(0),
        RULES,
        "Time after a purge until the organization can use the address again.",
        ge=timedelta(0),
        le=timedelta(days=36_500),
    )
    history_retention: Duration = setting(
        timedelta(days=400),
        RULES,
        "Time until the worker removes transitions, tombstones, settled payments and provisions; not below the"
        " quarantine.",
        ge=timedelta(days=1),
        le=timedelta(days=36_500),
    )
    audit_retention: Duration = setting(
        timedelta(days=400),
        RULES,
        "Time until the worker removes events of the audit log.",
        ge=timedelta(days=1),
        le=timedelta(days=36_500),
    )
    billing: Literal["none", "manual"] = setting(
        "none", RULES, "`manual`: each period awaits a payment, confirmed by the admin service; `none`: no payments."
    )
    payment_term: Period = setting(
        timedelta(days=7),
        RULES,
        "Time for a payment; after it the mailbox becomes `payment_failed`.",
    )
    payment_grace: Period = setting(
        timedelta(days=7),
        RULES,
        "Grace period from a failed payment until the mailbox is locked.",
    )
    suspension_grace: Period = setting(
        timedelta(days=14),
        RULES,
        "Grace period from that lock until the mailbox is scheduled for deletion.",
    )
    provisioning: Literal["none", "manual"] = setting(
        "none",
        RULES,
        "`manual`: a mail platform confirms creations and deletions by the admin service; `none`: no confirmation.",
    )
    dkim_overlap: Period = setting(
        timedelta(days=7),
        RULES,
        "Time for which the previous DKIM key of a domain stays published after `postroom dkim rotate`.",
    )
    domain_release_grace: Duration = setting(
        timedelta(days=3),
        WORKER,
        "Time for which a ready domain's validation token may be absent from its DNS; then the domain is released.",
        ge=timedelta(0),
        le=timedelta(days=3_650),
    )
    clock_leap_forward: Duration = setting(
        LeapLimits().forward,
        RULES,
        "Maximum step of the system's clock forward, and difference to the database server's clock. Beyond it, the"
        " worker pauses until the clock returns or `postroom clock accept`.",
        ge=timedelta(minutes=1),
        le=timedelta(days=3_650),
    )
    clock_leap_backward: Period = setting(
        LeapLimits().backward,
        RULES,
        "Maximum step of the system's clock backward; beyond it, the worker pauses until the clock has caught up.",
    )

    @field_validator("history_retention")
    @classmethod
    def _validate_history(cls, retention: timedelta, info: ValidationInfo) -> timedelta:
        if retention < info.data.get("address_quarantine", timedelta(0)):
            raise ValueError(
                "must be at least --address-quarantine, which tombstones enforce: raise it, or shorten the quarantine"
            )
        return retention

    def lifecycle_policy(self) -> LifecyclePolicy:
        """Return the settings that the rules of mailboxes and domains depend on."""
        return LifecyclePolicy(
            deletion_retention=self.deletion_retention,
            cancellation_retention=self.cancellation_retention,
            unpaid_retention=self.unpaid_retention,
            billing=self.billing == "manual",
            payment_term=self.payment_term,
            payment_grace=self.payment_grace,
            suspension_grace=self.suspension_grace,
            provisioning=self.provisioning == "manual",
            quarantine=self.address_quarantine,
            cascade_domain_deletion=self.domain_deletion == "cascade",
            release_grace=self.domain_release_grace,
            dkim_overlap=self.dkim_overlap,
        )

    def leap_limits(self) -> LeapLimits:
        """Return how far the system's clock may step."""
        return LeapLimits(self.clock_leap_forward, self.clock_leap_backward)
