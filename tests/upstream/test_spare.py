"""Calls that no client waits for: how many there are, and that they are at nobody's expense."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from bridge.secret import Secret
from bridge.upstream.breaker import State
from bridge.upstream.gateway import Credential, Errand, Gateway, UpstreamLimits
from bridge.upstream.sharing import Worker
from bridge.upstream.spare import NoneToSpare, Spare, SpareLimits
from bridge.v2.errors import UpstreamUnreachable
from bridge.v2.rate_limit import MOST_CALLS, WINDOW
from bridge.v2.wire import V2Request, V2Response
from tests.support.clocks import HandClock, Leaps
from tests.support.gateways import Asker, free_port, running_gateway
from tests.support.held_upstream import running_held_upstream
from tests.support.running import LOOPBACK
from tests.support.upstream import Reply, ScriptedUpstream

LIST = V2Request("GET", "/invoices/1420/messages", "per_page=2000")
ONE, OTHER = "one", "other"


class TestHowMany:
    def test_a_tenth_of_the_limit_in_a_window(self) -> None:
        clock = HandClock()
        spare = Spare(clock, SpareLimits())

        for spent in range(MOST_CALLS // 10):
            spare.spend(ONE, spent, 1.0)
        with pytest.raises(NoneToSpare):
            spare.spend(ONE, 10, 1.0)
        spare.spend(OTHER, 0, 1.0)
        clock.advance(WINDOW + 1)
        spare.spend(ONE, 0, 1.0)

    def test_a_share_leaves_the_rest_to_others(self) -> None:
        spare = Spare(HandClock(), SpareLimits(calls=4))

        for spent in (0, 1):
            spare.spend(ONE, spent, 0.5)
        with pytest.raises(NoneToSpare):
            spare.spend(ONE, 2, 0.5)
        spare.spend(ONE, 2, 1.0)

    def test_none_while_clients_need_half_of_the_limit(self) -> None:
        spare = Spare(HandClock(), SpareLimits())

        spare.spend(ONE, MOST_CALLS // 2 - 1, 1.0)
        spare.spend(ONE, MOST_CALLS // 2, 1.0)  # one of which was spared
        with pytest.raises(NoneToSpare):
            spare.spend(ONE, MOST_CALLS // 2 + 2, 1.0)


def errand(token: str = "s3cret", seconds: float = 30.0) -> Errand:
    task = asyncio.current_task()
    assert task is not None
    deadline = asyncio.get_running_loop().time() + seconds
    return Errand(Credential(1000, Secret(token), vouched=True), seconds, deadline, Worker(task))


@pytest.fixture
async def leaps() -> Leaps:
    return Leaps()


@pytest.fixture
async def gateway(leaps: Leaps, upstream: ScriptedUpstream) -> AsyncIterator[Gateway]:
    upstream.says({"page": 1})
    async with running_gateway(upstream.base_url) as made:
        yield made


class TestWhatTheyCostOthers:
    async def test_it_is_asked_once_and_not_again(
        self, gateway: Gateway, upstream: ScriptedUpstream
    ) -> None:
        upstream.says(Reply(status=503))
        asked = errand()

        response = await gateway.send_spare(LIST, asked)

        assert response.status == 503
        assert [each.status for each in asked.calls] == [503]
        assert len(upstream.received) == 1

    async def test_they_count_towards_the_limit(self, gateway: Gateway) -> None:
        asked = errand()
        await gateway.send_spare(LIST, asked)

        assert gateway.rate(asked.credential).calls == 1

    async def test_none_is_made_where_clients_have_made_half_of_what_v2_allows(
        self, gateway: Gateway, upstream: ScriptedUpstream
    ) -> None:
        asker = Asker(gateway)
        for _ in range(MOST_CALLS // 2):
            await asker.send(LIST)

        with pytest.raises(NoneToSpare):
            await gateway.send_spare(LIST, errand())
        assert len(upstream.received) == MOST_CALLS // 2

    async def test_failures_open_no_breaker(
        self, gateway: Gateway, upstream: ScriptedUpstream
    ) -> None:
        upstream.says(Reply(status=500))
        for _ in range(10):
            await gateway.send_spare(LIST, errand())

        assert set(gateway.breakers().values()) == {State.CLOSED}
        upstream.says({})
        assert (await Asker(gateway).send(LIST)).status == 200

    async def test_nor_does_a_v2_that_is_not_there(self) -> None:
        async with running_gateway(f"http://{LOOPBACK}:{free_port()}/v2") as gateway:
            for _ in range(10):
                with pytest.raises(UpstreamUnreachable):
                    await gateway.send_spare(LIST, errand())

            assert set(gateway.breakers().values()) == {State.CLOSED}

    async def test_a_breaker_that_is_open_is_neither_passed_nor_probed(
        self, gateway: Gateway, upstream: ScriptedUpstream, leaps: Leaps
    ) -> None:
        asker = Asker(gateway)
        upstream.says(Reply(status=500))
        for _ in range(5):
            await Asker(gateway).ask(LIST).response()
        assert asker.state() == State.OPEN
        leaps.ahead(60)
        upstream.says({})

        with pytest.raises(NoneToSpare):
            await gateway.send_spare(LIST, errand())
        assert upstream.received == []
        assert asker.state() == State.OPEN
        assert (await asker.send(LIST)).status == 200  # the probe is a client's

    async def test_none_is_made_while_v2_throttles_the_token(
        self, gateway: Gateway, upstream: ScriptedUpstream, leaps: Leaps
    ) -> None:
        upstream.says(Reply(status=429, headers={"Retry-After": "15"}))
        await Asker(gateway).send(LIST)

        with pytest.raises(NoneToSpare):
            await gateway.send_spare(LIST, errand())
        assert len(upstream.received) == 1
        upstream.says({})
        leaps.ahead(16)
        assert (await gateway.send_spare(LIST, errand())).status == 200

    async def test_nor_where_another_bridge_was_told_so(
        self, gateway: Gateway, upstream: ScriptedUpstream
    ) -> None:
        asked = errand()
        gateway.throttled(asked.credential.key, 15.0)

        with pytest.raises(NoneToSpare):
            await gateway.send_spare(LIST, asked)
        assert upstream.received == []

    async def test_what_v2_says_of_the_limit_holds_for_all(
        self, upstream: ScriptedUpstream
    ) -> None:
        upstream.says(Reply(status=429, headers={"Retry-After": "9"}))
        async with running_gateway(upstream.base_url) as gateway:
            asked = errand()
            with pytest.raises(NoneToSpare):
                await gateway.send_spare(LIST, asked)

            assert 8 < gateway.rate(asked.credential).wait <= 9


async def test_they_take_no_place_of_clients_and_are_shared_with_none() -> None:
    few = UpstreamLimits(calls=2, calls_per_account=1)
    async with running_held_upstream() as held, running_gateway(held.base_url, few) as gateway:
        spared = asyncio.create_task(_send(gateway))
        of_shadow = await held.next()
        asking = Asker(gateway).ask(LIST)
        of_client = await held.next()
        of_client.answer({"client": 1})
        assert (await asking.response()).body == b'{"client": 1}'
        of_shadow.answer({"shadow": 1})
        assert (await spared).body == b'{"shadow": 1}'


async def _send(gateway: Gateway) -> V2Response:
    return await gateway.send_spare(LIST, errand())
