"""Which calls are looked at, when the other side is asked, and what is told of the two answers.

It belongs to the server and not to a call: no client waits for it, and no stop does.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Executor
from time import perf_counter
from typing import NamedTuple

import structlog

from bridge.comparing import Answer, Comparison, Kind, Paths, Result, Spot
from bridge.record.log.capture import Capture
from bridge.record.log.events import CallEvent, Compared, ComparisonEvent
from bridge.record.log.overheard import OverheardOther
from bridge.server.logs import REQUEST_ID
from bridge.server.shadow.apart import Compare
from bridge.server.shadow.asked import (
    Asked,
    AskV1,
    Look,
    Overhearing,
    ShadowLimits,
    Skipped,
    SkipReason,
    TooLarge,
)
from bridge.server.shadow.bridge_side import BridgeSide
from bridge.server.told_apart import ToldApart
from bridge.settings import Settings
from bridge.side import Side
from bridge.tape import Room
from bridge.upstream.calls import milliseconds

_log = structlog.get_logger("bridge.shadow")


FIRST_SHARE = 0.5
"""Of the calls to spare, how many are for first looks: the rest is for looking again, without
which a difference does not count."""

PLACES_OF_ONE = 200
"""Places of one integration that are told apart in a day: v1 may make names up, and each is a row
of counts for ever."""

PLACES_IN_ALL = 20_000
"""Likewise, of all."""

MOST_PLACES = 20
"""Places that are told of one call; the rest is counted together."""

LONGEST_PLACE = 200
"""Characters of one; of a longer one, the end is told."""

ELSEWHERE = "…"
"""The place of all that is not told apart."""

_STEP, _TURN = 0x9E3779B9, 1 << 32
"""Multiples of the golden ratio lie evenly between 0 and 1, and so does every second or third of
them: a client that asks for two things in turn has both looked at."""


class _Outcome(NamedTuple):
    """What a look has come to."""

    comparison: Comparison
    v1: Answer
    bridge: Answer


class Shadow:
    """Asks the other side of some calls, and tells what comparing the answers came to."""

    def __init__(  # noqa: PLR0913, PLR0917 - the parts that it goes by
        self,
        bridge: BridgeSide,
        ask_v1: AskV1,
        ignored: Paths,
        tell: Callable[[Compared], bool],
        capture: Capture,
        compare: Compare,
        elsewhere: Executor,
        limits: ShadowLimits | None = None,
    ) -> None:
        """Look at nothing yet.

        Args:
            bridge: answers for the bridge.
            ask_v1: asks v1.
            ignored: the places that may differ.
            tell: is told of each comparison, and says whether it takes it; must not wait.
            capture: says whether bodies may be kept.
            compare: compares answers, which takes a while.
            elsewhere: where compressed answers are made whole.
            limits: by default, those of `ShadowLimits`.
        """
        self.bridge = bridge
        self._ask_v1 = ask_v1
        self.ignored = ignored
        """The places that may differ, from now on."""
        self._tell = tell
        self._capture = capture
        self._compare_answers = compare
        self._elsewhere = elsewhere
        self._limits = limits or ShadowLimits()
        self._room = Room(self._limits.size)
        self._places = ToldApart(of_one=PLACES_OF_ONE, in_all=PLACES_IN_ALL)
        self._turn = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: deque[tuple[Look, CallEvent]] = deque()
        self._is_closed = False
        self.results: Counter[str] = Counter(dict.fromkeys(Result, 0))
        """Comparisons since the start, by their result."""
        self.skipped: Counter[str] = Counter(dict.fromkeys(SkipReason, 0))
        """Calls since the start whose answers were not compared, by why."""

    @property
    def under_way(self) -> int:
        """How many looks are under way, or wait."""
        return len(self._tasks) + len(self._waiting)

    def go_by(self, settings: Settings) -> None:
        """Take these settings for what begins from now on, but for those that take a restart."""
        self.ignored = Paths(settings.shadow_ignored)
        self.bridge.go_by(settings)

    def takes(self, percent: int) -> bool:
        """Tell whether the next call, of one of whose calls so many per cent are looked at, is."""
        self._turn = (self._turn + _STEP) % _TURN
        return self._turn * 100 < percent * _TURN

    def look(self, asked: Asked, *, by_v1: bool) -> Look | None:
        """Return what is to overhear the answer to a call; None: there is no room, or no time.

        `by_v1` says who answers its client.
        """
        if self._is_closed:
            return None
        if len(self._waiting) >= self._limits.waiting or self._room.left <= 0:
            self.skipped[SkipReason.BUSY] += 1
            return None
        return Look(asked, Side.V1 if by_v1 else Side.BRIDGE, Overhearing(self._room))

    def begin(self, look: Look, call: CallEvent | None) -> None:
        """Go on with a call that has ended: with its answer, when there is room for that."""
        if call is None or self._is_closed:
            self._skip(look, SkipReason.STOPPED)
        elif (reason := _why_not(look.overheard)) is not None:
            self._skip(look, reason)
        elif len(self._tasks) < self._limits.at_once:
            task = asyncio.create_task(self._work(look, call))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif len(self._waiting) < self._limits.waiting:
            self._waiting.append((look, call))
        else:
            self._skip(look, SkipReason.BUSY)

    async def close(self) -> None:
        """Give up all that is under way, and wait for nothing."""
        self._is_closed = True
        for look, _ in self._waiting:
            self._skip(look, SkipReason.STOPPED)
        self._waiting.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _skip(self, look: Look, reason: SkipReason) -> None:
        look.overheard.close()
        self.skipped[reason] += 1

    async def _work(self, look: Look, call: CallEvent) -> None:
        """Look at a call, and then at those that wait."""
        await self._look_at(look, call)
        while self._waiting:
            await self._look_at(*self._waiting.popleft())

    async def _look_at(self, look: Look, call: CallEvent) -> None:
        REQUEST_ID.set(call.request_id)
        try:
            async with asyncio.timeout(self._limits.seconds):
                await self._compare(look, call)
        except TooLarge as large:
            self._told(look, call, None, {f"{large.side}: too-large": 1}, None)
        except Skipped as skipped:
            self._skip(look, skipped.reason)
            _log.debug("not_compared", integration=call.integration, reason=skipped.reason)
        except TimeoutError:
            self._skip(look, SkipReason.FAILED)
        except asyncio.CancelledError:
            self._skip(look, SkipReason.STOPPED)
            raise
        except Exception as error:  # noqa: BLE001 - whose words may be those of an answer
            self._skip(look, SkipReason.FAILED)
            _log.error("comparison_fails", cause=type(error).__name__)
        finally:
            look.overheard.close()

    async def _compare(self, look: Look, call: CallEvent) -> None:
        if look.overheard.is_cut:
            raise TooLarge(look.primary)
        answer = await self._heard(look.overheard)
        look.overheard.close()  # what is held from here on is one of `at_once`
        began = perf_counter()
        other = await self._other(look, FIRST_SHARE)
        took = milliseconds(perf_counter() - began)
        first = await self._outcome(look.primary, answer, other)
        outcome = first
        if first.comparison.result is Result.DIFFERENT:
            outcome = await self._look_again(look.asked, first)
        self._told(look, call, outcome, _places(outcome), took)

    async def _heard(self, overheard: Overhearing) -> Answer:
        if not overheard.is_coded:
            return overheard.answer()
        return await asyncio.get_running_loop().run_in_executor(self._elsewhere, overheard.answer)

    async def _other(self, look: Look, share: float) -> Answer:
        if look.primary is Side.V1:
            return await self.bridge.answer(look.asked, share)
        return await self._ask_v1(look.asked, share)

    async def _look_again(self, asked: Asked, first: _Outcome) -> _Outcome:
        """Ask both sides at once: what has changed between two looks is no difference."""
        answers = await asyncio.gather(
            self._ask_v1(asked, 1.0), self.bridge.answer(asked, 1.0), return_exceptions=True
        )
        v1, bridge = answers
        if isinstance(v1, BaseException):
            raise v1
        if isinstance(bridge, BaseException):
            raise bridge
        again = await self._outcome(Side.V1, v1, bridge)
        if again.comparison.result is not Result.DIFFERENT:
            return again
        stayed = {
            spot: count
            for spot, count in again.comparison.counted.items()
            if spot in first.comparison.counted
        }
        if not stayed:
            raise Skipped(SkipReason.CHANGING)
        return again._replace(comparison=again.comparison._replace(counted=stayed))

    async def _outcome(self, primary: Side, answer: Answer, other: Answer) -> _Outcome:
        v1, bridge = (answer, other) if primary is Side.V1 else (other, answer)
        found = await self._compare_answers(v1, bridge, self.ignored)
        return _Outcome(found, v1, bridge)

    def _told(
        self,
        look: Look,
        call: CallEvent,
        outcome: _Outcome | None,
        places: dict[str, int],
        took: float | None,
    ) -> None:
        result = Result.INCOMPARABLE if outcome is None else outcome.comparison.result
        own = round(call.milliseconds, 1)
        is_v1 = look.primary is Side.V1
        comparison = ComparisonEvent(
            id=call.id,
            request_id=call.request_id,
            integration=call.integration,
            route=call.route or "",
            result=str(result),
            differences=self._told_apart(call.integration, places),
            known={} if outcome is None else dict(outcome.comparison.known),
            v1_milliseconds=own if is_v1 else took,
            bridge_milliseconds=took if is_v1 else own,
        )
        if self._tell(Compared(comparison, self._kept(look, call, outcome))):
            self.results[result] += 1
        else:
            self.skipped[SkipReason.UNRECORDED] += 1
        facts = {
            "integration": comparison.integration,
            "route": comparison.route,
            "result": comparison.result,
            "differences": comparison.differences,
            "known": comparison.known,
            "v1_milliseconds": comparison.v1_milliseconds,
            "bridge_milliseconds": comparison.bridge_milliseconds,
        }
        if result is Result.DIFFERENT:
            _log.info("compared", **facts)
        else:  # which must not make the log twice as long
            _log.debug("compared", **facts)

    def _told_apart(self, integration: str, places: dict[str, int]) -> dict[str, int]:
        told: Counter[str] = Counter()
        for place, count in places.items():
            is_told = len(told) < MOST_PLACES and self._places.tells(
                (integration, place), integration
            )
            told[place if is_told else ELSEWHERE] += count
        return dict(told)

    def _kept(self, look: Look, call: CallEvent, outcome: _Outcome | None) -> OverheardOther | None:
        """Return the answer that the client did not get, if it differs and may be kept."""
        rule = self._capture.rule(call.integration)
        if outcome is None or rule is None or outcome.comparison.result is Result.EQUAL:
            return None
        is_v1 = look.primary is Side.V1
        side, answer = (Side.BRIDGE, outcome.bridge) if is_v1 else (Side.V1, outcome.v1)
        return OverheardOther(
            str(side),
            answer.status,
            answer.content_type,
            answer.body,
            look.asked.secrets,
            rule.raw,
        )


def _why_not(overheard: Overhearing) -> SkipReason | None:
    """Return why an answer to a client is not worth comparing; None: it is."""
    status = overheard.status
    if status in {401, 429}:
        return SkipReason.REFUSED
    # 206 is a part of what was asked for; 410 is what comes after a sunset, whatever was asked.
    is_an_answer = overheard.is_whole and status // 100 in {2, 4} and status not in {206, 410}
    return None if is_an_answer else SkipReason.FAILED


def _places(outcome: _Outcome) -> dict[str, int]:
    comparison = outcome.comparison
    statuses = f"v1 {outcome.v1.status}, bridge {outcome.bridge.status}"
    if comparison.result is Result.INCOMPARABLE:
        side = f"{comparison.side}: " if comparison.side else ""
        reason = comparison.reason or "unknown"
        return {f"{side}{reason} ({statuses})" if reason == "status" else f"{side}{reason}": 1}
    return {_place(spot, statuses): count for spot, count in comparison.counted.items()}


def _place(spot: Spot, statuses: str) -> str:
    """Spell where answers differ, and how if it is not by a value: `/payment/notes (type)`."""
    if spot.kind is Kind.STATUS:
        return f"status ({statuses})"
    path = spot.path
    if len(path) > LONGEST_PLACE:
        path = "…" + path[-LONGEST_PLACE:]
    return path if spot.kind is Kind.VALUE else f"{path} ({_HOW.get(spot.kind, spot.kind)})"


_HOW = {Kind.MISSING: "only v1 has it", Kind.ADDED: "only the bridge has it"}
