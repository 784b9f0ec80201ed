"""`Retry-After`: what v2 asks for, and how the bridge says it (RFC 9110, section 10.2.3)."""

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

THROTTLE_WINDOW = 15
"""Seconds: the window of v2's rate limit (100 calls in 15 seconds), for a 429 that names none."""

LEAST = 1.0
"""Seconds: no wait after a 429 is shorter, for v2 must not be asked without a pause."""

LONGEST = 3600.0
"""Seconds: no wait that v2 asks for counts as longer. Its longest window is 15 minutes."""

_SECONDS = re.compile("[0-9]+")


def read_retry_after(text: str | None, now: datetime) -> float | None:
    """Return the seconds from `now` on that v2 asks to wait; None when it does not clearly say.

    They are 0 for a date in the past, and `LONGEST` at most.
    """
    if text is None:
        return None
    if _SECONDS.fullmatch(text.strip()):
        return min(float(text), LONGEST)
    if (moment := read_http_date(text)) is None:
        return None
    return min(max(0.0, (moment - now).total_seconds()), LONGEST)


def wait_after_429(asked: float | None) -> float:
    """Return the seconds to wait after a 429 that has `asked` for some, or (None) has not.

    The rule is that of schemas/README.md, "When v2 misbehaves": 0 is not the same as none.
    """
    return THROTTLE_WINDOW if asked is None else max(LEAST, asked)


def read_http_date(text: str) -> datetime | None:
    """Return the point in time of an HTTP date (RFC 9110, section 5.6.7); None if it is none."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter where a number in it is out of any range
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # written with -0000


def whole_seconds(seconds: float) -> int:
    """Return what to tell a client: v1's sleep that many, and none of them parses a date.

    At least 1: who sleeps for 0 seconds comes back at once, and again. At most `LONGEST`: who was
    told to sleep for years does.
    """
    return max(1, math.ceil(min(seconds, LONGEST)))
