"""What all tests of the contract have in common."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.held_upstream import HeldUpstream, running_held_upstream
from tests.support.legacy import LegacyClient
from tests.support.logged import Logged, logging
from tests.support.origins import RawOrigin, running_origin
from tests.support.running import running_bridge


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once: how long the pauses are is tested with the gateway."""
    monkeypatch.setattr("bridge.upstream.gateway._backoff", lambda _tries: 0.0)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def log() -> Iterator[Logged]:
    with logging() as logged:
        yield logged


@pytest.fixture
async def held() -> AsyncIterator[HeldUpstream]:
    async with running_held_upstream() as upstream:
        yield upstream


@pytest.fixture
async def client(log: Logged, held: HeldUpstream, journal: Path) -> AsyncIterator[LegacyClient]:
    async with running_bridge(held.base_url, journal=journal) as legacy:
        yield legacy


@pytest.fixture
async def origin() -> AsyncIterator[RawOrigin]:
    async with running_origin() as raw:
        yield raw
