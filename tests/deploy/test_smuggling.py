"""Requests that two servers could read differently: each ends at the front or at the bridge.

In each is hidden a read of an invoice of its own. Where a front takes that for a request by itself,
it passes it on as one, and has a line of it. What a bridge serves without the front's knowing has
been smuggled. Shapes are those of RFC 9112, section 11.2, and of what has been found since between
fronts and servers. What becomes of each is in tests/smuggling.md.
"""

import asyncio
import base64
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Container, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import pytest

from tests.support.clocks import until
from tests.support.logged import Logged, logging
from tests.support.running import LOOPBACK, running_service
from tests.support.storm_sandbox import Moments, running_watched_sandbox
from tests.support.tls_fronts import FRONTS, NAME, fronted_bridges, need

PAIR = base64.b64encode(b"any@example.com:sandbox-token")
XML = b"<invoice-message><body>%s</body><recipients>a@b.org</recipients></invoice-message>"

CONTROL = (
    b"GET /invoice/1420/messages HTTP/1.1\r\nHost: %s\r\nAuthorization: Basic %s\r\n"
    b"Connection: close\r\n\r\n" % (NAME.encode(), PAIR)
)

HIDDEN = 6000
"""The first of the invoices that are read by what is hidden."""


def hidden(invoice: int) -> bytes:
    """A whole request."""
    return b"GET /invoice/%d/messages HTTP/1.1\r\nHost: %s\r\nAuthorization: Basic %s\r\n\r\n" % (
        invoice,
        NAME.encode(),
        PAIR,
    )


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST = b"0\r\n\r\n"

LENGTHS: Mapping[str, bytes] = {
    # {n} is the length of all of the body, with what is hidden in it.
    "two that differ": b"Content-Length: 0\r\nContent-Length: {n}",
    "two that differ, the other way round": b"Content-Length: {n}\r\nContent-Length: 0",
    "a list": b"Content-Length: 0, {n}",
    "a list, the other way round": b"Content-Length: {n}, 0",
    "a sign": b"Content-Length: +{n}",
    "less than none": b"Content-Length: -1",
    "hexadecimal": b"Content-Length: 0x0",
    "blanks in it": b"Content-Length: 0 {n}",
    "nothing": b"Content-Length:",
    "a blank before the colon": b"Content-Length : {n}",
    "on the next line": b"Content-Length:\r\n {n}",
    "behind a lone LF": b"X: y\nContent-Length: {n}",
    "behind a lone CR": b"X: y\rContent-Length: {n}",
    "with NUL": b"Content-Length: {n}\0",
    "with a vertical tab": b"Content-Length:\x0b{n}",
    "underscore": b"Content_Length: {n}",
    "too many digits": b"Content-Length: 00000000000000000000000000000000000000000000000",
    "more than fits": b"Content-Length: 18446744073709551616",
    "named by Connection": b"Connection: Content-Length\r\nContent-Length: {n}",
}
CODINGS: Mapping[str, bytes] = {
    "chunked": b"Transfer-Encoding: chunked",
    "a blank before the colon": b"Transfer-Encoding : chunked",
    "a tab before the colon": b"Transfer-Encoding\t: chunked",
    "a blank before the name": b" Transfer-Encoding: chunked",
    "on the next line": b"Transfer-Encoding:\r\n chunked",
    "on the next line of another": b"X: y\r\n Transfer-Encoding: chunked",
    "behind a lone LF": b"X: y\nTransfer-Encoding: chunked",
    "behind a lone CR": b"X: y\rTransfer-Encoding: chunked",
    "a vertical tab": b"Transfer-Encoding:\x0bchunked",
    "NUL behind": b"Transfer-Encoding: chunked\0",
    "NUL before": b"Transfer-Encoding: \0chunked",
    "another": b"Transfer-Encoding: xchunked",
    "identity": b"Transfer-Encoding: identity",
    "identity behind": b"Transfer-Encoding: chunked, identity",
    "identity on a line behind": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "identity on a line before": b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "in quotes": b'Transfer-Encoding: "chunked"',
    "with a parameter": b"Transfer-Encoding: chunked;q=1",
    "nothing": b"Transfer-Encoding:",
    "underscore": b"Transfer_Encoding: chunked",
    "named by Connection": b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    "letters that only look alike": "Transfer-Encoding: chun\u212aed".encode(),
}
CHUNKS: Mapping[str, bytes] = {
    # {h} is what is hidden; no good reader finds a request in what is left.
    "a length with a blank before": b" 0\r\n\r\n{h}",
    "hexadecimal by a prefix": b"0x0\r\n\r\n{h}",
    "less than none": b"-1\r\n\r\n{h}",
    "a sign": b"+0\r\n\r\n{h}",
    "more than fits": b"10000000000000000\r\n{h}",
    "no length": b"\r\n\r\n{h}",
    "letters": b"zz\r\n\r\n{h}",
    "an extension with a lone LF": b"1;a\nb\r\nX\r\n0\r\n\r\n{h}",
    "an extension with a lone CR": b"1;a\rb\r\nX\r\n0\r\n\r\n{h}",
    "a lone LF behind the length": b"1\nX\n0\n\n{h}",
    "a lone CR behind the length": b"1\rX\r0\r\r{h}",
    "no line break behind the data": b"1\r\nX0\r\n\r\n{h}",
    "more data than the length": b"1\r\nXXX\r\n0\r\n\r\n{h}",
    "NUL in an extension": b"1;\0\r\nX\r\n0\r\n\r\n{h}",
    "a trailer that is no field": b"0\r\n{h}",
}
LINES: Mapping[str, bytes] = {
    # Whole requests whose first line, or whose hosts, are read differently.
    "NUL in the target": b"GET /invoice/1420/messages\0/{v} HTTP/1.1\r\nHost: {a}\r\n\r\n",
    "a blank in the target": b"GET /invoice/1420/messages /invoice/{v}/messages HTTP/1.1\r\nHost: {a}\r\n\r\n",
    "a lone CR in the line": b"GET /invoice/1420/messages HTTP/1.1\rGET /invoice/{v}/messages HTTP/1.1\r\nHost: {a}\r\n\r\n",
    "a line break in the target": b"GET /x%0d%0a%0d%0aGET%20/invoice/{v}/messages HTTP/1.1\r\nHost: {a}\r\n\r\n",
    "a field before the first line": b" Host: {a}\r\nGET /invoice/{v}/messages HTTP/1.1\r\n\r\n",
    "a tab for a blank": b"GET\t/invoice/{v}/messages\tHTTP/1.1\r\nHost: {a}\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET /invoice/{v}/messages HTTP/1.1\r\n\r\n",
}


def shapes() -> dict[str, bytes]:
    """All of them; what each hides reads an invoice of its own."""
    made: dict[str, bytes] = {}

    def add(name: str, head: bytes, body: bytes) -> None:
        text = XML % name.encode()
        made[name] = (
            b"POST /invoice/1420/messages HTTP/1.1\r\nHost: %s\r\nAuthorization: Basic %s\r\n"
            b"Content-Type: application/xml\r\n%s\r\n\r\n" % (NAME.encode(), PAIR, head)
        ) + body.replace(b"{x}", chunk(text)).replace(b"{t}", text)

    for name, head in LENGTHS.items():
        body = b"x=y" + hidden(HIDDEN + len(made))
        add(f"length: {name}", head.replace(b"{n}", b"%d" % len(body)), body)
    for name, head in CODINGS.items():
        # A reader by the length takes what is hidden for a part of the body; one by the chunks, for
        # what comes behind it.
        inside = LAST + hidden(HIDDEN + len(made))
        length = b"Content-Length: %d\r\n" % len(inside)
        add(f"length, then coding: {name}", length + head, inside)
        # And the other way round.
        inside = hidden(HIDDEN + len(made))
        size = b"%x\r\n" % len(inside)
        length = b"\r\nContent-Length: %d" % len(size)
        add(f"coding, then length: {name}", head + length, size + inside + b"\r\n" + LAST)
    for name, chunks in CHUNKS.items():
        rest = chunks.replace(b"{h}", hidden(HIDDEN + len(made)))
        add(f"chunks: {name}", b"Transfer-Encoding: chunked", rest)
    for name, whole in LINES.items():
        victim = b"%d" % (HIDDEN + len(made))
        made[f"line: {name}"] = whole.replace(b"{v}", victim).replace(b"{a}", NAME.encode())
    return made


TABLE = Path(__file__).parents[1] / "smuggling.md"
TOLD_BY = {"haproxy": ("haproxy", "-v"), "nginx": ("nginx", "-v"), "caddy": ("caddy", "version")}
"""What tells a front's version."""

PATIENCE = 20.0
"""Seconds for all to come to what they should come to."""


@dataclass
class Told:
    """What a client has heard on its connection."""

    answers: bytes = b""
    is_closed: bool = False

    def fate(self, served: Container[str]) -> str:
        """Say what has become of what it sent, in the words of the table.

        `served` are the ids of what the bridges took for requests.
        """
        ends = []
        for status, fields in re.findall(
            rb"HTTP/1\.[01] (\d+) [^\r]*\r\n(.*?\r\n)\r\n", self.answers, re.DOTALL
        ):
            id_ = re.search(rb"X-Request-Id: (\S+)\r\n", fields)
            where = "front" if not id_ else "request" if id_[1].decode() in served else "bridge"
            ends.append(f"{where} {int(status)}")
        return ", ".join(ends) or ("closed" if self.is_closed else "nothing")


class Passing(Protocol):
    """A front, as this test has to do with it."""

    @property
    def logs(self) -> str: ...

    def connection(
        self,
    ) -> AbstractAsyncContextManager[tuple[asyncio.StreamReader, asyncio.StreamWriter]]: ...


@asynccontextmanager
async def sent(made: Mapping[str, bytes], front: Passing) -> AsyncIterator[Mapping[str, Told]]:
    """Send all that is made, each on a connection of its own, until the end of the block."""
    heard = {name: Told() for name in made}

    async def send(name: str) -> None:
        with suppress(OSError):
            async with front.connection() as (reader, writer):
                writer.write(made[name])
                while data := await reader.read(2**16):
                    heard[name].answers += data
        heard[name].is_closed = True

    sending = [asyncio.create_task(send(name)) for name in made]
    try:
        yield heard
    finally:
        for each in sending:
            each.cancel()
        await asyncio.gather(*sending, return_exceptions=True)


def calls(log: Logged) -> list[dict[str, Any]]:
    """All that bridges took for requests."""
    return log.lines("legacy_call") + log.lines("client_gone")


def smuggled(made: Iterable[str], front: Passing, log: Logged) -> set[str]:
    """Return what a bridge has served that the front has no line of."""
    names = dict(enumerate(made, HIDDEN))
    return {
        f"{names[number]}: {line}"
        for line in calls(log)
        for number in map(int, re.findall(r"/invoices/(6\d\d\d)/", str(line["upstream"])))
        if front.logs.count(line["request_id"]) != 1
    }


def table() -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Read the versions of the fronts from the table, and what each makes of every shape."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in TABLE.read_text().splitlines()
        if line.startswith("| ")
    ]
    (_, *fronts), _, *rest = rows
    versions = dict(zip(FRONTS, (front.split()[1] for front in fronts), strict=True))
    columns = zip(*rest, strict=True)
    names = next(columns)
    return versions, {
        kind: dict(zip(names, each, strict=True))
        for kind, each in zip(FRONTS, columns, strict=True)
    }


def version_of(kind: str) -> str:
    """Return what the front that is installed says of itself."""
    need(kind)
    return subprocess.check_output(TOLD_BY[kind], text=True, stderr=subprocess.STDOUT)


async def become(kind: str, folder: Path, expected: Mapping[str, str]) -> dict[str, str]:
    """Send all shapes through a front; what became of each, when it is as expected or time is up."""
    made = shapes()
    async with fronted_bridges(kind, folder / "front") as fronted:
        front, log = fronted.front, fronted.log
        async with sent(made, front) as heard:

            def fates() -> dict[str, str]:
                served = {line["request_id"] for line in calls(log)}
                return {name: told.fate(served) for name, told in heard.items()}

            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await until(lambda: fates() == expected)
            async with front.connection() as (reader, writer):
                writer.write(CONTROL)
                (control,) = re.findall(rb"X-Request-Id: (\S+)", await reader.read())
            assert front.logs.count(control.decode()) == 1
            came = fates()
        served = smuggled(made, front, log)
        assert not served, "\n".join(served)
        # Nor is what carries it made twice.
        assert all(len(ids) == 1 for ids in fronted.v2.made().values())
    return came


@pytest.mark.parametrize("kind", FRONTS)
async def test_a_bridge_serves_nothing_that_the_front_has_not_passed_on(
    kind: str, tmp_path: Path
) -> None:
    versions, expected = table()
    version = await asyncio.to_thread(version_of, kind)

    came = await become(kind, tmp_path, expected[kind])

    assert came.keys() == expected[kind].keys()
    if re.search(rf"\b{re.escape(versions[kind])}\.", version):
        assert came == expected[kind]


class Careless:
    """A front that takes all that comes at once for one request, and has a line of one answer."""

    def __init__(self, bridge: int) -> None:
        self.logs = ""
        self._bridge = bridge
        self._port = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen until the end of the block."""
        async with await asyncio.start_server(self._pass_on, LOOPBACK, 0) as server:
            self._port = server.sockets[0].getsockname()[1]
            yield

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, bridge = await asyncio.open_connection(LOOPBACK, self._bridge)
        with suppress(OSError, asyncio.IncompleteReadError):
            bridge.write(await reader.read(2**16))
            told = await answers.readuntil(b"\r\n\r\n")
            self.logs += told.decode()
            writer.write(told)
            writer.write(await answers.read())
        bridge.transport.abort()
        writer.transport.abort()

    @asynccontextmanager
    async def connection(
        self,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


async def test_what_a_careless_front_lets_through_is_found() -> None:
    """The proof that what is sent here would tell."""
    async with running_watched_sandbox(Moments()) as v2:
        with logging() as log:
            async with running_service(v2.base_url, account_id=1000) as (bridge, _):
                front = Careless(bridge.port)
                async with front.running(), sent(shapes(), front):
                    await until(
                        lambda: any(
                            each.startswith("coding, then length: underscore: ")
                            for each in smuggled(shapes(), front, log)
                        )
                    )


def page() -> str:
    """Send all shapes through each front, and return the page anew."""
    heads, columns = [], []
    for kind in FRONTS:
        version = re.search(r"\d+\.\d+", version_of(kind))
        assert version
        heads.append(f"{kind} {version[0]}")
        with TemporaryDirectory() as folder:
            columns.append(asyncio.run(become(kind, Path(folder), {})))
    rows = [["shape", *heads], ["---"] * (len(heads) + 1)]
    rows += [[name, *(column[name] for column in columns)] for name in shapes()]
    kept = TABLE.read_text().partition("| shape |")[0]
    return kept + "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    sys.stdout.write(page())
