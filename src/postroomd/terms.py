"""The operator's terms, out of the settings."""

from postroomd.domain.terms import Terms
from postroomd.settings import Settings


def terms_of(settings: Settings) -> Terms:
    """What the settings say to the rules."""
    return Terms(
        retention=settings.deletion_retention,
        billing=settings.billing == "manual",
        payment_term=settings.payment_term,
        payment_grace=settings.payment_grace,
        suspension_grace=settings.suspension_grace,
        provisioning=settings.provisioning == "manual",
        quarantine=settings.address_quarantine,
    )
