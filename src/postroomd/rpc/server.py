"""The gRPC server: grpc.aio's, with accept loops that no call can end.

grpc.aio has one task that accepts calls, and that task decodes the name of each call's method. A name that is not
UTF-8, which anyone can send, ends the task, and with it the server. Here, every method has an accept loop of its own,
which knows its name. One more loop accepts the calls of all other methods, whose names do not matter: they are
UNIMPLEMENTED. This also saves a third of grpc.aio's own processor time per call.

It builds on internals of grpcio, which is therefore pinned to a minor version; tests/rpc/test_server.py must pass with
a newer one.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server as aio

from postroomd.rpc.connection_calls import Calls

Handlers = Mapping[str, "grpc.RpcMethodHandler[Any, Any]"]
"""Handlers by method, as `/SERVICE/METHOD`."""


class Server(aio.Server):  # type: ignore[misc, unused-ignore]
    """A server of some methods. Further ones can't be added."""

    def __init__(self, handlers: Handlers, options: Sequence[tuple[str, Any]], calls: Calls | None = None) -> None:
        """Require a running event loop, which uvloop or asyncio provides. `calls` counts the calls by connection."""
        self._loop = cygrpc.get_working_loop()
        self._server = _CoreServer(self._loop, None, (), (), options, None)
        self._server.handlers = dict(handlers)
        self._server.calls = calls
        self._server.add_registered_method_handlers(dict(handlers))


class _CoreServer(cygrpc.AioServer):  # type: ignore[misc]
    """The server behind grpc.aio's. Its main loop waits for the accept loops, instead of for calls."""

    handlers: Handlers
    calls: Calls | None

    def _make_request_call_future(self, method: bytes | None) -> "asyncio.Task[NoReturn]":
        """Return the accept loop of a method, None: of unknown methods. It ends, with an error, once none can come."""
        loop = asyncio.get_running_loop()
        return loop.create_task(self._accept_unknown() if method is None else self._accept(method))

    async def _accept(self, method: bytes) -> NoReturn:
        name = method.decode()
        resolver = _Resolver(self.handlers[name])
        while True:
            self._start(await self._request_registered_call(method), name, resolver)

    async def _accept_unknown(self) -> NoReturn:
        resolver = _Resolver(None)
        while True:
            self._start(await self._request_call(), "", resolver)

    def _start(self, rpc_state: Any, name: str, resolver: "_Resolver") -> None:
        """Handle a call in a task."""
        loop = asyncio.get_running_loop()
        tasks = _calls
        if self.calls is not None:
            connection = self.calls.of(cygrpc._ServicerContext(rpc_state, None, None, loop).peer())
            connection.started += 1
            tasks = connection.in_progress
        handling = cygrpc._handle_rpc(name, resolver, (), rpc_state, loop, False)
        task = loop.create_task(cygrpc._schedule_rpc_coro(handling, rpc_state, loop, name))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


class _Resolver:
    """Finds the handler of a method for grpc.aio."""

    def __init__(self, handler: "grpc.RpcMethodHandler[Any, Any] | None") -> None:
        self._handler = handler

    def resolve_handler(self, _details: object) -> "grpc.RpcMethodHandler[Any, Any] | None":
        return self._handler


_calls: "set[asyncio.Task[None]]" = set()  # the event loop itself holds weak references only
