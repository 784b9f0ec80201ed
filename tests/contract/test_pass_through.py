"""Calls that v1 answers: how they come to the origin, and how its answers come back."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.held_upstream import HeldUpstream
from tests.support.legacy import BASIC, LegacyClient
from tests.support.logged import Logged
from tests.support.origins import RawOrigin, running_origin
from tests.support.running import running_bridge
from tests.support.writing import caught_up


@pytest.fixture
async def origin() -> AsyncIterator[RawOrigin]:
    async with running_origin() as raw:
        yield raw


@pytest.fixture
async def client(
    log: Logged, held: HeldUpstream, journal: Path, origin: RawOrigin
) -> AsyncIterator[LegacyClient]:
    async with running_bridge(held.base_url, journal=journal, legacy_origin=origin.url) as legacy:
        yield legacy


async def line(client: LegacyClient, log: Logged) -> dict[str, object]:
    """The log line of the first call that was made."""
    await caught_up(client)
    told, *_ = log.lines("legacy_call")
    return told


class TestWhatIsPassedThrough:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            pytest.param("GET", "/projects", id="what the bridge does not translate"),
            pytest.param("PUT", "/invoices/1/messages", id="a method it does not translate"),
            pytest.param("GET", "/login", id="a path that is none of v1's API"),
            pytest.param("GET", "/invoices/1/messages.json", id="JSON of v1"),
        ],
    )
    async def test_it_is_answered_by_v1(
        self, client: LegacyClient, origin: RawOrigin, log: Logged, method: str, path: str
    ) -> None:
        answer = await client.call(method, path)

        assert (answer.status, answer.body) == (200, b"<v1/>\n")
        assert origin.heads[0].startswith(f"{method} {path} HTTP/1.1\r\n".encode())
        told = await line(client, log)
        assert (told["outcome"], told["status"]) == ("passed-through", 200)

    async def test_credentials_come_as_the_client_sent_them(
        self, client: LegacyClient, origin: RawOrigin
    ) -> None:
        await client.get("/projects")

        assert f"\r\nAuthorization: {BASIC}\r\n".encode() in origin.heads[0]

    async def test_a_body_goes_up_and_an_answer_comes_down(
        self, client: LegacyClient, origin: RawOrigin
    ) -> None:
        answer = await client.call("POST", "/projects", body=b"<project/>" * 100_000)

        assert answer.status == 200
        assert origin.bodies == [b"<project/>" * 100_000]
