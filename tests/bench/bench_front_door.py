"""What legitimate calls get while others lean on the front door, and what it costs the bridge.

Run it as `python -m tests.bench.bench_front_door`, with `heads`, `bodies`, `idle` or `endless` for
a part of it. Everything stays on the loopback address and is bounded in number and time.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from tempfile import mkdtemp
from time import perf_counter
from typing import Any, NamedTuple

import aiohttp

from bridge.cli.loop import new_event_loop_factory as _loop_factory
from bridge.identity.callers import Way
from bridge.server import logs
from bridge.server.limits import allow_connections
from bridge.server.service import running
from bridge.settings import Settings
from tests.bench.processes import obey
from tests.bench.processes import running as running_process
from tests.bench.reports import say
from tests.bench.watched_bridge import memory
from tests.support.legacy import BASIC
from tests.support.running import LOOPBACK

MODULE = "tests.bench.bench_front_door"
PATH = "/invoice/3/messages"
SECONDS = 30.0
"""How long each situation is watched, and the quiet before it half as long."""
PAUSE = 0.01
"""Seconds between two legitimate calls."""
SLOW = 500
IDLE = 2000
TRICKLE_INTERVAL = 0.5
CHUNK = 64 * 1024
ENDLESS = 1024**3

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Attack:
    """What an attacker did, and what became of it."""

    port: int
    connections: int = 0
    cut_off: int = 0
    sent: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """Return the figures to print."""
        return {
            "connections": self.connections,
            "cut off": self.cut_off,
            "MB sent": round(self.sent / 1e6, 1),
            "told": self.statuses,
        }

    async def connect(self) -> Connection:
        """Open one more connection."""
        self.connections += 1
        return await asyncio.open_connection(LOOPBACK, self.port)

    def send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """Send and count."""
        writer.write(data)
        self.sent += len(data)

    async def ended(self, connection: Connection) -> None:
        """Note how the server ended a connection."""
        reader, writer = connection
        self.cut_off += 1
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(1):
                said = (await reader.read(100)).split(b" ")
                status = said[1].decode() if len(said) > 1 else "nothing"
                self.statuses[status] = self.statuses.get(status, 0) + 1
        writer.close()

    async def trickle(self, head: bytes, drop: bytes, first: asyncio.Future[None]) -> None:
        """Send `drop` after `drop`; connect anew when cut off."""
        while True:
            reader, writer = connection = await self.connect()
            self.send(writer, head)
            if not first.done():
                first.set_result(None)
            with suppress(ConnectionError):
                while not reader.at_eof() and not reader._buffer:  # type: ignore[attr-defined]
                    self.send(writer, drop)
                    await writer.drain()
                    await asyncio.sleep(TRICKLE_INTERVAL)
            await self.ended(connection)

    async def all_trickle(self, heads: Sequence[bytes], drop: bytes) -> None:
        """Trickle on many connections, and return once every one of them has begun."""
        began = []
        for head in heads:
            first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.tasks.append(asyncio.create_task(self.trickle(head, drop, first)))
            began.append(first)
        await asyncio.gather(*began)


async def heads(attack: Attack) -> None:
    """Never end the head of a request."""
    await attack.all_trickle([b"GET / HTTP/1.1\r\nHost: a\r\n"] * SLOW, b"X-Drop: a\r\n")


def post(number: int = 0) -> bytes:
    """Return the beginning of a head, with a token that is made up."""
    token = aiohttp.encode_basic_auth("any@example.com", f"made-up-{number}")
    return f"POST {PATH} HTTP/1.1\r\nHost: a\r\nAuthorization: {token}\r\n".encode()


async def bodies(attack: Attack) -> None:
    """Never end the body of a request."""
    length = b"Content-Length: 500000\r\n\r\n"
    await attack.all_trickle([post(number) + length for number in range(SLOW)], b" ")


async def idle(attack: Attack) -> None:
    """Make one call each, and then hold the connection."""
    call = f"GET {PATH} HTTP/1.1\r\nHost: a\r\nAuthorization: {BASIC}\r\n\r\n".encode()

    async def hold(connection: Connection) -> None:
        reader, _ = connection
        with suppress(ConnectionError):
            await reader.read()
        attack.cut_off += 1

    for _ in range(IDLE):
        connection = await attack.connect()
        attack.send(connection[1], call)
        await connection[0].readuntil(b"</invoice-messages>\n")
        attack.tasks.append(asyncio.create_task(hold(connection)))


async def endless(attack: Attack) -> None:
    """Send chunk after chunk, as fast as it goes, until 1 GiB has been sent."""
    chunk = b"%x\r\n" % CHUNK + b" " * CHUNK + b"\r\n"

    async def pour() -> None:
        while attack.sent < ENDLESS:
            _, writer = connection = await attack.connect()
            attack.send(writer, post() + b"Transfer-Encoding: chunked\r\n\r\n")
            with suppress(ConnectionError):
                while attack.sent < ENDLESS:
                    attack.send(writer, chunk)
                    await writer.drain()
            await attack.ended(connection)

    attack.tasks.append(asyncio.create_task(pour()))


SITUATIONS: dict[str, Callable[[Attack], Awaitable[None]]] = {
    "heads": heads,
    "bodies": bodies,
    "idle": idle,
    "endless": endless,
}


async def run_attack(situation: str, port: int) -> None:
    """Attack the bridge at `port` until standard input closes."""
    attack = Attack(port)
    await SITUATIONS[situation](attack)
    await obey(port, {"report": attack.report})
    for task in attack.tasks:
        task.cancel()


async def run_bridge(upstream: str) -> None:
    """Serve a bridge to `upstream`, and tell what it takes."""
    logs.configure(Path(os.devnull).open("w"))  # noqa: ASYNC230, SIM115 - for as long as it runs
    settings = Settings(
        account_id=1000,
        auth=frozenset({Way.TOKEN_AS_PASSWORD, Way.BEARER}),
        contact="bench@example.com",
        upstream=upstream,
        port=0,
        admin_port=0,
        journal=Path(mkdtemp()) / "journal.sqlite",
        database=f"{mkdtemp()}/log.sqlite",
    )
    async with running(settings) as service:
        await obey(service.port, {"begin": begin, "state": state})


def state() -> dict[str, int]:
    """Return how many files and sockets are open, and the memory of this process in bytes."""
    return {
        "open": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - their number is all
        "resident": memory("VmRSS"),
        "peak": memory("VmHWM"),
    }


def begin() -> dict[str, int]:
    """Return the state, and let the peak begin anew."""
    Path("/proc/self/clear_refs").write_text("5")
    return state()


class Latencies(NamedTuple):
    """Seconds of legitimate calls, and how many had another answer than the right one."""

    seconds: list[float]
    failed: int

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def p99(self) -> float:
        return quantiles(self.seconds, n=100)[98]


async def call_on(port: int, seconds: float, *, anew: bool) -> Latencies:
    """Call for a while, on one connection or on a new one each time."""
    taken: list[float] = []
    failed = 0
    connector = aiohttp.TCPConnector(force_close=anew)
    async with aiohttp.ClientSession(
        f"http://{LOOPBACK}:{port}", connector=connector, headers={"Authorization": BASIC}
    ) as session:
        until = perf_counter() + seconds
        while perf_counter() < until:
            started = perf_counter()
            try:
                async with session.get(PATH) as response:
                    right = (await response.read()).count(b"<invoice-message>") == 3
            except aiohttp.ClientError:
                right = False
            taken.append(perf_counter() - started)
            failed += not right
            await asyncio.sleep(PAUSE)
    return Latencies(taken, failed)


async def both_ways(port: int, seconds: float) -> tuple[Latencies, Latencies]:
    """Call both ways at the same time."""
    kept, fresh = await asyncio.gather(
        call_on(port, seconds, anew=False), call_on(port, seconds, anew=True)
    )
    return kept, fresh


@asynccontextmanager
async def attacked(situation: str, port: int) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """Run an attack in a process of its own, and yield what asks how it goes."""
    async with running_process(MODULE, "attack", situation, str(port)) as attacker:
        yield lambda: attacker.told("report")


async def watch(situation: str, upstream: str) -> None:
    """Measure a situation."""
    async with running_process(MODULE, "bridge", upstream) as bridge:
        await both_ways(bridge.port, 2)  # warms up
        quiet = await both_ways(bridge.port, SECONDS / 2)
        before = await bridge.told("begin")
        async with attacked(situation, bridge.port) as report:
            begun = await bridge.told("state")
            under = await both_ways(bridge.port, SECONDS)
            during = await bridge.told("state")
            attack = await report()
        after = await both_ways(bridge.port, 2)
        end = await bridge.told("state")
    say(f"\n{situation}: {(SITUATIONS[situation].__doc__ or '').splitlines()[0]}")
    for title, then, now in zip(("kept connection", "new connections"), quiet, under, strict=True):
        say(
            f"  {title}: median {then.median * 1e3:.2f} -> {now.median * 1e3:.2f} ms"
            f" (x{now.median / then.median:.2f}),"
            f" p99 {then.p99 * 1e3:.2f} -> {now.p99 * 1e3:.2f} ms (x{now.p99 / then.p99:.2f}),"
            f" longest {max(now.seconds) * 1e3:.1f} ms, {len(now.seconds)} calls,"
            f" {now.failed} failed"
        )
    failed = sum(each.failed for each in (*quiet, *after))
    say(
        f"  resident: {before['resident'] / 1e6:.1f} MB, {begun['resident'] / 1e6:.1f} once it has"
        f" begun, peak {during['peak'] / 1e6:.1f}, end {end['resident'] / 1e6:.1f};"
        f" open files: {during['open']} during, {end['open']} after",
        f"  attacker: {attack}" + (f"; {failed} calls failed before or after" if failed else ""),
    )


async def main(situations: Sequence[str]) -> None:
    """Measure `situations`, or all of them."""
    async with running_process("tests.bench.upstream") as upstream:
        for situation in situations or SITUATIONS:
            await watch(situation, f"http://{LOOPBACK}:{upstream.port}/v2")


def _task(arguments: Sequence[str]) -> Awaitable[None]:
    match arguments:
        case ["bridge", upstream]:
            return run_bridge(upstream)
        case ["attack", situation, port]:
            return run_attack(situation, int(port))
        case _:
            return main(arguments)


async def _run(arguments: Sequence[str]) -> None:
    await _task(arguments)


if __name__ == "__main__":
    allow_connections(2 * IDLE)
    with asyncio.Runner(loop_factory=_loop_factory()) as the_runner:
        the_runner.run(_run(sys.argv[1:]))
