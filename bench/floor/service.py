"""The floor of the service: `python -m bench.floor.service HOST:PORT`.

GetMailbox answers a constant message. ListMailboxes builds the messages of a page from rows held in memory.
"""

import asyncio
import sys
from typing import Any

import grpc
import structlog
import uvloop

from bench.floor.messages import message, rows
from postroom.v1alpha1 import mailbox_pb2
from postroomd.observability import logs

LONGEST_PAGE = 1_000


def handlers() -> grpc.GenericRpcHandler:
    """Two reads, without authentication, checks or a database."""
    held = rows(LONGEST_PAGE)
    mailbox = message(held[0])

    async def get_mailbox(_request: mailbox_pb2.GetMailboxRequest, _context: object) -> mailbox_pb2.Mailbox:
        return mailbox

    async def list_mailboxes(
        request: mailbox_pb2.ListMailboxesRequest, _context: object
    ) -> mailbox_pb2.ListMailboxesResponse:
        page = [message(row) for row in held[: request.page_size]]
        return mailbox_pb2.ListMailboxesResponse(total_count=len(held), mailboxes=page)

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
    """Serve until the process is ended."""
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((handlers(),))
    server.add_insecure_port(address)
    await server.start()
    structlog.get_logger().info("ready", address=address)
    await server.wait_for_termination()


if __name__ == "__main__":
    logs.configure("info", "json", process="floor")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1]))
