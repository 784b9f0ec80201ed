"""Stopping: what is under way is finished, what is new is refused, and it comes to an end."""

import asyncio
import json
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.server.endpoint import STOPPED
from bridge.server.leaving import Departure
from bridge.server.service import Service
from bridge.settings import PREFIX
from bridge.v1.errors import Leaving
from tests.support.clocks import Leaps, until
from tests.support.held_upstream import HeldUpstream, running_held_upstream
from tests.support.legacy import Answer, LegacyClient
from tests.support.logged import Logged, logging
from tests.support.running import LOOPBACK, running_service
from tests.support.upstream import page
from tests.support.writing import SEND, caught_up, getting, hello, outcomes, posting

PATIENCE = 5.0
"""Seconds until something counts as hanging."""
STARTING = 60.0
"""Seconds that a process of its own may take on top of that."""
BRIEFLY = 0.2
"""Seconds: a time to stop in that a test waits for."""


def deleting(client: LegacyClient) -> asyncio.Task[Answer]:
    return asyncio.create_task(client.call("DELETE", f"{SEND}/403"))


START: Mapping[str, Callable[[LegacyClient], asyncio.Task[Answer]]] = {
    "GET": getting,
    "POST": posting,
    "DELETE": deleting,
}


class TestDeparture:
    async def test_takes_calls_until_it_has_heard_who_was_there(self) -> None:
        departure = Departure()
        with departure.call():
            departure.begin()
        with departure.call():
            await departure.hear(lambda: False, PATIENCE)
        with pytest.raises(Leaving) as leaving, departure.call():
            pass

        assert leaving.value.retry_after >= 1
        assert departure.begun

    async def test_is_quiet_at_once_where_nothing_is_under_way(self) -> None:
        departure = Departure()
        departure.begin()

        await departure.until_quiet(PATIENCE)

    async def test_waits_for_the_last_of_what_is_under_way(self) -> None:
        departure = Departure()
        with departure.call():
            with departure.call():
                waiting = asyncio.create_task(departure.until_quiet(PATIENCE))
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not waiting.done()

        await waiting

    async def test_waits_no_longer_than_it_may(self) -> None:
        leaps, departure = Leaps(), Departure()
        with departure.call(), departure.call():
            waiting = asyncio.create_task(departure.until_quiet(30))
            await asyncio.sleep(0)
            assert not waiting.done()
            leaps.ahead(30)

            await waiting

    async def test_hears_as_long_as_a_call_is_expected(self) -> None:
        departure, expected = Departure(), [True, True, False]
        async with asyncio.timeout(PATIENCE):
            await departure.hear(lambda: expected.pop(0), 2 * PATIENCE)

        assert not expected

    @pytest.mark.parametrize("seconds", [0, 1000])
    async def test_hears_no_longer_than_it_may(self, seconds: float) -> None:
        leaps, departure = Leaps(), Departure()
        hearing = asyncio.create_task(departure.hear(lambda: True, seconds))
        await asyncio.sleep(0)
        leaps.ahead(seconds)
        async with asyncio.timeout(PATIENCE):
            await hearing

    @pytest.mark.parametrize("before", [True, False])
    async def test_waits_no_longer_when_it_is_hurried(self, before: bool) -> None:
        departure = Departure()
        with departure.call():
            if before:
                departure.hurry()
            waiting = asyncio.create_task(departure.until_quiet(PATIENCE))
            await asyncio.sleep(0)
            departure.hurry()

            async with asyncio.timeout(PATIENCE / 2):
                await waiting

    async def test_what_fails_is_under_way_no_longer(self) -> None:
        departure = Departure()
        with pytest.raises(KeyError), departure.call():
            raise KeyError

        async with asyncio.timeout(PATIENCE / 2):
            await departure.until_quiet(PATIENCE)


@dataclass
class Leaver:
    """A bridge in this process, and what tells it to stop."""

    service: Service
    client: LegacyClient
    stack: AsyncExitStack
    log: Logged

    async def leave(self) -> asyncio.Task[None]:
        """Tell it to stop, and wait until it has begun to."""
        leaving = asyncio.create_task(self.stack.aclose())
        await until(lambda: self.log.lines("stopping"))
        return leaving

    async def readiness(self) -> dict[str, Any]:
        url = f"http://{LOOPBACK}:{self.service.admin_port}/readyz"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert response.status == 503
            told: dict[str, Any] = await response.json()
            return told


@pytest.fixture
async def held() -> AsyncIterator[HeldUpstream]:
    async with running_held_upstream() as upstream:
        yield upstream


@asynccontextmanager
async def leaver(held: HeldUpstream, **settings: Any) -> AsyncIterator[Leaver]:
    async with AsyncExitStack() as stack:
        log = stack.enter_context(logging())
        service, _ = await stack.enter_async_context(
            running_service(held.base_url, **{"account_id": 1000, "stop_timeout": 30, **settings})
        )
        # The client's connections outlast the bridge.
        async with LegacyClient(LOOPBACK, service.port) as lasting:
            yield Leaver(service, lasting, stack, log)


class TestLeaving:
    async def test_finishes_what_is_under_way(self, held: HeldUpstream, tmp_path: Path) -> None:
        journal = tmp_path / "journal.sqlite"
        async with leaver(held, journal=journal) as bridge:
            reading, writing = getting(bridge.client), posting(bridge.client)
            calls = {call.received.method: call for call in [await held.next(), await held.next()]}
            leaving = await bridge.leave()
            calls["GET"].answer(page(hello()))
            read = await reading
            assert not leaving.done()
            calls["POST"].answer(hello(), 201)
            written = await writing
            async with asyncio.timeout(PATIENCE):
                await leaving

        assert (read.status, read.texts("id")) == (200, ["501"])
        assert (written.status, written.texts("id")) == (201, ["501"])
        assert read.headers["Connection"] == written.headers["Connection"] == "close"
        assert outcomes(journal) == ["done"]

    async def test_is_over_at_once_where_nothing_is_under_way(self, held: HeldUpstream) -> None:
        async with leaver(held) as bridge, bridge.client.connection():  # idle
            leaving = await bridge.leave()
            async with asyncio.timeout(PATIENCE):
                await leaving

    async def test_refuses_new_connections(self, held: HeldUpstream) -> None:
        async with leaver(held) as bridge:
            answering = getting(bridge.client)
            call = await held.next()
            leaving = await bridge.leave()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(LOOPBACK, bridge.service.port)
            call.answer(page())
            assert (await answering).status == 200
            await leaving

    async def test_is_told_by_readiness_while_the_admin_side_is_still_there(
        self, held: HeldUpstream
    ) -> None:
        async with leaver(held) as bridge:
            answering = getting(bridge.client)
            call = await held.next()
            leaving = await bridge.leave()
            assert (await bridge.readiness())["checks"] == {
                "phase": "stopping",
                "journal": "ok",
                "breakers": "ok",
                "upstream": "ok",
            }
            call.answer(page())
            await answering
            await leaving

    async def test_goes_on_with_a_write_whose_client_has_left(
        self, held: HeldUpstream, tmp_path: Path
    ) -> None:
        journal = tmp_path / "journal.sqlite"
        async with leaver(held, journal=journal) as bridge:
            writing = posting(bridge.client)
            call = await held.next()
            writing.cancel()
            leaving = await bridge.leave()
            assert not leaving.done()
            call.answer(hello(), 201)
            async with asyncio.timeout(PATIENCE):
                await leaving

        assert outcomes(journal) == ["done"]

    @pytest.mark.parametrize("how", ["in time", "hurried"])
    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
    async def test_gives_up_what_does_not_end(
        self, held: HeldUpstream, tmp_path: Path, method: str, how: str
    ) -> None:
        journal = tmp_path / "journal.sqlite"
        stop_timeout = BRIEFLY if how == "in time" else 1000
        async with leaver(held, journal=journal, stop_timeout=stop_timeout) as bridge:
            answering = START[method](bridge.client)
            call = await held.next()
            leaving = await bridge.leave()
            if how == "hurried":
                bridge.service.hurry()
            async with asyncio.timeout(PATIENCE):
                await leaving
            await call.until_left()
            with pytest.raises(aiohttp.ClientError):
                await answering

        assert [line["unfinished"] for line in bridge.log.lines("stopped")] == [1]
        (line,) = bridge.log.lines("legacy_call")
        assert (line["cause"], line["level"], line["status"]) == (*CUT_OFF[method], None)
        assert [each["error"] for each in line["upstream"]] == ["Abandoned"]
        if method == "POST":
            assert outcomes(journal) == ["open"]
            async with leaver(held, journal=journal):
                assert outcomes(journal) == ["unknown"]

    async def test_what_is_given_up_is_counted_and_logged_before_the_last_line(
        self, held: HeldUpstream
    ) -> None:
        """Two writes to one invoice, of which one waits for the other, and a read."""
        async with leaver(held, stop_timeout=1000) as bridge:
            answering = [
                posting(bridge.client),
                posting(bridge.client),
                getting(bridge.client, "/invoice/7/messages"),
            ]
            for _ in range(2):
                await held.next()
            await caught_up(bridge.client)
            leaving = await bridge.leave()
            bridge.service.hurry()
            async with asyncio.timeout(PATIENCE):
                await leaving
            await asyncio.gather(*answering, return_exceptions=True)

        told = [json.loads(line) for line in bridge.log.getvalue().splitlines()]
        after = told[[line["event"] for line in told].index("stopping") :]
        told_of_post, _ = CUT_OFF["POST"]
        after[1:-1] = sorted(after[1:-1], key=lambda line: str(line["cause"]), reverse=True)
        assert [(line["event"], line.get("cause")) for line in after] == [
            ("stopping", None),
            *[("legacy_call", cause) for cause in (told_of_post, STOPPED, STOPPED)],
            ("stopped", None),
        ]
        assert after[-1]["unfinished"] == 3


CUT_OFF = {
    "GET": (STOPPED, "info"),
    "POST": (f"{STOPPED}; what became of it is not known: it stands in the journal", "warning"),
    "DELETE": (f"{STOPPED}; it may have been done", "warning"),
}
"""The cause that is logged, and the level, by the method of a call that is cut off."""


class TestSignal:
    """With a process of its own."""

    @asynccontextmanager
    async def serving(
        self, held: HeldUpstream, journal: Path, stop_timeout: float
    ) -> AsyncIterator[tuple[asyncio.subprocess.Process, LegacyClient]]:
        arguments = {
            "account-id": "1000",
            "auth": "token-as-password",
            "contact": "ops@example.com",
            "upstream": held.base_url,
            "port": "0",
            "admin-port": "0",
            "journal": str(journal),
            "database": str(journal.with_name("log.sqlite")),
            "stop-timeout": str(stop_timeout),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bridge", "serve",
            *(f"--{name}={text}" for name, text in arguments.items()),
            env={name: text for name, text in os.environ.items() if not name.startswith(PREFIX)},
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(STARTING + PATIENCE):
                port = await self.port(process)
                async with LegacyClient(LOOPBACK, port) as client:
                    yield process, client
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def port(self, process: asyncio.subprocess.Process) -> int:
        assert process.stderr is not None
        async for line in process.stderr:
            if b'"listening"' in line and b'"bridge"' in line:
                port: int = json.loads(line)["port"]
                return port
        raise AssertionError("it ended before it listened")

    async def test_the_call_under_way_gets_its_answer(
        self, held: HeldUpstream, tmp_path: Path
    ) -> None:
        journal = tmp_path / "journal.sqlite"
        async with self.serving(held, journal, stop_timeout=30) as (process, client):
            answering = posting(client)
            call = await held.next()
            process.send_signal(signal.SIGTERM)
            call.answer(hello(), 201)
            answer = await answering
            status = await process.wait()

        assert (answer.status, answer.texts("id")) == (201, ["501"])
        assert status == 0
        assert not journal.with_name("journal.sqlite-wal").exists()
        with closing(sqlite3.connect(journal)) as connection:
            assert connection.execute("SELECT outcome, delivered FROM intents").fetchall() == [
                ("done", 1)
            ]

    @pytest.mark.parametrize("how", ["in time", "hurried"])
    async def test_a_call_that_never_ends_does_not_keep_it(
        self, held: HeldUpstream, tmp_path: Path, how: str
    ) -> None:
        journal = tmp_path / "journal.sqlite"
        stop_timeout = BRIEFLY if how == "in time" else 1000
        async with self.serving(held, journal, stop_timeout) as (process, client):
            answering = posting(client)
            await held.next()
            process.send_signal(signal.SIGTERM)
            if how == "hurried":
                assert process.stderr is not None
                async for line in process.stderr:
                    if b'"stopping"' in line:
                        break
                process.send_signal(signal.SIGTERM)
            status = await process.wait()
            with pytest.raises(aiohttp.ClientError):
                await answering

        assert status == 0
        assert not journal.with_name("journal.sqlite-wal").exists()
        async with leaver(held, journal=journal) as bridge:
            assert outcomes(journal) == ["unknown"]
            again = posting(bridge.client)
            (await held.next()).answer(page())  # v2 knows its token
            look = await held.next()
            assert look.received.method == "GET"
            look.answer(page(hello()))
            assert (await again).status == 201
