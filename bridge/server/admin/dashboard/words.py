"""How pages say times, numbers and codes. What is said where is written in the templates."""

from collections.abc import Mapping

from bridge.record.log import times
from bridge.record.log.brownouts import Planned
from bridge.record.log.capture import Mode, Rule
from bridge.record.log.events import Outcome
from bridge.record.log.times import DAY, HOUR

MINUTE = 60 * 1000

NOTHING = "\N{EN DASH}"
"""Stands where there is no value."""

OUTCOMES: Mapping[str, str] = {
    Outcome.SERVED: "served",
    Outcome.INVALID: "not understood",
    Outcome.REFUSED: "refused",
    Outcome.MISSING: "not found",
    Outcome.UNTRANSLATED: "not translated",
    Outcome.BUSY: "told to wait",
    Outcome.WITHDRAWN: "turned away on purpose",
    Outcome.FAILED: "failed",
    Outcome.PASSED_THROUGH: "answered by v1",
    Outcome.GONE: "client gone",
}

EVENTS: Mapping[str, str] = {
    "tls_handshake_failed": "TLS handshake",
    "not_http": "no HTTP",
    "connection_refused": "turned away",
}

VERDICTS: Mapping[str, str] = {
    "calls": "still calls",
    "quiet": "quiet: seems to be gone",
    "returned": "marked as done, but still calls",
    "done": "done, and quiet",
    "stranger": "no known caller: only refused",
}

SPANS: Mapping[str, str] = {
    "15m": "15 minutes",
    "1h": "1 hour",
    "8h": "8 hours",
    "1d": "1 day",
    "7d": "7 days",
}
"""For how long a form offers to capture."""


def captured(rule: Rule, title: str) -> str:
    """Say what a rule has captured, `title` being whose; '': of all."""
    whose = f"calls of {title or 'all integrations'}"
    what = {Mode.ALL: f"all {whose}", Mode.ERRORS: f"{whose} that are not served"}
    until = f"until {moment(rule.until)} UTC"
    return f"{what.get(rule.mode, f'no {whose}')} {until}"


def browned_out(planned: Planned, title: str) -> str:
    """Say what a brownout turns away, `title` being of whom; '': of all."""
    of = planned.brownout
    but = f" but {', '.join(planned.but_not)}" if planned.but_not else ""
    return f"{of.calls} calls of {title or 'all integrations'}{but}"


def ago(time: int, now: int) -> str:
    """Say how long ago, in the largest unit that fits."""
    passed = now - time
    for size, unit in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if passed >= size:
            return f"{passed // size} {unit} ago"
    return "just now"


def hours_ago(hour: int, now: int) -> str:
    """Say how long ago an hour was of which no more is known than when it began."""
    return "in this hour" if now - hour < HOUR else ago(hour, now)


def days(count: int) -> str:
    """Say a number of days."""
    return "1 day" if count == 1 else f"{count:,} days"


def moment(time: int) -> str:
    """Spell a time for people, to the second, UTC."""
    return f"{times.moment(time):%Y-%m-%d %H:%M:%S}"


def milliseconds(value: float | None) -> str:
    """Say a time that something took."""
    if value is None:
        return NOTHING
    if value >= 10_000:
        return f"{value / 1000:,.1f} s"
    return f"{value:,.0f} ms" if value >= 10 or not value else f"{value:.1f} ms"


def size(count: int) -> str:
    """Say a number of bytes."""
    for unit, name in ((1024**2, "MiB"), (1024, "KiB")):
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count:,} B"


def count(value: int) -> str:
    """Spell a number with its thousands apart."""
    return f"{value:,}"


def counted(value: int, one: str, many: str | None = None) -> str:
    """Say how many of something there are."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"
