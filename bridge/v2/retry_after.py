"""`Retry-After`: what v2 asks for, and how the bridge says it (RFC 9110, section 10.2.3)."""

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

THROTTLE_WINDOW = 15
"""Seconds: the window of v2's rate limit (100 calls in 15 seconds), for a 429 that names none."""

_SECONDS = re.compile("[0-9]{1,9}")


def read_retry_after(text: str | None, now: datetime) -> float | None:
    """Return the seconds from `now` on that v2 asks to wait; None when it does not clearly say."""
    if text is None:
        return None
    if _SECONDS.fullmatch(text.strip()):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter where a number in it is out of any range
        return None
    if moment.tzinfo is None:  # written with -0000
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def whole_seconds(seconds: float) -> int:
    """Return what to tell a client: v1's sleep that many, and none of them parses a date."""
    return max(1, math.ceil(seconds))
