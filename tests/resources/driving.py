"""Flows driven by hand: what they ask for is checked, and what they hear is said, step by step."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from lxml import etree

from bridge.resources.flow import Begin, Flow, GoElsewhere, Pause, Settle
from bridge.v1.dialects import Dialect
from bridge.v1.wire import V1Request, V1Response
from bridge.v2.errors import UpstreamUnreachable, WriteNotDone
from bridge.v2.wire import V2Request, V2Response
from bridge.v2.writes import Intent, Outcome

BASE = "https://api.harvestapp.com/v2"
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def call(*, dialect: Dialect = Dialect.CLASSIC, **ids: int) -> V1Request:
    return V1Request(path="", ids=ids, dialect=dialect)


def feed(flow: Flow, *bodies: dict[str, Any]) -> tuple[list[V2Request], V1Response]:
    """Send 200s with these bodies, and return what was asked for and the answer."""
    asked: list[Any] = [next(flow)]
    for body in bodies:
        response = V2Response(200, json.dumps(body).encode(), f"{BASE}{asked[-1].path}")
        try:
            asked.append(flow.send(response))
        except StopIteration as stop:
            return asked, stop.value
    raise AssertionError("the flow wants more answers")


def texts(answer: V1Response, element: str) -> list[str | None]:
    root = etree.fromstring(b"".join(answer.body))
    return [each.text for each in root.iter(element)]


def first(flow: Flow) -> Any:
    """Begin a flow, and return the first step that asks for something."""
    step = next(flow)
    return next(flow) if isinstance(step, GoElsewhere) else step


class Writing:
    """A write that a test takes step by step."""

    def __init__(
        self,
        flow: Callable[[V1Request], Flow],
        path: str,
        body: bytes,
        outcome: Outcome = Outcome.OPEN,
        made_id: int | None = None,
    ) -> None:
        request = V1Request(path=path, ids={"invoice_id": 7}, dialect=Dialect.CLASSIC, body=body)
        self._flow = flow(request)
        begin = first(self._flow)
        assert isinstance(begin, Begin)
        self.write = begin.write
        self.intent = Intent(
            1, 1000, begin.write.resource, begin.write.request.path, begin.write.likeness,
            NOW, outcome, made_id,
        )  # fmt: skip
        self.step: Any = None
        self.answer: V1Response | None = None
        self._resume(lambda: self._flow.send(self.intent))

    def _resume(self, resume: Callable[[], Any]) -> None:
        try:
            self.step = resume()
        except StopIteration as stop:
            self.answer = stop.value

    def fails(self, error: Exception) -> None:
        self._resume(lambda: self._flow.throw(error))

    def hears(self, status: int, body: bytes | dict[str, Any], **headers: str) -> None:
        octets = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Date": "Sat, 21 Nov 2026 12:00:00 GMT", **headers}
        url = f"{BASE}{self.step.path}"
        self._resume(
            lambda: self._flow.send(V2Response(status, octets, url, headers, received_at=NOW))
        )

    def settles(self, outcome: Outcome, made_id: int | None = None, *, noted: bool = True) -> None:
        """Check that the flow has this noted, and let it go on."""
        assert isinstance(self.step, Settle)
        assert (self.step.outcome, self.step.made_id) == (outcome, made_id)
        self._resume(lambda: self._flow.send(noted))

    def pauses(self, *, passes: bool = False) -> None:
        """Check that the flow waits before it looks again, and let it go on."""
        assert isinstance(self.step, Pause)
        self._resume(lambda: self._flow.send(passes))

    def looks(self) -> bool:
        step = self.step
        return isinstance(step, V2Request) and step.method == "GET" and step.settles

    def loses_its_answer(self) -> None:
        """Lose the answer to the POST."""
        self.fails(UpstreamUnreachable("broke"))

    def finds(self, page: dict[str, Any], **headers: str) -> Iterator[int]:
        """Yield the ids that a look finds on a page, in the order in which they are tried.

        None of them is what was looked for.
        """
        self.loses_its_answer()
        try:
            self.hears(200, page, **headers)
            while isinstance(self.step, Settle) and self.step.made_id is not None:
                yield self.step.made_id
                self.settles(Outcome.DONE, self.step.made_id, noted=False)
            self.pauses()
            self.hears(200, {**page, **{key: [] for key in page if key.startswith("invoice_")}})
            self.settles(Outcome.ABSENT)
        except WriteNotDone:
            return
        raise AssertionError("the look has not ended")
