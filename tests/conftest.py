"""Fixtures of the whole suite: a sandbox, a scripted upstream, and bridges to either."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, settings

from bridge.sandbox.app import create_sandbox
from tests.support.legacy import LegacyClient
from tests.support.running import running_app, running_bridge
from tests.support.upstream import ScriptedUpstream, running_upstream

# How fast examples come says something of the machine, not of the code.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


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
