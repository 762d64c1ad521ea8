"""A Postroom on either engine, with its tenants' and its operator's clients, and the mail servers beside it."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc

from postroom.admin.v1alpha1 import admin_service_pb2_grpc as admin_grpc
from postroom.admin.v1alpha1 import dkim_pb2, mailbox_pb2
from tests.e2e.support import START_SECONDS, Up, run_process, start, terminate
from tests.e2e.trial_process import address_of
from tests.support.waiting import block_until

PASSWORD = "correct horse battery staple"
FLAGS = (
    "--clock=127.0.0.1:0",
    "--admin-address=127.0.0.1:0",
    "--mailbox-quota=100000",
    "--log-level=warning",
    "--argon2-memory-kib=1024",
    "--argon2-time-cost=1",
)


class ApiError(Exception):
    """An error of the REST API: its status and body."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body


@dataclass(frozen=True)
class Tenant:
    """An organization's client of the REST API."""

    url: str
    secret: str

    def call(self, method: str, path: str, **body: Any) -> Any:
        """Call the API; returns the response's body. Raises ApiError."""
        request = urllib.request.Request(  # noqa: S310 - loopback
            f"{self.url}/mailbox/v1alpha1{path}",
            json.dumps(body).encode() if body or method in {"POST", "PATCH"} else None,
            {"X-Auth-Token": self.secret, "Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=START_SECONDS) as response:  # noqa: S310
                text = response.read()
        except urllib.error.HTTPError as error:
            with error:
                raise ApiError(error.code, error.read().decode()) from error
        return json.loads(text) if text else None

    def register(self, name: str) -> dict[str, Any]:
        """Register a domain."""
        return dict(self.call("POST", "/domains", name=name))

    def domain(self, name: str) -> dict[str, Any]:
        """Register a domain, and wait until it is ready."""
        return self.domain_ready(self.register(name))

    def domain_ready(self, registered: dict[str, Any]) -> dict[str, Any]:
        """Validate a domain, and wait until it is ready."""
        self.call("POST", f"/domains/{registered['id']}/validate-records")

        def ready() -> dict[str, Any] | None:
            domain = dict(self.call("GET", f"/domains/{registered['id']}"))
            return domain if domain["status"] == "ready" else None

        return block_until(ready)

    def mailbox(self, domain: dict[str, Any], local_part: str, **fields: Any) -> dict[str, Any]:
        """Create a mailbox with PASSWORD, unless other fields are given."""
        return self.mailboxes(domain, [{"local_part": local_part, "password": PASSWORD} | fields])[0]

    def mailboxes(self, domain: dict[str, Any], parameters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        created = self.call(
            "POST",
            "/batch-create-mailboxes",
            domain_id=domain["id"],
            mailboxes=parameters,
            subscription_period="yearly",
        )
        return list(created["mailboxes"])

    def imported(self, domain: dict[str, Any], hashes: list[tuple[str, str]]) -> list[dict[str, Any]]:
        """Create mailboxes with local parts and password hashes."""
        return self.mailboxes(domain, [{"local_part": name, "password_hash": each} for name, each in hashes])

    def update(self, mailbox: dict[str, Any], **fields: Any) -> dict[str, Any]:
        return dict(self.call("PATCH", f"/mailboxes/{mailbox['id']}", **fields))

    def wait_for_mailbox(self, mailbox: dict[str, Any], status: str) -> None:
        block_until(lambda: self.call("GET", f"/mailboxes/{mailbox['id']}")["status"] == status)

    def delete(self, mailbox: dict[str, Any]) -> None:
        self.call("DELETE", f"/mailboxes/{mailbox['id']}")

    def restore(self, mailbox: dict[str, Any]) -> None:
        self.call("POST", f"/mailboxes/{mailbox['id']}/restore")

    def alias(self, mailbox: dict[str, Any], local_part: str, **fields: Any) -> dict[str, Any]:
        return dict(self.call("POST", "/aliases", mailbox_id=mailbox["id"], local_part=local_part, **fields))

    def forward(self, mailbox: dict[str, Any], *destinations: str, **settings: bool) -> None:
        """Forward a mailbox's mail, with settings `keep_copy` and `enabled`."""
        for destination in destinations:
            self.call("POST", "/forwardings", mailbox_id=mailbox["id"], email=destination)
        if settings:
            self.call("PATCH", f"/mailboxes/{mailbox['id']}/forwarding", **settings)


@dataclass(frozen=True)
class Postroom:
    """A running Postroom with a trial clock."""

    up: Up
    database_url: str
    admin: "admin_grpc.AdminServiceStub"
    metadata: tuple[tuple[str, str], ...]

    @cached_property
    def tenant(self) -> Tenant:
        """The organization that tests share."""
        return self.new_tenant()

    def new_tenant(self, *, import_hashes: bool = False) -> Tenant:
        """Return the client of a new organization, whose key may import password hashes on request."""
        permissions = ["--password-hashes"] if import_hashes else []
        created = self.command("keys", "create", "--new-organization", "--output=json", *permissions)
        environment = json.loads(created)
        return Tenant(self.up.environment["SCW_API_URL"], environment["SCW_SECRET_KEY"])

    def command(self, *arguments: str, **environment: str) -> str:
        """Run a `postroom` command on the database; returns its output."""
        completed = run_process(*arguments, **{"POSTROOM_DATABASE_URL": self.database_url, **environment})
        assert completed.returncode == 0, completed.stderr
        return completed.stdout

    def lock(self, mailbox: dict[str, Any]) -> None:
        request = mailbox_pb2.LockMailboxRequest(mailbox_id=mailbox["id"], reason="abuse")
        self.admin.LockMailbox(request, metadata=self.metadata, timeout=START_SECONDS)

    def unlock(self, mailbox: dict[str, Any]) -> None:
        request = mailbox_pb2.UnlockMailboxRequest(mailbox_id=mailbox["id"])
        self.admin.UnlockMailbox(request, metadata=self.metadata, timeout=START_SECONDS)

    def rotate_dkim_key(self, domain: dict[str, Any]) -> None:
        request = dkim_pb2.RotateDkimKeyRequest(domain_id=domain["id"])
        self.admin.RotateDkimKey(request, metadata=self.metadata, timeout=START_SECONDS)

    def advance(self, duration: str) -> None:
        """Advance the time; returns once the worker has caught up."""
        url = f"http://{address_of(self.up, 'clock')}/advance"
        with urllib.request.urlopen(url, json.dumps({"duration": duration}).encode(), timeout=START_SECONDS):
            pass


@contextmanager
def running_postroom(directory: Path, database_url: str, *flags: str) -> Iterator[Postroom]:
    """Start `postroom up` on a database."""
    up = start(directory, f"--database-url={database_url}", *FLAGS, *flags)
    try:
        environment = {"POSTROOM_DATABASE_URL": database_url}
        created = run_process("admin-keys", "create", "--name=mail-tests", "--output=json", **environment)
        assert created.returncode == 0, created.stderr
        metadata = (("x-auth-token", str(json.loads(created.stdout)["secret"])),)
        with grpc.insecure_channel(address_of(up, "admin service")) as channel:
            yield Postroom(up, database_url, admin_grpc.AdminServiceStub(channel), metadata)
    finally:
        terminate(up)
