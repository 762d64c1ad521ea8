"""Calls that are in progress while the service restarts."""

import itertools
import sys
import threading
import time

import grpc

from postroom.v1alpha1.alias_pb2 import CreateAliasRequest, ListAliasesRequest
from postroom.v1alpha1.domain_pb2 import CreateDomainRequest
from postroom.v1alpha1.mailbox_pb2 import BatchCreateMailboxesRequest
from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub

WORKERS = 4


def load(service: MailboxServiceStub) -> None:
    """Create aliases until stdin ends. Exits with 1 if a call failed, or had its effect twice.

    Each call carries an idempotency key that the channel generates, the same in each attempt.
    """
    domain = service.CreateDomain(CreateDomainRequest(name="python-load.example"), timeout=30)
    ann = BatchCreateMailboxesRequest.MailboxParameters(local_part="ann", password="a long enough password")
    batch = BatchCreateMailboxesRequest(domain_id=domain.id, mailboxes=[ann])
    (mailbox,) = service.BatchCreateMailboxes(batch, timeout=30).mailboxes
    numbers = itertools.count(1)
    done: list[int] = []
    failed: list[int] = []
    stopped = threading.Event()

    def work() -> None:
        while not stopped.is_set():
            number = next(numbers)
            try:
                service.CreateAlias(CreateAliasRequest(mailbox_id=mailbox.id, local_part=f"alias{number}"), timeout=30)
            except grpc.RpcError as error:
                failed.append(number)
                print("failed:", error, flush=True)
            done.append(number)
            print("call", number, flush=True)
            time.sleep(0.2)

    workers = [threading.Thread(target=work) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    sys.stdin.read()
    stopped.set()
    for worker in workers:
        worker.join()
    aliases = service.ListAliases(ListAliasesRequest(mailbox_id=mailbox.id), timeout=30).total_count
    print(f"load: {len(done)} calls, {len(failed)} failed, {aliases} aliases")
    sys.exit(bool(failed) or aliases != len(done))
