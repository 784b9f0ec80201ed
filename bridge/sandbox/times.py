"""Times as v2 writes them: UTC, whole seconds, `YYYY-MM-DDTHH:MM:SSZ`. No clock is read here."""

import re
from datetime import UTC, date, datetime, timedelta

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def write_time(moment: datetime) -> str:
    """Write an aware `moment` in v2's form; fractions of a second are cut off."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def read_moment(text: str) -> str:
    """Read an ISO 8601 date and time; fractions of a second are cut off.

    Without an offset it is taken as UTC, the zone of every time v2 answers.

    Raises:
        ValueError: no ISO 8601, a date alone, or outside the years 1 to 9999 in UTC.
    """
    if _is_date(text):
        raise ValueError(f"no time of day: {text}")
    return write_time(_read(text))


def read_date(text: str) -> str:
    """Read a date, `YYYY-MM-DD`, and return it.

    Raises:
        ValueError: it is none.
    """
    if _DATE.fullmatch(text) is None:
        raise ValueError(f"not YYYY-MM-DD: {text}")
    return date.fromisoformat(text).isoformat()


def read_lower_bound(text: str) -> str:
    """Read an ISO 8601 date or time as the first whole second that is not before it.

    Without an offset it is taken as UTC, the zone of every time v2 answers.

    Raises:
        ValueError: no ISO 8601, or outside the years 1 to 9999 in UTC.
    """
    moment = _read(text)
    if moment.microsecond == 0:
        return write_time(moment)
    try:
        return write_time(moment + timedelta(seconds=1))
    except OverflowError as error:
        raise ValueError(f"out of range: {text}") from error


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _read(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"out of range: {text}") from error
