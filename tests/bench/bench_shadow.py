"""Shadow at 100 %: whether all planted differences are found, and what clients notice of it.

`python -m tests.bench.bench_shadow [--calls 10000] [--rounds 8]`. Mixed GETs are asked of a bridge
between the v1 of one sandbox and the v2 of another. First, what is found is held against
what was planted. Then shadow is off and on by turns, in one run, with calls at an even pace; what
clients waited is compared pair by pair, calls of several pages apart.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp

from bridge.record.log.policies import Policy, Side
from bridge.sandbox.seeds import SANDBOX_TOKEN, USERS, V1_PASSWORDS
from tests.bench import processes
from tests.bench.reports import say
from tests.support.books import enter, write_token
from tests.support.gateways import free_port
from tests.support.legacy import LegacyClient
from tests.support.mixed_reads import FLEETING, PAGES, PLANTED, places, reads
from tests.support.running import LOOPBACK, empty_log
from tests.support.shadows import Both, compared, decide, score_of

SHARE_OF_PAGES = 0.005
PACE = 40.0
"""Calls a second while latencies are taken: so that the machine has time for both sides."""
SETTLING = 4.0
"""Seconds until a bridge has read a policy."""


@contextlib.asynccontextmanager
async def _sandbox() -> AsyncIterator[tuple[str, str]]:
    v2_port, v1_port = free_port(), free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "sandbox", "--port", str(v2_port), "--v1-port",
        str(v1_port), "--log-level", "error", stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    v1, v2 = f"http://{LOOPBACK}:{v1_port}", f"http://{LOOPBACK}:{v2_port}"
    try:
        async with aiohttp.ClientSession() as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    await session.get(f"{v1}/sandbox/differences")
                    break
                await asyncio.sleep(0.1)
        yield v1, v2
    finally:
        process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def _stage(folder: Path, answered_by: Side) -> AsyncIterator[tuple[Both, processes.Server]]:
    database = empty_log(folder)
    decide(database, Policy(answered_by=answered_by, shadow_percent=100))
    token = write_token(folder, "token", SANDBOX_TOKEN)
    user, password = USERS[SANDBOX_TOKEN], V1_PASSWORDS[SANDBOX_TOKEN]
    enter(folder / "book.toml", "api-examples", user.email, password, user.account_id, token)
    async with (
        # Apart, and alike as long as nothing is written: else v1 would wait for what v2 is asked.
        _sandbox() as (v1, _),
        _sandbox() as (_, v2),
        processes.running("tests.bench.shadowed_bridge", v1, v2, str(folder)) as bridge,
        LegacyClient(LOOPBACK, bridge.port) as client,
    ):
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
                await both.keep_up()

    await asyncio.gather(*(ask() for _ in range(4)))
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


async def _wait(both: Both, seconds: float) -> tuple[list[float], list[float]]:
    """Return what small calls took, and those of several pages, in milliseconds."""
    small: list[float] = []
    large: list[float] = []
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def ask(path: str) -> None:
        start = time.perf_counter()
        await both.get(path)
        (large if path in PAGES else small).append((time.perf_counter() - start) * 1000)

    tasks = []
    for number, path in enumerate(reads(int(seconds * PACE), share_of_pages=SHARE_OF_PAGES)):
        await asyncio.sleep(max(0.0, began + number / PACE - loop.time()))
        tasks.append(asyncio.create_task(ask(path)))
    await asyncio.gather(*tasks)
    return small, large


def _at(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def _paired(both: Both, side: Side, rounds: int, seconds: float) -> dict[str, object]:
    ratios: dict[str, list[float]] = {"small p50": [], "small p99": [], "pages p50": []}
    shown: dict[str, list[float]] = {"off": [], "on": []}
    for number in range(rounds):
        taken: dict[bool, tuple[list[float], list[float]]] = {}
        for on in (number % 2 == 0, number % 2 == 1):
            decide(both.database, Policy(answered_by=side, shadow_percent=100 if on else 0))
            await both.keep_up(0)
            await asyncio.sleep(SETTLING)
            taken[on] = await _wait(both, seconds)
        for name, which, share in (
            ("small p50", 0, 0.5), ("small p99", 0, 0.99), ("pages p50", 1, 0.5),
        ):  # fmt: skip
            pair = _at(taken[True][which], share), _at(taken[False][which], share)
            ratios[name].append(pair[0] / pair[1])
        for on, name in ((False, "off"), (True, "on")):
            shown[name].append(_at(taken[on][0], 0.5))
    return {
        **{
            f"{name}, on/off": [round(statistics.median(each), 2), round(min(each), 2),
                                round(max(each), 2)]
            for name, each in ratios.items()
        },
        **{f"small p50, {name}, ms": round(statistics.median(x), 2) for name, x in shown.items()},
    }  # fmt: skip


async def _found(folder: Path, side: Side, calls: int) -> dict[str, object]:
    async with _stage(folder, side) as (both, bridge):
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


async def _main(sides: Sequence[Side], calls: int, rounds: int, seconds: float) -> None:
    for side in sides:
        if calls:
            with TemporaryDirectory() as name:
                say(json.dumps(await _found(Path(name), side, calls), indent=1))
        if rounds:
            with TemporaryDirectory() as name:
                async with _stage(Path(name), side) as (both, _):
                    told = await _paired(both, side, rounds, seconds)
            say(json.dumps({"answered by": side, **told}, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000, help="0: find none")
    parser.add_argument("--rounds", type=int, default=8, help="of pairs; 0: none")
    parser.add_argument("--seconds", type=float, default=10.0, help="of one half of a pair")
    parser.add_argument("--sides", nargs="+", type=Side, default=list(Side), help="who answers")
    given = parser.parse_args()
    asyncio.run(_main(given.sides, given.calls, given.rounds, given.seconds))
