"""Walking a v2 list page by page. What the items are is not known here."""

import re
from functools import cache
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlencode, urljoin, urlsplit

import msgspec

from bridge.v2.decoding import decode
from bridge.v2.errors import UpstreamFault
from bridge.v2.wire import V2Request, V2Response, require_status

PER_PAGE = 2000
"""The most that v2 hands out at once (the vendor's documentation, "Pagination")."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_PLAIN = re.compile(r"[!-~]*")


class _Links(msgspec.Struct):
    next: str | None


@cache
def _envelope(collection: str) -> Any:  # noqa: ANN401 - a class made at run time
    return msgspec.defstruct(
        "Envelope",
        [("items", list[msgspec.Raw]), ("links", _Links)],
        rename={"items": collection},
    )


class Pager:
    """One walk over a list: says which page to ask for next, and reads what came.

    Items stay undecoded (`msgspec.Raw`), so that a long list costs its own size in memory and a
    page of 2,000 items one or two milliseconds to read.
    """

    def __init__(
        self, path: str, collection: str, parameters: dict[str, str], page_limit: int
    ) -> None:
        """Start a walk over `path`, whose pages hold their items under the key `collection`."""
        self._path = path
        self._collection = collection
        self._query: str | None = urlencode({"per_page": str(PER_PAGE), **parameters})
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
        cursor = _cursor(self._query)
        if cursor in self._seen:
            raise UpstreamFault("v2's links.next repeats a cursor")
        self._seen.add(cursor)
        return V2Request("GET", self._path, self._query)

    def read(self, response: V2Response) -> list[msgspec.Raw]:
        """Return the items of a page, each still JSON, and remember where the next page is.

        Raises:
            UpstreamRefusal: v2 did not answer 200.
            UpstreamFault: what it answered is no page, or its next page is somewhere else.
        """
        require_status(response, 200)
        envelope = decode(response.body, _envelope(self._collection))
        link: str | None = envelope.links.next
        self._query = None if link is None else _query_of(link, response.url)
        items: list[msgspec.Raw] = envelope.items
        return items


def _cursor(query: str) -> str:
    # ISO-8859-1 keeps apart what differs in any byte.
    return parse_qs(query, encoding="iso-8859-1").get("cursor", [query])[0]


def _query_of(link: str, asked: str) -> str:
    """Return the query of `links.next`, after making sure that it points where we just were."""
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
    return theirs.query


def _place(url: SplitResult) -> tuple[str | None, int | None, str]:
    """Return what must not change from page to page.

    The scheme may: a server behind a TLS front end often builds `http:` links. And the vendor's
    own documentation prints links both with and without `/api` before `/v2`.
    """
    port = url.port
    if port == _DEFAULT_PORTS.get(url.scheme):
        port = None
    return url.hostname, port, url.path.removeprefix("/api")
