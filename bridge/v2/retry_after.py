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
    moment = read_http_date(text)
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def read_http_date(text: str) -> datetime | None:
    """Return the point in time of an HTTP date (RFC 9110, section 5.6.7); None if it is none."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter where a number in it is out of any range
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # written with -0000


def whole_seconds(seconds: float) -> int:
    """Return what to tell a client: v1's sleep that many, and none of them parses a date."""
    return max(1, math.ceil(seconds))
