"""A legacy client for tests: plain HTTP to a running bridge, and a strict reader of its answers."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Any, Self

import aiohttp
from lxml import etree
from multidict import CIMultiDict, CIMultiDictProxy

from bridge.v1.xsd import schema_directory

BASIC = aiohttp.encode_basic_auth("any@example.com", "sandbox-token")


def hang_up(writer: asyncio.StreamWriter) -> None:
    """Reset a connection, as a process does that is killed: its other end hears of it at once."""
    no_lingering = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_lingering)
    writer.transport.abort()


@dataclass(frozen=True)
class Answer:
    """What a legacy call came back with."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def xml(self) -> etree._Element:
        """The body as a tree."""
        return etree.fromstring(self.body, etree.XMLParser(resolve_entities=False, huge_tree=True))

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def errors(self) -> list[str]:
        """The sentences of an error answer, which is checked to be a valid one."""
        assert self.headers["Content-Type"] == "application/xml; charset=utf-8"
        assert_valid(self.body, "errors")
        sentences = [error.text or "" for error in self.xml.findall("error")]
        assert self.xml.findtext("message") == " ".join(sentences)
        return sentences

    def texts(self, element: str) -> list[str]:
        """The texts of every `element`, an empty one as the empty string."""
        return [found.text or "" for found in self.xml.iter(element)]


@cache
def _compiled(schema: str) -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(schema_directory() / f"{schema}.xsd"))


def assert_valid(body: bytes, schema: str) -> None:
    """Validate against the file in `schemas/` with a schema object of the test's own."""
    _compiled(schema).assertValid(
        etree.fromstring(body, etree.XMLParser(resolve_entities=False, huge_tree=True))
    )


class LegacyClient:
    """Calls a bridge as an old client would, with the sandbox's token as its password."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._session = aiohttp.ClientSession(
            f"http://{host}:{port}", skip_auto_headers=["Accept", "User-Agent", "Content-Type"]
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        authorization: str | None = BASIC,
        body: Any = None,
    ) -> Answer:
        """Make one call and read all of its answer."""
        sent = CIMultiDict(headers or {})
        if authorization is not None:
            sent["Authorization"] = authorization
        async with self._session.request(method, path, headers=sent, data=body) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **options: Any) -> Answer:
        """GET `path`."""
        return await self.call("GET", path, **options)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Open a bare connection."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def raw(self, data: bytes) -> bytes:
        """Send `data` on a connection of its own and return all that comes until it closes."""
        async with self.connection() as (reader, writer):
            writer.write(data)
            await writer.drain()
            return await reader.read()
