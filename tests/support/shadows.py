"""A bridge between the sandbox's v1 and its v2, with what an operator has decided of its callers."""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import select

from bridge.identity.callers import Way
from bridge.record.log.capture import Mode, Rule
from bridge.record.log.comparisons import Score
from bridge.record.log.database import load_key, open_database, writing
from bridge.record.log.exchange import Exchange, unpack
from bridge.record.log.policies import Policy, put
from bridge.record.log.reports import Log
from bridge.record.log.tables import CALLS, COMPARISONS
from bridge.record.log.times import HOUR
from bridge.sandbox.app import create_sandbox
from bridge.sandbox.seeds import SANDBOX_TOKEN, USERS, V1_PASSWORDS
from bridge.sandbox.v1.app import create_v1
from bridge.side import Side
from tests.support.books import enter, write_token
from tests.support.legacy import Answer, LegacyClient
from tests.support.running import LOOPBACK, empty_log, running_app, running_service

_GLANCE = 0.01
"""Seconds between two looks at the bridge's metrics: nobody tells when."""

BOB = aiohttp.encode_basic_auth(USERS[SANDBOX_TOKEN].email, V1_PASSWORDS[SANDBOX_TOKEN])
"""What v1 and the book know."""


@dataclass
class Both:
    """A bridge with both sides behind it."""

    client: LegacyClient
    admin: str
    v1: str
    """The URL of the sandbox's v1."""
    v2: str
    """The URL of its v2, without the path."""
    database: str

    async def get(self, path: str, **headers: str) -> Answer:
        """Ask as Bob does."""
        return await self.client.get(path, authorization=BOB, headers=headers)

    async def plant(self, **fault: Any) -> None:
        """Have v1 misbehave, or differ."""
        await self._post(f"{self.v1}/sandbox/faults", fault)

    async def trouble_v2(self, **fault: Any) -> None:
        """Have v2 misbehave."""
        await self._post(f"{self.v2}/sandbox/faults", fault)

    async def v2_calls(self) -> list[dict[str, Any]]:
        """The calls that v2 has had, but for those that look whether it is there."""
        told: dict[str, Any] = await self._json(f"{self.v2}/sandbox/calls")
        return [each for each in told["calls"] if each["path"].startswith("/v2/invoices/")]

    async def planted(self) -> list[dict[str, Any]]:
        """The differences that v1 was told to make, and has made."""
        told: dict[str, Any] = await self._json(f"{self.v1}/sandbox/differences")
        planted: list[dict[str, Any]] = told["planted"]
        return planted

    async def told(self, calls: int) -> Counter[str]:
        """Wait until so many calls were compared or not, and return how many by result or reason."""
        while True:
            counts = await self.counts()
            if sum(counts.values()) >= calls:
                return counts
            await asyncio.sleep(_GLANCE)

    async def keep_up(self, most: int = 50, glance: float = _GLANCE) -> None:
        """Wait until no more than so many are under way, with so many seconds between two looks.

        Each look takes of the processor what a comparison would have had.
        """
        while True:
            async with aiohttp.request("GET", f"{self.admin}/metrics") as answer:
                metrics = await answer.text()
            told = re.search(
                r"^harvest_bridge_comparisons_in_progress (.*)$", metrics, re.MULTILINE
            )
            if told is not None and float(told[1]) <= most:
                return
            await asyncio.sleep(glance)

    async def counts(self) -> Counter[str]:
        """Comparisons by result, and skipped ones by reason."""
        async with aiohttp.request("GET", f"{self.admin}/metrics") as answer:
            metrics = await answer.text()
        told = re.findall(
            r'^harvest_bridge_comparisons(?:_skipped)?_total\{\w+="(.*)"\} (.*)$',
            metrics,
            re.MULTILINE,
        )
        return Counter({name: int(float(count)) for name, count in told if float(count)})

    async def until_answered_by_the_bridge(self, path: str, authorization: str) -> None:
        """Ask until it is the bridge that answers, and v1 no more."""
        while (await self.client.get(path, authorization=authorization)).status != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def until_captured(self) -> None:
        """Wait until the bridge says that calls are captured."""
        while True:
            async with aiohttp.request("GET", f"{self.admin}/readyz") as answer:
                if "capture" in await answer.text():
                    return

    async def _post(self, url: str, content: Mapping[str, Any]) -> None:
        async with aiohttp.request("POST", url, json=content) as answer:
            assert answer.status < 300, await answer.text()

    async def _json(self, url: str) -> Any:
        async with aiohttp.request("GET", url) as answer:
            return await answer.json()


@asynccontextmanager
async def running_both(
    folder: Path,
    *,
    answered_by: Side = Side.V1,
    percent: int = 100,
    book_has: str = V1_PASSWORDS[SANDBOX_TOKEN],
    **settings: Any,
) -> AsyncIterator[Both]:
    """Run them for the block; what is asked in the log is asked after it."""
    database = empty_log(folder)
    decide(database, Policy(answered_by=answered_by, shadow_percent=percent))
    book = folder / "book.toml"
    token = write_token(folder, "token", SANDBOX_TOKEN)
    user = USERS[SANDBOX_TOKEN]
    enter(book, "api-examples", user.email, book_has, user.account_id, token)
    v2 = create_sandbox()
    given: dict[str, Any] = {
        "auth": frozenset({Way.BOOK}),
        "book": book,
        "subdomain": "api-examples",
        "database": database,
    }
    async with (
        running_app(v2) as v2_url,
        running_app(create_v1(v2)) as v1_url,
        running_service(f"{v2_url}/v2", **{**given, "legacy_origin": v1_url, **settings}) as (
            service,
            client,
        ),
    ):
        yield Both(client, f"http://{LOOPBACK}:{service.admin_port}", v1_url, v2_url, database)


def decide(database: str, policy: Policy) -> None:
    """Put a policy in force, as the commands do."""
    engine = open_database(database, load_key(database, None))
    with writing(engine) as connection:
        put(connection, policy)
    engine.dispose()


def capture_all(database: str, *, raw: bool) -> None:
    """Have all calls captured, as the command does."""
    log = Log.open(database)
    now = time.time_ns() // 1_000_000
    log.decisions.put_capture_rule(Rule(mode=Mode.ALL, raw=raw, since=now, until=now + HOUR))
    log.close()


def exchange_of(database: str, request_id: str) -> Exchange:
    """Return what was captured of a call."""
    log = Log.open(database)
    try:
        row = log.call(request_id)
        assert row is not None
        kept = log.exchange(row.id)
        assert kept is not None
        return unpack(kept)
    finally:
        log.close()


def score_of(database: str) -> Score:
    """Return the score of the only integration there is."""
    log = Log.open(database)
    try:
        (integration,) = log.scores()
        return log.score(integration)
    finally:
        log.close()


def compared(database: str) -> dict[str, set[str]]:
    """Return what differs in the answer to each call that was compared, by its request id."""
    engine = open_database(database, load_key(database, None))
    of_calls = select(CALLS.c.request_id, COMPARISONS.c.differences).where(
        CALLS.c.id == COMPARISONS.c.id
    )
    with engine.connect() as connection:
        found = {name: set(json.loads(told or "{}")) for name, told in connection.execute(of_calls)}
    engine.dispose()
    return found
