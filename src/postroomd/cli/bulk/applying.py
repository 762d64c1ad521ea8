"""Making the changes of a plan, step by step."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import TYPE_CHECKING, Any

from postroomd.cli.bulk.calls import (
    CallFailed,
    NewMailbox,
    content_key,
    create_alias,
    create_forwarding,
    create_mailboxes,
    patiently,
)
from postroomd.cli.bulk.diff import Change, Step
from postroomd.cli.bulk.importing import BATCH_OF_HASHES, BATCH_OF_PASSWORDS, CALLS_OF_HASHES, CALLS_OF_PASSWORDS
from postroomd.cli.errors import explain_call
from postroomd.cli.exit_codes import ExitCode
from postroomd.cli.passwords import read_secret

if TYPE_CHECKING:
    from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub

Failure = tuple[Change, str, ExitCode | None]
"""A change that was not made, the reason, and its exit code; None for a consequence of another failure."""


class NotCreated(Exception):
    """What a change needs has not been created, because that has failed."""


class Applier:
    """Makes changes, and remembers the ids of what it creates. A failed change does not stop the others."""

    def __init__(
        self, service: "MailboxServiceStub", domain_ids: Mapping[str, str], progress: Callable[[int], None]
    ) -> None:
        self._service = service
        self._domain_ids = dict(domain_ids)
        self._mailbox_ids: dict[str, str] = {}
        self._progress = progress

    def apply(self, changes: Sequence[Change]) -> list[Failure]:
        """Make the changes, which are in the order of their steps; returns those that failed, with the reason."""
        failures: list[Failure] = []
        for step, alike in groupby(changes, key=lambda change: change.step):
            group = list(alike)
            work: Callable[[list[Change]], list[Failure]] = self._one_by_one
            parts = [[change] for change in group]
            calls = CALLS_OF_HASHES
            if step is Step.CREATE_MAILBOX:
                work, parts = self._create_mailboxes, list(_batches(group))
                if any(change.wanted and change.wanted.password_file for change in group):
                    calls = CALLS_OF_PASSWORDS
            with ThreadPoolExecutor(calls) as executor:
                try:
                    failures += [failure for found in executor.map(work, parts) for failure in found]
                except BaseException:
                    executor.shutdown(cancel_futures=True)  # at Ctrl-C only what has begun is completed
                    raise
        return failures

    def _one_by_one(self, changes: list[Change]) -> list[Failure]:
        failures: list[Failure] = []
        for change in changes:
            try:
                _STEPS[change.step](self, change)
            except CallFailed as failure:
                failures.append((change, *explain_call(failure.details)))
            except NotCreated as missing:
                failures.append((change, f"{missing} was not created", None))
            self._progress(1)
        return failures

    def _create_mailboxes(self, batch: list[Change]) -> list[Failure]:
        try:
            new = [_new_mailbox(change) for change in batch]
            period = batch[0].fields["period"]
            created = create_mailboxes(self._service, _of(self._domain_ids, batch[0].domain), period, new)
        except CallFailed as failure:
            reason = explain_call(failure.details)
            return [(change, *reason) for change in batch]
        except NotCreated as missing:
            return [(change, f"{missing} was not created", None) for change in batch]
        finally:
            self._progress(len(batch))
        for change, mailbox in zip(batch, created, strict=True):
            self._mailbox_ids[change.name] = mailbox.id
        return self._set_fields(batch)

    def _set_fields(self, batch: Iterable[Change]) -> list[Failure]:
        """Set the fields of new mailboxes that the creation does not take."""
        failures: list[Failure] = []
        for change in batch:
            fields = {name: value for name, value in change.fields.items() if name != "period"}
            if fields:
                try:
                    self._update_mailbox(self._mailbox_ids[change.name], fields, "")
                except CallFailed as failure:
                    failures.append((change, *explain_call(failure.details)))
        return failures

    def _call(self, method: str, request: Any, *version: str) -> Any:
        """Make a call under an idempotency key: of its content, and of the version of what it changes."""
        key = content_key(method, request.SerializeToString(deterministic=True).hex(), *version)
        send = getattr(self._service, method)
        return patiently(lambda: send(request, metadata=(("idempotency-key", key),)))

    def _create_domain(self, change: Change) -> None:
        from postroom.v1alpha1.domain_pb2 import CreateDomainRequest

        request = CreateDomainRequest(name=change.name, project_id=change.fields.get("project_id", ""))
        # Without a key: its response would be repeated after the domain has been deleted.
        self._domain_ids[change.name] = patiently(lambda: self._service.CreateDomain(request)).id

    def _delete_domain(self, change: Change) -> None:
        from postroom.v1alpha1.domain_pb2 import DeleteDomainRequest

        self._call("DeleteDomain", DeleteDomainRequest(domain_id=_row(change)["id"]), _row(change)["etag"])

    def _delete_mailbox(self, change: Change) -> None:
        from postroom.v1alpha1.mailbox_pb2 import DeleteMailboxRequest

        self._call("DeleteMailbox", DeleteMailboxRequest(mailbox_id=_row(change)["id"], etag=_row(change)["etag"]))

    def _restore_mailbox(self, change: Change) -> None:
        from postroom.v1alpha1.mailbox_pb2 import RestoreMailboxRequest

        self._call("RestoreMailbox", RestoreMailboxRequest(mailbox_id=_row(change)["id"]), _row(change)["etag"])

    def _update(self, change: Change) -> None:
        restored = _row(change)["status"] == "deletion_scheduled"  # then its etag has changed
        etag = "" if restored else _row(change)["etag"]
        self._update_mailbox(_row(change)["id"], change.fields, etag, _row(change)["etag"])

    def _update_mailbox(self, mailbox_id: str, fields: Mapping[str, Any], etag: str, *version: str) -> None:
        from postroom.v1alpha1 import mailbox_pb2 as pb

        sent = dict(fields)
        if period := sent.pop("period", ""):
            sent["subscription_period"] = pb.Mailbox.SubscriptionPeriod.Value(period.upper())
        self._call("UpdateMailbox", pb.UpdateMailboxRequest(mailbox_id=mailbox_id, etag=etag, **sent), *version)

    def _mailbox_id(self, change: Change) -> str:
        return str(change.row["id"]) if change.row else _of(self._mailbox_ids, change.of or change.name)

    def _create_alias(self, change: Change) -> None:
        local_part = change.name.rpartition("@")[0]
        create_alias(self._service, self._mailbox_id(change), local_part, change.fields.get("description", ""))

    def _update_alias(self, change: Change) -> None:
        from postroom.v1alpha1.alias_pb2 import UpdateAliasRequest

        self._call(
            "UpdateAlias", UpdateAliasRequest(alias_id=_row(change)["id"], etag=_row(change)["etag"], **change.fields)
        )

    def _delete_alias(self, change: Change) -> None:
        from postroom.v1alpha1.alias_pb2 import DeleteAliasRequest

        self._call("DeleteAlias", DeleteAliasRequest(alias_id=_row(change)["id"], etag=_row(change)["etag"]))

    def _create_forwarding(self, change: Change) -> None:
        create_forwarding(self._service, self._mailbox_id(change), change.name)

    def _delete_forwarding(self, change: Change) -> None:
        from postroom.v1alpha1.forwarding_pb2 import DeleteForwardingRequest

        request = DeleteForwardingRequest(forwarding_id=_row(change)["id"], etag=_row(change)["etag"])
        self._call("DeleteForwarding", request)

    def _update_settings(self, change: Change) -> None:
        from postroom.v1alpha1 import forwarding_pb2 as pb

        mailbox_id = self._mailbox_id(change)
        read = pb.GetMailboxForwardingRequest(mailbox_id=mailbox_id)
        current = patiently(lambda: self._service.GetMailboxForwarding(read))
        request = pb.UpdateMailboxForwardingRequest(mailbox_id=mailbox_id, etag=current.etag, **change.fields)
        self._call("UpdateMailboxForwarding", request)


_STEPS: Mapping[Step, Callable[[Applier, Change], None]] = {
    Step.DELETE_ALIAS: Applier._delete_alias,
    Step.DELETE_FORWARDING: Applier._delete_forwarding,
    Step.DELETE_MAILBOX: Applier._delete_mailbox,
    Step.DELETE_DOMAIN: Applier._delete_domain,
    Step.CREATE_DOMAIN: Applier._create_domain,
    Step.RESTORE_MAILBOX: Applier._restore_mailbox,
    Step.UPDATE_MAILBOX: Applier._update,
    Step.CREATE_ALIAS: Applier._create_alias,
    Step.UPDATE_ALIAS: Applier._update_alias,
    Step.CREATE_FORWARDING: Applier._create_forwarding,
    Step.UPDATE_FORWARDING_SETTINGS: Applier._update_settings,
}


def _of(ids: Mapping[str, str], name: str) -> str:
    """Return the id of what exists or was created. Raises NotCreated."""
    if name not in ids:
        raise NotCreated(name)
    return ids[name]


def _row(change: Change) -> Mapping[str, Any]:
    assert change.row is not None, change.step  # noqa: S101 - steps on what exists
    return change.row


def _new_mailbox(change: Change) -> NewMailbox:
    """Return the mailbox to create, with its password from the file. Raises InvalidSetting."""
    local_part, wanted = change.name.rpartition("@")[0], change.wanted
    if wanted and wanted.password_file:
        return NewMailbox(local_part, password=read_secret(f"{change.name}: password_file", wanted.password_file))
    return NewMailbox(local_part, password_hash=wanted.password_hash if wanted else "")


def _batches(changes: Iterable[Change]) -> Iterable[list[Change]]:
    """Yield the mailboxes of each call: of one domain and period, and with passwords or with hashes."""

    def kind(change: Change) -> tuple[str, str, bool]:
        hashed = bool(change.wanted and change.wanted.password_hash)
        return change.domain, change.fields["period"], hashed

    for (_, _, hashed), alike in groupby(sorted(changes, key=kind), key=kind):
        size, remaining = BATCH_OF_HASHES if hashed else BATCH_OF_PASSWORDS, list(alike)
        yield from (remaining[start : start + size] for start in range(0, len(remaining), size))
