"""The baseline of the gateway: `python -m bench.baseline.gateway HOST:PORT SERVICE_HOST:PORT`.

An aiohttp application that calls the service through a plain stub for each request and returns constant JSON.
"""

import asyncio
import json
import sys
from typing import Any

import grpc
import structlog
import uvloop
from aiohttp import web
from google.protobuf import json_format

from bench.baseline.messages import message, rows
from postroom.v1alpha1 import mailbox_pb2, mailbox_service_pb2_grpc
from postroomd.net import split_address
from postroomd.observability import logs


async def main(address: str, service: str) -> None:
    """Serve until the process is killed."""
    mailbox = json_format.MessageToDict(message(rows(1)[0]), preserving_proto_field_name=True)
    body = json.dumps(mailbox | {"deletion_scheduled_at": None}, separators=(",", ":")).encode()
    async with grpc.aio.insecure_channel(service) as channel:
        stub: Any = mailbox_service_pb2_grpc.MailboxServiceStub(channel)

        async def get_mailbox(request: web.Request) -> web.Response:
            await stub.GetMailbox(mailbox_pb2.GetMailboxRequest(mailbox_id=request.match_info["mailbox_id"]))
            return web.Response(body=body, content_type="application/json")

        app = web.Application()
        app.router.add_get("/mailbox/v1alpha1/mailboxes/{mailbox_id}", get_mailbox)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, *split_address(address)).start()
        structlog.get_logger().info("ready", address=address)
        await asyncio.Event().wait()


if __name__ == "__main__":
    logs.configure("info", "json", process="baseline-gateway")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop_runner:
        loop_runner.run(main(sys.argv[1], sys.argv[2]))
