"""Invoice messages: v1 `/invoice/{id}/messages` served by v2 `/v2/invoices/{id}/messages`.

Read it with schemas/README.md, "Invoice messages", whose tables these are.
"""

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from bridge.resources.base import (
    BOOLEAN,
    DATE,
    DATETIME,
    ID,
    PATH_ID,
    STRING,
    Call,
    Entity,
    Field,
    Flow,
    Kind,
    Resource,
    V2Id,
)
from bridge.v1.dialects import Dialect
from bridge.v1.elements import ElementType, PerDialect, Remark
from bridge.v1.errors import NotFound
from bridge.v1.notes import NoteCode
from bridge.v1.recipients import Mailbox, write
from bridge.v1.values import datetime_text, read_datetime
from bridge.v1.wire import V1Request, V1Response
from bridge.v2.decoding import decode
from bridge.v2.paging import Pager
from bridge.v2.wire import V2Request, require_status


class Recipient(msgspec.Struct):
    """A recipient as v2 has it."""

    name: str | None = None
    email: str | None = None


def _recipient_list(value: Sequence[Recipient], remark: Remark, *, always_quote: bool) -> str:
    mailboxes = [Mailbox(recipient.email, recipient.name) for recipient in value if recipient.email]
    if len(mailboxes) < len(value):
        remark(NoteCode.RECIPIENT_DROPPED)
    return write(mailboxes, always_quote=always_quote)


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
    # The final dialect's list has the name of its items: clients came to depend on that bug.
    list_element=PerDialect(classic="invoice-messages", final="invoice-message"),
    collection="invoice_messages",
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


class _Identified(msgspec.Struct):
    id: V2Id


def list_messages(call: V1Request) -> Flow:
    """List the messages of an invoice, newest first (schemas/README.md, "List messages")."""
    parameters = {}
    if updated_since := call.query.get("updated_since"):
        parameters["updated_since"] = datetime_text(
            read_datetime(updated_since, "updated_since")
        )
    pager = _pager(call, parameters)
    messages: list[msgspec.Raw] = []
    while request := pager.next_request():
        messages += pager.read((yield request))
    return V1Response(200, MESSAGE.list(messages, call))


def show_message(call: V1Request) -> Flow:
    """Show one message (schemas/README.md, "Show a message").

    v2 has no such call, so the list is walked, up to the page that has the message.
    """
    wanted = call.ids["message_id"]
    pager = _pager(call, {})
    while request := pager.next_request():
        for message in pager.read((yield request)):
            if decode(message, _Identified).id == wanted:
                return V1Response(200, MESSAGE.item(message, call))
    raise NotFound(f"Invoice {call.ids['invoice_id']} has no message {wanted}.")


def delete_message(call: V1Request) -> Flow:
    """Delete a message (schemas/README.md, "Delete a message")."""
    path = f"{_messages_path(call)}/{call.ids['message_id']}"
    require_status((yield V2Request("DELETE", path)), 200)
    return V1Response(200)


def _messages_path(call: V1Request) -> str:
    return f"/invoices/{call.ids['invoice_id']}/messages"


def _pager(call: V1Request, parameters: dict[str, str]) -> Pager:
    return Pager(_messages_path(call), MESSAGE.collection, parameters, call.page_limit)


COLLECTIONS = (
    ("/invoice/{invoice_id}/messages", Dialect.CLASSIC),
    ("/invoices/{invoice_id}/messages", Dialect.FINAL),
)
MEMBERS = (
    *((f"{path}/{{message_id}}", dialect) for path, dialect in COLLECTIONS),
    # So spelled in v1's documentation of 2015.
    ("/invoices/{invoice_id}/message/{message_id}", Dialect.FINAL),
)


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
    calls=(
        *_calls("list", "GET", COLLECTIONS, list_messages),
        *_calls("show", "GET", MEMBERS, show_message),
        *_calls("delete", "DELETE", MEMBERS, delete_message),
    ),
)
