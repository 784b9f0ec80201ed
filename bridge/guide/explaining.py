"""What the bridge would make of one legacy call, without a server and without v2.

The call's real flow is run; v2's answers are made up, so that it goes on to its end. What they are
translated to is made up as well, and not told.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import parse_qsl

import msgspec

from bridge.guide.counterparts import Counterpart, counterpart_of
from bridge.guide.notes import meaning_of
from bridge.resources import RESOURCES
from bridge.resources.failures import answer_to
from bridge.resources.flow import Begin, CountCalls, Pause, Settle, Step
from bridge.resources.routes import Match, Router, path_for_a_log
from bridge.v1.dialects import Dialect
from bridge.v1.errors import LegacyCallError, NotAcceptable, NotTranslated
from bridge.v1.notes import NoteCount, Notes
from bridge.v1.wire import V1Request, V1Response
from bridge.v2.rate_limit import Rate
from bridge.v2.wire import V2Request, V2Response
from bridge.v2.writes import Intent, Outcome

ROUTER = Router(RESOURCES)


class AskedOfV2(msgspec.Struct, frozen=True):
    """A v2 call that would be made."""

    method: str
    path: str
    query: str
    """Percent-encoded."""
    body: object
    """JSON; None: there is none."""


class Noted(msgspec.Struct, frozen=True):
    """Something of the request that would be dropped, repaired or ignored."""

    code: str
    subject: str
    count: int
    meaning: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of a legacy call."""

    method: str
    path: str
    route: str | None = None
    """Of the path; None: it is none that the bridge knows."""
    name: str | None = None
    """What the call does."""
    dialect: Dialect | None = None
    status: int
    """Of the answer, if v2 does what it is asked."""
    headers: Mapping[str, str]
    """Of a refusal, what says more of it."""
    error: str | None = None
    """What the client would be told, where it would be refused."""
    v2: Sequence[AskedOfV2] = ()
    """In the order in which they would be made; a list goes on for as many pages as there are."""
    notes: Sequence[Noted] = ()
    counterpart: Counterpart | None = None
    """What to call instead, where the bridge does not translate the call."""


Told = Sequence[NoteCount]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A legacy call to be explained."""

    method: str
    target: str
    """The path as a client spells it, with its query; or a whole URL."""
    body: bytes = b""
    content_type: str | None = None
    dialect: Dialect | None = None
    """None: as the path says."""


def explain(request: Request) -> Explanation:
    """Return what would become of a call whose credentials are good."""
    method = request.method.upper()
    path, text = _split(request.target)
    notes = Notes()
    asked: list[AskedOfV2] = []
    match: Match | None = None
    error: LegacyCallError | None = None
    counterpart: Counterpart | None = None
    try:
        match = _in_format(ROUTER.match(method, path, notes))
        dialect = request.dialect or match.call.dialect
        query = dict(parse_qsl(text, keep_blank_values=True))
        query.pop("access_token", None)
        legacy = V1Request(
            path=match.call.path.format_map(match.ids),
            ids=match.ids,
            dialect=dialect,
            base_uri="https://acme.harvestapp.com",
            query=match.call.read_query(query, notes),
            body=request.body,
            content_type=request.content_type,
            notes=notes,
        )
        answer, told = _run(match, legacy, asked)
    except LegacyCallError as failure:
        error, answer, told = failure, answer_to(failure), tuple(notes)
        if isinstance(failure, NotTranslated):
            counterpart = counterpart_of(method, path_for_a_log(path))
    return Explanation(
        method=method,
        path=path,
        route=None if match is None else match.call.path,
        name=None if match is None else match.call.name,
        dialect=None if match is None else request.dialect or match.call.dialect,
        status=answer.status,
        headers={} if error is None else answer.headers,
        error=None if error is None else str(error),
        v2=asked,
        notes=[
            Noted(note.code, note.subject, count, meaning_of(note.code)) for note, count in told
        ],
        counterpart=counterpart,
    )


_ORIGIN = re.compile("^https?://[^/?#]*", re.IGNORECASE)


def _split(target: str) -> tuple[str, str]:
    """Return path and query as the server reads them, to which `//invoice` is no host.

    A path may come without its first slash, as v1's documentation prints some.
    """
    path, _, query = _ORIGIN.sub("", target).partition("#")[0].partition("?")
    return path if path.startswith("/") else f"/{path}", query


def _in_format(match: Match) -> Match:
    if not match.wants_json:
        return match
    if match.call.json_flow is None:
        raise NotAcceptable("Only XML is spoken here: call the path without .json.")
    return match._replace(call=replace(match.call, flow=match.call.json_flow))


def _run(match: Match, legacy: V1Request, asked: list[AskedOfV2]) -> tuple[V1Response, Told]:
    """Run the flow to its end; what it asks for is added to `asked`."""
    steps = match.call.flow(legacy)
    told = tuple(legacy.notes)
    answer: object = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            return end.value, told if asked else tuple(legacy.notes)
        if isinstance(step, V2Request):
            body = None if step.body is None else msgspec.json.decode(step.body)
            asked.append(AskedOfV2(step.method, step.path, step.query, body))
            # What is noted later is about what was made up.
            told = tuple(legacy.notes)
        answer = _answer(step, match, legacy)


def _answer(step: Step, match: Match, legacy: V1Request) -> object:
    """Make up the answer to a step: all goes well."""
    match step:
        case V2Request():
            return _made_up(step, match, legacy)
        case Begin(write):
            account, now = 1, datetime.now(UTC)
            place = (account, write.resource, write.request.path, write.likeness)
            return Intent(0, *place, now, Outcome.OPEN)
        case Settle():
            return True
        case Pause():
            return False
        case CountCalls():
            return Rate(datetime.now(UTC), 1, 0.0)
        case _:
            return None


def _made_up(request: V2Request, match: Match, legacy: V1Request) -> V2Response:
    """Answer as v2 might: what is asked for is there, and has an id and nothing else."""
    item = {"id": list(legacy.ids.values())[-1] if legacy.ids else 1}
    collection = match.resource.collection
    page = {} if collection is None else {collection.key: [item], "links": {"next": None}}
    body = b"" if request.method == "DELETE" else msgspec.json.encode({**item, **page})
    return V2Response(201 if request.method == "POST" else 200, body, request.path)
