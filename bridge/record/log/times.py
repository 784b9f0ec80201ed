"""Times as the tables have them, milliseconds since 1970, UTC, and how they are spelled."""

import time as clock
from datetime import UTC, datetime

HOUR = 3600 * 1000
"""Milliseconds."""

DAY = 24 * HOUR
"""Milliseconds."""


def time_now() -> int:
    """Return the time by the machine's clock."""
    return clock.time_ns() // 1_000_000


def moment(time: float) -> datetime:
    """Return a time as a date of the calendar, in UTC."""
    return datetime.fromtimestamp(time / 1000, UTC)


def spelled(time: int) -> str:
    """Spell a time by RFC 3339, UTC, in whole seconds."""
    return f"{moment(time):%Y-%m-%dT%H:%M:%SZ}"
