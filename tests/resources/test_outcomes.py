"""Every outcome of a write, in one table (schemas/README.md, "Unknown outcomes").

The responses are fed by hand to the flow of each resource that writes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, product, repeat
from typing import Any, NamedTuple

import pytest

from bridge.resources.flow import Pause, Settle
from bridge.resources.invoice_messages import send_message
from bridge.resources.invoice_payments import create_payment
from bridge.v1.errors import LegacyCallError
from bridge.v2.errors import (
    UpstreamError,
    UpstreamFault,
    UpstreamSilence,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from bridge.v2.wire import V2Request
from bridge.v2.writes import Outcome
from tests.resources.driving import Writing
from tests.support.payments import PAY, paid
from tests.support.writing import HELLO, hello

TABLE = """
| same before | look first    | the POST | look then     | asked                    | journal             | ends in         |
| ----------- | ------------- | -------- | ------------- | ------------------------ | ------------------- | --------------- |
| open        |               | made     |               | POST                     | done 501            | 201             |
| open        |               | refused  |               | POST                     | not-done            | UpstreamRefusal |
| open        |               | unsent   |               | POST                     | not-done            | UpstreamSilence |
| open        |               | untold   |               | POST                     | done 501            | OutcomeUnknown  |
| open        |               | defect   |               | POST                     | unknown             | LookupError     |
| open        |               | lost     | finds it      | POST look                | done 501            | 201             |
| open        |               | lost     | finds it late | POST look~look           | done 501            | 201             |
| open        |               | lost     | finds none    | POST look~look~look~look | absent              | WriteNotDone    |
| open        |               | lost     | none in time  | POST look look           | absent              | WriteNotDone    |
| open        |               | lost     | another's     | POST look~look~look~look | (done 502)×4 absent | WriteNotDone    |
| open        |               | lost     | it and others | POST look                | (done 502) done 501 | 201             |
| open        |               | lost     | fails         | POST look                | unknown             | OutcomeUnknown  |
| open        |               | lost     | fails later   | POST look~look           | unknown             | OutcomeUnknown  |
| open        |               | lost     | defect        | POST look                | unknown             | LookupError     |
| unknown     | finds it      |          |               | look                     | done 501            | 201             |
| unknown     | it and others |          |               | look                     | (done 502) done 501 | 201             |
| unknown     | fails         |          |               | look                     | unknown             | OutcomeUnknown  |
| unknown     | defect        |          |               | look                     | unknown             | LookupError     |
| unknown     | finds none    | made     |               | look POST                | done 501            | 201             |
| unknown     | another's     | made     |               | look POST                | (done 502) done 501 | 201             |
| unknown     | finds none    | refused  |               | look POST                | absent              | UpstreamRefusal |
| unknown     | finds none    | unsent   |               | look POST                | absent              | UpstreamSilence |
| unknown     | finds none    | untold   |               | look POST                | done 501            | OutcomeUnknown  |
| unknown     | finds none    | defect   |               | look POST                | unknown             | LookupError     |
| unknown     | finds none    | lost     | finds it      | look POST look           | done 501            | 201             |
| unknown     | finds none    | lost     | finds none    | look POST look~look~look~look | absent         | WriteNotDone    |
| unknown     | finds none    | lost     | fails         | look POST look           | unknown             | OutcomeUnknown  |
| done        | finds it      |          |               | look                     |                     | 201             |
| done        | finds none    |          |               | look                     | absent              | NotFound        |
| done        | another's     |          |               | look                     | absent              | NotFound        |
| done        | fails         |          |               | look                     |                     | OutcomeUnknown  |
| done        | defect        |          |               | look                     |                     | LookupError     |
"""
"""What is asked of v2, what the journal is told, and what the call ends in.

- `same before` is what the journal has of the same write: `open` if there was none. `unknown`
  stands for `absent`, too; `done` is one whose client has not been told.
- `~` is a pause. A find in brackets turns out to be what another write has made.
"""

MADE, OTHERS = 501, 502
"""The ids of what the write makes, and of what another one like it has made."""


class Row(NamedTuple):
    """A row of the table."""

    before: Outcome
    first: str
    post: str
    then: str
    asked: str
    journal: str
    end: str

    def __str__(self) -> str:
        return ", ".join(filter(None, map(str, self[:4])))


def rows() -> Iterator[Row]:
    for line in TABLE.strip().splitlines()[2:]:
        before, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        row = Row(Outcome(before), *cells)
        yield row
        if row.before is Outcome.UNKNOWN:
            yield row._replace(before=Outcome.ABSENT)


@dataclass(frozen=True)
class Resource:
    """A resource that writes, by an example."""

    flow: Any
    path: str
    body: bytes
    items: str
    """The key of a page."""
    item: Callable[..., dict[str, Any]]
    """What v2 makes of the body."""

    def made(self, **fields: Any) -> dict[str, Any]:
        return self.item(**{"id": MADE, "created_at": "2026-11-21T12:00:01Z", **fields})

    def page(self, *ids: int) -> dict[str, Any]:
        return {self.items: [self.made(id=each) for each in ids], "links": {"next": None}}


RESOURCES = {
    "a message": Resource(send_message, "/invoice/7/messages", HELLO, "invoice_messages", hello),
    "a payment": Resource(create_payment, "/invoice/7/payments", PAY, "invoice_payments", paid),
}

Answer = tuple[int, Any] | Exception
"""A status and a body, or what is raised instead."""


def posts(resource: Resource) -> dict[str, dict[str, Answer]]:
    """Return the ways in which each kind of answer to the POST can come."""
    return {
        "": {"": ValueError("nobody asks")},
        "made": {"201": (201, resource.made()), "200": (200, resource.made())},
        "refused": {str(status): (status, {}) for status in (400, 401, 403, 404, 413, 422, 429)},
        "unsent": {
            "not reached": UpstreamUnreachable("refused", request_left=False),
            "no time": UpstreamTimeout("late", request_left=False),
            "not asked": UpstreamUnavailable("a breaker is open", 5),
        },
        "untold": {"no XML": (201, resource.made(created_at="0001-01-01T00:00:00+05:00"))},
        "defect": {"": LookupError()},
        "lost": {
            "reset": UpstreamUnreachable("reset"),
            "late": UpstreamTimeout("late"),
            "no HTTP": UpstreamFault("nonsense"),
            **{str(status): (status, {}) for status in (408, 500, 502, 503, 504, 599)},
            "HTML": (201, b"<html>"),
            "no id": (201, {"id": None}),
            "an object": (200, {}),
            "accepted": (202, b""),
            "nothing": (204, b""),
            "elsewhere": (302, b""),
        },
    }


def looks(resource: Resource) -> dict[str, dict[str, list[Answer]]]:
    """Return the ways in which each kind of look can come out: look by look, the last for good."""
    one, none = (200, resource.page(MADE)), (200, resource.page())
    undated = {**resource.page(), resource.items: [resource.made(created_at=None)]}
    fails: dict[str, list[Answer]] = {
        **{str(status): [(status, {})] for status in (400, 401, 404, 408, 429, 500, 503)},
        "HTML": [(200, b"<html>")],
        "no page": [(200, {})],
        "no time to go by": [(200, undated)],
        "reset": [UpstreamUnreachable("reset")],
        "late": [UpstreamTimeout("late")],
        "not asked": [UpstreamUnavailable("a breaker is open", 5)],
    }
    return {
        "": {"": [ValueError("nobody asks")]},
        "finds it": {"": [one]},
        "finds it late": {"": [none, one]},
        "finds none": {"": [none]},
        "none in time": {"": [none]},
        "another's": {"": [(200, resource.page(OTHERS))]},
        "it and others": {"": [(200, resource.page(MADE, OTHERS))]},
        "defect": {"": [LookupError()]},
        "fails": fails,
        "fails later": {name: [none, *answers] for name, answers in fails.items()},
    }


def played(
    resource: Resource,
    before: Outcome,
    first: Sequence[Answer],
    post: Answer,
    then: Sequence[Answer],
    *,
    passes: bool,
) -> tuple[str, str, str]:
    """Take a write to its end, and return what a row of the table says of it."""
    asked, journal = "", []
    looking = chain(first, repeat(first[-1]))
    made_id = MADE if before is Outcome.DONE else None
    writing = Writing(resource.flow, resource.path, resource.body, before, made_id)
    try:
        while writing.answer is None:
            match writing.step:
                case V2Request(method="POST"):
                    asked += " POST"
                    looking = chain(then, repeat(then[-1]))
                    hear(writing, post)
                case V2Request(method="GET", settles=True):
                    asked += "look" if asked.endswith("~") else " look"
                    hear(writing, next(looking))
                case Pause():
                    asked += "~" if passes else ""
                    writing.pauses(passes=passes)
                case Settle(_, outcome, made_id):
                    told = str(outcome) if made_id is None else f"{outcome} {made_id}"
                    journal.append(f"({told})" if made_id == OTHERS else told)
                    writing.settles(outcome, made_id, noted=made_id != OTHERS)
        assert writing.answer.headers["Location"] == f"{resource.path}/{MADE}"
        end = str(writing.answer.status)
    except UpstreamSilence:
        end = UpstreamSilence.__name__
    except (UpstreamError, LegacyCallError, LookupError) as error:
        end = type(error).__name__
    entries = ((entry, len(list(same))) for entry, same in groupby(journal))
    return (
        asked.strip(),
        " ".join(f"{entry}×{times}" if times > 1 else entry for entry, times in entries),
        end,
    )


def hear(writing: Writing, answer: Answer) -> None:
    if isinstance(answer, Exception):
        writing.fails(answer)
    else:
        writing.hears(*answer)


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=RESOURCES)
@pytest.mark.parametrize("row", list(rows()), ids=str)
def test_every_outcome(row: Row, resource: Resource) -> None:
    looked, sent = looks(resource), posts(resource)
    cells = product(looked[row.first].items(), sent[row.post].items(), looked[row.then].items())
    found = {
        (one, two, three): played(
            resource, row.before, first, post, then, passes=row.then != "none in time"
        )
        for (one, first), (two, post), (three, then) in cells
    }

    assert found == dict.fromkeys(found, (row.asked, row.journal, row.end))


def test_no_answer_to_a_post_is_left_out() -> None:
    """With a write that is new, and with one whose look has found none."""
    resource = RESOURCES["a message"]
    expected = {"", *posts(resource)}
    for before in (Outcome.OPEN, Outcome.UNKNOWN, Outcome.ABSENT):
        assert {row.post for row in rows() if row.before is before} | {""} == expected
