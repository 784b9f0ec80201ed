"""Connections of which no call came: counted by network and reason, and told of now and then.

What went wrong is found out by whoever held the connection; who is told is handed in.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from bridge.identity.hosts import network_of
from bridge.record.log.events import ConnectionEvent
from bridge.server.handshakes import why_no_handshake
from bridge.server.told_apart import ToldApart

_log = structlog.get_logger("bridge")

INTERVAL = 10.0
"""Seconds between two events about what failed alike."""

KINDS = 256
"""The most that are told apart within an interval; what else fails then is counted together."""

KINDS_A_DAY = 5_000
"""Likewise, within a day: each is a row of the translation log."""

OTHERS = "others"
"""In the place of a network: all that are too many to be told apart."""

Sink = Callable[[ConnectionEvent], None]
"""Is told what has failed, with its count. It must not wait, and must not raise."""

_Kind = tuple[str, str, str]
"""Event, network and reason."""


@dataclass(slots=True)
class _Tally:
    count: int = 0
    """How many there were that nobody has been told of."""
    detail: str | None = None


class FailedConnections:
    """Tells of the first that fails in a new way at once, of further ones with their number.

    A flood costs one event an interval for each network and reason, and as much memory as `KINDS`
    of them take. The network is that of whoever connected: behind a proxy it is the proxy's, for
    what is no request names no client.
    """

    def __init__(self, sinks: Iterable[Sink] = (), interval: float = INTERVAL) -> None:
        """Belongs to the event loop it is made in."""
        self._sinks = tuple(sinks)
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self._tallies: dict[_Kind, _Tally] = {}
        self._today = ToldApart(of_one=KINDS_A_DAY, in_all=KINDS_A_DAY)
        self._timer: asyncio.TimerHandle | None = None

    def handshake(self, error: OSError, address: str, tls: ssl.SSLContext, hello: bytes) -> None:
        """Count a handshake with `tls` that failed; `hello` are the first bytes of its client."""
        reason, detail = why_no_handshake(error, tls, hello)
        self.count("tls_handshake_failed", network_of(address), reason, detail)

    def count(self, event: str, network: str, reason: str, detail: str | None = None) -> None:
        """Count one more. `reason` is a code, of which there are few; `detail` is for people."""
        kind = event, network, reason
        if kind not in self._tallies and (
            len(self._tallies) >= KINDS or not self._today.tells(kind, "")
        ):
            kind = event, OTHERS, reason
        tally = self._tallies.get(kind)
        if tally is None:
            self._tallies[kind] = _Tally()
            self._tell(kind, 1, detail)
            if self._timer is None:
                self._timer = self._loop.call_later(self._interval, self._tell_all)
            return
        tally.count += 1
        tally.detail = detail

    def close(self) -> None:
        """Tell what nobody has been told of: no more are to come."""
        if self._timer is not None:
            self._timer.cancel()
            self._tell_all()

    def _tell_all(self) -> None:
        """Tell of those that went on failing; the others are as good as new."""
        self._timer = None
        told = {kind: tally for kind, tally in self._tallies.items() if tally.count}
        self._tallies = {kind: _Tally() for kind in told}
        for kind, tally in told.items():
            self._tell(kind, tally.count, tally.detail)
        if told:
            self._timer = self._loop.call_later(self._interval, self._tell_all)

    def _tell(self, kind: _Kind, count: int, detail: str | None) -> None:
        event, network, reason = kind
        told = ConnectionEvent(
            event=event,
            timestamp=datetime.now(UTC),
            network=network,
            reason=reason,
            detail=detail,
            count=count,
        )
        for sink in self._sinks:
            try:
                sink(told)
            except Exception as error:  # noqa: BLE001 - the others are to be told, too
                _log.error("not_recorded", cause=type(error).__name__)
