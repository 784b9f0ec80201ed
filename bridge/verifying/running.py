"""Verifying, call by call: the bridge's answer is had in one of two ways, and compared with v1's.

What is to be verified is planned in `reads`; what it comes to is summed up in `outcome`.
"""

import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import NamedTuple

from bridge.comparing import Answer, Comparison, Kind, Paths, Result, compare
from bridge.record.log.redaction import Redaction
from bridge.v1.dialects import Dialect
from bridge.verifying.asking import Asking, CannotBeSent, Unreachable
from bridge.verifying.core import NotRecorded, RecordedV2, translate
from bridge.verifying.outcome import STAND_INS, Outcome
from bridge.verifying.reads import Read, Skipped


class Left(NamedTuple):
    """A call that turned out not to be comparable before it was compared."""

    read: Read
    reason: Skipped
    detail: str = ""


class Judging(NamedTuple):
    """How answers are compared."""

    ignored: Paths
    wants_values: bool

    def judge(self, read: Read, v1: Answer, bridge: Answer) -> Comparison:
        """Compare the bridge's answer with v1's, with stand-ins where the recording has them."""
        if read.has_stand_ins:
            shaped = Redaction().body(bridge.body, bridge.content_type or "")
            bridge = bridge._replace(body=shaped or b"")
        return compare(v1, bridge, self.ignored, wants_values=self.wants_values)


def _structure(comparison: Comparison) -> Comparison:
    """Return the comparison without values: what is made of a stand-in says nothing."""
    values = {spot: n for spot, n in comparison.counted.items() if spot.kind is Kind.VALUE}
    if not values:
        return comparison
    counted = {spot: n for spot, n in comparison.counted.items() if spot not in values}
    return comparison._replace(
        result=Result.DIFFERENT if counted else Result.EQUAL,
        differences=tuple(each for each in comparison.differences if each.spot in counted),
        counted=counted,
        known={**comparison.known, STAND_INS: sum(values.values())},
    )


def from_recording(
    reads: Iterable[Read], v2: RecordedV2, judging: Judging, dialect: Dialect | None = None
) -> Iterator[Outcome | Left]:
    """Yield what each call comes to if v2 answers as recorded, in `dialect` if one is given."""
    for read in reads:
        began = time.perf_counter()
        try:
            bridge = translate(read, v2, dialect)
        except NotRecorded as missing:
            yield Left(read, Skipped.NO_V2, str(missing))
            continue
        outcome = _outcome(read, bridge, judging, began)
        if read.has_stand_ins and outcome.comparison is not None:
            outcome = outcome._replace(comparison=_structure(outcome.comparison))
        yield outcome


async def from_bridge(
    reads: Iterable[Read], asking: Asking, judging: Judging
) -> AsyncIterator[Outcome | Left]:
    """Yield what each call comes to at a running bridge.

    Raises:
        Unreachable: it did not even answer the first, or it is no bridge: that has no more
            passwords sent to it.
    """
    has_answered = False
    for read in reads:
        if not asking.can_ask(read):
            yield Left(read, Skipped.NO_CREDENTIAL)
            continue
        began = time.perf_counter()
        try:
            told = await asking.ask(read)
        except CannotBeSent:
            yield Outcome(read, 0.0, failure="it cannot be sent as it was recorded")
            continue
        except Unreachable as error:
            if not has_answered:
                raise
            yield Outcome(read, time.perf_counter() - began, failure=str(error))
            continue
        if not has_answered and told.request_id is None:
            raise Unreachable("who answers there is no bridge: there is no X-Request-Id")
        has_answered = True
        if told.is_v1s:
            yield Left(read, Skipped.PASSED_THROUGH)
            continue
        outcome = _outcome(read, told.answer, judging, began)
        yield outcome._replace(request_id=told.request_id)


def _outcome(read: Read, bridge: Answer, judging: Judging, began: float) -> Outcome:
    v1 = read.v1
    return Outcome(
        read,
        time.perf_counter() - began,
        judging.judge(read, v1, bridge),
        statuses=(v1.status, bridge.status),
    )
