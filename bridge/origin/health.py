"""Whether v1 is worth asking at an origin: a breaker for each, and when one is gone for good.

No I/O, no clock.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping

from bridge.origin.place import Place
from bridge.upstream.breaker import Breaker, State
from bridge.upstream.recent import RecentCalls
from bridge.v2.rate_limit import WINDOW

MOST = 1_000
"""Origins that are told apart: subdomains are their callers' to make up."""

MOST_NAMED = 3
"""Of those, in a warning."""

IN_A_ROW = 10
"""Answers of 404 or 410, none other between them,"""

DIFFERENT = 3
"""for so many different paths that v1 has always had, and v1 is gone."""

LOOKS_AGAIN_AFTER = 60.0
"""Seconds after which one more call is sent to see whether v1 is there again."""


class Origin:
    """One of them, as its answers show it."""

    def __init__(self, place: Place, clock: Callable[[], float], breaker: Breaker) -> None:
        self.place = place
        self.breaker = breaker
        self.is_gone = False
        self.has_answered = False
        """Whether v1 has ever been there: anybody can make a subdomain up."""
        self._clock = clock
        self._looks_again_at = 0.0
        self._rests_until = 0.0
        self._missing = 0
        self._missing_paths: set[str] = set()

    @property
    def is_worth_asking(self) -> bool:
        """Whether v1 is there, or it is time to look again."""
        return not self.is_gone or self._clock() >= self._looks_again_at

    @property
    def rests(self) -> bool:
        """Whether it has asked to wait, which counts for whoever need not ask it."""
        return self._clock() < self._rests_until

    def rest(self, seconds: float) -> None:
        """Hear that it asks to wait for so long."""
        self._rests_until = max(self._rests_until, self._clock() + seconds)

    def looks(self) -> None:
        """Let nobody else look for a while."""
        if self.is_gone:
            self._looks_again_at = self._clock() + LOOKS_AGAIN_AFTER

    def answered(self, status: int, standing: str | None) -> bool:
        """Hear an answer to a call of `standing`, a path that v1 has always had, or None.

        To strangers too, and to whoever asks for what is deleted, a v1 that is there answers
        something else than 404 or 410 there: an attacker cannot talk it away. Returns whether that
        has changed what is known of it.
        """
        if status not in {404, 410}:
            self.has_answered = True
            self._missing = 0
            self._missing_paths.clear()
            return self._turn(gone=False)
        if standing is None:
            return False
        self._missing += 1
        if len(self._missing_paths) < DIFFERENT:
            self._missing_paths.add(standing)
        is_gone = self._missing >= IN_A_ROW and len(self._missing_paths) >= DIFFERENT
        return is_gone and self._turn(gone=True)

    def has_no_address(self) -> bool:
        """Hear that nobody knows the name of its host; return whether that is news."""
        return self._turn(gone=True)

    def _turn(self, *, gone: bool) -> bool:
        if gone:
            self._looks_again_at = self._clock() + LOOKS_AGAIN_AFTER
        was, self.is_gone = self.is_gone, gone
        return was != gone


class Origins:
    """All that have been called of late."""

    def __init__(self, clock: Callable[[], float], changed: Callable[[Place, State], None]) -> None:
        """Know none yet; `changed` is told of each new state of a breaker."""
        self._clock = clock
        self._changed = changed
        self._known: OrderedDict[Place, Origin] = OrderedDict()
        self.recent = RecentCalls(clock, WINDOW)
        """Calls to each place of late: v1 allowed an account as many as v2 does."""

    def of(self, place: Place) -> Origin:
        """Return what is known of a place."""
        if (known := self._known.get(place)) is None:
            breaker = Breaker(self._clock, changed=lambda state: self._changed(place, state))
            known = self._known[place] = Origin(place, self._clock, breaker)
            if len(self._known) > MOST:
                self._known.popitem(last=False)
        self._known.move_to_end(place)
        return known

    def gone(self) -> list[str]:
        """Return where v1 is gone, of the places that have been called of late."""
        return sorted(
            each.place.authority
            for each in self._known.values()
            if each.is_gone and self.matters(each)
        )

    def matters(self, origin: Origin) -> bool:
        """Tell whether it is worth telling of one: v1 has been there, or nowhere yet."""
        return origin.has_answered or not any(each.has_answered for each in self._known.values())

    def warning(self) -> str | None:
        """Return where v1 is gone, in one line; None: nowhere."""
        if not (gone := self.gone()):
            return None
        more = f", and {len(gone) - MOST_NAMED} more" if len(gone) > MOST_NAMED else ""
        return f"v1 is gone: {', '.join(gone[:MOST_NAMED])}{more}"

    def breakers(self) -> Mapping[str, State]:
        """Return the state of each breaker that is not closed, by what it is of."""
        return {
            f"v1 {place.authority}": origin.breaker.state
            for place, origin in self._known.items()
            if origin.breaker.state is not State.CLOSED
        }
