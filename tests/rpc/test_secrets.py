"""Passwords, API secrets and DKIM keys: in no log line, no answer, no error, and no file but where they belong."""

import asyncio
import base64
import json
from collections.abc import Awaitable
from dataclasses import dataclass, field
from io import StringIO
from typing import Any
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio

from postroom.v1alpha1.alias_pb2 import CreateAliasRequest, ListAliasesRequest
from postroom.v1alpha1.domain_pb2 import (
    DeleteDomainRequest,
    GetDomainRecordsRequest,
    ListDomainsRequest,
    ValidateDomainRecordsRequest,
)
from postroom.v1alpha1.mailbox_pb2 import (
    DeleteMailboxRequest,
    ListMailboxesRequest,
    Mailbox,
    RestoreMailboxRequest,
    UpdateMailboxRequest,
)
from tests.rpc.support import ABSENT_ID, SERVICE, Failure, Service, Tenant, batch_request, details_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("secrets")]  # one long walk

CODES = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


@dataclass(slots=True)
class Session:
    """A walk with marked secrets: what was sent in confidence, and all that came back."""

    passwords: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    private_keys: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    codes: set[grpc.StatusCode] = field(default_factory=set)
    files: dict[str, bytes] = field(default_factory=dict)

    def password(self, form: str = "{}") -> str:
        """A password that stands nowhere else, in a form that it may be refused for."""
        marked = f"marked-{uuid4().hex}"
        self.passwords.append(marked)
        return form.format(marked)

    def secret(self, tenant: Tenant) -> Tenant:
        """The tenant, whose secret is one to look for."""
        self.secrets.append(tenant.secret)
        return tenant

    async def hear(self, call: Awaitable[Any]) -> Any:
        """Note all that a call answers; None where it fails."""
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            failure = Failure(error.code(), error.details() or "", details_of(error), dict(error.trailing_metadata()))
            self.codes.add(failure.code)
            self.answers += [failure.text, repr(error), repr(error.initial_metadata())]
            return None
        self.codes.add(grpc.StatusCode.OK)
        self.answers.append(str(answer))
        return answer


@pytest.fixture(scope="module")
def busy_ms() -> int:
    return 1_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session(service: Service, logs: StringIO) -> Session:
    """The whole walk: every kind of call that carries a secret, with every kind of end."""
    session = Session()
    tenant = session.secret(await service.tenant(mailbox_quota=4))
    hear, stub, password = session.hear, tenant.stub, session.password
    domain = await tenant.ready_domain()
    for _ in range(2):
        request = batch_request(domain.id, "ann", "bob", password=password())
        await hear(stub.BatchCreateMailboxes(request, metadata=(("idempotency-key", f"key-{uuid4()}"),)))
    created = await hear(stub.BatchCreateMailboxes(batch_request(domain.id, "cat", password=password())))
    mailbox = created.mailboxes[0]

    def update(new_password: str, **fields: Any) -> UpdateMailboxRequest:
        return UpdateMailboxRequest(mailbox_id=mailbox.id, new_password=new_password, **fields)

    await hear(stub.UpdateMailbox(update(password()), metadata=(("idempotency-key", "again"),)))
    for form in ("{}\0", "{0}{0}{0}{0}", "{0}{0}{0}{0}\n"):  # a control character, too long, and both
        await hear(stub.UpdateMailbox(update(password(form))))
        await hear(stub.BatchCreateMailboxes(batch_request(domain.id, "dan", password=password(form))))
    await hear(stub.BatchCreateMailboxes(batch_request(domain.id, "d+an", password=password())))
    await hear(stub.BatchCreateMailboxes(batch_request("nonsense", "dan", password=password())))
    await hear(stub.BatchCreateMailboxes(batch_request(ABSENT_ID, "dan", password=password())))
    await hear(stub.BatchCreateMailboxes(batch_request(domain.id, "dan", "eve", password=password())))  # the quota
    local_part = password()
    await hear(stub.BatchCreateMailboxes(batch_request(domain.id, local_part, password=local_part)))
    session.passwords.remove(local_part)  # it is an address too
    await hear(stub.UpdateMailbox(update(password(), etag="passed")))
    await hear(stub.UpdateMailbox(update(password(), subscription_period=4711)))
    await hear(stub.UpdateMailbox(UpdateMailboxRequest(mailbox_id=ABSENT_ID, new_password=password())))
    await hear(stub.DeleteMailbox(DeleteMailboxRequest(mailbox_id=mailbox.id)))
    await hear(stub.UpdateMailbox(update(password())))  # not while it is deleted
    await hear(stub.RestoreMailbox(RestoreMailboxRequest(mailbox_id=mailbox.id)))
    await service.sql("UPDATE mailboxes SET status = 'locked' WHERE id = ?", mailbox.id)
    await hear(stub.UpdateMailbox(update(password())))
    await hear(stub.CreateAlias(CreateAliasRequest(mailbox_id=mailbox.id, local_part="info")))
    await hear(stub.ListMailboxes(ListMailboxesRequest(search=password())))
    for rpc, listing in (("Mailboxes", ListMailboxesRequest), ("Aliases", ListAliasesRequest)):
        await hear(tenant.call(f"List{rpc}", listing()))

    raw: Any = service.channel(tenant.metadata).unary_unary(f"/{SERVICE.full_name}/BatchCreateMailboxes")
    whole = batch_request(domain.id, "dan", password=password()).SerializeToString()
    await hear(raw(whole[:-3]))

    reader = session.secret(await service.tenant(organization_id=tenant.organization_id, read_only=True))
    await hear(reader.stub.UpdateMailbox(update(password())))
    unknown = str(uuid4())
    session.secrets.append(unknown)
    for metadata in (
        (("x-auth-token", unknown),),
        (("authorization", f"Bearer {unknown}"),),
        (("authorization", f"Basic {unknown}"),),
        (("x-auth-token", f"{unknown}!"),),
        (("x-auth-token", unknown), ("x-auth-token", tenant.secret)),
        (("x-auth-token", unknown), ("x-request-id", f"{unknown} {unknown}")),
    ):
        await hear(service.stub(metadata).UpdateMailbox(update(password())))

    await hear(stub.GetDomainRecords(GetDomainRecordsRequest(domain_id=domain.id)))
    await hear(stub.ListDomains(ListDomainsRequest()))
    await hear(stub.ValidateDomainRecords(ValidateDomainRecordsRequest(domain_id=domain.id)))
    await fail_inside(service, session, tenant, mailbox)
    doomed = await tenant.domain()
    for (pem,) in await service.sql("SELECT dkim_private_key FROM domains"):
        session.private_keys += [line for line in pem.splitlines() if not line.startswith("-----")]
    await hear(stub.DeleteDomain(DeleteDomainRequest(domain_id=doomed.id)))
    session.files = {
        path.name: path.read_bytes() for path in service.path.parent.iterdir() if path.name.startswith("postroom.db")
    }
    return session


async def fail_inside(service: Service, session: Session, tenant: Tenant, mailbox: Mailbox) -> None:
    """Calls that fail for reasons of the service's own, with passwords in them."""
    await service.sql("UPDATE mailboxes SET status = 'ready' WHERE id = ?", mailbox.id)
    update = UpdateMailboxRequest(mailbox_id=mailbox.id, new_password=session.password())
    create = batch_request(mailbox.domain_id, "max", password=session.password())
    # The statement that holds the hash fails, then the transaction that it would run in.
    await service.sql("ALTER TABLE mailboxes RENAME COLUMN password_hash TO mislaid")
    await session.hear(tenant.stub.UpdateMailbox(update))
    await session.hear(tenant.stub.BatchCreateMailboxes(create))
    await service.sql("ALTER TABLE mailboxes RENAME COLUMN mislaid TO password_hash")
    async with service.held():
        await asyncio.gather(
            session.hear(tenant.stub.UpdateMailbox(update)),
            session.hear(tenant.stub.BatchCreateMailboxes(create, timeout=0.2)),
        )


async def test_the_walk_ends_in_every_way_that_a_call_can(session: Session) -> None:
    assert session.codes == CODES
    assert len(session.passwords) > 25


def found_in(text: str, secrets: list[str]) -> list[str]:
    """Those of the secrets that stand in a text, plainly or in base64."""
    lowered = text.lower()
    encoded = {secret: base64.b64encode(secret.encode()).decode().rstrip("=")[:-1].lower() for secret in secrets}
    return [secret for secret in secrets if secret.lower() in lowered or encoded[secret] in lowered]


async def test_no_log_line_holds_a_secret(session: Session, logs: StringIO) -> None:
    lines = [json.loads(line) for line in logs.getvalue().splitlines()]
    assert {line["code"] for line in lines if line["event"] == "call"} >= {"OK", "INTERNAL", "UNAUTHENTICATED"}
    assert any("exception" in line for line in lines), "a traceback was logged"
    assert found_in(logs.getvalue(), session.passwords + session.secrets + session.private_keys) == []
    assert "$argon2id$" not in logs.getvalue()


async def test_no_answer_and_no_error_holds_a_secret(session: Session) -> None:
    everything = "\n".join(session.answers)
    assert found_in(everything, session.passwords + session.secrets + session.private_keys) == []
    assert "$argon2id$" not in everything
    assert "PRIVATE KEY" not in everything


async def test_the_database_holds_no_password_and_no_secret_of_a_key(session: Session) -> None:
    assert {"postroom.db", "postroom.db-wal"} <= set(session.files)
    for name, octets in session.files.items():
        text = octets.decode("latin-1")
        assert found_in(text, session.passwords + session.secrets) == [], name
        assert not any(secret.replace("-", "") in text for secret in session.secrets), name
    whole = b"".join(session.files.values()).decode("latin-1")
    assert "{ARGON2ID}$argon2id$" in whole, "the files are those of the database"
    assert found_in(whole, session.private_keys) == session.private_keys


async def test_every_changing_or_failing_call_is_logged_with_who_made_it(session: Session, logs: StringIO) -> None:
    calls = [line for line in map(json.loads, logs.getvalue().splitlines()) if line["event"] == "call"]
    for line in calls:
        assert line["rpc"] in {method.name for method in SERVICE.methods}
        assert line["request_id"]
        assert line["duration_ms"] >= 0
        known = line["code"] != "UNAUTHENTICATED"
        assert (line["access_key"] is not None) == (line["organization_id"] is not None) == known
        if line["code"] == "OK":
            assert not line["rpc"].startswith(("Get", "List"))
