"""The kinds of the worker's steps. The worker and its metrics share them."""

from enum import StrEnum


class StepKind(StrEnum):
    """A kind of step: the value of `kind` in log lines and in the labels of metrics."""

    CLOCK = "clock"  # the heartbeat, and the comparison of the clock with others
    POLL = "poll"  # the query for due work
    DNS_LOOKUP = "dns_lookup"  # a domain's records
    DOMAIN_ACTIVATION = "domain_activation"  # of a validated domain, with its aliases and forwardings
    DOMAIN_PROPAGATION = "domain_propagation"  # of a domain's status to its mailboxes
    MAILBOX = "mailbox"  # a due date: of a period, a payment, a retention
    SESSION_END = "session_end"  # on the mail server, of a mailbox that may no longer log in
    DOMAIN_PURGE = "domain_purge"  # of a deleted domain, with its mailboxes
    PROVISION = "provision"  # confirmed by the worker, where there is no mail platform
    HISTORY = "history"  # removal of transitions, tombstones, settled payments and provisions after their retention
    AUDIT = "audit"  # removal of audit events after their retention
    DKIM_RETIREMENT = "dkim_retirement"  # of the previous DKIM key of a domain, after the overlap period
    DKIM_EXPORT = "dkim_export"  # of the DKIM keys to --dkim-directory
    EXPIRED_RESPONSE = "expired_response"  # removal of the stored response of an idempotency key
