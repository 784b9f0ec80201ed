"""Walking v2's pages, with answers fed by hand (schemas/README.md, "Paging")."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.v2.errors import UpstreamFault, UpstreamRefusal
from bridge.v2.paging import LONGEST_LINK, Pager
from bridge.v2.wire import V2Request, V2Response

BASE = "https://api.harvestapp.com/v2"
PATH = "/invoices/1420/messages"
FIRST = f"{BASE}{PATH}?per_page=2000"
NEXT = "cursor=abc&per_page=2000"


def new_pager(page_limit: int = 10, **parameters: str) -> Pager:
    return Pager(PATH, parameters, page_limit)


def read(pager: Pager, page: V2Response) -> list[msgspec.Raw]:
    return pager.read(page, "invoice_messages", msgspec.Raw)


def page(*items: Any, following: Any = None) -> dict[str, Any]:
    return {"invoice_messages": list(items), "links": {"next": following}}


def response(
    body: bytes | dict[str, Any], *, status: int = 200, url: str = FIRST, **headers: str
) -> V2Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return V2Response(status, raw, url, headers)


def asked(pager: Pager) -> V2Request:
    request = pager.next_request()
    assert request is not None
    return request


def follow(link: object, *, url: str = FIRST) -> V2Request | None:
    """Return what is asked after a first page, asked at `url`, whose `links.next` is `link`."""
    pager = new_pager()
    asked(pager)
    read(pager, response(page(following=link), url=url))
    return pager.next_request()


def walk(pager: Pager, pages: Sequence[dict[str, Any]]) -> tuple[list[str], list[Any]]:
    """Feed `pages` one by one; return the queries that were asked and the items that came."""
    queries, items = [], []
    for body in pages:
        request = asked(pager)
        queries.append(request.query)
        url = f"{BASE}{request.path}?{request.query}"
        items += [msgspec.json.decode(item) for item in read(pager, response(body, url=url))]
    return queries, items


class TestWalk:
    def test_the_first_call_asks_for_the_largest_page(self) -> None:
        assert new_pager().next_request() == V2Request("GET", PATH, "per_page=2000")

    def test_parameters_are_asked_with_it(self) -> None:
        request = asked(new_pager(updated_since="2010-09-25T18:30:00Z"))

        assert parse_qs(request.query) == {
            "per_page": ["2000"],
            "updated_since": ["2010-09-25T18:30:00Z"],
        }

    def test_a_look_says_so_and_asks_for_less(self) -> None:
        pager = Pager(PATH, {}, 10, per_page=100, settles=True)

        assert pager.next_request() == V2Request("GET", PATH, "per_page=100", settles=True)

    def test_a_page_may_be_read_by_who_asks(self) -> None:
        pager = new_pager()
        asked(pager)

        pager.follow(f"{BASE}{PATH}?{NEXT}", FIRST)

        assert asked(pager).query == NEXT

    def test_items_are_read_as_what_is_wanted_of_them(self) -> None:
        pager = new_pager()
        asked(pager)

        assert pager.read(response(page(1, 2)), "invoice_messages", int) == [1, 2]

    def test_a_link_that_no_server_takes_is_not_followed(self) -> None:
        around = len(f"{BASE}{PATH}?cursor=")
        for length in (LONGEST_LINK, LONGEST_LINK + 1):
            link = f"{BASE}{PATH}?cursor={'a' * (length - around)}"
            if length == LONGEST_LINK:
                assert follow(link) is not None
            else:
                with pytest.raises(UpstreamFault, match="more than"):
                    follow(link)

    def test_no_link_is_the_end(self) -> None:
        pager = new_pager()

        assert walk(pager, [page(1, 2)]) == (["per_page=2000"], [1, 2])
        assert pager.next_request() is None
        assert pager.next_request() is None

    def test_cursors_are_followed_to_the_end(self) -> None:
        pager = new_pager()

        queries, items = walk(
            pager,
            [
                page(1, 2, following=f"{BASE}{PATH}?cursor=b&per_page=2"),
                page(following=f"{BASE}{PATH}?cursor=c&per_page=2"),
                page(3),
            ],
        )

        assert queries == ["per_page=2000", "cursor=b&per_page=2", "cursor=c&per_page=2"]
        assert items == [1, 2, 3]
        assert pager.next_request() is None

    def test_page_numbers_are_followed_as_well(self) -> None:
        pager = new_pager()
        links = [f"{BASE}{PATH}?page={number}&per_page=2000" for number in (2, 3)]

        queries, _ = walk(pager, [page(following=link) for link in links])

        assert [*queries, asked(pager).query] == [
            "per_page=2000",
            "page=2&per_page=2000",
            "page=3&per_page=2000",
        ]

    @given(st.lists(st.text(max_size=20), unique=True, max_size=8))
    def test_any_cursors_that_differ_are_each_asked_once(self, cursors: list[str]) -> None:
        pager = new_pager()
        queries = [urlencode({"cursor": cursor, "per_page": "2000"}) for cursor in cursors]
        links = [*(f"{BASE}{PATH}?{query}" for query in queries), None]

        walked, items = walk(
            pager, [page(number, following=link) for number, link in enumerate(links)]
        )

        assert walked == ["per_page=2000", *queries]
        assert items == list(range(len(links)))
        assert pager.next_request() is None

    def test_items_stay_as_they_are(self) -> None:
        pager = new_pager()
        asked(pager)
        body = b'{"invoice_messages":[{"id": 1.50, "x":"\\u0041"},null],"links":{"next":null}}'

        assert [bytes(item) for item in read(pager, response(body))] == [
            b'{"id": 1.50, "x":"\\u0041"}',
            b"null",
        ]


class TestWhereALinkMayPoint:
    @pytest.mark.parametrize(
        "link",
        [
            pytest.param(f"{BASE}{PATH}?{NEXT}", id="as-asked"),
            pytest.param(f"https://api.harvestapp.com/api/v2{PATH}?{NEXT}", id="api-before-v2"),
            pytest.param(f"http://api.harvestapp.com/v2{PATH}?{NEXT}", id="other-scheme"),
            pytest.param(f"https://api.harvestapp.com:443/v2{PATH}?{NEXT}", id="default-port"),
            pytest.param(f"http://api.harvestapp.com:80/v2{PATH}?{NEXT}", id="its-default-port"),
            pytest.param(f"https://API.HarvestApp.com/v2{PATH}?{NEXT}", id="case-of-the-host"),
            pytest.param(f"//api.harvestapp.com/v2{PATH}?{NEXT}", id="no-scheme"),
            pytest.param(f"/v2{PATH}?{NEXT}", id="path-alone"),
            pytest.param(f"messages?{NEXT}", id="last-segment-alone"),
            pytest.param(f"?{NEXT}", id="query-alone"),
            pytest.param(f"{BASE}{PATH}?{NEXT}#fragment", id="fragment"),
        ],
    )
    def test_only_its_query_is_taken(self, link: str) -> None:
        assert follow(link) == V2Request("GET", PATH, NEXT)

    @pytest.mark.parametrize(
        ("url", "link"),
        [
            pytest.param(
                f"https://api.harvestapp.com/api/v2{PATH}", f"{BASE}{PATH}?{NEXT}", id="api-missing"
            ),
            pytest.param(
                f"http://localhost:8081/v2{PATH}",
                f"https://localhost:8081/v2{PATH}?{NEXT}",
                id="port",
            ),
            pytest.param(f"http://[::1]:81{PATH}", f"http://[::1]:81{PATH}?{NEXT}", id="ipv6"),
            pytest.param(f"http://h/deep/v2{PATH}", f"http://h/deep/v2{PATH}?{NEXT}", id="prefix"),
        ],
    )
    def test_it_is_measured_by_the_url_that_was_asked(self, url: str, link: str) -> None:
        assert follow(link, url=f"{url}?per_page=2000") == V2Request("GET", PATH, NEXT)

    @pytest.mark.parametrize(
        "query",
        [
            pytest.param("cursor=a%2Bb%2F%3D%3d&per_page=2000", id="escapes-in-either-case"),
            pytest.param("cursor=a+b/c==", id="unescaped"),
            pytest.param("cursor=%0D%0A", id="escaped-newline"),
            pytest.param("x", id="no-value"),
            pytest.param("cursor=a&cursor=b&&", id="twice"),
            pytest.param("cursor=[]{}|\\^`'\"<>", id="odd-ascii"),
        ],
    )
    def test_its_query_is_taken_as_it_stands(self, query: str) -> None:
        assert follow(f"{BASE}{PATH}?{query}") == V2Request("GET", PATH, query)

    @pytest.mark.parametrize(
        "link",
        [
            pytest.param(f"https://evil.example/v2{PATH}?{NEXT}", id="host"),
            pytest.param(f"//evil.example/v2{PATH}?{NEXT}", id="host-without-scheme"),
            pytest.param(f"https://api.harvestapp.com.evil.example/v2{PATH}?{NEXT}", id="suffix"),
            pytest.param(f"https://api.harvestapp.com@evil.example/v2{PATH}?{NEXT}", id="user"),
            pytest.param(f"https://api.harvestapp.com:8443/v2{PATH}?{NEXT}", id="port"),
            pytest.param(f"https://api.harvestapp.com:80/v2{PATH}?{NEXT}", id="port-of-http"),
            pytest.param(f"{BASE}/invoices/1421/messages?{NEXT}", id="other-invoice"),
            pytest.param(f"{BASE}/invoices/1420/messages/?{NEXT}", id="slash"),
            pytest.param(f"{BASE}/users/me?{NEXT}", id="other-path"),
            pytest.param(f"https://api.harvestapp.com{PATH}?{NEXT}", id="no-v2"),
            pytest.param(f"https://api.harvestapp.com/x/api/v2{PATH}?{NEXT}", id="api-elsewhere"),
            pytest.param(f"../messages/1?{NEXT}", id="relative"),
            pytest.param("mailto:jane@doe.org?cursor=abc", id="no-http"),
        ],
    )
    def test_elsewhere_is_a_fault(self, link: str) -> None:
        with pytest.raises(UpstreamFault, match="another host or path"):
            follow(link)

    @pytest.mark.parametrize(
        "link",
        [
            pytest.param(f"https://[::1/v2{PATH}?{NEXT}", id="bracket"),
            pytest.param(f"https://api.harvestapp.com:port/v2{PATH}?{NEXT}", id="port-is-no-number"),
            pytest.param(f"https://api.harvestapp.com:99999/v2{PATH}?{NEXT}", id="port-too-large"),
        ],
    )  # fmt: skip
    def test_what_is_no_url_is_a_fault(self, link: str) -> None:
        with pytest.raises(UpstreamFault, match="not a URL"):
            follow(link)

    @pytest.mark.parametrize(
        "query",
        [
            pytest.param("cursor=a b", id="blank"),
            pytest.param("cursor=a ", id="blank-at-the-end"),
            pytest.param("cursor=a\tb", id="tab"),
            pytest.param("cursor=a\nb", id="newline"),
            pytest.param("cursor=a\r\nX-Evil: 1", id="header"),
            pytest.param("cursor=a\n", id="newline-at-the-end"),
            pytest.param("cursor=a\0", id="nul"),
            pytest.param("cursor=a\x1f", id="control"),
            pytest.param("cursor=a\x7f", id="delete"),
            pytest.param("cursor=é", id="not-ascii"),
            pytest.param("cursor=\ud800", id="lone-surrogate"),
        ],
    )
    def test_a_query_that_cannot_be_sent_as_it_stands_is_a_fault(self, query: str) -> None:
        with pytest.raises(UpstreamFault, match="no usable query"):
            follow(f"{BASE}{PATH}?{query}")

    @pytest.mark.parametrize(
        "link",
        [
            pytest.param(f"\n{BASE}{PATH}?{NEXT}", id="newline-before"),
            pytest.param(f"\0{BASE}{PATH}?{NEXT}", id="nul-before"),
            pytest.param(f" {BASE}{PATH}?{NEXT}", id="blank-before"),
            pytest.param(f"{BASE}{PATH[:9]}\t{PATH[9:]}?{NEXT}", id="tab-in-the-path"),
        ],
    )
    def test_what_a_url_parser_would_leave_out_is_a_fault(self, link: str) -> None:
        with pytest.raises(UpstreamFault, match="no usable query"):
            follow(link)

    @pytest.mark.parametrize("link", [f"{BASE}{PATH}", f"{BASE}{PATH}?", f"{BASE}{PATH}?#x"])
    def test_no_query_is_a_fault(self, link: str) -> None:
        with pytest.raises(UpstreamFault, match="no usable query"):
            follow(link)

    @given(st.text(alphabet=st.characters() | st.sampled_from("/?#@:[]\\%&= \n")))
    def test_whatever_it_says_the_call_goes_where_it_went(self, link: str) -> None:
        try:
            request = follow(link)
        except UpstreamFault:
            return

        assert request is not None
        assert (request.method, request.path, request.body) == ("GET", PATH, None)
        assert all("!" <= character <= "~" for character in request.query)

    def test_a_fault_does_not_quote_it(self) -> None:
        with pytest.raises(UpstreamFault) as raised:
            follow("https://evil.example/?access_token=s3cret")

        assert "s3cret" not in repr(raised.value)


class TestEnd:
    @pytest.mark.parametrize(
        ("first", "second"),
        [
            pytest.param("cursor=a&per_page=2000", "cursor=a&per_page=2000", id="same-query"),
            pytest.param("cursor=a&per_page=2000", "per_page=9&cursor=a", id="same-cursor"),
            pytest.param("cursor=%41", "cursor=A", id="same-cursor-spelled-otherwise"),
            pytest.param("page=2", "page=2", id="same-page"),
            pytest.param("cursor=a", "per_page=2000", id="first-page-again"),
        ],
    )
    def test_a_page_that_comes_again_is_a_fault(self, first: str, second: str) -> None:
        pager = new_pager()
        walk(pager, [page(following=f"?{first}"), page(following=f"?{second}")])

        with pytest.raises(UpstreamFault, match="repeats a cursor"):
            pager.next_request()

    def test_a_link_to_itself_is_a_fault(self) -> None:
        with pytest.raises(UpstreamFault, match="repeats a cursor"):
            follow(FIRST)

    def test_a_cycle_is_a_fault(self) -> None:
        pager = new_pager()
        walk(pager, [page(following=f"?cursor={cursor}") for cursor in "abca"])

        with pytest.raises(UpstreamFault, match="repeats a cursor"):
            pager.next_request()

    @pytest.mark.parametrize("limit", [1, 2, 5])
    def test_as_many_pages_as_the_limit_are_read(self, limit: int) -> None:
        pager = new_pager(page_limit=limit)
        links = [*(f"?cursor={number}" for number in range(1, limit)), None]

        walk(pager, [page(following=link) for link in links])

        assert pager.next_request() is None

    @pytest.mark.parametrize("limit", [1, 2, 5])
    def test_one_page_more_is_a_fault(self, limit: int) -> None:
        pager = new_pager(page_limit=limit)
        walk(pager, [page(following=f"?cursor={number}") for number in range(limit)])

        with pytest.raises(UpstreamFault, match=f"more than {limit} pages"):
            pager.next_request()


class TestWhatIsNoPage:
    @pytest.mark.parametrize(
        "body",
        [
            pytest.param({"links": {"next": None}}, id="no-items"),
            pytest.param({"messages": [], "links": {"next": None}}, id="items-named-otherwise"),
            pytest.param({"invoice_messages": None, "links": {"next": None}}, id="null-items"),
            pytest.param({"invoice_messages": {}, "links": {"next": None}}, id="items-no-array"),
            pytest.param({"invoice_messages": []}, id="no-links"),
            pytest.param({"invoice_messages": [], "links": None}, id="null-links"),
            pytest.param({"invoice_messages": [], "links": []}, id="links-no-object"),
            pytest.param({"invoice_messages": [], "links": {}}, id="no-next"),
            pytest.param({"invoice_messages": [], "links": {"next": 2}}, id="next-no-text"),
            pytest.param(b"[]", id="array"),
            pytest.param(b"null", id="null"),
            pytest.param(b"", id="nothing"),
            pytest.param(b"<html></html>", id="html"),
            pytest.param(b'{"invoice_messages": [', id="cut-off"),
        ],
    )
    def test_it_is_a_fault(self, body: bytes | dict[str, Any]) -> None:
        pager = new_pager()
        asked(pager)

        with pytest.raises(UpstreamFault):
            read(pager, response(body))

    @pytest.mark.parametrize("status", [201, 204, 302, 400, 401, 403, 404, 429, 500, 503])
    def test_any_status_but_200_is_a_refusal(self, status: int) -> None:
        pager = new_pager()
        asked(pager)

        with pytest.raises(UpstreamRefusal) as raised:
            read(
                pager, response({**page(), "message": "No."}, status=status, **{"Retry-After": "7"})
            )

        refusal = raised.value
        assert (refusal.status, refusal.message, refusal.retry_after) == (status, "No.", 7.0)
