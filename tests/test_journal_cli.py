"""The command `harvest-bridge journal`, on real journals and against real servers."""

import asyncio
import json
import os
import re
import stat
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from typer.testing import CliRunner, Result

from bridge.cli import app
from bridge.cli import journal as journal_command
from bridge.record.journal import Journal, open_journal
from bridge.record.journal.inspection import Inspection
from bridge.record.journal.rules import NO_TURN, Entry, JournalError, Turn
from bridge.record.journal.sqlite import locked
from bridge.resources import invoice_payments
from bridge.resources.invoice_messages import likeness
from bridge.sandbox.app import SANDBOX_ACCOUNT_ID, SANDBOX_TOKEN, create_sandbox
from bridge.settings import PREFIX, Settings
from bridge.v2.wire import V2Request
from bridge.v2.writes import Intent, Outcome, Write
from tests.record.support import as_of_version_1
from tests.support.books import enter, write_token
from tests.support.postgres import Server, running_server
from tests.support.running import LOOPBACK, running_app, running_bridge
from tests.support.upstream import Reply, ScriptedUpstream, message, page

NOT_THERE = "not there: its client may send it again"
HEAD = ["id", "since", "account", "path", "outcome", "request"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def run(*arguments: object, environ: Mapping[str, str] | None = None) -> Result:
    hidden = dict.fromkeys([name for name in os.environ if name.startswith(PREFIX)])
    return CliRunner(env={**hidden, **(environ or {})}).invoke(
        app, ["journal", *map(str, arguments)], catch_exceptions=False
    )


def refusal(done: Result) -> str:
    """The only line of a command that was refused."""
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    return line.removeprefix("harvest-bridge: ")


def cells(done: Result) -> list[list[str]]:
    return [line.split("\t") for line in done.stdout.splitlines()]


def a_write(body: str, invoice_id: int = 1420) -> Write:
    parameters = {"body": body, "send_me_a_copy": True}
    request = V2Request(
        "POST", f"/invoices/{invoice_id}/messages", body=json.dumps(parameters).encode()
    )
    return Write("invoice-messages", request, likeness(parameters))


@asynccontextmanager
async def opened(path: Path | str) -> AsyncIterator[Journal]:
    async with open_journal(path, window=timedelta(hours=1)) as journal:
        yield journal


async def begun(
    journal: Journal, body: str = "Dear Customer", account_id: int = 1000, turn: Turn = NO_TURN
) -> Intent:
    request_id = f"r-{body}"
    return await journal.begin(
        a_write(body), account_id=account_id, request_id=request_id, turn=turn
    )


def interrupted(path: Path, *bodies: str, account_id: int = 1000) -> None:
    """Leave a journal with these writes open."""

    async def leave() -> None:
        async with opened(path) as journal:
            for body in bodies:
                await begun(journal, body, account_id)

    asyncio.run(leave())


def unsettled(path: Path) -> list[Outcome]:
    """What is still to be settled, without opening a new life."""

    async def ask() -> list[Outcome]:
        async with opened(path) as journal:
            return [intent.outcome for intent in await journal.unsettled()]

    return asyncio.run(ask())


class TestFile:
    def test_a_file_that_is_not_there_is_told_and_not_made(self, path: Path) -> None:
        assert refusal(run("--journal", path)) == f"the journal {path}: there is no such file"
        assert list(path.parent.iterdir()) == []

    def test_reconciling_makes_none_either(self, path: Path) -> None:
        done = run("--journal", path, "--reconcile", "--contact=ops@acme.dev")

        assert refusal(done).endswith("there is no such file")
        assert list(path.parent.iterdir()) == []

    def test_one_of_an_older_bridge_is_read_but_not_while_that_runs(self, path: Path) -> None:
        interrupted(path, "one")
        as_of_version_1(path)
        with locked(path):
            said = refusal(run("--journal", path))

        assert said.endswith("an older bridge runs with it: restart that first")
        assert len(cells(run("--journal", path))) == 2

    def test_another_file_is_refused(self, path: Path) -> None:
        path.write_text("Dear Customer,\n" * 100)

        assert refusal(run("--journal", path)).endswith("file is not a database")

    @pytest.mark.parametrize("way", ["flag", "environment", "config"])
    def test_it_is_found_where_a_setting_is(self, path: Path, tmp_path: Path, way: str) -> None:
        interrupted(path, "one")
        other = tmp_path / "other.sqlite"
        config = tmp_path / "bridge.toml"
        config.write_text(f'journal = "{path if way == "config" else other}"\nport = "nonsense"\n')
        arguments = ["--journal", path] if way == "flag" else []
        journal = {"flag": other, "environment": path}.get(way)
        environ = {f"{PREFIX}CONFIG": str(config)}
        if journal is not None:
            environ[f"{PREFIX}JOURNAL"] = str(journal)

        done = run(*arguments, environ=environ)

        assert (done.exit_code, len(cells(done))) == (0, 2)

    def test_else_it_is_the_bridges_default(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)

        assert str(Settings.model_fields["journal"].default) in refusal(run())

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            pytest.param("journal = 7", "journal: must be a path", id="number"),
            pytest.param("journal =", "bridge.toml: Invalid value", id="no-toml"),
            pytest.param(None, "bridge.toml: No such file", id="no-file"),
        ],
    )
    def test_a_wrong_config_is_told(self, tmp_path: Path, text: str | None, expected: str) -> None:
        config = tmp_path / "bridge.toml"
        if text is not None:
            config.write_text(text)

        assert expected in refusal(run("--config", config))


class TestList:
    def test_nothing_is_one_line(self, path: Path) -> None:
        interrupted(path)

        done = run("--journal", path)

        assert (done.exit_code, done.stdout) == (0, "Nothing is open or unknown.\n")

    def test_what_was_interrupted_and_what_is_unknown_oldest_first(self, path: Path) -> None:
        async def leave() -> None:
            async with opened(path) as journal:
                first, second = await begun(journal, "one"), await begun(journal, "two", 7)
                third = await begun(journal, "three")
                await journal.settle(third.id, Outcome.DONE, 409)
                await journal.settle(first.id, Outcome.UNKNOWN)
                assert second.id == 2

        asyncio.run(leave())

        done = run("--journal", path)

        assert (done.exit_code, done.stderr) == (0, "")
        head, *rows = cells(done)
        assert head == HEAD
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row.pop(1)) for row in rows)
        assert rows == [
            ["1", "1000", "/invoices/1420/messages", "unknown", "r-one"],
            ["2", "7", "/invoices/1420/messages", "open (interrupted)", "r-two"],
        ]

    async def test_what_a_running_bridge_is_making_is_in_flight(self, path: Path) -> None:
        async with opened(path) as journal:
            intent = await begun(journal)

            done = await asyncio.to_thread(run, "--journal", path)

            assert cells(done)[1][4] == "open (in flight)"
            assert await journal.settle(intent.id, Outcome.DONE, 409)
            assert (await asyncio.to_thread(run, "--journal", path)).stdout.startswith("Nothing")

    def test_looking_changes_nothing(self, path: Path) -> None:
        interrupted(path, "one")
        before = [run("--journal", path).stdout for _ in range(2)]

        assert before[0] == before[1]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    @pytest.mark.parametrize("flag", ["--token=env:T", "--upstream=http://x", "--contact=a@b.c"])
    def test_what_belongs_to_reconciling_is_refused_without_it(self, path: Path, flag: str) -> None:
        interrupted(path, "one")

        assert "--reconcile" in refusal(run("--journal", path, flag))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


class TestListOfAServer:
    async def test_each_bridges_writes_are_listed_with_who_makes_them(self, server: Server) -> None:
        database = server.new_database()
        async with opened(database) as one, opened(database) as other:
            settled = await begun(one, "settled")
            await one.settle(settled.id, Outcome.DONE, 409)
            lost = await begun(one, "lost")
            await one.settle(lost.id, Outcome.UNKNOWN)
            made = await begun(other, "made", turn=Turn(seconds=60))
            done = await asyncio.to_thread(run, "--database", database)

        head, first, second = cells(done)
        assert head == HEAD
        assert [first[0], *first[2:]] == [
            str(lost.id),
            "1000",
            "/invoices/1420/messages",
            "unknown",
            "r-lost",
        ]
        assert second[0] == str(made.id)
        assert re.fullmatch(rf"open \(in flight: .+, process {os.getpid()}\)", second[4])

    def test_a_database_without_a_journal_is_told(self, server: Server) -> None:
        told = refusal(run("--database", server.new_database()))

        assert told.endswith("it has no journal yet: start a bridge with it first")


class Sandbox:
    """A v2 of a test, and what the test does there by itself."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.url = f"{root}/v2"

    async def call(self, path: str, given: object) -> Any:
        headers = {
            "Authorization": f"Bearer {SANDBOX_TOKEN}",
            "Harvest-Account-Id": str(SANDBOX_ACCOUNT_ID),
            "User-Agent": "Tests (tests@example.com)",
        }
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(f"{self.root}{path}", json=given, raise_for_status=True) as response,
        ):
            return await response.json()

    async def sent(self, body: str) -> int:
        """Have v2 send a message, and return its id."""
        given = {"body": body, "send_me_a_copy": True}
        made = await self.call("/v2/invoices/1420/messages", given)
        return int(made["id"])


@pytest.fixture
async def v2() -> AsyncIterator[Sandbox]:
    async with running_app(create_sandbox()) as root:
        yield Sandbox(root)


async def reconcile(path: Path, upstream: str, *more: object, token: str = SANDBOX_TOKEN) -> Result:
    """Run the command; it has an event loop of its own, so it has a thread of its own here."""
    return await asyncio.to_thread(
        lambda: run(
            "--reconcile",
            "--journal",
            path,
            "--upstream",
            upstream,
            "--contact=ops@acme.dev",
            *(more or ("--token=env:SOME_TOKEN",)),
            environ={"SOME_TOKEN": token},
        )
    )


def results(done: Result) -> dict[int, str]:
    assert done.stderr == ""
    return {int(row[0]): row[4] for row in cells(done)}


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What v2 bears is nothing to a test's own server."""
    monkeypatch.setattr(journal_command, "PACE", 0.0)


class TestReconcile:
    async def test_what_v2_has_is_done_and_what_it_has_not_may_be_sent_again(
        self, path: Path, v2: Sandbox
    ) -> None:
        async with opened(path) as journal:
            made = await begun(journal, "made")
            made_id = await v2.sent("made")
            absent = await begun(journal, "absent")
            await journal.settle(absent.id, Outcome.UNKNOWN)

        done = await reconcile(path, v2.url)

        assert results(done) == {made.id: f"done, invoice-message {made_id}", absent.id: NOT_THERE}
        assert done.exit_code == 0
        assert await asyncio.to_thread(unsettled, path) == []
        async with opened(path) as journal:
            assert (await begun(journal, "made")).made_id == made_id
            assert (await begun(journal, "absent")).outcome is Outcome.ABSENT
        assert (await reconcile(path, v2.url)).exit_code == 0

    async def test_a_payment_is_told_as_one(self, path: Path, v2: Sandbox) -> None:
        parameters = {"amount": 12.5, "notes": "By cheque"}
        request = V2Request("POST", "/invoices/1420/payments", body=json.dumps(parameters).encode())
        write = Write("invoice-payments", request, invoice_payments.likeness(parameters))
        async with opened(path) as journal:
            intent = await journal.begin(write, account_id=1000, request_id="r")
            made = await v2.call("/v2/invoices/1420/payments", parameters)

        assert results(await reconcile(path, v2.url)) == {intent.id: f"done, payment {made['id']}"}

    async def test_two_equal_writes_are_two_messages(self, path: Path, v2: Sandbox) -> None:
        async with opened(path) as journal:
            for _ in range(3):
                await begun(journal, "twins")
            ids = [await v2.sent("twins") for _ in range(2)]

        done = await reconcile(path, v2.url)

        assert sorted(results(done).values()) == sorted(
            [*(f"done, invoice-message {made_id}" for made_id in ids), NOT_THERE]
        )

    async def test_after_a_504_of_a_real_bridge(self, path: Path, v2: Sandbox) -> None:
        """The sandbox applies a write and says nothing, nor does it let itself be looked at."""
        await v2.call(
            "/sandbox/faults",
            [
                {"method": "POST", "fault": "reset", "applied": True},
                {"method": "GET", "fault": "status", "status": 500},
            ],
        )
        async with running_bridge(v2.url, journal=path) as client:
            answer = await client.call(
                "POST",
                "/invoices/1420/messages",
                body=b"<invoice-message><body>Pay!</body>"
                b"<send-me-a-copy>true</send-me-a-copy></invoice-message>",
            )
            assert answer.status == 504
            listed = await asyncio.to_thread(run, "--journal", path)
            assert [row[4] for row in cells(listed)[1:]] == ["unknown"]

            failed = await reconcile(path, v2.url)
            assert failed.exit_code == 1
            async with aiohttp.ClientSession() as session:
                await session.delete(f"{v2.root}/sandbox/faults")
            done = await reconcile(path, v2.url)

        assert done.exit_code == 0
        assert re.fullmatch(r"done, invoice-message \d+", results(done)[1])

    @pytest.mark.parametrize("known", ["better-than-the-flag", "alone"])
    async def test_the_book_knows_an_accounts_token(
        self, path: Path, v2: Sandbox, tmp_path: Path, known: str
    ) -> None:
        book = tmp_path / "book.toml"
        token = write_token(tmp_path, "token", SANDBOX_TOKEN)
        enter(book, "acme", "jane@acme.example", "s3cret", SANDBOX_ACCOUNT_ID, token)
        await asyncio.to_thread(interrupted, path, "one")
        more = ["--book", book]
        if known == "better-than-the-flag":
            more += ["--token", write_token(tmp_path, "wrong", "wrong")]

        assert results(await reconcile(path, v2.url, *more)) == {1: NOT_THERE}

    async def test_the_book_may_stand_in_the_config(
        self, path: Path, v2: Sandbox, tmp_path: Path
    ) -> None:
        book = tmp_path / "book.toml"
        token = write_token(tmp_path, "token", SANDBOX_TOKEN)
        enter(book, "acme", "jane@acme.example", "s3cret", SANDBOX_ACCOUNT_ID, token)
        config = tmp_path / "bridge.toml"
        config.write_text(f'book = "{book}"\n')
        await asyncio.to_thread(interrupted, path, "one")

        assert results(await reconcile(path, v2.url, "--config", config)) == {1: NOT_THERE}

    async def test_an_account_without_a_token_is_told(
        self, path: Path, v2: Sandbox, tmp_path: Path
    ) -> None:
        book = tmp_path / "book.toml"
        token = write_token(tmp_path, "token", SANDBOX_TOKEN)
        enter(book, "acme", "jane@acme.example", "s3cret", SANDBOX_ACCOUNT_ID, token)
        await asyncio.to_thread(interrupted, path, "one", account_id=7)

        done = await reconcile(path, v2.url, "--book", book)

        assert done.exit_code == 1
        assert results(done) == {
            1: "still unknown: there is no token for account 7: --book or --token"
        }

    async def test_a_look_that_fails_leaves_it_unknown(self, path: Path, v2: Sandbox) -> None:
        await asyncio.to_thread(interrupted, path, "one")

        done = await reconcile(path, v2.url, token="wr0ng")

        assert (done.exit_code, results(done)) == (1, {1: "still unknown: v2 answered 401"})
        assert "wr0ng" not in done.output
        assert await asyncio.to_thread(unsettled, path) == [Outcome.UNKNOWN]

    async def test_a_v2_that_is_not_there(self, path: Path) -> None:
        await asyncio.to_thread(interrupted, path, "one", "two")

        done = await reconcile(path, f"http://{LOOPBACK}:9/v2")

        assert done.exit_code == 1
        assert all(each.startswith("still unknown: ") for each in results(done).values())

    async def test_what_a_running_bridge_is_making_is_left_alone(
        self, path: Path, v2: Sandbox
    ) -> None:
        async with opened(path) as journal:
            unknown, open_ = await begun(journal, "unknown"), await begun(journal, "open")
            await journal.settle(unknown.id, Outcome.UNKNOWN)

            done = await reconcile(path, v2.url)

            assert done.exit_code == 0
            assert results(done) == {
                unknown.id: NOT_THERE,
                open_.id: "in flight: the bridge is making it",
            }
            assert await journal.unsettled() == (open_,)

    async def test_no_bridge_can_begin_meanwhile(
        self, path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await asyncio.to_thread(interrupted, path, "one")
        upstream.says(page())
        refused: list[str] = []
        settle = Inspection.settle

        def open_and_settle(self: Inspection, *given: Any, **more: Any) -> bool:
            with ThreadPoolExecutor() as elsewhere, pytest.raises(JournalError) as error:
                elsewhere.submit(interrupted, path).result()
            refused.append(str(error.value))
            return settle(self, *given, **more)

        monkeypatch.setattr(Inspection, "settle", open_and_settle)
        assert (await reconcile(path, upstream.base_url)).exit_code == 0
        assert ["in use" in each for each in refused] == [True]

    @pytest.mark.parametrize("afterwards", [Outcome.OPEN, Outcome.UNKNOWN, Outcome.DONE])
    async def test_what_its_client_took_up_meanwhile_is_left_to_it(
        self,
        path: Path,
        upstream: ScriptedUpstream,
        monkeypatch: pytest.MonkeyPatch,
        afterwards: Outcome,
    ) -> None:
        """Even if it is unknown once more: the look is older than what was sent then."""
        upstream.says(page())
        loop = asyncio.get_running_loop()
        settle = Inspection.settle
        async with opened(path) as journal:
            intent = await begun(journal)
            await journal.settle(intent.id, Outcome.UNKNOWN)

            async def take_up() -> None:
                assert (await begun(journal)).id == intent.id
                if afterwards is not Outcome.OPEN:
                    await journal.settle(intent.id, afterwards)

            def settle_too_late(self: Inspection, entry: Entry, *given: Any, **more: Any) -> bool:
                asyncio.run_coroutine_threadsafe(take_up(), loop).result(30)
                return settle(self, entry, *given, **more)

            monkeypatch.setattr(Inspection, "settle", settle_too_late)
            done = await reconcile(path, upstream.base_url)

            assert (done.exit_code, results(done)) == (0, {intent.id: "taken up by its client"})
            assert [each.outcome for each in await journal.unsettled()] == [
                each for each in [afterwards] if each is not Outcome.DONE
            ]

    async def test_it_waits_as_v2_tells_it(self, path: Path, upstream: ScriptedUpstream) -> None:
        await asyncio.to_thread(interrupted, path, "one")
        upstream.says(Reply(b"{}", 429, {"Retry-After": "1"}), page())

        assert results(await reconcile(path, upstream.base_url)) == {1: NOT_THERE}
        assert len(upstream.received) == 2

    def test_its_pace_leaves_a_running_bridge_half_of_what_v2_bears(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.undo()

        assert 15 / journal_command.PACE <= 50

    async def test_it_keeps_its_pace(
        self, path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal_command, "PACE", 1 / 8)
        await asyncio.to_thread(interrupted, path, "one", "two")
        upstream.says(Reply(b"{}", 429, {"Retry-After": "0"}), page())
        waited: list[float] = []

        async def wait(seconds: float) -> None:
            waited.append(seconds)

        monkeypatch.setattr("bridge.cli.journal.asyncio.sleep", wait)
        await reconcile(path, upstream.base_url)

        assert len(upstream.received) == 3
        assert (waited.count(1 / 8), waited.count(1.0)) == (2, 1)  # a second after the 429

    async def test_but_not_for_ever(
        self, path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal_command, "TRIES", 2)
        await asyncio.to_thread(interrupted, path, "one")
        for wait, calls in (("0", 2), ("900", 1)):
            upstream.says(Reply(b"{}", 429, {"Retry-After": wait}))

            done = await reconcile(path, upstream.base_url)

            assert results(done) == {1: "still unknown: v2 answered 429"}
            assert len(upstream.received) == calls

    async def test_a_v2_that_never_answers_is_given_up(
        self, path: Path, v2: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal_command, "PATIENCE", 0.2)
        await v2.call("/sandbox/faults", {"fault": "hang"})
        await asyncio.to_thread(interrupted, path, "one")

        done = await reconcile(path, v2.url)

        assert done.exit_code == 1
        assert results(done)[1].startswith("still unknown: ")

    async def test_a_hundred_and_more_are_settled(self, path: Path, v2: Sandbox) -> None:
        bodies = [str(each) for each in range(120)]
        await asyncio.to_thread(interrupted, path, *bodies)
        made_id = await v2.sent("77")

        found = results(await reconcile(path, v2.url))

        assert len(found) == 120
        assert [each for each in found.values() if each != NOT_THERE] == [
            f"done, invoice-message {made_id}"
        ]

    async def test_a_resource_that_the_bridge_does_not_know_is_told(
        self, path: Path, v2: Sandbox
    ) -> None:
        async with opened(path) as journal:
            write = Write("expenses", V2Request("POST", "/expenses"), b"")
            await journal.begin(write, account_id=1000, request_id="r")

        done = await reconcile(path, v2.url)

        assert results(done) == {1: "still unknown: this bridge has no resource expenses"}

    async def test_what_was_taken_out_of_a_page_by_hand_is_not_found(
        self, path: Path, upstream: ScriptedUpstream
    ) -> None:
        await asyncio.to_thread(interrupted, path, "one")
        upstream.says(page(message(body="another")))

        assert results(await reconcile(path, upstream.base_url)) == {1: NOT_THERE}

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--token=s3cret"], "token: must be env:NAME or file:/absolute/path"),
            (["--token=env:"], "token: must be env:NAME or file:/absolute/path"),
            (["--token=env:NO_SUCH"], "the environment variable NO_SUCH is not set"),
            (["--token=file:/no/such"], "/no/such: No such file or directory"),
            (["--book=/no/such"], "/no/such: No such file or directory"),
            (["--upstream=x"], "upstream: must be an http"),
        ],
    )
    def test_what_is_wrong_is_told(self, path: Path, arguments: list[str], expected: str) -> None:
        interrupted(path, "one")
        done = run("--journal", path, "--reconcile", "--contact=ops@acme.dev", *arguments)

        assert refusal(done).startswith(expected)
        assert "s3cret" not in done.stderr

    def test_a_contact_is_needed(self, path: Path) -> None:
        interrupted(path, "one")

        assert refusal(run("--journal", path, "--reconcile")).startswith("contact: must be set")
