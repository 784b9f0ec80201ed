"""What an operator has decided of each integration on its way from v1 to v2: who answers its calls.

Kept in a table for all bridges. What becomes of a call by its policy is not said here.
"""

from collections.abc import Sequence

import msgspec
import structlog
from sqlalchemy import Connection, delete, insert, select

from bridge.record.log.events import ALL
from bridge.record.log.tables import POLICIES
from bridge.record.log.times import time_now
from bridge.side import Side

NEVER = 253_402_300_799_000
"""A sunset that does not come, the end of 9999: it keeps an integration out of that of all."""

_log = structlog.get_logger("bridge.policies")


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for an integration. None: what holds for all."""

    integration: str = ALL
    answered_by: Side | None = None
    shadow_percent: int | None = None
    """Of how many per cent of its GETs the other side's answer is compared, 0 to 100."""
    sunset: int | None = None
    """Milliseconds since 1970, UTC, from when on its calls are 410."""
    changed: int = 0
    """When it was decided, likewise."""

    def over(self, other: "Policy") -> "Policy":
        """Return this one, and what `other` says where this one says nothing."""
        return Policy(
            integration=self.integration,
            answered_by=other.answered_by if self.answered_by is None else self.answered_by,
            shadow_percent=other.shadow_percent
            if self.shadow_percent is None
            else self.shadow_percent,
            sunset=other.sunset if self.sunset is None else self.sunset,
            changed=self.changed,
        )


# The table.


def policies(connection: Connection) -> list[Policy]:
    """Return all that there are; the one for all comes first."""
    sides = set(Side)
    return [
        Policy(
            integration=row.integration,
            answered_by=Side(row.answered_by) if row.answered_by in sides else None,
            shadow_percent=row.shadow_percent,
            sunset=row.sunset,
            changed=row.changed,
        )
        for row in connection.execute(select(*POLICIES.c).order_by(POLICIES.c.integration))
    ]


def put(connection: Connection, policy: Policy) -> None:
    """Put a policy in the place of the one that its integration has; one that says nothing ends it.

    Give the whole of it: what is None was not decided.
    """
    connection.execute(delete(POLICIES).where(POLICIES.c.integration == policy.integration))
    if (policy.answered_by, policy.shadow_percent, policy.sunset) != (None, None, None):
        decided = {"changed": time_now(), **msgspec.to_builtins(policy)}
        connection.execute(insert(POLICIES).values(decided))


def decide(connection: Connection, integration: str, **decision: Side | int | None) -> None:
    """Decide some of an integration's policy, by its fields, and leave the rest as it was."""
    known = {each.integration: each for each in policies(connection)}
    before = known.get(integration) or Policy(integration=integration)
    put(connection, msgspec.structs.replace(before, **decision, changed=time_now()))


# The policies in a process.


class Policies:
    """The policies as a bridge knows them: the settings', all's, and each integration's own.

    The writer's thread has them read; the event loop asks what they say. While the database is
    away, those that were read last hold.
    """

    def __init__(self, by_default: Policy) -> None:
        """Know only what the settings say."""
        self.by_default = by_default
        self._for_all = by_default
        self._own: dict[str, Policy] = {}
        self.have_sunsets = by_default.sunset is not None
        """Whether there is a sunset in any of them."""
        self.were_read = False
        """Whether it is known what was decided."""
        self.are_missed = False
        """Whether calls are answered nevertheless: what is read then is a change."""

    def warning(self) -> str | None:
        """Return what is wrong, in one line; None: nothing."""
        if self.were_read:
            return None
        return "who answers whose calls is not known yet: the database has not answered"

    @property
    def are_alike(self) -> bool:
        """Whether it does not matter who calls."""
        return not self._own

    def leave_to_v1(self) -> bool:
        """Tell whether v1 is to answer anybody's calls."""
        return any(each.answered_by is Side.V1 for each in (self._for_all, *self._own.values()))

    def of(self, integration: str) -> Policy:
        """Return what holds for an integration; `ALL`: for one without a policy of its own."""
        return self._own.get(integration, self._for_all)

    # In the writer's thread.

    def read(self, connection: Connection) -> None:
        """Read the policies, and log what has changed."""
        self.take(policies(connection))

    def take(self, known: Sequence[Policy]) -> None:
        """Put these policies in force."""
        is_the_start = not self.were_read and not self.are_missed
        self.were_read = True
        before, was_for_all = self._own, self._for_all
        for_all = self.by_default
        own = {each.integration: each for each in known}
        if ALL in own:
            for_all = own.pop(ALL).over(for_all)
        # The event loop reads one after the other: each whole, at any time.
        self._for_all = for_all
        self._own = {name: each.over(for_all) for name, each in own.items()}
        in_force = (for_all, *self._own.values())
        self.have_sunsets = any(each.sunset is not None for each in in_force)
        if is_the_start:
            return  # nothing has changed: it held before
        for name in sorted({*before, *self._own}):
            if before.get(name) != self._own.get(name):
                _log.info("policy_changed", **_facts(name, self.of(name)))
        if was_for_all != for_all:
            _log.info("policy_changed", **_facts(ALL, for_all))


def _facts(integration: str, policy: Policy) -> dict[str, object]:
    return {
        "integration": integration or "all",
        "answered_by": policy.answered_by and policy.answered_by.value,
        "shadow_percent": policy.shadow_percent,
        "sunset": policy.sunset,
    }
