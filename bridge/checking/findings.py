"""What a check comes to."""

from enum import StrEnum
from typing import NamedTuple


class Verdict(StrEnum):
    """How good or bad it is."""

    OK = "ok"
    WARNING = "warning"
    """A bridge serves, but not for long, not safely, or not all who call."""
    WRONG = "wrong"
    """A bridge does not start, or does not serve."""


class Finding(NamedTuple):
    """What one check has found."""

    check: str
    verdict: Verdict
    told: str
    mend: str = ""
    """What the operator can do about it."""


def ok(check: str, told: str) -> Finding:
    """Return that nothing is wrong."""
    return Finding(check, Verdict.OK, told)


def warning(check: str, told: str, mend: str) -> Finding:
    """Return that something will be wrong, or may be."""
    return Finding(check, Verdict.WARNING, told, mend)


def wrong(check: str, told: str, mend: str) -> Finding:
    """Return that something is wrong."""
    return Finding(check, Verdict.WRONG, told, mend)
