"""The credentials of a legacy call, read as they come (schemas/README.md, "Who is calling")."""

import base64
import subprocess
import sys
import traceback
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.identity.credentials import Basic, Bearer, Credential, credentials
from bridge.secret import Secret

VALUE = "s3cret-t0ken"

Plain = tuple[str, ...]


def plain(credential: Credential) -> Plain:
    """A credential as what can be compared."""
    match credential:
        case Basic(login, password):
            return "basic", login, password.reveal()
        case Bearer(token):
            return "bearer", token.reveal()


def read(authorization: str | None, **query: str) -> list[Plain]:
    return [plain(each) for each in credentials(authorization, query)]


def encoded(pair: str, encoding: str = "utf-8") -> str:
    return base64.b64encode(pair.encode(encoding)).decode()


class TestBasic:
    @pytest.mark.parametrize(
        "form",
        [
            pytest.param("Basic {}", id="as-rfc-7617"),
            pytest.param("basic {}", id="lower-case"),
            pytest.param("BASIC {}", id="upper-case"),
            pytest.param("bAsIc {}", id="mixed-case"),
            pytest.param("Basic ({})", id="parenthesised"),
            pytest.param("Basic ( {} )", id="blanks-in-parentheses"),
            pytest.param("basic ({})", id="parenthesised-lower-case"),
            pytest.param("Basic    {}", id="many-blanks"),
            pytest.param("Basic\t{}", id="tab"),
            pytest.param("  Basic {}  ", id="blanks-around"),
        ],
    )
    def test_every_form_is_read(self, form: str) -> None:
        assert read(form.format(encoded("jane@doe.org:pass"))) == [
            ("basic", "jane@doe.org", "pass")
        ]

    @pytest.mark.parametrize(
        ("pair", "padding"),
        [
            pytest.param("jane@doe.org:pass", "=", id="one"),
            pytest.param("jane@doe.org:passw", "", id="none-needed"),
            pytest.param("jane@doe.org:pas", "==", id="two"),
        ],
    )
    @pytest.mark.parametrize("form", ["Basic {}", "Basic ({})"], ids=["bare", "parenthesised"])
    def test_padding_may_be_missing(self, pair: str, padding: str, form: str) -> None:
        text = encoded(pair)
        assert text.endswith(padding)

        assert read(form.format(text.rstrip("="))) == [("basic", *pair.split(":"))]

    def test_half_of_the_padding_may_be_missing(self) -> None:
        text = encoded("jane@doe.org:pas")
        assert text.endswith("==")

        assert read(f"Basic {text[:-1]}") == [("basic", "jane@doe.org", "pas")]

    def test_utf_8_is_read_as_such(self) -> None:
        assert read(f"Basic {encoded('jäne:pässwörd€')}") == [("basic", "jäne", "pässwörd€")]

    @pytest.mark.parametrize("password", ["pässwörd", "\x80\x9f\xff"], ids=["letters", "controls"])
    def test_what_is_not_utf_8_is_iso_8859_1(self, password: str) -> None:
        assert read(f"Basic {encoded(f'jäne:{password}', 'iso-8859-1')}") == [
            ("basic", "jäne", password)
        ]

    @pytest.mark.parametrize(
        ("pair", "login", "password"),
        [
            pytest.param("a:b:c", "a", "b:c", id="first-colon-divides"),
            pytest.param(":b", "", "b", id="no-login"),
            pytest.param("a:", "a", "", id="no-password"),
            pytest.param(":", "", "", id="neither"),
            pytest.param(" a : b ", " a ", " b ", id="blanks-belong-to-it"),
        ],
    )
    def test_the_first_colon_divides(self, pair: str, login: str, password: str) -> None:
        assert read(f"Basic {encoded(pair)}") == [("basic", login, password)]

    @pytest.mark.parametrize(
        "authorization",
        [
            pytest.param(f"Basic {encoded('no colon')}", id="no-colon"),
            pytest.param("Basic !!!!", id="not-base64"),
            pytest.param("Basic jane@doe.org:pass", id="not-encoded"),
            pytest.param("Basic YTpiY", id="impossible-length"),
            pytest.param("Basic YTpi YTpi", id="blank-inside"),
            pytest.param("Basic YTpé", id="not-ascii"),
            pytest.param("Basic \udcff", id="lone-surrogate"),
            pytest.param(f"Basic ({encoded('a:b')}", id="parenthesis-not-closed"),
            pytest.param(f"Basic {encoded('a:b')})", id="parenthesis-not-opened"),
            pytest.param(f"Basic (({encoded('a:b')}))", id="two-parentheses"),
            pytest.param("Basic ()", id="empty-parentheses"),
            pytest.param("Basic", id="scheme-alone"),
            pytest.param("Basic ", id="scheme-and-blank"),
        ],
    )
    def test_what_cannot_be_read_is_no_credential(self, authorization: str) -> None:
        assert read(authorization) == []

    @given(
        login=st.text().filter(lambda text: ":" not in text),
        password=st.text(),
        form=st.sampled_from(["Basic {}", "Basic ({})", "basic ( {} )"]),
        padded=st.booleans(),
    )
    def test_any_login_and_password_come_through(
        self, login: str, password: str, form: str, padded: bool
    ) -> None:
        text = encoded(f"{login}:{password}")

        assert read(form.format(text if padded else text.rstrip("="))) == [
            ("basic", login, password)
        ]

    @given(st.text(alphabet="()ab:", min_size=1), st.text(alphabet="()ab:"))
    def test_parentheses_inside_are_part_of_it(self, login: str, password: str) -> None:
        login = login.replace(":", "")

        assert read(f"Basic ({encoded(f'{login}:{password}')})") == [("basic", login, password)]


class TestBearer:
    @pytest.mark.parametrize(
        "authorization",
        [
            pytest.param(f"Bearer {VALUE}", id="as-rfc-6750"),
            pytest.param(f"bearer {VALUE}", id="lower-case"),
            pytest.param(f"BEARER {VALUE}", id="upper-case"),
            pytest.param(f" Bearer   {VALUE} ", id="blanks"),
        ],
    )
    def test_the_header_is_read(self, authorization: str) -> None:
        assert read(authorization) == [("bearer", VALUE)]

    def test_the_query_is_read(self) -> None:
        assert read(None, access_token=VALUE) == [("bearer", VALUE)]

    @pytest.mark.parametrize("authorization", ["Bearer", "Bearer ", ""])
    def test_nothing_is_no_token(self, authorization: str) -> None:
        assert read(authorization, access_token="") == []

    def test_other_parameters_are_no_token(self) -> None:
        assert read(None, token=VALUE, Access_Token=VALUE) == []


class TestOrder:
    def test_the_header_comes_first(self) -> None:
        assert read("Bearer header", access_token="query") == [
            ("bearer", "header"),
            ("bearer", "query"),
        ]

    def test_basic_does_not_hide_the_query(self) -> None:
        assert read(f"Basic {encoded('a:b')}", access_token="query") == [
            ("basic", "a", "b"),
            ("bearer", "query"),
        ]

    @pytest.mark.parametrize(
        "authorization", [None, "", "Basic ???", f"Digest {VALUE}", f"Token token={VALUE}"]
    )
    def test_a_header_that_says_nothing_leaves_the_query(self, authorization: str | None) -> None:
        assert read(authorization, access_token="query") == [("bearer", "query")]


@given(st.text(alphabet=st.characters() | st.sampled_from("()=: \t\r\n"), max_size=80))
def test_no_header_makes_it_fail(text: str) -> None:
    for authorization in (text, f"Basic {text}", f"Basic ({text})", f"Bearer {text}"):
        assert len(read(authorization)) <= 1


@pytest.mark.parametrize(
    "header",
    [
        pytest.param('"Basic (" + " " * 8000 + "x"', id="open-parenthesis-and-blanks"),
        pytest.param('"Basic x" + " " * 8000 + "x"', id="blanks-between"),
    ],
)
def test_no_header_keeps_it_busy(header: str) -> None:
    """As long as aiohttp lets a header be; in a process of its own, which can be given up."""
    code = (
        "from bridge.identity.credentials import credentials\n"
        f"assert len(list(credentials({header}, {{}}))) <= 1"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=5)


SHOWN: list[Callable[[object], str]] = [
    repr,
    str,
    format,
    lambda value: f"{value}",
    lambda value: f"{value!r:>40}",
    lambda value: "%s %r" % (value, value),  # noqa: UP031 - as logging does it
    lambda value: f"{[value]} {{'of': {value!r}}}",
    lambda value: "".join(traceback.format_exception(ValueError(value))),
]
HOLDERS = [
    pytest.param(Secret(VALUE), id="secret"),
    pytest.param(Basic("jane@doe.org", Secret(VALUE)), id="basic"),
    pytest.param(Bearer(Secret(VALUE)), id="bearer"),
]


class TestSecrecy:
    @pytest.mark.parametrize("holder", HOLDERS)
    def test_the_value_is_not_shown(self, holder: object) -> None:
        assert [show(holder) for show in SHOWN if VALUE in show(holder)] == []

    def test_a_format_that_secrets_lack_does_not_show_it_either(self) -> None:
        with pytest.raises(TypeError) as raised:
            format(Secret(VALUE), ">40")

        assert VALUE not in str(raised.value)

    def test_whoever_asks_for_it_gets_it(self) -> None:
        assert Secret(VALUE).reveal() == VALUE
