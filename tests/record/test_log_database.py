"""The translation log's database: made, upgraded, told from others, and bound to its key."""

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from bridge.record.journal import open_journal
from bridge.record.log import upgrading
from bridge.record.log.database import (
    KEY_LENGTH,
    LogError,
    UnreachableLog,
    WrongKey,
    load_key,
    open_database,
    open_existing,
    shown,
    writing,
)
from bridge.record.log.tables import METADATA, REVISION
from tests.record.support import WINDOW
from tests.support.gateways import free_port

KEY = b"k" * KEY_LENGTH


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def execute(database: str, *statements: str) -> None:
    engine = open_existing(database)
    with writing(engine) as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def test_migrations_lead_to_the_tables(database: str) -> None:
    engine = open_database(database, KEY)
    with engine.connect() as connection:
        migrations = MigrationContext.configure(connection)
        differences = compare_metadata(migrations, METADATA)
        revision = migrations.get_current_revision()
    engine.dispose()

    assert differences == []
    assert revision == REVISION


def test_the_tables_are_those_of_the_latest_revision() -> None:
    migrations = Path(upgrading.__file__).parent / "migrations"

    assert ScriptDirectory(str(migrations)).get_current_head() == REVISION


def test_what_was_counted_before_an_upgrade_is_kept(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollups = {"call_hours": "hour", "call_days": "day"}
    columns = (
        "integration, method, route, dialect, status, refusal, outcome, calls, v2_calls, bytes_in, "
        "bytes_out, with_notes, milliseconds, v2_milliseconds"
    )
    counted = (7, "a", "GET", "/", "", 200, "", "served", 1, 2, 3, 4, 5, 6.0, 7.0)
    with monkeypatch.context() as before:
        before.setattr("bridge.record.log.database.REVISION", "1")
        before.setattr(upgrading, "upgrade", partial(upgrading.upgrade, revision="1"))
        open_database(database, KEY).dispose()
        execute(
            database,
            *(
                f"INSERT INTO {table} ({period}, {columns}) VALUES {counted}"
                for table, period in rollups.items()
            ),
        )

    engine = open_database(database, KEY)

    with engine.connect() as connection:
        for table, period in rollups.items():
            rows = connection.execute(text(f"SELECT {period}, {columns} FROM {table}")).all()
            shown = connection.execute(text(f"SELECT outcome, calls FROM {table}_readable")).all()
            assert [tuple(row) for row in rows] == [counted]
            assert [tuple(row) for row in shown] == [("served", 1)]
    engine.dispose()


def opening(database: str, code: str) -> str:
    """Open a database in a process of its own, run `code`, and return all that it wrote."""
    opens = (
        "import sys; import bridge.server.service; from bridge.server import logs;"
        "from bridge.record.log.database import open_database; logs.configure();"
        f"open_database({database!r}, {KEY!r}).dispose(); {code}"
    )
    return subprocess.run(
        [sys.executable, "-c", opens],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=True,
        text=True,
    ).stdout


def test_a_new_database_is_no_news(tmp_path: Path) -> None:
    """Alembic has much to tell of itself."""
    assert opening(str(tmp_path / "log.sqlite"), "") == ""


def test_what_most_starts_do_without_is_not_imported(tmp_path: Path) -> None:
    """Else each start of the bridge, and each question to its log, would take half as long again."""
    database = str(tmp_path / "log.sqlite")
    open_database(database, KEY).dispose()

    told = opening(database, "print({'alembic', 'opentelemetry', 'psycopg'} & {*sys.modules})")

    assert told == "set()\n"


def test_a_database_is_opened_again_as_it_was_left(database: str) -> None:
    open_database(database, KEY).dispose()
    execute(database, "INSERT INTO unrecorded VALUES (1, 2, 3, 'why')")

    open_database(database, KEY).dispose()

    engine = open_existing(database)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM unrecorded")).all()
    engine.dispose()
    assert [tuple(row) for row in rows] == [(1, 2, 3, "why")]


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:s3c@r#et@h/x", "postgresql://u:r#et:x@h:y"],
)
def test_a_password_that_is_not_encoded_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(LogError, match="this URL cannot be read") as refused:
        open_existing(url)

    assert "r#et" not in str(refused.value) + shown(url)


def test_bridges_that_start_at_once_wait_for_each_other(database: str, tmp_path: Path) -> None:
    together = Barrier(6)

    def start(_: int) -> bytes:
        together.wait()
        key = load_key(database, tmp_path / "key")
        open_database(database, key).dispose()
        return key

    with ThreadPoolExecutor(6) as threads:
        keys = set(threads.map(start, range(6)))

    assert len(keys) == 1
    assert sorted(path.name for path in tmp_path.glob("key*")) == ["key"]


class TestWhatIsRefused:
    def test_a_database_that_a_newer_bridge_has_had(self, database: str) -> None:
        open_database(database, KEY).dispose()
        execute(database, "UPDATE alembic_version SET version_num = '999'")

        with pytest.raises(LogError, match="a newer bridge has had it"):
            open_database(database, KEY)
        with pytest.raises(LogError, match="a newer bridge has had it"):
            open_existing(database)

    def test_one_whose_digests_have_another_key(self, database: str) -> None:
        open_database(database, KEY).dispose()

        with pytest.raises(WrongKey, match="its digests are made with another key"):
            open_database(database, b"x" * KEY_LENGTH)

    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        (tmp_path / "log").write_bytes(b"no database" * 1000)

        with pytest.raises(LogError, match="log: file is not a database"):
            open_database(str(tmp_path / "log"), KEY)

    async def test_the_journal(self, tmp_path: Path) -> None:
        async with open_journal(tmp_path / "journal", window=WINDOW):
            with pytest.raises(LogError, match="it is another program's database"):
                open_database(str(tmp_path / "journal"), KEY)

    def test_a_file_that_cannot_be_made(self, tmp_path: Path) -> None:
        with pytest.raises(LogError, match="log: No such file or directory"):
            open_database(str(tmp_path / "missing" / "log"), KEY)

    def test_a_file_that_another_program_keeps_locked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bridge.record.log.database.BUSY_TIMEOUT", 0.01)
        path = str(tmp_path / "log")
        open_database(path, KEY).dispose()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(UnreachableLog, match="log: database is locked"):
                open_database(path, KEY)

    def test_a_server_that_does_not_answer(self) -> None:
        url = f"postgresql://me:hunter2@127.0.0.1:{free_port()}/log?password=hunter3"

        with pytest.raises(UnreachableLog) as raised:
            open_database(url, KEY)

        assert "hunter" not in str(raised.value)
        assert "\n" not in str(raised.value)

    def test_a_url_that_cannot_be_read(self) -> None:
        with pytest.raises(LogError, match=r"^postgresql://…: this URL cannot be read$"):
            open_database("postgresql://me:hunter2@host:port/log", KEY)

    def test_a_question_to_a_file_that_is_not_there_makes_none(self, tmp_path: Path) -> None:
        with pytest.raises(LogError, match="No such file"):
            open_existing(str(tmp_path / "log"))

        assert list(tmp_path.iterdir()) == []

    def test_a_question_to_a_database_without_tables(self, tmp_path: Path) -> None:
        (tmp_path / "log").touch()

        with pytest.raises(LogError, match="it is no translation log"):
            open_existing(str(tmp_path / "log"))


class TestTheFile:
    def test_is_its_owners_only(self, tmp_path: Path) -> None:
        path = str(tmp_path / "log")
        engine = open_database(path, load_key(path, None))
        files = {each.name: mode(each) for each in tmp_path.iterdir()}
        engine.dispose()

        assert files.keys() >= {"log", "log-wal", "log.key"}
        assert set(files.values()) == {0o600}

    def test_gives_room_back_and_is_read_while_it_is_written(self, tmp_path: Path) -> None:
        open_database(str(tmp_path / "log"), KEY).dispose()

        with closing(sqlite3.connect(tmp_path / "log")) as connection:
            modes = [
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "auto_vacuum")
            ]
        assert modes == ["wal", 2]


class TestTheKey:
    def test_is_made_once(self, tmp_path: Path) -> None:
        first = load_key("log", tmp_path / "key")

        assert len(first) == KEY_LENGTH
        assert load_key("log", tmp_path / "key") == first
        assert load_key("log", tmp_path / "other") != first

    def test_of_a_server_has_to_be_named(self) -> None:
        with pytest.raises(WrongKey, match="must be set when database is a URL"):
            load_key("postgresql://host/log", None)

    def test_that_others_can_read_is_refused(self, tmp_path: Path) -> None:
        load_key("log", tmp_path / "key")
        (tmp_path / "key").chmod(0o644)

        with pytest.raises(WrongKey, match="chmod 600"):
            load_key("log", tmp_path / "key")

    @pytest.mark.parametrize("spoil", [lambda _: b"", lambda key: key[:-9], lambda _: b"\xff" * 64])
    def test_that_is_none_is_refused(self, tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
        load_key("log", tmp_path / "key")
        (tmp_path / "key").write_bytes(spoil((tmp_path / "key").read_bytes()))

        with pytest.raises(WrongKey, match="it is no key of digests"):
            load_key("log", tmp_path / "key")


@pytest.mark.parametrize(
    ("database", "told"),
    [
        ("log.sqlite", "log.sqlite"),
        ("postgresql://me:hunter2@host/log", "postgresql://me:***@host/log"),
        ("postgresql://me@host/log?password=hunter2", "postgresql://me@host/log"),
        ("postgresql://me:hunter2@host:no/log", "postgresql://…"),
    ],
)
def test_no_password_is_shown(database: str, told: str) -> None:
    assert shown(database) == told
