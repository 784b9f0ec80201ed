"""An answer on its way from v1 to the client: its head byte for byte, its body as it comes.

What stands in the head is not decided here.
"""

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from bridge.origin.fields import Framing


class Relayed(web.StreamResponse):
    """Writes a head that is bytes already: aiohttp's own would have to be UTF-8, and more fields.

    It says nothing that aiohttp adds of its own accord, such as a Content-Type where v1 gave none.
    """

    def __init__(self, status: int, head: bytes, framed: Framing, *, keep_alive: bool) -> None:
        super().__init__(status=status)
        self._head = head
        self._framed = framed
        self._keeps = keep_alive
        self._to: AbstractStreamWriter | None = None
        self._has_ended = False

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection serves another call after it."""
        return self._keeps

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the head, once."""
        if self._to is None:
            self._to = to = request.writer
            await to.write(self._head)
            to.length = self._framed.length if self._framed.has_body else None
            if self._framed.is_chunked:
                to.enable_chunking()
        return self._to

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send a piece of the body, at the pace at which the client takes it."""
        assert self._to is not None  # noqa: S101 - it is prepared
        await self._to.write(data)

    async def write_eof(self, data: bytes = b"") -> None:
        """Say that this was all."""
        if not self._has_ended and self._to is not None:
            self._has_ended = True
            await self._to.write_eof(data)

    def broke_off(self) -> None:
        """Say nothing more: that it is not whole shows by the connection's end."""
        self._has_ended = True
        self._keeps = False
