"""v2's rate limit: how many calls a token has, and how near to that it is. No counting here."""

from datetime import datetime
from typing import NamedTuple

from bridge.v2.retry_after import THROTTLE_WINDOW

MOST_CALLS = 100
"""Of one token in `WINDOW` (v2's documentation, "Rate limiting")."""

WINDOW = THROTTLE_WINDOW
"""Seconds."""


class Rate(NamedTuple):
    """How near a token is to the limit."""

    at: datetime
    """When that was so."""
    calls: int
    """The calls that the bridge has made with it in the latest `WINDOW`."""
    wait: float
    """The seconds for which v2 has told it to wait yet; 0: it may call."""
