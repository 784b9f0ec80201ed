"""Every outcome of a write, in one table (schemas/README.md, "Unknown outcomes").

The responses are fed by hand to the flow of each resource that writes. A second table says what a
look takes for a message that was sent (schemas/README.md, "What a look takes for it").
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby, product, repeat
from typing import Any, NamedTuple

import pytest

from bridge.resources.flow import Pause, Settle
from bridge.resources.invoice_messages import change_state, send_message
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


# What a look takes for it.

JANE, BOB = hello()["recipients"]
SENDER = {"name": "Bob Powell", "email": hello()["sent_by_email"]}
ARCHIVE = {"name": None, "email": "archive@doe.org"}


class Asked(NamedTuple):
    """What was asked for, and what v2 documents to have made of it."""

    flow: Any
    body: bytes
    made: dict[str, Any]


def mail(elements: str, **made: Any) -> Asked:
    body = f"<invoice-message>{elements}</invoice-message>".encode()
    return Asked(send_message, body, {"subject": "Invoice #1", "body": "Pay.", **made})


def event(event_type: str, elements: str = "") -> Asked:
    body = f"<invoice-message>{elements}</invoice-message>".encode() if elements else b""
    made: dict[str, Any] = {
        "event_type": event_type,
        "recipients": [],
        "subject": None,
        "body": None,
    }
    return Asked(partial(change_state, event_type), body, made)


TO_JANE = "<recipients>jane@doe.org</recipients>"
TO_ME = "<send-me-a-copy>true</send-me-a-copy>"
TEXTS = "<subject>Hello</subject><body>Pay me.</body>"

ASKED = {
    "a mail": Asked(send_message, HELLO, {}),
    "to Jane": mail(TO_JANE, recipients=[JANE]),
    "to Jane, a body": mail(f"{TO_JANE}<body>Pay me.</body>", recipients=[JANE], body="Pay me."),
    "to Jane, blank": mail(f"{TO_JANE}<subject> </subject><body/>", recipients=[JANE]),
    "to me": mail(TO_ME, recipients=[SENDER]),
    "to me, a subject": mail(f"{TO_ME}<subject>Hello</subject>", recipients=[SENDER],
                             subject="Hello"),
    "to me, all texts": mail(TO_ME + TEXTS, recipients=[SENDER], subject="Hello", body="Pay me."),
    "send": event("send"),
    "close": event("close"),
    "close, a body": event("close", "<body>Paid in cash</body>"),
}  # fmt: skip

DIFFERENCES: dict[tuple[str, str], tuple[dict[str, Any], bool]] = {
    ("a mail", "nothing"): ({}, True),
    # The event.
    ("a mail", "it has sent a draft"): ({"event_type": "send"}, True),
    ("a mail", "an event that mails nobody"): ({"event_type": "send", "recipients": []}, False),
    ("a mail", "another event"): ({"event_type": "close"}, False),
    ("to me", "it has sent a draft"): ({"event_type": "send"}, True),
    ("to me", "an event that mails nobody"): ({"event_type": "send", "recipients": []}, False),
    ("to me", "v2 does not list me"): ({"recipients": []}, True),
    ("send", "nothing"): ({}, True),
    ("send", "a mail that has sent a draft"): ({"recipients": [JANE]}, False),
    ("send", "a mail"): ({"event_type": None, "recipients": [JANE]}, False),
    ("send", "another event"): ({"event_type": "close"}, False),
    ("close", "a mail"): ({"event_type": None}, False),
    # The recipients.
    ("a mail", "order"): ({"recipients": [BOB, JANE]}, True),
    ("a mail", "names"): ({"recipients": [{"email": "jane@doe.org"}, BOB]}, True),
    ("a mail", "case of domains"): ({"recipients": [JANE, {"email": "bob@DOE.org"}]}, True),
    ("a mail", "case"): ({"recipients": [JANE, {"email": "Bob@doe.org"}]}, True),
    ("a mail", "blanks"): ({"recipients": [JANE, {"email": " bob@doe.org\r\n"}]}, True),
    ("a mail", "twice the same"): ({"recipients": [JANE, BOB, JANE]}, True),
    ("a mail", "nobody beside"): ({"recipients": [JANE, BOB, {"email": None}]}, True),
    ("a mail", "the sender's copy"): ({"recipients": [JANE, BOB, SENDER]}, True),
    ("a mail", "a standing copy"): ({"recipients": [JANE, BOB, ARCHIVE]}, True),
    ("a mail", "both copies"): ({"recipients": [SENDER, ARCHIVE, JANE, BOB]}, True),
    ("a mail", "one of them missing"): ({"recipients": [JANE]}, False),
    ("a mail", "one of them another"): ({"recipients": [JANE, ARCHIVE]}, False),
    ("a mail", "all of them others"): ({"recipients": [ARCHIVE, SENDER]}, False),
    ("a mail", "no recipients"): ({"recipients": []}, False),
    ("a mail", "null for recipients"): ({"recipients": None}, False),
    ("to Jane", "a standing copy"): ({"recipients": [JANE, ARCHIVE]}, False),
    ("to Jane, a body", "a standing copy"): ({"recipients": [JANE, ARCHIVE]}, True),
    ("to me", "nothing"): ({}, True),
    ("to me", "somebody else's mail"): ({"recipients": [JANE]}, False),
    ("to me", "somebody else's copy"): ({"recipients": [SENDER, JANE]}, False),
    ("to me, a subject", "somebody else's copy"): ({"recipients": [SENDER, JANE]}, False),
    ("to me, all texts", "a standing copy"): ({"recipients": [SENDER, ARCHIVE]}, True),
    ("close", "recipients"): ({"recipients": [JANE, ARCHIVE]}, True),
    # The texts.
    ("a mail", "blanks in the subject"): ({"subject": " Hello\n"}, True),
    ("a mail", "blanks in the body"): ({"body": "Dear Jane,\n\npay  me.\n"}, True),
    ("a mail", "case in the subject"): ({"subject": "hello"}, False),
    ("a mail", "more in the subject"): ({"subject": "Hello!"}, False),
    ("a mail", "no subject"): ({"subject": None}, False),
    ("a mail", "another body"): ({"body": "Dear Jane, pay"}, False),
    ("a mail", "no body"): ({"body": None}, False),
    ("to Jane", "texts that were not given"): ({"subject": "Any", "body": "Any"}, True),
    ("to Jane", "no texts"): ({"subject": None, "body": None}, True),
    ("to Jane, blank", "texts that were blank"): ({"subject": "Any", "body": "Any"}, True),
    ("close, a body", "a body that was kept"): ({"body": "Paid  in cash"}, True),
    ("close, a body", "a body that was not"): ({}, True),
    ("close, a body", "an empty body"): ({"body": ""}, True),
    ("close, a body", "another body"): ({"body": "Paid by card"}, False),
    ("close", "a body of its own"): ({"subject": "Closed", "body": "Closed"}, True),
    # The rest.
    ("a mail", "flags"): (
        {
            "attach_pdf": False,
            "send_me_a_copy": True,
            "thank_you": True,
            "reminder": True,
            "include_link_to_client_invoice": True,
        },
        True,
    ),
    ("a mail", "who has sent it"): ({"sent_by_email": "eve@doe.org", "sent_by": None}, True),
}
"""What was asked for, and what the message that is found differs by; whether it is taken for it."""


def found(asked: Asked, *messages: dict[str, Any]) -> list[int]:
    """Return the ids of what a look takes for it, the likeliest first."""
    writing = Writing(asked.flow, "/invoice/7/messages", asked.body)
    items = [RESOURCES["a message"].made(**{**asked.made, **each}) for each in messages]
    return list(writing.finds({"invoice_messages": items, "links": {"next": None}}))


@pytest.mark.parametrize(("asked", "differs_by"), DIFFERENCES, ids=str)
def test_what_a_message_may_differ_by(asked: str, differs_by: str) -> None:
    fields, taken = DIFFERENCES[asked, differs_by]

    assert found(ASKED[asked], fields) == ([MADE] if taken else [])


def test_of_equal_messages_the_oldest_is_the_likeliest() -> None:
    assert found(ASKED["a mail"], {"id": 3}, {"id": 2}, {"id": 1}) == [1, 2, 3]


def test_before_those_with_recipients_that_were_not_asked_for_comes_one_without() -> None:
    beside = {"recipients": [JANE, BOB, ARCHIVE]}
    two = {"recipients": [JANE, BOB, ARCHIVE, {"email": "eve@doe.org"}]}

    assert found(
        ASKED["a mail"],
        {"id": 5, **beside},
        {"id": 4, "recipients": [JANE, BOB, SENDER]},
        {"id": 3, **beside},
        {"id": 2, **two},
    ) == [4, 3, 5, 2]
