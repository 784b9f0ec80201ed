"""The commands `harvest-bridge credentials …`, on real books and against real servers."""

import asyncio
import os
import pty
import select
import stat
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from typer.testing import CliRunner, Result

from bridge.cli import credentials
from bridge.cli.credentials import app
from bridge.identity.book import Cost, read_rows
from bridge.identity.passwords import COST, hash_password
from bridge.sandbox.app import SANDBOX_ACCOUNT_ID, SANDBOX_LIMITED_TOKEN, SANDBOX_TOKEN
from bridge.settings import PREFIX
from tests.support.running import LOOPBACK
from tests.support.upstream import Reply, ScriptedUpstream

PATIENCE = 60
"""Seconds until a process counts as hanging."""

JANE = {
    "subdomain": "acme",
    "login": "jane@acme.example",
    "account-id": str(SANDBOX_ACCOUNT_ID),
    "token": "env:ACME_TOKEN",
}

REFUSES = Reply(b'{"error": "invalid_token"}', 401)
"""What v2 says to a call without a token."""


def run(
    *arguments: object, given: str | bytes = "", environ: Mapping[str, str] | None = None
) -> Result:
    hidden = dict.fromkeys([name for name in os.environ if name.startswith(PREFIX)])
    return CliRunner(env={**hidden, **(environ or {})}).invoke(
        app, [*map(str, arguments)], input=given, catch_exceptions=False
    )


def flags(**changes: str | None) -> list[str]:
    """The flags of `add`; a change to None leaves one out."""
    given = {**JANE, **{name.replace("_", "-"): text for name, text in changes.items()}}
    return [f"--{name}={text}" for name, text in given.items() if text is not None]


def add(book: Path, given: str | bytes = "s3cret\n", *more: str, **changes: str | None) -> Result:
    return run("add", "--book", book, *flags(**changes), *more, given=given)


def refusal(done: Result) -> str:
    """The only line of a command that was refused."""
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "s3cret" not in line
    assert line.startswith("harvest-bridge: ")
    return line.removeprefix("harvest-bridge: ")


def cells(done: Result) -> list[list[str]]:
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash in a moment: what the real thing costs shows in `TestTyping`."""
    cost = Cost(memory=8, passes=1, lanes=1, salt_length=16, tag_length=16)
    monkeypatch.setattr(credentials, "hash_password", partial(hash_password, cost=cost))


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return tmp_path / "book.toml"


class TestAdd:
    def test_a_book_is_made_with_a_hash_in_it(self, book: Path) -> None:
        done = add(book, "s3cret\n", "--dialect=final", "--label=nightly invoicing")

        assert (done.exit_code, done.stderr) == (0, "")
        assert done.stdout == "Added jane@acme.example at acme.\n"
        (row,) = read_rows(book)
        assert (row.subdomain, row.login, row.account_id) == ("acme", "jane@acme.example", 1000)
        assert (str(row.reference), row.dialect, row.label) == (
            "env:ACME_TOKEN",
            "final",
            "nightly invoicing",
        )
        assert PasswordHasher().verify(row.password_hash.reveal(), "s3cret")
        assert stat.S_IMODE(book.stat().st_mode) == 0o600
        assert "s3cret" not in book.read_text()

    def test_the_book_may_be_named_in_the_environment(self, book: Path) -> None:
        done = run("add", *flags(), given="s3cret", environ={f"{PREFIX}BOOK": str(book)})

        assert done.exit_code == 0
        assert len(read_rows(book)) == 1

    @pytest.mark.parametrize(
        ("given", "password"),
        [
            pytest.param("s3cret", "s3cret", id="no-newline"),
            pytest.param("s3cret\r\nmore", "s3cret", id="crlf"),
            pytest.param(" s p a c e \n", " s p a c e ", id="blanks"),
            pytest.param("sécret🔑\n", "sécret🔑", id="not-ascii"),
        ],
    )
    def test_the_first_line_of_standard_input_is_the_password(
        self, book: Path, given: str, password: str
    ) -> None:
        assert add(book, given).exit_code == 0

        assert PasswordHasher().verify(read_rows(book)[0].password_hash.reveal(), password)

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            pytest.param("", "the password must not be empty", id="nothing"),
            pytest.param("\ns3cret\n", "the password must not be empty", id="empty-line"),
            pytest.param(
                b"s3cret\xff\n", "the password on standard input is not UTF-8", id="utf-8"
            ),
            pytest.param("s3\tcret\n", "the password must have no control characters", id="tab"),
            pytest.param("x" * 1025, "the password must have at most 1024 characters", id="long"),
        ],
    )
    def test_what_cannot_be_a_password_is_refused(
        self, book: Path, given: str | bytes, expected: str
    ) -> None:
        assert refusal(add(book, given)).startswith(expected)
        assert not book.exists()

    def test_a_credential_that_is_there_is_not_replaced_by_accident(self, book: Path) -> None:
        add(book)
        before = book.read_text()

        assert "--replace" in refusal(add(book, login="JANE@acme.example"))
        assert book.read_text() == before

    def test_but_it_is_when_that_is_meant(self, book: Path) -> None:
        add(book)

        done = add(book, "n3w\n", "--replace", token="file:/run/secrets/acme")

        assert done.stdout == "Replaced jane@acme.example at acme.\n"
        (row,) = read_rows(book)
        assert str(row.reference) == "file:/run/secrets/acme"
        assert PasswordHasher().verify(row.password_hash.reveal(), "n3w")

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"subdomain": None}, "subdomain: must be given"),
            ({"subdomain": "acme.harvestapp.com"}, "subdomain: must be what stands before"),
            ({"login": None}, "login: must be given"),
            ({"login": "jane:doe"}, "login: must be printable, without a colon"),
            ({"account_id": None}, "account_id: must be given"),
            ({"account_id": "acme"}, "account_id: must be a positive whole number"),
            ({"account_id": "0"}, "account_id: expected `int` >= 1"),
            ({"token": None}, "token: must be given"),
            ({"token": "1234.pt.s3cret"}, "token: must be env:NAME or file:/absolute/path"),
            ({"dialect": "modern"}, "dialect: must be classic or final"),
            ({"label": "\x07"}, "label: must be printable"),
        ],
    )
    def test_a_wrong_flag_is_named_before_a_password_is_read(
        self, book: Path, changes: dict[str, str | None], expected: str
    ) -> None:
        assert refusal(add(book, "", **changes)).startswith(expected)
        assert not book.exists()

    def test_another_account_for_the_subdomain_is_refused(self, book: Path) -> None:
        add(book)

        assert "account_id: 7, where" in refusal(add(book, login="b", account_id="7"))


class TestTyping:
    """At a terminal, in a process of its own: nothing that is typed is shown."""

    def type(self, book: Path, *lines: str) -> tuple[int, str]:
        master, slave = pty.openpty()
        with subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from bridge.cli.credentials import app; app()",
                "add",
                f"--book={book}",
                *flags(),
            ],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        ) as process:
            os.close(slave)
            shown = ""
            try:
                for line in lines:
                    shown += self.until(master, ": ")
                    os.write(master, f"{line}\n".encode())
                shown += self.until(master, None)
                status = process.wait(PATIENCE)
            finally:
                process.kill()
                os.close(master)
        return status, shown

    def until(self, terminal: int, end: str | None) -> str:
        """Read until `end` is asked, or to the end."""
        shown = ""
        while end is None or not shown.endswith(end):
            ready, _, _ = select.select([terminal], [], [], PATIENCE)
            assert ready, f"nothing more comes after {shown!r}"
            try:
                octets = os.read(terminal, 1000)
            except OSError:  # how Linux tells that nobody is at the other end
                octets = b""
            if not octets:
                assert end is None, shown
                break
            shown += octets.decode()
        return shown

    def test_the_password_is_asked_for_twice_and_not_shown(self, book: Path) -> None:
        status, shown = self.type(book, "s3cret", "s3cret")

        assert status == 0
        assert shown.split() == [
            *["Password:", "Once", "more:", "Added", "jane@acme.example", "at", "acme."]
        ]
        (row,) = read_rows(book)
        assert row.cost == COST
        assert PasswordHasher().verify(row.password_hash.reveal(), "s3cret")

    def test_one_that_is_typed_differently_is_asked_for_again(self, book: Path) -> None:
        status, shown = self.type(book, "s3crets", "s3cret", "s3cret", "s3cret")

        assert status == 0
        assert "do not match" in shown
        assert PasswordHasher().verify(read_rows(book)[0].password_hash.reveal(), "s3cret")

    @pytest.mark.parametrize(
        ("typed", "expected"),
        [
            (["s\tcret", "s\tcret"], "Basic cannot carry them (RFC 7617)"),
            (["\x04"], "Aborted!"),
        ],
        ids=["control-character", "end-of-input"],
    )
    def test_a_slip_leaves_no_book(self, book: Path, typed: list[str], expected: str) -> None:
        status, shown = self.type(book, *typed)

        assert status != 0
        assert expected in shown
        assert "s3cret" not in shown
        assert not book.exists()


class TestList:
    def test_everything_is_shown_but_what_is_secret(self, book: Path) -> None:
        add(book, "s3cret\n", "--dialect=final", "--label=[bold]nightly")
        add(book, login="bob", token="file:/run/secrets/acme")

        done = run("list", "--book", book)

        assert (done.exit_code, done.stderr) == (0, "")
        assert cells(done) == [
            ["subdomain", "login", "account", "token", "dialect", "label"],
            ["acme", "jane@acme.example", "1000", "env:ACME_TOKEN", "final", "[bold]nightly"],
            ["acme", "bob", "1000", "file:/run/secrets/acme", "", ""],
        ]
        assert "argon2" not in done.stdout

    def test_at_a_terminal_it_is_a_table(self, book: Path) -> None:
        add(book, "s3cret\n", "--label=[bold]nightly")
        master, slave = pty.openpty()
        code = "from bridge.cli.credentials import app; app()"
        subprocess.run(
            [sys.executable, "-c", code, "list", f"--book={book}"],
            stdout=slave,
            check=True,
            timeout=PATIENCE,
            env={**os.environ, "COLUMNS": "120", "TERM": "xterm"},
        )
        os.close(slave)
        shown = os.read(master, 10_000).decode()
        os.close(master)

        assert "[bold]nightly" in shown
        assert "─" in shown
        assert "argon2" not in shown


class TestRemove:
    def test_one_is_removed(self, book: Path) -> None:
        add(book)
        add(book, login="bob")

        done = run("remove", "--book", book, "--subdomain", "ACME", "--login", "Jane@acme.example")

        assert done.exit_code == 0
        assert [row.login for row in read_rows(book)] == ["bob"]

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (["--subdomain=acme", "--login=bob"], "it has no credential of this subdomain"),
            (["--subdomain=acme"], "login: must be given"),
            (["--login=bob"], "subdomain: must be given"),
        ],
    )
    def test_none_is_not(self, book: Path, given: list[str], expected: str) -> None:
        add(book)

        assert expected in refusal(run("remove", "--book", book, *given))
        assert len(read_rows(book)) == 1


COMMANDS: dict[str, list[str]] = {
    "add": ["add", *flags()],
    "list": ["list"],
    "remove": ["remove", "--subdomain=acme", "--login=jane@acme.example"],
    "check": ["check", f"--upstream=http://{LOOPBACK}:9/v2", "--contact=ops@example.com"],
}


@pytest.mark.parametrize("command", COMMANDS)
class TestWrongBooks:
    def test_none_is_named(self, command: str) -> None:
        assert refusal(run(*COMMANDS[command])).startswith("book: must be set")

    def test_a_broken_one(self, book: Path, command: str) -> None:
        book.write_text("[[credential]]\nsubdomain = 'acme'\npassword = 's3cret'\n")
        book.chmod(0o600)

        said = refusal(run(*COMMANDS[command], "--book", book, given="s3cret"))

        assert said == f"{book}: credential 1 (acme): login: must be given"

    def test_one_that_others_can_read(self, book: Path, command: str) -> None:
        add(book)
        book.chmod(0o644)

        said = refusal(run(*COMMANDS[command], "--book", book, given="s3cret"))

        assert said.endswith(f"chmod 600 {book}")


class TestCheck:
    """The command runs an event loop of its own, so it has a thread of its own here."""

    async def check(self, book: Path, upstream: str, **environ: str) -> Result:
        return await asyncio.to_thread(
            lambda: run(
                "check",
                "--book",
                book,
                "--upstream",
                upstream,
                "--contact=ops@example.com",
                environ=environ,
            )
        )

    def results(self, done: Result) -> dict[str, str]:
        head, *rows = cells(done)
        assert head == ["subdomain", "login", "account", "token", "result"]
        return {row[1]: row[4] for row in rows}

    async def test_tokens_that_work(self, book: Path, sandbox: str) -> None:
        add(book)
        add(book, login="bob")

        done = await self.check(book, sandbox, ACME_TOKEN=SANDBOX_TOKEN)

        assert (done.exit_code, done.stderr) == (0, "")
        assert self.results(done) == {"jane@acme.example": "ok", "bob": "ok"}

    async def test_the_settings_are_those_of_the_bridge(
        self, book: Path, sandbox: str, tmp_path: Path
    ) -> None:
        add(book)
        config = tmp_path / "bridge.toml"
        config.write_text(
            f'upstream = "{sandbox}"\ncontact = "ops@example.com"\nport = "nonsense"\n'
        )

        done = await asyncio.to_thread(
            lambda: run(
                "check",
                "--book",
                book,
                environ={"ACME_TOKEN": SANDBOX_TOKEN, "HARVEST_BRIDGE_CONFIG": str(config)},
            )
        )

        assert (done.exit_code, done.stderr) == (0, "")
        assert self.results(done) == {"jane@acme.example": "ok"}

    async def test_those_that_do_not_are_told_apart(self, book: Path, sandbox: str) -> None:
        add(book)
        add(book, login="bob", token="env:LIMITED")
        add(book, login="carol", token="env:WRONG")
        add(book, login="dave", subdomain="globex", account_id="7")

        done = await self.check(
            book, sandbox, ACME_TOKEN=SANDBOX_TOKEN, LIMITED=SANDBOX_LIMITED_TOKEN, WRONG="s3cret"
        )

        assert done.exit_code == 1
        assert self.results(done) == {
            "jane@acme.example": "ok",
            "bob": "no permission for invoices (403)",
            "carol": "refused (401)",
            "dave": "refused (401)",
        }
        assert "s3cret" not in done.output

    @pytest.mark.parametrize(
        ("reply", "expected"),
        [
            pytest.param(Reply(b'{"invoices": []}'), "ok", id="v2"),
            pytest.param(Reply(b'{"message": "Not found"}', 404), "ok", id="messages-only"),
            pytest.param(Reply(b"<html>", 404), "no answer of v2's", id="a-page"),
            pytest.param(Reply(b"<html>"), "no answer of v2's", id="a-web-site"),
            pytest.param(Reply(b"{}"), "no answer of v2's", id="another-api"),
            pytest.param(Reply(b"", 401), "refused (401)", id="401"),
            pytest.param(Reply(b"", 403), "no permission for invoices (403)", id="403"),
            pytest.param(Reply(b"", 429), "throttled (429), try later", id="429"),
            pytest.param(Reply(b"", 302), "failed (302)", id="302"),
            pytest.param(Reply(b"", 500), "failed (500)", id="500"),
        ],
    )
    async def test_what_an_answer_says(
        self, book: Path, upstream: ScriptedUpstream, reply: Reply, expected: str
    ) -> None:
        add(book)
        upstream.says(REFUSES, reply)

        done = await self.check(book, upstream.base_url, ACME_TOKEN="t0ken")

        assert self.results(done) == {"jane@acme.example": expected}
        assert done.exit_code == (0 if expected == "ok" else 1)

    async def test_one_call_is_made_for_each_token_and_it_is_a_v2_call(
        self, book: Path, upstream: ScriptedUpstream
    ) -> None:
        add(book)
        add(book, login="bob")
        upstream.says(REFUSES, Reply(b'{"invoices": []}'))

        await self.check(book, upstream.base_url, ACME_TOKEN="t0ken")

        probe, call = upstream.received
        assert "Authorization" not in probe.headers
        assert (call.method, call.path, call.query) == ("GET", "/v2/invoices", "per_page=1")
        assert call.headers["Authorization"] == "Bearer t0ken"
        assert call.headers["Harvest-Account-Id"] == "1000"
        assert "ops@example.com" in call.headers["User-Agent"]

    async def test_nobody_there(self, book: Path) -> None:
        add(book)

        done = await self.check(book, f"http://{LOOPBACK}:9/v2", ACME_TOKEN="t0ken")

        assert done.exit_code == 1
        assert self.results(done)["jane@acme.example"] == (
            f"unreachable: {LOOPBACK}:9 refuses connections"
        )

    async def test_no_token_is_sent_to_what_is_no_v2(
        self, book: Path, upstream: ScriptedUpstream
    ) -> None:
        """Such as a v2 whose base URL lacks its `/v2`: it has JSON for its 404."""
        add(book)
        upstream.says(Reply(b'{"message": "Not Found"}', 404))

        done = await self.check(book, upstream.base_url, ACME_TOKEN="t0ken")

        assert done.exit_code == 1
        assert self.results(done)["jane@acme.example"].startswith("no v2: ")
        assert ["Authorization" in call.headers for call in upstream.received] == [False]

    async def test_one_that_cannot_be_read_hides_none_of_the_others(
        self, book: Path, sandbox: str
    ) -> None:
        add(book, token="env:MISSING")
        add(book, login="bob", token="file:/missing")
        add(book, login="carol")

        done = await self.check(book, sandbox, ACME_TOKEN=SANDBOX_TOKEN)

        assert done.exit_code == 1
        assert self.results(done) == {
            "jane@acme.example": "the environment variable MISSING is not set, or empty",
            "bob": "/missing: No such file or directory",
            "carol": "ok",
        }

    @pytest.mark.parametrize(
        ("arguments", "environ", "expected"),
        [
            ([], {"ACME_TOKEN": "t"}, "contact: must be set"),
            (["--contact=a@b.c", "--upstream=x"], {"ACME_TOKEN": "t"}, "upstream: must be an http"),
        ],
        ids=["contact", "upstream"],
    )
    def test_what_is_missing_is_told(
        self, book: Path, arguments: list[str], environ: dict[str, str], expected: str
    ) -> None:
        add(book)

        assert expected in refusal(run("check", "--book", book, *arguments, environ=environ))
