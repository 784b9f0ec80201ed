"""The circuit breaker: when to leave off asking somebody who keeps failing. No I/O, no clock."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from bridge.v2.errors import UpstreamUnavailable
from bridge.v2.retry_after import whole_seconds


class State(StrEnum):
    """Whether calls are let through."""

    CLOSED = "closed"
    """They are."""

    OPEN = "open"
    """They are not, for a while."""

    HALF_OPEN = "half-open"
    """One of them is, to see whether the next ones may be."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, and for how long. Times are in seconds."""

    window: float = 30.0
    """How long an outcome counts."""
    failures: int = 5
    """So many failures open it,"""
    share: float = 0.5
    """if they are this share of the outcomes that count."""
    pause: float = 5.0
    """How long it stays open at first; twice as long after each probe that fails."""
    longest_pause: float = 60.0


class Breaker:
    """Lets calls through until too many fail; then one at a time, until one succeeds."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        policy: BreakerPolicy | None = None,
        changed: Callable[[State], None] = lambda _state: None,
    ) -> None:
        """Begin closed.

        Args:
            clock: answers seconds that never run backwards.
            policy: when to open, and for how long.
            changed: is told of every new state.
        """
        self._clock = clock
        self._policy = policy or BreakerPolicy()
        self._changed = changed
        self._outcomes: deque[tuple[float, bool]] = deque(maxlen=_OUTCOMES)
        self._pause = self._policy.pause
        self._open_until = 0.0
        self.state = State.CLOSED

    @property
    def is_shut(self) -> bool:
        """Whether the next call is refused, for sure: once a pause is over, it is the probe."""
        return self.state is State.OPEN and self._open_until > self._clock()

    def admit(self, *, urgent: bool = False) -> bool:
        """Let a call through, an urgent one at any time, and tell whether it is the probe.

        Whatever becomes of the call, say so with `ended`.

        Raises:
            UpstreamUnavailable: it is of no use now.
        """
        if urgent or self.state is State.CLOSED:
            return False
        left = self._open_until - self._clock()
        if self.state is State.OPEN and left <= 0:
            self._turn(State.HALF_OPEN)
            return True
        raise UpstreamUnavailable("the circuit breaker is open", whole_seconds(left))

    def ended(self, failed: bool | None, *, probe: bool) -> None:
        """Hear how a call that was let through has ended; None: it showed nothing.

        Its failing or not says something of whoever was called, not of the call.
        """
        if probe:
            self._probed(failed)
        elif failed is not None and self.state is State.CLOSED:
            now = self._clock()
            self._outcomes.append((now, failed))
            if failed and self._too_many_fail(now):
                self._open()

    def _probed(self, failed: bool | None) -> None:
        if failed is None:  # it showed nothing: the next call is the probe
            self._open_until = self._clock()
            self._turn(State.OPEN)
        elif failed:
            self._pause = min(2 * self._pause, self._policy.longest_pause)
            self._open()
        else:
            self._pause = self._policy.pause
            self._turn(State.CLOSED)

    def _too_many_fail(self, now: float) -> bool:
        while self._outcomes[0][0] < now - self._policy.window:
            self._outcomes.popleft()
        failures = sum(failed for _, failed in self._outcomes)
        return (
            failures >= self._policy.failures
            and failures >= self._policy.share * len(self._outcomes)
        )  # fmt: skip

    def _open(self) -> None:
        self._outcomes.clear()
        self._open_until = self._clock() + self._pause
        self._turn(State.OPEN)

    def _turn(self, state: State) -> None:
        self.state = state
        self._changed(state)


_OUTCOMES = 100
"""The latest outcomes that are kept; fewer calls within the window are counted one by one."""
