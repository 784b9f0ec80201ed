"""The way to v2, over real sockets: tries, breakers, waits and shared calls.

The loop's clock leaps where time has to pass.
"""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from bridge.secret import Secret
from bridge.upstream import gateway as gateway_module
from bridge.upstream.breaker import Breaker, BreakerPolicy, State
from bridge.upstream.gateway import Credential, Gateway, UpstreamLimits
from bridge.v2.errors import (
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from bridge.v2.wire import V2Request, V2Response
from tests.support.clocks import Leaps, until
from tests.support.gateways import Asker, Asking, free_port, running_gateway
from tests.support.held_upstream import HeldUpstream, running_held_upstream
from tests.support.logged import logging
from tests.support.running import LOOPBACK
from tests.support.upstream import Reply, ScriptedUpstream

LIST = V2Request("GET", "/invoices/1420/messages", "per_page=2000")
OTHER = V2Request("GET", "/invoices/7/messages", "per_page=2000")
LOOK = V2Request("GET", "/invoices/1420/messages", "per_page=2000", settles=True)
DELETE = V2Request("DELETE", "/invoices/1420/messages/403")
CREATE = V2Request("POST", "/invoices/1420/messages", body=b'{"subject":"Hello"}')

PAUSE = 1.0
"""Seconds between two tries, in these tests."""
LATE = 40.0
"""Seconds: longer than any call may take."""


@pytest.fixture(autouse=True)
def even_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pauses last as long as a test can know."""
    monkeypatch.setattr(gateway_module, "_backoff", lambda _tries: PAUSE)


@pytest.fixture(autouse=True)
async def leaps() -> Leaps:
    """First of all, for a gateway keeps the clock that it finds."""
    return Leaps()


@pytest.fixture
async def held() -> AsyncIterator[HeldUpstream]:
    async with running_held_upstream() as upstream:
        yield upstream


@pytest.fixture
async def gateway(held: HeldUpstream) -> AsyncIterator[Gateway]:
    async with running_gateway(held.base_url) as made:
        yield made


@pytest.fixture
def asker(gateway: Gateway) -> Asker:
    return Asker(gateway)


@pytest.fixture
def steadfast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the breakers closed whatever fails."""
    policy = BreakerPolicy(failures=10**9)
    monkeypatch.setattr(gateway_module, "Breaker", partial(Breaker, policy=policy))


async def tried_again(asking: Asking, leaps: Leaps) -> None:
    """Let the pause pass that comes after the latest try."""
    await until(lambda: asking.calls and asking.calls[-1].milliseconds is not None)
    leaps.ahead(PAUSE)


async def refused(asker: Asker, request: V2Request = LIST) -> UpstreamUnavailable:
    """Make a call that is known not to be asked of v2."""
    asking = asker.ask(request)
    with pytest.raises(UpstreamUnavailable) as unavailable:
        await asking.response()
    assert asking.calls == []
    assert not unavailable.value.request_left
    return unavailable.value


class TestTries:
    @pytest.mark.parametrize("request_", [LIST, DELETE, CREATE], ids=lambda each: each.method)
    async def test_what_is_answered_is_asked_once(
        self, held: HeldUpstream, asker: Asker, request_: V2Request
    ) -> None:
        asking = asker.ask(request_)
        (await held.next()).answer({"id": 1})
        response = await asking.response()

        assert (response.status, response.body, response.repeated) == (200, b'{"id": 1}', False)
        assert [(call.method, call.path, call.status, call.error) for call in asking.calls] == [
            (request_.method, request_.path, 200, None)
        ]

    @pytest.mark.parametrize("request_", [LIST, DELETE], ids=lambda each: each.method)
    @pytest.mark.parametrize("status", [502, 503, 504])
    async def test_what_may_be_repeated_is_asked_four_times_at_most(
        self, held: HeldUpstream, asker: Asker, leaps: Leaps, request_: V2Request, status: int
    ) -> None:
        asking = asker.ask(request_)
        for _ in range(4):
            (await held.next()).answer(status=status)
            await tried_again(asking, leaps)
        response = await asking.response()

        assert (response.status, response.repeated) == (status, True)
        assert [call.status for call in asking.calls] == [status] * 4

    @pytest.mark.parametrize("request_", [LIST, DELETE], ids=lambda each: each.method)
    async def test_a_reset_is_worth_another_try(
        self, held: HeldUpstream, asker: Asker, leaps: Leaps, request_: V2Request
    ) -> None:
        asking = asker.ask(request_)
        (await held.next()).reset()
        await tried_again(asking, leaps)
        (await held.next()).answer()

        assert (await asking.response()).repeated
        assert [call.error for call in asking.calls] == ["UpstreamUnreachable", None]

    async def test_a_refused_connection_is_and_nothing_was_served_by_it(self, leaps: Leaps) -> None:
        port = free_port()
        async with running_gateway(f"http://{LOOPBACK}:{port}/v2") as gateway:
            asking = Asker(gateway).ask(DELETE)
            await until(lambda: asking.calls and asking.calls[-1].error)
            async with running_held_upstream(port=port) as held:
                leaps.ahead(PAUSE)
                (await held.next()).answer(status=404)
                response = await asking.response()

        assert (response.status, response.repeated) == (404, False)

    async def test_once_a_try_may_have_been_served_it_stays_so(self, leaps: Leaps) -> None:
        port = free_port()
        async with running_gateway(f"http://{LOOPBACK}:{port}/v2") as gateway:
            asker = Asker(gateway)
            async with running_held_upstream(port=port) as held:
                asking = asker.ask(DELETE)
                call = await held.next()
                call.reset()
            await tried_again(asking, leaps)  # nobody listens now
            await until(lambda: len(asking.calls) == 2)
            await until(lambda: asking.calls[1].error)
            async with running_held_upstream(port=port) as held:
                leaps.ahead(PAUSE)
                (await held.next()).answer(status=404)
                response = await asking.response()

        assert (response.status, response.repeated) == (404, True)

    @pytest.mark.parametrize("status", [200, 400, 401, 404, 408, 422, 429, 500, 501])
    @pytest.mark.parametrize("request_", [LIST, DELETE], ids=lambda each: each.method)
    async def test_other_answers_are_final(
        self, held: HeldUpstream, asker: Asker, status: int, request_: V2Request
    ) -> None:
        asking = asker.ask(request_)
        (await held.next()).answer(status=status)

        assert (await asking.response()).status == status
        assert len(held.calls) == 1

    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    async def test_a_post_is_made_once_whatever_is_answered(
        self, held: HeldUpstream, asker: Asker, status: int
    ) -> None:
        asking = asker.ask(CREATE)
        (await held.next()).answer(status=status, headers={"Retry-After": "0"})

        assert (await asking.response()).status == status
        assert len(held.calls) == 1

    async def test_a_post_is_made_once_even_if_it_breaks(
        self, held: HeldUpstream, asker: Asker
    ) -> None:
        asking = asker.ask(CREATE)
        (await held.next()).reset()

        with pytest.raises(UpstreamUnreachable) as broke:
            await asking.response()
        assert broke.value.request_left
        assert len(held.calls) == 1

    async def test_a_post_that_is_refused_the_connection_is_not_tried_again(self) -> None:
        async with running_gateway(f"http://{LOOPBACK}:{free_port()}/v2") as gateway:
            asking = Asker(gateway).ask(CREATE)
            with pytest.raises(UpstreamUnreachable) as unreachable:
                await asking.response()

        assert not unreachable.value.request_left
        assert len(asking.calls) == 1

    async def test_retry_after_is_waited_for(
        self, held: HeldUpstream, asker: Asker, leaps: Leaps
    ) -> None:
        asking = asker.ask(LIST)
        (await held.next()).answer(status=503, headers={"Retry-After": "7"})
        await until(lambda: asking.calls[0].status == 503)
        leaps.ahead(6)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(asking.calls) == 1

        leaps.ahead(1)
        (await held.next()).answer()
        assert (await asking.response()).status == 200

    async def test_nothing_is_tried_again_for_which_there_is_no_time(
        self, held: HeldUpstream, asker: Asker
    ) -> None:
        asking = asker.ask(LIST, seconds=30)
        (await held.next()).answer(status=503, headers={"Retry-After": "31"})

        assert (await asking.response()).status == 503
        assert len(held.calls) == 1

    async def test_all_tries_share_one_time(
        self, held: HeldUpstream, asker: Asker, leaps: Leaps
    ) -> None:
        asking = asker.ask(LIST, seconds=30)
        first = await held.next()
        leaps.ahead(25)
        first.answer(status=503)
        await tried_again(asking, leaps)
        second = await held.next()
        leaps.ahead(6)

        with pytest.raises(UpstreamTimeout):
            await asking.response()
        await second.until_left()

    async def test_time_that_is_up_is_final(
        self, held: HeldUpstream, asker: Asker, leaps: Leaps
    ) -> None:
        asking = asker.ask(LIST)
        call = await held.next()
        leaps.ahead(LATE)

        with pytest.raises(UpstreamTimeout):
            await asking.response()
        await call.until_left()
        assert len(held.calls) == 1

    @pytest.mark.parametrize("request_", [LIST, DELETE, CREATE], ids=lambda each: each.method)
    async def test_who_cancels_a_call_hangs_up_on_v2(
        self, held: HeldUpstream, asker: Asker, request_: V2Request
    ) -> None:
        asking = asker.ask(request_)
        call = await held.next()
        await asking.hang_up()

        await call.until_left()

    async def test_a_delete_that_may_have_been_served_is_not_told_as_never_asked(
        self, held: HeldUpstream, asker: Asker, leaps: Leaps
    ) -> None:
        """A 503 says that nothing was done (schemas/README.md, "Answers that are not 2xx")."""
        await failing(held, asker, 4)
        asking = asker.ask(DELETE)
        (await held.next()).reset()  # which opens the breaker
        await tried_again(asking, leaps)

        with pytest.raises(UpstreamUnreachable) as broke:
            await asking.response()
        assert broke.value.request_left


class TestRetryBudget:
    """With breakers that never open, for they would end the tries earlier."""

    @pytest.mark.usefixtures("steadfast")
    @pytest.mark.parametrize("calls", [10, 150])
    async def test_under_sustained_failure_a_fifth_more_is_asked_than_wanted(
        self, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, calls: int
    ) -> None:
        monkeypatch.setattr(gateway_module, "_backoff", lambda _tries: 0.0)
        upstream.says(Reply(b"", 503))
        async with running_gateway(upstream.base_url) as gateway:
            for _ in range(calls):
                assert (await Asker(gateway).send(DELETE)).status == 503

        assert len(upstream.received) <= 1.2 * calls + 10
        assert len(upstream.received) >= min(4 * calls, 1.2 * calls + 8)

    @pytest.mark.usefixtures("steadfast")
    async def test_each_account_has_its_own(
        self, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gateway_module, "_backoff", lambda _tries: 0.0)
        upstream.says(Reply(b"", 503))
        async with running_gateway(upstream.base_url) as gateway:
            for _ in range(20):
                await Asker(gateway, account_id=1).send(DELETE)
            upstream.received.clear()
            await Asker(gateway, account_id=2).send(DELETE)

        assert len(upstream.received) == 4


async def failing(held: HeldUpstream, asker: Asker, times: int, status: int = 500) -> None:
    """Have so many calls fail."""
    for _ in range(times):
        asking = asker.ask(LIST)
        (await held.next()).answer(status=status)
        await asking.response()


class TestAccountBreaker:
    async def test_opens_when_v2_fails_the_account(self, held: HeldUpstream, asker: Asker) -> None:
        await failing(held, asker, 5)

        assert asker.gateway.breakers() == {"upstream": State.CLOSED, "account 1000": State.OPEN}
        for request in (LIST, DELETE, CREATE):
            assert (await refused(asker, request)).retry_after == 5
        assert len(held.calls) == 5

    async def test_is_of_one_account(self, held: HeldUpstream, asker: Asker) -> None:
        await failing(held, asker, 5)
        asking = Asker(asker.gateway, account_id=7).ask(LIST)
        (await held.next()).answer()

        assert (await asking.response()).status == 200

    async def test_is_of_all_of_its_tokens(self, held: HeldUpstream, asker: Asker) -> None:
        await failing(held, asker, 5)

        await refused(Asker(asker.gateway, token="another"))

    async def test_writes_that_fail_count(self, held: HeldUpstream, asker: Asker) -> None:
        for _ in range(5):
            asking = asker.ask(CREATE)
            (await held.next()).answer(status=503)
            await asking.response()

        assert asker.state() == State.OPEN

    async def test_resets_count(self, held: HeldUpstream, asker: Asker) -> None:
        for _ in range(5):
            asking = asker.ask(CREATE)
            (await held.next()).reset()
            with pytest.raises(UpstreamUnreachable):
                await asking.response()

        assert asker.gateway.breakers() == {"upstream": State.CLOSED, "account 1000": State.OPEN}

    async def test_timeouts_count(self, held: HeldUpstream, asker: Asker, leaps: Leaps) -> None:
        late = [asker.ask(V2Request("GET", f"/invoices/{number}")) for number in range(5)]
        for _ in late:
            await held.next()
        leaps.ahead(LATE)
        for asking in late:
            with pytest.raises(UpstreamTimeout):
                await asking.response()

        assert asker.gateway.breakers() == {"upstream": State.CLOSED, "account 1000": State.OPEN}

    async def test_what_is_no_http_counts(self) -> None:
        async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"nonsense\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(nonsense, LOOPBACK, 0)
        url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}/v2"
        async with server, running_gateway(url) as gateway:
            for _ in range(5):
                await asyncio.gather(Asker(gateway).send(LIST), return_exceptions=True)

            assert gateway.breakers() == {"upstream": State.CLOSED, "account 1000": State.OPEN}

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 422, 429])
    async def test_refusals_do_not_count(self, upstream: ScriptedUpstream, status: int) -> None:
        upstream.says(Reply(b"", status))
        async with running_gateway(upstream.base_url) as gateway:
            for number in range(20):
                await Asker(gateway, token=str(number)).send(LIST)

            assert set(gateway.breakers().values()) == {State.CLOSED}

    async def test_calls_that_are_given_up_do_not_count(
        self, held: HeldUpstream, asker: Asker
    ) -> None:
        for _ in range(10):
            asking = asker.ask(LIST)
            call = await held.next()
            await asking.hang_up()
            await call.until_left()

        assert asker.state() == State.CLOSED

    async def test_calls_that_were_too_late_to_be_made_do_not_count(
        self, held: HeldUpstream, asker: Asker
    ) -> None:
        for _ in range(10):
            with pytest.raises(UpstreamTimeout) as late:
                await asker.send(LIST, seconds=-1)
            assert not late.value.request_left

        assert held.calls == []
        assert asker.state() == State.CLOSED

    async def test_one_probe_after_the_pause_closes_it(
        self, held: HeldUpstream, asker: Asker, leaps: Leaps
    ) -> None:
        await failing(held, asker, 5)
        leaps.ahead(5)
        probe = asker.ask(LIST)
        call = await held.next()
        assert asker.state() == State.HALF_OPEN
        await refused(asker, OTHER)
        call.answer(status=404)  # as good as any other answer
        await probe.response()

        assert asker.state() == State.CLOSED
        asking = asker.ask(OTHER)
        (await held.next()).answer()
        await asking.response()

    async def test_a_probe_that_fails_opens_it_for_twice_as_long(
        self, held: HeldUpstream, asker: Asker, leaps: Leaps
    ) -> None:
        await failing(held, asker, 5)
        for pause in (10, 20, 40, 60, 60):
            leaps.ahead(60)
            await failing(held, asker, 1)

            assert (await refused(asker)).retry_after == pause

    async def test_a_probe_that_is_given_up_leaves_its_place_to_the_next(
        self, held: HeldUpstream, asker: Asker, leaps: Leaps
    ) -> None:
        await failing(held, asker, 5)
        leaps.ahead(5)
        probe = asker.ask(LIST)
        await held.next()
        await probe.hang_up()

        next_probe = asker.ask(LIST)
        (await held.next()).answer()
        await next_probe.response()
        assert asker.state() == State.CLOSED

    async def test_a_look_passes_it_and_does_not_close_it(
        self, held: HeldUpstream, asker: Asker
    ) -> None:
        await failing(held, asker, 5)
        asking = asker.ask(LOOK)
        (await held.next()).answer()

        assert (await asking.response()).status == 200
        assert asker.state() == State.OPEN

    async def test_each_new_state_is_logged(self, held: HeldUpstream, leaps: Leaps) -> None:
        with logging() as log:
            async with running_gateway(held.base_url) as gateway:
                asker = Asker(gateway)
                await failing(held, asker, 5)
                leaps.ahead(5)
                await failing(held, asker, 1, status=200)

        assert [(line["of"], line["state"]) for line in log.lines("breaker")] == [
            ("account 1000", "open"),
            ("account 1000", "half-open"),
            ("account 1000", "closed"),
        ]


class TestReachBreaker:
    @pytest.fixture
    def port(self) -> int:
        return free_port()

    @pytest.fixture
    async def cut_off(self, port: int) -> AsyncIterator[Gateway]:
        """A gateway to where nobody listens, which has found that out."""
        async with running_gateway(f"http://{LOOPBACK}:{port}/v2") as gateway:
            for _ in range(5):
                with pytest.raises(UpstreamUnreachable):
                    await Asker(gateway).send(CREATE)
            yield gateway

    async def test_opens_for_all_accounts_and_blames_none(self, cut_off: Gateway) -> None:
        assert cut_off.breakers() == {"upstream": State.OPEN, "account 1000": State.CLOSED}
        for account_id in (1000, 7):
            assert (await refused(Asker(cut_off, account_id=account_id))).retry_after == 5

    async def test_closes_when_v2_can_be_reached_whatever_it_answers(
        self, cut_off: Gateway, leaps: Leaps, port: int
    ) -> None:
        async with running_held_upstream(port=port) as held:
            leaps.ahead(5)
            asking = Asker(cut_off).ask(CREATE)
            (await held.next()).answer(status=500)
            await asking.response()

        assert cut_off.breakers()["upstream"] == State.CLOSED

    async def test_a_probe_that_the_accounts_breaker_stops_leaves_its_place_to_the_next(
        self, leaps: Leaps, port: int
    ) -> None:
        async with running_gateway(f"http://{LOOPBACK}:{port}/v2") as gateway:
            async with running_held_upstream(port=port) as held:
                await failing(held, Asker(gateway, account_id=1), 5)
                leaps.ahead(5)
                await failing(held, Asker(gateway, account_id=1), 1)
            for _ in range(5):
                with pytest.raises(UpstreamUnreachable):
                    await Asker(gateway, account_id=2).send(CREATE)
            leaps.ahead(5)
            await refused(Asker(gateway, account_id=1), CREATE)
            async with running_held_upstream(port=port) as held:
                asking = Asker(gateway, account_id=2).ask(CREATE)
                (await held.next()).answer()
                await asking.response()

            assert gateway.breakers() == {
                "upstream": State.CLOSED,
                "account 1": State.OPEN,
                "account 2": State.CLOSED,
            }


def stranger(gateway: Gateway, token: str = "made-up", **more: Any) -> Asker:
    """Somebody whose token v2 has not accepted, nor the operator put in place."""
    return Asker(gateway, token=token, vouched=False, **more)


class TestStrangers:
    """What credentials that v2 has not accepted bring about is not for the others to bear."""

    async def test_what_fails_for_them_does_not_open_the_accounts_breaker(
        self, held: HeldUpstream, asker: Asker
    ) -> None:
        await failing(held, stranger(asker.gateway), 5)
        asking = asker.ask(LIST)
        (await held.next()).answer()

        assert (await asking.response()).status == 200
        assert asker.gateway.breakers() == {
            "upstream": State.CLOSED,
            "upstream (strangers)": State.CLOSED,
            "account 1000": State.CLOSED,
            "account 1000 (strangers)": State.OPEN,
        }

    async def test_a_v2_that_fails_them_is_spared_by_them(
        self, held: HeldUpstream, asker: Asker
    ) -> None:
        await failing(held, stranger(asker.gateway), 5)

        await refused(stranger(asker.gateway, "another"))

    async def test_their_calls_are_no_probes_of_the_accounts_breaker(
        self, held: HeldUpstream, asker: Asker, leaps: Leaps
    ) -> None:
        await failing(held, asker, 5)
        leaps.ahead(5)
        waits = stranger(asker.gateway).ask(LIST)
        hangs = await held.next()
        assert asker.state() == State.OPEN
        asking = asker.ask(LIST)
        (await held.next()).answer()

        assert (await asking.response()).status == 200
        assert asker.state() == State.CLOSED
        hangs.answer(status=401)
        await waits.response()

    async def test_their_refusals_keep_no_breaker_open(
        self, held: HeldUpstream, asker: Asker, leaps: Leaps
    ) -> None:
        await failing(held, asker, 5)
        await failing(held, stranger(asker.gateway), 5)
        leaps.ahead(5)
        for _ in range(3):
            await failing(held, stranger(asker.gateway), 1, status=401)
        await failing(held, asker, 1, status=200)

        assert set(asker.gateway.breakers().values()) == {State.CLOSED}

    async def test_they_are_no_probe_of_whether_v2_can_be_reached(self, leaps: Leaps) -> None:
        port = free_port()
        async with running_gateway(f"http://{LOOPBACK}:{port}/v2") as gateway:
            for _ in range(5):
                with pytest.raises(UpstreamUnreachable):
                    await Asker(gateway).send(CREATE)
            leaps.ahead(5)
            async with running_held_upstream(port=port) as held:
                stranger(gateway).ask(CREATE)
                await held.next()  # and hangs
                asking = Asker(gateway).ask(CREATE)
                (await held.next()).answer()

                assert (await asking.response()).status == 200
                assert gateway.breakers()["upstream"] == State.CLOSED

    async def test_a_v2_that_they_could_not_reach_is_asked_for_others(self) -> None:
        port = free_port()
        async with running_gateway(f"http://{LOOPBACK}:{port}/v2") as gateway:
            for _ in range(5):
                with pytest.raises(UpstreamUnreachable):
                    await stranger(gateway).send(CREATE)
            async with running_held_upstream(port=port) as held:
                asking = Asker(gateway).ask(CREATE)
                (await held.next()).answer()
                assert (await asking.response()).status == 200

    async def test_they_use_up_second_tries_of_their_own_only(
        self, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gateway_module, "_backoff", lambda _tries: 0.0)
        upstream.says(Reply(b"", 503))
        async with running_gateway(upstream.base_url) as gateway:
            for number in range(20):
                await asyncio.gather(
                    stranger(gateway, str(number)).send(DELETE), return_exceptions=True
                )
            upstream.received.clear()
            assert (await Asker(gateway).send(DELETE)).status == 503

        assert len(upstream.received) == 4

    async def test_of_many_accounts_they_do_not_take_all_places(self, held: HeldUpstream) -> None:
        async with running_gateway(
            held.base_url, UpstreamLimits(calls=10, calls_per_account=5)
        ) as gateway:
            for account_id in range(1, 11):
                stranger(gateway, account_id=account_id).ask(LIST)
            for _ in range(2):
                await held.next()
            asking = Asker(gateway).ask(LIST)
            (await held.next()).answer()
            await asking.response()

            assert [call.token for call in held.calls] == ["made-up", "made-up", "s3cret"]

    async def test_many_from_one_address_keep_none_from_another_waiting(
        self, held: HeldUpstream
    ) -> None:
        async with running_gateway(held.base_url, UpstreamLimits(calls_per_account=5)) as gateway:
            for number in range(10):
                stranger(gateway, str(number), network="192.0.2.1").ask(LIST)
            first = await held.next()
            stranger(gateway, "newcomer", network="198.51.100.1").ask(LIST)
            await asyncio.sleep(0)
            first.answer(status=401)
            (await held.next()).answer(status=401)
            await held.next()

            assert [call.token for call in held.calls] == ["0", "1", "newcomer"]

    async def test_an_outage_is_what_others_suffer_if_there_are_any(
        self, held: HeldUpstream, gateway: Gateway
    ) -> None:
        await failing(held, stranger(gateway), 5)
        assert gateway.outage() == "v2 fails every account"
        await failing(held, Asker(gateway), 1, status=200)
        assert gateway.outage() is None

        await failing(held, Asker(gateway), 5)
        await failing(held, stranger(gateway, account_id=7), 1, status=401)
        assert gateway.outage() == "v2 fails every account"


class TestTimeThatIsLeft:
    """What has waited in the bridge itself says nothing of v2, and asks it for no half-answers."""

    @staticmethod
    async def waiting(
        held: HeldUpstream, asker: Asker, leaps: Leaps, seconds: float, times: int = 1
    ) -> list[Asking]:
        """Have calls wait for so many seconds of 30, each behind one that then gets its answer."""
        behind = [
            asker.ask(V2Request("GET", f"/invoices/{number}"), seconds=100)
            for number in range(times)
        ]
        calls = [await held.next() for _ in behind]
        asked = [
            asker.ask(V2Request("GET", f"/invoices/{number}/messages")) for number in range(times)
        ]
        await asyncio.sleep(0)
        leaps.ahead(seconds)
        for call in calls:
            call.answer()
        await asyncio.gather(*(each.response() for each in behind))
        return asked

    @staticmethod
    async def slow(held: HeldUpstream, asker: Asker, leaps: Leaps, seconds: float) -> None:
        """Have v2 take so long for its answers, again and again."""
        for _ in range(50):
            asking = asker.ask(OTHER)
            call = await held.next()
            leaps.ahead(seconds)
            call.answer()
            await asking.response()

    async def test_a_timeout_of_what_had_waited_does_not_count(
        self, held: HeldUpstream, leaps: Leaps
    ) -> None:
        async with running_gateway(held.base_url, UpstreamLimits(calls_per_account=5)) as gateway:
            asker = Asker(gateway)
            asked = await self.waiting(held, asker, leaps, 21, times=5)
            for _ in asked:
                await held.next()
            leaps.ahead(10)
            for asking in asked:
                with pytest.raises(UpstreamTimeout):
                    await asking.response()

            assert asker.state() == State.CLOSED

    async def test_nothing_leaves_in_the_last_fifteenth_of_its_time(
        self, held: HeldUpstream, leaps: Leaps
    ) -> None:
        async with running_gateway(held.base_url, UpstreamLimits(calls_per_account=1)) as gateway:
            (asking,) = await self.waiting(held, Asker(gateway), leaps, 28.5)

            with pytest.raises(UpstreamUnavailable) as unavailable:
                await asking.response()
            assert unavailable.value.time_is_up
            assert len(held.calls) == 1

    async def test_nothing_leaves_with_less_time_than_v2_took_of_late(
        self, held: HeldUpstream, leaps: Leaps
    ) -> None:
        async with running_gateway(held.base_url, UpstreamLimits(calls_per_account=1)) as gateway:
            asker = Asker(gateway)
            await self.slow(held, asker, leaps, 8)
            before = len(held.calls)
            (asking,) = await self.waiting(held, asker, leaps, 24)

            with pytest.raises(UpstreamUnavailable):
                await asking.response()
            assert len(held.calls) == before + 1

    async def test_however_slow_v2_was_a_third_of_the_time_is_enough(
        self, held: HeldUpstream, leaps: Leaps
    ) -> None:
        async with running_gateway(held.base_url, UpstreamLimits(calls_per_account=1)) as gateway:
            asker = Asker(gateway)
            await self.slow(held, asker, leaps, 25)
            (asking,) = await self.waiting(held, asker, leaps, 19)
            (await held.next()).answer()

            assert (await asking.response()).status == 200

    async def test_a_look_leaves_with_whatever_is_left(
        self, held: HeldUpstream, asker: Asker
    ) -> None:
        asking = asker.ask(LOOK, seconds=1)
        asking.errand.seconds = 30
        (await held.next()).answer()

        assert (await asking.response()).status == 200

    async def test_a_second_try_does_not_leave_so_late_either(
        self, held: HeldUpstream, asker: Asker, leaps: Leaps
    ) -> None:
        asking = asker.ask(LIST)
        call = await held.next()
        leaps.ahead(27.5)
        call.answer(status=503)

        assert (await asking.response()).status == 503
        assert len(held.calls) == 1


class TestOutage:
    async def test_there_is_none_before_anything_was_asked(self, gateway: Gateway) -> None:
        assert gateway.outage() is None
        assert gateway.breakers() == {"upstream": State.CLOSED}

    async def test_while_v2_cannot_be_reached_until_the_pause_is_over(self, leaps: Leaps) -> None:
        async with running_gateway(f"http://{LOOPBACK}:{free_port()}/v2") as gateway:
            for _ in range(5):
                with pytest.raises(UpstreamUnreachable):
                    await Asker(gateway).send(CREATE)
            assert gateway.outage() == "v2 is not to be reached"
            leaps.ahead(5)
            assert gateway.outage() is None

    async def test_while_every_account_fails_until_one_pause_is_over(
        self, held: HeldUpstream, gateway: Gateway, leaps: Leaps
    ) -> None:
        await failing(held, Asker(gateway, account_id=1), 5)
        asking = Asker(gateway, account_id=2).ask(LIST)
        (await held.next()).answer()
        await asking.response()
        assert gateway.outage() is None

        await failing(held, Asker(gateway, account_id=2), 5)
        assert gateway.outage() == "v2 fails every account"
        leaps.ahead(5)
        assert gateway.outage() is None


class TestThrottle:
    async def throttled(
        self, held: HeldUpstream, asker: Asker, request: V2Request = LIST, **headers: str
    ) -> V2Response:
        asking = asker.ask(request)
        (await held.next()).answer(
            status=429, headers={name.replace("_", "-"): text for name, text in headers.items()}
        )
        return await asking.response()

    async def test_a_token_that_is_told_to_wait_is_not_used_before(
        self, held: HeldUpstream, asker: Asker, leaps: Leaps
    ) -> None:
        response = await self.throttled(held, asker, Retry_After="9")
        assert (response.status, response.retry_after) == (429, 9)

        for request in (LIST, DELETE, CREATE, LOOK):
            assert (await refused(asker, request)).retry_after == 9
        leaps.ahead(4.5)
        assert (await refused(asker)).retry_after == 5
        leaps.ahead(4.5)
        asking = asker.ask(LIST)
        (await held.next()).answer()
        assert (await asking.response()).status == 200

    async def test_without_a_retry_after_it_is_the_length_of_v2s_window(
        self, held: HeldUpstream, asker: Asker
    ) -> None:
        await self.throttled(held, asker)

        assert (await refused(asker)).retry_after == 15

    @pytest.mark.parametrize(
        ("sent", "told"), [("0", 1), ("Wed, 21 Oct 2020 07:28:00 GMT", 1), ("999999999", 3600)]
    )
    async def test_no_wait_is_shorter_than_a_second_or_longer_than_an_hour(
        self, held: HeldUpstream, asker: Asker, sent: str, told: int
    ) -> None:
        await self.throttled(held, asker, Retry_After=sent)

        assert (await refused(asker)).retry_after == told

    async def test_other_tokens_and_accounts_are_not_concerned(
        self, held: HeldUpstream, asker: Asker
    ) -> None:
        await self.throttled(held, asker, Retry_After="9")
        for other in (
            Asker(asker.gateway, token="another"),
            Asker(asker.gateway, account_id=7),
        ):
            asking = other.ask(LIST)
            (await held.next()).answer()
            assert (await asking.response()).status == 200

    @pytest.mark.parametrize(
        "date",
        ["Mon, 1 Jan 99999999999999999999 00:00:00 GMT", "Mon, 1 Jan 2020 00:00:00 +99999999999999"],
    )  # fmt: skip
    async def test_a_retry_after_that_is_no_date_counts_as_none(
        self, held: HeldUpstream, asker: Asker, date: str
    ) -> None:
        response = await self.throttled(held, asker, Retry_After=date)

        assert (response.status, response.retry_after) == (429, None)
        assert (await refused(asker)).retry_after == 15

    async def test_a_call_that_waited_for_its_place_meanwhile_is_not_made_either(
        self, held: HeldUpstream
    ) -> None:
        async with running_gateway(held.base_url, UpstreamLimits(calls_per_account=1)) as gateway:
            first, second = Asker(gateway).ask(LIST), Asker(gateway).ask(OTHER)
            (await held.next()).answer(status=429, headers={"Retry-After": "9"})
            assert (await first.response()).status == 429
            await until(lambda: second.task.done() or len(held.calls) > 1)

            assert len(held.calls) == 1
            with pytest.raises(UpstreamUnavailable):
                await second.response()

    @pytest.mark.parametrize("request_", [LIST, DELETE, CREATE], ids=lambda each: each.method)
    async def test_a_short_wait_is_made_where_that_is_set(
        self, held: HeldUpstream, leaps: Leaps, request_: V2Request
    ) -> None:
        async with running_gateway(held.base_url, UpstreamLimits(throttle_wait=9)) as gateway:
            asking = Asker(gateway).ask(request_)
            (await held.next()).answer(status=429, headers={"Retry-After": "9"})
            await until(lambda: asking.calls[0].status == 429)
            later = Asker(gateway).ask(OTHER)
            for _ in range(50):
                await asyncio.sleep(0)
            assert len(held.calls) == 1

            leaps.ahead(9)
            for _ in range(2):
                (await held.next()).answer()
            assert (await asking.response()).status == 200
            assert (await later.response()).status == 200

    @pytest.mark.parametrize("sent", ["0", "Wed, 21 Oct 2020 07:28:00 GMT"])
    async def test_where_v2_asks_for_no_wait_it_is_a_second_and_the_call_is_served(
        self, held: HeldUpstream, leaps: Leaps, sent: str
    ) -> None:
        async with running_gateway(held.base_url, UpstreamLimits(throttle_wait=1)) as gateway:
            asking = Asker(gateway).ask(CREATE)
            (await held.next()).answer(status=429, headers={"Retry-After": sent})
            await until(lambda: asking.calls[0].status == 429)
            for _ in range(50):
                await asyncio.sleep(0)
            assert len(held.calls) == 1

            leaps.ahead(1)
            (await held.next()).answer()
            assert (await asking.response()).status == 200

    @pytest.mark.parametrize(("wait", "seconds"), [("10", 30.0), ("9", 8.0)], ids=["set", "left"])
    async def test_no_wait_is_made_that_is_longer_than(
        self, held: HeldUpstream, wait: str, seconds: float
    ) -> None:
        async with running_gateway(held.base_url, UpstreamLimits(throttle_wait=9)) as gateway:
            asking = Asker(gateway).ask(CREATE, seconds=seconds)
            (await held.next()).answer(status=429, headers={"Retry-After": wait})

            assert (await asking.response()).status == 429


class TestRate:
    async def test_the_calls_of_a_token_are_counted(self, held: HeldUpstream, asker: Asker) -> None:
        for request in (LIST, OTHER, DELETE, CREATE, LOOK):
            asking = asker.ask(request)
            (await held.next()).answer()
            await asking.response()

        assert self.rate(asker) == (5, 0)
        assert self.rate(Asker(asker.gateway, token="another")) == (0, 0)
        assert self.rate(Asker(asker.gateway, account_id=7)) == (0, 0)

    async def test_every_try_counts_whatever_comes_of_it(
        self, held: HeldUpstream, asker: Asker, leaps: Leaps
    ) -> None:
        asking = asker.ask(LIST)
        (await held.next()).answer(status=503)
        await tried_again(asking, leaps)
        (await held.next()).reset()
        await tried_again(asking, leaps)
        (await held.next()).answer()
        await asking.response()

        assert self.rate(asker) == (3, 0)

    async def test_to_join_a_call_is_none(self, held: HeldUpstream, asker: Asker) -> None:
        first, second = asker.ask(LIST), asker.ask(LIST)
        call = await held.next()
        await second.joined()
        call.answer()
        await asyncio.gather(first.response(), second.response())

        assert self.rate(asker) == (1, 0)

    async def test_calls_are_forgotten_when_v2_has_forgotten_them(
        self, held: HeldUpstream, asker: Asker, leaps: Leaps
    ) -> None:
        asking = asker.ask(LIST)
        (await held.next()).answer()
        await asking.response()
        leaps.ahead(17)

        assert self.rate(asker) == (0, 0)

    async def test_a_token_that_has_to_wait_says_for_how_long_yet(
        self, held: HeldUpstream, asker: Asker, leaps: Leaps
    ) -> None:
        asking = asker.ask(LIST)
        (await held.next()).answer(status=429, headers={"Retry-After": "9"})
        await asking.response()
        leaps.ahead(4)
        await refused(asker)

        calls, wait = self.rate(asker)
        assert calls == 1
        assert 4 < wait <= 5

    @staticmethod
    def rate(asker: Asker) -> tuple[int, float]:
        rate = asker.gateway.rate(Credential(asker.account_id, Secret(asker.token), asker.vouched))
        return rate.calls, rate.wait


class TestSharedCalls:
    async def test_equal_gets_are_one_call(self, held: HeldUpstream, asker: Asker) -> None:
        first = asker.ask(LIST)
        call = await held.next()
        others = [asker.ask(LIST) for _ in range(5)]
        for other in others:
            await other.joined()
        call.answer({"id": 1})

        responses = await asyncio.gather(*(each.response() for each in (first, *others)))
        assert {response.body for response in responses} == {b'{"id": 1}'}
        assert len(held.calls) == 1
        assert not first.calls[0].shared
        for other in others:
            (told,) = other.calls
            assert (told.shared, told.status) == (True, 200)
            assert told.milliseconds is not None

    @pytest.mark.parametrize(
        ("token", "account_id", "request_"),
        [
            pytest.param("another", 1000, LIST, id="token"),
            pytest.param("s3cret", 7, LIST, id="account"),
            pytest.param("s3cret", 1000, OTHER, id="path"),
            pytest.param(
                "s3cret", 1000, V2Request("GET", LIST.path, "per_page=100"), id="parameters"
            ),
            pytest.param("s3cret", 1000, LOOK, id="look that settles a write"),
        ],
    )
    async def test_what_differs_by_anything_is_a_call_of_its_own(
        self,
        held: HeldUpstream,
        asker: Asker,
        token: str,
        account_id: int,
        request_: V2Request,
    ) -> None:
        first = asker.ask(LIST)
        call = await held.next()
        second = Asker(asker.gateway, token, account_id).ask(request_)
        another = await held.next()
        assert (another.token, another.account_id) == (token, str(account_id))
        another.answer({"id": 2})
        call.answer({"id": 1})

        assert (await first.response()).body == b'{"id": 1}'
        assert (await second.response()).body == b'{"id": 2}'

    async def test_nobody_joins_a_look_that_settles_a_write(
        self, held: HeldUpstream, asker: Asker
    ) -> None:
        asker.ask(LOOK)
        await held.next()
        for request in (LOOK, LIST):
            asker.ask(request)
            await held.next()

        assert len(held.calls) == 3

    @pytest.mark.parametrize("request_", [DELETE, CREATE], ids=lambda each: each.method)
    async def test_writes_are_never_shared(
        self, held: HeldUpstream, asker: Asker, request_: V2Request
    ) -> None:
        for _ in range(2):
            asker.ask(request_)
            await held.next()

        assert len(held.calls) == 2

    async def test_who_asks_after_a_write_does_not_join_who_asked_before(
        self, held: HeldUpstream, asker: Asker
    ) -> None:
        before = asker.ask(LIST)
        old = await held.next()
        meanwhile = asker.ask(LIST)
        await meanwhile.joined()
        asker.gateway.wrote(asker.account_id)

        after = asker.ask(LIST)
        fresh = await held.next()
        fresh.answer({"seen": "new"})
        assert (await after.response()).body == b'{"seen": "new"}'
        old.answer({"seen": "old"})
        for each in (before, meanwhile):
            assert (await each.response()).body == b'{"seen": "old"}'

    async def test_writes_of_other_accounts_do_not_matter(
        self, held: HeldUpstream, asker: Asker
    ) -> None:
        asker.ask(LIST)
        await held.next()
        asker.gateway.wrote(7)

        await asker.ask(LIST).joined()

    @pytest.mark.parametrize("leaving", [0, 1], ids=["who began", "a joiner"])
    async def test_who_hangs_up_does_not_take_the_others_along(
        self, held: HeldUpstream, asker: Asker, leaving: int
    ) -> None:
        both = [asker.ask(LIST)]
        call = await held.next()
        both.append(asker.ask(LIST))
        await both[1].joined()
        await both.pop(leaving).hang_up()
        assert call.is_open
        call.answer({"id": 1})

        assert (await both[0].response()).body == b'{"id": 1}'

    async def test_v2_is_hung_up_on_when_all_have(self, held: HeldUpstream, asker: Asker) -> None:
        both = [asker.ask(LIST)]
        call = await held.next()
        both.append(asker.ask(LIST))
        await both[1].joined()
        for each in both:
            assert call.is_open
            await each.hang_up()

        await call.until_left()

    async def test_joiners_share_the_error_and_each_is_told(
        self, held: HeldUpstream, asker: Asker
    ) -> None:
        first = asker.ask(LIST, seconds=PAUSE)  # no time for another try
        call = await held.next()
        second = asker.ask(LIST, seconds=PAUSE)
        await second.joined()
        call.reset()

        for each in (first, second):
            with pytest.raises(UpstreamUnreachable):
                await each.response()
        assert second.calls[0].error == "UpstreamUnreachable"

    async def test_joiners_with_time_left_go_on_by_themselves_and_with_each_other(
        self, held: HeldUpstream, asker: Asker, leaps: Leaps
    ) -> None:
        first = asker.ask(LIST, seconds=10)
        call = await held.next()
        others = [asker.ask(LIST, seconds=30) for _ in range(3)]
        for other in others:
            await other.joined()
        leaps.ahead(12)
        with pytest.raises(UpstreamTimeout):
            await first.response()
        await call.until_left()

        (await held.next()).answer({"id": 2})
        for other in others:
            assert (await other.response()).body == b'{"id": 2}'
        assert len(held.calls) == 2

    async def test_joiners_go_on_where_who_began_had_no_time_to_wait_for_a_place(
        self, held: HeldUpstream, leaps: Leaps
    ) -> None:
        async with running_gateway(held.base_url, UpstreamLimits(calls_per_account=1)) as gateway:
            asker = Asker(gateway)
            asker.ask(OTHER, seconds=100)
            in_the_way = await held.next()
            first = asker.ask(LIST, seconds=10)
            await asyncio.sleep(0)
            second = asker.ask(LIST, seconds=100)
            await second.joined()
            leaps.ahead(12)
            with pytest.raises(UpstreamUnavailable):
                await first.response()
            in_the_way.answer()
            await until(lambda: second.task.done() or len(held.calls) > 1)

            assert len(held.calls) == 2
            held.calls[1].answer({"id": 2})
            assert (await second.response()).body == b'{"id": 2}'

    async def test_nobody_waits_for_longer_than_the_own_time_for_what_another_began(
        self, held: HeldUpstream, asker: Asker, leaps: Leaps
    ) -> None:
        asker.ask(LIST, seconds=1000)
        call = await held.next()
        second = asker.ask(LIST, seconds=30)
        await second.joined()
        leaps.ahead(LATE)
        for _ in range(50):
            await asyncio.sleep(0)

        assert call.is_open
        assert second.task.done()
        with pytest.raises(UpstreamTimeout):
            await second.response()


class TestPlaces:
    async def test_no_account_has_more_calls_under_way_than_it_may(
        self, held: HeldUpstream
    ) -> None:
        async with running_gateway(held.base_url, UpstreamLimits(calls_per_account=2)) as gateway:
            asked = [
                Asker(gateway).ask(V2Request("GET", f"/invoices/{number}")) for number in range(5)
            ]
            calls = [await held.next(), await held.next()]
            other = Asker(gateway, account_id=7).ask(LIST)
            (await held.next()).answer()  # another account's is made meanwhile
            await other.response()
            assert len(held.calls) == 3
            for _ in asked:
                calls.pop(0).answer()
                if len(held.calls) < 6:
                    calls.append(await held.next())

            for asking in asked:
                assert (await asking.response()).status == 200

    async def test_strangers_have_few_of_their_own(self, held: HeldUpstream) -> None:
        async with running_gateway(held.base_url, UpstreamLimits(calls_per_account=10)) as gateway:
            strangers = [
                Asker(gateway, token=str(number), vouched=False).ask(LIST) for number in range(3)
            ]
            calls = [await held.next(), await held.next()]
            known = Asker(gateway).ask(LIST)
            (await held.next()).answer()
            await known.response()
            assert len(held.calls) == 3
            for call in calls:
                call.answer(status=401)
            (await held.next()).answer(status=401)
            for each in strangers:
                assert (await each.response()).status == 401

    async def test_whom_v2_has_accepted_is_no_stranger(self, held: HeldUpstream) -> None:
        async with running_gateway(held.base_url, UpstreamLimits(calls_per_account=5)) as gateway:
            asker = Asker(gateway, vouched=False)
            credential = Credential(asker.account_id, Secret(asker.token))
            for status, known in (
                (401, False),
                (404, False),
                (200, True),
                (404, True),
                (401, False),
                (200, True),
            ):
                asking = asker.ask(LIST)
                (await held.next()).answer(status=status)
                await asking.response()
                assert gateway.knows(credential) is known

            assert not gateway.knows(Credential(7, Secret(asker.token)))
            for number in range(5):
                asker.ask(V2Request("GET", f"/invoices/{number}"))
                await held.next()

    async def test_who_gets_none_in_time_has_asked_nothing(
        self, held: HeldUpstream, leaps: Leaps
    ) -> None:
        async with running_gateway(held.base_url, UpstreamLimits(calls_per_account=1)) as gateway:
            Asker(gateway).ask(OTHER, seconds=1000)
            await held.next()
            waiting = Asker(gateway).ask(CREATE)
            await asyncio.sleep(0)
            leaps.ahead(LATE)

            with pytest.raises(UpstreamUnavailable) as unavailable:
                await waiting.response()
            assert unavailable.value.retry_after == 1
            assert waiting.calls == []
            assert len(held.calls) == 1


class TestCredential:
    def test_is_one_with_the_same_account_and_token(self) -> None:
        def key(account_id: int, token: str) -> Any:
            return Credential(account_id, Secret(token)).key

        assert key(1, "a") == key(1, "a")
        assert len({key(1, "a"), key(2, "a"), key(1, "b"), key(11, "a")}) == 4

    def test_tells_no_token(self) -> None:
        assert "s3cret" not in repr(Credential(1, Secret("s3cret")))
        assert "s3cret" not in repr(Credential(1, Secret("s3cret")).key)
