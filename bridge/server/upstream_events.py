"""The v2 calls of a legacy call as its event tells them: each with its route and its page."""

import re
from collections.abc import Sequence
from functools import lru_cache

from bridge.record.log.events import UpstreamCallEvent
from bridge.upstream.calls import UpstreamCall

_ID = re.compile(r"([a-z_]+?)(ies|s)?/[0-9]+(?![^/])")


def events_of(calls: Sequence[UpstreamCall]) -> tuple[UpstreamCallEvent, ...]:
    """Return an event for each try to call v2, in their order."""
    if len(calls) == 1:
        return (_event(calls[0], 1),)
    pages: dict[str, dict[str, int]] = {}
    """Of each list, by their queries: whoever tries again asks for the same."""
    events = []
    for call in calls:
        known = pages.setdefault(call.path, {})
        events.append(_event(call, known.setdefault(call.query, len(known) + 1)))
    return tuple(events)


def _event(call: UpstreamCall, page: int) -> UpstreamCallEvent:
    return UpstreamCallEvent(
        call.method,
        call.path,
        route_of(call.path),
        call.status,
        call.milliseconds,
        call.error,
        call.shared,
        page if "page=" in call.query or "cursor=" in call.query else None,
        call.event,
    )


@lru_cache(maxsize=1024)
def route_of(path: str) -> str:
    """Return a path of v2 with a name for each id: `/invoices/{invoice_id}/messages`."""
    return _ID.sub(_named, path)


def _named(found: re.Match[str]) -> str:
    one, ending = found[1], found[2] or ""
    return f"{one}{ending}/{{{one}{'y' if ending == 'ies' else ''}_id}}"
