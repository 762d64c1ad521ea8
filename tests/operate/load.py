"""Customers' programs that create mailboxes without a pause, and retry as the documentation says."""

import http.client
import json
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

from postroom.client import TLS, channel
from postroom.v1alpha1.mailbox_pb2 import BatchCreateMailboxesRequest, ListMailboxesRequest
from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub
from tests.operate.ledger import Ledger, Promised, password_hash
from tests.operate.machine import Machine
from tests.support.waiting import block_until

CALL_SECONDS = 60
PAUSE_SECONDS = 0.01  # so that neither the quota of mailboxes nor that of stored responses is reached
Create = Callable[[Promised], None]


@contextmanager
def connected(machine: Machine) -> Iterator[MailboxServiceStub]:
    """Connect with the product's client, which retries by itself."""
    tls = TLS(root_certificates=machine.authority.pem)
    with channel(machine.grpc_address, machine.keys["SCW_SECRET_KEY"], tls=tls) as connection:
        yield MailboxServiceStub(connection)


@contextmanager
def mailbox_counter(machine: Machine) -> Iterator[Callable[[], int]]:
    """Yield a function that returns the number of mailboxes, sooner than a command would."""
    request = ListMailboxesRequest(page_size=1)
    with connected(machine) as stub:
        yield lambda: int(stub.ListMailboxes(request, timeout=CALL_SECONDS).total_count)


@dataclass
class Load:
    """Writers over gRPC and over REST. A mailbox is in the ledger once its creation is acknowledged."""

    machine: Machine
    ledger: Ledger
    domain: str
    domain_id: str
    stopping: threading.Event = field(default_factory=threading.Event)
    failures: list[BaseException] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=lambda: {"grpc": 0, "rest": 0})

    def more(self, calls: int = 20) -> None:
        """Wait until each protocol has created this many more mailboxes."""
        wanted = {protocol: count + calls for protocol, count in self.done.items()}

        def reached() -> bool:
            assert not self.failures, self.failures
            return all(self.done[protocol] >= count for protocol, count in wanted.items())

        block_until(reached, CALL_SECONDS)

    def over_grpc(self) -> None:
        """Create and list mailboxes over gRPC."""
        with connected(self.machine) as stub:

            def create(promised: Promised) -> None:
                new = BatchCreateMailboxesRequest.MailboxParameters(
                    local_part=promised.local_part, password_hash=password_hash(promised.address)
                )
                request = BatchCreateMailboxesRequest(domain_id=self.domain_id, mailboxes=[new])
                stub.BatchCreateMailboxes(request, timeout=CALL_SECONDS)
                stub.ListMailboxes(ListMailboxesRequest(page_size=1), timeout=CALL_SECONDS)

            self._write("grpc", create)

    def over_rest(self) -> None:
        """Create mailboxes over REST, and repeat a call that was not answered, or by 503, under its idempotency key."""
        url = f"https://{self.machine.http_address}/mailbox/v1alpha1/batch-create-mailboxes"
        context = self.machine.authority.client_context()

        def create(promised: Promised) -> None:
            new = {"local_part": promised.local_part, "password_hash": password_hash(promised.address)}
            request = urllib.request.Request(
                url,
                json.dumps({"domain_id": self.domain_id, "mailboxes": [new]}).encode(),
                {
                    "X-Auth-Token": self.machine.keys["SCW_SECRET_KEY"],
                    "Content-Type": "application/json",
                    "Idempotency-Key": uuid4().hex,
                },
            )
            block_until(lambda: _succeeds(request, context), CALL_SECONDS)

        self._write("rest", create)

    def _write(self, protocol: str, create: Create) -> None:
        try:
            while not self.stopping.is_set():
                promised = Promised(self.domain, f"{protocol}-{uuid4().hex}")
                create(promised)
                self.ledger.add(promised)
                self.done[protocol] += 1
                self.stopping.wait(PAUSE_SECONDS)
        except BaseException as error:
            self.failures.append(error)
            raise


def _succeeds(request: urllib.request.Request, context: ssl.SSLContext) -> bool:
    """Whether a request is answered with success; not, if it can be repeated. Raises HTTPError for other answers."""
    try:
        with urllib.request.urlopen(request, timeout=CALL_SECONDS, context=context) as response:  # noqa: S310
            response.read()
    except urllib.error.HTTPError as error:
        if error.code != 503:
            raise
        return False
    except (OSError, http.client.HTTPException):
        return False
    return True


@contextmanager
def under_load(machine: Machine, ledger: Ledger, domain: str) -> Iterator[Load]:
    """Create mailboxes over gRPC and REST during the block. No call fails in the end, or the block does."""
    (found,) = machine.rows("domains", "list", "--search", domain)
    load = Load(machine, ledger, domain, found["id"])
    threads = [threading.Thread(target=target) for target in (load.over_grpc, load.over_rest)]
    for thread in threads:
        thread.start()
    try:
        load.more()
        yield load
        load.more()
    finally:
        load.stopping.set()
        for thread in threads:
            thread.join()
    assert not load.failures
