"""Whom the bridge turns away on purpose, and what it says to them: in brownouts, and after sunsets.

When those are is not said here, and nothing of how a call is answered else.
"""

import math
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from random import randrange

from bridge.record.log.brownouts import Brownouts
from bridge.record.log.events import ALL
from bridge.record.log.policies import NEVER, Policies
from bridge.record.log.times import moment
from bridge.server.writes import LONGEST_RETRY_AFTER
from bridge.settings import Settings
from bridge.v1.errors import BrownedOut, PastSunset

SPREAD = 30
"""Seconds over which those are spread who come again after a brownout, at most; of a short one, a
tenth of what is left: they would all come in one second."""


class Withdrawal:
    """Turns calls away, and says until when there is somebody to answer them."""

    def __init__(self, brownouts: Brownouts, policies: Policies, settings: Settings) -> None:
        """Go by these."""
        self._brownouts = brownouts
        self._policies = policies
        self.go_by(settings)

    def go_by(self, settings: Settings) -> None:
        """Take these settings from now on."""
        self._message = settings.brownout_message
        sunset = settings.sunset_time()
        self._announced = None if sunset is None else format_datetime(sunset, usegmt=True)

    @property
    def asks_who(self) -> bool:
        """Whether anybody may have to be turned away, or has a sunset of their own."""
        return self._policies.have_sunsets or self._brownouts.are_any

    def sunset(self, integration: str = ALL) -> str | None:
        """Return what an answer says of the end (RFC 8594, section 3): an HTTP-date, or nothing.

        What was decided of an integration, or of all, counts before what the setting announces.
        """
        if not self._policies.have_sunsets:
            return self._announced
        decided = self._policies.of(integration).sunset
        if decided is None:
            return self._announced
        return None if decided >= NEVER else _http_date(decided)

    def turn_away(self, integration: str, method: str, route: str) -> None:
        """Raise why such a call is not answered, if it is not.

        Raises:
            PastSunset: its integration's sunset was.
            BrownedOut: a brownout is on.
        """
        now = self._brownouts.now()
        sunset = self._policies.of(integration).sunset
        if sunset is not None and sunset <= now:
            day = f"{moment(sunset):%Y-%m-%d}"
            raise PastSunset(f"API v1 has ended for this client on {day}. {self._message}")
        brownout = self._brownouts.turns_away(integration, method, route)
        if brownout is not None:
            until = f"{moment(brownout.end):%Y-%m-%d %H:%M} UTC"
            raise BrownedOut(
                f"Turned away on purpose until {until}, and nothing was done. {self._message}",
                _retry_after(brownout.end - now),
            )


@lru_cache(maxsize=256)
def _http_date(milliseconds: int) -> str:
    return format_datetime(datetime.fromtimestamp(milliseconds / 1000, UTC), usegmt=True)


def _retry_after(milliseconds: int) -> int:
    seconds = max(1, math.ceil(milliseconds / 1000))
    spread = randrange(min(SPREAD, seconds // 10) + 1)  # noqa: S311 - no secret
    return min(seconds + spread, LONGEST_RETRY_AFTER)
