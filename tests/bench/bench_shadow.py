"""Shadow at 100 %: whether all planted differences are found, and what clients notice of it.

`python -m tests.bench.bench_shadow [--calls 10000] [--rounds 8]`. Mixed GETs are asked of a bridge
between the v1 of one sandbox and the v2 of another. First, what is found is held against
what was planted. Then shadow is off and on by turns, in one run, with calls at an even pace; what
clients waited is compared pair by pair, calls of several pages apart.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bridge.record.log.policies import Policy
from bridge.sandbox.seeds import SANDBOX_TOKEN, USERS, V1_PASSWORDS
from bridge.side import Side
from tests.bench import processes
from tests.bench.machine import cores, pinned
from tests.bench.reports import say
from tests.bench.sandbox_of_lists import LISTS, LONG_LIST
from tests.support.books import enter, write_token
from tests.support.legacy import LegacyClient
from tests.support.mixed_reads import FLEETING, PLANTED, places, reads
from tests.support.running import LOOPBACK, empty_log
from tests.support.shadows import Both, compared, decide, score_of

SHARE_OF_PAGES = 0.005
PACE = 40.0
"""Calls a second while latencies are taken: so that the machine has time for both sides."""
SETTLING = 4.0
"""Seconds until a bridge has read a policy."""


@asynccontextmanager
async def _stage(
    folder: Path, answered_by: Side, answers: str
) -> AsyncIterator[tuple[Both, processes.Server]]:
    """Run the bridge on a core of its own, and all else on another.

    Who is asked for the comparison only would have a machine of its own: it takes what the load and
    the other side leave.
    """
    database = empty_log(folder)
    decide(database, Policy(answered_by=answered_by, shadow_percent=100))
    token = write_token(folder, "token", SANDBOX_TOKEN)
    user, password = USERS[SANDBOX_TOKEN], V1_PASSWORDS[SANDBOX_TOKEN]
    enter(folder / "book.toml", "api-examples", user.email, password, user.account_id, token)
    others, own = cores() or (None, None)
    async with AsyncExitStack() as stack:
        # Apart, and alike as long as nothing is written: else v1 would wait for what v2 is asked.
        urls = {}
        for side in Side:
            role = "other" if answers == "keeps" and side is not answered_by else "primary"
            with pinned(others):
                running = processes.running("tests.bench.sandbox_of_lists", role, answers)
                sandbox = await stack.enter_async_context(running)
            urls[side] = await sandbox.told("v1" if side is Side.V1 else "v2")
        v1, v2 = urls[Side.V1], urls[Side.BRIDGE]
        with pinned(own):
            bridge = await stack.enter_async_context(
                processes.running("tests.bench.shadowed_bridge", v1, v2, str(folder))
            )
        client = await stack.enter_async_context(LegacyClient(LOOPBACK, bridge.port))
        stack.enter_context(pinned(others))
        admin = f"http://{LOOPBACK}:{await bridge.told('admin')}"
        yield Both(client, admin, v1, v2, database), bridge


async def _find(both: Both, count: int) -> dict[str, object]:
    """Ask for so much that what differs can be held against what was planted."""
    for fault in (*PLANTED, *FLEETING):
        await both.plant(**fault)
    began = time.perf_counter()
    waiting = list(enumerate(reads(count, share_of_pages=SHARE_OF_PAGES)))[::-1]

    async def ask() -> None:
        while waiting:
            number, path = waiting.pop()
            await both.get(path, **{"X-Request-Id": f"r-{number}"})
            if number % 20 == 0:
                await both.keep_up(glance=0.2)

    await asyncio.gather(*(ask() for _ in range(4)))
    await both.keep_up(0, glance=0.2)
    counts = await both.told(count)
    return {"calls": count, "seconds": round(time.perf_counter() - began, 1), **counts}


def _held_against(planted: dict[str, set[str]], fleeting: set[str], database: str) -> Counter[str]:
    """Count what was planted and found, and what was not."""
    found = {name: told for name, told in compared(database).items() if told}
    held: Counter[str] = Counter()
    for name in {*found, *planted}:
        of_it, stays = found.get(name, set()), planted.get(name, set()) - fleeting
        held["planted, to stay"] += len(stays)
        held["found"] += len(of_it & stays)
        held["missed"] += len(stays - of_it)
        held["found, not planted"] += len(of_it - planted.get(name, set()))
        held["fleeting, and there at both looks"] += len(of_it & fleeting)
    return held


async def _wait(both: Both, paths: Sequence[str]) -> dict[str, list[float]]:
    """Return what calls took at an even pace, in milliseconds: those for the long list apart."""
    took: dict[str, list[float]] = {"usual": [], "long": []}
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def ask(path: str) -> None:
        start = time.perf_counter()
        await both.get(path)
        took["long" if path == LONG_LIST else "usual"].append((time.perf_counter() - start) * 1000)

    tasks = []
    for number, path in enumerate(paths):
        await asyncio.sleep(max(0.0, began + number / PACE - loop.time()))
        tasks.append(asyncio.create_task(ask(path)))
    await asyncio.gather(*tasks)
    return took


def _mixed(count: int, chance: random.Random) -> list[str]:
    return [chance.choice(LISTS) if number % 50 else LONG_LIST for number in range(count)]


def _at(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def _half(
    both: Both, bridge: processes.Server, paths: Sequence[str]
) -> dict[str, list[float]]:
    await bridge.told("lateness")
    took = await _wait(both, paths)
    return {**took, **await bridge.told("lateness")}


_TOLD = {
    "usual lists, p50": ("usual", 0.5),
    "usual lists, p99": ("usual", 0.99),
    "long list, p50": ("long", 0.5),
    "event loop late, p99": ("late", 0.99),
    "event loop late, p99.9": ("late", 0.999),
    "event loop late, at most": ("late", 1.0),
    "CPU of the bridge": ("CPU", 1.0),
}
"""What is told in milliseconds, of what, and at which share of it."""


async def _paired(
    both: Both, bridge: processes.Server, side: Side, rounds: int, calls: int
) -> dict[str, object]:
    """Return each figure without and with shadow, of all halves; and their ratio, by pairs."""
    halves: dict[bool, list[dict[str, list[float]]]] = {False: [], True: []}
    chance = random.Random(7)
    for number in range(rounds):
        paths = _mixed(calls, chance)
        for on in (number % 2 == 0, number % 2 == 1):
            decide(both.database, Policy(answered_by=side, shadow_percent=100 if on else 0))
            await asyncio.sleep(SETTLING)
            await _wait(both, [*LISTS, LONG_LIST] * 4)
            await both.keep_up(0)
            halves[on].append(await _half(both, bridge, paths))
    shown: dict[str, object] = {"answered by": side, **await both.counts()}
    for name, (what, share) in _TOLD.items():
        all_off, all_on = (
            _at([each for half in halves[which] for each in half[what]], share)
            for which in (False, True)
        )
        ratios = [
            _at(on[what], share) / _at(off[what], share)
            for on, off in zip(halves[True], halves[False], strict=True)
        ]
        middle = statistics.median(ratios)
        shown[name] = (
            f"{all_off:.1f} -> {all_on:.1f}; pairs: {middle:.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )
    return shown


async def _found(folder: Path, side: Side, calls: int) -> dict[str, object]:
    async with _stage(folder, side, "made anew") as (both, bridge):
        told = await _find(both, calls)
        planted = places(await both.planted())
        peak = await bridge.told("memory")
    fleeting = {
        place
        for each in planted.values()
        for place in each
        if place.startswith("/hash/company") or place.endswith("/subject")
    }
    held = _held_against(planted, fleeting, both.database)
    score = str(score_of(both.database))
    return {"answered by": side, **told, **held, "score": score, "peak MiB": round(peak / 2**20)}


async def _main(sides: Sequence[Side], calls: int, rounds: int, half: int) -> None:
    for side in sides:
        if calls:
            with TemporaryDirectory() as name:
                say(json.dumps(await _found(Path(name), side, calls), indent=1))
        if rounds:
            with TemporaryDirectory() as name:
                async with _stage(Path(name), side, "keeps") as (both, bridge):
                    told = await _paired(both, bridge, side, rounds, half)
            say(json.dumps(told, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000, help="0: find none")
    parser.add_argument("--rounds", type=int, default=5, help="of pairs; 0: none")
    parser.add_argument("--half", type=int, default=800, help="calls of one half of a pair")
    parser.add_argument("--sides", nargs="+", type=Side, default=list(Side), help="who answers")
    given = parser.parse_args()
    asyncio.run(_main(given.sides, given.calls, given.rounds, given.half))
