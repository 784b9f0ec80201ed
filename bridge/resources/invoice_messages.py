"""Invoice messages: v1 `/invoice/{id}/messages` served by v2 `/v2/invoices/{id}/messages`.

Read it with schemas/README.md, "Invoice messages", whose tables these are.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import chain
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec

from bridge.resources.flow import Flow, Made, Steps, ask, write_once
from bridge.resources.routes import Call, Resource
from bridge.resources.table import (
    BOOLEAN,
    DATE,
    DATETIME,
    ID,
    PATH_ID,
    STRING,
    Collection,
    Entity,
    Field,
    Kind,
    V2Id,
)
from bridge.v1 import elements, recipients
from bridge.v1.dialects import Dialect
from bridge.v1.elements import ElementType, PerDialect, Remark
from bridge.v1.errors import InvalidAnswer, InvalidRequest, NotFound
from bridge.v1.notes import NoteCode, Notes
from bridge.v1.reader import Form, read_request
from bridge.v1.recipients import InvalidRecipient, Mailbox
from bridge.v1.values import boolean_text, datetime_text, read_boolean, read_datetime
from bridge.v1.wire import V1Request, V1Response
from bridge.v1.writer import WrittenDocument
from bridge.v2.decoding import decode
from bridge.v2.errors import OutcomeUnknown, UpstreamFault
from bridge.v2.paging import Pager
from bridge.v2.wire import V2Request, V2Response, require_status
from bridge.v2.writes import Intent, Write


class Recipient(msgspec.Struct):
    """A recipient as v2 has it."""

    name: str | None = None
    email: str | None = None


def _recipient_list(value: Sequence[Recipient], remark: Remark, *, always_quote: bool) -> str:
    mailboxes = [Mailbox(recipient.email, recipient.name) for recipient in value if recipient.email]
    if len(mailboxes) < len(value):
        remark(NoteCode.RECIPIENT_DROPPED)
    return recipients.write(mailboxes, always_quote=always_quote)


RECIPIENTS = Kind(
    list[Recipient] | None,
    ElementType(
        attribute=PerDialect(None, None),
        text=PerDialect(
            classic=partial(_recipient_list, always_quote=False),
            final=partial(_recipient_list, always_quote=True),
        ),
    ),
)


def _place(*, classic: int | None = None, final: int | None = None) -> PerDialect[int | None]:
    return PerDialect(classic, final)


MESSAGE = Entity(
    schema="invoice-messages",
    element="invoice-message",
    fields=(
        Field("id", "id", ID, _place(classic=3, final=1)),
        Field("invoice_id", "invoice-id", PATH_ID, _place(classic=4, final=2)),
        Field("send_me_a_copy", "send-me-a-copy", BOOLEAN, _place(classic=5, final=3)),
        Field("body", "body", STRING, _place(classic=1, final=4)),
        Field("created_at", "created-at", DATETIME, _place(classic=2, final=5)),
        Field("sent_by", "sent-by", STRING, _place(classic=6, final=6)),
        Field("sent_by_email", "sent-by-email", STRING, _place(classic=7, final=7)),
        Field("thank_you", "thank-you", BOOLEAN, _place(final=8)),
        Field("subject", "subject", STRING, _place(final=9)),
        Field("include_link_to_client_invoice", "include-pay-pal-link", BOOLEAN, _place(final=10)),
        Field("updated_at", "updated-at", DATETIME, _place(final=11)),
        Field("sent_from_email", "sent-from-email", STRING, _place(final=12)),
        Field("sent_from", "sent-from", STRING, _place(final=13)),
        Field("send_reminder_on", "send-reminder-on", DATE, _place(final=14)),
        Field("recipients", "full-recipient-list", RECIPIENTS, _place(classic=8, final=15)),
    ),
)

MESSAGES = Collection(
    MESSAGE,
    # The final dialect's list has the name of its items: clients came to depend on that bug.
    root=PerDialect(classic="invoice-messages", final="invoice-message"),
    key="invoice_messages",
)

TEMPLATE = Entity(
    schema="invoice-message-templates",
    element="invoice-message",
    fields=(
        Field("invoice_id", "invoice-id", PATH_ID, _place(classic=1, final=1)),
        Field("subject", "subject", STRING, _place(classic=2, final=2)),
        Field("body", "body", STRING, _place(classic=3, final=3)),
        Field("reminder", "reminder", BOOLEAN, _place(classic=4, final=4)),
        Field("thank_you", "thank-you", BOOLEAN, _place(classic=5, final=5)),
    ),
)
"""The subject and body that v2 would fill in; v1 had no such call."""


class Given(NamedTuple):
    """An element that a request may hold, and the v2 field it sets (None: it must not)."""

    element: str
    type: ElementType
    field: str | None


GIVEN = (
    Given("body", elements.STRING, "body"),
    Given("subject", elements.STRING, "subject"),
    Given("recipients", elements.STRING, "recipients"),
    Given("full-recipient-list", elements.STRING, "recipients"),
    Given("attach-pdf", elements.BOOLEAN, "attach_pdf"),
    Given("send-me-a-copy", elements.BOOLEAN, "send_me_a_copy"),
    # v2 ignores true, and false would clear the invoice's payment options, which v1 never did.
    Given("include-pay-pal-link", elements.BOOLEAN, None),
    Given("thank-you", elements.BOOLEAN, "thank_you"),
)

MESSAGE_FORM = Form(
    root="invoice-message",
    elements={given.element: given.type for given in GIVEN},
    schema="invoice-messages/request",
)
EVENT_FORM = Form(
    root="invoice-message",
    elements={"body": elements.STRING},
    schema="invoice-messages/request",
)

MAX_RECIPIENTS = 250
MAX_RECIPIENTS_LENGTH = 32 * 1024
"""Characters. Together they bound what judging the addresses of one request can cost."""


class _Identified(msgspec.Struct):
    id: V2Id


class _Created(NamedTuple):
    """A message that v2 has made, as it is to be told."""

    id: int
    document: WrittenDocument


def list_messages(call: V1Request) -> Flow:
    """List the messages of an invoice, newest first (schemas/README.md, "List messages")."""
    parameters = {}
    if updated_since := call.query.get("updated_since"):
        since = read_datetime(updated_since, "updated_since")
        parameters["updated_since"] = datetime_text(since)
    pager = _pager(call, parameters)
    messages: list[msgspec.Raw] = []
    while request := pager.next_request():
        messages += pager.read((yield from ask(request)))
    return V1Response(200, MESSAGES.document(messages, call))


def show_message(call: V1Request) -> Flow:
    """Show one message (schemas/README.md, "Show a message").

    v2 has no such call, so the list is walked, up to the page that has the message.
    """
    wanted = call.ids["message_id"]
    pager = _pager(call, {})
    while request := pager.next_request():
        for message in pager.read((yield from ask(request))):
            if decode(message, _Identified).id == wanted:
                return V1Response(200, MESSAGE.item(message, call))
    raise NotFound(f"Invoice {call.ids['invoice_id']} has no message {wanted}.")


def delete_message(call: V1Request) -> Flow:
    """Delete a message (schemas/README.md, "Delete a message")."""
    path = f"{_messages_path(call)}/{call.ids['message_id']}"
    response = yield from ask(V2Request("DELETE", path))
    if not (response.repeated and response.status == 404):
        require_status(response, 200)
        if response.body.strip():
            # v2 has nothing to say to this. A web page is somebody else's, and deletes nothing.
            decode(response.body, object)
    return V1Response(200)


def show_template(call: V1Request) -> Flow:
    """Show the subject and body of a message to be (schemas/README.md, "Message template")."""
    parameters = {
        name: boolean_text(read_boolean(text, name))
        for name in ("reminder", "thank_you")
        if (text := call.query.get(name)) is not None
    }
    request = V2Request("GET", f"{_messages_path(call)}/new", urlencode(parameters))
    response = yield from ask(request)
    require_status(response, 200)
    return V1Response(200, TEMPLATE.item(response.body, call))


def send_message(call: V1Request) -> Flow:
    """Create and send a message (schemas/README.md, "Send a message")."""
    values = read_request(call.body, call.content_type, MESSAGE_FORM, call.notes)
    created = yield from _create(call, _parameters(values, call.notes))
    return V1Response(201, created.document, {"Location": f"{call.path}/{created.id}"})


def change_state(event_type: str, call: V1Request) -> Flow:
    """Change the state of an invoice by a message (schemas/README.md, "Change the state")."""
    values: Mapping[str, str | None] = {}
    if event_type == RE_OPEN:
        if call.body:
            call.notes.add(NoteCode.BODY_DROPPED, "document")
    elif call.body.strip():
        values = read_request(call.body, call.content_type, EVENT_FORM, call.notes)
    created = yield from _create(call, {"event_type": event_type, **values})
    collection = call.path.rpartition("/")[0]
    return V1Response(200, created.document, {"Location": f"{collection}/{created.id}"})


def _create(call: V1Request, parameters: Mapping[str, object]) -> Steps[_Created]:
    """Post a message to v2 and return the one that it made.

    Raises:
        OutcomeUnknown: it may have made one, or has made one that cannot be told.
    """
    request = V2Request("POST", _messages_path(call), body=msgspec.json.encode(parameters))
    sets_state = "event_type" in parameters
    write = Write(RESOURCE.name, request, likeness(parameters), sets_state=sets_state)
    made = yield from write_once(write, look, _read_made)
    try:
        # All of the way to the XML, for here it can still be told what a failure means.
        parts = tuple(MESSAGE.item(made.data, call).parts(call.notes))
    except (UpstreamFault, InvalidAnswer) as unreadable:
        raise OutcomeUnknown(f"v2 has made message {made.id}, but: {unreadable}") from unreadable
    return _Created(made.id, WrittenDocument(parts))


def _read_made(response: V2Response) -> Made:
    return Made(decode(response.body, _Identified).id, response.body)


def _parameters(values: Mapping[str, str | None], notes: Notes) -> dict[str, object]:
    """Return the v2 parameters of a request: only what the client gave, null where it gave null."""
    parameters: dict[str, object] = {}
    lists: list[tuple[Mailbox, ...]] = []
    for given in GIVEN:
        if given.element not in values:
            continue
        text = values[given.element]
        if given.field is None:
            notes.add(NoteCode.ELEMENT_DROPPED, given.element)
        elif given.field == "recipients":
            known = sum(len(each) for each in lists)
            lists.append(_mailboxes(text or "", given.element, MAX_RECIPIENTS - known, notes))
        elif given.type is elements.BOOLEAN and text is not None:
            parameters[given.field] = text == "true"
        else:
            parameters[given.field] = text
    if lists:
        parameters["recipients"] = [
            {"email": mailbox.address, **({"name": mailbox.name} if mailbox.name else {})}
            for mailbox in recipients.deduplicate(chain.from_iterable(lists))
        ]
    return parameters


def _mailboxes(text: str, element: str, limit: int, notes: Notes) -> tuple[Mailbox, ...]:
    if len(text) > MAX_RECIPIENTS_LENGTH:
        raise InvalidRequest(f"{element} has more than {MAX_RECIPIENTS_LENGTH} characters.")
    try:
        found = recipients.read(text, limit=limit)
    except InvalidRecipient as invalid:
        raise InvalidRequest(f"{element}: {invalid}") from None
    for code in found.notes:
        notes.add(code, element)
    return found.mailboxes


class _Likeness(msgspec.Struct, frozen=True):
    """What is compared of a message, its texts and addresses as digests: a journal is kept long.

    A subject or body that was not given is None: v2 fills in its own.
    """

    event_type: str | None
    subject: str | None
    body: str | None
    addresses: frozenset[str]

    def fits(self, message: "_Sent") -> bool:
        senders = {_digest(each) for each in (message.sent_by_email, message.sent_from_email)}
        return (
            message.event_type == self.event_type
            and self.subject in {None, _digest(message.subject)}
            and self.body in {None, _digest(message.body)}
            # `send_me_a_copy`, or a habit of the account, adds the sender.
            and _addresses(message.recipients) - senders == self.addresses - senders
        )


class _Sent(msgspec.Struct):
    """A message of v2, as far as it is compared."""

    id: V2Id
    created_at: datetime
    event_type: str | None = None
    subject: str | None = None
    body: str | None = None
    recipients: list[Recipient] | None = None
    sent_by_email: str | None = None
    sent_from_email: str | None = None


def likeness(parameters: Mapping[str, Any]) -> bytes:
    """Return what tells whether a message may be what these v2 parameters made."""
    given = {name: parameters.get(name) for name in ("subject", "body")}
    return msgspec.json.encode(
        _Likeness(
            parameters.get("event_type"),
            **{name: None if text is None else _digest(text) for name, text in given.items()},
            addresses=_addresses(
                [
                    Recipient(each.get("name"), each["email"])
                    for each in parameters.get("recipients", ())
                ]
            ),
        )
    )


def _read_likeness(intent: Intent) -> _Likeness:
    try:
        return msgspec.json.decode(intent.likeness, type=_Likeness)
    except ValueError:
        # Written by another version, perhaps. A look that cannot compare finds out nothing.
        raise UpstreamFault("the journal does not say what to look for") from None


def _digest(text: str | None) -> str:
    # White space is compared by none: what carries a text may fold it.
    return hashlib.sha256(" ".join((text or "").split()).encode("utf-8", "replace")).hexdigest()[
        :32
    ]


def _addresses(recipients: Sequence[Recipient] | None) -> frozenset[str]:
    return frozenset(_digest((each.email or "").casefold()) for each in recipients or ())


def look(intent: Intent) -> Steps[Sequence[Made]]:
    """Find the messages that a write may have made (schemas/README.md, "Unknown outcomes").

    Oldest first: of several, that is the likeliest.
    """
    like = _read_likeness(intent)
    pager = Pager(intent.path, MESSAGES.key, {"per_page": str(LOOK_PER_PAGE)}, LOOK_PAGES)
    found: list[Made] = []
    while request := pager.next_request():
        response = yield from ask(replace(request, settles=True))
        since = _began(intent, response)
        for data in pager.read(response):
            message = decode(data, _Sent)
            if intent.made_id is not None:
                if message.id == intent.made_id:
                    return [Made(message.id, data)]
            elif _utc(message.created_at) < since:
                return found[::-1]
            elif like.fits(message):
                found.append(Made(message.id, data))
    return found[::-1]


LOOK_PER_PAGE = 100
LOOK_PAGES = 1000
"""v2 lists the newest first, so that a look is over with the first page, most of the time."""

LEEWAY = timedelta(seconds=30)
"""By how much the clocks of v2's own machines may differ, and fractions that are cut, together."""

_MOST_SKEW = timedelta(days=1)
"""A clock that is further off is no clock."""


def _began(intent: Intent, response: V2Response) -> datetime:
    """Return when the write was intended, by v2's clock as its `Date` tells it, less the leeway.

    Raises:
        UpstreamFault: that cannot be said, and with it not what is new.
    """
    skew = _date(response) - response.received_at
    if abs(skew) > _MOST_SKEW:
        raise UpstreamFault("v2's clock and the bridge's are more than a day apart")
    return intent.intended_at + skew - LEEWAY


def _date(response: V2Response) -> datetime:
    try:
        return _utc(parsedate_to_datetime(response.headers.get("Date", "")))
    except (ValueError, OverflowError):  # the latter where a number in it is out of any range
        raise UpstreamFault("v2 does not say what time it is") from None


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _messages_path(call: V1Request) -> str:
    return f"/invoices/{call.ids['invoice_id']}/messages"


def _pager(call: V1Request, parameters: dict[str, str]) -> Pager:
    return Pager(_messages_path(call), MESSAGES.key, parameters, call.page_limit)


COLLECTIONS = (
    ("/invoice/{invoice_id}/messages", Dialect.CLASSIC),
    ("/invoices/{invoice_id}/messages", Dialect.FINAL),
)
MEMBERS = (
    *((f"{path}/{{message_id}}", dialect) for path, dialect in COLLECTIONS),
    # So spelled in v1's documentation of 2015.
    ("/invoices/{invoice_id}/message/{message_id}", Dialect.FINAL),
)

RE_OPEN = "re-open"

EVENTS = {
    "mark_as_sent": "send",
    "mark_as_closed": "close",
    "re_open": RE_OPEN,
    "mark_as_draft": "draft",
}
"""The last segment of a state change, and v2's name of the event."""


def _below(segment: str) -> tuple[tuple[str, Dialect], ...]:
    return tuple((f"{path}/{segment}", dialect) for path, dialect in COLLECTIONS)


def _calls(
    name: str,
    method: str,
    paths: Sequence[tuple[str, Dialect]],
    flow: Callable[[V1Request], Flow],
) -> tuple[Call, ...]:
    return tuple(Call(name, method, path, dialect, flow) for path, dialect in paths)


RESOURCE = Resource(
    name="invoice-messages",
    successor="/invoices/{invoice_id}/messages",
    look=look,
    calls=(
        *_calls("list", "GET", COLLECTIONS, list_messages),
        *_calls("send", "POST", COLLECTIONS, send_message),
        *_calls("template", "GET", _below("new"), show_template),
        *chain.from_iterable(
            _calls(segment, "POST", _below(segment), partial(change_state, event_type))
            for segment, event_type in EVENTS.items()
        ),
        *_calls("show", "GET", MEMBERS, show_message),
        *_calls("delete", "DELETE", MEMBERS, delete_message),
    ),
)
