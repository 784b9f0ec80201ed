"""A storm through a real TLS front: two bridges, killed and told to stop in turn, and their readers.

What must have come of every write is in `storm`; what the clients are, in `storm_clients`.
"""

import asyncio
import signal
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

from bridge.cli.journal import NOTHING
from bridge.sandbox.app import SANDBOX_ACCOUNT_ID
from tests.support.legacy import Answer
from tests.support.running import LOOPBACK
from tests.support.storm import Storm, plans_of
from tests.support.storm_bridge import BridgeProcess, Line
from tests.support.storm_clients import Client, Habits, Plan
from tests.support.storm_sandbox import (
    LONE_INVOICE,
    UNEASY,
    Moments,
    Rule,
    WatchedSandbox,
    running_watched_sandbox,
)
from tests.support.tls_fronts import NAME, Backend, TlsFront, running_tls_front

RULES: tuple[Rule, ...] = tuple({**rule, "account_id": SANDBOX_ACCOUNT_ID} for rule in UNEASY)
"""What befalls the writers; the readers, of another account, have no excuse to be refused."""

READER = "reader."
"""How the ids of the readers' requests begin."""

TRUSTING = f"--trusted-proxies={LOOPBACK}"


class FrontedClient(Client):
    """A client that calls a front."""

    def __init__(
        self,
        plan: Plan,
        front: TlsFront,
        bridge: BridgeProcess,
        sandbox: WatchedSandbox,
        moments: Moments,
    ) -> None:
        super().__init__(plan, bridge, sandbox, moments)
        self._front = front
        self._trust: ssl.SSLContext = front.trust()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            LOOPBACK, self._front.port, ssl=self._trust, server_hostname=NAME
        )


@dataclass
class Reader:
    """Reads one list again and again, and counts what it is told."""

    client: FrontedClient
    told: Counter[str] = field(default_factory=Counter)
    """How many answers had each status; those that no bridge has given stand apart."""

    async def read_on(self, over: asyncio.Event) -> None:
        """Read until it is over."""
        for number in count():
            if over.is_set():
                return
            answer = await self.client.read(LONE_INVOICE, f"{READER}{number}")
            self.told[_told(answer)] += 1
            await asyncio.sleep(0)


def _told(answer: Answer | None) -> str:
    if answer is None:
        return "broken off"
    return f"{answer.status}" if "X-Request-Id" in answer.headers else f"{answer.status} (front)"


@dataclass
class FrontedStorm(Storm):
    """All who take part; `bridge` is the first of `bridges`."""

    front: TlsFront = field(kw_only=True)
    bridges: Sequence[BridgeProcess] = field(kw_only=True)
    readers: Sequence[Reader] = field(kw_only=True)
    turns: int = 0
    """In how many turns a bridge was killed and one was told to stop."""

    @property
    def lines(self) -> list[Line]:
        """All that any bridge has logged."""
        return [line for bridge in self.bridges for line in bridge.lines]

    @property
    def read(self) -> Counter[str]:
        """What the readers were told."""
        return sum((reader.told for reader in self.readers), Counter[str]())

    def refused_reads(self) -> Iterator[Line]:
        """What the bridges have logged of reads that were not served."""
        for line in self.lines:
            if str(line.get("request_id")).startswith(READER) and line.get("status") != 200:
                yield line

    async def at_some_moment(self, dice: Random) -> None:
        """Wait for one of the next occasions, whatever it is."""
        async with self.moments.hold(lambda _: True, skip=dice.randrange(20, 120)) as moment:
            await moment.reached

    async def lose_a_bridge(self, place: int, dice: Random) -> None:
        """Kill one at any moment, and start it again when the other has served for a while."""
        await self.at_some_moment(dice)
        await self.bridges[place].kill()
        await self.at_some_moment(dice)
        await self._bring_back(place)

    async def drain_a_bridge(self, place: int, dice: Random) -> None:
        """Have one stop at any moment, and start it again."""
        await self.at_some_moment(dice)
        assert await self.bridges[place].end(signal.SIGTERM) == 0
        await self.at_some_moment(dice)
        await self._bring_back(place)

    async def _bring_back(self, place: int) -> None:
        """Start one, and wait until the front calls it: nobody should stop the other sooner."""
        bridge = self.bridges[place]
        await bridge.start()
        await bridge.told(lambda line: line["event"] in {"legacy_call", "client_gone"})

    async def rage(
        self,
        dice: Random,
        enough: Callable[[], bool],
        between: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Lose and drain bridges in turn until it is `enough`, while clients write and read.

        What happens `between` happens after each turn.
        """
        over = asyncio.Event()
        async with asyncio.TaskGroup() as reading:
            for reader in self.readers:
                reading.create_task(reader.read_on(over))
            try:
                async with self.sending():
                    for turn in count():
                        await self.lose_a_bridge(turn % 2, dice)
                        await self.drain_a_bridge((turn + 1 + turn // 2) % 2, dice)
                        self.turns += 1
                        if between is not None:
                            await between()
                        if enough():
                            break
            finally:
                over.set()

    async def settle(self) -> None:
        """Have the bridges stop, and make sure that a reconcile leaves nothing open."""
        for bridge in self.bridges:
            assert await bridge.end(signal.SIGTERM) == 0
        status, told = await self.bridge.reconcile()
        assert status == 0, told
        assert await self.bridge.journal_command() == (0, [[NOTHING]])

    @property
    def acknowledged(self) -> int:
        """How many writes their clients were told of."""
        return sum(write.acknowledged is not None for write in self.writes)


@asynccontextmanager
async def brewing_fronted_storm(
    kind: str,
    directory: Path,
    seed: int,
    rules: Sequence[Rule],
    databases: tuple[str | None, str | None],
    *options: str,
    crowd: int = 24,
    readers: int = 4,
) -> AsyncIterator[FrontedStorm]:
    """Bring all together. With one database for both, the bridges share their journal."""
    moments = Moments()
    share = databases[0] is not None
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(running_watched_sandbox(moments, rules, seed))
        bridges = []
        for place, database in enumerate(databases):
            own = directory / ("bridges" if share else f"bridge-{place}")
            await asyncio.to_thread(own.mkdir, exist_ok=True)
            bridge = BridgeProcess(own, sandbox.base_url, TRUSTING, *options, database=database)
            stack.push_async_callback(bridge.close)
            await bridge.start()
            bridges.append(bridge)
        places = [Backend(each.port, each.admin_port) for each in bridges]
        running = running_tls_front(kind, directory / "front", places)
        front = await stack.enter_async_context(running)

        def client(plan: Plan) -> FrontedClient:
            made = FrontedClient(plan, front, bridges[0], sandbox, moments)
            stack.callback(made.close)
            return made

        # What a client is told by a front counts as delivered, so none hangs up.
        clients = [client(each) for each in plans_of(crowd, seed, Habits(readings=0.05))]
        reading = [
            Reader(client(Plan(f"r{n}", LONE_INVOICE, seed, Habits()))) for n in range(readers)
        ]
        yield FrontedStorm(
            seed,
            moments,
            sandbox,
            bridges[0],
            clients,
            front=front,
            bridges=bridges,
            readers=reading,
        )
