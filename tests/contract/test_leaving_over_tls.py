"""Clients behind TLS that close with their answer, or before it: who has been told of a write?"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme

from tests.contract.test_leaving_too_soon import delivered
from tests.support.certificates import put_in_place
from tests.support.clocks import until
from tests.support.held_upstream import HeldUpstream, running_held_upstream
from tests.support.legacy import BASIC
from tests.support.logged import Logged, logging
from tests.support.running import LOOPBACK, running_service
from tests.support.writing import HELLO, hello

CLIENTS = 60

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class Bridge(NamedTuple):
    port: int
    journal: Path
    context: ssl.SSLContext
    held: HeldUpstream
    log: Logged


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
async def bridge(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bridge]:
    authority = trustme.CA()
    certificate, key = put_in_place(authority.issue_cert("localhost"), tmp_path)
    journal = tmp_path / "journal.sqlite"
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.minimum_version = context.maximum_version = request.param
    settings: dict[str, Any] = {
        "account_id": 1000,
        "tls_certificate": certificate,
        "tls_key": key,
        "journal": journal,
    }
    with logging() as log:
        async with (
            running_held_upstream() as held,
            running_service(held.base_url, **settings) as (service, _),
        ):
            yield Bridge(service.port, journal, context, held, log)


def asks(bridge: Bridge, invoice_id: int) -> ssl.SSLSocket:
    """Connect, and send a write to an invoice."""
    plain = socket.create_connection((LOOPBACK, bridge.port))
    client = bridge.context.wrap_socket(plain, server_hostname="localhost")
    head = (
        f"POST /invoice/{invoice_id}/messages HTTP/1.1\r\nHost: a\r\nAuthorization: {BASIC}\r\n"
        f"Content-Type: text/xml\r\nContent-Length: {len(HELLO)}\r\n\r\n"
    )
    client.sendall(head.encode() + HELLO)
    return client


def takes_the_answer_and_closes(client: ssl.SSLSocket, *, says_so: bool) -> bytes:
    answer = b""
    while b"</invoice-message>" not in answer and (piece := client.recv(4096)):
        answer += piece
    if says_so:
        client.setblocking(False)  # the bridge's own goodbye is not waited for
        with suppress(OSError):
            client.unwrap()
    client.close()
    return answer


def leaves(client: ssl.SSLSocket, *, resets: bool) -> None:
    if resets:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


async def test_who_closes_with_its_answer_has_been_told(bridge: Bridge) -> None:
    for number in range(1, CLIENTS + 1):
        client = await asyncio.to_thread(asks, bridge, number)
        taking = asyncio.to_thread(takes_the_answer_and_closes, client, says_so=number % 2 == 0)
        (await bridge.held.next()).answer(hello(id=number), 201)
        assert (await taking).startswith(b"HTTP/1.1 201 ")
    await until(
        lambda: len(bridge.log.lines("client_gone") + bridge.log.lines("legacy_call")) == CLIENTS
    )

    assert bridge.log.lines("client_gone") == []
    await until(lambda: list(delivered(bridge.journal).values()) == [True] * CLIENTS)


@pytest.mark.parametrize("resets", [False, True], ids=["orderly", "reset"])
async def test_who_closes_before_its_answer_has_not_been_told(bridge: Bridge, resets: bool) -> None:
    client = await asyncio.to_thread(asks, bridge, 1)
    call = await bridge.held.next()
    leaves(client, resets=resets)
    await until(lambda: bridge.log.lines("client_left"))
    call.answer(hello(id=1), 201)
    await until(lambda: bridge.log.lines("client_gone"))

    assert delivered(bridge.journal) == {1: False}
