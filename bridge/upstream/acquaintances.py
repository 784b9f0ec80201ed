"""The credentials that v2 has accepted, as long as it does. No I/O: who keeps them is told.

What is theirs that strangers have not is said in `bridge.upstream.gateway`.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable

Key = tuple[int, bytes]
"""An account, and the digest of a token."""

MOST = 10_000
"""Credentials that are known at once, and kept: a v2 that answers well to all makes any number."""

RENEWAL = 86400.0
"""Seconds after which who keeps them is told again of one that v2 still accepts."""


def _nobody_keeps(_key: Key) -> None:
    pass


class Acquaintances:
    """Those of one process, and of earlier ones if somebody has kept them."""

    def __init__(
        self,
        clock: Callable[[], float],
        kept: Iterable[Key] = (),
        *,
        keep: Callable[[Key], None] = _nobody_keeps,
        drop: Callable[[Key], None] = _nobody_keeps,
        most: int = MOST,
    ) -> None:
        """Know those that were `kept`; `clock` answers seconds that never run backwards.

        `keep` is told of one that v2 accepts, for the first time and then about daily, and `drop`
        of one that it accepts no more, or that is the longest ago where there would be more than
        `most`.
        """
        self._most = most
        self._clock = clock
        self._keep = keep
        self._drop = drop
        self._told = OrderedDict.fromkeys(kept, float("-inf"))
        """When who keeps them was told of each; the one that was accepted last comes last."""

    def __contains__(self, key: Key) -> bool:
        return key in self._told

    def accepted(self, key: Key) -> None:
        """Note that v2 has accepted a credential."""
        now = self._clock()
        if now - self._told.get(key, float("-inf")) >= RENEWAL:
            self._told[key] = now
            self._keep(key)
        self._told.move_to_end(key)
        if len(self._told) > self._most:
            self.refused(next(iter(self._told)))

    def refused(self, key: Key) -> None:
        """Note that v2 has refused a credential: it is a stranger's again."""
        if self._told.pop(key, None) is not None:
            self._drop(key)
