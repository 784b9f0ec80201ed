"""Whether two answers to one legacy call, v1's and the bridge's, are the same to a v1 client.

Who asks for them, and what is kept of the result, is the caller's business: nothing here does I/O.
"""

from bridge.comparing.answers import compare
from bridge.comparing.documents import LONGEST
from bridge.comparing.findings import (
    Answer,
    Comparison,
    Difference,
    Kind,
    Reason,
    Result,
    Spot,
)
from bridge.comparing.known import KNOWN, Known
from bridge.comparing.paths import NOTHING, Paths, WrongPath

__all__ = [
    "KNOWN",
    "LONGEST",
    "NOTHING",
    "Answer",
    "Comparison",
    "Difference",
    "Kind",
    "Known",
    "Paths",
    "Reason",
    "Result",
    "Spot",
    "WrongPath",
    "compare",
]
