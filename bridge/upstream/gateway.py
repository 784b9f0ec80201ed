"""The way to v2 for all callers: what is asked, when, how often, and when not at all.

Meant to be shared by every legacy call of a process; how one v2 call travels is `V2Client`'s part.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import structlog
from tenacity import AsyncRetrying, RetryCallState, wait_random_exponential

from bridge.secret import Secret
from bridge.upstream.breaker import Attempt, Breaker, State
from bridge.upstream.calls import UpstreamCall
from bridge.upstream.retries import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    TRIES,
    RetryBudget,
    worth_another_try,
)
from bridge.upstream.single_flight import SingleFlight
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
from bridge.v2.retry_after import THROTTLE_WINDOW, whole_seconds
from bridge.v2.wire import V2Request, V2Response

_log = structlog.get_logger("bridge.upstream")


@dataclass(frozen=True, slots=True)
class Credential:
    """For whom a call is made. Two that have the same account and token are one."""

    account_id: int
    token: Secret
    vouched: bool = field(default=False, compare=False)
    """Whether the operator has put the token in place; anybody can make up another."""
    key: Hashable = field(init=False, repr=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(self.token.reveal().encode()).digest()
        object.__setattr__(self, "key", (self.account_id, digest))


STRANGERS = 5
"""Of so many places of an account, one more is for credentials that v2 has not accepted yet."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What an operator may decide."""

    throttle_wait: float = 0.0
    """Seconds: the longest that a call waits where v2 has told its token to."""
    calls: int = 100
    """The most v2 calls at once: no more than there may be connections, for who waits for one of
    those can no longer say whether v2 was asked."""
    calls_per_account: int = 25
    """The most v2 calls of one account at once, so that none can take all of the connections."""


@dataclass(slots=True)
class _Account:
    """What the calls of one account share."""

    breaker: Breaker
    places: asyncio.Semaphore
    strangers: asyncio.Semaphore
    """The places of credentials that v2 has not accepted yet."""
    retries: RetryBudget = field(default_factory=RetryBudget)
    writes: int = 0


class _Asked(NamedTuple):
    """One call that is to be made, as `Gateway.send` has it."""

    request: V2Request
    credential: Credential
    deadline: float
    leave_by: float
    calls: list[UpstreamCall]


class Gateway:
    """Makes v2 calls, and asks a v2 in trouble no more than it can bear.

    - A GET that is under way for the same credential already is not made a second time.
    - GET and DELETE are tried again where that may help, in bounds (`bridge.upstream.retries`).
    - A token that v2 has told to wait is not used before.
    - Breakers: one for reaching v2 at all, and one an account for what comes after that, because
      v2 can fail one account and serve the next.
    """

    def __init__(self, client: V2Client, policy: Policy) -> None:
        """Make calls by `client`. Belongs to the event loop it is made in."""
        self._client = client
        self._policy = policy
        self._clock = asyncio.get_running_loop().time
        self._throttle = Throttle(self._clock)
        self._reach = Breaker(self._clock, changed=_tell("upstream"))
        self._accounts: dict[int, _Account] = {}
        self._flights: SingleFlight[V2Response] = SingleFlight()
        self._accepted: set[Hashable] = set()
        self._places = asyncio.Semaphore(policy.calls)

    def knows(self, credential: Credential) -> bool:
        """Tell whether the credential is no invention: v2 has accepted it, or the operator has.

        What an account's calls share is not for strangers to take.
        """
        return credential.vouched or credential.key in self._accepted

    def breakers(self) -> Mapping[str, State]:
        """Return the state of each breaker: `upstream`, and `account …` of those that called."""
        accounts = {_name(id_): account.breaker.state for id_, account in self._accounts.items()}
        return {"upstream": self._reach.state, **accounts}

    def outage(self) -> str | None:
        """Return what v2 is not asked for at all just now, None if there is anything it is."""
        if self._reach.is_shut:
            return "v2 is not to be reached"
        accounts = self._accounts.values()
        if accounts and all(account.breaker.is_shut for account in accounts):
            return "v2 fails every account"
        return None

    def writes(self, account_id: int) -> int:
        """Return how many writes of the account have ended.

        What was asked before a write must not be handed to those who ask after it.
        """
        return self._account(account_id).writes

    def wrote(self, account_id: int) -> None:
        """Note that a write of the account has ended, before anybody is told."""
        self._account(account_id).writes += 1

    async def send(
        self,
        request: V2Request,
        credential: Credential,
        deadline: float,
        calls: list[UpstreamCall],
        *,
        leave_by: float | None = None,
    ) -> V2Response:
        """Make one call, with whatever belongs to it.

        Args:
            request: what to ask.
            credential: for whom.
            deadline: when the answer must be there, by the event loop's clock.
            calls: is told of every try, in their order.
            leave_by: when it must have left, by the same clock; else it is not made at all.

        Raises:
            UpstreamError: there is no answer; `UpstreamUnavailable`: v2 was not even asked.
        """
        asked = _Asked(request, credential, deadline, leave_by or deadline, calls)
        if request.method != "GET" or request.settles:
            return await self._make(asked)
        key = (credential.key, self.writes(credential.account_id), request)
        while key in self._flights:
            call = UpstreamCall(request.method, request.path, shared=True)
            calls.append(call)
            try:
                async with asyncio.timeout_at(deadline):
                    response = await self._flights.join(key)
            except TimeoutError:
                call.ended(error=UpstreamTimeout.__name__)
                raise _time_is_up() from None
            except UpstreamError as error:
                call.ended(error=type(error).__name__)
                # It may have ended with the time of whoever began it: there is some left here.
                if not (isinstance(error, UpstreamSilence) and error.time_is_up):
                    raise
            else:
                call.ended(status=response.status)
                return response
        return await self._flights.begin(key, self._make(asked))

    async def _make(self, asked: _Asked) -> V2Response:
        account = self._account(asked.credential.account_id)
        account.retries.earn()
        earlier: UpstreamUnreachable | V2Response | None = None  # that may have been served

        async def attempt() -> V2Response:
            nonlocal earlier
            try:
                response = await self._try(asked)
            except UpstreamUnreachable as error:
                if error.request_left:
                    earlier = error
                raise
            except UpstreamUnavailable:
                if asked.request.method == "GET" or earlier is None:
                    raise
                return _as_before(earlier)
            if response.status == 429 and asked.request.method != "GET" and earlier is not None:
                return _as_before(earlier)
            repeated = earlier is not None
            earlier = response
            return replace(response, repeated=True) if repeated else response

        def give_up(state: RetryCallState) -> bool:
            return (
                state.attempt_number >= TRIES
                or self._clock() + state.upcoming_sleep >= asked.deadline
                or not account.retries.spend()
            )

        retrying = AsyncRetrying(
            sleep=asyncio.sleep,
            retry=lambda state: worth_another_try(asked.request, _outcome(state)),
            wait=_pause,
            stop=give_up,
            retry_error_callback=_as_it_ended,
        )
        return await retrying(attempt)

    async def _try(self, asked: _Asked) -> V2Response:
        account = self._account(asked.credential.account_id)
        while True:
            await self._wait_as_told(asked)
            places = account.places if self.knows(asked.credential) else account.strangers
            async with _place(places, asked.leave_by), _place(self._places, asked.leave_by):
                if self._throttle.left(asked.credential.key):
                    continue  # the token was told so in the meantime
                with (
                    self._reach.admit(urgent=asked.request.settles) as reaching,
                    account.breaker.admit(urgent=asked.request.settles) as answering,
                ):
                    response = await self._judged(asked, reaching, answering)
            if response.status != 429:
                return response
            wait = response.retry_after or THROTTLE_WINDOW
            self._throttle.told(asked.credential.key, wait)
            if not self._may_wait(wait, asked.leave_by):
                return response

    async def _judged(self, asked: _Asked, reaching: Attempt, answering: Attempt) -> V2Response:
        """Make a try, and let the breakers know what it says of v2."""
        try:
            response = await self._call(asked)
        except UpstreamTimeout as error:
            # Where the time went, nobody knows; but it was v2's to answer, if it was asked.
            if error.request_left:
                answering.ended(failed=True)
            raise
        except UpstreamUnreachable as error:
            reaching.ended(failed=not error.request_left)
            if error.request_left:
                answering.ended(failed=True)
            raise
        except UpstreamFault:
            reaching.ended(failed=False)
            answering.ended(failed=True)
            raise
        reaching.ended(failed=False)
        # That a stranger is refused says nothing of how others fare.
        if response.status >= 500 or self.knows(asked.credential):
            answering.ended(failed=response.status >= 500)
        return response

    async def _wait_as_told(self, asked: _Asked) -> None:
        while wait := self._throttle.left(asked.credential.key):
            if not self._may_wait(wait, asked.leave_by):
                raise UpstreamUnavailable("v2 has told this token to wait", whole_seconds(wait))
            await asyncio.sleep(wait)

    def _may_wait(self, seconds: float, deadline: float) -> bool:
        return seconds <= self._policy.throttle_wait and self._clock() + seconds < deadline

    async def _call(self, asked: _Asked) -> V2Response:
        left = asked.deadline - self._clock()
        if left <= 0:
            raise _time_is_up()
        if self._clock() > asked.leave_by:
            raise UpstreamUnavailable("too little of the call's time is left to send", 1)
        call = UpstreamCall(asked.request.method, asked.request.path)
        asked.calls.append(call)
        try:
            response = await self._client.send(
                asked.request,
                account_id=asked.credential.account_id,
                token=asked.credential.token,
                seconds=left,
            )
        except BaseException as error:
            call.ended(error=type(error).__name__)
            raise
        call.ended(status=response.status)
        if response.status // 100 == 2:
            self._accepted.add(asked.credential.key)
        elif response.status == 401:
            self._accepted.discard(asked.credential.key)
        return response

    def _account(self, account_id: int) -> _Account:
        # Accounts are the operator's to name, not the callers': there are only so many.
        if (account := self._accounts.get(account_id)) is None:
            account = self._accounts[account_id] = _Account(
                Breaker(self._clock, changed=_tell(_name(account_id))),
                asyncio.Semaphore(self._policy.calls_per_account),
                asyncio.Semaphore(max(1, self._policy.calls_per_account // STRANGERS)),
            )
        return account


@asynccontextmanager
async def _place(places: asyncio.Semaphore, deadline: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(deadline):
            await places.acquire()
    except TimeoutError:
        raise UpstreamUnavailable("too many calls are under way", 1, time_is_up=True) from None
    try:
        yield
    finally:
        places.release()


def _outcome(state: RetryCallState) -> V2Response | BaseException:
    assert state.outcome is not None  # noqa: S101 - tenacity has it at every hook used here
    return state.outcome.exception() or state.outcome.result()


def _as_before(earlier: UpstreamUnreachable | V2Response) -> V2Response:
    """Let an earlier try be the answer: it may have been served, so v2 was not "not asked"."""
    if isinstance(earlier, V2Response):
        return earlier
    raise earlier


def _as_it_ended(state: RetryCallState) -> V2Response:
    """Return the last answer or raise the last error: neither is tenacity's to replace."""
    assert state.outcome is not None  # noqa: S101
    response: V2Response = state.outcome.result()
    return response


_backoff = wait_random_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE)


def _pause(state: RetryCallState) -> float:
    outcome = _outcome(state)
    asked = outcome.retry_after if isinstance(outcome, V2Response) else None
    return max(_backoff(state), asked or 0.0)


def _time_is_up() -> UpstreamTimeout:
    return UpstreamTimeout("the call's time was up", request_left=False)


def _name(account_id: int) -> str:
    return f"account {account_id}"


def _tell(whose: str) -> Callable[[State], None]:
    def tell(state: State) -> None:
        _log.warning("breaker", of=whose, state=state)

    return tell
