"""The routes of the dashboard: from a request to a page, or to the same as JSON.

All that asks the database or makes a page runs in a thread, few at a time: no call of a client
waits for it. What a page shows is gathered in `views`.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial
from importlib.resources import files
from threading import Lock, Thread
from time import time
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

import msgspec
import structlog
from aiohttp import web
from jinja2 import Environment
from markupsafe import Markup, escape

from bridge.guide.notes import MEANINGS
from bridge.identity.callers import Refusal
from bridge.record.log.answers import State
from bridge.record.log.brownouts import Brownout
from bridge.record.log.capture import Mode, Rule, UnusableRule, read_span
from bridge.record.log.database import LogError
from bridge.record.log.events import ALL, Outcome
from bridge.record.log.finding import Filter
from bridge.record.log.ids import with_text_ids
from bridge.record.log.reports import Log, UnknownIntegration
from bridge.record.log.times import spelled
from bridge.resources import RESOURCES
from bridge.server.admin.dashboard import charts, views, words
from bridge.server.admin.dashboard.facts import Facts
from bridge.server.admin.pages import static_routes, templates
from bridge.server.admin.requests import AdminRequest, Refused, Route, own_path
from bridge.v1.notes import NoteCode

_log = structlog.get_logger("bridge.dashboard")

AT_ONCE = 2
"""Requests that ask the database or make a page."""

MOST_WAITING = 16
"""Requests that are asking, or wait for that: one more is told to come again."""

PATIENCE = 5.0
"""Seconds until a page says that the database does not answer."""

_STATIC = "/static"
_THEME = "theme"
_THEMES = ("auto", "light", "dark")
_A_YEAR = 365 * 86400

_Result = TypeVar("_Result")


class Asked(NamedTuple):
    """What is asked of a page."""

    now: int
    """Milliseconds since 1970."""
    query: Mapping[str, str]
    variables: Mapping[str, str]
    facts: Facts
    brownouts: Sequence[Brownout] = ()
    """Those that the settings decide."""


class Page(NamedTuple):
    """A page: where it is, what it shows, and the template that shows it."""

    path: str
    template: str
    gather: Callable[[Log, Asked], msgspec.Struct | None]
    """Returns what is shown; None: there is no such thing. Raises `Refused`."""
    beside: Callable[[Any, Asked], Mapping[str, object]] = lambda _view, _asked: {}
    """What the template needs besides, but that tells nothing new."""
    shows_facts: bool = False
    """Whether it shows what the process knows of itself."""


# What is asked for, from its query.


def _days(asked: Asked) -> int:
    return _one_of(asked, "days", views.RANGES, 30)


def _one_of(asked: Asked, name: str, known: Sequence[int] | Mapping[int, int], usual: int) -> int:
    given = asked.query.get(name)
    if not given:
        return usual
    if given not in map(str, known):
        raise Refused(400, f"{name} has to be one of {', '.join(map(str, known))}.")
    return int(given)


def _state(text: str | None) -> State | None:
    if not text:
        return None
    try:
        return State(text)
    except ValueError:
        raise Refused(400, f"state has to be one of {', '.join(State)}.") from None


def _number(asked: Asked, name: str) -> int | None:
    given = asked.query.get(name)
    if not given:
        return None
    if not re.fullmatch("[0-9]{1,19}", given) or int(given) >= 1 << 63:
        raise Refused(400, f"{name} has to be a number.")
    return int(given)


def _time(asked: Asked, name: str) -> int | None:
    given = asked.query.get(name)
    if not given:
        return None
    try:
        moment = datetime.fromisoformat(given)
        # Without a zone it is UTC, as all times of the pages are.
        moment = moment.replace(tzinfo=moment.tzinfo or UTC)
        milliseconds = int(moment.timestamp() * 1000)
        datetime.fromtimestamp(milliseconds / 1000, UTC)  # a zone can lead out of the calendar
    except (ValueError, OverflowError):
        raise Refused(400, f"{name} has to be a time such as 2027-02-28T18:30.") from None
    return milliseconds


def _filter(asked: Asked) -> Filter:
    text = {
        name: asked.query.get(name) or None
        for name in ("integration", "method", "route", "refusal", "note", "request_id")
    }
    outcome = asked.query.get("outcome")
    if outcome and outcome not in [*Outcome]:
        raise Refused(400, f"outcome has to be one of {', '.join(Outcome)}.")
    return Filter(
        **text,
        status=_number(asked, "status"),
        outcome=Outcome(outcome) if outcome else None,
        since=_time(asked, "since"),
        until=_time(asked, "until"),
    )


# The pages.


def _overview(log: Log, asked: Asked) -> views.Overview:
    return views.overview(log, asked.now, _days(asked), asked.facts)


def _integrations(log: Log, asked: Asked) -> views.Integrations:
    search = asked.query.get("search", "").strip()
    return views.integrations(log, asked.now, _state(asked.query.get("state")), search)


def _integration(log: Log, asked: Asked) -> views.OneIntegration | None:
    return views.integration(log, asked.now, asked.variables["id"], _days(asked))


def _calls(log: Log, asked: Asked) -> views.Calls:
    return views.calls(log, asked.now, _filter(asked), _number(asked, "before"))


def _call(log: Log, asked: Asked) -> views.OneCall | None:
    return views.call(log, asked.now, asked.variables["id"])


def _switch_off(log: Log, asked: Asked) -> views.SwitchOff:
    return views.switch_off(log, asked.now, _one_of(asked, "quiet", views.QUIET, 30))


def _brownouts(log: Log, asked: Asked) -> views.Brownouts:
    return views.brownouts(log, asked.now, asked.brownouts)


def _beside_calls(view: views.Calls, asked: Asked) -> Mapping[str, object]:
    wanted = {name: text for name, text in asked.query.items() if text and name != "before"}
    go_on = view.page.before
    return {
        "before": asked.query.get("before"),
        "newest": f"/calls?{urlencode(wanted, errors='replace')}",
        "older": go_on and f"/calls?{urlencode({**wanted, 'before': go_on}, errors='replace')}",
        "methods": ("GET", "POST", "PUT", "DELETE", "HEAD"),
        "notes": tuple(NoteCode),
        "refusals": tuple(Refusal),
        "routes": sorted({call.path for resource in RESOURCES for call in resource.calls}),
    }


def _beside_sides(_view: views.OneCall, _asked: Asked) -> Mapping[str, object]:
    seen: set[tuple[str, int]] = set()

    def first(side: str, mark: int) -> bool:
        """Tell whether a mark comes for the first time on its side: there others can lead."""
        is_new = (side, mark) not in seen
        seen.add((side, mark))
        return is_new

    return {"first": first}


PAGES = (
    Page("/overview", "overview.html", _overview, shows_facts=True),
    Page("/integrations", "integrations.html", _integrations),
    Page("/integrations/{id}", "integration.html", _integration),
    Page("/calls", "calls.html", _calls, _beside_calls),
    Page("/calls/{id}", "call.html", _call, _beside_sides),
    Page("/brownouts", "brownouts.html", _brownouts),
    Page("/switch-off", "switch_off.html", _switch_off),
)


class Unanswered(Exception):
    """The database has no answer for now; `str()` tells an operator why."""


class Dashboard:
    """The pages, and the log that they ask; `close` it."""

    def __init__(
        self,
        database: str,
        facts: Callable[[], Awaitable[Facts]],
        *,
        brownouts: Callable[[], Sequence[Brownout]] = tuple,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time,
    ) -> None:
        """Ask the translation log in `database`, which need not be there yet.

        `brownouts` answers those that the settings decide.
        """
        self._brownouts = brownouts
        self._database = database
        self._facts = facts
        self._patience = patience
        self._clock = clock
        self._places = asyncio.Semaphore(AT_ONCE)
        self._opening = Lock()
        self._opened: Log | None = None
        self._waiting = 0

    def close(self) -> None:
        """Let go of the log; what is being asked is not waited for."""
        if self._opened is not None:
            self._opened.close()

    def routes(self) -> Sequence[Route]:
        """Return all pages, each as HTML and as JSON, what their forms do, and their files."""
        found = [
            Route("GET", "/", self._start),
            Route("POST", "/integrations/{id}", self._describe),
            Route("POST", "/captures", self._capture),
            Route("POST", "/brownouts", self._end_brownouts),
            Route("POST", "/theme", self._set_theme),
            *static_routes(_STATIC, files(__package__) / "static"),
        ]
        for page in PAGES:
            # The first that fits is taken, and an id may hold anything but a slash.
            found.append(Route("GET", f"{page.path}.json", partial(self._show_json, page)))
            found.append(Route("GET", page.path, partial(self._show, page)))
        return found

    async def _start(self, _request: AdminRequest) -> web.Response:
        return web.Response(status=303, headers={"Location": "/overview"})

    async def _show(self, page: Page, request: AdminRequest) -> web.Response:
        status = 200
        try:
            asked = await self._asked(page, request)
            text = await self._in_thread(partial(self._page, page, asked, request))
            if text is None:
                status, text = 404, _trouble(request, "Not found", "The log has no such thing.")
        except Unanswered as unanswered:
            status = 503
            text = _trouble(request, "The translation log does not answer", str(unanswered))
        return web.Response(text=text, status=status, content_type="text/html")

    async def _show_json(self, page: Page, request: AdminRequest) -> web.Response:
        asked = await self._asked(page, request)
        try:
            body = await self._in_thread(partial(self._json, page, asked))
        except Unanswered as unanswered:
            raise Refused(503, str(unanswered)) from None
        if body is None:
            raise Refused(404, "the log has no such thing")
        return web.Response(body=body, content_type="application/json")

    def _page(self, page: Page, asked: Asked, request: AdminRequest) -> str | None:
        log = self._log()
        view = page.gather(log, asked)
        if view is None:
            return None
        query = f"?{request.query_string}" if request.query_string else ""
        return _render(
            page.template,
            request,
            view=view,
            now=asked.now,
            json_path=f"{request.rel_url.raw_path}.json{query}",
            captured=views.captured(log),
            browned_out=[
                each
                for each in views.browned_out(log, asked.now, asked.brownouts)
                if each.planned.is_on
            ],
            **page.beside(view, asked),
        )

    def _json(self, page: Page, asked: Asked) -> bytes | None:
        view = page.gather(self._log(), asked)
        if view is None:
            return None
        return msgspec.json.encode(with_text_ids(msgspec.to_builtins(view)))

    async def _asked(self, page: Page, request: AdminRequest) -> Asked:
        # Texts of a URL may hold lone surrogates, which no database takes.
        query = {name: _sound(text) for name, text in request.query.items()}
        variables = {name: _sound(text) for name, text in request.variables.items()}
        facts = await self._facts() if page.shows_facts else Facts()
        now = int(self._clock() * 1000)
        return Asked(now, query, variables, facts, self._brownouts())

    # What the forms do.

    async def _describe(self, request: AdminRequest) -> web.Response:
        form = await request.form()
        id_ = _sound(request.variables["id"])
        said = {
            name: _sound(form[name])[:longest]
            for name, longest in (("name", 200), ("owner", 200), ("remark", 4000))
            if name in form
        }
        state = _state(form.get("state"))
        try:
            await self._in_thread(lambda: self._log().describe(id_, state=state, **said))
        except UnknownIntegration as unknown:
            raise Refused(404, str(unknown)) from None
        except Unanswered as unanswered:
            raise Refused(503, str(unanswered)) from None
        return web.Response(status=303, headers={"Location": request.rel_url.raw_path})

    async def _capture(self, request: AdminRequest) -> web.Response:
        form = await request.form()
        is_raw = form.get("raw") == "yes"
        if is_raw and not request.has_shown_token:
            raise Refused(403, "Raw captures take a token: set admin_bearer_token.")
        mode, now = form.get("mode", ""), int(self._clock() * 1000)
        if mode not in [*Mode]:
            raise Refused(400, f"mode has to be one of {', '.join(Mode)}.")
        integration = _sound(form.get("integration", ""))
        try:
            span = 0 if mode == Mode.OFF else read_span(form.get("span", ""))
            rule = Rule(
                integration=integration, mode=Mode(mode), raw=is_raw, since=now, until=now + span
            )
            await self._in_thread(lambda: _put(self._log(), rule))
        except UnusableRule as unusable:
            raise Refused(400, f"span {unusable}") from None
        except UnknownIntegration as unknown:
            raise Refused(404, str(unknown)) from None
        except Unanswered as unanswered:
            raise Refused(503, str(unanswered)) from None
        return web.Response(
            status=303, headers={"Location": own_path(form.get("back", ""), "/overview")}
        )

    async def _end_brownouts(self, request: AdminRequest) -> web.Response:
        form = await request.form()
        integration, now = _sound(form.get("integration", "")), int(self._clock() * 1000)
        try:
            await self._in_thread(lambda: self._log().decisions.end_brownouts(integration, now))
        except Unanswered as unanswered:
            raise Refused(503, str(unanswered)) from None
        return web.Response(
            status=303, headers={"Location": own_path(form.get("back", ""), "/brownouts")}
        )

    async def _set_theme(self, request: AdminRequest) -> web.Response:
        form = await request.form()
        theme = form.get("theme", "")
        if theme not in _THEMES:
            raise Refused(400, f"theme has to be one of {', '.join(_THEMES)}.")
        back = form.get("back", "")
        response = web.Response(status=303, headers={"Location": own_path(back, "/overview")})
        response.set_cookie(
            _THEME, theme, path="/", max_age=_A_YEAR, httponly=True, samesite="Strict"
        )
        return response

    # The threads.

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        """Return what comes of asking the log.

        Raises:
            Unanswered: the database does not answer, or has too much to answer.
        """
        if self._waiting >= MOST_WAITING:
            raise Unanswered("Too many pages wait for it. Try again in a few seconds.")
        doing = asyncio.ensure_future(self._in_its_turn(work))
        self._waiting += 1
        doing.add_done_callback(self._done)
        try:
            # What cannot be stopped goes on, and counts, until it has an end of its own.
            async with asyncio.timeout(self._patience):
                return await asyncio.shield(doing)
        except TimeoutError:
            _log.warning("log_does_not_answer", seconds=self._patience)
            raise Unanswered(f"There was no answer within {self._patience:g} seconds.") from None
        except (UnknownIntegration, UnusableRule):
            raise
        except LogError as error:
            _log.warning("log_not_asked", error=str(error))
            raise Unanswered(str(error)) from None

    def _done(self, doing: "asyncio.Future[Any]") -> None:
        self._waiting -= 1
        if not doing.cancelled():
            doing.exception()  # which has been raised where somebody still waits

    async def _in_its_turn(self, work: Callable[[], _Result]) -> _Result:
        async with self._places:
            return await _in_a_thread(work)

    def _log(self) -> Log:
        with self._opening:
            if self._opened is None:
                self._opened = Log.open(self._database)
            return self._opened


async def _in_a_thread(work: Callable[[], _Result]) -> _Result:
    """Return what comes of work that may wait for a database, for as long as that likes.

    The thread is its own, and ends with it. A pool's would be waited for when the process ends.
    """
    outcome: Future[_Result] = Future()
    outcome.set_running_or_notify_cancel()  # from here on, whoever gives up does not cancel it

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
            outcome.set_exception(error)

    doing = asyncio.wrap_future(outcome)
    Thread(target=run, name="dashboard", daemon=True).start()
    return await doing


def _put(log: Log, rule: Rule) -> None:
    if rule.integration != ALL and log.integration(rule.integration) is None:
        raise UnknownIntegration("no integration has this id")
    log.decisions.put_capture_rule(rule)


def _sound(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "")


# Templates.


def _environment() -> Environment:
    made = templates("bridge.server.admin.dashboard")
    made.filters.update(
        iso=spelled,
        ago=words.ago,
        hours_ago=words.hours_ago,
        moment=words.moment,
        milliseconds=words.milliseconds,
        size=words.size,
        breakable=_breakable,
        coded=_coded,
        count=words.count,
        counted=words.counted,
        local=lambda time_: spelled(time_).removesuffix("Z"),
    )
    made.globals.update(
        events=words.EVENTS,
        meanings=MEANINGS,
        outcomes=words.OUTCOMES,
        verdicts=words.VERDICTS,
        states=tuple(State),
        quiets=views.QUIET,
        spans=words.SPANS,
        say_captured=words.captured,
        say_browned_out=words.browned_out,
        stacked=_stacked,
        sparkline=charts.spark,
        static=lambda name: f"{_STATIC}/{name}",
    )
    return made


def _stacked(timeline: views.Timeline, kind: str) -> charts.Chart:
    say = words.OUTCOMES if kind == "o" else {}
    named = [(say.get(each.key, each.title), each.values) for each in timeline.series]
    return charts.stacked(timeline.since, timeline.step, named)


def _breakable(text: str) -> Markup:
    """Return a path that can be broken into lines at its slashes."""
    return Markup("<wbr>/").join(text.split("/"))  # which escapes each of them


def _coded(text: str) -> Markup:
    """Return a text whose words in backticks are set as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(each) if at % 2 else each for at, each in enumerate(parts))


_ENVIRONMENT = _environment()


def _render(template: str, request: AdminRequest, **values: object) -> str:
    theme = request.cookies.get(_THEME)
    values["theme"] = theme if theme in _THEMES else "auto"
    values.setdefault("captured", ())
    values.setdefault("browned_out", ())
    # A lone surrogate, from whatever a client sent, must not keep the page from being sent.
    return _sound(_ENVIRONMENT.get_template(template).render(request=request, **values))


def _trouble(request: AdminRequest, title: str, sentence: str) -> str:
    return _render("trouble.html", request, title=title, sentence=sentence, json_path=None)
