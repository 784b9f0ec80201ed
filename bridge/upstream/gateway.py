"""The way to v2 for all callers: what is asked, when, how often, and when not at all.

Meant to be shared by every legacy call of a process; how one v2 call travels is `V2Client`'s part.
"""

import asyncio
import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from time import perf_counter

import structlog
from msgspec.structs import replace

from bridge.secret import Secret
from bridge.tape import Tape
from bridge.upstream.acquaintances import Acquaintances, Key
from bridge.upstream.breaker import Breaker, State
from bridge.upstream.calls import UpstreamCall
from bridge.upstream.places import Places
from bridge.upstream.recent import RecentCalls
from bridge.upstream.retries import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    TRIES,
    RetryBudget,
    worth_another_try,
)
from bridge.upstream.sharing import Abandoned, Sharing, Worker
from bridge.upstream.spare import NoneToSpare, Spare, SpareLimits
from bridge.upstream.throttle import Throttle
from bridge.v2.client import V2Client
from bridge.v2.errors import (
    UpstreamError,
    UpstreamFault,
    UpstreamSilence,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from bridge.v2.rate_limit import WINDOW, Rate
from bridge.v2.retry_after import wait_after_429, whole_seconds
from bridge.v2.wire import V2Request, V2Response

_log = structlog.get_logger("bridge.upstream")


@dataclass(slots=True)
class Credential:
    """For whom a call is made. Two that have the same account and token are one."""

    account_id: int
    token: Secret
    vouched: bool = False
    """Whether the operator has put the token in place; anybody can make up another."""
    key: Key = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.key = (self.account_id, self.token.digest())


STRANGERS = 5
"""Of so many places of an account, one more is for credentials that v2 has not accepted yet; of so
many in all, one is."""

LEAST_SHARE = 1 / 15
"""Of a call's time, what a try must have: two seconds of 30, and that only if v2 is as quick."""

MOST_SHARE = 1 / 3
"""Of a call's time, what a try must have at most, however slow v2 was of late."""

FAIR_SHARE = 1 / 3
"""Of a call's time, what v2 must have had before its silence counts against it: what waited here,
or read pages before, leaves less."""

_LATELY = 8
"""So many answers, about, make up how long v2 takes."""


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """What calls to v2 may take."""

    throttle_wait: float = 0.0
    """Seconds: the longest that a call waits where v2 has told its token to."""
    calls: int = 100
    """The most v2 calls at once: no more than there may be connections, for who waits for one of
    those can no longer say whether v2 was asked."""
    calls_per_account: int = 25
    """The most v2 calls of one account at once, so that none can take all of the connections."""
    spare: SpareLimits = field(default_factory=SpareLimits)
    """What calls may be made that no client waits for."""


@dataclass(slots=True)
class _Lane:
    """What the calls of an account share. Those of strangers have a lane of their own: whatever
    they bring about, none of it is for the others to bear.
    """

    known: bool
    reach: Breaker
    """That of all accounts."""
    all_places: Places
    """Those of all accounts."""
    breaker: Breaker
    places: Places
    retries: RetryBudget = field(default_factory=RetryBudget)
    takes: float = 0.0
    """The seconds that v2 took of late to answer."""

    def answered(self, seconds: float) -> None:
        """Note how long v2 took to answer."""
        self.takes += (seconds - self.takes) / _LATELY

    def least(self, seconds: float) -> float:
        """Return the time that a try must have, of a call that may take `seconds` in all."""
        return max(LEAST_SHARE * seconds, min(self.takes, MOST_SHARE * seconds))


@dataclass(slots=True)
class Errand:
    """A legacy call as the gateway knows it: for whom v2 is asked, until when, and who is told."""

    credential: Credential
    seconds: float
    """The time that the call may take in all."""
    deadline: float
    """When the call's time is up, by the event loop's clock."""
    worker: Worker
    """The call's task: others may wait for what it is answered."""
    network: Hashable = None
    """Whence it came: of strangers, those from one network wait for each other."""
    calls: list[UpstreamCall] = field(default_factory=list)
    """Every try to call v2, in their order."""
    spent: float = 0.0
    """Seconds that its flow waited for answers, v2's own time among them."""
    tape: Tape | None = None
    """Who hears what is said, if anybody does."""


_Outcome = V2Response | UpstreamUnreachable | UpstreamUnavailable
"""Of one try."""


class Gateway:
    """Makes v2 calls, and asks a v2 in trouble no more than it can bear.

    - A GET that is under way for the same credential already is not made a second time.
    - GET and DELETE are tried again where that may help, in bounds (`bridge.upstream.retries`).
    - A token that v2 has told to wait is not used before.
    - Breakers: one for reaching v2 at all, and one an account for what comes after that, because
      v2 can fail one account and serve the next.
    - Credentials that v2 has not accepted have breakers, places and second tries of their own.
    - No try leaves with less time than an answer takes.
    """

    def __init__(
        self,
        client: V2Client,
        limits: UpstreamLimits,
        acquaintances: Acquaintances | None = None,
        tell_throttled: Callable[[Key, float], None] = lambda _key, _seconds: None,
    ) -> None:
        """Make calls by `client`. Belongs to the event loop it is made in.

        `acquaintances` are the credentials that v2 has accepted; by default, none yet. When v2
        tells a token to wait, `tell_throttled` is told for how many seconds.
        """
        self._client = client
        self._limits = limits
        self._clock = asyncio.get_running_loop().time
        self._throttle = Throttle(self._clock)
        self._tell_throttled = tell_throttled
        self._recent = RecentCalls(self._clock, WINDOW)
        self._spare = Spare(self._clock, limits.spare)
        self._reach = {known: self._breaker("upstream", known) for known in (True, False)}
        self._lanes: dict[tuple[int, bool], _Lane] = {}
        self._writes: Counter[int] = Counter()
        self._reads: Sharing[V2Response] = Sharing()
        self._accepted = acquaintances or Acquaintances(self._clock)
        few = max(1, limits.calls // STRANGERS)
        self._places = {True: Places(max(1, limits.calls - few)), False: Places(few)}

    def wait_at_most(self, seconds: float) -> None:
        """Let calls wait for so long where v2 has told their token to, from now on."""
        self._limits = dataclasses.replace(self._limits, throttle_wait=seconds)

    def knows(self, credential: Credential) -> bool:
        """Tell whether the credential is no invention: v2 has accepted it, or the operator has.

        What an account's calls share is not for strangers to take.
        """
        return credential.vouched or credential.key in self._accepted

    def breakers(self) -> Mapping[str, State]:
        """Return the state of each breaker: `upstream`, and `account …` of those that called.

        Those of strangers, if any called, have ` (strangers)` behind their names.
        """
        states = {"upstream": self._reach[True].state}
        for (account_id, known), lane in self._lanes.items():
            states.setdefault(_name("upstream", known), lane.reach.state)
            states[_name(f"account {account_id}", known)] = lane.breaker.state
        return states

    def outage(self) -> str | None:
        """Return what v2 is not asked for at all just now, None if there is anything it is.

        How strangers fare says something only where nobody else has called yet.
        """
        lanes = [lane for lane in self._lanes.values() if lane.known] or self._lanes.values()
        if any(lane.reach.is_shut for lane in lanes):
            return "v2 is not to be reached"
        if lanes and all(lane.breaker.is_shut for lane in lanes):
            return "v2 fails every account"
        return None

    def rate(self, credential: Credential) -> Rate:
        """Return how near the token is to v2's limit, as far as the bridge has seen."""
        key = credential.key
        return Rate(datetime.now(UTC), self._recent.of(key), self._throttle.left(key))

    def throttled(self, key: Key, seconds: float) -> None:
        """Note that v2 has told a token to wait, as another bridge says."""
        self._throttle.told(key, seconds)

    def writes(self, account_id: int) -> int:
        """Return how many writes of the account have ended.

        What was asked before a write must not be handed to those who ask after it.
        """
        return self._writes[account_id]

    def wrote(self, account_id: int) -> None:
        """Note that a write of the account has ended, before anybody is told."""
        self._writes[account_id] += 1

    async def send(
        self,
        request: V2Request,
        errand: Errand,
        *,
        deadline: float | None = None,
        leave_by: float | None = None,
    ) -> V2Response:
        """Make one call, with whatever belongs to it.

        Args:
            request: what to ask.
            errand: for which legacy call.
            deadline: when the answer must be there, if before the legacy call's time is up.
            leave_by: when the call must have left, by the same clock; else it is not made at all.
                None: while there is as much time left as an answer takes.

        Raises:
            UpstreamError: there is no answer; `UpstreamUnavailable`: v2 was not even asked.
        """
        deadline = errand.deadline if deadline is None else deadline
        began = perf_counter()
        try:
            if request.method != "GET" or request.settles:
                return await self._make(request, errand, deadline, leave_by)
            credential = errand.credential
            key = (credential.key, self.writes(credential.account_id), request)
            while key in self._reads.under_way:
                # Whoever works may be stopped, or run out of time: there may be some left here.
                if (response := await self._follow(key, request, errand, deadline)) is not None:
                    return response
            making = self._make(request, errand, deadline, leave_by)
            return await self._reads.work(key, errand.worker, making)
        finally:
            errand.spent += perf_counter() - began

    async def send_spare(
        self, request: V2Request, errand: Errand, *, share: float = 1.0
    ) -> V2Response:
        """Make a call that no client waits for, with what they leave of their token's limit.

        It takes none of their places, is shared with nobody and made once. It does not ask where a
        breaker is not closed, and moves none. What v2 says of the limit counts for all.

        Args:
            request: what to ask.
            errand: for what.
            share: of the calls to spare, how many are for such a one.

        Raises:
            NoneToSpare: v2 was not asked, for the sake of clients.
            UpstreamError: there is no answer.
        """
        credential = errand.credential
        key = credential.key
        known = self.knows(credential)
        lane = self._lanes.get((credential.account_id, known))
        breakers = [self._reach[known], *(() if lane is None else (lane.breaker,))]
        if any(each.state is not State.CLOSED for each in breakers):
            raise NoneToSpare("v2 is in trouble", 1)
        if wait := self._throttle.left(key):
            raise NoneToSpare("v2 has told this token to wait", whole_seconds(wait))
        seconds = errand.deadline - self._clock()
        if seconds <= 0:
            raise _time_is_up()
        self._spare.spend(key, self._recent.of(key), share)
        self._recent.add(key)
        call = UpstreamCall(request.method, request.path, query=request.query)
        errand.calls.append(call)
        try:
            response = await self._client.send(
                request, account_id=credential.account_id, token=credential.token, seconds=seconds
            )
        except BaseException as error:
            call.ended(error=type(error).__name__)
            raise
        call.ended(status=response.status)
        if response.status == 429:
            self._told_to_wait(key, response)
            raise NoneToSpare("v2 has told this token to wait", 1)
        return response

    async def _follow(
        self, key: Hashable, request: V2Request, errand: Errand, deadline: float
    ) -> V2Response | None:
        """Wait for the answer to the same call of another; None if it was given up."""
        call = UpstreamCall(request.method, request.path, shared=True, query=request.query)
        if (trace := errand.worker.trace) is not None:
            maker = self._reads.under_way[key].worker.trace
            call.span = trace.follows(request.method, request.path, maker)
        errand.calls.append(call)
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._reads.follow(key)
        except TimeoutError:
            call.ended(error=UpstreamTimeout.__name__)
            raise _time_is_up() from None
        except Abandoned:
            call.ended(error=Abandoned.__name__)
            return None
        except UpstreamError as error:
            call.ended(error=type(error).__name__)
            if isinstance(error, UpstreamSilence) and error.time_is_up:
                return None
            raise
        call.ended(status=response.status)
        if errand.tape is not None:
            errand.tape.asks(call, response.url).answered(response.headers, response.body)
        return response

    async def _make(
        self, request: V2Request, errand: Errand, deadline: float, leave_by: float | None
    ) -> V2Response:
        """Make a call, and make it again as long as that may help."""
        lane = self._lane(errand.credential)
        lane.retries.earn()
        if leave_by is None:
            # A look that is likely to be cut off is better than none.
            leave_by = deadline if request.settles else deadline - lane.least(errand.seconds)
        earlier: _Outcome | None = None
        """The latest try that v2 may have served."""
        for tries in count(1):
            outcome: _Outcome
            try:
                response = await self._try(request, errand, lane, deadline, leave_by)
                outcome = response if earlier is None else replace(response, repeated=True)
                was_refused = response.status == 429
            except UpstreamUnreachable as error:
                outcome, was_refused = error, False
            except UpstreamUnavailable as error:
                outcome, was_refused = error, True
            if was_refused and earlier is not None and request.method != "GET":
                # The earlier try may have been served, so this is not "not asked".
                return _as_it_ended(earlier)
            if tries == TRIES or not worth_another_try(request, outcome):
                break
            pause = _backoff(tries)
            if isinstance(outcome, V2Response):
                pause = max(pause, outcome.retry_after or 0.0)
            if self._clock() + pause >= leave_by or not lane.retries.spend():
                break
            if isinstance(outcome, V2Response) or outcome.request_left:
                earlier = outcome
            await asyncio.sleep(pause)
        return _as_it_ended(outcome)

    async def _try(
        self,
        request: V2Request,
        errand: Errand,
        lane: _Lane,
        deadline: float,
        leave_by: float,
    ) -> V2Response:
        """Ask v2 once, or again where it is to be waited for: in turn, and if it is of use."""
        key = errand.credential.key
        whose = None if lane.known else errand.network
        while True:
            while wait := self._throttle.left(key):
                if not self._may_wait(wait, leave_by):
                    raise UpstreamUnavailable("v2 has told this token to wait", whole_seconds(wait))
                await asyncio.sleep(wait)
            had_to_wait = not lane.places.take_now()
            if had_to_wait:
                await _take(lane.places, leave_by, whose)
            try:
                if not lane.all_places.take_now():
                    had_to_wait = True
                    await _take(lane.all_places, leave_by, whose)
                try:
                    if had_to_wait and self._throttle.left(key):
                        continue  # the token was told so in the meantime
                    response = await self._ask(request, errand, lane, deadline, leave_by)
                finally:
                    lane.all_places.give_back()
            finally:
                lane.places.give_back()
            if response.status != 429:
                return response
            wait = self._told_to_wait(key, response)
            if not self._may_wait(wait, leave_by):
                return response

    def _told_to_wait(self, key: Key, response: V2Response) -> float:
        """Note a 429, and return for how many seconds the token is to wait."""
        wait = wait_after_429(response.retry_after)
        self._throttle.told(key, wait)
        self._tell_throttled(key, wait)
        return wait

    async def _ask(
        self,
        request: V2Request,
        errand: Errand,
        lane: _Lane,
        deadline: float,
        leave_by: float,
    ) -> V2Response:
        """Ask v2 if its breakers let that through, and let them know what comes of it."""
        reach_failed: bool | None = None
        account_failed: bool | None = None
        probes_reach = lane.reach.admit(urgent=request.settles)
        try:
            probes_account = lane.breaker.admit(urgent=request.settles)
            try:
                seconds = self._seconds_left(deadline, leave_by)
                call = UpstreamCall(
                    request.method, request.path, query=request.query, event=request.event
                )
                if (trace := errand.worker.trace) is not None:
                    call.span = trace.asks(request.method, request.path, request.query)
                errand.calls.append(call)
                take = None if errand.tape is None else errand.tape.asks(call, request.path)
                credential = errand.credential
                self._recent.add(credential.key)
                try:
                    response = await self._client.send(
                        request,
                        account_id=credential.account_id,
                        token=credential.token,
                        seconds=seconds,
                        trace=None if call.span is None else call.span.headers,
                        take=take,
                    )
                except BaseException as error:
                    given_up = isinstance(error, asyncio.CancelledError)
                    call.ended(error=(Abandoned if given_up else type(error)).__name__)
                    was_fair = seconds >= FAIR_SHARE * errand.seconds
                    reach_failed, account_failed = _verdict(error, was_fair)
                    raise
                status = response.status
                call.ended(status=status)
                if status // 100 == 2:
                    self._accepted.accepted(credential.key)
                elif status == 401:
                    self._accepted.refused(credential.key)
                reach_failed = False
                # That a token is not accepted any more says nothing of how the others fare.
                if not lane.known or status >= 500 or self.knows(credential):
                    account_failed = status >= 500
                lane.answered(self._clock() - deadline + seconds)
                return response
            finally:
                lane.breaker.ended(account_failed, probe=probes_account)
        finally:
            lane.reach.ended(reach_failed, probe=probes_reach)

    def _seconds_left(self, deadline: float, leave_by: float) -> float:
        now = self._clock()
        if now >= deadline:
            raise _time_is_up()
        if now > leave_by:
            raise UpstreamUnavailable(
                "too little of the call's time is left to send", 1, time_is_up=True
            )
        return deadline - now

    def _may_wait(self, seconds: float, deadline: float) -> bool:
        return seconds <= self._limits.throttle_wait and self._clock() + seconds < deadline

    def _lane(self, credential: Credential) -> _Lane:
        key = account_id, known = credential.account_id, self.knows(credential)
        # Accounts are the operator's to name, not the callers': there are only so many.
        if (lane := self._lanes.get(key)) is None:
            most = self._limits.calls_per_account
            lane = self._lanes[key] = _Lane(
                known,
                self._reach[known],
                self._places[known],
                self._breaker(f"account {account_id}", known),
                Places(most if known else max(1, most // STRANGERS)),
            )
        return lane

    def _breaker(self, whose: str, known: bool) -> Breaker:
        return Breaker(self._clock, changed=_tell(_name(whose, known)))


async def _take(places: Places, deadline: float, whose: Hashable) -> None:
    try:
        await places.take(deadline, whose)
    except TimeoutError:
        raise UpstreamUnavailable("too many calls are under way", 1, time_is_up=True) from None


def _verdict(error: BaseException, was_fair: bool) -> tuple[bool | None, bool | None]:
    """Tell what a try without an answer says: was v2 not to be reached, did it fail the account?

    None is nothing. Whether v2 had a fair time to answer is said by `was_fair`.
    """
    match error:
        case UpstreamTimeout():
            # Where the time went, nobody knows; but it was v2's to answer, if it was asked.
            return None, True if error.request_left and was_fair else None
        case UpstreamUnreachable():
            return not error.request_left, True if error.request_left else None
        case UpstreamFault():
            return False, True
    return None, None


def _as_it_ended(outcome: _Outcome) -> V2Response:
    if isinstance(outcome, V2Response):
        return outcome
    raise outcome


def _backoff(tries: int) -> float:
    """Return the seconds to pause after so many tries: at random, and twice as long each time."""
    return random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (tries - 1)))  # noqa: S311


def _time_is_up() -> UpstreamTimeout:
    return UpstreamTimeout("the call's time was up", request_left=False)


def _name(whose: str, known: bool) -> str:
    return whose if known else f"{whose} (strangers)"


def _tell(whose: str) -> Callable[[State], None]:
    def tell(state: State) -> None:
        _log.warning("breaker", of=whose, state=state)

    return tell
