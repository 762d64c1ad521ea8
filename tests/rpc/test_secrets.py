"""Passwords, API secrets and DKIM keys are in no log line, response or error, and in no file but the database."""

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
from tests.rpc.client import ABSENT_ID, SERVICE, Tenant, batch_request
from tests.rpc.failures import failure_from
from tests.rpc.service import Service

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("secrets")]  # one long session

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
    """Calls with marked secrets: the secrets that were sent, and everything that was returned or written."""

    passwords: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    private_keys: list[str] = field(default_factory=list)
    responses: list[str] = field(default_factory=list)
    codes: set[grpc.StatusCode] = field(default_factory=set)
    files: dict[str, bytes] = field(default_factory=dict)

    def password(self, form: str = "{}") -> str:
        """A unique password, in a form for which it may be rejected."""
        marked = f"marked-{uuid4().hex}"
        self.passwords.append(marked)
        return form.format(marked)

    def with_secret_of(self, tenant: Tenant) -> Tenant:
        """The tenant, whose secret must not appear anywhere."""
        self.secrets.append(tenant.secret)
        return tenant

    async def record(self, call: Awaitable[Any]) -> Any:
        """Record everything that a call returns, and return its response; None if it fails."""
        try:
            response = await call
        except grpc.aio.AioRpcError as error:
            failure = failure_from(error)
            self.codes.add(failure.code)
            self.responses += [failure.text, repr(error), repr(error.initial_metadata())]
            return None
        self.codes.add(grpc.StatusCode.OK)
        self.responses.append(str(response))
        return response


@pytest.fixture(scope="module")
def busy_timeout_ms() -> int:
    return 1_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session(service: Service, logs: StringIO) -> Session:
    """Every kind of call that carries a secret, with every status code."""
    session = Session()
    tenant = session.with_secret_of(await service.tenant(mailbox_quota=4))
    record, stub, password = session.record, tenant.stub, session.password
    domain = await tenant.ready_domain()
    for _ in range(2):
        request = batch_request(domain.id, "ann", "bob", password=password())
        await record(stub.BatchCreateMailboxes(request, metadata=(("idempotency-key", f"key-{uuid4()}"),)))
    created = await record(stub.BatchCreateMailboxes(batch_request(domain.id, "cat", password=password())))
    mailbox = created.mailboxes[0]

    def update(new_password: str, **fields: Any) -> UpdateMailboxRequest:
        return UpdateMailboxRequest(mailbox_id=mailbox.id, new_password=new_password, **fields)

    await record(stub.UpdateMailbox(update(password()), metadata=(("idempotency-key", "again"),)))
    for form in ("{}\0", "{0}{0}{0}{0}", "{0}{0}{0}{0}\n"):  # a control character, too long, and both
        await record(stub.UpdateMailbox(update(password(form))))
        await record(stub.BatchCreateMailboxes(batch_request(domain.id, "dan", password=password(form))))
    await record(stub.BatchCreateMailboxes(batch_request(domain.id, "d+an", password=password())))
    await record(stub.BatchCreateMailboxes(batch_request("nonsense", "dan", password=password())))
    await record(stub.BatchCreateMailboxes(batch_request(ABSENT_ID, "dan", password=password())))
    beyond_quota = batch_request(domain.id, "dan", "eve", password=password())
    await record(stub.BatchCreateMailboxes(beyond_quota))
    local_part = password()
    await record(stub.BatchCreateMailboxes(batch_request(domain.id, local_part, password=local_part)))
    session.passwords.remove(local_part)  # it is an address, too
    await record(stub.UpdateMailbox(update(password(), etag="stale")))
    await record(stub.UpdateMailbox(update(password(), subscription_period=4711)))
    await record(stub.UpdateMailbox(UpdateMailboxRequest(mailbox_id=ABSENT_ID, new_password=password())))
    await record(stub.DeleteMailbox(DeleteMailboxRequest(mailbox_id=mailbox.id)))
    await record(stub.UpdateMailbox(update(password())))  # fails: it is deleted
    await record(stub.RestoreMailbox(RestoreMailboxRequest(mailbox_id=mailbox.id)))
    await service.sql("UPDATE mailboxes SET status = 'locked' WHERE id = ?", mailbox.id)
    await record(stub.UpdateMailbox(update(password())))
    await record(stub.CreateAlias(CreateAliasRequest(mailbox_id=mailbox.id, local_part="info")))
    await record(stub.ListMailboxes(ListMailboxesRequest(search=password())))
    for rpc, listing in (("Mailboxes", ListMailboxesRequest), ("Aliases", ListAliasesRequest)):
        await record(tenant.call(f"List{rpc}", listing()))

    raw: Any = service.channel(tenant.metadata).unary_unary(f"/{SERVICE.full_name}/BatchCreateMailboxes")
    complete = batch_request(domain.id, "dan", password=password()).SerializeToString()
    await record(raw(complete[:-3]))

    reader = session.with_secret_of(await service.tenant(organization_id=tenant.organization_id, read_only=True))
    await record(reader.stub.UpdateMailbox(update(password())))
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
        await record(service.stub(metadata).UpdateMailbox(update(password())))

    await record(stub.GetDomainRecords(GetDomainRecordsRequest(domain_id=domain.id)))
    await record(stub.ListDomains(ListDomainsRequest()))
    await record(stub.ValidateDomainRecords(ValidateDomainRecordsRequest(domain_id=domain.id)))
    await fail_internally(service, session, tenant, mailbox)
    doomed = await tenant.domain()
    for (pem,) in await service.sql("SELECT dkim_private_key FROM domains"):
        session.private_keys += [line for line in pem.splitlines() if not line.startswith("-----")]
    await record(stub.DeleteDomain(DeleteDomainRequest(domain_id=doomed.id)))
    session.files = {
        path.name: path.read_bytes() for path in service.path.parent.iterdir() if path.name.startswith("postroom.db")
    }
    return session


async def fail_internally(service: Service, session: Session, tenant: Tenant, mailbox: Mailbox) -> None:
    """Make calls with passwords that fail inside the service."""
    await service.sql("UPDATE mailboxes SET status = 'ready' WHERE id = ?", mailbox.id)
    update = UpdateMailboxRequest(mailbox_id=mailbox.id, new_password=session.password())
    create = batch_request(mailbox.domain_id, "max", password=session.password())
    # First the statement with the hash fails, then its transaction.
    await service.sql("ALTER TABLE mailboxes RENAME COLUMN password_hash TO mislaid")
    await session.record(tenant.stub.UpdateMailbox(update))
    await session.record(tenant.stub.BatchCreateMailboxes(create))
    await service.sql("ALTER TABLE mailboxes RENAME COLUMN mislaid TO password_hash")
    async with service.write_lock():
        await asyncio.gather(
            session.record(tenant.stub.UpdateMailbox(update)),
            session.record(tenant.stub.BatchCreateMailboxes(create, timeout=0.2)),
        )


async def test_the_calls_end_with_every_status_code(session: Session) -> None:
    assert session.codes == CODES
    assert len(session.passwords) > 25


def found_in(text: str, secrets: list[str]) -> list[str]:
    """The secrets that occur in a text, as they are or in base64."""
    lowered = text.lower()
    encoded = {secret: base64.b64encode(secret.encode()).decode().rstrip("=")[:-1].lower() for secret in secrets}
    return [secret for secret in secrets if secret.lower() in lowered or encoded[secret] in lowered]


async def test_no_log_line_contains_a_secret(session: Session, logs: StringIO) -> None:
    lines = [json.loads(line) for line in logs.getvalue().splitlines()]
    assert {line["code"] for line in lines if line["event"] == "call"} >= {"OK", "INTERNAL"}
    assert any(line["event"] == "calls without a verified key" for line in lines)
    assert any("exception" in line for line in lines), "a traceback was logged"
    assert found_in(logs.getvalue(), session.passwords + session.secrets + session.private_keys) == []
    assert "$argon2id$" not in logs.getvalue()


async def test_no_response_or_error_contains_a_secret(session: Session) -> None:
    received = "\n".join(session.responses)
    assert found_in(received, session.passwords + session.secrets + session.private_keys) == []
    assert "$argon2id$" not in received
    assert "PRIVATE KEY" not in received


async def test_the_database_contains_no_password_and_no_api_secret(session: Session) -> None:
    assert {"postroom.db", "postroom.db-wal"} <= set(session.files)
    for name, content in session.files.items():
        text = content.decode("latin-1")
        assert found_in(text, session.passwords + session.secrets) == [], name
        assert not any(secret.replace("-", "") in text for secret in session.secrets), name
    database = b"".join(session.files.values()).decode("latin-1")
    assert "{ARGON2ID}$argon2id$" in database, "the files are those of the database"
    assert found_in(database, session.private_keys) == session.private_keys


async def test_every_mutating_or_failed_call_is_logged_with_its_caller(session: Session, logs: StringIO) -> None:
    calls = [line for line in map(json.loads, logs.getvalue().splitlines()) if line["event"] == "call"]
    for line in calls:
        assert line["rpc"] in {method.name for method in SERVICE.methods}
        assert line["request_id"]
        assert line["duration_ms"] >= 0
        assert line["code"] != "UNAUTHENTICATED"  # logged by sample
        assert line["access_key"]
        assert line["organization_id"]
        if line["code"] == "OK":
            assert not line["rpc"].startswith(("Get", "List"))
