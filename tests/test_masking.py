"""No address survives masking."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.identity.masking import without_addresses


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("HaPi/1.0", "HaPi/1.0"),
        ("App/1 (jane@doe.org) PHP/5", "App/1 … PHP/5"),
        ("App <mailto:jane@doe.org>", "App …"),
        ('"jane doe"@doe.org x', "… x"),
        ("jane%40doe.org", "…"),
        ("o'brien@doe.org, jane=x@doe.org", "… …"),
        ('6" screen', '6" screen'),
        ("", ""),
    ],
)
def test_words_that_hold_an_address_are_masked(text: str, masked: str) -> None:
    assert without_addresses(text) == masked


@given(st.text(), st.emails(), st.text())
def test_no_address_survives(before: str, address: str, after: str) -> None:
    assert address not in without_addresses(f"{before} {address} {after}")


@given(st.text().filter(lambda text: "@" not in text and "%40" not in text))
def test_other_text_stays_as_it_is(text: str) -> None:
    assert without_addresses(text) == text
