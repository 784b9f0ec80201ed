"""Shadow's parts: which calls it takes, what it overhears, and how little it tells apart."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.comparing import NOTHING, Answer, Comparison, Paths, compare
from bridge.comparing.documents import LONGEST
from bridge.identity.callers import Identification, Way
from bridge.identity.passwords import PasswordChecker
from bridge.record.log.capture import Capture
from bridge.record.log.events import CallEvent, Compared
from bridge.resources import RESOURCES
from bridge.resources.routes import Router
from bridge.server.endpoint import NO_BOOK
from bridge.server.shadow.asked import Asked, Look, Overhearing, ShadowLimits
from bridge.server.shadow.bridge_side import BridgeSide
from bridge.server.shadow.running import ELSEWHERE, MOST_PLACES, Shadow
from bridge.settings import Settings
from bridge.side import Side
from bridge.tape import Room
from tests.support.clocks import until
from tests.support.gateways import running_gateway
from tests.support.recorded_days import recorded_days
from tests.support.upstream import Reply, ScriptedUpstream

Told = list[Compared]
Make = Callable[..., Shadow]


class TestOverhearing:
    def heard(self, *parts: bytes, encoding: str | None = None, room: int = 1 << 30) -> Overhearing:
        overheard = Overhearing(Room(room))
        overheard.began(200, "text/xml", encoding)
        for part in parts:
            overheard.heard(part)
        overheard.ended()
        return overheard

    def test_an_answer_is_what_went_by(self) -> None:
        overheard = self.heard(b"<a>", b"</a>")

        assert overheard.is_whole
        assert overheard.answer() == Answer(200, "text/xml", b"<a></a>")

    @given(st.binary(max_size=2000), st.integers(1, 50))
    def test_a_coded_answer_is_what_it_stands_for(self, body: bytes, size: int) -> None:
        for name, coded in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
            parts = [coded[at : at + size] for at in range(0, len(coded), size)]
            assert self.heard(*parts, encoding=name).answer().body == body

    @pytest.mark.parametrize(
        ("parts", "encoding"),
        [
            pytest.param([b"x" * LONGEST, b"x"], None, id="too long"),
            pytest.param([b"x"], "br", id="a coding that is not known"),
        ],
    )
    def test_what_cannot_be_compared_is_cut(self, parts: list[bytes], encoding: str | None) -> None:
        assert self.heard(*parts, encoding=encoding).is_cut

    def test_of_a_bomb_there_is_no_more_than_shows_that_it_is_too_long(self) -> None:
        bomb = self.heard(gzip.compress(bytes(2 * LONGEST)), encoding="gzip", room=LONGEST)

        assert len(bomb.answer().body) == LONGEST + 1

    def test_what_is_not_coded_as_it_says_is_as_it_came(self) -> None:
        assert self.heard(b"no gzip", encoding="gzip").answer().body == b"no gzip"

    def test_what_is_cut_holds_nothing_though_there_may_be_no_end_of_it(self) -> None:
        room = Room(10)
        overheard = Overhearing(room)
        overheard.heard(b"123456")
        overheard.heard(b"123456")

        assert (overheard.is_cut, room.left) == (True, 10)

    def test_it_takes_of_a_room_and_gives_it_back(self) -> None:
        room = Room(10)
        one, other = Overhearing(room), Overhearing(room)
        one.heard(b"123456")
        other.heard(b"123456")
        assert (one.is_cut, other.is_cut, room.left) == (False, True, 4)
        one.close()
        one.close()

        assert room.left == 10


@pytest.fixture
async def make(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Make]:
    """Make a shadow whose v1 answers what it is given."""
    upstream.says(Reply(status=404))
    settings = Settings(
        contact="tests@example.com",
        upstream=upstream.base_url,
        account_id=1000,
        auth=frozenset({Way.TOKEN_AS_PASSWORD}),
        journal=tmp_path / "journal.sqlite",
    )
    passwords = PasswordChecker()
    identification = Identification(settings.auth, 1000, lambda: NO_BOOK, passwords)
    made: list[Shadow] = []
    with ThreadPoolExecutor(1) as elsewhere:
        async with running_gateway(upstream.base_url) as gateway:
            bridge = BridgeSide(
                settings, gateway, identification, Router(RESOURCES), elsewhere, page_limit=10
            )

            async def comparing(v1: Answer, bridge: Answer, ignored: Paths) -> Comparison:
                return compare(v1, bridge, ignored)

            def make(ask_v1: object, told: Told, **limits: int) -> Shadow:
                def tell(compared: Compared) -> bool:
                    told.append(compared)
                    return len(told) == 1

                shadow = Shadow(
                    bridge, ask_v1, NOTHING, tell, Capture(), comparing,  # type: ignore[arg-type]
                    elsewhere, ShadowLimits(**limits),
                )  # fmt: skip
                made.append(shadow)
                return shadow

            yield make
            for shadow in made:
                await shadow.close()
    await passwords.close()


ASKED = Asked(
    path="/invoice/1420/messages",
    target="/invoice/1420/messages",
    query={},
    authorization="Bearer s3cret",
    accept=None,
    subdomain=None,
    network="192.0.2.1",
    base_uri="http://bridge.example",
    fields=(),
    secrets=(),
)


def a_call() -> CallEvent:
    (call,) = recorded_days(calls=1, integrations=1, days=1, until=datetime.now(UTC))
    return call


def begin(shadow: Shadow, status: int, body: bytes) -> Look:
    look = shadow.look(ASKED, by_v1=False)
    assert look is not None
    look.overheard.answered(status, "application/xml", [body])
    shadow.begin(look, a_call())
    return look


class TestWhichCalls:
    @pytest.mark.parametrize("percent", [0, 1, 7, 50, 100])
    async def test_so_many_of_a_hundred(self, make: Make, percent: int) -> None:
        shadow = make(None, [])

        taken = sum(shadow.takes(percent) for _ in range(10_000))

        assert abs(taken - percent * 100) <= 5

    @pytest.mark.parametrize("every", [2, 3, 5])
    async def test_whoever_asks_for_things_in_turn_has_each_looked_at(
        self, make: Make, every: int
    ) -> None:
        shadow = make(None, [])

        taken = [at for at in range(10_000) if shadow.takes(10)]

        for turn in range(every):
            assert abs(sum(at % every == turn for at in taken) - 1000 / every) < 20

    async def test_one_more_than_there_is_room_for_is_skipped(self, make: Make) -> None:
        never, asked = asyncio.Event(), asyncio.Event()

        async def ask(_asked: Asked, _share: float) -> Answer:
            asked.set()
            await never.wait()
            raise AssertionError

        shadow = make(ask, [], at_once=1, waiting=1)
        begin(shadow, 200, b"<a/>")
        begin(shadow, 200, b"<a/>")

        assert shadow.look(ASKED, by_v1=False) is None
        assert shadow.skipped["busy"] == 1
        assert shadow.under_way == 2
        await asked.wait()
        await shadow.close()
        assert shadow.skipped["stopped"] == 2
        assert shadow.under_way == 0
        assert shadow.look(ASKED, by_v1=False) is None


async def test_names_that_v1_makes_up_are_told_apart_up_to_a_number(make: Make) -> None:
    told: Told = []

    async def ask(_asked: Asked, _share: float) -> Answer:
        rest = "".join(f"<n{at}/>" for at in range(300))
        return Answer(200, "application/xml", f"<a>{rest}</a>".encode())

    shadow = make(ask, told)
    shadow.bridge.answer = _always(b"<a/>")  # type: ignore[method-assign, assignment]
    begin(shadow, 200, b"<a/>")
    await until(lambda: told)

    differences = told[0].comparison.differences
    assert len(differences) == MOST_PLACES + 1
    assert sum(differences.values()) >= 300
    assert ELSEWHERE in differences


def _always(body: bytes) -> Callable[[Asked, float], Coroutine[Any, Any, Answer]]:
    async def answer(_asked: Asked, _share: float) -> Answer:
        return Answer(200, "application/xml", body)

    return answer


async def test_what_the_log_has_no_room_for_is_counted(make: Make) -> None:
    async def ask(_asked: Asked, _share: float) -> Answer:
        return Answer(200, "application/xml", b"<a/>")

    told: Told = []
    shadow = make(ask, told)
    for _ in range(3):
        begin(shadow, 200, b"<a/>")
    await until(lambda: len(told) == 3)

    assert (shadow.results["equal"], shadow.skipped["unrecorded"]) == (1, 2)


async def test_a_defect_ends_nothing_but_the_look(make: Make) -> None:
    told: Told = []

    async def ask(_asked: Asked, _share: float) -> Answer:
        if not shadow.skipped["failed"]:
            raise RuntimeError
        return Answer(200, "application/xml", b"<a/>")

    shadow = make(ask, told, at_once=1)
    begin(shadow, 200, b"<a/>")
    begin(shadow, 200, b"<a/>")
    await until(lambda: told)

    assert told[0].comparison.result == "equal"
    assert shadow.skipped["failed"] == 1


async def test_what_is_ignored_can_be_set_while_it_runs(make: Make) -> None:
    told: Told = []
    shadow = make(_always(b"<payment><notes>a</notes></payment>"), told)
    shadow.bridge.answer = _always(  # type: ignore[method-assign, assignment]
        b"<payment><notes>b</notes></payment>"
    )
    shadow.go_by(
        Settings(
            contact="tests@example.com", upstream="http://v2.invalid", account_id=1,
            auth=frozenset({Way.BEARER}), shadow_ignored=("/payment/notes",),
        )
    )  # fmt: skip
    begin(shadow, 200, b"<payment><notes>b</notes></payment>")
    await until(lambda: told)

    assert told[0].comparison.result == "equal"


def test_sides_have_the_names_that_policies_give_them() -> None:
    """They stand so in the tables and in what commands are told."""
    assert [*map(str, Side)] == ["v1", "bridge"]
