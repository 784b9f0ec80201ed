"""Sentences that quote others are cut."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.excerpt import LONGEST, excerpt
from bridge.v1.errors import InvalidAnswer, LegacyCallError
from bridge.v2.errors import UpstreamError


@given(st.text(), st.integers(1, 20))
def test_an_excerpt_is_the_text_or_its_beginning(text: str, length: int) -> None:
    cut = excerpt(text, length)

    assert len(cut) <= length
    assert cut == text or (cut.endswith("…") and text.startswith(cut[:-1]))
    assert len(text) > length or cut == text


def test_no_failure_says_more_than_that() -> None:
    long = "b" * 10**6

    for error in (LegacyCallError(long), UpstreamError(long), InvalidAnswer(long, long)):
        assert len(str(error)) == LONGEST
