"""The fault matrix: every legacy call meets every way in which v2 can fail, over real sockets.

What is expected was derived by hand from schemas/README.md, "When v2 misbehaves", "Unknown
outcomes" and "Answers that are not 2xx". tests/fault_matrix.md is printed from the same data:

    python -m tests.contract.test_fault_matrix

Calls of one flow take turns; `FAULT_MATRIX=whole` tries every cell.

No cell waits for real time to pass: the event loop's clock leaps when v2 holds a call.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bridge.resources import RESOURCES, account, invoice_messages, invoice_payments
from bridge.resources.routes import Resource
from bridge.v2.writes import Outcome
from tests.support.faults import Door, FaultyV2, Impatience, outcomes, running_faulty_v2
from tests.support.legacy import Answer, LegacyClient, assert_valid
from tests.support.running import running_bridge

TABLE = Path(__file__).parent.parent / "fault_matrix.md"

SECONDS = 180.0
"""`call_timeout`, by a clock that leaps."""
WRITE_SHARE = 2 / 3
"""What a POST has of them, for a third is kept back for the look."""
LOOKING_SECONDS = SECONDS * 22 / 30
"""A time when the bridge has looked, and will look again."""
CONNECT_SECONDS = 5.0
"""What a connection may take, where it is to take too long."""
BODY_LIMIT = 65_536
"""What an answer of v2 may have here."""

NOT_DONE, ABSENT, UNKNOWN, DONE = Outcome.NOT_DONE, Outcome.ABSENT, Outcome.UNKNOWN, Outcome.DONE


class Sent(NamedTuple):
    """What comes of a call that changes something."""

    status: int
    received: int
    """The POSTs or DELETEs that v2 has received."""
    applied: int
    """The messages that v2 has made or deleted."""


class Expected(NamedTuple):
    """What comes of each kind of call under a fault."""

    read: int
    """The status."""
    delete: Sent
    write: Sent
    """A status of 200 stands for the one that the call has when all is well."""
    journal: Outcome
    """What the journal says of the write."""
    but: Mapping[str, int] = {}
    """The statuses of reads that differ."""


@dataclass(frozen=True)
class Fault:
    """One way to fail: for as long as it lasts, and for the first v2 call only."""

    name: str
    every: Expected
    once: Expected | None = None
    """None: v2 cannot fail so once only."""
    rules: Sequence[Mapping[str, Any]] = ()
    """The sandbox's."""
    door: Door = Door.OPEN
    passes: float = 0.0
    """Seconds that v2 lets pass with each call; `inf`: all that the call may take.

    A POST may take no more than its share.
    """
    writes_only: bool = False
    """Whether it differs from the fault above in what is applied only, so that reads are alike."""
    applied: bool = False
    """Whether what is written is applied while the answer is still awaited."""
    late: float = 0.0
    """Seconds after the answer when it is applied."""
    retry_after: int | None = None
    """What a 503 must say."""
    connect_timeout: float = SECONDS
    seconds: float = SECONDS
    """`call_timeout`."""


def rule(fault: str, **parameters: Any) -> tuple[Mapping[str, Any]]:
    return ({"fault": fault, **parameters},)


_UNREACHABLE = Expected(502, Sent(502, 0, 0), Sent(502, 0, 0), NOT_DONE)
_SILENT = Expected(504, Sent(504, 1, 0), Sent(504, 1, 0), UNKNOWN)
_SILENT_ONCE = Expected(504, Sent(504, 1, 0), Sent(502, 1, 0), ABSENT)
_SILENT_APPLIED = Expected(504, Sent(504, 1, 1), Sent(504, 1, 1), UNKNOWN)
_SILENT_APPLIED_ONCE = Expected(504, Sent(504, 1, 1), Sent(200, 1, 1), DONE)
_BROKEN = Expected(502, Sent(502, 4, 0), Sent(504, 1, 0), UNKNOWN)
_BROKEN_ONCE = Expected(200, Sent(200, 2, 1), Sent(502, 1, 0), ABSENT)
_BROKEN_APPLIED = Expected(502, Sent(502, 4, 1), Sent(504, 1, 1), UNKNOWN)
_BROKEN_APPLIED_ONCE = Expected(200, Sent(200, 2, 1), Sent(200, 1, 1), DONE)
_FAULTY = Expected(502, Sent(502, 1, 0), Sent(504, 1, 0), UNKNOWN)
_FAULTY_ONCE = Expected(502, Sent(502, 1, 0), Sent(502, 1, 0), ABSENT)
_FAULTY_APPLIED = Expected(502, Sent(502, 1, 1), Sent(504, 1, 1), UNKNOWN)
_FAULTY_APPLIED_ONCE = Expected(502, Sent(502, 1, 1), Sent(200, 1, 1), DONE)
# v2 documents no body for the answer to a DELETE, so that in any JSON there nothing can be wrong.
_BAD_JSON = Expected(502, Sent(200, 1, 1), Sent(504, 1, 1), UNKNOWN)
_BAD_JSON_ONCE = Expected(502, Sent(200, 1, 1), Sent(200, 1, 1), DONE)
_WELL = Expected(200, Sent(200, 1, 1), Sent(200, 1, 1), DONE)


def _refused(status: int) -> Expected:
    return Expected(status, Sent(status, 1, 0), Sent(status, 1, 0), NOT_DONE)


def _breaking(name: str, fault: str, at: str) -> Iterator[Fault]:
    yield Fault(name, _BROKEN, _BROKEN_ONCE, rule(fault, at=at, applied=False))
    yield Fault(
        f"{name}, applied",
        _BROKEN_APPLIED,
        _BROKEN_APPLIED_ONCE,
        rule(fault, at=at, applied=True),
        writes_only=True,
    )


def _refusing(status: int, legacy: int, name: str = "") -> Fault:
    refused = _refused(legacy)
    return Fault(name or f"{status}", refused, refused, rule("status", status=status))


def _throttling(name: str, told: int, **parameters: Any) -> Fault:
    refused = _refused(503)
    return Fault(name, refused, refused, rule("status", status=429, **parameters), retry_after=told)


def _busy(status: int) -> Iterator[Fault]:
    yield Fault(f"{status}", _BROKEN, _BROKEN_ONCE, rule("status", status=status))
    yield Fault(
        f"{status}, applied",
        _BROKEN_APPLIED,
        _BROKEN_APPLIED_ONCE,
        rule("status", status=status, applied=True),
        writes_only=True,
    )


def _faulty(name: str, fault: str, **parameters: Any) -> Iterator[Fault]:
    yield Fault(name, _FAULTY, _FAULTY_ONCE, rule(fault, **parameters, applied=False))
    yield Fault(
        f"{name}, applied",
        _FAULTY_APPLIED,
        _FAULTY_APPLIED_ONCE,
        rule(fault, **parameters, applied=True),
        writes_only=True,
    )


FAULTS = (
    Fault("connection refused", _UNREACHABLE, door=Door.REFUSES),
    Fault("name not resolved", _UNREACHABLE, door=Door.UNRESOLVABLE),
    Fault("certificate of an unknown CA", _UNREACHABLE, door=Door.UNKNOWN_CA),
    Fault("plain HTTP where TLS is spoken", _UNREACHABLE, door=Door.NO_TLS),
    Fault(
        "TLS handshake longer than a connection may take",
        _UNREACHABLE,
        door=Door.HANGS_BEFORE_TLS,
        passes=CONNECT_SECONDS,
        connect_timeout=CONNECT_SECONDS,
    ),
    Fault(
        "TLS handshake longer than the call may take",
        Expected(504, Sent(504, 0, 0), Sent(504, 0, 0), NOT_DONE),
        door=Door.HANGS_BEFORE_TLS,
        passes=inf,
        seconds=SECONDS / 4,  # asyncio itself gives up after 60
    ),
    Fault("hangs once accepted", _SILENT, _SILENT_ONCE, door=Door.HANGS, passes=inf),
    Fault("hangs once read", _SILENT, _SILENT_ONCE, rule("hang"), passes=inf),
    Fault(
        "hangs once read, applied",
        _SILENT_APPLIED,
        _SILENT_APPLIED_ONCE,
        rule("hang", applied=True),
        passes=inf,
        applied=True,
        writes_only=True,
    ),
    Fault("late, but in time", _WELL, _WELL, rule("delay", seconds=2), passes=2.0),
    Fault(
        "too late, applied at once",
        _SILENT_APPLIED,
        _SILENT_APPLIED_ONCE,
        rule("delay", seconds=SECONDS * 4 / 3, applied="before"),
        passes=inf,
        applied=True,
    ),
    Fault(
        "too late, applied after the answer",
        _SILENT_APPLIED,
        Expected(504, Sent(504, 1, 1), Sent(502, 1, 1), ABSENT),
        rule("delay", seconds=SECONDS * 4 / 3, applied="after"),
        passes=inf,
        late=SECONDS,
        writes_only=True,
    ),
    Fault(
        "too late, applied while the bridge looks",
        # Who is calling takes two v2 calls, of which the second one is too late.
        Expected(200, Sent(200, 1, 1), Sent(504, 1, 1), UNKNOWN, but={"who_am_i": 504}),
        Expected(200, Sent(200, 1, 1), Sent(200, 1, 1), DONE),
        rule("delay", seconds=LOOKING_SECONDS, applied="after"),
        passes=LOOKING_SECONDS,
    ),
    Fault("trickled, but in time", _WELL, _WELL, rule("trickle", bytes=256, seconds=0.01)),
    Fault(
        "trickled too slowly, applied",
        _SILENT_APPLIED,
        _SILENT_APPLIED_ONCE,
        rule("trickle", bytes=1, seconds=SECONDS),
        passes=inf,
        applied=True,
    ),
    *_breaking("reset before the head", "reset", "before"),
    *_breaking("reset in the head", "reset", "head"),
    *_breaking("reset in the body", "reset", "body"),
    *_breaking("closed before the head", "close", "before"),
    *_breaking("closed in the head", "close", "head"),
    Fault("body cut off, applied", _BROKEN_APPLIED, _BROKEN_APPLIED_ONCE, rule("truncate")),
    *_faulty("not HTTP", "not-http"),
    Fault("302", _FAULTY, _FAULTY_ONCE, rule("status", status=302)),
    _refusing(400, 400),
    _refusing(401, 401),
    _refusing(403, 403),
    _refusing(404, 404),
    Fault("408", _SILENT, _SILENT_ONCE, rule("status", status=408)),
    Fault(
        "408, applied",
        _SILENT_APPLIED,
        _SILENT_APPLIED_ONCE,
        rule("status", status=408, applied=True),
        writes_only=True,
    ),
    _refusing(409, 502),
    _refusing(422, 400),
    _throttling("429", 15),
    _throttling("429, `Retry-After: 7`", 7, retry_after=7),
    *_faulty("500", "status", status=500),
    *_busy(502),
    *_busy(503),
    Fault(
        "503, `Retry-After` longer than the call may take",
        _FAULTY,
        _FAULTY_ONCE,
        rule("status", status=503, retry_after=int(SECONDS * 2)),
    ),
    *_busy(504),
    *_faulty("200, a web page", "html"),
    Fault(
        "JSON without its end, applied",
        _FAULTY_APPLIED,
        _FAULTY_APPLIED_ONCE,
        rule("malformed-json"),
    ),
    Fault("JSON of another shape, applied", _BAD_JSON, _BAD_JSON_ONCE, rule("wrong-shape")),
    Fault(
        "JSON with a wrong type, applied",
        _BAD_JSON,
        _BAD_JSON_ONCE,
        (*rule("wrong-type", field="subject", path=".*/new"), *rule("wrong-type", field="id")),
    ),
    Fault(
        "longer than the limit, applied",
        _FAULTY_APPLIED,
        _FAULTY_APPLIED_ONCE,
        rule("oversize", bytes=BODY_LIMIT + 1, chunked=False),
    ),
    Fault(
        "longer than the limit, in chunks, applied",
        _FAULTY_APPLIED,
        _FAULTY_APPLIED_ONCE,
        rule("oversize", bytes=BODY_LIMIT * 2),
    ),
    Fault(
        "a list that leads to itself",
        Expected(*_WELL[:4], but={"list": 502, "list payments": 502}),
        Expected(*_WELL[:4], but={"list": 502, "list payments": 502}),
        rule("cursor-loop"),
    ),
)


class Row(NamedTuple):
    """A legacy call: with what it is made."""

    call: str
    """Its name in its resource."""
    schema: str = "invoice-messages/{dialect}-item"
    """That of its answer; empty: it has no body."""
    body: bytes = b""
    invoice: int = 1420
    state: Mapping[str, str] | None = None
    """What has to be posted to v2 before, for the invoice to be in the right state."""
    resource: Resource = invoice_messages.RESOURCE


MEMBERS = {invoice_messages.RESOURCE.name: 403, invoice_payments.RESOURCE.name: 45}
"""What is shown and deleted, by resource."""
COLLECTIONS = {
    invoice_messages.RESOURCE.name: invoice_messages.MESSAGES.key,
    invoice_payments.RESOURCE.name: invoice_payments.PAYMENTS.key,
}
"""Where v2 has it all, by resource: `invoice_messages` is at `/messages`."""

MAIL = b"<invoice-message><recipients>jane@doe.org</recipients><body>Hi</body></invoice-message>"
CHECK = (
    b"<payment><amount>10.50</amount><paid-at>2008-02-14T10:00:00Z</paid-at>"
    b"<notes>Check 7</notes></payment>"
)


def _payments(call: str, kind: str = "item", body: bytes = b"") -> Row:
    schema = kind and f"invoice-payments/{{dialect}}-{kind}"
    return Row(call, schema, body, resource=invoice_payments.RESOURCE)


def _account(call: str, folder: str) -> Row:
    return Row(call, f"account/{folder}/{{dialect}}-item", resource=account.RESOURCE)


ROWS = {
    "list": Row("list", schema="invoice-messages/{dialect}-list"),
    "show": Row("show"),
    "template": Row("template", schema="invoice-message-templates/{dialect}-item"),
    "delete": Row("delete", schema=""),
    "send": Row("send", body=MAIL),
    "mark_as_sent": Row("mark_as_sent", invoice=1421),
    "mark_as_closed": Row("mark_as_closed"),
    "re_open": Row("re_open", state={"event_type": "close"}),
    "mark_as_draft": Row("mark_as_draft"),
    "list payments": _payments("list", "list"),
    "show payment": _payments("show"),
    "delete payment": _payments("delete", ""),
    "create payment": _payments("create", body=CHECK),
    "who_am_i": _account("who_am_i", "who-am-i"),
    "rate_limit_status": _account("rate_limit_status", "rate-limit-status"),
}
CALLS = {
    name: next(call for call in row.resource.calls if call.name == row.call)
    for name, row in ROWS.items()
}
METHODS = {name: call.method for name, call in CALLS.items()}


def test_every_call_has_a_row() -> None:
    assert {(row.resource.name, row.call) for row in ROWS.values()} == {
        (resource.name, call.name) for resource in RESOURCES for call in resource.calls
    }


class Cell(NamedTuple):
    """A call under a fault."""

    fault: Fault
    once: bool
    call: str

    @property
    def expected(self) -> Expected:
        expected = self.fault.once if self.once else self.fault.every
        assert expected is not None
        return expected

    @property
    def sent(self) -> Sent:
        """What is expected; of a read, nothing is to be received or applied."""
        expected = self.expected
        if not CALLS[self.call].asks_v2:
            return Sent(200, 0, 0)
        match METHODS[self.call]:
            case "GET":
                return Sent(expected.but.get(self.call, expected.read), 0, 0)
            case "DELETE":
                return expected.delete
            case _:
                write = expected.write
                return write._replace(status=well(self.call)) if write.status == 200 else write

    @property
    def is_told_above(self) -> bool:
        return self.fault.writes_only and METHODS[self.call] == "GET"


def well(call: str) -> int:
    """Return the status of a call when all is well."""
    return 201 if ROWS[call].call in {"send", "create"} else 200


def cells() -> Iterator[Cell]:
    for fault in FAULTS:
        for once in (False, True)[: 1 if fault.once is None else 2]:
            for call in ROWS:
                cell = Cell(fault, once, call)
                if not cell.is_told_above:
                    yield cell


TAKE_TURNS = (
    ("mark_as_sent", "mark_as_closed", "re_open", "mark_as_draft"),
    ("list", "list payments"),
    ("show", "show payment"),
    ("delete", "delete payment"),
)
"""Calls of one flow, which differ by what is in their tables: a fault meets one of each, in turn."""

WHOLE = os.environ.get("FAULT_MATRIX") == "whole"
"""Whether every fault meets every call."""


def is_its_turn(cell: Cell) -> bool:
    """Tell whether a cell is tried where not all are."""
    turn = FAULTS.index(cell.fault) + cell.once
    return cell.call in cell.expected.but or all(
        calls[turn % len(calls)] == cell.call for calls in TAKE_TURNS if cell.call in calls
    )


def parameters() -> Iterator[Any]:
    for cell in cells():
        if WHOLE or is_its_turn(cell):
            yield pytest.param(cell, id=name_of(cell))


def test_every_call_has_its_turn() -> None:
    tried = {(cell.once, cell.call) for cell in cells() if is_its_turn(cell)}
    assert tried == {(once, call) for once in (False, True) for call in ROWS}


def name_of(cell: Cell) -> str:
    return f"{cell.fault.name}-{'once' if cell.once else 'every'}-{cell.call}"


ROUNDING = 1.0
"""Seconds: aiohttp puts off a deadline to the next whole one."""


class Client:
    """A legacy client that makes one call, and makes it again as v1 clients do."""

    def __init__(self, cell: Cell, clock: Impatience) -> None:
        self._cell = cell
        self._clock = clock
        self._row = ROWS[cell.call]
        resource = self._row.resource
        calls = [call for call in resource.calls if call.name == self._row.call]
        # The dialects take turns.
        self._call = calls[FAULTS.index(cell.fault) % len(calls)]
        member = MEMBERS.get(resource.name)
        ids = {"invoice_id": self._row.invoice, "message_id": member, "payment_id": member}
        self.path = self._call.path.format_map(ids)

    async def call(self, bridge: LegacyClient) -> Answer:
        headers = {"Content-Type": "text/xml"}
        return await bridge.call(self._call.method, self.path, body=self._row.body, headers=headers)

    async def call_under_fault(self, bridge: LegacyClient, v2: FaultyV2) -> Answer:
        """Make the call, with all the time that v2 lets pass."""
        began = self._clock()
        answer = asyncio.create_task(self.call(bridge))
        held = 0
        while self._cell.fault.passes and not answer.done():
            methods = await v2.misserved()
            if len(methods) > held and await self._is_applied(v2):
                held += 1
                self._let_pass(methods[held - 1], began)
        return await answer

    async def _is_applied(self, v2: FaultyV2) -> bool:
        return not self._cell.fault.applied or await v2.applied() >= self._cell.sent.applied

    def _let_pass(self, method: str, began: float) -> None:
        share = WRITE_SHARE if method == "POST" else 1.0
        end = began + share * self._cell.fault.seconds
        passes = self._cell.fault.passes
        self._clock.ahead_to(end + ROUNDING if passes == inf else min(end, self._clock() + passes))

    async def call_again(self, bridge: LegacyClient) -> Answer:
        """Make the call again, for as long as one is to come later."""
        answer = await self.call(bridge)
        for _ in range(2):
            if answer.status == 503:
                self._clock.ahead(int(answer.headers["Retry-After"]))
                answer = await self.call(bridge)
        return answer

    def require_well_formed(self, answer: Answer) -> None:
        """Check what every answer has to have, whatever it says."""
        if answer.status >= 400:
            (sentence,) = answer.errors
            assert sentence
            assert "Location" not in answer.headers
        elif self._row.schema:
            schema = self._row.schema.format(dialect=self._call.dialect)
            assert_valid(answer.body, schema)
        else:
            assert answer.body == b""
        if answer.status == 400:
            assert answer.headers["Hint"] == sentence
        if answer.status == 401:
            assert answer.headers["WWW-Authenticate"] == 'Basic realm="Harvest"'
        if answer.status == 503:
            assert answer.headers["Retry-After"] == str(self._cell.fault.retry_after)

    def require_told(self, answer: Answer, made: int) -> None:
        """Check that a client is told what its write has made."""
        collection = self.path.removesuffix(f"/{self._row.call}")
        assert answer.headers["Location"] == f"{collection}/{made}"
        assert answer.texts("id") == [str(made)]


@asynccontextmanager
async def bridge_to(base_url: str, journal: Path, cell: Cell) -> AsyncIterator[LegacyClient]:
    async with running_bridge(
        base_url,
        journal=journal,
        call_timeout=cell.fault.seconds,
        connect_timeout=cell.fault.connect_timeout,
        upstream_body_limit=BODY_LIMIT,
    ) as client:
        yield client


@pytest.mark.matrix
@pytest.mark.parametrize("cell", list(parameters()))
async def test_a_call_under_a_fault(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Impatience(monkeypatch)
    client = Client(cell, clock)
    invoice, resource = ROWS[cell.call].invoice, ROWS[cell.call].resource
    journal = tmp_path / "journal.sqlite"
    async with running_faulty_v2(cell.fault.door) as v2:
        if state := ROWS[cell.call].state:
            await v2.ask("POST", f"/invoices/{invoice}/messages", state)
        reads = METHODS[cell.call] == "GET"
        before = [] if reads else await v2.ids(invoice, COLLECTIONS[resource.name])
        base_url = v2.base_url
        await v2.misbehave(cell.fault.rules, once=cell.once)
        async with bridge_to(base_url, journal, cell) as bridge:
            answer = await client.call_under_fault(bridge, v2)
            seen = await what_was_seen(cell, answer, v2, clock)

            assert seen == cell.sent
            client.require_well_formed(answer)
            if reads:
                assert (await v2.received())["GET"] <= 4
                return
            if METHODS[cell.call] == "POST":
                assert outcomes(journal) == [cell.expected.journal]
            now_at = await v2.behave()
            if now_at == base_url:
                await require_done_once(cell, client, answer, bridge, v2, before)
        if now_at != base_url:
            async with bridge_to(now_at, journal, cell) as bridge:
                await require_done_once(cell, client, answer, bridge, v2, before)


async def what_was_seen(cell: Cell, answer: Answer, v2: FaultyV2, clock: Impatience) -> Sent:
    """Return what came of the call, once all that v2 still has in hand is done."""
    if cell.fault.late:
        clock.ahead(cell.fault.late)
        while await v2.applied() < cell.sent.applied:
            pass
    received = await v2.received()
    return Sent(answer.status, received["POST"] + received["DELETE"], await v2.applied())


async def require_done_once(
    cell: Cell,
    client: Client,
    answer: Answer,
    bridge: LegacyClient,
    v2: FaultyV2,
    before: list[int],
) -> None:
    """Have the client call again if it was not told that it was done; then it is done, and once."""
    invoice, resource = ROWS[cell.call].invoice, ROWS[cell.call].resource
    if METHODS[cell.call] == "DELETE":
        if answer.status != 200:
            answer = await client.call_again(bridge)
            assert answer.status == (404 if cell.sent.applied else 200)
        left = [each for each in before if each != MEMBERS[resource.name]]
        assert await v2.ids(invoice, COLLECTIONS[resource.name]) == left
        return
    received = cell.sent.received
    if answer.status != well(cell.call):
        answer = await client.call_again(bridge)
        # What is there already is found.
        received += not cell.sent.applied
    assert answer.status == well(cell.call)
    made, *rest = await v2.ids(invoice, COLLECTIONS[resource.name])
    assert rest == before
    client.require_told(answer, made)
    assert (await v2.received())["POST"] == received


INTRODUCTION = """\
# The fault matrix

What a legacy client gets, and what v2 gets, when v2 fails. Every cell is a call over real sockets,
with a bridge, a journal and a v2 (the sandbox) of its own. The expectations were derived by hand
from [the contract](../schemas/README.md); `tests/contract/test_fault_matrix.py` has them as data,
checks them, and prints this page: `python -m tests.contract.test_fault_matrix`. Of calls that are one
flow (the four changes of state; lists, shows and deletes of messages and of payments) each fault meets
one, in turn; `FAULT_MATRIX=whole` has every cell checked.

- A read has its legacy status: `502`.
- What changes something has `status · received · applied`: the POSTs or DELETEs that v2 has
  received, and the messages it has made or deleted. A POST is received once at most.
- **applied** in the first column: v2 has made or deleted the message although its answer fails.
  Without it, it has not. Reading applies nothing, so `″` is what stands above.
- **journal** is what the journal says of the write then.
- **again** is what the same write does, sent again when v2 is well: `made` makes the message,
  `found` sends nothing and answers with the one that is there. In either case the client gets its
  201 or 200 with the right `Location`, and the invoice has exactly one message more.

Checked as well: error bodies are valid, every 503 has `Retry-After` in whole seconds, every 400 a
`Hint`, every 401 `WWW-Authenticate`; a GET is tried four times at most; and a DELETE that is sent
again is 200, or 404 if it was applied.
"""


def table(*, once: bool) -> Iterator[str]:
    columns = ["v2", *(f"`{call}`" for call in ROWS), "journal", "again"]
    yield "|".join(["", *(f" {each} " for each in columns), ""])
    yield "|".join(["", *[" --- "] * len(columns), ""])
    for fault in FAULTS:
        if not (once and fault.once is None):
            told = [told_in(Cell(fault, once, call)) for call in ROWS]
            write = Cell(fault, once, "send")
            columns = [fault.name, *told, write.expected.journal, again(write)]
            yield "|".join(["", *(f" {each} " for each in columns), ""])


def told_in(cell: Cell) -> str:
    if cell.is_told_above:
        return "″"
    told = cell.sent[:1] if METHODS[cell.call] == "GET" else cell.sent
    return " · ".join(map(str, told))


def again(write: Cell) -> str:
    if write.sent.status == well(write.call):
        return "–"
    return "found" if write.sent.applied else "made"


def printed() -> str:
    return "\n".join(
        [
            INTRODUCTION,
            "## For as long as it lasts\n",
            "Every v2 call fails, the look for a lost write too.\n",
            *table(once=False),
            "\n## Once\n",
            "The first v2 call fails, and what comes after it is well: second tries and looks.\n",
            *table(once=True),
            "",
        ]
    )


def test_the_printed_table_is_what_is_checked() -> None:
    assert TABLE.read_text() == printed(), "run: python -m tests.contract.test_fault_matrix"


if __name__ == "__main__":
    TABLE.write_text(printed())
