"""A bridge that captures what it serves, and what it has kept of that."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from time import time_ns
from typing import Any, NamedTuple

import pytest

from bridge.record.log.answers import CallRow
from bridge.record.log.capture import Mode, Rule
from bridge.record.log.events import ALL
from bridge.record.log.exchange import Exchange, unpack
from bridge.record.log.finding import Filter
from bridge.record.log.reports import Log
from bridge.server.service import Service
from tests.support.clocks import until
from tests.support.legacy import LegacyClient
from tests.support.logged import Logged
from tests.support.running import running_service

HOUR = 3600 * 1000


class Kept(NamedTuple):
    """A call, and both sides of it."""

    row: CallRow
    exchange: Exchange


def put_rule(
    database: Path, mode: Mode, *, integration: str = ALL, raw: bool = False, span: int = HOUR
) -> None:
    """Put a rule in force, as another process would."""
    now = time_ns() // 1_000_000
    with closing(Log.open(str(database))) as log:
        log.decisions.put_capture_rule(
            Rule(integration=integration, mode=mode, raw=raw, since=now, until=now + span)
        )


@asynccontextmanager
async def capturing(
    upstream: str,
    database: Path,
    log: Logged,
    mode: Mode = Mode.ALL,
    *,
    raw: bool = False,
    integration: str = ALL,
    **settings: Any,
) -> AsyncIterator[tuple[Service, LegacyClient]]:
    """Run a bridge with a rule in force; at the end of the block, all is in the database."""
    told = len(announced(log))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bridge.server.service.READ_EVERY", 0.0)
        async with running_service(
            upstream, account_id=1000, database=str(database), **settings
        ) as (service, client):
            put_rule(database, mode, raw=raw, integration=integration)
            name = integration or "all"
            await until(lambda: any(each["integration"] == name for each in announced(log)[told:]))
            yield service, client


def announced(log: Logged) -> list[dict[str, Any]]:
    """Return the lines that say what is captured."""
    return log.lines("capture_on")


def kept(database: Path) -> list[Kept]:
    """Return the calls that were captured, in the order in which they ended."""
    with closing(Log.open(str(database))) as log:
        rows = [row for row in log.calls(Filter()).rows if row.captured]
        return [Kept(row, unpack(log.exchange(row.id) or b"")) for row in reversed(rows)]


def all_rows(database: Path) -> list[CallRow]:
    """Return all calls, in the order in which they ended."""
    with closing(Log.open(str(database))) as log:
        return log.calls(Filter()).rows[::-1]
