"""Legacy clients in a storm: each sends its writes one after another, again and again until told.

Whatever happens to a write, its client knows one rule: no 2xx, no message. What must have come of
all writes in the end is in `storm`.
"""

import asyncio
import random
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from multidict import CIMultiDict, CIMultiDictProxy

from tests.support.legacy import Answer, hang_up
from tests.support.running import LOOPBACK
from tests.support.storm_bridge import LOGINS, BridgeProcess
from tests.support.storm_sandbox import (
    CLERKS_INVOICE,
    LONE_INVOICE,
    Content,
    Moment,
    Moments,
    Occasion,
    WatchedSandbox,
    account_of,
)

LONGEST_PAUSE = 0.1
"""Seconds: what a client waits at most before it tries again, whatever it is told."""

_EVENTS = {
    "mark_as_sent": "send",
    "mark_as_draft": "draft",
    "mark_as_closed": "close",
    "re_open": "re-open",
}
_DIALECTS = ("invoice", "invoices")


class UnexpectedAnswer(Exception):
    """An answer that no fault of v2 explains."""


@dataclass
class Write:
    """A message that a client wants sent, or a state it wants recorded: once."""

    name: str
    path: str
    content: Content
    xml: str
    attempts: int = 0
    answers: list[int | None] = field(default_factory=list)
    """The status of each attempt; None: the connection broke, or the client hung up."""
    acknowledged: int | None = None
    """The id that its client has been told."""
    deleted: bool = False

    def __str__(self) -> str:
        return (
            f"{self.name} ({self.content.event or 'message'} on {self.content.invoice}): "
            f"acknowledged {self.acknowledged}, answers {self.answers}"
        )


class Habits(NamedTuple):
    """What clients do, beside sending one message after another."""

    equal_pairs: float = 0.0
    """The part of messages that are sent twice, on purpose."""
    hang_ups: float = 0.0
    """The part of attempts that end in a client's hanging up."""
    deletions: float = 0.0
    readings: float = 0.0
    re_opens: bool = False
    """Whether the clerk's events are equal each time; else each has a text of its own."""
    patient: int | None = None
    """The invoice whose client never hangs up unasked."""


class Plan:
    """What one client sends, by its own dice."""

    def __init__(self, name: str, invoice: int, seed: int, habits: Habits) -> None:
        self.name = name
        self.invoice = invoice
        self.dice = random.Random(f"{seed}/{name}")
        self.habits = habits
        self._number = 0

    def chance(self, part: float) -> bool:
        """Throw the dice."""
        return self.dice.random() < part

    def messages(self) -> Iterator[Write]:
        """Reminders without end, some of them twice."""
        while True:
            text = f"Reminder {self.name}-{self._number:05d}"
            elements = {
                "body": text,
                "subject": self.dice.choice(("Past due", "", None)),
                "full-recipient-list": "Jane Doe <jane@doe.org>, billing@example.com",
                "send-me-a-copy": self.dice.choice(("true", "false", None)),
            }
            path = f"/{self.dice.choice(_DIALECTS)}/{self.invoice}/messages"
            for _ in range(2 if self.chance(self.habits.equal_pairs) else 1):
                yield self._write(path, Content(self.invoice, None, text), elements)

    def state_changes(self) -> Iterator[Write]:
        """A draft sent, closed, opened and made a draft again, without end."""
        round_trip = ("mark_as_sent", "mark_as_closed", "re_open", "mark_as_draft")
        while True:
            for segment in (
                round_trip if self.habits.re_opens else ("mark_as_sent", "mark_as_draft")
            ):
                text = None if self.habits.re_opens else f"Event {self.name}-{self._number:05d}"
                yield self._write(
                    f"/{self.dice.choice(_DIALECTS)}/{self.invoice}/messages/{segment}",
                    Content(self.invoice, _EVENTS[segment], text),
                    {"body": text},
                )

    def _write(self, path: str, content: Content, elements: Mapping[str, str | None]) -> Write:
        self._number += 1
        told = "".join(
            f"<{name}>{escape(text)}</{name}>"
            for name, text in elements.items()
            if text is not None
        )
        return Write(
            f"{self.name}-{self._number:05d}",
            path,
            content,
            f"<invoice-message>{told}</invoice-message>",
        )


class Client:
    """A legacy client with a connection of its own, which it keeps for as long as it lasts."""

    def __init__(
        self, plan: Plan, bridge: BridgeProcess, sandbox: WatchedSandbox, moments: Moments
    ) -> None:
        self.plan = plan
        self.writes: list[Write] = []
        self.is_alone = plan.invoice in {LONE_INVOICE, CLERKS_INVOICE}
        """Whether nobody else writes to its invoice."""
        self._bridge = bridge
        self._sandbox = sandbox
        self._moments = moments
        self._line: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._cut = False
        self._asked = False
        """Whether the bridge has been sent all of the attempt that is under way."""

    @property
    def attempt(self) -> str:
        """The request id of the attempt that is under way, or was the last."""
        return _attempt_id(self.writes[-1])

    async def send(self, write: Write) -> None:
        """Try until it is acknowledged; then read it back, or delete it, now and then."""
        self.writes.append(write)
        while write.acknowledged is None:
            write.attempts += 1
            await self._come(Moment.TRYING, write)
            answer = await self._attempt(write)
            write.answers.append(None if answer is None else answer.status)
            if answer is not None and answer.status < 300:
                write.acknowledged = _acknowledged(write, answer)
            else:
                await self._pause(answer)
        await self._come(Moment.TOLD, write)
        if self.plan.chance(self.plan.habits.readings):
            await self._read_back(write)
        if write.content.event is None and self.plan.chance(self.plan.habits.deletions):
            await self._delete(write)

    async def _attempt(self, write: Write) -> Answer | None:
        request = _request("POST", write.path, write.content.invoice, _attempt_id(write), write.xml)
        habits = self.plan.habits
        if habits.patient == self.plan.invoice or not self.plan.chance(habits.hang_ups):
            return await self._exchange(request, write)
        if self.plan.chance(0.3):
            return await self._hang_up_soon(request, write)
        return await self._hang_up_while_v2_is_asked(request, write)

    async def _hang_up_soon(self, request: bytes, write: Write) -> Answer | None:
        # Nothing that v2 has answered is under way to the bridge, so no acknowledgement is to here.
        answers = self._sandbox.answers[write.content.invoice]
        sending = asyncio.create_task(self._exchange(request, write))
        for _ in range(self.plan.dice.randrange(100)):
            await asyncio.sleep(0)
            if self._sandbox.answers[write.content.invoice] != answers:
                return await sending
        return await self._cut_off(sending, quietly=self.plan.chance(0.5))

    async def _hang_up_while_v2_is_asked(self, request: bytes, write: Write) -> Answer | None:
        """Hang up in the middle of the write's turn, and not with an acknowledgement under way.

        That one would be taken for delivered, and the next attempt for another message: no server
        can know better.
        """
        moment = self.plan.dice.choice((Moment.ARRIVED, Moment.APPLIED))

        def wanted(occasion: Occasion) -> bool:
            # Of looks, nobody can say whose they are, where others write to the same invoice.
            return occasion.moment is moment and (
                occasion.content == write.content
                or (self.is_alone and occasion.content.invoice == write.content.invoice)
            )

        async with self._moments.hold(wanted) as hold:
            sending = asyncio.create_task(self._exchange(request, write))
            either: set[asyncio.Future[Any]] = {sending, hold.reached}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() or not self._asked:
                # Where an earlier attempt was hung up on, it may have been that one's call.
                hold.let_go()
                return await sending
            noticed = self._bridge.told(
                lambda line: (
                    line["event"] == "client_left" and line["request_id"] == _attempt_id(write)
                )
            )
            answer = await self._cut_off(sending)
            with suppress(ConnectionError):  # it has been killed instead
                await noticed
            return answer

    async def _cut_off(
        self, sending: "asyncio.Task[Answer | None]", *, quietly: bool = False
    ) -> Answer | None:
        self.hang_up(quietly=quietly)
        return await sending

    def hang_up(self, *, quietly: bool = False) -> None:
        """Close the connection, whatever is awaited on it; `quietly` as who only sends no more."""
        self._cut = True
        if self._line is not None:
            writer = self._line[1]
            if quietly:
                writer.transport.abort()
            else:
                hang_up(writer)
            self._line = None

    async def _exchange(self, request: bytes, write: Write | None = None) -> Answer | None:
        """Send a request and read the answer; None: there was none."""
        self._cut = self._asked = False
        try:
            if self._line is None:
                line = await self._open()
                if self._cut:
                    line[1].transport.abort()
                    return None
                self._line = line
            reader, writer = self._line
            writer.write(request)
            await writer.drain()
            self._asked = True
            if write is not None:
                await self._come(Moment.SENT, write)
            answer = await _read(reader)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return None
        if answer.headers.get("Connection") == "close":
            self.close()
        return answer

    async def read(self, invoice: int, request_id: str) -> Answer | None:
        """Read the list of an invoice; None: there was no answer."""
        path = f"/invoice/{invoice}/messages"
        return await self._exchange(_request("GET", path, invoice, request_id))

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(LOOPBACK, self._bridge.port)

    async def _pause(self, answer: Answer | None) -> None:
        longest = LONGEST_PAUSE
        if answer is not None:
            if answer.status < 500:
                raise UnexpectedAnswer(f"{answer.status}: {answer.body.decode()}")
            longest = min(longest, float(answer.headers.get("Retry-After", LONGEST_PAUSE)))
        await asyncio.sleep(self.plan.dice.uniform(0, longest))

    async def _read_back(self, write: Write) -> None:
        path = f"{_collection(write)}/{write.acknowledged}"
        answer = await self._until_answered("GET", path, write, {200})
        assert answer.texts("id") == [str(write.acknowledged)], write
        assert answer.texts("body") == [write.content.text or ""], write

    async def _delete(self, write: Write) -> None:
        # 404 says that an earlier attempt has done it.
        path = f"{_collection(write)}/{write.acknowledged}"
        await self._until_answered("DELETE", path, write, {200, 404})
        write.deleted = True

    async def _until_answered(
        self, method: str, path: str, write: Write, expected: set[int]
    ) -> Answer:
        while True:
            request = _request(method, path, write.content.invoice, f"{write.name}.{method}")
            answer = await self._exchange(request)
            if answer is not None and answer.status in expected:
                return answer
            await self._pause(answer)

    async def _come(self, moment: Moment, write: Write) -> None:
        await self._moments.come(Occasion(moment, "POST", write.content))

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._line is not None:
            self._line[1].close()
            self._line = None


def _attempt_id(write: Write) -> str:
    return f"{write.name}.{write.attempts}"


def _collection(write: Write) -> str:
    return write.path[: write.path.index("/messages")] + "/messages"


def _request(method: str, path: str, invoice: int, request_id: str, xml: str = "") -> bytes:
    login = LOGINS[account_of(invoice)]
    credential = b64encode(f"{login.name}:{login.password}".encode()).decode()
    body = xml.encode()
    head = (
        f"{method} {path} HTTP/1.1",
        f"Host: {login.subdomain}.harvestapp.com",
        f"Authorization: Basic {credential}",
        "Accept: application/xml",
        "Content-Type: application/xml",
        f"X-Request-Id: {request_id}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*head, "", "")).encode() + body


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers: CIMultiDict[str] = CIMultiDict()
    for line in filter(None, head[1:]):
        name, _, text = line.partition(": ")
        headers.add(name, text)
    body = await reader.readexactly(int(headers["Content-Length"]))
    return Answer(int(head[0].split()[1]), CIMultiDictProxy(headers), body)


def _acknowledged(write: Write, answer: Answer) -> int:
    """Return the id that an answer tells, and check that it tells the same thing throughout."""
    assert answer.status == (201 if write.content.event is None else 200), write
    found = re.fullmatch(f"{_collection(write)}/([0-9]+)", answer.headers["Location"])
    assert found, answer.headers["Location"]
    assert answer.texts("id") == [found[1]], write
    assert answer.texts("body") == [write.content.text or ""], write
    return int(found[1])
