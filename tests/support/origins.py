"""A v1 for tests, byte for byte: what it is sent is kept as it came, what it answers is a script."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 6\r\n\r\n<v1/>\n"

Answers = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What happens on a connection once the head of a request has come."""


class RawOrigin:
    """Reads heads, and answers with bytes."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.heads: list[bytes] = []
        """Of each request that came."""
        self.bodies: list[bytes] = []
        """Of each request whose body came whole."""
        self.answer: bytes = OK
        self.misbehave: Answers | None = None
        """What it does instead of answering."""

    @property
    def url(self) -> str:
        """Where it is, as `legacy_origin` says."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._answered(reader, writer):
                    pass
        finally:
            writer.close()

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; tell whether there may be another."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        if self.misbehave is not None:
            await self.misbehave(reader, writer)
            return False
        self.bodies.append(await body_of(head, reader))
        writer.write(self.answer)
        await writer.drain()
        return b"\r\nconnection: close" not in (head + self.answer).lower()


async def body_of(head: bytes, reader: asyncio.StreamReader) -> bytes:
    """Read the body that a head announces, chunks and all."""
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    if fields.get(b"transfer-encoding") == b"chunked":
        whole = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            whole += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
        return whole
    return await reader.readexactly(int(fields.get(b"content-length", b"0")))


@asynccontextmanager
async def running_origin() -> AsyncIterator[RawOrigin]:
    """Run one for the block."""
    origin = RawOrigin()
    tasks: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(origin.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    origin.port = server.sockets[0].getsockname()[1]
    try:
        yield origin
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
