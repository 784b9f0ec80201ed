"""The journal against a plain model of it, through any order of events and crashes."""

import asyncio
import shutil
import sqlite3
import tempfile
from contextlib import AbstractAsyncContextManager, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from bridge.record.journal import Journal
from bridge.record.journal.rules import CLAIM_MARGIN
from bridge.v2.writes import Intent, Outcome
from tests.record.support import WINDOW, Clock, begun, opened
from tests.support.postgres import Server, running_server

TEXTS = st.sampled_from(["Dear Customer", "Reminder"])
ACCOUNTS = st.sampled_from([1000, 7])
MADE = st.sampled_from([408, 409, 410])
PAUSES = st.sampled_from(
    [timedelta(seconds=1), CLAIM_MARGIN, WINDOW, WINDOW + timedelta(seconds=1), 8 * WINDOW]
)


@dataclass
class Row:
    """An intent in the model."""

    intent: Intent
    text: str
    touched: Any
    delivered: bool = False


class JournalMachine(RuleBasedStateMachine):
    intents: Bundle[int] = Bundle("intents")

    @initialize()
    def start(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.lives = 0
        self.clock = Clock()
        self.model: dict[int, Row] = {}
        self.begun_here: set[int] = set()
        """In this life."""
        self.runner = asyncio.Runner()
        self.open(self.directory / "0")

    def open(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.path = directory / "journal"
        self.context: AbstractAsyncContextManager[Journal] = opened(self.path, self.clock)
        self.journal = self.runner.run(self.context.__aenter__())

    def close(self) -> None:
        self.runner.run(self.context.__aexit__(None, None, None))

    @rule(target=intents, text=TEXTS, account_id=ACCOUNTS)
    def begin(self, text: str, account_id: int) -> int:
        got = self.runner.run(begun(self.journal, text, account_id=account_id))
        earlier = [
            row
            for row in self.model.values()
            if (row.text, row.intent.account_id) == (text, account_id)
            and self.clock.now - row.touched <= WINDOW
            and (
                row.intent.outcome in {Outcome.UNKNOWN, Outcome.ABSENT}
                or (row.intent.outcome is Outcome.DONE and not row.delivered)
            )
        ]
        if earlier:
            row = max(earlier, key=lambda each: each.intent.id)
            assert got == row.intent
            row.touched = self.clock.now
            if got.outcome is not Outcome.DONE:
                row.intent = replace(got, outcome=Outcome.OPEN)
        else:
            assert got.outcome is Outcome.OPEN
            assert got.id not in self.model
            assert got.intended_at == self.clock.now
            self.model[got.id] = Row(got, text, self.clock.now)
        self.begun_here.add(got.id)
        return got.id

    def may_settle(self, intent_id: int) -> bool:  # noqa: ARG002
        """Whether a bridge would: it settles what it has begun, but a file has one bridge only."""
        return True

    @rule(
        intent_id=intents,
        outcome=st.sampled_from([Outcome.NOT_DONE, Outcome.ABSENT, Outcome.UNKNOWN]),
    )
    def settle(self, intent_id: int, outcome: Outcome) -> None:
        if intent_id in self.model and self.may_settle(intent_id):
            assert self.runner.run(self.journal.settle(intent_id, outcome))
            self.note(intent_id, outcome, None)

    @rule(intent_id=intents, made_id=MADE, found=st.booleans())
    def done(self, intent_id: int, made_id: int, found: bool) -> None:
        if intent_id not in self.model or not self.may_settle(intent_id):
            return
        mine = self.model[intent_id].intent
        taken = any(
            row.intent.made_id == made_id
            and row.intent.account_id == mine.account_id
            and row.touched > mine.intended_at - CLAIM_MARGIN
            for id_, row in self.model.items()
            if id_ != intent_id
        )

        recorded = self.runner.run(
            self.journal.settle(intent_id, Outcome.DONE, made_id, found=found)
        )

        assert recorded is not (found and taken)
        if recorded:
            self.note(intent_id, Outcome.DONE, made_id)

    @rule(intent_id=intents)
    def deliver(self, intent_id: int) -> None:
        self.runner.run(self.journal.delivered(intent_id))
        row = self.model.get(intent_id)
        if row is not None and row.intent.outcome is Outcome.DONE:
            row.delivered = True
            row.touched = self.clock.now

    @rule(pause=PAUSES)
    def wait(self, pause: timedelta) -> None:
        self.clock.advance(pause)

    @rule()
    def restart(self) -> None:
        self.close()
        self.begin_life(self.path.parent)

    @rule()
    def crash(self) -> None:
        """Go on with the files as they are now, as they would be after a kill.

        What may linger has got to them by the invariant's own question.
        """
        self.lives += 1
        left = self.directory / str(self.lives)
        left.mkdir()
        for each in self.path.parent.iterdir():
            if not each.name.endswith(("-shm", "-lock")):
                shutil.copy(each, left)
        self.close()
        self.begin_life(left)

    @rule(intent_id=consumes(intents))
    def forget(self, intent_id: int) -> None:
        """Nobody has to settle anything."""

    @invariant()
    def unsettled_is_what_it_should_be(self) -> None:
        if not hasattr(self, "journal"):
            return
        listed = self.runner.run(self.journal.unsettled())
        assert listed == tuple(
            row.intent
            for _, row in sorted(self.model.items())
            if row.intent.outcome in {Outcome.OPEN, Outcome.UNKNOWN}
        )

    def begin_life(self, directory: Path) -> None:
        self.begun_here.clear()
        self.open(directory)
        for row in self.model.values():
            if row.intent.outcome is Outcome.OPEN:
                row.intent = replace(row.intent, outcome=Outcome.UNKNOWN)
                row.touched = self.clock.now
        kept = self.kept()
        for id_ in self.model.keys() - kept.keys():
            row = self.model.pop(id_)
            assert row.intent.outcome not in {Outcome.OPEN, Outcome.UNKNOWN}
            assert (
                row.intent.outcome is Outcome.NOT_DONE
                or self.clock.now - row.touched > timedelta(days=7)
            )
        assert kept == {id_: row.intent.outcome for id_, row in self.model.items()}

    def kept(self) -> dict[int, str]:
        with closing(sqlite3.connect(self.path)) as connection:
            return dict(connection.execute("SELECT id, outcome FROM intents"))

    def note(self, intent_id: int, outcome: Outcome, made_id: int | None) -> None:
        row = self.model[intent_id]
        row.intent = replace(row.intent, outcome=outcome, made_id=made_id)
        row.touched = self.clock.now

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.close()
            self.runner.close()
            shutil.rmtree(self.directory)


class SharedJournalMachine(JournalMachine):
    """The same, in PostgreSQL: a bridge that is cut off loses nothing, and one that ends leaves all."""

    server: Server

    @initialize()
    def start(self) -> None:
        self.database = self.server.new_database()
        super().start()

    def open(self, directory: Path) -> None:
        del directory
        self.path = Path("nowhere")
        self.context = opened(self.database, self.clock)
        self.journal = self.runner.run(self.context.__aenter__())

    @rule()
    def crash(self) -> None:
        """Be cut off."""
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    def may_settle(self, intent_id: int) -> bool:
        return intent_id in self.begun_here

    def kept(self) -> dict[int, str]:
        with psycopg.connect(self.database) as connection:
            return dict(connection.execute("SELECT id, outcome FROM intents").fetchall())


class TestSharedJournalMachine(SharedJournalMachine.TestCase):  # type: ignore[misc, valid-type]
    settings = settings(max_examples=15, stateful_step_count=20, deadline=None)

    @classmethod
    def setUpClass(cls) -> None:
        cls.running = running_server()
        SharedJournalMachine.server = cls.running.__enter__()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.running.__exit__(None, None, None)


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
