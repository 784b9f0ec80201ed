"""Times as v2 writes them: UTC, whole seconds, `YYYY-MM-DDTHH:MM:SSZ`. No clock is read here."""

from datetime import UTC, datetime, timedelta


def write_time(moment: datetime) -> str:
    """Write an aware `moment` in v2's form; fractions of a second are cut off."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def read_lower_bound(text: str) -> str:
    """Read an ISO 8601 date or time as the first whole second that is not before it.

    Without an offset it is taken as UTC, the zone of every time v2 answers.

    Raises:
        ValueError: no ISO 8601, or outside the years 1 to 9999 in UTC.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        utc = moment.astimezone(UTC)
        return write_time(utc + timedelta(seconds=1) if utc.microsecond else utc)
    except OverflowError as error:
        raise ValueError(f"out of range: {text}") from error
