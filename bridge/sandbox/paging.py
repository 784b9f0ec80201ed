"""v2's paging: the parameters of a list call, the cursor, the envelope. Pure; SQL is in tables.py.

Rules are the v2 documentation's ("List all … for an invoice") and its pagination guide's.
"""

import base64
import binascii
import re
import zlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar
from urllib.parse import urlencode

import msgspec

from bridge.sandbox.errors import UnprocessableError
from bridge.sandbox.times import read_lower_bound

MAX_PER_PAGE = 2000

# SQLite's largest integer; a page number times MAX_PER_PAGE has to stay below it.
_MAX_PAGE = (2**63 - 1) // MAX_PER_PAGE
_DIGITS = re.compile(r"[0-9]{1,19}")


class Collection(StrEnum):
    """What an invoice has a list of, as the last part of the list's path says it."""

    MESSAGES = "messages"
    PAYMENTS = "payments"


class Item(Protocol):
    """As much of a message or a payment as paging needs; `created_at` sorts as text."""

    @property
    def id(self) -> int:
        """Its id, unique in its collection."""

    @property
    def created_at(self) -> str:
        """When it was created."""


class Direction(StrEnum):
    """Which way a page lies from a place in the list, which runs from newest to oldest."""

    OLDER = "older"
    NEWER = "newer"


class Position(NamedTuple):
    """An item's place in the list: creation time, then id. It outlives the item."""

    created_at: str
    id: int

    @classmethod
    def of(cls, item: Item) -> Self:
        """Return where `item` stands."""
        return cls(item.created_at, item.id)


ABOVE_ALL = Position("9999-12-31T23:59:59Z", 2**63 - 1)


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """The next or previous page, as the items beyond a place and not as a count of items.

    So whatever is created or deleted between two pages, no item is answered twice, and none
    that stays is left out.
    """

    direction: Direction
    collection: Collection
    invoice_id: int
    start: Position


class Window(NamedTuple):
    """Which items of a list make a page, in the store's terms.

    `updated_since` is in v2's form, or empty for no lower bound.
    """

    direction: Direction
    start: Position
    offset: int
    limit: int
    updated_since: str


class PageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A list call's parameters; `page` is null on a call by cursor."""

    collection: Collection
    invoice_id: int
    per_page: int
    page: int | None
    cursor: Cursor | None
    updated_since: str

    @property
    def window(self) -> Window:
        """Say the same in the store's terms: a page by number is counted from the newest."""
        if self.cursor is not None:
            direction, start, offset = self.cursor.direction, self.cursor.start, 0
        else:
            direction, start = Direction.OLDER, ABOVE_ALL
            offset = ((self.page or 1) - 1) * self.per_page
        return Window(direction, start, offset, self.per_page, self.updated_since)


_Item_co = TypeVar("_Item_co", bound=Item, covariant=True)


class Page(NamedTuple, Generic[_Item_co]):
    """What the store found: the items newest first, and what lies on either side of them."""

    items: Sequence[_Item_co]
    total_entries: int
    has_newer: bool
    has_older: bool


def read_page_request(
    collection: Collection, invoice_id: int, query: Mapping[str, str]
) -> PageRequest:
    """Read a list call's query. Given both a cursor and a page, the cursor wins, as in the guide.

    Raises:
        UnprocessableError: a `per_page` outside 1 to 2000, a `page` below 1, an `updated_since`
            that is no ISO 8601 time, a cursor that this list did not hand out.
    """
    per_page = _read_count("per_page", query.get("per_page"), MAX_PER_PAGE, MAX_PER_PAGE)
    page = _read_count("page", query.get("page"), 1, _MAX_PAGE)
    updated_since = _read_updated_since(query.get("updated_since"))
    cursor = None
    if "cursor" in query:
        cursor = _read_cursor(query["cursor"], collection, invoice_id)
    return PageRequest(
        collection=collection,
        invoice_id=invoice_id,
        per_page=per_page,
        page=page if cursor is None else None,
        cursor=cursor,
        updated_since=updated_since,
    )


def envelope(request: PageRequest, page: Page[Item], url: str) -> dict[str, Any]:
    """Build what surrounds the items; `url` is the list's own, absolute and without a query.

    `next` and `previous` are always links by cursor, also from a page asked for by number. The
    numbers `page`, `next_page` and `previous_page` are null on a page by cursor. An empty list
    has one page. `first` and `last` are links by number, as the v2 documentation prints them
    (but for the `/api` that it prints in `first` only).
    """
    total_pages = max(1, -(-page.total_entries // request.per_page))

    def link(**place: int | str) -> str:
        query: dict[str, int | str] = {**place, "per_page": request.per_page}
        if request.updated_since:
            query["updated_since"] = request.updated_since
        return f"{url}?{urlencode(query)}"

    def link_beyond(item: Item, direction: Direction) -> str:
        place = Position.of(item)
        cursor = Cursor(direction, request.collection, request.invoice_id, place)
        return link(cursor=write_cursor(cursor))

    number = request.page
    return {
        "per_page": request.per_page,
        "total_pages": total_pages,
        "total_entries": page.total_entries,
        "next_page": number + 1 if number and number < total_pages else None,
        "previous_page": number - 1 if number and number > 1 else None,
        "page": number,
        "links": {
            "first": link(page=1),
            "next": link_beyond(page.items[-1], Direction.OLDER) if page.has_older else None,
            "previous": link_beyond(page.items[0], Direction.NEWER) if page.has_newer else None,
            "last": link(page=total_pages),
        },
    }


def write_cursor(cursor: Cursor) -> str:
    """Write a cursor as base64url, with a checksum in front.

    The checksum guards nothing secret: it makes a damaged cursor an error and not another page.
    """
    place = msgspec.json.encode(cursor)
    return base64.urlsafe_b64encode(_checksum(place) + place).rstrip(b"=").decode()


def read_cursor(text: str) -> Cursor:
    """Read what `write_cursor` wrote.

    Raises:
        ValueError: it wrote no such text.
    """
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("not base64url") from error
    checksum, place = raw[:4], raw[4:]
    if checksum != _checksum(place):
        raise ValueError("wrong checksum")
    cursor = msgspec.json.decode(place, type=Cursor)
    # Base64 decoding skips stray characters and spare bits, so several texts can mean one cursor.
    if write_cursor(cursor) != text:
        raise ValueError("not as written")
    return cursor


def _checksum(place: bytes) -> bytes:
    return zlib.crc32(place).to_bytes(4, "big")


def _read_cursor(text: str, collection: Collection, invoice_id: int) -> Cursor:
    try:
        cursor = read_cursor(text)
    except ValueError as error:
        raise UnprocessableError("cursor is invalid") from error
    if (cursor.collection, cursor.invoice_id) != (collection, invoice_id):
        raise UnprocessableError("cursor belongs to another list")
    return cursor


def _read_updated_since(text: str | None) -> str:
    if text is None:
        return ""
    try:
        return read_lower_bound(text)
    except ValueError as error:
        raise UnprocessableError(f"updated_since is not an ISO 8601 time: {text!r}") from error


def _read_count(name: str, text: str | None, default: int, largest: int) -> int:
    if text is None:
        return default
    if _DIGITS.fullmatch(text) is None or not 1 <= int(text) <= largest:
        raise UnprocessableError(f"{name} must be an integer between 1 and {largest}: {text!r}")
    return int(text)
