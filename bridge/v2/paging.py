"""Walking a v2 list page by page. What the items are is not known here."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar
from urllib.parse import SplitResult, parse_qs, urlencode, urljoin, urlsplit

import msgspec

from bridge.v2.decoding import decode
from bridge.v2.errors import UpstreamFault
from bridge.v2.wire import V2Request, V2Response, require_status

PER_PAGE = 2000
"""The most that v2 hands out at once (the vendor's documentation, "Pagination")."""

LONGEST_LINK = 8190
"""Characters: each is remembered. Servers need take no more than 8,000 (RFC 9112, section 3)."""

T = TypeVar("T")

_DEFAULT_PORTS = {"http": 80, "https": 443}
_PLAIN = re.compile(r"[!-~]*")


class Links(msgspec.Struct):
    """Where the other pages are."""

    next: str | None


@cache
def page_type(collection: str, item: Any) -> Any:  # noqa: ANN401 - a class made at run time
    """Return the type of a page whose `items`, each an `item`, are under the key `collection`."""
    return msgspec.defstruct(
        "Page", [("items", list[item]), ("links", Links)], rename={"items": collection}
    )


class Pager:
    """One walk over a list: says which page to ask for next.

    What is on a page is read by who asks: as `page_type` of whatever is wanted of its items.
    """

    def __init__(
        self,
        path: str,
        parameters: Mapping[str, str],
        page_limit: int,
        *,
        per_page: int = PER_PAGE,
        settles: bool = False,
    ) -> None:
        """Start a walk over `path`; whether it `settles` something is said by each request."""
        self._path = path
        self._settles = settles
        self._query: str | None = f"per_page={per_page}"
        if parameters:
            self._query += f"&{urlencode(parameters)}"
        self._page_limit = page_limit
        self._seen: set[str] = set()

    def next_request(self) -> V2Request | None:
        """Return the call for the next page, None after the last one.

        Raises:
            UpstreamFault: this page was read before, or is one too many
                (schemas/README.md, "Paging").
        """
        if self._query is None:
            return None
        if len(self._seen) >= self._page_limit:
            raise UpstreamFault(f"v2's list has more than {self._page_limit} pages")
        cursor = self._query
        if "cursor" in cursor:
            # ISO-8859-1 keeps apart what differs in any byte.
            cursor = parse_qs(cursor, encoding="iso-8859-1").get("cursor", [cursor])[0]
        if cursor in self._seen:
            raise UpstreamFault("v2's links.next repeats a cursor")
        self._seen.add(cursor)
        return V2Request("GET", self._path, self._query, settles=self._settles)

    def follow(self, link: str | None, asked: str) -> None:
        """Remember where the next page is, by the link on the one that was asked at URL `asked`.

        Raises:
            UpstreamFault: it is somewhere else.
        """
        if link is None:
            self._query = None
            return
        if len(link) > LONGEST_LINK:
            raise UpstreamFault(f"v2's links.next has more than {LONGEST_LINK} characters")
        # Of the link as it came: urlsplit leaves out tabs and line breaks.
        if not _PLAIN.fullmatch(link):
            raise UpstreamFault("v2's links.next has no usable query")
        try:
            ours, theirs = urlsplit(asked), urlsplit(urljoin(asked, link))
            same = _place(ours) == _place(theirs)
        except ValueError:
            raise UpstreamFault("v2's links.next is not a URL") from None
        if not same:
            raise UpstreamFault("v2's links.next points to another host or path")
        if not theirs.query:
            raise UpstreamFault("v2's links.next has no usable query")
        self._query = theirs.query

    def read(self, response: V2Response, collection: str, item: type[T]) -> list[T]:
        """Return the items of a page, each as an `item`, and remember where the next page is.

        As `msgspec.Raw` they are still JSON.

        Raises:
            UpstreamRefusal: v2 did not answer 200.
            UpstreamFault: what it answered is no page, or its next page is somewhere else.
        """
        require_status(response, 200)
        type_: Any = item  # which mypy takes for nothing that a cache may be asked for
        page = decode(response.body, page_type(collection, type_))
        self.follow(page.links.next, response.url)
        items: list[T] = page.items
        return items


def _place(url: SplitResult) -> tuple[str | None, int | None, str]:
    """Return what must not change from page to page.

    The scheme may: a server behind a TLS front end often builds `http:` links. And the vendor's
    own documentation prints links both with and without `/api` before `/v2`.
    """
    port = url.port
    if port == _DEFAULT_PORTS.get(url.scheme):
        port = None
    return url.hostname, port, url.path.removeprefix("/api")
