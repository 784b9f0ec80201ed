"""Whom a credential names, in each way of calling (schemas/README.md, "Who is calling")."""

import asyncio
import sys
import traceback
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.identity.book import Book, load
from bridge.identity.callers import (
    Caller,
    Identification,
    Refusal,
    Way,
    _why_not_the_books,
)
from bridge.identity.credentials import Basic, Bearer, Credential
from bridge.identity.passwords import PasswordChecker
from bridge.secret import Secret
from bridge.v1.errors import NotIdentified
from tests.support.books import enter, write_token

ACCOUNT = 1000
TOKEN = "1234567.pt.AbC-d_e~f+g/h="

TOKEN_WAYS = (Way.TOKEN_AS_PASSWORD, Way.BEARER)
"""Those that need no book."""
ALL_WAYS = frozenset(TOKEN_WAYS)
COMBINATIONS = [frozenset(ways) for count in range(3) for ways in combinations(TOKEN_WAYS, count)]


def identify(offered: Iterable[Credential], ways: frozenset[Way], account_id: int) -> Caller:
    """Identify with an empty book, for a host without a subdomain."""
    identification = Identification(ways, account_id, lambda: Book(()), PasswordChecker())
    return asyncio.run(identification.identify(offered, None, "192.0.2.1"))


def basic(token: str = TOKEN) -> Basic:
    return Basic("jane@doe.org", Secret(token))


def bearer(token: str = TOKEN) -> Bearer:
    return Bearer(Secret(token))


OFFERS: dict[Way, Callable[[str], Credential]] = {
    Way.TOKEN_AS_PASSWORD: basic,
    Way.BEARER: bearer,
}
"""For each way, the credential that goes it."""

BY_WAY = [pytest.param(way, id=way) for way in TOKEN_WAYS]


def test_every_way_is_tried_here() -> None:
    assert set(OFFERS) == set(Way) - {Way.BOOK}


class TestWays:
    @pytest.mark.parametrize("way", BY_WAY)
    def test_an_enabled_way_identifies(self, way: Way) -> None:
        caller = identify([OFFERS[way](TOKEN)], frozenset({way}), ACCOUNT)

        assert (caller.account_id, caller.token.reveal(), caller.way) == (ACCOUNT, TOKEN, way)

    @pytest.mark.parametrize("way", BY_WAY)
    @pytest.mark.parametrize(
        "ways", [pytest.param(ways, id="+".join(sorted(ways)) or "none") for ways in COMBINATIONS]
    )
    def test_a_way_works_if_and_only_if_it_is_enabled(self, way: Way, ways: frozenset[Way]) -> None:
        try:
            identified = identify([OFFERS[way](TOKEN)], ways, ACCOUNT).way is way
        except NotIdentified:
            identified = False

        assert identified == (way in ways)

    @pytest.mark.parametrize("login", ["", "jane@doe.org", "any thing", "ü"])
    def test_any_login_goes_with_a_token_as_password(self, login: str) -> None:
        caller = identify([Basic(login, Secret(TOKEN))], ALL_WAYS, ACCOUNT)

        assert caller.token.reveal() == TOKEN


class TestChoice:
    def test_no_credential_names_nobody(self) -> None:
        with pytest.raises(NotIdentified):
            identify([], ALL_WAYS, ACCOUNT)

    def test_the_first_one_wins(self) -> None:
        caller = identify([basic("first"), bearer("second")], ALL_WAYS, ACCOUNT)

        assert (caller.way, caller.token.reveal()) == (Way.TOKEN_AS_PASSWORD, "first")

    def test_one_of_a_disabled_way_is_passed_over(self) -> None:
        caller = identify([basic("first"), bearer("second")], frozenset({Way.BEARER}), ACCOUNT)

        assert (caller.way, caller.token.reveal()) == (Way.BEARER, "second")

    def test_one_that_is_no_token_is_passed_over(self) -> None:
        caller = identify([basic("no token"), bearer("second")], ALL_WAYS, ACCOUNT)

        assert (caller.way, caller.token.reveal()) == (Way.BEARER, "second")

    def test_nothing_more_is_read_than_is_needed(self) -> None:
        offered = iter([bearer("first"), bearer("second")])
        identify(offered, ALL_WAYS, ACCOUNT)

        assert [each.token.reveal() for each in offered] == ["second"]


@pytest.mark.parametrize("way", BY_WAY)
class TestTokens:
    """Whatever a token holds goes into a header of the v2 call."""

    @pytest.mark.parametrize(
        "token",
        [
            pytest.param("a", id="shortest"),
            pytest.param("a" * 4096, id="longest"),
            pytest.param("".join(map(chr, range(0x21, 0x7F))), id="every-printable"),
        ],
    )
    def test_printable_ascii_is_a_token(self, way: Way, token: str) -> None:
        caller = identify([OFFERS[way](token)], ALL_WAYS, ACCOUNT)

        assert caller.token.reveal() == token

    @pytest.mark.parametrize(
        "token",
        [
            pytest.param("", id="empty"),
            pytest.param("a" * 4097, id="too-long"),
            pytest.param("a\r\nX-Evil: 1", id="cr-lf"),
            pytest.param("a\r", id="cr-at-the-end"),
            pytest.param("a\n", id="lf-at-the-end"),
            pytest.param("\na", id="lf-at-the-start"),
            pytest.param("a\0", id="nul"),
            pytest.param("a\x1bb", id="escape"),
            pytest.param("a\x7f", id="delete"),
            pytest.param("a\tb", id="tab"),
            pytest.param("a b", id="blank"),
            pytest.param("a\x85b", id="c1"),
            pytest.param("tökén", id="latin-1"),
            pytest.param("a\u2028b", id="line-separator"),
            pytest.param("a😀", id="astral"),
            pytest.param("a\udcff", id="lone-surrogate"),
        ],
    )
    def test_anything_else_is_refused(self, way: Way, token: str) -> None:
        with pytest.raises(NotIdentified):
            identify([OFFERS[way](token)], ALL_WAYS, ACCOUNT)

    @given(
        token=st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E))
        | st.text(alphabet=st.characters())
    )
    def test_what_passes_fits_into_a_header(self, way: Way, token: str) -> None:
        fits = token != "" and all("!" <= character <= "~" for character in token)
        try:
            passed = identify([OFFERS[way](token)], ALL_WAYS, ACCOUNT).token.reveal() == token
        except NotIdentified:
            passed = False

        assert passed == fits


LOGIN = Basic("jane@doe.org", Secret("s3cret word"))
STRANGER = Basic("bob@doe.org", Secret("s3cret word"))
BOTH = frozenset({Way.BOOK, Way.TOKEN_AS_PASSWORD})
NO_ACCOUNT = "and the setting account_id is not set"


@pytest.mark.parametrize(
    ("offered", "ways", "subdomain", "account_id", "reason"),
    [
        ([], ALL_WAYS, "acme", 1, "no credential came with the call"),
        ([LOGIN], {Way.BOOK}, None, None, "no subdomain: the host name is below none of the domains, and subdomain is not set"),
        ([LOGIN], {Way.BOOK}, "globex", None, "the book has no subdomain globex"),
        ([STRANGER], {Way.BOOK}, "acme", None, "no such login at subdomain acme"),
        ([LOGIN], {Way.BOOK}, "acme", None, "wrong password at subdomain acme"),
        ([LOGIN], BOTH, "acme", 1, "wrong password at subdomain acme"),
        ([LOGIN], BOTH, "jane@doe.org", None, "the book has no subdomain …"),
        ([LOGIN], {Way.BOOK}, "a" * 300, None, "the book has no subdomain …"),
        ([STRANGER], BOTH, "acme", 1, "no token, by its characters"),
        ([bearer("s3cret")], {Way.BOOK}, "acme", 1, "auth has no bearer"),
        ([LOGIN, bearer("s3 cret")], {Way.BEARER}, "acme", 1, "auth has no token-as-password; no token, by its characters"),
        ([bearer("s3cret")], ALL_WAYS, "globex", None, f"no account for subdomain globex, {NO_ACCOUNT}"),
        ([bearer("s3cret")], ALL_WAYS, None, None, f"no account for a host name without a subdomain, {NO_ACCOUNT}"),
    ],
)  # fmt: skip
async def test_the_reason_of_a_refusal_says_what_was_looked_for_and_quotes_no_credential(
    offered: list[Credential],
    ways: set[Way],
    subdomain: str | None,
    account_id: int | None,
    reason: str,
    tmp_path: Path,
) -> None:
    token = write_token(tmp_path, "token", TOKEN)
    enter(tmp_path / "book.toml", "acme", "jane@doe.org", "right word", 1, token)
    book = load(tmp_path / "book.toml", {})
    passwords = PasswordChecker()
    identification = Identification(frozenset(ways), account_id, lambda: book, passwords)

    with pytest.raises(NotIdentified) as raised:
        await identification.identify(offered, subdomain, "192.0.2.1")
    await passwords.close()

    assert raised.value.reason == reason


def test_what_a_refusal_says_takes_the_same_work_whatever_it_is(tmp_path: Path) -> None:
    """The time of an answer must not tell what only the log may know."""
    token = write_token(tmp_path, "token", TOKEN)
    for subdomain, login in (("acme", "jane@doe.org"), ("beta", "bob@doe.org")):
        enter(tmp_path / "book.toml", subdomain, login, "right word", 1, token)
    book = load(tmp_path / "book.toml", {})
    work: dict[str, list[str]] = {}

    for subdomain in ("acme", "nope"):
        for login in ("jane@doe.org", "bob@doe.org", "joe@doe.org"):
            called: list[str] = []

            def count(frame: Any, event: str, what: Any, called: list[str] = called) -> None:
                called.append(str(what.__name__ if event == "c_call" else frame.f_code.co_name))

            sys.setprofile(count)
            try:
                code, _ = _why_not_the_books(book, subdomain, login)
            finally:
                sys.setprofile(None)
            work[code] = called

    assert set(work) == {
        Refusal.WRONG_PASSWORD,
        Refusal.WRONG_SUBDOMAIN,
        Refusal.UNKNOWN_LOGIN,
        Refusal.UNKNOWN_SUBDOMAIN,
    }
    assert len(set(map(tuple, work.values()))) == 1


class TestSecrecy:
    def test_a_caller_does_not_show_the_token(self) -> None:
        caller = Caller(ACCOUNT, Secret(TOKEN), Way.BEARER, "key")

        shown = f"{caller} {caller!r} {caller!s:>99} {[caller]} {ValueError(caller)!r}"

        assert str(ACCOUNT) in shown
        assert TOKEN not in shown

    @pytest.mark.parametrize("way", BY_WAY)
    @pytest.mark.parametrize(
        ("token", "ways"),
        [
            pytest.param("s3cret token", ALL_WAYS, id="no-token"),
            pytest.param("s3cret-token", frozenset[Way](), id="no-way"),
        ],
    )
    def test_a_refusal_does_not_show_it(self, way: Way, token: str, ways: frozenset[Way]) -> None:
        with pytest.raises(NotIdentified) as raised:
            identify([OFFERS[way](token)], ways, ACCOUNT)

        assert "s3cret" not in "".join(traceback.format_exception(raised.value))
