"""The rules of the journal: what each change of a write's record does, whatever keeps the rows.

For one thread, and one transaction at a time. The file is in `sqlite`, the server in `postgresql`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Protocol

from bridge.v2.clock import Moment
from bridge.v2.writes import Intent, Outcome, Write

CLAIM_MARGIN = timedelta(minutes=10)
"""How much older than an intent a message may be and still be taken for what the intent made.

A look allows for clocks that differ, so it may see what an equal write made shortly before. Beyond
that it cannot, and the same id is another thing: a sandbox that starts afresh uses them again.
"""

ACCEPTED_RETENTION = timedelta(days=30)
"""How long a credential is kept after v2 has accepted it last."""

MOST_ACCEPTED = 10_000
"""Credentials that are kept."""

LEAST_RETENTION = timedelta(days=7)
"""How long settled intents are kept, whatever the window, but for what was not done."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# What an intent has just as it is in its row.
_KEPT = ("id", "account_id", "resource", "path", "likeness", "made_id")


class JournalError(Exception):
    """The journal cannot be used, or an operation was not recorded.

    `str()` is one line for the operator: the file or database, and what is wrong with it.
    """

    def __init__(self, where: Path | str, what: object) -> None:
        if isinstance(what, OSError):
            what = what.strerror
        super().__init__(f"the journal {where}: {' '.join(str(what).split())}")


class UnderWay(JournalError):
    """An equal write has been begun by another bridge, and may still be made: nothing was recorded.

    `seconds` are those after which it is worth to come again.
    """

    def __init__(self, where: Path | str, seconds: float) -> None:
        super().__init__(where, "an equal write is under way at another bridge")
        self.seconds = seconds


class TakenUp(Exception):
    """An intent is no longer as it was listed: its client came again, or another has settled it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An intent that is open or unknown, as an operator sees it."""

    intent: Intent
    touched_at: datetime
    """When something was last recorded of it, UTC."""
    request_id: str
    """That of the legacy call which intended it first, as in the log."""
    bridge: str | None = None
    """Which bridge has it open, if several may."""
    in_flight: bool | None = None
    """Whether that bridge lives, or may still be making it; None: the store cannot say."""


@dataclass(eq=False, slots=True)
class Turn:
    """A legacy call's turn to write, where several bridges share a journal."""

    keys: list[int] = field(default_factory=list)
    """Names of what is written to, and for whom: the one of the credential first."""
    is_strangers: bool = False
    """Whether v2 has not accepted the credential yet."""
    seconds: float = 0.0
    """How long the call may still run when it begins its write."""
    taken: set[int] = field(default_factory=set)
    """Those keys that the store holds for it; the store's own."""
    awaited: set[int] = field(default_factory=set)
    """Those that others are told are waited for; the store's own."""


NO_TURN = Turn()
"""That of a call that shares its journal with no other bridge."""


class Result(Protocol):
    """What a statement came to."""

    @property
    def rowcount(self) -> int:
        """How many rows it has changed."""

    def fetchone(self) -> Any:  # noqa: ANN401 - a row, by the names of its columns
        """Return the next row, None if there is none."""

    def fetchall(self) -> Iterable[Any]:
        """Return what rows are left."""


class Dialect(SimpleNamespace):
    """The parts of statements in which a file and a server differ."""

    touched_steady: str
    """The count of seconds at `touched_at`, where it can be compared with `:steady`."""
    intended_steady: str
    """Likewise, at `intended_at`."""
    is_placed_here: str
    """Whether times of a row are this bridge's to place by v2's clock."""
    more_columns: str
    more_values: str
    """Of a new intent."""
    open_elsewhere: str
    """Whether another bridge has it open, in the way of an equal write."""
    more_touched: str
    """What is noted besides when a row is touched."""
    more_opened: str
    """What is noted besides when it is open again."""
    is_mine: str
    """Whether it is still the opening with this `:nonce`."""
    may_settle: str
    """Whether what this call says of it still counts."""
    is_interrupted: str
    """Whether whoever has it open is gone."""
    more_interrupted: str
    """What is noted besides of one that was interrupted."""
    prune_limit: str
    """So many are deleted at once."""


class Statements:
    """The statements of the rules in one dialect."""

    def __init__(self, dialect: Dialect) -> None:
        """Write them out. Times are compared by one clock only; where there is none, an equal write
        is taken for a repetition, and a claim for good: a look then finds out, and v2 uses no id
        twice.
        """
        touched = (
            "touched_at = :now, touched_by_v2 = :by_v2, touched_steady = :steady"
            f"{dialect.more_touched}"
        )
        parts = {**vars(dialect), "touched": touched}
        find_earlier = """
            SELECT * FROM intents
            WHERE account_id = :account_id AND fingerprint = :fingerprint AND (
                {open_elsewhere} OR CASE
                    WHEN {touched_steady} IS NOT NULL THEN {touched_steady} >= :steady - :window
                    WHEN touched_by_v2 AND :by_v2 THEN touched_at >= :since
                    ELSE TRUE
                END
                AND (outcome IN ('unknown', 'absent') OR (outcome = 'done' AND NOT delivered))
                AND NOT (:sets_state AND EXISTS (
                    SELECT 1 FROM intents AS later
                    WHERE later.account_id = intents.account_id AND later.path = intents.path
                        AND later.id > intents.id AND later.outcome = 'done'
                ))
            )
        """.format_map(parts)
        self.find_earlier = f"{find_earlier} ORDER BY outcome = 'open' DESC, id DESC LIMIT 1"
        self.insert = """
            INSERT INTO intents (
                account_id, resource, path, fingerprint, likeness, intended_at, touched_at, outcome,
                delivered, request_id, by_v2, touched_by_v2, intended_steady, touched_steady
                {more_columns}
            ) SELECT
                :account_id, :resource, :path, :fingerprint, :likeness, :now, :now, 'open', FALSE,
                :request_id, :by_v2, :by_v2, :steady, :steady{more_values}
            WHERE :anyway OR NOT EXISTS ({find_earlier})
            RETURNING *
        """.format_map({**parts, "find_earlier": find_earlier})
        self.find_claim = """
            SELECT 1 FROM intents AS other JOIN intents AS mine
                ON other.account_id = mine.account_id AND other.resource = mine.resource
            WHERE mine.id = :id AND other.id <> :id AND other.made_id = :made_id
                AND (
                    other.touched_at > mine.intended_at - :margin
                    OR NOT (other.touched_by_v2 AND mine.by_v2)
                )
        """
        # What an earlier life touched may have been touched just before this one.
        self.place_touched = """
            UPDATE intents SET touched_by_v2 = TRUE,
                touched_at = :now
                    - round((:steady - coalesce({touched_steady}, :steady)) * 1000000.0)
            WHERE NOT touched_by_v2 AND {is_placed_here}
        """.format_map(parts)
        self.place_intended = """
            UPDATE intents SET by_v2 = TRUE,
                intended_at = :now - round((:steady - {intended_steady}) * 1000000.0)
            WHERE NOT by_v2 AND {intended_steady} IS NOT NULL
        """.format_map(parts)
        # What an equal write has made must stay known for as long as a look might take it for
        # another's. What was not done is of no use to anybody, and strangers whom v2 refuses can
        # cause much of it.
        self.prune = """
            DELETE FROM intents WHERE id IN (
                SELECT id FROM intents AS old
                WHERE outcome = 'not-done' OR (
                    touched_by_v2 AND touched_at < :before AND outcome NOT IN ('open', 'unknown')
                    AND NOT EXISTS (
                        SELECT 1 FROM intents AS unsettled
                        WHERE unsettled.outcome IN ('open', 'unknown')
                            AND unsettled.account_id = old.account_id
                            AND unsettled.path = old.path
                            AND (
                                unsettled.intended_at - :margin <= old.touched_at
                                OR NOT unsettled.by_v2
                            )
                    )
                )
                {prune_limit}
            )
        """.format_map(parts)
        self.reopen = """
            UPDATE intents SET outcome = :outcome, {touched}{more_opened} WHERE id = :id
        """.format_map(parts)
        self.put_back = """
            UPDATE intents SET outcome = :outcome, {touched}
            WHERE id = :id AND outcome = 'open' AND {is_mine}
        """.format_map(parts)
        self.interrupt = """
            UPDATE intents SET outcome = 'unknown', {touched}{more_interrupted}
            WHERE outcome = 'open' AND {is_interrupted}
        """.format_map(parts)
        self.give_up = """
            UPDATE intents SET outcome = 'unknown', {touched}{more_interrupted}
            WHERE outcome = 'open' AND {is_mine}
        """.format_map(parts)
        self.settle = """
            UPDATE intents SET outcome = :outcome, made_id = :made_id, {touched}
            WHERE id = :id AND {may_settle}
        """.format_map(parts)
        self.deliver = """
            UPDATE intents SET delivered = TRUE, {touched} WHERE id = :id AND outcome = 'done'
        """.format_map(parts)
        self.accept = """
            INSERT INTO accepted VALUES (:account_id, :token, :now)
            ON CONFLICT (account_id, token) DO UPDATE SET accepted_at = :now
        """
        self.prune_accepted = """
            DELETE FROM accepted WHERE accepted_at < :before OR (account_id, token) IN (
                SELECT account_id, token FROM accepted
                ORDER BY accepted_at DESC LIMIT 9223372036854775807 OFFSET :most
            )
        """


class Store(ABC):
    """An open journal. What changes it has to stand in a `transaction`."""

    is_shared: ClassVar[bool]
    """Whether several bridges may have it at once."""

    may_have_recorded: ClassVar[bool]
    """Whether what could not be recorded may be on record nevertheless: the answer to a commit can
    get lost."""

    _said: ClassVar[Statements]

    where: Path | str
    """What to call it when something is wrong with it."""

    problem_at_start: JournalError | None = None
    """Why it could not be opened yet; None: it is."""

    _unplaced = True
    """Whether there may be times that are not by v2's clock."""

    @abstractmethod
    def execute(self, statement: str, given: Mapping[str, object] = {}) -> Result:
        """Do what a statement says; `given` are its named parameters."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Record all changes of the block durably at its end, or none; raises what is wrong."""

    def reading(self) -> AbstractContextManager[None]:
        """See all of the block at one time, where others may write meanwhile."""
        return nullcontext()

    @abstractmethod
    def probe(self) -> None:
        """Learn whether something can be written."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""

    def refresh(self, now: Moment) -> None:  # noqa: B027 - a file needs none of it
        """Make what nobody makes any more unknown, where several bridges have the journal."""

    def checkpoint(self) -> None:  # noqa: B027 - a file needs none of it
        """Do what need not be done with each transaction."""

    def end_life(self, now: Moment) -> None:  # noqa: B027 - a file needs none of it
        """Leave nothing open that this bridge will not make any more, where others would wait."""

    def together(self) -> AbstractContextManager[object]:
        """Have what is executed in the block done in its order, and its results at the end only."""
        return nullcontext()

    def take_turns(self, turns: Sequence[Turn]) -> list[bool]:
        """Take turns, outside of transactions, but those that other bridges have; tell which."""
        return [True] * len(turns)

    def give_turns_back(self, turns: Sequence[Turn]) -> None:  # noqa: B027 - a file needs none of it
        """Let others have turns, or stop to wait for them."""

    def tell(self, told: Sequence[str]) -> None:  # noqa: B027 - a file needs none of it
        """Tell those who listen, at all bridges that share the journal."""

    def begin(  # noqa: PLR0913 - the facts of an intent
        self,
        write: Write,
        account_id: int,
        request_id: str,
        now: Moment,
        window: timedelta,
        *,
        take_up: bool,
        turn: Turn = NO_TURN,
        nonce: int = 0,
    ) -> Callable[[], Intent | None]:
        """Put the intent to make `write` on record, or take up an earlier one of the same write.

        Which one, if any, and how it is from then on, is said at `Journal.begin`. Unless it may be
        taken up, nothing is recorded where there is one: None. `nonce` is this opening's own.

        Returns what finishes it in the same transaction, when others have been begun `together`.
        Both raise `UnderWay`: another bridge has an equal one open, or its turn to write.
        """
        self.require_turn(turn)
        credential = turn.keys[0] if turn.keys else None
        given = {
            "account_id": account_id,
            "fingerprint": write.fingerprint,
            **_given(now),
            "since": microseconds(now.at - window),
            "window": window.total_seconds(),
            "resource": write.resource,
            "path": write.request.path,
            "likeness": write.likeness,
            "request_id": request_id,
            "sets_state": write.sets_state,
            "nonce": nonce,
            "whose": credential if turn.is_strangers else None,
            "credential": credential,
            "seconds": turn.seconds,
            **self.identity(),
        }
        self._unplaced |= not now.by_v2
        inserted = self.execute(self._said.insert, {**given, "anyway": not window})

        def finish() -> Intent | None:
            row = inserted.fetchone()
            if row is None and not take_up:
                return None
            row = row or self._take_up(given, now)
            return replace(entry_of(row).intent, steady=self.steady_of(row))

        return finish

    def _take_up(self, given: Mapping[str, object], now: Moment) -> Any:  # noqa: ANN401 - a row
        while row := self.execute(self._said.find_earlier, given).fetchone():
            if row["outcome"] != Outcome.OPEN:
                outcome = Outcome.DONE if row["outcome"] == Outcome.DONE else Outcome.OPEN
                changed = {**given, "outcome": outcome.value, "id": row["id"]}
                self.execute(self._said.reopen, changed)
                return row
            self.require_interrupted(row)
            self.interrupt(now)
        return self.execute(self._said.insert, {**given, "anyway": True}).fetchone()

    def identity(self) -> Mapping[str, object]:
        """Return what names this bridge among those that share the journal."""
        return {}

    def require_turn(self, turn: Turn) -> None:  # noqa: B027 - a file needs none of it
        """Raise `UnderWay` unless a turn is still held."""

    def require_interrupted(self, row: Any) -> None:  # noqa: ANN401, B027 - a row, and a file needs none of it
        """Raise `UnderWay` unless whoever has an intent open is gone."""

    def steady_of(self, row: Any) -> float | None:  # noqa: ANN401 - a row
        """Return the count of seconds when it was intended, if that was in this life."""
        steady: float | None = row["intended_steady"]
        return steady

    def place(self, now: Moment) -> None:
        """Record when things were by v2's clock, as soon as that is known.

        When an earlier life intended something, only a look can ask.
        """
        if now.by_v2 and self._unplaced:
            for statement in (self._said.place_touched, self._said.place_intended):
                self.execute(statement, {**_given(now), **self.identity()})
            self._unplaced = False

    def put_back(
        self, intent_id: int, outcome: Outcome, now: Moment, nonce: int | None = None
    ) -> None:
        """Give an intent that is still open the outcome that it has without having been sent.

        `nonce` is the one that it was opened with; None: any of this bridge's.
        """
        given = {"outcome": outcome.value, "id": intent_id, "nonce": nonce}
        self._touch(self._said.put_back, now, **given)

    def interrupt(self, now: Moment) -> None:
        """Make every intent unknown that is open, and that nobody is making."""
        self._touch(self._said.interrupt, now)

    def settle(  # noqa: PLR0913 - the facts of an outcome
        self,
        intent_id: int,
        outcome: Outcome,
        made_id: int | None,
        now: Moment,
        *,
        found: bool,
        by_operator: bool = False,
    ) -> Callable[[], bool]:
        """Do as `Journal.settle`; what is returned finishes it, as with `begin`.

        That raises `JournalError` if there is no such intent. What was `found` must not be settled
        `together` with others: they could not see each other's claims.

        Where another bridge has taken it up since, only that it is done still counts, unless
        somebody has seen to it that it is as it was.
        """
        given = {"id": intent_id, "made_id": made_id, "margin": CLAIM_MARGIN // _MICROSECOND}
        if found and self.execute(self._said.find_claim, given).fetchone():
            return lambda: False
        said = {"outcome": outcome.value, "by_operator": by_operator, **given}
        settled = self._touch(self._said.settle, now, **said)

        def finish() -> bool:
            if not settled.rowcount:
                known = self.execute("SELECT 1 FROM intents WHERE id = :id", given).fetchone()
                if not known or not self.is_shared:
                    raise JournalError(self.where, f"it has no intent {intent_id}")
            return True

        return finish

    def require_same(self, entry: Entry) -> None:
        """Raise `TakenUp` if something has been recorded of an intent since it was listed."""
        intent = entry.intent
        listed = {
            "id": intent.id,
            "outcome": intent.outcome.value,
            "touched_at": microseconds(entry.touched_at),
        }
        same = (
            "SELECT 1 FROM intents WHERE id = :id AND outcome = :outcome "
            "AND touched_at = :touched_at"
        )
        if not self.execute(same, listed).fetchone():
            raise TakenUp

    def deliver(self, intent_id: int, now: Moment) -> Callable[[], None]:
        """Record that the client has been told what was made.

        What it was told of an intent that is not done says nothing of what comes out later.
        """
        self._touch(self._said.deliver, now, id=intent_id)
        return lambda: None

    def accept(self, account_id: int, token: bytes, now: datetime) -> None:
        """Record that v2 accepts the token with this digest for an account."""
        given = {"account_id": account_id, "token": token, "now": microseconds(now)}
        self.execute(self._said.accept, given)

    def refuse(self, account_id: int, token: bytes) -> None:
        """Record that v2 does not accept it any more."""
        given = {"account_id": account_id, "token": token}
        self.execute(
            "DELETE FROM accepted WHERE account_id = :account_id AND token = :token", given
        )

    def accepted(self) -> frozenset[tuple[int, bytes]]:
        """Return the accounts and digests of the tokens that v2 accepts."""
        rows = self.execute("SELECT account_id, token FROM accepted").fetchall()
        return frozenset((row["account_id"], row["token"]) for row in rows)

    def count_unsettled(self) -> int:
        """Return how many are open or unknown."""
        counted = "SELECT count(*) AS number FROM intents WHERE outcome IN ('open', 'unknown')"
        return int(self.execute(counted).fetchone()["number"])

    def unsettled(self) -> tuple[Entry, ...]:
        """Return what is open or unknown, oldest first."""
        unsettled = "SELECT * FROM intents WHERE outcome IN ('open', 'unknown') ORDER BY id"
        return tuple(map(entry_of, self.execute(unsettled).fetchall()))

    def prune(self, before: datetime | None) -> None:
        """Delete what was settled and last touched before that time, and is of no more use.

        Where nobody knows what time it is, that is only what is of no use at any time.
        """
        since = None if before is None else microseconds(before)
        given = {"before": since, "margin": CLAIM_MARGIN // _MICROSECOND}
        self.execute(self._said.prune, given)

    def prune_accepted(self, now: Moment) -> None:
        """Forget credentials that v2 has not accepted for long, and those that are too many."""
        before = microseconds(now.at - ACCEPTED_RETENTION)
        self.execute(self._said.prune_accepted, {"before": before, "most": MOST_ACCEPTED})

    def _touch(self, statement: str, now: Moment, **given: object) -> Result:
        """Change intents."""
        self._unplaced |= not now.by_v2
        return self.execute(statement, {**_given(now), **self.identity(), **given})


def entry_of(row: Any) -> Entry:  # noqa: ANN401 - a row, by the names of its columns
    """Return what a row of `intents` says."""
    kept = {name: row[name] for name in _KEPT}
    outcome, intended_at = Outcome(row["outcome"]), _time(row["intended_at"])
    by_v2 = bool(row["by_v2"])
    intent = Intent(**kept, outcome=outcome, intended_at=intended_at, by_v2=by_v2)
    return Entry(intent, _time(row["touched_at"]), row["request_id"])


def _given(now: Moment) -> dict[str, object]:
    return {"now": microseconds(now.at), "by_v2": now.by_v2, "steady": now.steady}


def microseconds(time: datetime) -> int:
    """Return a time as rows have it: microseconds since 1970."""
    return (time - _EPOCH) // _MICROSECOND


def _time(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND
