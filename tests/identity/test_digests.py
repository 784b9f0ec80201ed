"""Keyed digests: the same for the same, and of no use without the key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.identity.digests import Digests
from bridge.secret import Secret

KEY, OTHER = bytes(32), bytes(31) + b"1"


@given(st.text())
def test_a_login_has_one_digest_in_any_case(login: str) -> None:
    digest = Digests(KEY).login(login)

    assert digest == Digests(KEY).login(f" {login} ") or len(login) > 300
    assert digest != Digests(OTHER).login(login)
    assert len(bytes.fromhex(digest)) == 8


def test_case_does_not_count() -> None:
    assert Digests(KEY).login("Jane@Doe.org") == Digests(KEY).login("jane@doe.org")


@given(st.text(), st.text())
def test_tokens_that_differ_have_digests_that_do(one: str, other: str) -> None:
    digests = Digests(KEY)

    assert (digests.token(Secret(one)) == digests.token(Secret(other))) == (one == other)


def test_a_token_is_not_told_by_the_digest_of_a_login() -> None:
    digests = Digests(KEY)

    assert digests.token(Secret("same")) != digests.login("same")


@given(st.lists(st.one_of(st.none(), st.text(), st.integers())), st.lists(st.text()))
def test_no_two_lists_of_parts_are_one_integration(one: list[object], other: list[object]) -> None:
    digests = Digests(KEY)

    assert (digests.integration(*one) == digests.integration(*other)) == (one == other)
    assert len(digests.integration(*one)) == 12


@pytest.mark.parametrize("length", [0, 15, 65])
def test_a_key_has_16_to_64_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="16 to 64"):
        Digests(bytes(length))
