"""A bridge between the sandbox's v1 and its v2, with what an operator has decided of its callers."""

import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bridge.identity.callers import Way
from bridge.record.log.comparisons import Score, comparison
from bridge.record.log.database import load_key, open_database, writing
from bridge.record.log.finding import Filter
from bridge.record.log.policies import Policy, Side, put
from bridge.record.log.reports import CallRow, Log
from bridge.sandbox.app import create_sandbox
from bridge.sandbox.seeds import SANDBOX_TOKEN, USERS, V1_PASSWORDS
from bridge.sandbox.v1.app import create_v1
from tests.support.books import enter, write_token
from tests.support.legacy import Answer, LegacyClient
from tests.support.running import LOOPBACK, empty_log, running_app, running_service

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
        """The calls that v2 has had."""
        told: dict[str, Any] = await self._json(f"{self.v2}/sandbox/calls")
        calls: list[dict[str, Any]] = told["calls"]
        return calls

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

    async def keep_up(self, most: int = 50) -> None:
        """Wait until no more than so many are under way."""
        while True:
            async with aiohttp.request("GET", f"{self.admin}/metrics") as answer:
                metrics = await answer.text()
            told = re.search(
                r"^harvest_bridge_comparisons_in_progress (.*)$", metrics, re.MULTILINE
            )
            if told is not None and float(told[1]) <= most:
                return

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

    async def _post(self, url: str, content: Mapping[str, Any]) -> None:
        async with aiohttp.request("POST", url, json=content) as answer:
            assert answer.status < 300, await answer.text()

    async def _json(self, url: str) -> Any:
        async with aiohttp.request("GET", url) as answer:
            return await answer.json()


@asynccontextmanager
async def running_both(
    folder: Path, *, answered_by: Side = Side.V1, percent: int = 100, **settings: Any
) -> AsyncIterator[Both]:
    """Run them for the block; what is asked in the log is asked after it."""
    database = empty_log(folder)
    decide(database, Policy(answered_by=answered_by, shadow_percent=percent))
    book = folder / "book.toml"
    token = write_token(folder, "token", SANDBOX_TOKEN)
    user, password = USERS[SANDBOX_TOKEN], V1_PASSWORDS[SANDBOX_TOKEN]
    enter(book, "api-examples", user.email, password, user.account_id, token)
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


def score_of(database: str) -> Score:
    """Return the score of the only integration there is."""
    log = Log.open(database)
    try:
        (integration,) = log.scores()
        return log.score(integration)
    finally:
        log.close()


def calls_of(database: str) -> list[CallRow]:
    """Return the calls that there were, the first one first."""
    log = Log.open(database)
    try:
        return log.calls(Filter(), limit=1000).rows[::-1]
    finally:
        log.close()


def compared(database: str) -> dict[str, dict[str, int]]:
    """Return what differs in the answer to each call, by its request id."""
    engine = open_database(database, load_key(database, None))
    with engine.connect() as connection:
        found = {each.request_id: comparison(connection, each.id) for each in calls_of(database)}
    engine.dispose()
    return {name: told[1] for name, told in found.items() if told is not None}
