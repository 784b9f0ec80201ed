"""Fixtures of the whole suite: a sandbox, a scripted upstream, and bridges to either."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import structlog
from hypothesis import HealthCheck, settings

from bridge.sandbox.app import create_sandbox
from tests.support.legacy import LegacyClient
from tests.support.postgres import Server, running_server
from tests.support.running import running_app, running_bridge
from tests.support.upstream import ScriptedUpstream, running_upstream

# How fast examples come says something of the machine, not of the code.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


settings.register_profile("brief", settings.get_profile("unhurried"), max_examples=15)

SLOW = {
    "test_attacks.py",
    "test_cli.py",
    "test_credentials_cli.py",
    "test_hostile_texts.py",
    "test_in_a_browser.py",
    "test_integrations.py",
    "test_journal_cli.py",
    "test_leaving.py",
    "test_log_faults.py",
    "test_misbehaviour.py",
    "test_real_clients.py",
    "test_reports_page.py",
    "test_secrets.py",
    "test_service_manager.py",
    "test_several_bridges.py",
    "test_shared_journal.py",
    "test_six_steps.py",
    "test_smuggling.py",
    "test_tls.py",
}
"""Whole files of processes, of waits, and of hundreds of variants: a third of all the time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, and begin with the storms, lest everybody waits for one at the end."""
    for item in items:
        if item.path.name in SLOW:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.get_closest_marker("storm") is None)


@pytest.fixture(autouse=True, scope="session")
def uncollected() -> Iterator[None]:
    """A bridge has the garbage collector go through all there is when it starts.

    That is the whole suite here, and took half of its time. Bridges with a process of their own do.
    """
    with patch("bridge.server.service.gc"):
        yield


@pytest.fixture(autouse=True, scope="session")
def plain_tracebacks() -> None:
    """Where a test has not said how to log, structlog draws the local variables of each frame.

    Those of a bridge are all its field tables: ten seconds for one defect.
    """
    *_, renderer = structlog.get_config()["processors"]
    renderer.exception_formatter = structlog.dev.plain_traceback


@pytest.fixture
async def sandbox() -> AsyncIterator[str]:
    """The base URL of a fresh sandbox's v2."""
    async with running_app(create_sandbox()) as url:
        yield f"{url}/v2"


@pytest.fixture
async def bridge(sandbox: str) -> AsyncIterator[LegacyClient]:
    """A client of a bridge to the sandbox."""
    async with running_bridge(sandbox) as client:
        yield client


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """An upstream to be told what to say."""
    async with running_upstream() as scripted:
        yield scripted


@pytest.fixture
async def scripted_bridge(upstream: ScriptedUpstream) -> AsyncIterator[LegacyClient]:
    """A client of a bridge to the scripted upstream."""
    async with running_bridge(upstream.base_url) as client:
        yield client


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A PostgreSQL server, one for all tests of a process; who stops it has one of his own."""
    with running_server() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: Server) -> str:
    """The URL of a new database of PostgreSQL."""
    return postgres_server.new_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database for the translation log, of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "log.sqlite")
    url: str = request.getfixturevalue("postgres")
    return url
