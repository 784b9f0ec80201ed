"""What bridges tell each other of 429s: what is told is heard, and nothing else is."""

import asyncio

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.record import throttles
from bridge.record.journal.postgresql import CHANNEL
from bridge.record.throttles import LONGEST, Key, hearing, read, said

KEYS = st.tuples(st.integers(1, 2**63 - 1), st.binary(min_size=32, max_size=32))
KEY: Key = (1000, bytes(32))


@given(KEYS, st.floats(0.001, LONGEST))
def test_what_is_said_is_read(key: Key, seconds: float) -> None:
    told = read(said(key, seconds))

    assert told is not None
    assert told[0] == key
    assert told[1] == pytest.approx(seconds, abs=0.001)


@given(st.text())
def test_anything_may_be_said(text: str) -> None:
    assert read(text) is None


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "0", "3601", "1e9"])
def test_nobody_is_made_to_wait_for_longer_than_v2_can(seconds: str) -> None:
    assert read(f"429 1000 {bytes(32).hex()} {seconds}") is None


async def test_garbage_is_passed_over_and_a_cut_survived(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttles, "PAUSES", (0,))
    heard: asyncio.Queue[tuple[Key, float]] = asyncio.Queue()
    async with hearing(postgres, lambda key, seconds: heard.put_nowait((key, seconds))):
        with psycopg.connect(postgres, autocommit=True) as other:
            for cut in (False, True):
                if cut:
                    other.execute(
                        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                while heard.empty():
                    other.execute("SELECT pg_notify(%s, 'anything')", [CHANNEL])
                    other.execute("SELECT pg_notify(%s, %s)", [CHANNEL, said(KEY, 15)])
                    await asyncio.sleep(0)
                assert await heard.get() == (KEY, 15.0)
                while not heard.empty():
                    heard.get_nowait()
