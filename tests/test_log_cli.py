"""The commands that ask the translation log: what they take, and that no text of a client's does harm."""

import csv
import io
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from bridge.cli import app
from bridge.cli.asking import read_time
from bridge.cli.log import LATE, _harmless
from bridge.cli.terminal import printable, to_json
from bridge.record.log.database import load_key, open_database, writing
from bridge.record.log.events import CallEvent, NoteEvent, UpstreamCallEvent
from bridge.record.log.exchange import Exchange, Message, UpstreamExchange, pack
from bridge.record.log.ids import TIME_SHIFT
from bridge.record.log.ingest import ingest
from bridge.record.log.tables import CAPTURES
from bridge.record.log.times import spelled
from tests.support.recorded_days import recorded_days

NOW = datetime.now(UTC)
EVENTS = list(recorded_days(calls=120, integrations=6, days=3, until=NOW, seed=1))
LATEST = EVENTS[-1]
HOSTILE = "\x1b]0;owned\x07\x1b[2J<script>alert(1)</script>\u202e\x9b31m\t\r\n=cmd()"
BEFORE = ["--since", "2020-01-01"]


def told_of(*calls: CallEvent, folder: Path) -> str:
    """Return a translation log that has been told of these calls."""
    database = str(folder / "log.sqlite")
    engine = open_database(database, load_key(database, None))
    with writing(engine) as connection:
        ingest(connection, calls)
    engine.dispose()
    return database


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return told_of(*EVENTS, folder=tmp_path_factory.mktemp("log"))


@pytest.fixture
def hostile(tmp_path: Path) -> str:
    """A log in which each text that a client controls is made to do harm."""
    fields: dict[str, Any] = dict.fromkeys(("request_id", "path", "label", "host", "subdomain", "user_agent", "agent", "address", "network", "cause", "v2_says", "method"), HOSTILE)  # fmt: skip
    upstream = UpstreamCallEvent("GET", HOSTILE, HOSTILE, 200, 1.0, HOSTILE)
    return told_of(
        msgspec.structs.replace(
            LATEST,
            **fields,
            route=None,
            upstream=(upstream,),
            notes=(NoteEvent(HOSTILE, HOSTILE, 1),),
        ),
        folder=tmp_path,
    )


def run(*arguments: str, database: str | None = None) -> Result:
    flags = [] if database is None else ["--database", database]
    return CliRunner().invoke(app, [*arguments, *flags], catch_exceptions=False)


def rows(done: Result) -> list[list[str]]:
    assert done.exit_code == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


class TestTimes:
    @pytest.mark.parametrize(
        ("text", "wanted"),
        [
            ("30d", "2026-10-27T12:00:00Z"),
            ("12h", "2026-11-26T00:00:00Z"),
            ("90m", "2026-11-26T10:30:00Z"),
            ("2w", "2026-11-12T12:00:00Z"),
            ("0d", "2026-11-26T12:00:00Z"),
            ("2026-11-01", "2026-11-01T00:00:00Z"),
            ("2026-11-01T12:00Z", "2026-11-01T12:00:00Z"),
            ("2026-11-01T12:00", "2026-11-01T12:00:00Z"),
            ("2026-11-01T12:00+02:00", "2026-11-01T10:00:00Z"),
        ],
    )
    def test_a_span_ago_or_a_time_in_iso_8601(self, text: str, wanted: str) -> None:
        now = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()

        assert spelled(read_time(text, now)) == wanted

    @pytest.mark.parametrize(
        "text", ["", "d", "1y", "yesterday", "30", "-1d", "1969-01-01", "9" * 6 + "w"]
    )
    def test_anything_else_is_one_line_and_status_2(self, text: str, database: str) -> None:
        done = run("calls", "--since", text, database=database)

        assert done.exit_code == 2
        assert done.stderr.startswith("harvest-bridge: --since: must be a time such as 30d")
        assert len(done.stderr.splitlines()) == 1


class TestCalls:
    def test_the_latest_come_first(self, database: str) -> None:
        head, *found = rows(run("calls", "--limit", "7", database=database))

        ids = [row[head.index("id")] for row in found]
        assert ids == [str(call.id) for call in reversed(EVENTS[-7:])]

    def test_flags_are_a_filter(self, database: str) -> None:
        done = run(
            "calls", "--method", LATEST.method.lower(), "--integration", LATEST.integration[:10],
            "--outcome", LATEST.outcome, "--status", str(LATEST.status), "--route",
            LATEST.route or str(LATEST.path), "--json", *BEFORE, database=database,
        )  # fmt: skip

        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert found[0]["id"] == str(LATEST.id)
        assert {(each["method"], each["integration"], each["status"]) for each in found} == {
            (LATEST.method, LATEST.integration, LATEST.status)
        }

    @pytest.mark.parametrize(
        "flags",
        [
            ("--integration", "nobody"),
            ("--outcome", "great"),
            ("--status", "ok"),
            ("--limit", "0"),
            ("--follow", "--until", "1h"),
        ],
    )
    def test_what_makes_no_sense_is_one_line_and_status_2(
        self, database: str, flags: tuple[str, ...]
    ) -> None:
        done = run("calls", *flags, database=database)

        assert done.exit_code == 2
        assert len(done.stderr.splitlines()) == 1
        assert done.stdout == ""

    def test_following_prints_what_any_bridge_writes_even_if_it_comes_late(
        self, tmp_path: Path
    ) -> None:
        now = time.time_ns() // 1_000_000
        calls = [
            msgspec.structs.replace(LATEST, id=(now - 1000 * ago) << TIME_SHIFT)
            for ago in (60, 3, 5, 1)
        ]
        database = told_of(calls[0], folder=tmp_path)
        command = [sys.executable, "-m", "bridge", "calls", "--follow", "--json"]
        assert LATE > 5000
        with subprocess.Popen(
            [*command, "--database", database], stdout=subprocess.PIPE, text=True
        ) as following:
            try:
                assert following.stdout is not None
                for call in calls:
                    if call is not calls[0]:
                        told_of(call, folder=tmp_path)
                    assert json.loads(following.stdout.readline())["id"] == str(call.id)
            finally:
                following.kill()

    def test_following_begins_with_no_more_than_the_limit(self, tmp_path: Path) -> None:
        now = time.time_ns() // 1_000_000
        old, listed, new = (
            msgspec.structs.replace(LATEST, id=(now - ago) << TIME_SHIFT) for ago in (2000, 1000, 0)
        )
        database = told_of(old, listed, folder=tmp_path)
        command = [sys.executable, "-m", "bridge", "calls", "--follow", "--json", "--limit", "1"]
        with subprocess.Popen(
            [*command, "--database", database], stdout=subprocess.PIPE, text=True
        ) as following:
            try:
                assert following.stdout is not None
                first = json.loads(following.stdout.readline())
                told_of(new, folder=tmp_path)
                second = json.loads(following.stdout.readline())
            finally:
                following.kill()

        assert [first["id"], second["id"]] == [str(listed.id), str(new.id)]


class TestStandardOutput:
    def export(self, flag: str, database: str, **how: Any) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "bridge", "export", flag, "--database", database]
        return subprocess.run(command, stderr=subprocess.PIPE, check=False, **how)

    @pytest.mark.parametrize("flag", ["--csv", "--json", "--har"])
    def test_that_takes_no_more_is_one_line_and_status_2(self, database: str, flag: str) -> None:
        with Path("/dev/full").open("wb") as full:
            done = self.export(flag, database, stdout=full)

        assert done.returncode == 2
        assert done.stderr == b"harvest-bridge: standard output: No space left on device\n"

    def test_with_few_characters_shows_what_it_has_not_as_a_mark(self, tmp_path: Path) -> None:
        path = "/clients/{\N{HORIZONTAL ELLIPSIS}}"
        call = msgspec.structs.replace(LATEST, route=None, path=path)
        database = told_of(call, folder=tmp_path)
        ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}

        done = self.export("--csv", database, stdout=subprocess.PIPE, env=ascii_only)

        assert done.returncode == 0
        assert b"/clients/{?}" in done.stdout


class TestIntegrations:
    def test_one_is_named_and_shown(self, tmp_path: Path) -> None:
        database = told_of(*EVENTS, folder=tmp_path)
        said = ("--name", "Cron", "--owner", "Bob", "--state", "contacted", "--remark", "old")

        rows(run("integrations", LATEST.integration[:10], *said, database=database))

        told = json.loads(run("integrations", "cron", "--json", database=database).stdout)
        assert (told["name"], told["owner"], told["state"], told["remark"]) == (
            "Cron", "Bob", "contacted", "old",
        )  # fmt: skip
        assert sum(each["calls"] for each in told["at_routes"]) == told["calls"]

    @pytest.mark.parametrize(
        "arguments",
        [
            ("--name", "x"),
            ("nobody",),
            (LATEST.integration, "--state", "gone"),
            (LATEST.integration, "--quiet-since", "1d"),
        ],
    )
    def test_what_makes_no_sense_is_one_line_and_status_2(
        self, database: str, arguments: tuple[str, ...]
    ) -> None:
        done = run("integrations", *arguments, database=database)

        assert done.exit_code == 2
        assert len(done.stderr.splitlines()) == 1

    def test_they_are_json_too(self, database: str) -> None:
        found = json.loads(run("integrations", "--json", database=database).stdout)

        assert {each["id"] for each in found} == {call.integration for call in EVENTS}


class TestShow:
    def test_an_id_in_json_is_a_text(self, database: str) -> None:
        """JavaScript and jq would round it."""
        told = json.loads(run("show", str(LATEST.id), "--json", database=database).stdout)

        assert told["id"] == str(LATEST.id)

    def test_a_call_that_is_not_there(self, database: str) -> None:
        done = run("show", "12", database=database)

        assert done.exit_code == 2
        assert len(done.stderr.splitlines()) == 1

    def test_both_sides_of_a_call_that_was_captured(self, tmp_path: Path) -> None:
        database = told_of(LATEST, folder=tmp_path)
        said = Message((("Accept", f"application/xml{HOSTILE}"),), b"<a>\x1b[2J</a>", 10)
        exchange = Exchange(
            method="GET", url="http://acme.example/invoice/1/messages", status=200, began=0.0,
            milliseconds=1.0, request=said, answer=said,
            upstream=[
                UpstreamExchange(
                    method="GET", url="https://v2.example/v2/x", status=200, error=None, started=1.0,
                    milliseconds=2.0, request=said, answer=None,
                )
            ],
        )  # fmt: skip
        with closing(_Writer(database)) as writer:
            writer.keep(LATEST.id, pack(exchange))

        told = run("show", str(LATEST.id), database=database).stdout
        assert "v1: GET http://acme.example/invoice/1/messages" in told
        assert "GET https://v2.example/v2/x" in told
        assert not harmful(told)
        read = json.loads(run("show", str(LATEST.id), "--json", database=database).stdout)
        assert read["exchange"]["request"]["body"] == "<a>\x1b[2J</a>"


class _Writer:
    def __init__(self, database: str) -> None:
        self._engine = open_database(database, load_key(database, None))

    def keep(self, id_: int, exchange: bytes) -> None:
        with writing(self._engine) as connection:
            connection.execute(CAPTURES.insert().values(id=id_, exchange=exchange))

    def close(self) -> None:
        self._engine.dispose()


class TestExport:
    def test_json_is_one_call_a_line(self, database: str) -> None:
        done = run("export", "--json", *BEFORE, database=database)

        ids = [json.loads(line)["id"] for line in done.stdout.splitlines()]
        assert ids == [str(call.id) for call in reversed(EVENTS)]

    def test_csv_is_what_spreadsheets_read(self, database: str) -> None:
        done = run("export", "--csv", database=database)

        found = list(csv.DictReader(io.StringIO(done.stdout, newline="")))
        assert [row["id"] for row in found] == [str(call.id) for call in reversed(EVENTS)]
        assert found[0]["user_agent"] == (LATEST.user_agent or "")

    @pytest.mark.parametrize("flags", [(), ("--json", "--csv")])
    def test_one_format_has_to_be_given(self, database: str, flags: tuple[str, ...]) -> None:
        done = run("export", *flags, database=database)

        assert done.exit_code == 2
        assert len(done.stderr.splitlines()) == 1

    def test_no_cell_of_a_client_is_a_formula(self, tmp_path: Path) -> None:
        call = msgspec.structs.replace(
            LATEST, user_agent="=HYPERLINK(1)", request_id="-1+1", host="@a"
        )
        done = run("export", "--csv", database=told_of(call, folder=tmp_path))

        (row,) = csv.DictReader(io.StringIO(done.stdout, newline=""))
        assert (row["user_agent"], row["request_id"], row["host"]) == (
            "'=HYPERLINK(1)", "'-1+1", "'@a",
        )  # fmt: skip

    def test_a_cell_does_nothing_to_a_terminal(self) -> None:
        assert _harmless("\x1b[2J\u202e") == "\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}"

    @given(st.text())
    def test_a_cell_never_begins_as_a_formula_does(self, text: str) -> None:
        assert not str(_harmless(text)).startswith(("=", "+", "-", "@", "\t", "\r"))


def harmful(text: str) -> set[str]:
    """Return what is in `text` that a terminal acts on."""
    return {each for each in text if each != "\n" and printable(each) != each} - {"\t"}


class TestTextsOfClients:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("integrations",),
            ("integrations", LATEST.integration),
            ("calls",),
            ("show", str(LATEST.id)),
            ("plan", LATEST.integration),
        ],
    )
    @pytest.mark.parametrize("flags", [(), ("--json",)])
    def test_none_does_anything_to_a_terminal(
        self, hostile: str, arguments: tuple[str, ...], flags: tuple[str, ...]
    ) -> None:
        done = run(*arguments, *flags, database=hostile)

        assert done.exit_code == 0, done.stderr
        assert harmful(done.stdout) == set()
        assert "script" in done.stdout
        if flags:
            assert done.stdout.isascii()

    def test_nor_on_a_real_one(self, hostile: str) -> None:
        """Where somebody looks, a table is drawn by rich."""
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "bridge", "calls", "--database", hostile]
        environment = {**os.environ, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200"}
        subprocess.run(command, stdout=theirs, stderr=theirs, env=environment, check=True)
        os.close(theirs)
        told = b"".join(_all_of(ours)).decode()

        assert "owned" in told
        assert harmful(told) <= {"\r"}  # of the terminal's own line ends

    def test_a_row_stays_a_row(self, hostile: str) -> None:
        head, row = rows(run("calls", database=hostile))

        assert len(head) == len(row)

    @given(st.text(alphabet=st.characters(codec=None)))
    def test_json_is_ascii_whatever_is_in_it(self, text: str) -> None:
        told = to_json({"id": 1 << 62, "text": text.encode("utf-8", "replace").decode()})

        assert told.isascii()
        assert json.loads(told)["id"] == str(1 << 62)


def _all_of(file: int) -> Iterator[bytes]:
    try:
        while data := os.read(file, 65536):
            yield data
    except OSError:  # how Linux says that nobody has the other end
        pass
    finally:
        os.close(file)


@pytest.mark.parametrize(
    "command", [("integrations",), ("calls",), ("show", "1"), ("export", "--csv"), ("plan", "x")]
)
def test_without_a_log_it_is_said_which_setting_is_meant(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    done = run(*command, database=str(tmp_path / "none.sqlite"))

    assert done.exit_code == 2
    assert done.stderr.startswith("harvest-bridge: database: ")
    assert "HARVEST_BRIDGE_DATABASE" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_database_of_a_settings_file_is_asked(database: str, tmp_path: Path) -> None:
    config = tmp_path / "bridge.toml"
    config.write_text(f'database = "{database}"\n')

    assert len(rows(run("calls", "--config", str(config), "--limit", "3"))) == 4
