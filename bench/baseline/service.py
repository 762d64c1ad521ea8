"""The baseline of the service: `python -m bench.baseline.service HOST:PORT`.

GetMailbox returns a constant message. ListMailboxes builds the messages of a page from rows in memory.
"""

import asyncio
import sys
from typing import Any

import grpc
import structlog
import uvloop

from bench.baseline.messages import message, rows
from postroom.v1alpha1 import mailbox_pb2
from postroomd.observability import logs

MAX_PAGE_SIZE = 1_000


def handlers() -> grpc.GenericRpcHandler:
    """Return handlers of two reads, without authentication, validation or a database."""
    stored = rows(MAX_PAGE_SIZE)
    mailbox = message(stored[0])

    async def get_mailbox(_request: mailbox_pb2.GetMailboxRequest, _context: object) -> mailbox_pb2.Mailbox:
        return mailbox

    async def list_mailboxes(
        request: mailbox_pb2.ListMailboxesRequest, _context: object
    ) -> mailbox_pb2.ListMailboxesResponse:
        page = [message(row) for row in stored[: request.page_size]]
        return mailbox_pb2.ListMailboxesResponse(total_count=len(stored), mailboxes=page)

    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "GetMailbox": grpc.unary_unary_rpc_method_handler(
            get_mailbox,
            request_deserializer=mailbox_pb2.GetMailboxRequest.FromString,
            response_serializer=mailbox_pb2.Mailbox.SerializeToString,
        ),
        "ListMailboxes": grpc.unary_unary_rpc_method_handler(
            list_mailboxes,
            request_deserializer=mailbox_pb2.ListMailboxesRequest.FromString,
            response_serializer=mailbox_pb2.ListMailboxesResponse.SerializeToString,
        ),
    }
    return grpc.method_handlers_generic_handler("postroom.v1alpha1.MailboxService", methods)


async def main(address: str) -> None:
    """Serve until the process is killed."""
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((handlers(),))
    server.add_insecure_port(address)
    await server.start()
    structlog.get_logger().info("ready", address=address)
    await server.wait_for_termination()


if __name__ == "__main__":
    logs.configure("info", "json", process="baseline")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1]))
