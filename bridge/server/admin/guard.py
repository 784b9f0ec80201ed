"""Who may see what is guarded on the admin side, and whose forms it acts upon.

How an answer looks is not known here, nor where the token is kept.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import quote

import structlog
from aiohttp import web
from cachetools import TTLCache

from bridge.identity.hosts import Network
from bridge.secret import Secret
from bridge.server.admin.pages import render
from bridge.server.admin.requests import AdminRequest, Protection, Refused, Route, own_path
from bridge.settings import Settings

_log = structlog.get_logger("bridge.admin")

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Those that change nothing (RFC 9110, section 9.2.1)."""

SESSION_TIME = 12 * 3600.0
"""Seconds from a log-in to the next."""

SESSIONS = 64
"""The most at once: one more ends the oldest."""

ATTEMPTS = 10
"""Wrong tokens from one network after which no further one from there is looked at."""

PAUSE = 300
"""Seconds that this lasts."""

_NETWORKS = 4096
"""The most of which wrong tokens are counted; the flood of one more forgets the oldest."""

_SESSION, _FORM = "harvest-bridge-session", "harvest-bridge-form"
_ON_THIS_HOST_ONLY = "__Host-"
"""What makes browsers refuse a cookie from anybody but this host, by TLS (RFC 6265bis, 4.1.3.2)."""


class _Session(NamedTuple):
    ends: float
    token: bytes
    """The digest of the token that it was begun with: with another token it is over."""


class Guard:
    """Decides by the token, the session that a log-in has begun, or by the loopback.

    Without a token, what is guarded is there on the loopback only, where everybody is the operator.
    With one, it is asked for there, too. A token does not travel in the clear: off the loopback it
    takes TLS, or one of the trusted proxies, for what it does with it is the operator's choice.
    """

    def __init__(
        self,
        *,
        token: Callable[[], Secret | None] = lambda: None,
        is_loopback: bool = True,
        proxies: Sequence[Network] = (),
        tell_refused: Callable[[str, str], None] = lambda _network, _reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask `token` for the one in force; `tell_refused` gets the network and a code."""
        self._token = token
        self._is_loopback = is_loopback
        self.proxies: Sequence[Network] = proxies
        self._tell_refused = tell_refused
        self._clock = clock
        self._sessions: dict[bytes, _Session] = {}
        """By the digest of their ids, the oldest first."""
        self._wrong: TTLCache[str, int] = TTLCache(_NETWORKS, PAUSE, timer=clock)
        """How many wrong tokens came from each network."""
        self._key = secrets.token_bytes(32)

    def go_by(self, settings: Settings) -> None:
        """Trust other proxies from now on."""
        self.proxies = settings.trusted_proxies

    @property
    def wants_token(self) -> bool:
        """Whether a token is set."""
        return self._token() is not None

    @property
    def routes(self) -> Sequence[Route]:
        """The pages by which somebody in front of a browser logs in, and out."""
        return (
            Route("GET", "/login", self._show_login, Protection.LOGIN),
            Route("POST", "/login", self._log_in, Protection.LOGIN),
            Route("POST", "/logout", self._log_out),
        )

    # Who may see what.

    def recognize(self, request: AdminRequest) -> None:
        """Find the session that a request belongs to, or what its forms are bound to."""
        request.sign = self._sign
        if (held := self._cookie(request, _SESSION)) and self._is_open(held):
            request.session = held
        else:
            request.form_secret = self._cookie(request, _FORM)

    def let_in(self, request: AdminRequest) -> None:
        """Return if a request may see what is guarded.

        Raises:
            Refused: it may not; a browser is sent to where somebody can log in.
        """
        if self._token() is None:
            if not self._is_loopback:
                raise Refused(403, "off the loopback this takes a token: set admin_bearer_token")
            if "X-Forwarded-For" in request.headers or "Forwarded" in request.headers:
                raise Refused(403, "behind a proxy this takes a token: set admin_bearer_token")
            return
        self._refuse_the_clear(request)
        if request.session is not None:
            return
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer":
            self._check(request, given.strip())
            request.is_machine = True
            return
        headers = {"WWW-Authenticate": 'Bearer realm="harvest-bridge"'}
        if request.wants_html and request.method in SAFE_METHODS:
            wanted = request.rel_url.raw_path_qs
            raise Refused(303, "log in first", {"Location": _login_path(wanted)})
        raise Refused(401, "this takes the token as a Bearer, or a log-in at /login", headers)

    def _refuse_the_clear(self, request: AdminRequest) -> None:
        if self._is_loopback or request.secure or request.is_from_proxy:
            return
        raise Refused(
            403,
            "off the loopback this takes TLS: set tls_certificate and tls_key, or name in "
            "trusted_proxies from where it may be asked in the clear",
        )

    def _check(self, request: AdminRequest, given: str) -> None:
        """Return if what is given is the token, in a time that does not tell where it differs.

        Raises:
            Refused: it is not, or there were too many of those.
        """
        network, token = request.network, self._token()
        if self._wrong.get(network, 0) >= ATTEMPTS:
            self._tell_refused(network, "paused")
            raise Refused(
                429, "too many wrong tokens: try again later", {"Retry-After": str(PAUSE)}
            )
        if token is None or not hmac.compare_digest(Secret(given).digest(), token.digest()):
            self._wrong[network] = self._wrong.get(network, 0) + 1
            self._tell_refused(network, "wrong-token")
            raise Refused(
                401,
                "this is not the token",
                {"WWW-Authenticate": 'Bearer realm="harvest-bridge", error="invalid_token"'},
            )

    # Sessions.

    def _is_open(self, session: str) -> bool:
        held, token = self._sessions.get(_digest(session)), self._token()
        return (
            held is not None
            and token is not None
            and held.token == token.digest()
            and held.ends > self._clock()
        )

    async def _show_login(self, request: AdminRequest) -> web.Response:
        self._refuse_the_clear(request)  # before somebody types a token into the form
        return self._login_page(request, request.query.get("next", "/"), None)

    def _login_page(
        self, request: AdminRequest, wanted: str, refusal: Refused | None
    ) -> web.Response:
        if not self.wants_token or request.session is not None:
            raise Refused(303, "you are in", {"Location": own_path(wanted, "/")})
        page = render(
            "login.html", request, wanted=own_path(wanted, "/"), complaint=refusal and str(refusal)
        )
        response = web.Response(text=page, content_type="text/html")
        if refusal is not None:
            response.set_status(refusal.status)
            response.headers.update(refusal.headers)
        return response

    async def _log_in(self, request: AdminRequest) -> web.Response:
        form = await request.form()
        wanted = form.get("next", "/")
        if (token := self._token()) is None:
            return self._login_page(request, wanted, None)
        self._refuse_the_clear(request)
        try:
            self._check(request, form.get("token", "").strip())
        except Refused as refusal:
            if not request.wants_html:
                raise
            return self._login_page(request, wanted, refusal)
        # Never one that came with the request: somebody else may know that.
        session = secrets.token_urlsafe(32)
        self._end_old_sessions()
        self._sessions[_digest(session)] = _Session(self._clock() + SESSION_TIME, token.digest())
        _log.info("admin_logged_in", network=request.network)
        response = web.Response(status=303, headers={"Location": own_path(wanted, "/")})
        self._set(request, response, _SESSION, session)
        return response

    def _end_old_sessions(self) -> None:
        now = self._clock()
        for key in [key for key, each in self._sessions.items() if each.ends <= now]:
            del self._sessions[key]
        while len(self._sessions) >= SESSIONS:
            del self._sessions[next(iter(self._sessions))]

    async def _log_out(self, request: AdminRequest) -> web.Response:
        if request.session is not None:
            self._sessions.pop(_digest(request.session), None)
        response = web.Response(status=303, headers={"Location": "/login"})
        response.del_cookie(_name(request, _SESSION), path="/", secure=_is_secure(request))
        return response

    # Forms.

    async def refuse_forgeries(self, request: AdminRequest) -> None:
        """Return if a request that changes something was meant by whoever may see this side.

        A browser says from which site a request comes; where it does not, or where another service
        of this machine is the site, only who has seen the form knows its token. A Bearer is proof
        enough: no browser adds it by itself.

        Raises:
            Refused: it may be another site's.
        """
        if site := request.headers.get("Sec-Fetch-Site"):
            is_foreign = site != "same-origin"
        else:
            ours = f"{request.asked_scheme}://{request.asked_host}"
            is_foreign = request.headers.get("Origin", ours).lower() != ours.lower()
        if is_foreign:
            raise Refused(403, "this comes from another site")
        if request.is_machine:
            return
        form = await request.form()
        bound_to = request.session or request.form_secret
        expected = "" if bound_to is None else self._sign(bound_to)
        given = form.get("csrf_token", "")
        if not expected or not hmac.compare_digest(given.encode(), expected.encode()):
            raise Refused(403, "the form is too old, or not ours: load it again")

    def _sign(self, bound_to: str) -> str:
        return hmac.new(self._key, bound_to.encode(), hashlib.sha256).hexdigest()

    def set_cookies(self, request: AdminRequest, response: web.Response) -> None:
        """Have the browser keep what the forms in an answer are bound to."""
        bound_to = request.form_secret
        if bound_to is not None and bound_to != self._cookie(request, _FORM):
            self._set(request, response, _FORM, bound_to)

    # Cookies.

    def _set(self, request: AdminRequest, response: web.Response, name: str, value: str) -> None:
        secure = _is_secure(request)
        response.set_cookie(
            _name(request, name), value, path="/", httponly=True, secure=secure, samesite="Strict"
        )

    def _cookie(self, request: AdminRequest, name: str) -> str | None:
        value = request.cookies.get(_name(request, name))
        return value if value and _ID.fullmatch(value) else None


_ID = re.compile("[A-Za-z0-9_-]{43}")
"""What `secrets.token_urlsafe(32)` makes."""


def _is_secure(request: AdminRequest) -> bool:
    return request.asked_scheme == "https"


def _name(request: AdminRequest, name: str) -> str:
    return _ON_THIS_HOST_ONLY + name if _is_secure(request) else name


def _digest(session: str) -> bytes:
    return hashlib.sha256(session.encode()).digest()


def _login_path(wanted: str) -> str:
    return f"/login?next={quote(own_path(wanted, '/'), safe='/')}"
