"""Invoice messages: v1 `/invoice/{id}/messages` served by v2 `/v2/invoices/{id}/messages`.

Read it with schemas/README.md, "Invoice messages", whose tables these are.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import chain
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec

from bridge.resources.collection_calls import create, delete_one, list_all, read, show_one
from bridge.resources.flow import Flow
from bridge.resources.look import Found, digest, given_digest, look_for
from bridge.resources.routes import INVOICES, Resource, below, calls
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
    Given,
    Kind,
    form,
    place,
)
from bridge.v1 import elements, recipients
from bridge.v1.dialects import Dialect
from bridge.v1.elements import ElementType, NotCanonical, PerDialect, Remark
from bridge.v1.errors import InvalidRequest
from bridge.v1.notes import NoteCode, Notes
from bridge.v1.problems import Problem
from bridge.v1.reader import SHORT_BODY
from bridge.v1.recipients import InvalidRecipient, Mailbox
from bridge.v1.values import boolean_text, datetime_text, read_boolean, read_datetime
from bridge.v1.wire import V1Request, V1Response
from bridge.v2.wire import V2Request, V2Response, require_status
from bridge.v2.writes import Write


class Recipient(msgspec.Struct, gc=False):
    """A recipient as v2 has it."""

    name: str | None = None
    email: str | None = None


def _as_read(always_quote: bool, value: Sequence[Recipient], remark: Remark) -> str:
    spelled = [
        recipients.write_mailbox(each.email or "", each.name, always_quote=always_quote)
        for each in value
    ]
    told = [each for each in spelled if each is not None]
    if len(told) < len(spelled):
        remark(NoteCode.RECIPIENT_DROPPED)
    return ", ".join(told)


def _as_told(always_quote: bool, value: Sequence[Recipient]) -> str:
    return ", ".join([_spelled(each.email, each.name, always_quote) for each in value])


@lru_cache(maxsize=1024)
def _spelled(address: str | None, name: str | None, always_quote: bool) -> str:
    """Spell one recipient: an invoice's messages go to the same few people."""
    if not address or len(address) + len(name or "") > WORTH_KEEPING:
        raise NotCanonical  # which is not kept
    spelled = recipients.write_mailbox(address, name, always_quote=always_quote)
    if spelled is None:
        raise NotCanonical
    return spelled


WORTH_KEEPING = 500
"""Characters of a recipient: an address has 254 at most."""


MOST_RECIPIENTS = 1000
"""Of one message of v2: four times as many as a request may have."""

RECIPIENTS = Kind(
    Annotated[list[Recipient], msgspec.Meta(max_length=MOST_RECIPIENTS)] | None,
    ElementType(
        attribute=PerDialect(None, None),
        text=PerDialect(classic=partial(_as_read, False), final=partial(_as_read, True)),
        as_told=PerDialect(classic=partial(_as_told, False), final=partial(_as_told, True)),
        markup=True,
    ),
)


MESSAGE = Entity(
    schema="invoice-messages",
    element="invoice-message",
    fields=(
        Field("id", "id", ID, place(classic=3, final=1)),
        Field("invoice_id", "invoice-id", PATH_ID, place(classic=4, final=2)),
        Field("send_me_a_copy", "send-me-a-copy", BOOLEAN, place(classic=5, final=3)),
        Field("body", "body", STRING, place(classic=1, final=4)),
        Field("created_at", "created-at", DATETIME, place(classic=2, final=5)),
        Field("sent_by", "sent-by", STRING, place(classic=6, final=6)),
        Field("sent_by_email", "sent-by-email", STRING, place(classic=7, final=7)),
        Field("thank_you", "thank-you", BOOLEAN, place(final=8)),
        Field("subject", "subject", STRING, place(final=9)),
        Field("include_link_to_client_invoice", "include-pay-pal-link", BOOLEAN, place(final=10)),
        Field("updated_at", "updated-at", DATETIME, place(final=11)),
        Field("sent_from_email", "sent-from-email", STRING, place(final=12)),
        Field("sent_from", "sent-from", STRING, place(final=13)),
        Field("send_reminder_on", "send-reminder-on", DATE, place(final=14)),
        Field("recipients", "full-recipient-list", RECIPIENTS, place(classic=8, final=15)),
    ),
    unsaid=("attach_pdf", "event_type", "reminder"),
)

MESSAGES = Collection(
    MESSAGE,
    # The final dialect's list has the name of its items: clients came to depend on that bug.
    root=PerDialect(classic="invoice-messages", final="invoice-message"),
    path="/invoices/{invoice_id}/messages",
    key="invoice_messages",
)

TEMPLATE = Entity(
    schema="invoice-message-templates",
    element="invoice-message",
    fields=(
        Field("invoice_id", "invoice-id", PATH_ID, place(classic=1, final=1)),
        Field("subject", "subject", STRING, place(classic=2, final=2)),
        Field("body", "body", STRING, place(classic=3, final=3)),
        Field("reminder", "reminder", BOOLEAN, place(classic=4, final=4)),
        Field("thank_you", "thank-you", BOOLEAN, place(classic=5, final=5)),
    ),
)
"""The subject and body that v2 would fill in; v1 had no such call."""


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

MESSAGE_FORM = form("invoice-messages/request", MESSAGE, GIVEN)
EVENT_GIVEN = GIVEN[:1]
"""An event has a body and nothing else."""
EVENT_FORM = form("invoice-messages/request", MESSAGE, EVENT_GIVEN)

UPDATED_SINCE = "updated_since"
TEMPLATE_FLAGS = ("reminder", "thank_you")
"""Parameters of a query, in v1 and in v2."""

MAX_RECIPIENTS = 250
MAX_RECIPIENTS_LENGTH = 32 * 1024
"""Characters. Together they bound what judging the addresses of one request can cost."""


def list_messages(call: V1Request) -> Flow:
    """List the messages of an invoice, newest first (schemas/README.md, "List messages")."""
    parameters = {}
    if updated_since := call.query.get(UPDATED_SINCE):
        since = read_datetime(updated_since, UPDATED_SINCE)
        parameters[UPDATED_SINCE] = datetime_text(since)
    elif UPDATED_SINCE in call.query:
        call.notes.add(NoteCode.PARAMETER_IGNORED, UPDATED_SINCE)
    return (yield from list_all(MESSAGES, call, parameters))


show_message = partial(show_one, MESSAGES)
delete_message = partial(delete_one, MESSAGES)


def show_template(call: V1Request) -> Flow:
    """Show the subject and body of a message to be (schemas/README.md, "Message template")."""
    parameters = {
        name: boolean_text(read_boolean(text, name))
        for name in TEMPLATE_FLAGS
        if (text := call.query.get(name)) is not None
    }
    response: V2Response = yield V2Request(
        "GET", f"{MESSAGES.path_of(call)}/new", urlencode(parameters)
    )
    require_status(response, 200)
    return V1Response(200, (TEMPLATE.write(response.body, call),))


def send_message(call: V1Request) -> Flow:
    """Create and send a message (schemas/README.md, "Send a message")."""
    values = yield from read(call, MESSAGE_FORM)
    return (yield from _create(call, _parameters(values, call.notes)))


def change_state(event_type: str, call: V1Request) -> Flow:
    """Change the state of an invoice by a message (schemas/README.md, "Change the state")."""
    values: Mapping[str, str | None] = {}
    if event_type == RE_OPEN:
        if call.body:
            call.notes.add(NoteCode.BODY_DROPPED, "document")
    elif len(call.body) > SHORT_BODY or call.body.strip():
        values = yield from read(call, EVENT_FORM)
    on_collection = msgspec.structs.replace(call, path=call.path.rpartition("/")[0])
    created = yield from _create(on_collection, {"event_type": event_type, **values})
    return msgspec.structs.replace(created, status=200)


def _create(call: V1Request, parameters: Mapping[str, object]) -> Flow:
    event = parameters.get("event_type")
    request = V2Request(
        "POST",
        MESSAGES.path_of(call),
        body=msgspec.json.encode(parameters),
        event=None if event is None else str(event),
    )
    write = Write(RESOURCE.name, request, likeness(parameters), sets_state=event is not None)
    return (yield from create(write, look, MESSAGE, call))


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
        raise InvalidRequest(
            f"{element} has more than {MAX_RECIPIENTS_LENGTH} characters.", Problem.BAD_RECIPIENT
        )
    try:
        found = recipients.read(text, limit=limit)
    except InvalidRecipient as invalid:
        raise InvalidRequest(f"{element}: {invalid}", Problem.BAD_RECIPIENT) from None
    for code in found.notes:
        notes.add(code, element)
    return found.mailboxes


class _Likeness(msgspec.Struct, frozen=True):
    """What is compared of a message, its texts and addresses as digests: a journal is kept long.

    A subject or body that was not given is None: v2 fills in its own. What may differ is said in
    schemas/README.md, "What a look takes for it".
    """

    event_type: str | None
    subject: str | None
    body: str | None
    addresses: frozenset[str]

    def surplus(self, message: "_Sent") -> int | None:
        addresses = _digests(each.email for each in message.recipients or ())
        # A mail that sends a draft also marks it as sent; who only marks it mails nobody.
        is_mail = message.event_type is None or (message.event_type == SEND and bool(addresses))
        if (None if is_mail else message.event_type) != self.event_type:
            return None
        if not is_mail:
            # v2 does not document that it keeps the body of an event.
            return 0 if self.body in {None, digest(message.body)} or not message.body else None
        if not (
            self.subject in {None, digest(message.subject)}
            and self.body in {None, digest(message.body)}
            and self.addresses <= addresses
        ):
            return None
        senders = _digests((message.sent_by_email, message.sent_from_email))
        others = addresses - self.addresses - senders
        if others and self.body is None:
            return None  # too little was asked for to tell it from somebody else's
        return len(others)


class _Sent(Found):
    """A message of v2, as far as it is compared."""

    event_type: str | None = None
    subject: str | None = None
    body: str | None = None
    recipients: list[Recipient] | None = None
    sent_by_email: str | None = None
    sent_from_email: str | None = None


def likeness(parameters: Mapping[str, Any]) -> bytes:
    """Return what tells whether a message may be what these v2 parameters made."""
    return msgspec.json.encode(
        _Likeness(
            event_type=parameters.get("event_type"),
            subject=given_digest(parameters.get("subject")),
            body=given_digest(parameters.get("body")),
            addresses=_digests(each["email"] for each in parameters.get("recipients", ())),
        )
    )


def _digests(addresses: Iterable[str | None]) -> frozenset[str]:
    return frozenset(digest(each.casefold()) for each in addresses if each)


look = look_for(MESSAGES.key, _Sent, _Likeness)


COLLECTIONS = below(INVOICES, "messages")
MEMBERS = (
    *below(COLLECTIONS, "{message_id}"),
    # So spelled in v1's documentation of 2015.
    ("/invoices/{invoice_id}/message/{message_id}", Dialect.FINAL),
)

RE_OPEN = "re-open"
SEND = "send"

EVENTS = {
    "mark_as_sent": SEND,
    "mark_as_closed": "close",
    "re_open": RE_OPEN,
    "mark_as_draft": "draft",
}
"""The last segment of a state change, and v2's name of the event."""


RESOURCE = Resource(
    name="invoice-messages",
    successor=MESSAGES.path,
    collection=MESSAGES,
    look=look,
    calls=(
        *calls("list", "GET", COLLECTIONS, list_messages, [UPDATED_SINCE], shows=MESSAGE),
        *calls("send", "POST", COLLECTIONS, send_message, shows=MESSAGE, takes=GIVEN),
        *calls(
            "template",
            "GET",
            below(COLLECTIONS, "new"),
            show_template,
            TEMPLATE_FLAGS,
            shows=TEMPLATE,
        ),
        *chain.from_iterable(
            calls(
                segment,
                "POST",
                below(COLLECTIONS, segment),
                partial(change_state, event_type),
                shows=MESSAGE,
                takes=() if event_type == RE_OPEN else EVENT_GIVEN,
            )
            for segment, event_type in EVENTS.items()
        ),
        *calls("show", "GET", MEMBERS, show_message, shows=MESSAGE),
        *calls("delete", "DELETE", MEMBERS, delete_message),
    ),
)
