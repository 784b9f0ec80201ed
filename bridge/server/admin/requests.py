"""What a page of the admin side is told of a request, and how pages are plugged in.

Who may see which page is not decided here.
"""

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import MultiDict, MultiDictProxy

from bridge.identity.hosts import Network, is_trusted, origin, scheme
from bridge.server.limits import BodyLimits, read_body
from bridge.v1.errors import BodyTooLarge, LegacyCallError, RequestTimeout

FORM_LIMITS = BodyLimits(size=64 * 1024, seconds=10.0)
"""Of a form. It has the longest note that an operator may want to write, and little time."""

FORM_FIELDS = 100
"""The most fields of a form."""

FORM_TYPE = "application/x-www-form-urlencoded"


_OWN_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")


def own_path(path: str, otherwise: str) -> str:
    """Return a path of this side, to which a form or a log-in may lead; for any other, `otherwise`.

    What begins with two slashes, or with one and a backslash, is another host's to a browser.
    """
    return path if _OWN_PATH.fullmatch(path) else otherwise


class Refused(Exception):
    """A request that is not served; `str()` is the sentence that is shown."""

    def __init__(
        self, status: int, sentence: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = headers or {}


class AdminRequest(web.BaseRequest):
    """A request of the admin side.

    `network`, `asked_host` and `asked_scheme` are the client's, behind a trusted proxy too.
    """

    def __init__(self, *received: Any, proxies: Sequence[Network] = (), **more: Any) -> None:  # noqa: ANN401 - aiohttp's own
        super().__init__(*received, **more)
        headers = self.headers
        peer = self.remote or ""
        self.is_from_proxy = is_trusted(peer, proxies)
        """Whether it comes from one of the `trusted_proxies`."""
        asked = origin(
            peer,
            headers.get("Host", ""),
            headers.getall("X-Forwarded-For", ()),
            headers.getall("X-Forwarded-Host", ()),
            proxies,
        )
        self.network = asked.network
        self.asked_host = asked.host if asked.host or "Host" in headers else None
        self.asked_scheme = scheme(
            peer, self.scheme, headers.getall("X-Forwarded-Proto", ()), proxies
        )
        self.variables: Mapping[str, str] = {}
        """What the path has in the places of its template's braces, percent-decoded."""
        self.session: str | None = None
        """The id of the session that it belongs to, if somebody has logged in."""
        self.form_secret: str | None = None
        """Without a session, what its forms are bound to, once there is one."""
        self.is_machine = False
        """Whether the token came with it, so that no browser can have sent it unasked."""
        self.sign: Callable[[str], str] = str
        """Makes a form's token of what it is bound to."""
        self._nonce: str | None = None
        self._form: MultiDictProxy[str] | None = None

    @property
    def wants_html(self) -> bool:
        """Whether a browser shows the answer to somebody."""
        return "text/html" in self.headers.get("Accept", "")

    @property
    def has_shown_token(self) -> bool:
        """Whether it takes the token to come so far, and not only to be on this machine."""
        return self.session is not None or self.is_machine

    @property
    def csrf_token(self) -> str:
        """What every form has to have as the value of its field `csrf_token`."""
        if self.session is not None:
            return self.sign(self.session)
        if self.form_secret is None:
            self.form_secret = secrets.token_urlsafe(32)
        return self.sign(self.form_secret)

    @property
    def nonce(self) -> str:
        """What a `<style>` or `<script>` in the page has to have as its `nonce`."""
        if self._nonce is None:
            self._nonce = secrets.token_urlsafe(16)
        return self._nonce

    @property
    def used_nonce(self) -> str | None:
        """The nonce, if the page has asked for it."""
        return self._nonce

    async def form(self) -> MultiDictProxy[str]:
        """Return the fields of the form that was sent.

        Raises:
            Refused: it is too long, too slow, broken off, or no form that `FORM_TYPE` describes.
        """
        if self._form is None:
            self._form = MultiDictProxy(MultiDict(await self._read_form()))
        return self._form

    async def _read_form(self) -> list[tuple[str, str]]:
        if self.content_type != FORM_TYPE:
            raise Refused(415, f"Send a form as {FORM_TYPE}.")
        try:
            body = await read_body(self, FORM_LIMITS)
        except LegacyCallError as error:
            raise Refused(_STATUSES.get(type(error), 400), str(error)) from None
        try:
            return parse_qsl(
                body.decode("ascii"), keep_blank_values=True, max_num_fields=FORM_FIELDS
            )
        except ValueError:
            raise Refused(400, f"That is no form, or has over {FORM_FIELDS} fields.") from None


_STATUSES: Mapping[type[LegacyCallError], int] = {BodyTooLarge: 413, RequestTimeout: 408}


class Protection(StrEnum):
    """What it takes to be served."""

    OPEN = "open"
    """Nothing but a `Host` that no stranger can have."""
    LOGIN = "login"
    """Nothing, as soon as there is a token."""
    GUARDED = "guarded"
    """What `bridge.server.admin.guard` says."""


Handler = Callable[[AdminRequest], Awaitable[web.Response]]
"""Returns an answer that has not been begun, or raises `Refused`. It has some seconds."""


class Route(NamedTuple):
    """A page.

    One of another method than GET is reached only by forms that show their `csrf_token`; GET must
    change nothing, and answers HEAD, too.
    """

    method: str
    path: str
    """A template such as `/calls/{id}`; what is in braces may hold anything but a slash."""
    handler: Handler
    protection: Protection = Protection.GUARDED
