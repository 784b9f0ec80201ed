"""Several bridges with one database are one to their clients: no mail twice, and none lost.

All of it is black box: two processes, PostgreSQL, and a sandbox that counts.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import aiohttp
import psycopg
import pytest
import pytest_asyncio

from bridge.record.journal.postgresql import CHANNEL, JOURNAL_LOCK
from bridge.sandbox.seeds import SANDBOX_ACCOUNT_ID
from tests.support.legacy import Answer, LegacyClient, hang_up
from tests.support.postgres import Server, running_server
from tests.support.running import LOOPBACK
from tests.support.storm_bridge import LOGINS, BridgeProcess
from tests.support.storm_sandbox import (
    Content,
    Hold,
    Moment,
    Moments,
    Occasion,
    WatchedSandbox,
    running_watched_sandbox,
)

LOGIN = LOGINS[SANDBOX_ACCOUNT_ID]
AUTHORIZATION = aiohttp.encode_basic_auth(LOGIN.name, LOGIN.password)
HOST = f"{LOGIN.subdomain}.harvestapp.com"

CALL_TIMEOUTS = (3, 12)
"""Seconds. What the first has open when it is killed is soon taken up, and who waits at the first for
what the second makes is told to try again long before the second has to give up.
"""

pytestmark = pytest.mark.asyncio(loop_scope="module")  # the bridges', which take long to start


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@dataclass
class Pair:
    """Two bridges of one database, v2, and one mail that is to be sent."""

    moments: Moments
    sandbox: WatchedSandbox
    bridges: list[BridgeProcess] = field(default_factory=list)
    text: str = "Once"

    @property
    def xml(self) -> str:
        parts = f"<body>{self.text}</body><recipients>a@b.org</recipients>"
        return f"<invoice-message>{parts}</invoice-message>"

    @property
    def raw(self) -> bytes:
        return (
            f"POST /invoice/1420/messages HTTP/1.1\r\nHost: {HOST}\r\n"
            f"Authorization: {AUTHORIZATION}\r\nContent-Length: {len(self.xml)}\r\n\r\n{self.xml}"
        ).encode()

    def made(self) -> list[int]:
        """The messages that v2 has made of the mail."""
        return self.sandbox.made()[Content(1420, None, self.text)]

    @asynccontextmanager
    async def client(self, number: int) -> AsyncIterator[LegacyClient]:
        async with LegacyClient(LOOPBACK, self.bridges[number].port) as client:
            yield client

    async def send(self, number: int) -> Answer:
        async with self.client(number) as client:
            return await client.call(
                "POST",
                "/invoice/1420/messages",
                headers={"Host": HOST},
                authorization=AUTHORIZATION,
                body=self.xml,
            )

    async def send_until_told(self, number: int) -> int:
        """Send as a client does that goes on until it is told; the id that it is told."""
        while (answer := await self.send(number)).status != 201:
            assert answer.status in {502, 503, 504}, answer
        return int(answer.texts("id")[0])

    async def list(self, number: int) -> Answer:
        async with self.client(number) as client:
            return await client.get(
                "/invoice/1420/messages", headers={"Host": HOST}, authorization=AUTHORIZATION
            )


@asynccontextmanager
async def having_bridges(directory: Path, database: str | None, number: int) -> AsyncIterator[Pair]:
    """Have bridges, which are yet to start."""
    moments = Moments()
    async with running_watched_sandbox(moments) as sandbox:
        pair = Pair(moments, sandbox)
        try:
            for seconds in CALL_TIMEOUTS[:number]:
                options = (directory, sandbox.base_url, f"--call-timeout={seconds}")
                pair.bridges.append(BridgeProcess(*options, database=database))
            yield pair
        finally:
            for bridge in pair.bridges:
                await bridge.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridges(tmp_path_factory: pytest.TempPathFactory, server: Server) -> AsyncIterator[Pair]:
    directory = tmp_path_factory.mktemp("bridges")
    async with having_bridges(directory, server.new_database(), 2) as pair:
        yield pair


@pytest_asyncio.fixture(loop_scope="module")
async def pair(bridges: Pair) -> Pair:
    """Both running, whatever was done to them, and a mail that none has seen."""
    bridges.text = uuid4().hex
    await asyncio.gather(*(bridge.start() for bridge in bridges.bridges if not bridge.runs))
    return bridges


def posts(moment: Moment) -> Callable[[Occasion], bool]:
    def wanted(occasion: Occasion) -> bool:
        return occasion.moment is moment and occasion.method == "POST"

    return wanted


async def test_an_equal_write_waits_for_the_first_whichever_bridge_has_it(pair: Pair) -> None:
    async with pair.moments.hold(posts(Moment.ARRIVED)) as arrived:
        first = asyncio.create_task(pair.send(1))
        await arrived.reached
        second = await pair.send(0)
        arrived.let_go()
        assert (await first).status == 201

    assert second.status == 503
    assert int(second.headers["Retry-After"]) >= 1
    assert len(pair.made()) == 1


async def test_writes_to_one_invoice_are_made_one_after_another(pair: Pair) -> None:
    answers = await asyncio.gather(*(pair.send(number % 2) for number in range(10)))

    assert {answer.status for answer in answers} <= {201, 503}
    told = [int(answer.texts("id")[0]) for answer in answers if answer.status == 201]
    assert sorted(told) == pair.made()


@pytest.mark.kill
class TestKilled:
    async def test_before_the_intent_is_on_record(self, pair: Pair) -> None:
        database = pair.bridges[0].database
        assert database is not None
        with psycopg.connect(database, autocommit=True) as other:
            other.execute("SELECT pg_advisory_lock(%s)", [JOURNAL_LOCK])
            lost = asyncio.create_task(pair.send(0))
            await waiting_for_the_journal(database)
            await pair.bridges[0].kill()
            await asyncio.wait([lost])
            lost.exception()

        assert [await pair.send_until_told(1)] == pair.made()

    @pytest.mark.parametrize("is_lost", [True, False])
    async def test_with_a_post_that_has_left(self, pair: Pair, is_lost: bool) -> None:
        async with pair.moments.hold(posts(Moment.ARRIVED)) as arrived:
            await killed_at(pair, arrived)
            arrived.let_go(lost=is_lost)
            await pair.sandbox.quiet()

        assert [await pair.send_until_told(1)] == pair.made()

    async def test_before_the_outcome_is_on_record(self, pair: Pair) -> None:
        async with pair.moments.hold(posts(Moment.APPLIED)) as applied:
            await killed_at(pair, applied)

        assert [await pair.send_until_told(1)] == pair.made()

    async def test_before_the_client_is_told(self, pair: Pair) -> None:
        bridge = pair.bridges[0]
        async with pair.moments.hold(posts(Moment.APPLIED)) as applied:
            _, writer = await asyncio.open_connection(LOOPBACK, bridge.port)
            writer.write(pair.raw)
            await applied.reached
            noticed = bridge.told(lambda line: line["event"] == "client_left")
            ended = bridge.told(lambda line: line["event"] == "client_gone")
            hang_up(writer)
            await noticed
            applied.let_go()
            await ended
        await bridge.kill()

        assert [await pair.send_until_told(1)] == pair.made()

    async def test_what_it_left_is_listed_and_settled_for_all(self, pair: Pair) -> None:
        async with pair.moments.hold(posts(Moment.APPLIED)) as applied:
            await killed_at(pair, applied)
        while True:
            status, told = await pair.bridges[1].reconcile()
            if "in flight: the bridge is making it" not in told[0]:
                break

        assert status == 0
        assert told[0][-1] == f"done, invoice-message {pair.made()[0]}"


async def killed_at(pair: Pair, moment: Hold) -> None:
    lost = asyncio.create_task(pair.send(0))
    await moment.reached
    await pair.bridges[0].kill()
    await asyncio.wait([lost])
    lost.exception()


async def waiting_for_the_journal(database: str) -> None:
    """Return when a bridge waits for its lock."""
    asked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    await counted(database, asked, 1)


async def both_listening(pair: Pair) -> None:
    """Return when both hear what the other tells: they may just have started, or the server."""
    database = pair.bridges[0].database
    assert database is not None
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = "
    await counted(database, f"{asked} 'LISTEN {CHANNEL}'", 2)


async def counted(database: str, asked: str, number: int) -> None:
    """Return when the answer is so much, or more."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        while True:
            row = await (await connection.execute(asked.encode())).fetchone()
            if row is not None and row[0] >= number:
                return


@pytest.mark.kill
async def test_a_bridge_that_stands_still_holds_the_others_up_for_a_while_only(pair: Pair) -> None:
    async with pair.moments.hold(posts(Moment.APPLIED)) as applied:
        stopped = asyncio.create_task(pair.send(0))
        await applied.reached
        pair.bridges[0].tell(signal.SIGSTOP)

    told = await pair.send_until_told(1)
    pair.bridges[0].tell(signal.SIGCONT)
    await stopped

    assert pair.made() == [told]


class TestServerAway:
    async def test_writes_are_refused_reads_go_on_and_it_mends_itself(
        self, pair: Pair, server: Server
    ) -> None:
        server.stop("immediate")
        try:
            assert (await pair.send(0)).status == 503
            assert (await pair.list(0)).status == 200
        finally:
            server.start()

        assert [await pair.send_until_told(0)] == pair.made()

    async def test_it_may_be_away_at_the_start(self, pair: Pair, server: Server) -> None:
        await pair.bridges[0].kill()
        server.stop("immediate")
        try:
            await pair.bridges[0].start()
            assert (await pair.list(0)).status == 200
            assert (await pair.send(0)).status == 503
        finally:
            server.start()

        assert [await pair.send_until_told(0)] == pair.made()

    async def test_in_the_middle_of_a_write(self, pair: Pair, server: Server) -> None:
        async with pair.moments.hold(posts(Moment.APPLIED)) as applied:
            first = asyncio.create_task(pair.send(1))
            await applied.reached
            server.stop("immediate")
            server.start()
            second = await pair.send(0)
        answer = await first

        assert second.status == 503
        assert answer.status == 201
        assert pair.made() == [int(answer.texts("id")[0])]


async def test_what_v2_tells_a_token_the_other_bridge_hears(pair: Pair) -> None:
    await both_listening(pair)
    # Not what a bridge asks at its start, without a token.
    messages = ".*/invoices/1420/messages"
    await pair.sandbox.add_rule(fault="throttle", retry_after=60, path=messages, times=1)
    assert (await pair.list(0)).status == 503
    asked = len(pair.sandbox.calls)

    while (answer := await pair.list(1)).status == 200:
        asked = len(pair.sandbox.calls)

    assert answer.status == 503
    assert len(pair.sandbox.calls) == asked
    for bridge in pair.bridges:  # which would keep to it
        await bridge.kill()


@pytest.mark.kill
async def test_a_file_that_knows_of_writes_has_to_be_moved_first(
    tmp_path: Path, server: Server
) -> None:
    async with having_bridges(tmp_path, None, 1) as pair:
        (bridge,) = pair.bridges
        await bridge.start()
        async with pair.moments.hold(posts(Moment.APPLIED)) as applied:
            await killed_at(pair, applied)
        bridge.database = server.new_database()
        with pytest.raises(ConnectionError):
            await bridge.start()
        assert any("journal --move" in str(line) for line in bridge.lines)

        status, told = await bridge.journal_command("--move", f"--journal={bridge.journal}")
        assert (status, told[0][0].split()[0]) == (0, "1")
        assert not bridge.journal.exists()
        await bridge.start()

        assert [await pair.send_until_told(0)] == pair.made()
