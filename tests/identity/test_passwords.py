"""Right passwords, wrong ones, and too many of either. Time and threads are the tests' own."""

import asyncio
import string
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from typing import Any

import pytest
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.identity import passwords
from bridge.identity.book import Cost, Entry, Row
from bridge.identity.hosts import network_of
from bridge.identity.passwords import (
    COST,
    PASSWORD_LIMIT,
    Limits,
    PasswordChecker,
    hash_password,
)
from bridge.secret import Secret
from bridge.v1.errors import AttemptsPaused, Overloaded

CHEAP = Cost(memory=8, passes=1, lanes=1, salt_length=16, tag_length=16)
HOME = "192.0.2.1"
AWAY = "198.51.100.7"
PATIENCE = 30.0
"""Seconds until something counts as hanging."""


def entry(password: str = "right", login: str = "jane", subdomain: str = "acme") -> Entry:
    return Entry(
        subdomain=subdomain,
        login=login,
        password_hash=Secret(hash_password(Secret(password), CHEAP)),
        account_id=1,
        reference="env:T",
        token=Secret("t0ken"),
    )


JANE = entry()


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Hand(Executor):
    """Runs what it is given when a test says so, or at once; remembers all of it."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.at_once = at_once
        self.given: list[tuple[Any, ...]] = []
        self._jobs: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.given.append(args)
        self._jobs.append((future, partial(function, *args, **kwargs)))
        if self.at_once:
            self.run()
        return future

    @property
    def running(self) -> int:
        return len(self._jobs)

    def run(self, count: int = 1) -> None:
        for _ in range(count):
            future, job = self._jobs.pop(0)
            try:
                future.set_result(job())
            except Exception as error:  # noqa: BLE001 - whatever a thread would pass on
                future.set_exception(error)


class Scene:
    """A checker, and what it depends on."""

    def __init__(self, *, at_once: bool = True, **limits: Any) -> None:
        self.clock = Clock()
        self.hand = Hand(at_once=at_once)
        self.checker = PasswordChecker(
            lambda: CHEAP, Limits(**limits), clock=self.clock, executor=self.hand
        )

    def check(
        self,
        password: str = "right",
        *,
        known: Entry | None = JANE,
        subdomain: str | None = "acme",
        login: str = "jane",
        address: str = HOME,
    ) -> Awaitable[bool]:
        return self.checker.check(known, subdomain, login, Secret(password), network_of(address))

    def begin(self, *arguments: Any, **options: Any) -> "asyncio.Task[bool]":
        async def check() -> bool:
            return await self.check(*arguments, **options)

        return asyncio.create_task(check())

    @property
    def computed(self) -> int:
        return len(self.hand.given)

    async def settled(self) -> None:
        """Let everything happen that can without another verification."""
        for _ in range(20):
            await asyncio.sleep(0)


@asynccontextmanager
async def scene(**options: Any) -> AsyncIterator[Scene]:
    made = Scene(**options)
    yield made
    await made.checker.close()


class TestHashes:
    def test_parameters_are_those_of_rfc_9106(self) -> None:
        assert Cost(memory=65536, passes=3, lanes=4, salt_length=16, tag_length=32) == COST

    def test_a_hash_is_argon2id_with_a_salt_of_its_own(self) -> None:
        one, other = (hash_password(Secret("s3cret"), CHEAP) for _ in range(2))

        assert one.startswith("$argon2id$v=19$m=8,t=1,p=1$")
        assert one != other
        assert PasswordHasher().verify(one, "s3cret")

    def test_an_empty_password_has_none(self) -> None:
        with pytest.raises(ValueError, match="empty"):
            hash_password(Secret(""), CHEAP)

    @pytest.mark.parametrize("cost", [CHEAP, Cost(32, 2, 2, 8, 24)])
    def test_nobodys_hash_costs_what_the_others_do(self, cost: Cost) -> None:
        encoded = passwords._nobody(cost)

        assert (
            encoded.rpartition("$")[0].rpartition("$")[0]
            == (hash_password(Secret("a"), cost).rpartition("$")[0].rpartition("$")[0])
        )
        assert len(encoded) == len(hash_password(Secret("a"), cost))
        assert passwords._matches(encoded, b"") is False


class TestJudgement:
    @pytest.mark.parametrize(
        "password",
        ["right", "", " right", "s p a c e", "päss", "\U0001f511", "a\udcff", "x" * 1023],
    )
    async def test_the_right_password_is_right_and_no_other(self, password: str) -> None:
        known = entry(password or "other")
        async with scene() as here:
            assert await here.check(password, known=known) is (password != "")
            assert await here.check(password + "x", known=known) is False

    async def test_however_its_letters_are_composed(self) -> None:
        async with scene() as here:
            assert await here.check("p\u00e4ss", known=entry("pa\u0308ss"))
            assert await here.check("pa\u0308ss", known=entry("p\u00e4ss"))

    async def test_nobody_has_no_password(self) -> None:
        async with scene() as here:
            assert not await here.check(known=None)
            assert not await here.check(known=None, subdomain=None)
            assert not await here.check("", known=None)

    async def test_whatever_is_wrong_one_hash_of_one_cost_is_computed(self) -> None:
        async with scene() as here:
            await here.check("wrong")
            await here.check(known=None, login="unknown")
            await here.check(known=None, subdomain="unknown")
            await here.check(known=None, subdomain=None)

            costs = [encoded.split("$")[:4] for encoded, _ in here.hand.given]
            assert costs == [["", "argon2id", "v=19", "m=8,t=1,p=1"]] * 4

    async def test_it_works_with_threads_of_its_own(self) -> None:
        checker = PasswordChecker(lambda: CHEAP)
        try:
            async with asyncio.timeout(PATIENCE):
                assert await checker.check(JANE, "acme", "jane", Secret("right"), HOME)
                assert not await checker.check(JANE, "acme", "jane", Secret("wrong"), HOME)
        finally:
            await checker.close()

    async def test_without_a_book_nobody_costs_what_a_new_hash_would(self) -> None:
        here = Hand(at_once=False)
        checker = PasswordChecker(lambda: None, executor=here)
        asking = asyncio.create_task(checker.check(None, "acme", "jane", Secret("a"), HOME))
        await Scene().settled()

        assert "m=65536,t=3,p=4" in here.given[0][0]
        asking.cancel()
        await checker.close()


class TestMemory:
    async def test_a_right_pair_is_computed_once(self) -> None:
        async with scene() as here:
            assert [await here.check() for _ in range(5)] == [True] * 5
            assert here.computed == 1

    async def test_in_any_spelling_of_the_login_and_from_anywhere(self) -> None:
        async with scene() as here:
            await here.check()

            assert await here.check(login=" JANE ", subdomain="ACME", address=AWAY)
            assert here.computed == 1

    async def test_a_wrong_one_is_computed_each_time(self) -> None:
        async with scene() as here:
            assert [await here.check("wrong") for _ in range(3)] == [False] * 3
            assert here.computed == 3

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param({"password": "wrong"}, id="password"),
            pytest.param({"known": entry("other")}, id="hash"),
            pytest.param({"known": None}, id="removed"),
        ],
    )
    async def test_a_pair_that_is_not_the_same_is_computed(self, other: dict[str, Any]) -> None:
        async with scene() as here:
            await here.check()

            assert await here.check(**other) is False
            assert here.computed == 2

    async def test_a_new_hash_of_the_same_password_is_computed_too(self) -> None:
        async with scene() as here:
            await here.check()

            assert await here.check(known=entry())
            assert here.computed == 2

    async def test_it_is_forgotten_some_time_after_its_last_use(self) -> None:
        async with scene(seconds=100.0) as here:
            for _ in range(50):
                assert await here.check()
                here.clock.now += 99.9
            assert here.computed == 1
            here.clock.now += 0.1
            assert await here.check()

            assert here.computed == 2

    async def test_what_is_old_is_not_kept(self) -> None:
        async with scene(seconds=100.0) as here:
            await here.check()
            here.clock.now += 100
            await here.check(known=entry(login="bob"), login="bob")

            assert len(here.checker._right) == 1

    async def test_the_least_used_is_forgotten_when_there_are_many(self) -> None:
        many = [entry(login=f"user-{n}") for n in range(3)]
        async with scene(remembered=2) as here:

            async def check(number: int) -> None:
                assert await here.check(known=many[number], login=many[number].login)

            for number in (0, 1, 0, 2):
                await check(number)
            assert here.computed == 3
            await check(0)
            assert here.computed == 3
            await check(1)
            assert here.computed == 4

    async def test_it_holds_no_password(self) -> None:
        async with scene() as here:
            await here.check(known=entry("s3cret"), password="s3cret")

            held = repr(vars(here.checker._right)) + repr(here.checker._attempts)
            assert len(here.checker._right) == 1
            assert "s3cret" not in held

    @settings(deadline=None)
    @given(
        parts=st.lists(st.text(string.ascii_letters + "\0:", max_size=4), min_size=3, max_size=3),
        others=st.lists(st.text(string.ascii_letters + "\0:", max_size=4), min_size=3, max_size=3),
    )
    async def test_no_other_parts_pass_for_the_same(
        self, parts: list[str], others: list[str]
    ) -> None:
        digest = Scene().checker._digest

        assert (digest(*parts) == digest(*others)) == (parts == others)

    @settings(deadline=None, max_examples=50)
    @given(
        attempts=st.lists(
            st.tuples(
                st.sampled_from(["acme", "globex", None]),
                st.sampled_from(["jane", "JANE", "bob"]),
                st.sampled_from(["right", "wrong", "", "Right", "right "]),
                st.booleans(),
            ),
            max_size=20,
        )
    )
    async def test_never_is_a_wrong_pair_right(
        self, attempts: list[tuple[str | None, str, str, bool]]
    ) -> None:
        """Whatever came before; the passwords of the book change in between."""
        async with scene(failures=100, failures_of_address=100, remembered=2) as here:
            book = {"acme": ("right", JANE), "globex": ("wrong", entry("wrong"))}
            for subdomain, login, password, swap in attempts:
                known = book.get(subdomain) if subdomain and login.lower() == "jane" else None
                answer = await here.check(
                    password, known=known and known[1], subdomain=subdomain, login=login
                )
                assert answer == (known is not None and password == known[0])
                if swap:
                    book["acme"], book["globex"] = book["globex"], book["acme"]


class TestSingleFlight:
    async def test_the_same_check_is_computed_once(self) -> None:
        async with scene(at_once=False) as here:
            asking = [here.begin() for _ in range(50)]
            await here.settled()
            assert here.hand.running == 1
            here.hand.run()

            assert await asyncio.gather(*asking) == [True] * 50
            assert here.computed == 1

    async def test_so_is_a_wrong_one_which_counts_once(self) -> None:
        async with scene(at_once=False) as here:
            asking = [here.begin("wrong") for _ in range(50)]
            await here.settled()
            here.hand.run()
            assert await asyncio.gather(*asking) == [False] * 50
            here.hand.at_once = True

            assert await here.check()

    async def test_one_who_leaves_does_not_take_the_others_along(self) -> None:
        async with scene(at_once=False) as here:
            first, second = here.begin(), here.begin()
            await here.settled()
            first.cancel()
            await here.settled()
            here.hand.run()

            assert await second
            assert first.cancelled()

    async def test_after_the_last_has_left_what_waited_is_not_computed(self) -> None:
        async with scene(at_once=False, running=1) as here:
            running = here.begin("wrong")
            waiting = [here.begin("other") for _ in range(2)]
            await here.settled()
            for each in waiting:
                each.cancel()
            await here.settled()
            here.hand.run()

            assert await running is False
            await here.settled()
            assert (here.computed, here.checker._attempts) == (1, {})

    async def test_and_what_runs_keeps_its_place_until_it_ends(self) -> None:
        async with scene(at_once=False, running=1) as here:
            running = here.begin("wrong")
            await here.settled()
            running.cancel()
            waiting = here.begin()
            await here.settled()
            assert here.hand.running == 1
            here.hand.run()
            await here.settled()
            assert here.hand.running == 1
            here.hand.run()

            assert await waiting


class TestTurns:
    async def test_no_more_run_at_once_than_may(self) -> None:
        async with scene(at_once=False, running=3) as here:
            asking = [here.begin(f"wrong-{n}", address=f"192.0.2.{n}") for n in range(10)]
            await here.settled()
            most = here.hand.running
            while here.hand.running:
                here.hand.run()
                await here.settled()
                most = max(most, here.hand.running)

            assert (most, await asyncio.gather(*asking)) == (3, [False] * 10)

    async def test_one_address_leaves_a_place_to_the_others(self) -> None:
        async with scene(at_once=False, running=2) as here:
            flood = [here.begin(f"wrong-{n}") for n in range(10)]
            await here.settled()
            assert here.hand.running == 1
            right = here.begin(address=AWAY)
            await here.settled()
            assert here.hand.running == 2
            here.hand.run(2)

            assert await right
            for each in flood:
                each.cancel()

    async def test_addresses_take_turns(self) -> None:
        """With one place only, whoever comes last waits for one of each other address."""
        async with scene(at_once=False, running=1) as here:
            flood = [
                here.begin(f"wrong-{n}", login=f"user-{n}", address=address)
                for address in ("192.0.2.1", "192.0.2.2")
                for n in range(10)
            ]
            await here.settled()
            right = here.begin(address=AWAY)
            await here.settled()
            rounds = 0
            while not right.done():
                here.hand.run()
                rounds += 1
                await here.settled()

            assert (await right, rounds) == (True, 3)
            for each in flood:
                each.cancel()

    async def test_an_address_may_have_so_many_waiting_and_no_more(self) -> None:
        async with scene(at_once=False, of_address=5) as here:
            asking = [here.begin(f"wrong-{n}") for n in range(8)]
            await here.settled()
            turned_away = [each for each in asking if each.done()]

            assert len(turned_away) == 3
            with pytest.raises(Overloaded) as raised:
                await turned_away[0]
            assert raised.value.retry_after > 0
            other = here.begin(address=AWAY)
            await here.settled()
            assert not other.done()
            here.hand.run(2)
            assert await other
            for each in asking:
                each.cancel()

    async def test_a_full_queue_takes_from_whoever_has_most_in_it(self) -> None:
        async with scene(at_once=False, running=1, waiting=6, of_address=5) as here:
            flood = [
                here.begin(f"wrong-{n}", login=f"user-{n}", address=address)
                for n in range(4)
                for address in ("192.0.2.1", "192.0.2.2")
            ]
            await here.settled()
            before = [each for each in flood if each.done()]
            right = here.begin(address=AWAY)
            await here.settled()
            after = [each for each in flood if each.done()]

            assert len(after) == len(before) + 1
            assert not right.done()
            assert [type(each.exception()) for each in after] == [Overloaded] * len(after)
            for each in (right, *flood):
                each.cancel()

    async def test_when_all_have_as_much_the_last_is_turned_away(self) -> None:
        async with scene(at_once=False, running=1, waiting=3) as here:
            first = [here.begin(address=f"192.0.2.{n}") for n in range(4)]
            await here.settled()
            with pytest.raises(Overloaded):
                await here.check(address=AWAY)

            assert not any(each.done() for each in first)
            for each in first:
                each.cancel()

    async def test_a_remembered_pair_does_not_wait(self) -> None:
        async with scene(running=1, waiting=1) as here:
            await here.check()
            here.hand.at_once = False
            flood = [here.begin(f"wrong-{n}", address=f"192.0.2.{n}") for n in range(9)]
            await here.settled()

            assert await here.check()
            for each in flood:
                each.cancel()

    @pytest.mark.parametrize(
        "error",
        [VerificationError("Memory allocation error"), MemoryError()],
        ids=["argon2", "python"],
    )
    async def test_without_memory_nobody_is_judged(
        self, error: Exception, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_arguments: object) -> bool:
            raise error

        async with scene() as here:
            with monkeypatch.context() as patched:
                patched.setattr(passwords, "verify_secret", fail)
                for _ in range(9):
                    with pytest.raises(Overloaded):
                        await here.check()

            assert await here.check()

    async def test_nor_without_a_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_arguments: object) -> bool:
            raise RuntimeError("can't start new thread")

        async with scene() as here:
            with monkeypatch.context() as patched:
                patched.setattr(here.hand, "submit", fail)
                with pytest.raises(Overloaded):
                    await here.check()

            assert await here.check()

    async def test_a_defect_is_not_a_wrong_password(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_arguments: object) -> bool:
            raise ZeroDivisionError

        async with scene() as here:
            monkeypatch.setattr(passwords, "verify_secret", fail)
            with pytest.raises(ZeroDivisionError):
                await here.check()

    async def test_closing_turns_away_whoever_waits(self) -> None:
        here = Scene(at_once=False, running=1)
        running, waiting = here.begin("wrong"), here.begin()
        await here.settled()
        await here.checker.close()
        with pytest.raises(Overloaded):
            await waiting
        with pytest.raises(Overloaded):
            await here.check("another")
        here.hand.run()

        assert await running is False


class TestBackOff:
    async def fail(self, here: Scene, count: int, **options: Any) -> None:
        for number in range(count):
            assert await here.check(f"wrong-{number}", **options) is False

    async def test_after_some_failures_the_right_password_is_not_looked_at(self) -> None:
        async with scene() as here:
            await self.fail(here, 5)

            with pytest.raises(AttemptsPaused) as paused:
                await here.check()
            assert (paused.value.retry_after, here.computed) == (1, 5)

    async def test_one_less_is_forgiven_and_then_forgotten(self) -> None:
        async with scene() as here:
            for _ in range(3):
                await self.fail(here, 4)
                assert await here.check(known=entry())

    async def test_pauses_double_up_to_the_longest(self) -> None:
        async with scene() as here:
            await self.fail(here, 5)
            for pause in (1, 2, 4, 8, 16, 32, 60, 60, 60):
                before = here.computed
                with pytest.raises(AttemptsPaused) as paused:
                    await here.check("wrong")
                assert paused.value.retry_after == pause
                here.clock.now += pause - 0.01
                with pytest.raises(AttemptsPaused):
                    await here.check("wrong")
                assert here.computed == before
                here.clock.now += 0.01
                assert await here.check("wrong") is False
                assert here.computed == before + 1

    async def test_attempts_during_a_pause_do_not_make_it_longer(self) -> None:
        async with scene() as here:
            await self.fail(here, 5)
            for _ in range(4):
                with pytest.raises(AttemptsPaused):
                    await here.check("wrong")
                here.clock.now += 0.25

            assert await here.check()

    async def test_a_quiet_time_makes_it_forget(self) -> None:
        async with scene() as here:
            await self.fail(here, 5)
            here.clock.now += 900
            await self.fail(here, 4)

            assert await here.check()

    async def test_other_addresses_and_other_logins_are_not_held_up(self) -> None:
        async with scene() as here:
            await self.fail(here, 5)

            assert await here.check(address=AWAY)
            assert await here.check(known=entry(login="bob"), login="bob")

    async def test_other_spellings_are(self) -> None:
        async with scene() as here:
            await self.fail(here, 5)

            with pytest.raises(AttemptsPaused):
                await here.check(login="JANE ")

    async def test_a_remembered_pair_is_right_whatever_pause_there_is(self) -> None:
        async with scene() as here:
            await here.check()
            await self.fail(here, 5)

            assert await here.check()

    async def test_so_it_is_however_long_a_neighbour_goes_on_guessing(self) -> None:
        """For hours, behind one address."""
        async with scene() as here:
            await here.check()
            for number in range(25):
                await self.fail(here, 1, known=None, login=f"user-{number}")
            for number in range(100):
                here.clock.now += 60
                await self.fail(here, 1, known=None, login=f"user-{number}")

                assert await here.check()

    async def test_an_unknown_login_is_held_up_as_a_known_one_is(self) -> None:
        async with scene() as here:
            said = []
            for known, login in ((None, "unknown"), (JANE, "jane")):
                await self.fail(here, 5, known=known, login=login)
                with pytest.raises(AttemptsPaused) as paused:
                    await here.check("wrong", known=known, login=login)
                said.append((str(paused.value), paused.value.retry_after))

            assert said[0] == said[1]

    async def test_many_logins_of_one_address_hold_it_up(self) -> None:
        async with scene(failures_of_address=10) as here:
            for number in range(10):
                await self.fail(here, 1, known=None, login=f"user-{number}")

            with pytest.raises(AttemptsPaused):
                await here.check()
            assert here.computed == 10
            assert await here.check(address=AWAY)

    async def test_but_not_one_login_over_and_over(self) -> None:
        """One job with an old password must not shut out its neighbours."""
        async with scene(failures_of_address=10) as here:
            for _ in range(50):
                await self.fail(here, 1)
                here.clock.now += 60

            assert await here.check(known=entry(login="bob"), login="bob")

    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ("2001:db8::1", "2001:db8::ffff:1", True),
            ("2001:db8::1", "2001:db8:0:1::1", False),
            ("::ffff:192.0.2.1", "192.0.2.1", True),
            ("192.0.2.1", "192.0.2.2", False),
            ("unix", "unix", True),
        ],
    )
    async def test_what_counts_as_one_address(self, one: str, other: str, same: bool) -> None:
        async with scene() as here:
            await self.fail(here, 5, address=one)

            with pytest.raises(AttemptsPaused) if same else nullcontext():
                assert await here.check(address=other)

    async def test_those_who_waited_meanwhile_are_held_up_too(self) -> None:
        async with scene(at_once=False) as here:
            asking = [here.begin(f"wrong-{n}") for n in range(16)]
            await here.settled()
            while here.hand.running:
                here.hand.run()
                await here.settled()

            said = await asyncio.gather(*asking, return_exceptions=True)
            assert said[:5] == [False] * 5
            assert [type(each) for each in said[5:]] == [AttemptsPaused] * 11
            assert here.computed == 5

    async def test_what_is_kept_in_mind_is_bounded(self) -> None:
        async with scene(remembered=10, failures_of_address=10**6) as here:
            for number in range(50):
                await self.fail(
                    here, 1, known=None, login="x" * 1000 + str(number), address=f"10.0.0.{number}"
                )

            assert len(here.checker._failing_logins) == 10
            assert len(here.checker._failing_addresses) == 10

    @given(failures=st.integers(1, 10**6))
    def test_no_pause_is_longer_than_the_longest(self, failures: int) -> None:
        pause = passwords._pause(failures - 5)

        assert pause == 0.0 if failures < 5 else 1.0 <= pause <= 60.0


class TestLength:
    """What is too long for the book is refused before it is composed, hashed or counted."""

    MARKS = "\u0323\u0301"
    """Which NFC has to put in their order, each past all that came before it."""

    async def test_a_password_that_no_book_can_have_is_wrong(self) -> None:
        async with scene() as here:
            for _ in range(9):
                assert await here.check("x" * (PASSWORD_LIMIT + 1)) is False

            assert here.computed == 0
            assert await here.check()

    def test_and_has_no_hash(self) -> None:
        with pytest.raises(ValueError, match="1024"):
            hash_password(Secret("x" * (PASSWORD_LIMIT + 1)), CHEAP)

    @pytest.mark.parametrize("what", ["login", "password"])
    @pytest.mark.parametrize("length", [PASSWORD_LIMIT + 1, 8190])
    @pytest.mark.parametrize("is_held_up", [False, True])
    async def test_neither_login_nor_password_is_composed_then(
        self, monkeypatch: pytest.MonkeyPatch, what: str, length: int, is_held_up: bool
    ) -> None:
        async with scene() as here:
            for number in range(25 if is_held_up else 0):
                await here.check("wrong", known=None, login=f"user-{number}")
            composed = watched_normalisations(monkeypatch)
            given = (self.MARKS * length)[:length]
            with suppress(AttemptsPaused):
                await here.check(known=None, **{what: given})

            assert max(composed, default=0) <= PASSWORD_LIMIT


def watched_normalisations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the lengths of the texts that are composed from here on."""
    lengths: list[int] = []
    real = unicodedata.normalize

    def normalize(form: Any, text: str) -> str:
        lengths.append(len(text))
        return real(form, text)

    monkeypatch.setattr(unicodedata, "normalize", normalize)
    return lengths


@pytest.mark.parametrize("made", [Row, Entry])
def test_what_is_known_of_a_login_does_not_show_its_hash(made: type[Row]) -> None:
    assert JANE.password_hash.reveal() not in f"{JANE!r}"
    assert issubclass(type(JANE), made)
