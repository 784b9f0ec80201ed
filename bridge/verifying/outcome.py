"""What verifying came to: of each call, and of all."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from bridge.comparing import KNOWN, Comparison, Reason, Result, Spot
from bridge.score import score
from bridge.side import Side
from bridge.verifying.reads import Read, Skipped

REASONS: Mapping[Reason, str] = {
    Reason.STATUS: "says that nothing was served, and the other's does not",
    Reason.NOT_XML: "is neither well-formed XML nor JSON of v1's",
    Reason.DTD: "has a document type declaration",
    Reason.TOO_LARGE: "is too large",
    Reason.TOO_MUCH: "has too many elements, attributes or levels",
}

STAND_INS = "stand-ins"
"""The known difference of a value that is made of stand-ins."""

KNOWN_REASONS: Mapping[str, str] = {
    **{each.name: each.reason for each in KNOWN},
    STAND_INS: "The recording of v2 has stand-ins, and what is derived of a text, such as a role "
    "or a zone, cannot be of its stand-in.",
}
"""By the name of each known difference, why it is one."""


class Outcome(NamedTuple):
    """What became of one call."""

    read: Read
    seconds: float
    """How long it took."""
    comparison: Comparison | None = None
    """None: it could not be made."""
    failure: str = ""
    """Why there is no comparison."""
    statuses: tuple[int, int] = (0, 0)
    """v1's, and the bridge's; 0: there was no answer."""
    request_id: str | None = None
    """By which the log of the bridge knows the call; None: no bridge was asked."""

    @property
    def result(self) -> Result:
        """What it came to."""
        return Result.INCOMPARABLE if self.comparison is None else self.comparison.result

    @property
    def reason(self) -> str:
        """Why it could not be compared; nothing where it was."""
        if self.comparison is None or self.comparison.reason is None:
            return self.failure
        reason, side = self.comparison.reason, self.comparison.side
        whose, at = ("v1's", 0) if side is Side.V1 else ("the bridge's", 1)
        status = f" {self.statuses[at]}" if reason is Reason.STATUS else ""
        return f"{whose} answer{status} {REASONS[reason]}"


class Totals:
    """The sums of all calls."""

    def __init__(self, skipped: Mapping[tuple[Skipped, str], int]) -> None:
        """Begin with what was skipped."""
        self.skipped = Counter(skipped)
        self.results: Counter[Result] = Counter()
        self.spots: Counter[Spot] = Counter()
        """How many calls differ at each."""
        self.known: Counter[str] = Counter()
        """How often each known difference was met."""

    def add(self, outcome: Outcome) -> None:
        """Count a call."""
        self.results[outcome.result] += 1
        if outcome.comparison is not None:
            self.spots.update(outcome.comparison.counted.keys())
            self.known.update(outcome.comparison.known)

    def skip(self, reason: Skipped, read: Read) -> None:
        """Count a call that turned out not to be comparable before it was compared."""
        self.skipped[reason, read.call] += 1

    @property
    def compared(self) -> int:
        """How many calls were tried."""
        return self.results.total()

    @property
    def are_equal(self) -> bool:
        """Whether all of them are."""
        return self.compared == self.results[Result.EQUAL]

    def __str__(self) -> str:
        """Say it in one line."""
        paths: Counter[str] = Counter()
        for spot, calls in self.spots.items():
            paths[spot.path] = max(paths[spot.path], calls)
        told = score(self.results[Result.EQUAL], self.compared, paths)
        incomparable = self.results[Result.INCOMPARABLE]
        return f"{told}; {incomparable:,} could not be compared" if incomparable else told
