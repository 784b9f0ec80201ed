"""Clients that close just before, or just after, the answer to their write leaves.

All run on one event loop with the bridge, so that what a client's machine has got by the time it
closes can be asked and does not change meanwhile.
"""

import asyncio
import random
import socket
import sqlite3
import struct
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.support.clocks import until
from tests.support.held_upstream import HeldCall, HeldUpstream, running_held_upstream
from tests.support.legacy import BASIC, LegacyClient
from tests.support.logged import logging
from tests.support.running import LOOPBACK, running_bridge
from tests.support.upstream import page
from tests.support.writing import HELLO, hello, posting

CLIENTS = 120
MOST_TURNS = 6
"""Of the event loop, from when the write is on record as done: the answer leaves at one of them."""


class Leaver:
    """A client of an invoice of its own, which closes without reading."""

    def __init__(self, invoice_id: int, chance: random.Random) -> None:
        self.invoice_id = invoice_id
        self.resets = chance.random() < 0.5
        self.turns = chance.randrange(-2, MOST_TURNS)
        """Before it closes, from when the write is on record; -1: before that, -2: before v2 answers."""
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.got_something = False

    @property
    def path(self) -> str:
        return f"/invoice/{self.invoice_id}/messages"

    async def ask(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self.socket, (LOOPBACK, port))
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: a\r\nAuthorization: {BASIC}\r\n"
            f"Content-Type: text/xml\r\nContent-Length: {len(HELLO)}\r\n\r\n"
        )
        await loop.sock_sendall(self.socket, head.encode() + HELLO)

    async def leave(self, call: HeldCall, journal: Path) -> None:
        if self.turns == -2:
            self.close()
        call.answer(hello(id=self.invoice_id), 201)
        if self.turns == -1:
            self.close()
        await until(lambda: self.invoice_id in delivered(journal))
        for _ in range(self.turns):
            await asyncio.sleep(0)
        if self.turns >= 0:
            self.close()

    def close(self) -> None:
        with suppress(BlockingIOError):
            self.got_something = bool(self.socket.recv(1, socket.MSG_PEEK))
        if self.resets:
            linger = struct.pack("ii", 1, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()


async def is_found_when_it_asks_again(
    leaver: Leaver, held: HeldUpstream, client: LegacyClient
) -> None:
    """Ask as one who has got nothing does: there is a look, and no second mail."""
    before = len(held.calls)
    again = posting(client, leaver.path)
    (await held.next()).answer(page(hello(id=leaver.invoice_id)))

    assert (await again).headers["Location"] == f"{leaver.path}/{leaver.invoice_id}"
    assert [call.received.method for call in held.calls[before:]] == ["GET"]


def delivered(journal: Path) -> dict[int, bool]:
    """Return whether an answer counts as delivered, by the invoice."""
    with closing(sqlite3.connect(journal)) as connection:
        rows = connection.execute("SELECT path, delivered FROM intents WHERE outcome = 'done'")
        return {int(path.split("/")[2]): bool(told) for path, told in rows}


@pytest.mark.parametrize("proxies", ["", LOOPBACK], ids=["itself", "a proxy"])
@pytest.mark.parametrize("seed", [1, 2])
async def test_who_has_received_no_byte_has_not_been_told(
    journal: Path, seed: int, proxies: str
) -> None:
    chance = random.Random(seed)
    leavers = [Leaver(number, chance) for number in range(1, CLIENTS + 1)]
    with logging() as log:
        async with (
            running_held_upstream() as held,
            running_bridge(held.base_url, journal=journal, trusted_proxies=proxies) as client,
        ):
            for leaver in leavers:
                await leaver.ask(client.port)
                await leaver.leave(await held.next(), journal)
            await until(lambda: len(log.lines("client_gone") + log.lines("legacy_call")) == CLIENTS)
            untold = next(each for each in leavers if not each.got_something)
            await is_found_when_it_asks_again(untold, held, client)

    got_nothing = {each.invoice_id for each in leavers if not each.got_something}
    told = {invoice_id for invoice_id, was in delivered(journal).items() if was}
    assert 20 < len(got_nothing) < CLIENTS
    assert {each.resets for each in leavers if not each.got_something} == {True, False}
    assert told & got_nothing == {untold.invoice_id}
    assert told - got_nothing
