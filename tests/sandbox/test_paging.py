"""Paging as a law: whatever the page size, and whatever happens between, a walk is the list."""

import string

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from bridge.sandbox.messages import NewMessage
from bridge.sandbox.paging import (
    ABOVE_ALL,
    MAX_PER_PAGE,
    Collection,
    Cursor,
    Direction,
    Item,
    Page,
    Position,
    Window,
    envelope,
    read_cursor,
    read_page_request,
    write_cursor,
)
from bridge.sandbox.seeds import BOB, DRAFT_INVOICE_ID, LONG_INVOICE_ID
from bridge.sandbox.state import SandboxState, open_state

Client = TestClient[web.Request, web.Application]

WHOLE_LISTS = {
    Collection.MESSAGES: list(range(4504500, 4500000, -1)),
    Collection.PAYMENTS: list(range(4604500, 4600000, -1)),
}

ids = st.integers(min_value=1, max_value=2**63 - 1)
times = st.datetimes().map(lambda moment: f"{moment.isoformat(timespec='seconds')}Z")
cursors = st.builds(
    Cursor,
    st.sampled_from(Direction),
    st.sampled_from(Collection),
    ids,
    st.builds(Position, created_at=times, id=ids),
)


def _older(page: Page[Item], limit: int) -> Window | None:
    if not page.has_older:
        return None
    return Window(Direction.OLDER, Position.of(page.items[-1]), 0, limit, "")


async def _walk(state: SandboxState, invoice_id: int, per_page: int) -> list[int]:
    found: list[int] = []
    window: Window | None = Window(Direction.OLDER, ABOVE_ALL, 0, per_page, "")
    while window is not None:
        page = await state.messages(invoice_id, window)
        assert len(page.items) <= per_page
        found.extend(message.id for message in page.items)
        window = _older(page, per_page)
    return found


# The list is only read, so every example may use the one sandbox.
@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    collection=st.sampled_from(Collection),
    per_page=st.integers(min_value=300, max_value=MAX_PER_PAGE),
)
async def test_following_next_is_the_whole_list_in_order(
    client: Client, collection: Collection, per_page: int
) -> None:
    found: list[int] = []
    link: str | None = f"/v2/invoices/{LONG_INVOICE_ID}/{collection}?per_page={per_page}"
    while link is not None:
        answer = await (await client.get(URL(link).relative() if found else link)).json()
        found.extend(item["id"] for item in answer[f"invoice_{collection}"])
        link = answer["links"]["next"]
    assert found == WHOLE_LISTS[collection]


@settings(max_examples=20, deadline=None)
@given(
    # Seconds repeat, so that pages end between messages of the same time.
    seconds=st.lists(st.integers(min_value=0, max_value=5), max_size=30),
    per_page=st.integers(min_value=1, max_value=35),
)
async def test_any_page_size_walks_any_list(seconds: list[int], per_page: int) -> None:
    async with open_state(":memory:") as state:
        created = [
            await state.create_message(
                DRAFT_INVOICE_ID,
                NewMessage(send_me_a_copy=True),
                sender=BOB,
                now=f"2020-01-01T00:00:0{second}Z",
            )
            for second in seconds
        ]
        in_order = sorted(created, key=Position.of, reverse=True)
        found = await _walk(state, DRAFT_INVOICE_ID, per_page)
        assert found == [message.id for message in in_order]


@settings(max_examples=20, deadline=None)
@given(
    changes=st.lists(st.integers(min_value=27835324, max_value=27835343) | st.none(), max_size=20),
    per_page=st.integers(min_value=1, max_value=7),
)
async def test_a_walk_answers_once_each_message_that_stays(
    changes: list[int | None], per_page: int
) -> None:
    new = NewMessage(send_me_a_copy=True)
    async with open_state(":memory:") as state:
        kept = {
            (
                await state.create_message(
                    DRAFT_INVOICE_ID, new, sender=BOB, now=f"2020-01-01T00:00:{n // 2:02}Z"
                )
            ).id
            for n in range(20)
        }
        found: list[int] = []
        window: Window | None = Window(Direction.OLDER, ABOVE_ALL, 0, per_page, "")
        while window is not None:
            page = await state.messages(DRAFT_INVOICE_ID, window)
            found.extend(message.id for message in page.items)
            window = _older(page, per_page)
            change = changes.pop() if changes else None
            if change in kept:
                kept.remove(change)
                await state.delete_message(DRAFT_INVOICE_ID, change)
            else:
                await state.create_message(
                    DRAFT_INVOICE_ID, new, sender=BOB, now="2020-01-02T00:00:00Z"
                )
        assert len(found) == len(set(found))
        assert kept <= set(found)
        assert found == sorted(found, reverse=True)


@settings(deadline=None)
@given(cursors)
def test_a_cursor_is_read_as_it_was_written(cursor: Cursor) -> None:
    text = write_cursor(cursor)
    assert read_cursor(text) == cursor
    assert set(text) <= set(f"{string.ascii_letters}{string.digits}-_")


@settings(deadline=None)
@given(cursors, st.data())
def test_a_cursor_with_one_character_changed_is_refused(
    cursor: Cursor, data: st.DataObject
) -> None:
    text = write_cursor(cursor)
    place = data.draw(st.integers(min_value=0, max_value=len(text) - 1))
    other = data.draw(st.characters().filter(lambda character: character != text[place]))
    with pytest.raises(ValueError, match=r"."):
        read_cursor(f"{text[:place]}{other}{text[place + 1 :]}")


@settings(deadline=None)
@given(
    collection=st.sampled_from(Collection),
    total=st.integers(min_value=0, max_value=10_000),
    per_page=st.integers(min_value=1, max_value=2000),
)
def test_the_pages_of_an_envelope_hold_all_entries(
    collection: Collection, total: int, per_page: int
) -> None:
    request = read_page_request(collection, 1, {"per_page": str(per_page)})
    around = envelope(request, Page([], total, has_newer=False, has_older=False), "http://host/")
    pages = around["total_pages"]
    assert pages * per_page >= total
    assert (pages - 1) * per_page < max(total, 1)
    assert around["next_page"] == (2 if total > per_page else None)
