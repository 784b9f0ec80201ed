"""Requests that two servers could read differently: each ends at the front or at the bridge.

In each is hidden a read of an invoice of its own. Where a front takes that for a request by itself,
it passes it on as one, and has a line of it. What a bridge serves without the front's knowing has
been smuggled. Shapes are those of RFC 9112, section 11.2, and of what has been found since between
fronts and servers.
"""

import asyncio
import base64
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.tls_fronts import FRONTS, NAME, fronted_bridges

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


PATIENCE = 3.0
"""Seconds for an answer: who waits for the rest of a body gives none."""


@pytest.mark.parametrize("kind", FRONTS)
async def test_a_bridge_serves_nothing_that_the_front_has_not_passed_on(
    kind: str, tmp_path: Path
) -> None:
    made = shapes()
    async with fronted_bridges(kind, tmp_path / "front") as fronted:

        async def send(request: bytes) -> None:
            async with asyncio.timeout(PATIENCE), fronted.front.connection() as (reader, writer):
                writer.write(request)
                await reader.read()

        await asyncio.gather(*map(send, made.values()), return_exceptions=True)
        (control,) = re.findall(rb"X-Request-Id: (\S+)", await fronted.front.raw(CONTROL))
        lines = fronted.log.lines("legacy_call") + fronted.log.lines("client_gone")
        passed_on = fronted.front.logs

    names = dict(enumerate(made, HIDDEN))
    smuggled = {
        f"{names[number]}: {line}"
        for line in lines
        for number in map(int, re.findall(r"/invoices/(6\d\d\d)/", str(line["upstream"])))
        if passed_on.count(line["request_id"]) != 1
    }
    assert not smuggled, "\n".join(smuggled)
    assert passed_on.count(control.decode()) == 1
    # Nor is what carries it made twice.
    assert all(len(ids) == 1 for ids in fronted.v2.made().values())
