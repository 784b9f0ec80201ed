"""A legacy call being served: the steps that a flow yields, and the parts that flows are made of.

What a resource asks of v2 stands in its own module; who carries the steps out, in `bridge.server`.
"""

from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec

from bridge.resources.table import Identified
from bridge.v1.errors import LegacyCallError, NotFound
from bridge.v1.wire import V1Response
from bridge.v2.decoding import decode
from bridge.v2.errors import (
    OutcomeUnknown,
    UpstreamError,
    UpstreamFault,
    UpstreamRefusal,
    UpstreamSilence,
    WriteNotDone,
)
from bridge.v2.wire import V2Request, V2Response, require_status
from bridge.v2.writes import Intent, Outcome, Write


@dataclass(frozen=True, slots=True)
class Begin:
    """A step of a flow: have the journal put a write on record; the answer is its `Intent`.

    That is an earlier one if the same has been asked before, and was not settled or not answered.
    """

    write: Write


@dataclass(frozen=True, slots=True)
class Settle:
    """A step of a flow: have the journal note what came of a write.

    The answer is false if nothing was noted, because what was `found` is what another write made.
    """

    intent: Intent
    outcome: Outcome
    made_id: int | None = None
    found: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """A step of a flow: let some time pass, unless too little would be left after it.

    The answer is whether it has passed.
    """

    share: float
    """Of the time that the whole call may take."""


@dataclass(frozen=True, slots=True)
class CountCalls:
    """A step of a flow: say how near the caller's token is to v2's limit, which is a `Rate`."""


@dataclass(frozen=True, slots=True)
class GoElsewhere:
    """A step of a flow: go on where it holds up nobody, for the way to the next step is long."""


Step = V2Request | Begin | Settle | Pause | CountCalls | GoElsewhere

T = TypeVar("T")

Steps = Generator[Step, Any, T]
"""A part of a flow. It is sent what each step says is its answer, such as a `V2Response`.

A v2 call that got no answer is thrown in as the `UpstreamError` it ended in.
"""

Flow = Steps[V1Response]
"""A legacy call being served: returns the v1 answer."""

LOOK_AGAIN = (1 / 30, 2 / 30, 4 / 30)
"""Shares of a call's time between the looks for one write: v2 may still be at work on it."""

Elsewhere = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Calls a function where it holds up nobody, such as in a thread, and returns its result."""

LONG_BODY = 64 * 1024
"""Bytes: what is longer takes a millisecond or more to read, or to translate."""


async def run(
    steps: Steps[T],
    perform: Callable[[Step], Awaitable[Any]],
    elsewhere: Elsewhere | None = None,
    apart: Elsewhere | None = None,
) -> T:
    """Take `steps` to their end, and return what they come to; raises what they raise.

    Args:
        steps: not begun yet.
        perform: does what a step says and returns the answer to it; what it raises is thrown in
            instead.
        elsewhere: where to go on with an answer of v2 that is long; None: here.
        apart: where to go on when the steps say so; None: here.
    """
    resume: Callable[[Any], Step] = steps.send
    answer: Any = None
    away: Elsewhere | None = None
    while True:
        if away is None:
            step, end = _resume(resume, answer)
        else:
            step, end = await away(partial(_resume, resume, answer))
        if step is None:
            value: T = end
            return value
        if isinstance(step, GoElsewhere):
            resume, answer, away = steps.send, None, apart
            continue
        try:
            resume, answer = steps.send, await perform(step)
        except Exception as error:  # noqa: BLE001 - a defect, too, is for the steps to settle
            resume, answer = steps.throw, error
        is_long = isinstance(answer, V2Response) and len(answer.body) > LONG_BODY
        away = elsewhere if is_long else None


def _resume(resume: Callable[[Any], Step], answer: object) -> tuple[Step | None, Any]:
    """Return the next step, or None and what the steps come to."""
    try:
        return resume(answer), None
    except StopIteration as end:  # which no future can carry
        return None, end.value


class Made(NamedTuple):
    """What a write made: its id, and the JSON that v2 has for it."""

    id: int
    data: bytes | msgspec.Raw


Look = Callable[[Intent], Steps[Sequence[Made]]]
"""Finds by v2 calls what a write may have made: all that is new since then and like it.

With a `made_id`, that is what has this id. Raises `UpstreamError` if it cannot tell.
"""


def find(intent: Intent, look: Look, pauses: Sequence[float] = ()) -> Steps[Made | None]:
    """Settle a write by looking; part of a flow (schemas/README.md, "Unknown outcomes").

    Returns what it made; None says that it was not done. There is one look more than `pauses`,
    shares of a call's time, as long as they pass.

    Raises:
        UpstreamError: the look failed, and nothing is settled.
    """
    for share in pauses:
        if made := (yield from _look_once(intent, look)):
            return made
        if not (yield Pause(share)):
            break
    made = yield from _look_once(intent, look)
    if made is None:
        yield Settle(intent, Outcome.ABSENT)
    return made


def _look_once(intent: Intent, look: Look) -> Steps[Made | None]:
    for made in (yield from look(intent)):
        if (yield Settle(intent, Outcome.DONE, made.id, found=True)):
            return made
    return None


def write_once(write: Write, look: Look) -> Steps[Made]:
    """Make a v2 call that must not happen twice; part of a flow.

    Args:
        write: the call.
        look: how to find what it made, if its answer is lost.

    Raises:
        OutcomeUnknown: nobody can say whether it happened, for the look failed too.
        WriteNotDone: its answer was lost, and a look shows that it did not happen.
        UpstreamRefusal: it did not happen, v2 has refused it.
        UpstreamSilence: it did not happen, v2 was never reached.
        NotFound: it happened when it was asked before, and what it made is gone since.
    """
    intent: Intent = yield Begin(write)
    try:
        return (yield from _make_or_find(write, intent, look))
    except (UpstreamError, LegacyCallError):
        raise
    except Exception:
        # A defect. Whatever it has left undone, the next one who asks for the same has to look.
        if intent.outcome is not Outcome.DONE:
            yield Settle(intent, Outcome.UNKNOWN)
        raise


def _make_or_find(write: Write, intent: Intent, look: Look) -> Steps[Made]:
    asked_before = intent.outcome is not Outcome.OPEN
    if asked_before and (made := (yield from _made_before(intent, look))):
        return made
    try:
        return (yield from _make(write, intent))
    except OutcomeUnknown as unknown:
        made = yield from _or_unknown(find(intent, look, LOOK_AGAIN), intent, str(unknown))
        if made is None:
            raise WriteNotDone(str(unknown)) from unknown
        return made
    except (UpstreamRefusal, UpstreamSilence):
        # What was asked before may still turn up.
        yield Settle(intent, Outcome.ABSENT if asked_before else Outcome.NOT_DONE)
        raise


def _made_before(intent: Intent, look: Look) -> Steps[Made | None]:
    if intent.outcome is not Outcome.DONE:
        # Not settled here: it is about to be sent again, and stays open meanwhile.
        return (yield from _or_unknown(_look_once(intent, look), intent, "asked before"))
    try:
        made = yield from look(intent)
    except UpstreamError as failed:
        # That it was done is known; only, it cannot be shown.
        raise OutcomeUnknown(f"done when it was asked before; then, looking: {failed}") from failed
    if made:
        return made[0]
    yield Settle(intent, Outcome.ABSENT)  # whoever asks once more means it
    raise NotFound("This was done when it was asked for the first time, and is deleted since.")


def _or_unknown(finding: Steps[Made | None], intent: Intent, reason: str) -> Steps[Made | None]:
    try:
        return (yield from finding)
    except UpstreamError as failed:
        yield Settle(intent, Outcome.UNKNOWN)
        raise OutcomeUnknown(f"{reason}; then, looking: {failed}") from failed


def _make(write: Write, intent: Intent) -> Steps[Made]:
    try:
        response: V2Response = yield write.request
        if response.status >= 500 or response.status == 408:
            raise OutcomeUnknown(f"v2 answered {response.status}")
        if response.status >= 400:
            require_status(response, 201)
        made = Made(decode(response.body, Identified).id, response.body)
    except UpstreamSilence as silence:
        if not silence.request_left:
            raise
        raise OutcomeUnknown(f"{type(silence).__name__}: {silence}") from silence
    except UpstreamFault as fault:
        raise OutcomeUnknown(str(fault)) from fault
    yield Settle(intent, Outcome.DONE, made.id)
    return made
