"""What a running bridge knows of itself that an operator has to look at, besides its log."""

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from bridge.record.journal import Journal
from bridge.record.journal.rules import JournalError
from bridge.upstream.breaker import State
from bridge.upstream.gateway import Gateway
from bridge.v2.writes import Outcome


class Facts(msgspec.Struct, frozen=True):
    """What the process knows of itself just now, besides the log."""

    checks: Mapping[str, str] = {}
    """What is wrong, by what was checked."""
    warnings: Mapping[str, str] = {}
    breakers: Mapping[str, str] = {}
    """Those that are not closed, with their states."""
    unknown_writes: int = 0
    """Writes of the journal whose outcome nobody knows."""


JOURNAL_PATIENCE = 1.0
"""Seconds that a page waits for the journal, which has writes to record before that."""


async def gather(
    journal: Journal, gateway: Gateway, warnings: Callable[[], Mapping[str, str]]
) -> Facts:
    """Return what the dashboard says of the bridge itself; nobody else is asked for it."""
    unknown, problem = 0, journal.problem()
    try:
        async with asyncio.timeout(JOURNAL_PATIENCE):
            intents = await journal.unsettled()
        unknown = sum(intent.outcome is Outcome.UNKNOWN for intent in intents)
    except TimeoutError:
        problem = problem or f"no answer within {JOURNAL_PATIENCE:g} s"
    except JournalError as error:
        problem = str(error)
    said_of = {"journal": problem, "v2": gateway.outage()}
    wrong = {name: said for name, said in said_of.items() if said}
    breakers = gateway.breakers().items()
    return Facts(
        checks=wrong,
        # `/readyz` has a journal that bridges share among these.
        warnings={name: said for name, said in warnings().items() if name not in wrong},
        breakers={name: state for name, state in breakers if state is not State.CLOSED},
        unknown_writes=unknown,
    )
