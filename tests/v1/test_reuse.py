"""Reuse of translations: the same for the same, and never more than fits."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.resources.invoice_messages import MESSAGES
from bridge.v1.dialects import Dialect
from bridge.v1.errors import InvalidAnswer
from bridge.v1.notes import NoteCode
from bridge.v1.reuse import OVERHEAD, SHARE, Reuse
from bridge.v1.wire import V1Request
from bridge.v2.errors import UpstreamFault
from tests.support.upstream import message, page

LARGE = 2**24


def call(reuse: Reuse | None, dialect: Dialect = Dialect.CLASSIC, invoice_id: int = 7) -> V1Request:
    return V1Request(path="", ids={"invoice_id": invoice_id}, dialect=dialect, reuse=reuse)


def body(*messages: dict[str, Any], following: str | None = None) -> bytes:
    return json.dumps(page(*messages, following=following)).encode()


class TestWhatIsTheSame:
    def test_an_unchanged_page_is_not_translated_again(self) -> None:
        reuse = Reuse(LARGE)

        first = MESSAGES.translate(body(message(), following="?cursor=a"), call(reuse))
        again = MESSAGES.translate(body(message(), following="?cursor=a"), call(reuse))

        assert again.parts[0] is first.parts[0]
        assert again.next == "?cursor=a"
        assert len(reuse._entries) == 1

    @pytest.mark.parametrize(
        ("other", "data"),
        [
            (call(None, Dialect.FINAL), body(message())),
            (call(None, invoice_id=8), body(message())),
            (call(None), body(message(id=1))),
            (call(None), body(message()) + b" "),
            (call(None), body(message(), following="?cursor=a")),
        ],
    )
    def test_other_bytes_ids_and_dialects_are_something_else(
        self, other: V1Request, data: bytes
    ) -> None:
        reuse = Reuse(LARGE)
        MESSAGES.translate(body(message()), call(reuse))

        told = MESSAGES.translate(data, call(reuse, other.dialect, other.ids["invoice_id"]))

        assert told == MESSAGES.translate(data, other)
        assert len(reuse._entries) == 2

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(Dialect), st.integers(1, 2), st.text(max_size=1), st.booleans()
            ),
            max_size=8,
        )
    )
    def test_whatever_came_before_the_answer_is_that_of_a_new_translation(
        self, calls: list[tuple[Dialect, int, str, bool]]
    ) -> None:
        reuse = Reuse(5 * SHARE * OVERHEAD)
        for dialect, invoice_id, text, with_copy in calls:
            data = body(message(body=text, send_me_a_copy=with_copy))
            kept, new = call(reuse, dialect, invoice_id), call(None, dialect, invoice_id)

            assert MESSAGES.translate(data, kept) == MESSAGES.translate(data, new)
            assert list(kept.notes) == list(new.notes)

    def test_its_notes_are_made_each_time(self) -> None:
        reuse = Reuse(LARGE)
        data = body(message(subject="\x00"))
        for _ in range(2):
            request = call(reuse, Dialect.FINAL)
            MESSAGES.translate(data, request)

            assert [(*note, count) for note, count in request.notes] == [
                (NoteCode.CHARACTER_REPLACED, "subject", 1),
                (NoteCode.FIELD_LOST, "attach_pdf", 1),
            ]

    @pytest.mark.parametrize(
        ("created_at", "error"),
        [("yesterday", UpstreamFault), ("0001-01-01T00:00:00+05:00", InvalidAnswer)],
    )
    def test_what_cannot_be_told_is_not_kept(self, created_at: str, error: type[Exception]) -> None:
        reuse = Reuse(LARGE)
        for _ in range(2):
            with pytest.raises(error):
                MESSAGES.translate(body(message(created_at=created_at)), call(reuse))

        assert len(reuse._entries) == 0


class TestBounds:
    def test_what_was_not_used_for_the_longest_time_gives_way(self) -> None:
        reuse = Reuse(SHARE * OVERHEAD)
        for key in "abcd":
            reuse.put(key, key, 0)
        assert reuse.get("a") == "a"

        reuse.put("e", "e", 0)

        assert [reuse.get(key) for key in "abcde"] == ["a", None, "c", "d", "e"]

    def test_what_takes_too_large_a_share_is_not_kept(self) -> None:
        reuse = Reuse(LARGE)

        reuse.put("fits", 1, LARGE // SHARE - OVERHEAD)
        reuse.put("does not", 2, LARGE // SHARE - OVERHEAD + 1)

        assert (reuse.get("fits"), reuse.get("does not")) == (1, None)

    def test_with_no_room_nothing_is_kept(self) -> None:
        reuse = Reuse(0)

        reuse.put("a", 1, 0)

        assert (reuse.get("a"), reuse._size) == (None, 0)

    def test_a_key_is_counted_once(self) -> None:
        reuse = Reuse(LARGE)

        reuse.put("a", 1, 10)
        reuse.put("a", 2, 20)

        assert (reuse.get("a"), reuse._size, len(reuse._entries)) == (2, OVERHEAD + 20, 1)

    @given(
        st.integers(0, 20 * OVERHEAD),
        st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3 * OVERHEAD))),
    )
    def test_it_never_takes_more_than_its_limit(
        self, limit: int, puts: list[tuple[int, int]]
    ) -> None:
        reuse = Reuse(limit)
        for key, size in puts:
            reuse.put(key, (key, size), size)

            assert reuse._size <= limit
            assert len(reuse._entries) * OVERHEAD <= reuse._size
            if (size + OVERHEAD) * SHARE <= limit:
                assert reuse.get(key) == (key, size)

    def test_threads_do_not_lose_count(self) -> None:
        reuse = Reuse(LARGE)

        def work(number: int) -> None:
            for each in range(500):
                reuse.put((number + each) % 50, each, each)
                reuse.get(each % 50)

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(work, range(4)))

        assert reuse._size == sum(size for _, size in reuse._entries.values())
