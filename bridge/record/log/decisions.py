"""What commands tell all bridges, by the database: what to capture, whom to turn away, who answers.

What each of these means is in `capture`, `brownouts` and `policies`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

from bridge.record.log import brownouts, capture, policies
from bridge.record.log.brownouts import Brownout
from bridge.record.log.capture import Rule
from bridge.record.log.database import reported, writing
from bridge.record.log.policies import Policy
from bridge.side import Side


class Decisions:
    """What was decided, and what is to be; bridges read it within a few seconds.

    Every method raises `LogError` where the database does not answer.
    """

    def __init__(self, engine: Engine, database: str) -> None:
        self._engine = engine
        self._database = database

    @contextmanager
    def _asking(self) -> Iterator[Connection]:
        with reported(self._database), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _deciding(self) -> Iterator[Connection]:
        with reported(self._database), writing(self._engine) as connection:
            yield connection

    def capture_rules(self) -> list[Rule]:
        """Return the rules of capture that are in force; the one for all comes first."""
        with self._asking() as connection:
            return capture.rules(connection)

    def put_capture_rule(self, rule: Rule) -> None:
        """Put a rule of capture in force, as `capture.put` says; bridges read it soon.

        Raises:
            UnusableRule: it would last for too long, or for no time at all.
        """
        with self._deciding() as connection:
            capture.put(connection, rule)

    def brownouts(self) -> list[Brownout]:
        """Return the brownouts that were decided by command."""
        with self._asking() as connection:
            return brownouts.brownouts(connection)

    def put_brownout(self, brownout: Brownout, now: int) -> None:
        """Put a brownout in force, as `brownouts.put` says; bridges read it soon.

        Raises:
            UnusableBrownout: it makes no sense.
        """
        with self._deciding() as connection:
            brownouts.put(connection, brownout, now)

    def end_brownouts(self, integration: str, now: int, *, for_good: bool = False) -> None:
        """End what is on, as `brownouts.end` says; or `for_good`, as `brownouts.remove` does."""
        over = brownouts.remove if for_good else brownouts.end
        with self._deciding() as connection:
            over(connection, integration, now)

    def policies(self) -> list[Policy]:
        """Return what was decided; what is so for all comes first."""
        with self._asking() as connection:
            return policies.policies(connection)

    def switch(self, integration: str, side: Side | None) -> None:
        """Have an integration's calls, or `ALL`, answered by this side; None: nothing is decided.

        Bridges read it soon.
        """
        self._decide(integration, answered_by=side)

    def shadow(self, integration: str, percent: int | None) -> None:
        """Have so many per cent of an integration's GETs, or `ALL`, compared; None: as decided for
        all, or by the settings. Bridges read it soon.
        """
        self._decide(integration, shadow_percent=percent)

    def put_sunset(self, integration: str, sunset: int | None) -> None:
        """Have an integration's calls, or `ALL`, turned away from then on; None: undecided.

        Bridges read it soon.
        """
        self._decide(integration, sunset=sunset)

    def _decide(self, integration: str, **decision: Side | int | None) -> None:
        with self._deciding() as connection:
            policies.decide(connection, integration, **decision)
