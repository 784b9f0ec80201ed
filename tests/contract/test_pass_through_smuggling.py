"""Requests and answers that two readers would cut differently: they end at the bridge."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.test_pass_through import request
from tests.support.held_upstream import HeldUpstream
from tests.support.legacy import LegacyClient
from tests.support.logged import Logged
from tests.support.origins import OK, RawOrigin
from tests.support.running import running_bridge

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
async def client(
    log: Logged, held: HeldUpstream, journal: Path, origin: RawOrigin
) -> AsyncIterator[LegacyClient]:
    async with running_bridge(held.base_url, journal=journal, legacy_origin=origin.url) as legacy:
        yield legacy


def posting(*fields: str, body: bytes) -> bytes:
    return request("POST /projects HTTP/1.1", "Connection: close", *fields, body=body)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(
            posting("Content-Length: 4", "Transfer-Encoding: chunked", body=b"0\r\n\r\n" + HIDDEN),
            id="both lengths: RFC 9112, 6.3",
        ),
        pytest.param(
            posting("Content-Length: 4", "Content-Length: 40", body=HIDDEN),
            id="two lengths: RFC 9112, 6.3",
        ),
        pytest.param(
            posting("Content-Length: +4", body=HIDDEN), id="a length with a sign: RFC 9110, 8.6"
        ),
        pytest.param(
            posting("Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n" + HIDDEN),
            id="chunked not last: RFC 9112, 6.3",
        ),
        pytest.param(
            posting("Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + HIDDEN),
            id="an unknown coding: RFC 9112, 6.1",
        ),
        pytest.param(
            posting("Transfer-Encoding : chunked", body=b"0\r\n\r\n" + HIDDEN),
            id="a blank before the colon: RFC 9112, 5.1",
        ),
        pytest.param(
            posting("X-A: b\r\n Transfer-Encoding: chunked", "Content-Length: 0", body=b""),
            id="a folded line: RFC 9112, 5.2",
        ),
        pytest.param(
            posting("X-A: b\nTransfer-Encoding: chunked", "Content-Length: 4", body=HIDDEN),
            id="a bare LF: RFC 9112, 2.2",
        ),
        pytest.param(
            posting("X-A: b\rX-B: c", "Content-Length: 4", body=HIDDEN),
            id="a bare CR: RFC 9112, 2.2",
        ),
        pytest.param(
            posting("X-A: b\0c", "Content-Length: 4", body=HIDDEN), id="a NUL: RFC 9110, 5.5"
        ),
        pytest.param(
            posting("Transfer-Encoding: chunked", body=b"0x4\r\nabcd\r\n0\r\n\r\n"),
            id="a chunk of no length: RFC 9112, 7.1",
        ),
        pytest.param(
            posting("Transfer-Encoding: chunked", body=b"4\r\nabcdXX\r\n0\r\n\r\n"),
            id="a chunk of another length: RFC 9112, 7.1",
        ),
        pytest.param(
            request("GET /a b HTTP/1.1", "Connection: close"), id="a blank in the path: 3.2"
        ),
        pytest.param(
            request("GET /Ren\xe9 HTTP/1.1", "Connection: close"), id="no URL: RFC 3986, 2"
        ),
        pytest.param(request("GET /a\r HTTP/1.1", "Connection: close"), id="a CR in the path: 3.2"),
    ],
)
async def test_a_request_that_can_be_read_in_two_ways_does_not_reach_v1(
    client: LegacyClient, origin: RawOrigin, sent: bytes
) -> None:
    answer = await client.raw(sent)

    assert answer.startswith(b"HTTP/1.1 400")
    assert not any(origin.bodies)
    assert b"hidden" not in b"".join(origin.heads)


async def test_what_is_encoded_in_a_path_stays_so(client: LegacyClient, origin: RawOrigin) -> None:
    await client.raw(request("GET /a%0d%0aX-Evil:%201?b=%0D%0A HTTP/1.1", "Connection: close"))

    assert origin.heads[0].startswith(b"GET /a%0d%0aX-Evil:%201?b=%0D%0A HTTP/1.1\r\n")


async def test_extensions_of_chunks_and_trailers_end_here(
    client: LegacyClient, origin: RawOrigin
) -> None:
    """RFC 9112, sections 7.1.1 and 7.1.2."""
    body = b"3;a=b\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n"
    await client.raw(posting("Transfer-Encoding: chunked", body=body))

    assert origin.bodies == [b"abc"]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 9\r\n\r\nabc",
            id="two lengths: RFC 9112, 6.3",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n0\r\n\r\n",
            id="both lengths: RFC 9112, 6.3",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nX-A: b\rX-B: c\r\nContent-Length: 0\r\n\r\n",
            id="a bare CR: RFC 9112, 2.2",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nX A: b\r\nContent-Length: 0\r\n\r\n",
            id="a blank in a name: RFC 9112, 5.1",
        ),
    ],
)
async def test_an_answer_that_can_be_read_in_two_ways_is_a_502(
    client: LegacyClient, origin: RawOrigin, answer: bytes
) -> None:
    origin.answer = answer

    told = await client.get("/projects")

    assert told.status == 502


async def test_a_folded_line_of_an_answer_becomes_one(
    client: LegacyClient, origin: RawOrigin
) -> None:
    """RFC 9112, section 5.2."""
    origin.answer = b"HTTP/1.1 200 OK\r\nX-A: b\r\n Set-Cookie: c\r\nContent-Length: 0\r\n\r\n"

    told = await client.get("/projects")

    assert told.headers["X-A"] == "b Set-Cookie: c"
    assert "Set-Cookie" not in told.headers


async def test_chunks_of_an_old_client_hide_no_request(
    client: LegacyClient, origin: RawOrigin
) -> None:
    """RFC 9112, section 6.1: the connection ends behind them."""
    asked = request(
        "POST /a HTTP/1.0", "Connection: keep-alive", "Transfer-Encoding: chunked",
        body=b"3\r\nabc\r\n0\r\n\r\n" + HIDDEN,
    )  # fmt: skip

    answer = await client.raw(asked)

    assert answer.count(b"HTTP/1.1 ") == 1
    assert origin.bodies == [b"abc"]


async def test_what_comes_behind_an_answer_is_nobodys(
    client: LegacyClient, origin: RawOrigin
) -> None:
    """RFC 9112, section 6.3: it would be taken for the answer to somebody else's call."""
    origin.answer = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    )

    for _ in range(3):
        assert (await client.get("/projects")).body == b"abc"


async def test_what_comes_on_an_idle_connection_is_no_answer_to_the_next_call(
    client: LegacyClient, origin: RawOrigin
) -> None:
    """RFC 9112, section 9.2: it would be somebody else's."""
    idles = asyncio.Event()

    async def answer_unasked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await idles.wait()
        writer.write(OK.replace(b"<v1/>", b"<x/>\r\n"))
        await reader.read()

    origin.misbehave = answer_unasked
    await client.get("/projects")
    idles.set()

    assert (await client.get("/projects")).body == b"<v1/>\n"
