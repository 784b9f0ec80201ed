"""Programs of four kinds, written for v1, do the same work with v1 and with a bridge.

Between the two, nothing of them is changed but the base URL.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.identity.callers import Way
from bridge.sandbox.app import create_sandbox
from bridge.sandbox.seeds import SANDBOX_ACCOUNT_ID
from bridge.sandbox.v1.app import create_v1
from tests.support.books import enter, write_token
from tests.support.integrations import ALL, INTEGRATIONS, Integration
from tests.support.legacy import LegacyClient
from tests.support.running import running_app, running_bridge

WORK = {
    "list": (200, "2"),
    "show": (200, "The message body goes here"),
    "send": (201, "27835324"),
    "payments": (200, "2"),
    "pay": (201, "10336386"),
    "clients": (200, "123 Industries"),
}
"""What comes of each step, done once in this order with a new sandbox."""


@asynccontextmanager
async def bridge_for(
    integration: Integration, v2: str, folder: Path
) -> AsyncIterator[LegacyClient]:
    """A bridge whose book has the integration's login with the password it gives v1."""
    book = folder / "book.toml"
    token = write_token(folder, "token", integration.token)
    enter(book, "acme", integration.login, integration.password, SANDBOX_ACCOUNT_ID, token)
    settings = {"auth": frozenset({Way.BOOK}), "book": book, "subdomain": "acme"}
    async with running_bridge(f"{v2}/v2", account_id=None, **settings) as client:
        yield client


@pytest.mark.parametrize("integration", INTEGRATIONS, ids=lambda each: each.name)
async def test_does_the_same_work_with_v1_and_with_a_bridge(
    integration: Integration, tmp_path: Path
) -> None:
    if integration.is_missing:
        pytest.skip(f"there is no {integration.tool} (Debian: {integration.packages})")
    v2 = create_sandbox()
    async with running_app(v2), running_app(create_v1(v2)) as v1:
        with_v1 = await integration.work(v1, *ALL)
    async with (
        running_app(create_sandbox()) as url,
        bridge_for(integration, url, tmp_path) as client,
    ):
        with_bridge = await integration.work(f"http://{client.host}:{client.port}", *ALL)

    done = [(step, *WORK[step]) for step in ALL]
    assert with_v1 == done
    assert with_bridge == [*done[:-1], ("clients", 501, "")]
