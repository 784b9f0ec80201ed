"""The book in force, while its files are edited in every way there is."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from bridge.identity import book as book_module
from bridge.identity import book_keeper, files
from bridge.identity.book import BookError, load, read_row
from bridge.identity.book_editing import add
from bridge.identity.book_keeper import BookKeeper
from tests.support.kubernetes import SecretVolume

HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$x3TWcLmAr0PAoR1p7ByMnQ"
START = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE = 30.0
"""Seconds until something counts as hanging."""


def book(*logins: str, token: str = "env:TOKEN") -> str:
    return "# A book.\n" + "".join(
        f'[[credential]]\nsubdomain = "acme"\nlogin = "{login}"\npassword = "{HASH}"\n'
        f'account_id = 1\ntoken = "{token}"\n'
        for login in logins
    )


def write(path: Path, text: str) -> None:
    """Write in place, as the least careful of editors does."""
    path.touch(0o600)
    path.write_text(text)


def replace(path: Path, text: str) -> None:
    """Write next to it, then rename, as a careful one does."""
    beside = path.with_suffix(".new")
    write(beside, text)
    beside.replace(path)


class Clock:
    """Time that passes a second with each look at it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


class Interval:
    """Intervals that end when a test says so."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._waiting: asyncio.Future[None] | None = None
        self._entered = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        self._waiting = asyncio.get_running_loop().create_future()
        self._entered.set()
        await self._waiting

    async def ends(self) -> None:
        """Let one end, and wait for the next to begin: what is done in between is done."""
        await self._entered.wait()
        assert self._waiting is not None
        self._entered.clear()
        self._waiting.set_result(None)
        await self._entered.wait()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "book.toml"
    write(path, book("jane"))
    return path


@pytest.fixture
def interval() -> Interval:
    return Interval()


@asynccontextmanager
async def keeping(path: Path, interval: Interval, **environ: str) -> AsyncIterator[BookKeeper]:
    with patch.dict(os.environ, {"TOKEN": "t0ken", **environ}):
        async with (
            asyncio.timeout(PATIENCE),
            BookKeeper(path, now=Clock(), sleep=interval.sleep) as keeper,
        ):
            yield keeper


def logins(keeper: BookKeeper) -> list[str]:
    return [entry.login for entry in keeper.book.entries]


async def looks(interval: Interval, count: int = 2) -> None:
    for _ in range(count):
        await interval.ends()


def events(lines: list[EventDict]) -> list[tuple[str, str]]:
    return [(line["event"], line["log_level"]) for line in lines]


async def test_a_book_that_is_read_again_and_is_the_same_is_in_force_since_it_was_first(
    path: Path, interval: Interval
) -> None:
    async with keeping(path, interval) as keeper:
        first = keeper.state
        with capture_logs() as lines:
            await keeper.reload()
        assert (keeper.state, lines) == (first, [])

        write(path, "")
        await keeper.reload()
        write(path, book("jane"))
        with capture_logs() as lines:
            await keeper.reload()
        assert keeper.state == first
        assert events(lines) == [("book_loaded", "info")]


class TestStart:
    async def test_the_book_is_there_at_once(self, path: Path, interval: Interval) -> None:
        with capture_logs() as lines:
            async with keeping(path, interval) as keeper:
                assert logins(keeper) == ["jane"]
                assert keeper.state == book_keeper.BookState(START + timedelta(seconds=1), 1)
        assert events(lines) == [("book_loaded", "info")]

    async def test_a_broken_one_is_refused(self, path: Path, interval: Interval) -> None:
        write(path, book("jane", "jane"))

        with pytest.raises(BookError, match="credential 2"):
            async with keeping(path, interval):
                pass

    async def test_nothing_runs_on_after_the_end(self, path: Path, interval: Interval) -> None:
        before = asyncio.all_tasks()

        async with keeping(path, interval):
            assert asyncio.all_tasks() > before

        assert asyncio.all_tasks() == before

    async def test_it_looks_as_often_as_it_is_told(self, path: Path, interval: Interval) -> None:
        async with keeping(path, interval):
            await looks(interval, 3)

        assert interval.asked == [book_keeper.INTERVAL] * 4


CHANGES: dict[str, Callable[[Path, str], None]] = {"in-place": write, "by-rename": replace}


class TestChanges:
    @pytest.mark.parametrize("how", CHANGES)
    async def test_a_change_is_in_force_after_two_looks(
        self, path: Path, interval: Interval, how: str
    ) -> None:
        async with keeping(path, interval) as keeper:
            old = keeper.book
            CHANGES[how](path, book("jane", "bob"))
            await looks(interval, 1)
            assert keeper.book is old
            await looks(interval, 1)

            assert logins(keeper) == ["jane", "bob"]
            assert keeper.state.credentials == 2
            assert keeper.state.loaded_at == START + timedelta(seconds=2)
            assert [entry.login for entry in old.entries] == ["jane"]

    async def test_without_a_change_nothing_is_read(self, path: Path, interval: Interval) -> None:
        with capture_logs() as lines:
            async with keeping(path, interval) as keeper:
                old = keeper.book
                await looks(interval, 5)
                assert keeper.book is old
        assert len(lines) == 1

    async def test_the_command_that_adds_is_noticed(self, path: Path, interval: Interval) -> None:
        async with keeping(path, interval) as keeper:
            add(
                path,
                read_row(
                    {
                        "subdomain": "acme",
                        "login": "bob",
                        "password": HASH,
                        "account_id": 1,
                        "token": "env:TOKEN",
                    }
                ),
            )
            await looks(interval)

            assert logins(keeper) == ["jane", "bob"]

    async def test_a_writer_who_takes_his_time_is_waited_for(
        self, path: Path, interval: Interval
    ) -> None:
        """Each state of the file on the way could be read as a book; none is in force."""
        whole = book("jane", "bob", "carol")
        steps = ["# A book.\n", book("jane"), book("jane", "bob"), whole]
        with capture_logs() as lines:
            async with keeping(path, interval) as keeper:
                seen = []
                for step in steps:
                    write(path, step)
                    await looks(interval, 1)
                    seen.append(logins(keeper))
                await looks(interval, 1)
                seen.append(logins(keeper))
        assert seen == [["jane"]] * 4 + [["jane", "bob", "carol"]]
        assert events(lines) == [("book_loaded", "info")] * 2

    async def test_a_link_that_leads_elsewhere_is_noticed(
        self, path: Path, tmp_path: Path, interval: Interval
    ) -> None:
        """As Kubernetes updates what it mounts."""
        other, link, new_link = tmp_path / "other", tmp_path / "link", tmp_path / "new"
        write(other, book("bob"))
        link.symlink_to(path)
        async with keeping(link, interval) as keeper:
            new_link.symlink_to(other)
            new_link.replace(link)
            await looks(interval)

            assert logins(keeper) == ["bob"]

    async def test_so_is_a_new_token(self, path: Path, tmp_path: Path, interval: Interval) -> None:
        token = tmp_path / "token"
        write(token, "old\n")
        write(path, book("jane", token=f"file:{token}"))
        async with keeping(path, interval) as keeper:
            write(token, "new-one\n")
            await looks(interval)

            assert keeper.book.entries[0].token.reveal() == "new-one"


class TestAKubernetesSecret:
    """The book and a token, mounted together."""

    async def test_that_is_swapped_is_read_again(self, tmp_path: Path, interval: Interval) -> None:
        text = book("jane", token=f"file:{tmp_path}/mounted/token")
        secret = SecretVolume(tmp_path / "mounted", book=text, token="old-one")
        async with keeping(secret / "book", interval) as keeper:
            secret.swap({"book": text, "token": "new-one"})
            await looks(interval)

            assert keeper.book.entries[0].token.reveal() == "new-one"

    def test_that_is_swapped_while_it_is_read_is_read_as_it_is_afterwards(
        self, tmp_path: Path
    ) -> None:
        """The first credential's token is between the reading of the book and that of the file."""

        def text(name: str) -> str:
            return book(f"{name}-env") + book(name, token=f"file:{tmp_path}/mounted/token")

        secret = SecretVolume(tmp_path / "mounted", book=text("jane"), token="janes-token")

        class Swapping(dict[str, str]):
            def get(self, name: str, default: Any = None) -> Any:
                if not swapped:
                    swapped.append(name)
                    secret.swap({"book": text("bob"), "token": "bobs-token"})
                return super().get(name, default)

        swapped: list[str] = []
        read = load(secret / "book", Swapping(TOKEN="t0ken"))

        found = [(entry.login, entry.token.reveal()) for entry in read.entries]
        assert found == [("bob-env", "t0ken"), ("bob", "bobs-token")]

    def test_that_never_rests_is_refused(self, tmp_path: Path) -> None:
        secret = SecretVolume(tmp_path / "mounted", book=book("jane"))

        class Swapping(dict[str, str]):
            def get(self, name: str, default: Any = None) -> Any:
                secret.swap({"book": book("jane")})
                return super().get(name, default)

        with pytest.raises(BookError, match="changed each time while they were read"):
            load(secret / "book", Swapping(TOKEN="t0ken"))


def _truncate(path: Path) -> None:
    os.truncate(path, 0)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


def _open(path: Path) -> None:
    path.chmod(0o644)


def _close(path: Path) -> None:
    path.chmod(0o600)


def _garble(path: Path) -> None:
    write(path, book("jane", "jane"))


def _become_directory(path: Path) -> None:
    path.unlink()
    path.mkdir(0o700)


BREAKAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (_truncate, "it is empty"),
    "cut-short": (_cut, "is not TOML"),
    "deleted": (Path.unlink, "No such file or directory"),
    "opened-to-others": (_open, "chmod 600"),
    "wrong": (_garble, "credential 2: credential 1 has this subdomain and login already"),
    "a-directory": (_become_directory, "not a regular file"),
}


def _mend(path: Path) -> None:
    if path.is_dir():
        path.rmdir()
    replace(path, book("jane", "bob"))


class TestBreakages:
    @pytest.mark.parametrize("case", BREAKAGES)
    async def test_the_last_good_book_stays_and_that_is_said_once(
        self, path: Path, interval: Interval, case: str
    ) -> None:
        breakage, expected = BREAKAGES[case]
        with capture_logs() as lines:
            async with keeping(path, interval) as keeper:
                good = keeper.book
                breakage(path)
                await looks(interval, 6)

                assert keeper.book is good
                assert expected in str(keeper.state.error)
                assert keeper.warning() == (
                    f"{keeper.state.error}; the one of 2026-01-01T00:00:01+00:00 is in force"
                )
                assert keeper.state.loaded_at == START + timedelta(seconds=1)

                _mend(path)
                await looks(interval)

                assert logins(keeper) == ["jane", "bob"]
                assert (keeper.state.error, keeper.warning()) == (None, None)
        assert events(lines) == [
            ("book_loaded", "info"),
            ("book_broken", "error"),
            ("book_loaded", "info"),
        ]
        assert expected in lines[1]["error"]
        assert "good_again" not in lines[0]
        assert lines[2]["good_again"] is True

    async def test_each_broken_edit_is_said(self, path: Path, interval: Interval) -> None:
        with capture_logs() as lines:
            async with keeping(path, interval):
                for text in ("a", "aa", "aaa"):
                    write(path, text)
                    await looks(interval, 4)
        assert events(lines)[1:] == [("book_broken", "error")] * 3

    async def test_permissions_are_mended_without_an_edit(
        self, path: Path, interval: Interval
    ) -> None:
        async with keeping(path, interval) as keeper:
            _open(path)
            await looks(interval)
            broken = keeper.state.error
            _close(path)
            await looks(interval)

            assert broken is not None
            assert keeper.state.error is None

    async def test_so_are_those_of_a_token_that_a_new_book_refers_to(
        self, path: Path, tmp_path: Path, interval: Interval
    ) -> None:
        """The file is known from the attempt that failed: the book does not change any more."""
        token = tmp_path / "token"
        write(token, "t0ken")
        _open(token)
        async with keeping(path, interval) as keeper:
            replace(path, book("bob", token=f"file:{token}"))
            await looks(interval)
            assert (logins(keeper), f"chmod 600 {token}" in str(keeper.state.error)) == (
                ["jane"],
                True,
            )
            _close(token)
            await looks(interval)

            assert (logins(keeper), keeper.state.error) == (["bob"], None)

    async def test_nothing_secret_is_logged(self, path: Path, interval: Interval) -> None:
        with capture_logs() as lines:
            async with keeping(path, interval, TOKEN="s3cret"):
                write(path, book("jane").replace(HASH, "s3cret"))
                await looks(interval)
        assert len(lines) == 2
        assert "s3cret" not in str(lines)

    async def test_a_look_that_fails_is_not_the_last(
        self, path: Path, interval: Interval, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_path: Path) -> Any:
            raise MemoryError

        with capture_logs() as lines:
            async with keeping(path, interval) as keeper:
                with monkeypatch.context() as patched:
                    patched.setattr(files, "signature", fail)
                    await looks(interval, 1)
                replace(path, book("bob"))
                await looks(interval)

                assert logins(keeper) == ["bob"]
        assert ("book_not_looked_at", "error") in events(lines)


class TestReload:
    async def test_it_reads_at_once(self, path: Path, interval: Interval) -> None:
        async with keeping(path, interval) as keeper:
            write(path, book("jane", "bob"))
            state = await keeper.reload()

            assert (state.credentials, logins(keeper)) == (2, ["jane", "bob"])

    async def test_a_broken_book_is_told_and_not_taken(
        self, path: Path, interval: Interval
    ) -> None:
        async with keeping(path, interval) as keeper:
            _truncate(path)
            state = await keeper.reload()

            assert "it is empty" in str(state.error)
            assert logins(keeper) == ["jane"]

    async def test_reloads_at_once_take_turns(self, path: Path, interval: Interval) -> None:
        async with keeping(path, interval) as keeper:
            write(path, book("jane", "bob"))
            states, _ = await asyncio.gather(
                asyncio.gather(*(keeper.reload() for _ in range(5))), looks(interval, 1)
            )

            assert [state.credentials for state in states] == [2] * 5

    async def test_a_file_that_changes_while_it_is_read_is_not_taken(
        self, path: Path, interval: Interval, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with keeping(path, interval) as keeper:
            replace(path, book("bob"))
            statuses = iter([os.stat(path), os.stat("/")])  # noqa: PTH116
            with monkeypatch.context() as patched:
                patched.setattr(os, "fstat", lambda _handle: next(statuses))
                state = await keeper.reload()

            assert str(state.error).endswith("it changed while it was read")
            assert logins(keeper) == ["jane"]

    async def test_the_event_loop_goes_on_meanwhile(
        self, path: Path, interval: Interval, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The reading waits for something that only the loop does."""
        async with keeping(path, interval) as keeper:
            loop, real = asyncio.get_running_loop(), book_module.load

            def load(*arguments: Any) -> Any:
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(PATIENCE)
                return real(*arguments)

            monkeypatch.setattr(book_keeper, "load", load)
            write(path, book("bob"))
            await keeper.reload()

            assert logins(keeper) == ["bob"]
