"""What is known of a legacy call while it is served, and the event that is made of it at its end.

What the sinks of that event show of it (the log line, and whoever else wants to know) is written
with them.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

import structlog

from bridge.identity.agents import agent_of
from bridge.identity.callers import Caller, Refusal, Way
from bridge.identity.digests import Digests
from bridge.identity.masking import without_addresses
from bridge.record.log.capture import Capture
from bridge.record.log.events import (
    CLIENT_GONE,
    LEGACY_CALL,
    OTHERS,
    CallEvent,
    Ended,
    NoteEvent,
    Outcome,
    Sink,
    line_of,
    outcome_of,
)
from bridge.record.log.ids import Ids
from bridge.server.told_apart import ToldApart
from bridge.server.upstream_events import events_of
from bridge.tape import Tape
from bridge.upstream.calls import UpstreamCall, milliseconds, milliseconds_since
from bridge.v1.dialects import Dialect
from bridge.v1.notes import Note, Notes

_log = structlog.get_logger("bridge.calls")

_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
)
"""Those that a log names (RFC 9110, RFC 5789): any other is its client's to make up."""

_WORTH_TELLING = 0.001
"""Seconds of waiting: below that, it is the time that asking takes."""


TOLD_AT_ONCE = 64
"""Calls of which events are made one after another, which takes 10 microseconds each. Between two
other calls it takes 40, for by then the processor has forgotten how."""

TOLD_WITHIN = 0.05
"""Seconds that such a call waits for others to be told of, at most."""


class Bound(NamedTuple):
    """How many are told apart in a day."""

    of_one: int
    """Of one credential that is known, or of one network."""
    in_all: int


INTEGRATIONS = {True: Bound(100, 20_000), False: Bound(100, 1_000)}
"""Of callers who are known, and of those who are not (docs/log.md, "Who it was")."""

PATHS = {True: Bound(200, 20_000), False: Bound(50, 1_000)}
"""Likewise, of paths."""

KINDS = {True: Bound(2_000, 100_000), False: Bound(500, 5_000)}
"""Likewise, of kinds of calls, each of which is a row of counts for ever: without a bound of its
own, there would be as many as integrations times paths times methods."""

NOTED = {True: Bound(1_000, 20_000), False: Bound(200, 2_000)}
"""Likewise, of notes on what one integration does at one route: each is a row, too, and what it is
about may be a name that a client has made up."""

_OTHER_PATHS = "/{…}"


def _told_apart(bounds: Mapping[bool, Bound]) -> dict[bool, ToldApart]:
    return {
        known: ToldApart(of_one=bound.of_one, in_all=bound.in_all)
        for known, bound in bounds.items()
    }


@dataclass(slots=True)
class CallRecord:
    """A legacy call, as the operator may know it.

    Holds no body and no secret; its event holds no e-mail address either.
    """

    request_id: str
    method: str
    user_agent: str | None
    started: float = field(default_factory=time.monotonic)
    milliseconds: float | None = None
    """From its start to its answer, once the clock is stopped."""
    ended_at: int = 0
    """Nanoseconds since 1970, once it has ended."""
    route: str | None = None
    path: str | None = None
    """Where no route was found, the path with all that is no plain word replaced."""
    successor: str | None = None
    """The v2 path that takes the place of what was called."""
    dialect: Dialect | None = None
    format: str | None = None
    """That of the answer, where it is not XML."""
    way: Way | None = None
    account_id: int | None = None
    """That of the caller, or the one that whoever was refused has asked for."""
    label: str | None = None
    """What the book calls the caller."""
    subdomain: str | None = None
    host: str | None = None
    login: str | None = None
    """Keyed digest of the login that came with the call."""
    token: str | None = None
    """Keyed digest of the token that came with the call."""
    passed_through: bool = False
    """Whether the answer is v1's."""
    is_known: bool = False
    """Whether the credential is no invention: the operator's, or one that v2 has accepted."""
    address: str | None = None
    network: str | None = None
    http: str | None = None
    tls: str | None = None
    refusal: str | None = None
    problem: str | None = None
    v2_words: str | None = None
    """v2's own on a 400 or 422, which are not for everybody's log."""
    waited: float = 0.0
    """Seconds that it waited: in turns, for places, for another call, throttled, the journal."""
    translated: float = 0.0
    """Seconds that its flow took, without those that it waited for v2 or others."""
    bytes_in: int = 0
    bytes_out: int = 0
    upstream_calls: list[UpstreamCall] = field(default_factory=list)
    shared_with: str | None = None
    """The request id of the call whose answer this one got, too."""
    notes: Notes = field(default_factory=Notes)
    cause: str | None = None
    """Why the answer is not 2xx, for the operator."""
    status: int | None = None
    """That of the answer; None: the call was given up, because its client was gone."""
    is_grave: bool = False
    """Whether an operator should look into it: a write that was cut off."""
    outlived_client: bool = False
    """Whether it was served to its end although its client was gone."""

    @property
    def outcome(self) -> Outcome:
        """What became of it, once that is known."""
        if self.refusal == Refusal.BROWNOUT:  # whose status is also that of a lack of room
            return Outcome.WITHDRAWN
        return outcome_of(self.status, passed_through=self.passed_through)

    def told_of(self, caller: Caller) -> None:
        """Note who is calling, as far as a log may know."""
        self.way, self.account_id, self.label = caller.way, caller.account_id, caller.label
        self.login, self.token = caller.login, caller.token_digest

    def claims(self, account_id: int | None, login: str | None, token: str | None) -> None:
        """Note who the call says that it is, whether or not that is true: the first it names."""
        if self.login is None and self.token is None:
            self.account_id, self.login, self.token = account_id, login, token

    def ran(self, seconds: float, away: float) -> None:
        """Note how long its flow took, and how long of that it was with v2 or waited."""
        self.translated += seconds - away
        v2 = sum([each.milliseconds or 0.0 for each in self.upstream_calls])
        self.waited += away - v2 / 1000

    def stop_the_clock(self) -> None:
        """Note how long it took: what comes now is not its client's waiting."""
        self.milliseconds = milliseconds_since(self.started)

    def end(self) -> None:
        """Note when it ended: its event may be made later."""
        self.ended_at = time.time_ns()
        if self.milliseconds is None:
            self.stop_the_clock()


class Recorder:
    """Makes the event of each call that has ended, and tells the sinks, which never wait.

    Callers make up what tells them apart, paths, and what notes are about. So many of those are
    told apart in a day, of each network or credential and in all: a flood fills no table. The rest
    is counted together.
    """

    def __init__(
        self,
        sinks: Iterable[Sink],
        digests: Digests,
        capture: Capture | None = None,
    ) -> None:
        """Tell these sinks; `capture` says what more may be kept, by default nothing."""
        self.digests = digests
        self._sinks = tuple(sinks)
        self.capture = capture or Capture()
        self._ids = Ids()
        self._integration_of = lru_cache(maxsize=4096)(digests.integration)
        self._integrations = _told_apart(INTEGRATIONS)
        self._paths = _told_apart(PATHS)
        self._kinds = _told_apart(KINDS)
        self._noted = _told_apart(NOTED)
        self._untold: list[CallRecord] = []
        self._telling: asyncio.TimerHandle | None = None

    def ended(self, record: CallRecord, tape: Tape | None = None) -> CallEvent | None:
        """Tell the sinks of a call that has ended, and of what was heard of it.

        Returns what they were told of the call; None: nothing.
        """
        record.end()
        self.catch_up()
        ended = self._ended(record, tape)
        if ended is None:
            return None
        self._tell([ended])
        return ended.call

    def ended_among_others(self, record: CallRecord) -> None:
        """Tell the sinks of a call with others that end soon, at the latest `TOLD_WITHIN` later."""
        record.end()
        self._untold.append(record)
        if len(self._untold) >= TOLD_AT_ONCE:
            self.catch_up()
        elif self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(TOLD_WITHIN, self.catch_up)

    def catch_up(self) -> None:
        """Tell the sinks of all that has ended until now."""
        if not self._untold:
            return
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        untold, self._untold = self._untold, []
        self._tell([ended for record in untold if (ended := self._ended(record, None))])

    def _tell(self, calls: Sequence[Ended]) -> None:
        for sink in self._sinks:
            try:
                sink(calls)
            except Exception as error:  # noqa: BLE001 - the calls themselves have ended well
                _log.error("not_recorded", cause=type(error).__name__)

    def _ended(self, record: CallRecord, tape: Tape | None) -> Ended | None:
        try:
            call = self._event(record)
            overheard = None if tape is None else self.capture.kept(tape, call)
            return Ended(call, line_of(call), overheard)
        except Exception as error:  # noqa: BLE001 - likewise
            _log.error("not_recorded", cause=type(error).__name__)
            return None

    def _event(self, record: CallRecord) -> CallEvent:
        agent = agent_of(record.user_agent)
        method = record.method if record.method in _METHODS else "…"
        path = None if record.path is None else self._path(record, record.path)
        integration = self._integration(record, agent.family)
        kind = (
            integration, method, record.route or path,
            record.dialect, record.status, record.refusal,
        )  # fmt: skip
        if not self._kinds[record.is_known].tells(kind, _by(record)):
            integration, path = OTHERS, path and _OTHER_PATHS
        spent, upstream = 0.0, events_of(record.upstream_calls)
        for each in upstream:
            spent += each.milliseconds or 0.0
        return CallEvent(
            event=CLIENT_GONE if record.outlived_client else LEGACY_CALL,
            level="warning" if record.is_grave else "info",
            timestamp=datetime.fromtimestamp(record.ended_at / 1e9, UTC),
            id=self._ids.next(record.ended_at),
            request_id=record.request_id,
            integration=integration,
            method=method,
            route=record.route,
            path=path,
            # Plain texts: to tell another type of text costs each sink more than that.
            dialect=record.dialect and str(record.dialect),
            format=record.format,
            way=record.way and str(record.way),
            account_id=record.account_id,
            label=record.label and without_addresses(record.label),
            subdomain=record.subdomain,
            host=record.host,
            login=record.login,
            token=record.token,
            is_known=record.is_known,
            address=record.address,
            network=record.network,
            user_agent=agent.user_agent,
            agent=agent.family,
            http=record.http,
            tls=record.tls,
            status=record.status,
            outcome=str(record.outcome),
            refusal=record.refusal,
            problem=record.problem,
            cause=record.cause,
            v2_says=None
            if record.v2_words is None
            else self.capture.quoted(integration, record.v2_words),
            milliseconds=record.milliseconds or 0.0,
            v2_milliseconds=round(spent, 1) if upstream else None,
            waiting_milliseconds=milliseconds(record.waited)
            if record.waited >= _WORTH_TELLING
            else None,
            translation_milliseconds=milliseconds(record.translated) if record.translated else None,
            bytes_in=record.bytes_in,
            bytes_out=record.bytes_out,
            shared_with=record.shared_with,
            upstream=upstream,
            notes=self._notes(record, integration, method),
        )

    def integration(self, record: CallRecord) -> str:
        """Return whose a call is, as soon as its caller has been noted."""
        return self._whole(record, agent_of(record.user_agent).family)

    def _whole(self, record: CallRecord, family: str | None) -> str:
        return self._integration_of(
            record.account_id, record.subdomain, _whose(record), family, record.network
        )

    def _integration(self, record: CallRecord, family: str | None) -> str:
        integration = self._whole(record, family)
        told = self._integrations[record.is_known].tells(integration, _by(record))
        return integration if told else OTHERS

    def _path(self, record: CallRecord, path: str) -> str:
        return path if self._paths[record.is_known].tells(path, _by(record)) else _OTHER_PATHS

    def _notes(self, record: CallRecord, integration: str, method: str) -> tuple[NoteEvent, ...]:
        counts: dict[Note, int] = {}
        for note, count in record.notes:
            what = integration, method, record.route, note
            told = self._noted[record.is_known].tells(what, _by(record))
            kept = note if told else Note(note.code, "…")
            counts[kept] = counts.get(kept, 0) + count
        return tuple([NoteEvent(*note, count) for note, count in counts.items()])


def _whose(record: CallRecord) -> str | None:
    # Whoever sends a token may send any login with it.
    return record.token or record.login


def _by(record: CallRecord) -> str:
    return (_whose(record) if record.is_known else record.network) or ""
