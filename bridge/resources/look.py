"""Settling a write by looking: what of a v2 list is newer than it, and like it.

The rules are those of schemas/README.md, "Unknown outcomes". What makes two things alike is their
resource's business.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, Protocol

import msgspec

from bridge.resources.flow import Look, Made, Steps
from bridge.resources.table import Identified
from bridge.v2.clock import GOOD_FOR, MOST_SKEW
from bridge.v2.decoding import decode
from bridge.v2.errors import UpstreamFault
from bridge.v2.paging import Pager
from bridge.v2.retry_after import read_http_date
from bridge.v2.wire import V2Response
from bridge.v2.writes import Intent

LOOK_PER_PAGE = 100
LOOK_PAGES = 1000
"""v2 lists the newest first, so that a look is over with the first page, most of the time."""

LEEWAY = timedelta(seconds=30)
"""By how much the clocks of v2's own machines may differ, and fractions that are cut, together."""


class Likeness(Protocol):
    """What is compared of what a write makes; a `msgspec.Struct`, as the journal keeps it."""

    def surplus(self, found: Any, /) -> int | None:  # noqa: ANN401 - each resource has its own
        """Return how much more than was asked for `found` has; None: it is something else.

        Of several, the one with the least is the likeliest.
        """


class Found(Identified):
    """A thing of v2, as far as it is compared."""

    created_at: datetime


def look_for(collection: str, found: type[Found], likeness: type[Likeness]) -> Look:
    """Return the look for what writes to a v2 list have made.

    The likeliest first: what has the least surplus, and of equals the oldest.

    Args:
        collection: the key under which the list's pages have their items.
        found: the type of an item.
        likeness: the type of what the journal keeps of a write.
    """

    def look(intent: Intent) -> Steps[Sequence[Made]]:
        try:
            like = msgspec.json.decode(intent.likeness, type=likeness)
        except ValueError:
            # Written by another version, perhaps. A look that cannot compare finds out nothing.
            raise UpstreamFault("the journal does not say what to look for") from None
        pager = Pager(intent.path, {}, LOOK_PAGES, per_page=LOOK_PER_PAGE, settles=True)
        alike: list[tuple[int, Made]] = []
        while request := pager.next_request():
            response: V2Response = yield request
            since = _began(intent, response)
            for data in pager.read(response, collection, msgspec.Raw):
                item = decode(data, found)
                if intent.made_id is not None:
                    if item.id == intent.made_id:
                        return [Made(item.id, data)]
                elif _utc(item.created_at) < since:
                    return _likeliest_first(alike)
                elif (surplus := like.surplus(item)) is not None:
                    alike.append((surplus, Made(item.id, data)))
        return _likeliest_first(alike)

    return look


def _likeliest_first(alike: list[tuple[int, Made]]) -> list[Made]:
    """Sort what is newest first, each with its surplus."""
    alike.reverse()
    alike.sort(key=itemgetter(0))  # equal ones stay as they are: oldest first
    return [made for _, made in alike]


def digest(text: str | None) -> str:
    """Return what is kept of a text to compare it by: a journal is kept long.

    White space is compared by none, for what carries a text may fold it; null is as good as empty.
    """
    words = " ".join((text or "").split())
    return hashlib.sha256(words.encode("utf-8", "replace")).hexdigest()[:32]


def given_digest(text: str | None) -> str | None:
    """Return the digest of a text; None if it was not given, or blank: v2 may fill in its own."""
    return digest(text) if text and text.strip() else None


def _began(intent: Intent, response: V2Response) -> datetime:
    """Return when the write was intended, by v2's clock, less the leeway.

    That is as long ago, by the look's own `Date`, as seconds have been counted since; what was
    known of v2's clock before counts only after a restart.

    Raises:
        UpstreamFault: that cannot be said, and with it not what is new.
    """
    date = read_http_date(response.headers.get("Date", ""))
    if date is not None and abs(date - response.received_at) > MOST_SKEW:
        date = None
    if date is not None and intent.steady is not None:
        since = timedelta(seconds=response.came_at - intent.steady)
        if since <= GOOD_FOR:
            return date - since - LEEWAY
    if intent.by_v2:
        return intent.intended_at - LEEWAY
    if date is not None:
        return intent.intended_at + (date - response.received_at) - LEEWAY
    raise UpstreamFault("v2 does not say what time it is, or its clock and ours are a day apart")


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
