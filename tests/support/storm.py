"""A storm: clients, a bridge and a misbehaving v2; and what must have come of every write.

Repeatable by its seed: what each client sends, when it wants to hang up, and which fault the n-th
call that a rule is for meets. Not repeatable: whose call is the n-th, for that is the machine's to
decide; nor the pauses of the bridge's own retries.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from tests.support.storm_bridge import BridgeProcess, Line, running_bridge_process
from tests.support.storm_clients import Client, Habits, Plan, Write
from tests.support.storm_sandbox import (
    CLERKS_INVOICE,
    LONE_INVOICE,
    SHARED_INVOICES,
    Content,
    Moments,
    Rule,
    WatchedSandbox,
    running_watched_sandbox,
)

_LINES_SHOWN = 60


@dataclass
class Storm:
    """All who take part."""

    seed: int
    moments: Moments
    sandbox: WatchedSandbox
    bridge: BridgeProcess
    clients: Sequence[Client]
    abating: bool = False
    """Whether no client begins another write."""

    @property
    def writes(self) -> list[Write]:
        """All that were begun."""
        return list(chain.from_iterable(client.writes for client in self.clients))

    @property
    def lines(self) -> list[Line]:
        """All that was logged."""
        return self.bridge.lines

    async def send(self, number: int) -> None:
        """Have so many writes sent, by all clients together, and return when they are told."""
        share, more = divmod(number, len(self.clients))
        async with asyncio.TaskGroup() as sending:
            for place, client in enumerate(self.clients):
                sending.create_task(_send(client, islice(_writes(client), share + (place < more))))

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Have writes sent for as long as the block takes, and until those begun are told."""
        async with asyncio.TaskGroup() as sending:
            for client in self.clients:
                sending.create_task(_send(client, self._until_abating(client)))
            try:
                yield
            finally:
                self.abating = True

    def _until_abating(self, client: Client) -> Iterator[Write]:
        for write in _writes(client):
            if self.abating:
                return
            yield write

    def client_alone_on(self, invoice: int) -> Client:
        """The only one that writes to an invoice."""
        (client,) = (client for client in self.clients if client.plan.invoice == invoice)
        return client

    async def check(self) -> None:
        """Make sure that v2 has what was acknowledged, once, and nothing else."""
        await self.sandbox.lift_faults()
        held = await self.sandbox.messages()
        made = self.sandbox.made()
        acknowledged: dict[Content, list[Write]] = defaultdict(list)
        for write in self.writes:
            acknowledged[write.content].append(write)
        wrong = [
            content
            for content in {**acknowledged, **made}
            if made.get(content, []) != _ids(acknowledged[content])
        ]
        assert not wrong, self.report(wrong)
        kept = {
            write.acknowledged: write.content
            for write in self.writes
            if write.acknowledged is not None and not write.deleted
        }
        differ = {id_ for id_, _ in held.items() ^ kept.items()}
        assert not differ, self.report({{**held, **kept}[id_] for id_ in differ})

    def report(self, contents: Iterable[Content]) -> str:
        """Tell all that is known of some writes."""
        return "\n".join(chain.from_iterable(map(self._tell, contents)))

    def _tell(self, content: Content) -> Iterator[str]:
        yield f"\nseed {self.seed}: {content}: made {self.sandbox.made().get(content, [])}"
        writes = [write for write in self.writes if write.content == content]
        yield from map(str, writes)
        yield "v2 was asked, on this invoice and from the first such call to the last:"
        numbers = [call.number for call in self.sandbox.calls if call.content == content] or [0]
        yield from [
            f"  {call}"
            for call in self.sandbox.calls[numbers[0] : numbers[-1] + 20]
            if call.content.invoice == content.invoice
        ][:_LINES_SHOWN]
        yield "the bridge's log:"
        names = tuple(f"{write.name}." for write in writes)
        yield from [
            f"  {line}" for line in self.lines if str(line.get("request_id", "")).startswith(names)
        ][:_LINES_SHOWN]

    async def within(self, seconds: float, happening: Callable[[], Awaitable[None]]) -> None:
        """Let it happen; what has not by then is told, write by write."""
        try:
            async with asyncio.timeout(seconds):
                await happening()
        except TimeoutError:
            waiting = {write.content for write in self.writes if write.acknowledged is None}
            told = f"{self.report(waiting)}\n{await self.bridge.stack()}"
            raise AssertionError(f"not acknowledged in time: {told}") from None


def _ids(writes: Iterable[Write]) -> list[int]:
    return sorted(write.acknowledged for write in writes if write.acknowledged is not None)


def _writes(client: Client) -> Iterator[Write]:
    plan = client.plan
    return plan.state_changes() if plan.invoice == CLERKS_INVOICE else plan.messages()


async def _send(client: Client, writes: Iterator[Write]) -> None:
    for write in writes:
        await client.send(write)


def plans_of(crowd: int, seed: int, habits: Habits) -> list[Plan]:
    """Return what each of a crowd sends; two of them have an invoice each of their own."""
    alone = (CLERKS_INVOICE, LONE_INVOICE)
    shared = [SHARED_INVOICES[n % len(SHARED_INVOICES)] for n in range(crowd - len(alone))]
    return [Plan(f"c{n:02d}", invoice, seed, habits) for n, invoice in enumerate((*alone, *shared))]


@asynccontextmanager
async def brewing_storm(
    directory: Path, seed: int, rules: Sequence[Rule], habits: Habits, *, crowd: int = 24
) -> AsyncIterator[Storm]:
    """Bring all together; two of the clients have an invoice each of their own."""
    moments = Moments()
    async with (
        running_watched_sandbox(moments, rules, seed) as sandbox,
        running_bridge_process(directory, sandbox.base_url) as bridge,
    ):
        plans = plans_of(crowd, seed, habits)
        clients = [Client(plan, bridge, sandbox, moments) for plan in plans]
        try:
            yield Storm(seed, moments, sandbox, bridge, clients)
        finally:
            for client in clients:
                client.close()
