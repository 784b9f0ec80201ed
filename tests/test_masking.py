"""No address and no token survives masking, and nothing else is lost by it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.identity.masking import without_addresses, without_token, without_tokens
from bridge.secret import Secret


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
        ("Bob @ Acme, @home", "Bob @ Acme, @home"),
        ("", ""),
    ],
)
def test_words_that_hold_an_address_are_masked(text: str, masked: str) -> None:
    assert without_addresses(text) == masked


@given(st.text(), st.emails(), st.text())
def test_no_address_survives(before: str, address: str, after: str) -> None:
    assert address not in without_addresses(f"{before} {address} {after}")


@pytest.mark.parametrize(
    ("text", "token", "masked"),
    [
        ("Subject e is missing", "e", "Subject … is missing"),
        ("Token a.b: a.b, 'a.b', axb", "a.b", "Token …: …, '…', axb"),
        ("xa.b a.bx", "a.b", "xa.b a.bx"),
        ("x4711.pt.0123456789abcdefx", "4711.pt.0123456789abcdef", "x…x"),
    ],
)
def test_a_short_token_takes_no_other_word_along(text: str, token: str, masked: str) -> None:
    assert without_token(text, Secret(token)) == masked


@given(st.text(), st.text(alphabet=st.characters(codec="ascii"), min_size=16), st.text())
def test_no_token_of_a_real_length_survives(before: str, token: str, after: str) -> None:
    assert token not in without_token(f"{before}{token}{after}", Secret(token))


@given(st.text().filter(lambda text: "@" not in text and "%40" not in text))
def test_other_text_stays_as_it_is(text: str) -> None:
    assert without_addresses(text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("App/1 1234567.pt.aB3-_dE5fG7hI9", "App/1 …"),
        ("token=12.at.aB3dE5fG7hI9kL1", "token=…"),
        ("Java/1.6.0_20", "Java/1.6.0_20"),
        ("App/1.0.1 (10.0.0.1; see www.example.com)", "App/1.0.1 (10.0.0.1; see www.example.com)"),
        ("4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f3577b34da6a3ce929d0e0e4736"),
    ],
)
def test_what_looks_like_a_token_of_v2_is_masked(text: str, masked: str) -> None:
    assert without_tokens(text) == masked
