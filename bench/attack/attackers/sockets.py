"""Sockets against the REST port, without a key: silent, slow, and unread."""

import asyncio
import contextlib

PATH = "/mailbox/v1alpha1/mailboxes"


async def silent(host: str, port: int, connections: int) -> None:
    """Open connections that send nothing, and open them again when they are closed."""
    await asyncio.gather(*(_hold(host, port, b"") for _ in range(connections)))


async def unfinished_headers(host: str, port: int, connections: int) -> None:
    """Open connections that never finish their headers: one header line every second."""
    head = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n".encode()
    await asyncio.gather(*(_hold(host, port, head, trickle=b"X-Filler: x\r\n") for _ in range(connections)))


async def unfinished_bodies(host: str, port: int, connections: int, token: str | None = None) -> None:
    """Announce a body of 1,000 octets and send one."""
    key = f"X-Auth-Token: {token}\r\n" if token else ""
    head = (
        f"POST /mailbox/v1alpha1/domains HTTP/1.1\r\nHost: localhost\r\n{key}"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    ).encode()
    await asyncio.gather(*(_hold(host, port, head) for _ in range(connections)))


async def unread(host: str, port: int, connections: int, token: str) -> None:
    """Pipeline requests for whole pages, and read nothing of the responses."""
    request = f"GET {PATH}?page_size=1000 HTTP/1.1\r\nHost: localhost\r\nX-Auth-Token: {token}\r\n\r\n".encode() * 20
    await asyncio.gather(*(_hold(host, port, request, read=False) for _ in range(connections)))


async def _hold(host: str, port: int, head: bytes, *, trickle: bytes = b"", read: bool = True) -> None:
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port, limit=1_024)
            try:
                writer.write(head)
                while not reader.at_eof():
                    if read:
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(reader.read(1_024), 1)
                    else:
                        await asyncio.sleep(1)
                    if trickle:
                        writer.write(trickle)
                        await writer.drain()
            finally:
                writer.close()
        await asyncio.sleep(0.2)
