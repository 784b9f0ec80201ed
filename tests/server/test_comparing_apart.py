"""Comparing in a process apart: it finds what comparing finds, and what becomes of it harms nobody."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.comparing import NOTHING, Answer, Paths, Result, compare
from bridge.server.shadow.apart import Comparer, ComparerGone
from tests.support.clocks import until

ONE, OTHER = (
    Answer(200, "application/xml", f"<a><b>{text}</b><c>{text}</c><d>ü</d></a>".encode())
    for text in ("1", "2")
)

ODD = (
    Answer(404, None, b""),
    Answer(502, "text/html", b"<html>"),
    Answer(200, "application/xml", b"<a><b"),
    Answer(200, "application/xml; charset=\udcff", ONE.body),
    Answer(200, "text/\udcff", b"<x/>" * 3),
)


@pytest.fixture
async def comparer() -> AsyncIterator[Comparer]:
    comparer = Comparer()
    yield comparer
    await comparer.close()


def _children() -> set[int]:
    """Return the processes that this one has started and that still run."""
    told = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return {
        int(pid)
        for pid in told.split()
        if b"bridge.server.shadow.comparer" in Path(f"/proc/{pid}/cmdline").read_bytes()
    }


def _environment(process: int) -> bytes:
    return Path(f"/proc/{process}/environ").read_bytes()


@pytest.mark.parametrize("ignored", [NOTHING, Paths(["/a/b"]), Paths(["//c", "/a/b"])])
async def test_it_finds_what_comparing_finds(comparer: Comparer, ignored: Paths) -> None:
    for other in (ONE, OTHER, *ODD):
        assert await comparer.compare(ONE, other, ignored) == compare(ONE, other, ignored)


async def test_there_is_no_process_before_the_first_pair_nor_after_the_end(
    comparer: Comparer,
) -> None:
    before = _children()
    await comparer.compare(ONE, OTHER, NOTHING)
    (process,) = _children() - before
    await comparer.close()

    assert process not in _children()
    with pytest.raises(ComparerGone):
        await comparer.compare(ONE, OTHER, NOTHING)


async def test_it_waits_for_whatever_else_there_is_to_do(comparer: Comparer) -> None:
    before = _children()
    await comparer.compare(ONE, OTHER, NOTHING)
    (process,) = _children() - before

    assert os.getpriority(os.PRIO_PROCESS, process) == 19


async def test_its_death_costs_one_comparison(comparer: Comparer) -> None:
    before = _children()
    await comparer.compare(ONE, OTHER, NOTHING)
    (process,) = _children() - before
    os.kill(process, signal.SIGSTOP)
    under_way = asyncio.create_task(comparer.compare(ONE, OTHER, NOTHING))
    behind_it = asyncio.create_task(comparer.compare(ONE, ONE, NOTHING))
    await asyncio.sleep(0)
    os.kill(process, signal.SIGKILL)

    with pytest.raises(ComparerGone):
        await under_way
    assert (await behind_it).result is Result.EQUAL


async def test_who_gives_up_waiting_ends_it(comparer: Comparer) -> None:
    before = _children()
    await comparer.compare(ONE, OTHER, NOTHING)
    (process,) = _children() - before
    os.kill(process, signal.SIGSTOP)
    under_way = asyncio.create_task(comparer.compare(ONE, OTHER, NOTHING))
    await asyncio.sleep(0)
    under_way.cancel()

    await until(under_way.done)
    assert process not in _children()


async def test_it_has_no_settings_of_the_bridge(
    comparer: Comparer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARVEST_BRIDGE_DATABASE", "postgresql://bridge:s3cret@db.example/log")
    before = _children()
    await comparer.compare(ONE, OTHER, NOTHING)
    (process,) = _children() - before

    assert b"s3cret" not in _environment(process)
